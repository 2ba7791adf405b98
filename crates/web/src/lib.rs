//! The web door: HTTP and WebSockets, on a network and on the gateway's own machine.
//!
//! [`serve`] answers on TCP, [`serve_local`] on a Unix socket, where whoever may connect is root or
//! the gateway's user and acts as `local` in the audit log. Behind both is the same router.
//!
//! - [`table`]: every route, and who may. Start reading here.
//! - [`guards`]: what a request passes before a handler sees it.
//! - [`gate`]: what handlers share, and the one way to a session.
//! - [`answer`]: every refusal, with its status and code.
//!
//! Handlers translate between HTTP and the engine, and decide nothing else. They never ask by which
//! of the two somebody came.

mod answer;
mod attach;
mod audit;
mod auth;
#[cfg(all(test, feature = "bench"))]
mod bench;
mod caller;
mod cookie;
mod denials;
mod files;
mod follow;
mod forwarded;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gate;
mod guards;
mod health;
mod listen;
mod me;
mod metrics;
mod notices;
mod once;
mod openapi;
mod origin;
mod pages;
mod peer;
mod profiles;
mod push;
mod readings;
mod recording;
mod request;
mod route;
mod runners;
mod screens;
mod sessions;
mod settings;
mod shapes;
mod starting;
mod steering;
mod table;
mod users;

pub use gate::Gate;
pub use listen::serve;
pub use listen::serve_local;
pub use listen::tls::Tls;
pub use listen::tls::TlsError;
pub use listen::tls::self_signed_names;
pub use metrics::serve_metrics;
pub use origin::BadUrl;
pub use origin::Origin;
pub use push::Push;
pub use push::PushError;
pub use push::notify;
pub use settings::Settings;
