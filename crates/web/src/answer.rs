//! What goes wrong, as the API says it: a status, a code for programs, a line for people.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Value;
use serde_json::json;
use sojourn_core::extension::NoExtension;
use sojourn_core::ids::SessionId;
use sojourn_engine::extend::ExtendError;
use sojourn_engine::listing::StoreUnavailable;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The request is not HTTP or JSON as it should be.
    Malformed(String),
    /// The peer may not ask here.
    Forbidden(&'static str),
    /// There is no such thing.
    NotFound(String),
    /// The method is not one of this path.
    MethodNotAllowed,
    /// More than one session is meant.
    Ambiguous(Vec<SessionId>),
    /// The body is too long.
    TooLarge,
    /// The body is not JSON.
    MediaType,
    /// A field cannot have this value.
    Invalid {
        /// Which.
        field: &'static str,
        /// Why not.
        why: String,
    },
    /// It cannot be done as things stand.
    Conflict(String),
    /// It is not there any more.
    Gone(String),
    /// The runner cannot do it now.
    Runner(String),
    /// The gateway has too much to do.
    Overloaded,
    /// The store does not answer.
    Store,
    /// The audit log cannot be written.
    Audit(String),
}

impl Refused {
    /// A field cannot have this value.
    pub(crate) fn invalid(field: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Invalid { field, why: why.to_string() }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Ambiguous(_) | Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Gone(_) => StatusCode::GONE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Runner(_) | Self::Overloaded | Self::Store | Self::Audit(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "MALFORMED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::NotFound(_) => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Ambiguous(_) | Self::Conflict(_) => "CONFLICT",
            Self::Gone(_) => "GONE",
            Self::Runner(_) => "RUNNER_UNAVAILABLE",
            Self::TooLarge => "TOO_LARGE",
            Self::MediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::Invalid { .. } => "INVALID",
            Self::Overloaded => "OVERLOADED",
            Self::Store => "STORE_UNAVAILABLE",
            Self::Audit(_) => "AUDIT_UNAVAILABLE",
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Malformed(why) => why.clone(),
            Self::Forbidden(why) => (*why).to_owned(),
            Self::NotFound(what) | Self::Audit(what) => what.clone(),
            Self::Conflict(why) | Self::Gone(why) | Self::Runner(why) => why.clone(),
            Self::MethodNotAllowed => "this path has no such method".to_owned(),
            Self::Ambiguous(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                format!("more than one session ends so; name one of {}", ids.join(", "))
            }
            Self::TooLarge => "the body is too large".to_owned(),
            Self::MediaType => "the body has to be application/json".to_owned(),
            Self::Invalid { field, why } => format!("{field}: {why}"),
            Self::Overloaded => "the gateway has too much to do; try again in a moment".to_owned(),
            Self::Store => "the store does not answer; see the gateway's log".to_owned(),
        }
    }
}

impl From<StoreUnavailable> for Refused {
    fn from(_: StoreUnavailable) -> Self {
        Self::Store
    }
}

impl From<ExtendError> for Refused {
    fn from(error: ExtendError) -> Self {
        let line = error.to_string();
        match error {
            ExtendError::Unknown => Self::NotFound(line),
            ExtendError::Forbidden => Self::Forbidden("you may not extend this session"),
            ExtendError::Over
            | ExtendError::NotStarted
            | ExtendError::No(NoExtension::NoDeadline) => Self::Conflict(line),
            ExtendError::No(_) => Self::Invalid { field: "seconds", why: line },
            ExtendError::Audit => Self::Audit(line),
            ExtendError::Silent => Self::Overloaded,
            ExtendError::Store(_) => Self::Store,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut body = json!({"error": self.line(), "code": self.code()});
        match &self {
            Self::Invalid { field, .. } => body["field"] = Value::from(*field),
            Self::Ambiguous(ids) => body["matches"] = json!(ids),
            _ => {}
        }
        (self.status(), Json(body)).into_response()
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
    }
}
