//! What goes wrong, as the API says it: a status, a code for programs, a line for people.

use std::time::Duration;

use axum::Json;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Value;
use serde_json::json;
use sojourn_core::extension::NoExtension;
use sojourn_core::ids::SessionId;
use sojourn_engine::admit::NotAdmitted;
use sojourn_engine::extend::ExtendError;
use sojourn_engine::listing::StoreUnavailable;

/// An answer that is not what was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refused {
    /// The request is not HTTP or JSON as it should be.
    Malformed(String),
    /// Nobody has signed in.
    LoginRequired,
    /// The name, the password, the code, the token or the link is not right; which, is not said.
    InvalidCredentials(&'static str),
    /// The login timed out.
    Expired {
        /// `inactivity` or `lifetime`.
        reason: &'static str,
    },
    /// The login was ended.
    Revoked {
        /// By what.
        reason: &'static str,
    },
    /// The caller may not do this.
    Forbidden(&'static str),
    /// Another site's page sent this.
    CrossOrigin,
    /// The request does not prove that our own page sent it.
    CsrfToken,
    /// It is too long ago that the person proved who they are.
    ReauthRequired,
    /// There is no such thing.
    NotFound(String),
    /// There is, and the caller may not know of it: answered as if there were none.
    Hidden(String),
    /// The method is not one of this path.
    MethodNotAllowed,
    /// More than one session is meant.
    Ambiguous(Vec<SessionId>),
    /// The body is too long.
    TooLarge,
    /// The body is not JSON.
    MediaType,
    /// The request is for another host.
    Misdirected,
    /// A field cannot have this value.
    Invalid {
        /// Which.
        field: &'static str,
        /// Why not.
        why: String,
    },
    /// The current password, given to change it, is wrong.
    CurrentPasswordWrong,
    /// It cannot be done as things stand.
    Conflict(String),
    /// Somebody else was first.
    Answered {
        /// Who, or what.
        by: String,
        /// How.
        decision: String,
    },
    /// It is not there any more.
    Gone(String),
    /// Too often.
    RateLimited {
        /// When it may be tried again.
        retry_after: Duration,
    },
    /// There are as many sessions as there may be.
    LimitReached {
        /// Which limit: the key in the configuration.
        limit: &'static str,
        /// How many there may be.
        max_sessions: u64,
        /// For the person: what takes the room.
        line: String,
    },
    /// There are too many headers, or they are too long.
    HeadersTooLarge,
    /// The runner cannot do it now.
    Runner(String),
    /// The gateway has too much to do.
    Overloaded,
    /// The store does not answer.
    Store,
    /// The audit log cannot be written.
    Audit(String),
    /// A mistake of ours.
    Bug,
}

impl Refused {
    /// A field cannot have this value.
    pub(crate) fn invalid(field: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Invalid { field, why: why.to_string() }
    }

    /// Status and code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::Malformed,
            Self::LoginRequired => Code::LoginRequired,
            Self::InvalidCredentials(_) => Code::InvalidCredentials,
            Self::Expired { .. } => Code::SessionExpired,
            Self::Revoked { .. } => Code::SessionRevoked,
            Self::Forbidden(_) => Code::Forbidden,
            Self::CrossOrigin => Code::CrossOrigin,
            Self::CsrfToken => Code::CsrfToken,
            Self::ReauthRequired => Code::ReauthRequired,
            Self::NotFound(_) | Self::Hidden(_) => Code::NotFound,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::Ambiguous(_) | Self::Conflict(_) | Self::Answered { .. } => Code::Conflict,
            Self::Gone(_) => Code::Gone,
            Self::TooLarge => Code::TooLarge,
            Self::MediaType => Code::UnsupportedMediaType,
            Self::Misdirected => Code::Misdirected,
            Self::Invalid { .. } => Code::Invalid,
            Self::CurrentPasswordWrong => Code::CurrentPasswordWrong,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::LimitReached { .. } => Code::LimitReached,
            Self::HeadersTooLarge => Code::HeadersTooLarge,
            Self::Runner(_) => Code::RunnerUnavailable,
            Self::Overloaded => Code::Overloaded,
            Self::Store => Code::StoreUnavailable,
            Self::Audit(_) => Code::AuditUnavailable,
            Self::Bug => Code::Internal,
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Malformed(why) => why.clone(),
            Self::LoginRequired => "sign in first".to_owned(),
            Self::Expired { reason: "lifetime" } => {
                "your login has reached its longest lifetime; sign in again".to_owned()
            }
            Self::Expired { .. } => "your login was idle for too long; sign in again".to_owned(),
            Self::Revoked { .. } => "your login was ended; sign in again".to_owned(),
            Self::Forbidden(why) | Self::InvalidCredentials(why) => (*why).to_owned(),
            Self::CrossOrigin => {
                "this came from another site, or does not say where from".to_owned()
            }
            Self::CsrfToken => "X-CSRF-Token is missing or not this login's".to_owned(),
            Self::ReauthRequired => {
                "confirm your password first: this needs a proof not older than 10 minutes"
                    .to_owned()
            }
            Self::NotFound(what) | Self::Hidden(what) | Self::Audit(what) => what.clone(),
            Self::Conflict(why) | Self::Gone(why) | Self::Runner(why) => why.clone(),
            Self::Answered { by, decision } => format!("{by} was first: {decision}"),
            Self::MethodNotAllowed => "this path has no such method".to_owned(),
            Self::Ambiguous(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                format!("more than one session ends so; name one of {}", ids.join(", "))
            }
            Self::TooLarge => "the body is too large".to_owned(),
            Self::MediaType => "the body has to be application/json".to_owned(),
            Self::Misdirected => "this host is not served here; see public_url".to_owned(),
            Self::Invalid { field, why } => format!("{field}: {why}"),
            Self::CurrentPasswordWrong => "the current password is not right".to_owned(),
            Self::RateLimited { retry_after } => {
                format!("too often; try again in {} s", whole_seconds(*retry_after))
            }
            Self::LimitReached { line, .. } => line.clone(),
            Self::HeadersTooLarge => "the headers are too many or too long".to_owned(),
            Self::Overloaded => "the gateway has too much to do; try again in a moment".to_owned(),
            Self::Store => "the store does not answer; see the gateway's log".to_owned(),
            Self::Bug => "this is a mistake of ours; the gateway's log has more".to_owned(),
        }
    }
}

/// After so many seconds whoever was turned away by an overload may try again: what a queue of hashes
/// takes, more or less.
const A_MOMENT: u64 = 2;

/// A `Retry-After` has no fractions, and one that is too early would be refused again.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $status:literal $name:literal,)*) => {
        /// A code of the contract; each belongs to one status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// The word in `code`.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status it comes with.
            pub(crate) const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

codes! {
    /// Not HTTP or JSON as it should be.
    Malformed = 400 "MALFORMED",
    /// Nobody has signed in.
    LoginRequired = 401 "LOGIN_REQUIRED",
    /// A name, password, code, token or link that is not right.
    InvalidCredentials = 401 "INVALID_CREDENTIALS",
    /// A login that timed out.
    SessionExpired = 401 "SESSION_EXPIRED",
    /// A login that was ended.
    SessionRevoked = 401 "SESSION_REVOKED",
    /// The caller may not.
    Forbidden = 403 "FORBIDDEN",
    /// Another site's page.
    CrossOrigin = 403 "CROSS_ORIGIN",
    /// No proof of our own page.
    CsrfToken = 403 "CSRF_TOKEN",
    /// The last proof of who it is, is too old.
    ReauthRequired = 403 "REAUTH_REQUIRED",
    /// No such thing.
    NotFound = 404 "NOT_FOUND",
    /// No such method.
    MethodNotAllowed = 405 "METHOD_NOT_ALLOWED",
    /// Not as things stand.
    Conflict = 409 "CONFLICT",
    /// Not any more.
    Gone = 410 "GONE",
    /// The body is too long.
    TooLarge = 413 "TOO_LARGE",
    /// The body is not JSON.
    UnsupportedMediaType = 415 "UNSUPPORTED_MEDIA_TYPE",
    /// Another host.
    Misdirected = 421 "MISDIRECTED",
    /// A field cannot have this value.
    Invalid = 422 "INVALID",
    /// The current password is wrong.
    CurrentPasswordWrong = 422 "CURRENT_PASSWORD_WRONG",
    /// Too often.
    RateLimited = 429 "RATE_LIMITED",
    /// Too many sessions.
    LimitReached = 429 "LIMIT_REACHED",
    /// The headers are too long.
    HeadersTooLarge = 431 "HEADERS_TOO_LARGE",
    /// A mistake of ours.
    Internal = 500 "INTERNAL",
    /// The runner cannot do it now.
    RunnerUnavailable = 503 "RUNNER_UNAVAILABLE",
    /// Too much to do.
    Overloaded = 503 "OVERLOADED",
    /// The store does not answer.
    StoreUnavailable = 503 "STORE_UNAVAILABLE",
    /// The audit log cannot be written.
    AuditUnavailable = 503 "AUDIT_UNAVAILABLE",
}

impl From<sojourn_engine::rates::Refused> for Refused {
    fn from(refused: sojourn_engine::rates::Refused) -> Self {
        Self::RateLimited { retry_after: refused.retry_after }
    }
}

impl From<StoreUnavailable> for Refused {
    fn from(_: StoreUnavailable) -> Self {
        Self::Store
    }
}

impl From<NotAdmitted> for Refused {
    fn from(not: NotAdmitted) -> Self {
        let line = not.to_string();
        match not {
            NotAdmitted::Unknown => Self::NotFound(line),
            NotAdmitted::Hidden => Self::Hidden(line),
            NotAdmitted::Forbidden => Self::Forbidden("you may not do this to that session"),
            NotAdmitted::Ambiguous(ids) => Self::Ambiguous(ids),
            NotAdmitted::Store(_) => Self::Store,
        }
    }
}

impl From<ExtendError> for Refused {
    fn from(error: ExtendError) -> Self {
        let line = error.to_string();
        match error {
            ExtendError::Unknown => Self::NotFound(line),
            ExtendError::Forbidden => Self::Forbidden("you may not extend this session"),
            ExtendError::Over
            | ExtendError::Runner(_)
            | ExtendError::NotStarted
            | ExtendError::No(NoExtension::NoDeadline) => Self::Conflict(line),
            ExtendError::No(_) => Self::Invalid { field: "seconds", why: line },
            ExtendError::Audit => Self::Audit(line),
            ExtendError::Silent => Self::Overloaded,
            ExtendError::Store(_) => Self::Store,
        }
    }
}

impl Refused {
    /// What programs and people read of it.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({"error": self.line(), "code": self.code().name()});
        match self {
            Self::Invalid { field, .. } => body["field"] = Value::from(*field),
            Self::Ambiguous(ids) => body["matches"] = json!(ids),
            Self::Expired { reason } | Self::Revoked { reason } => {
                body["reason"] = Value::from(*reason);
            }
            Self::RateLimited { retry_after } => {
                let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
                body["retry_after_ms"] = Value::from(millis);
            }
            Self::Answered { by, decision } => {
                body["by"] = Value::from(by.as_str());
                body["decision"] = Value::from(decision.as_str());
            }
            Self::LimitReached { limit, max_sessions, .. } => {
                body["limit"] = Value::from(*limit);
                body["max_sessions"] = Value::from(*max_sessions);
            }
            _ => {}
        }
        body
    }
}

/// How somebody was kept from what is not theirs. It goes along with the answer, to be put on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// They were told so.
    Forbidden,
    /// They were told that there is no such thing.
    Hidden,
}

impl Denied {
    /// A stable word for the audit log and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Hidden => "hidden",
        }
    }
}

impl Refused {
    fn denied(&self) -> Option<Denied> {
        match self {
            Self::Forbidden(_) => Some(Denied::Forbidden),
            Self::Hidden(_) => Some(Denied::Hidden),
            _ => None,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code().status()).unwrap_or_default();
        let mut response = (status, Json(self.body())).into_response();
        if let Some(denied) = self.denied() {
            response.extensions_mut().insert(denied);
        }
        let wait = match self {
            Self::RateLimited { retry_after } => Some(whole_seconds(retry_after)),
            Self::Overloaded => Some(A_MOMENT),
            _ => None,
        };
        if let Some(seconds) = wait {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn told(refused: Refused) -> (u16, Value) {
        let response = refused.into_response();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 4096).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn refusals_have_the_shape_of_the_contract() {
        assert_eq!(
            told(Refused::invalid("limit", "too many")).await,
            (422, json!({"error": "limit: too many", "code": "INVALID", "field": "limit"}))
        );
        assert_eq!(told(Refused::Store).await.1["code"], "STORE_UNAVAILABLE");
        let id: SessionId = "01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().unwrap();
        let (status, body) = told(Refused::Ambiguous(vec![id])).await;
        assert_eq!((status, &body["code"]), (409, &json!("CONFLICT")));
        assert_eq!(body["matches"], json!([id]));
        let (status, body) = told(Refused::Expired { reason: "inactivity" }).await;
        assert_eq!((status, &body["code"]), (401, &json!("SESSION_EXPIRED")));
        assert_eq!(body["reason"], "inactivity");
    }

    #[tokio::test]
    async fn a_limit_says_when_to_come_again_and_never_too_early() {
        let retry_after = Duration::from_millis(1200);
        let response = Refused::RateLimited { retry_after }.into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let (status, body) = told(Refused::RateLimited { retry_after }).await;
        assert_eq!((status, &body["retry_after_ms"]), (429, &json!(1200)));
        assert_eq!(Refused::Overloaded.into_response().headers()[RETRY_AFTER], "2");
        let line = "5 of your sessions are running".to_owned();
        let limit = "max_sessions_per_user";
        let (status, body) = told(Refused::LimitReached { limit, max_sessions: 5, line }).await;
        assert_eq!((status, &body["code"]), (429, &json!("LIMIT_REACHED")));
        assert_eq!((&body["limit"], &body["max_sessions"]), (&json!(limit), &json!(5)));
    }
}
