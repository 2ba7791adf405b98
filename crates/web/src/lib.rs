//! The web door: the API, for now on the gateway's own machine only.
//!
//! [`serve_local`] answers on a Unix socket. Whoever may connect there is root or the gateway's
//! user, and acts as `local` in the audit log. Handlers translate between HTTP and the engine, and
//! decide nothing else.

mod answer;
mod files;
mod health;
mod local;
mod recording;
mod request;
mod sessions;

pub use local::Local;
pub use local::serve_local;
