//! Logins and API tokens, as the engine keeps them.

pub(crate) use sojourn_core::scope::Scope;
pub(crate) use sojourn_engine::identity::Client;
pub(crate) use sojourn_engine::login::Found;
pub(crate) use sojourn_engine::login::Login;
pub(crate) use sojourn_engine::login::LoginEnd;
pub(crate) use sojourn_engine::login::Logins;
pub(crate) use sojourn_engine::tokens::ApiToken;
pub(crate) use sojourn_engine::tokens::Tokens;
