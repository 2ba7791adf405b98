//! Logins and API tokens, until the engine keeps them: nobody has any.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use sojourn_core::audit::Actor;
use sojourn_core::authz::Asker;
use sojourn_core::ids::UserId;

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The address.
    pub(crate) address: IpAddr,
    /// The program's own name, cut.
    pub(crate) user_agent: String,
}

/// What is behind a token.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Nobody.
    Nobody,
    /// A login.
    Login(Arc<Login>),
    /// A login that has ended.
    Ended(LoginEnd),
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginEnd {
    /// Nothing happened for too long.
    Inactivity,
    /// It reached its longest lifetime.
    Lifetime,
    /// Anything else.
    Revoked,
}

/// A login.
#[derive(Debug)]
pub(crate) struct Login(Infallible);

impl Login {
    /// Whose it is.
    #[must_use]
    pub(crate) fn user(&self) -> UserId {
        match self.0 {}
    }

    /// Their name.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        match self.0 {}
    }

    /// As the one who asks.
    #[must_use]
    pub(crate) fn asker(&self) -> Asker {
        match self.0 {}
    }

    /// For the audit log.
    #[must_use]
    pub(crate) fn actor(&self, _from: &Client) -> Actor {
        match self.0 {}
    }

    /// What proves that a request was sent by our own page.
    #[must_use]
    pub(crate) fn csrf_token(&self) -> &str {
        match self.0 {}
    }

    /// Whether its person proved who they are a short while ago.
    #[must_use]
    pub(crate) fn is_fresh(&self) -> bool {
        match self.0 {}
    }
}

/// All logins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Logins;

impl Logins {
    /// The login behind a token.
    pub(crate) async fn resolve(&self, _token: &str) -> Result<Found, Unavailable> {
        Ok(Found::Nobody)
    }

    /// Something happened.
    pub(crate) fn touch(&self, _login: &Login) {}
}

/// The store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Looking.
    Read,
    /// Sessions.
    Sessions,
    /// What admins do.
    Admin,
}

/// An API token.
#[derive(Debug)]
pub(crate) struct ApiToken(Infallible);

impl ApiToken {
    /// Whose it is.
    #[must_use]
    pub(crate) fn user(&self) -> UserId {
        match self.0 {}
    }

    /// Their name.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        match self.0 {}
    }

    /// As the one who asks.
    #[must_use]
    pub(crate) fn asker(&self) -> Asker {
        match self.0 {}
    }

    /// For the audit log.
    #[must_use]
    pub(crate) fn actor(&self, _from: &Client) -> Actor {
        match self.0 {}
    }

    /// Whether it may be used for this.
    #[must_use]
    pub(crate) fn has(&self, _scope: Scope) -> bool {
        match self.0 {}
    }
}

/// All API tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tokens;

impl Tokens {
    /// The token behind what a program sent.
    pub(crate) async fn resolve(&self, _token: &str) -> Result<Option<Arc<ApiToken>>, Unavailable> {
        Ok(None)
    }
}
