//! Sessions in motion: who may come in, what they get, how long they may stay, and what is on record.
//!
//! - [`door`]: what a door says and sees. Start reading here.
//! - [`engine`]: holds and ends sessions, `opening` admits them; [`session`] and [`channel`] are what a door holds.
//! - `broker`: the task of one session, the only reader of its shim's frames; `roster` is who is where
//!   in it, `coming_back` how people find what they left.
//! - [`runner_link`]: requests to the built-in runner.
//! - [`remote`]: runners on other machines; [`agents`]: the conversations there.
//! - [`identity`]: the one place that checks a password or a key.
//! - [`tokens`]: what programs and runners come with instead.
//! - [`login`]: people signed in at the web door, until when, and what ends with that.
//! - [`repeats`]: requests that may be sent again.
//! - [`audit`]: the one writer of the audit log.
//! - [`watching`]: looking on at a terminal, and driving it, by how much was printed.
//! - [`presence`]: who is at a session.
//! - [`push`]: browsers that want to be told what waits; `words`: what sessions are found by.
//! - [`extend`]: moves a deadline later.
//! - [`records`], [`listing`], [`view`]: sessions on record, and as people ask for them.
//! - [`admit`]: whether somebody may do something to a session, asked by every door.
//! - [`rates`]: how often somebody may do what.
//! - [`metrics`]: numbers for Prometheus.
//! - [`health`]: how the gateway is.
//! - [`adopt`]: what a gateway that starts finds of the one before.

pub mod admit;
pub mod adopt;
pub mod agents;
pub mod audit;
pub mod channel;
pub mod clock;
pub mod door;
pub mod ending;
pub mod engine;
pub mod extend;
pub mod fault;
pub mod health;
pub mod honeypot;
pub mod identity;
pub mod listing;
pub mod login;
pub mod metrics;
pub mod presence;
pub mod profiles;
pub mod push;
pub mod rates;
pub mod records;
pub mod remains;
pub mod remote;
pub mod repeats;
pub mod runner_link;
pub mod secret;
pub mod session;
pub mod tokens;
pub mod view;
pub mod visiting;
pub mod watching;

mod admission;
mod broker;
mod coming_back;
mod in_effect;
mod opening;
mod roster;
mod screens;
mod seqpacket;
mod standing;
mod unheld;
mod words;

pub use engine::Engine;
