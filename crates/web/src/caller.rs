//! Who asks: a person with a login, a program with a token, or somebody on the gateway's own machine.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::authz::Asker;
use sojourn_core::ids::UserId;
use sojourn_engine::door::Who as Stays;
use sojourn_engine::ending::EndedBy;
use sojourn_engine::identity::Client;
use sojourn_engine::identity::How;
use sojourn_engine::identity::Principal;
use sojourn_engine::login::Login;
use sojourn_engine::tokens::ApiToken;
use sojourn_engine::visiting::Person;

use crate::answer::Refused;

/// Who asks, and from where. As an extractor it is there on every route that is not public; the
/// guards have put it there.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    who: Who,
    client: Client,
}

/// By what somebody is known.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// A cookie.
    Login(Arc<Login>),
    /// A bearer token.
    Token(Arc<ApiToken>),
    /// The kernel's word, at the local socket.
    Local {
        /// The peer's user id.
        uid: u32,
    },
}

impl Caller {
    pub(crate) fn new(who: Who, client: Client) -> Self {
        Self { who, client }
    }

    /// By what the caller is known.
    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// The login, where it is one.
    pub(crate) fn login(&self) -> Option<&Arc<Login>> {
        match &self.who {
            Who::Login(login) => Some(login),
            Who::Token(_) | Who::Local { .. } => None,
        }
    }

    /// Where from.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// For the one table of who may what.
    pub(crate) fn asker(&self) -> Asker {
        match &self.who {
            Who::Login(login) => login.asker(),
            Who::Token(token) => token.asker(),
            Who::Local { .. } => Asker::Local,
        }
    }

    /// For the audit log.
    pub(crate) fn actor(&self) -> Actor {
        match &self.who {
            Who::Login(login) => login.actor(&self.client),
            Who::Token(token) => token_actor(token, &self.client),
            Who::Local { uid } => Actor::local(*uid),
        }
    }

    /// The account, where there is one.
    pub(crate) fn user(&self) -> Option<UserId> {
        match &self.who {
            Who::Login(login) => Some(login.user()),
            Who::Token(token) => Some(token.user),
            Who::Local { .. } => None,
        }
    }

    /// The account's name, where there is one.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.who {
            Who::Login(login) => Some(login.name()),
            Who::Token(token) => Some(&token.name),
            Who::Local { .. } => None,
        }
    }

    /// As somebody at a terminal.
    pub(crate) fn person(&self) -> Person {
        let (who, token) = match &self.who {
            Who::Login(login) => (Stays::User(login.principal()), None),
            Who::Token(token) => {
                let principal = Principal {
                    id: token.user,
                    name: token.name.clone(),
                    role: token.role,
                    how: How::Token,
                    fingerprint: None,
                    epoch: 0,
                    login: None,
                };
                (Stays::User(principal), Some(token.id.to_string()))
            }
            Who::Local { .. } => (Stays::Local, None),
        };
        Person {
            who,
            asker: self.asker(),
            actor: self.actor(),
            token,
            address: self.client.address(),
            client: self.client.user_agent().to_owned(),
        }
    }

    /// For the person whose session is ended or extended.
    pub(crate) fn ended_by(&self, why: Option<&str>) -> EndedBy {
        match (&self.who, self.name()) {
            (_, Some(name)) => EndedBy::new(name, why),
            (Who::Local { uid: 0 }, None) => EndedBy::new("root", why),
            (_, None) => EndedBy::new("the operator", why),
        }
    }
}

/// Our own command calls itself so.
const OUR_COMMAND: &str = "sojourn/";

fn token_actor(token: &ApiToken, client: &Client) -> Actor {
    let kind = match client.user_agent().starts_with(OUR_COMMAND) {
        true => ActorKind::Cli,
        false => ActorKind::Token,
    };
    Actor { kind, ..client.actor(&token.name) }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        parts.extensions.get::<Self>().cloned().ok_or(Refused::LoginRequired)
    }
}

/// The caller of a public route: known, or not.
#[derive(Clone, Debug)]
pub(crate) struct MaybeCaller(pub(crate) Option<Caller>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeCaller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<Caller>().cloned()))
    }
}

/// To programs where a person has to be.
pub(crate) const ONLY_A_PERSON: &str = "only a person who has signed in may do this";

/// Where the request comes from, known or not by whom.
pub(crate) struct FromClient(pub(crate) Client);

impl<S: Send + Sync> FromRequestParts<S> for FromClient {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        // The outermost guard puts it there before anything else runs.
        parts.extensions.get::<Client>().cloned().map(Self).ok_or(Refused::Bug)
    }
}
