//! Who asks: the login behind the cookie, the token behind the header, or the kernel's word. It only
//! finds out; whom it does not know is refused elsewhere, where that is due.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sojourn_engine::identity::Client;
use sojourn_engine::login::Found;
use sojourn_engine::login::LoginEnd;

use crate::caller::Caller;
use crate::caller::Who;
use crate::cookie;
use crate::cookie::Carried;
use crate::gate::Gate;
use crate::origin::Origin;
use crate::peer::Peer;

/// What a request brings to show who sent it. Login tokens come in the cookie and nowhere else, API
/// tokens in `Authorization` and nowhere else.
#[derive(Debug)]
pub(crate) struct Credentials<'a> {
    /// The peer's user id at the local socket.
    local: Option<u32>,
    /// What follows `Bearer`.
    bearer: Option<&'a str>,
    cookie: Carried<'a>,
}

/// What is behind it.
#[derive(Debug)]
pub(crate) enum Asking {
    /// Nobody we know.
    Nobody,
    /// Somebody.
    Known(Caller),
    /// Somebody whose login has ended.
    Ended(LoginEnd),
    /// A program with a token that is none.
    BadToken,
    /// Nobody can say: the store does not answer.
    Unavailable,
}

impl<'a> Credentials<'a> {
    pub(crate) fn read(peer: &Peer, headers: &'a HeaderMap, origin: &Origin) -> Self {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.split_once(' '));
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        Self {
            local: peer.uid(),
            bearer: bearer.map(|(_, token)| token.trim()),
            cookie: cookie::carried(headers, &cookie::login_name(origin)),
        }
    }

    /// Whether a browser adds them by itself, so that another site's page can make use of them.
    pub(crate) fn can_be_lent(&self) -> bool {
        self.bearer.is_none() && self.local.is_none()
    }

    /// Whether there is a login cookie of ours, good or not.
    pub(crate) fn has_cookie(&self) -> bool {
        !matches!(self.cookie, Carried::Nothing)
    }

    /// Whether there are two, of which at most one can be ours.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.can_be_lent() && self.cookie == Carried::Doubtful
    }

    /// Finds out who it is.
    pub(crate) async fn resolve(&self, gate: &Gate, client: &Client) -> Asking {
        let known = |who| Asking::Known(Caller::new(who, client.clone()));
        if let Some(token) = self.bearer {
            return match gate.tokens().resolve_from(token, Some(client)).await {
                Ok(Some(token)) => known(Who::Token(token)),
                Ok(None) => {
                    gate.engine().metrics().refused("web", "token");
                    Asking::BadToken
                }
                Err(_) => Asking::Unavailable,
            };
        }
        if let Some(uid) = self.local {
            return known(Who::Local { uid });
        }
        // Of two with one name, one is not ours: it is not known which.
        let Carried::Once(token) = self.cookie else { return Asking::Nobody };
        match gate.logins().resolve_from(token, Some(client)).await {
            Ok(Found::Login(login)) => known(Who::Login(login)),
            Ok(Found::Ended(why)) => Asking::Ended(why),
            Ok(Found::Nobody) => Asking::Nobody,
            Err(_) => Asking::Unavailable,
        }
    }
}
