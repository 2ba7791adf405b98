//! One's API tokens: made by a person, shown once, good for programs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sojourn_core::ids::TokenId;
use sojourn_core::scope::Scopes;
use sojourn_engine::fault::Fault;
use sojourn_engine::tokens::TokenError;
use sojourn_engine::tokens::TokenStatus;
use sojourn_engine::tokens::TokenView;
use sojourn_engine::tokens::Wanted;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use super::login;
use super::names;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Asked;
use crate::request::Fields;
use crate::request::Typed;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// Tokens of one page.
const PAGE: u32 = 50;

/// A token, without what it opens doors with.
#[derive(Serialize, ToSchema)]
pub(crate) struct Token {
    #[schema(format = "uuid")]
    id: String,
    name: String,
    /// `read`, `sessions`, `admin`: each covers those before it.
    scopes: Vec<&'static str>,
    /// For which of one's runners it is; none: for requests.
    runner: Option<String>,
    /// `active`, `expired`, `revoked` or `disabled`.
    status: &'static str,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    expires_at: Option<String>,
    #[schema(format = "date-time")]
    last_used_at: Option<String>,
}

/// A page of tokens.
#[derive(Serialize, ToSchema)]
struct Tokens {
    items: Vec<Token>,
    /// Where the next page begins.
    next_cursor: Option<String>,
}

/// A token that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeToken {
    /// What goes into `Authorization: Bearer`; shown this once.
    pub(crate) token: String,
    #[serde(flatten)]
    #[schema(inline)]
    pub(crate) view: Token,
}

/// A token to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
pub(crate) struct NewToken {
    name: String,
    /// `read`, `sessions`, `admin`.
    scopes: Vec<String>,
    /// How long it is good; without, until it is revoked.
    expires_seconds: Option<f64>,
    /// For a runner of this name, and for no request: then without scopes.
    runner: Option<String>,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/api/me/tokens",
            Access::Login,
            Activity::Counts,
            list,
            Doc::of("listMyTokens", "One's API tokens, the newest first.")
                .query::<String>("cursor", "Where the page begins.")
                .gives::<Tokens>(200, "A page.")
                .refuses(&[Code::Invalid]),
        ),
        Route::post(
            "/api/me/tokens",
            Access::Fresh,
            Activity::Counts,
            create,
            Doc::of("createMyToken", "Makes an API token, which is shown this once.")
                .takes::<NewToken>(Required::True)
                .gives::<MadeToken>(201, "It is made.")
                .refuses(&[Code::Invalid, Code::Conflict, Code::AuditUnavailable]),
        )
        .creates(),
        Route::delete(
            "/api/me/tokens/{id}",
            Access::Fresh,
            Activity::Counts,
            revoke,
            Doc::of("revokeMyToken", "Revokes an API token.")
                .gives_nothing(204, "It is good for nothing.")
                .refuses(&[Code::NotFound, Code::AuditUnavailable]),
        ),
    ]
}

/// `GET /api/me/tokens`
async fn list(
    State(gate): State<Gate>,
    caller: Caller,
    asked: Asked,
) -> Result<Json<Tokens>, Refused> {
    let user = login(&caller)?.user();
    let before = asked.parsed::<TokenId>("cursor")?;
    let tokens = gate.engine().tokens().list(Some(user), before, PAGE).await;
    let tokens = tokens.map_err(TokenError::from)?;
    let is_full = u32::try_from(tokens.len()).is_ok_and(|count| count == PAGE);
    let next = tokens.last().filter(|_| is_full).map(|token| token.id.to_string());
    Ok(Json(Tokens { items: tokens.iter().map(shown_token).collect(), next_cursor: next }))
}

/// `POST /api/me/tokens`
async fn create(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<(StatusCode, Json<MadeToken>), Refused> {
    let wanted = wanted_token(&gate, &fields)?;
    let user = login(&caller)?.user();
    let (secret, view) = gate.engine().tokens().create(user, wanted, &caller.actor()).await?;
    let made = MadeToken { token: secret.expose().to_owned(), view: shown_token(&view) };
    Ok((StatusCode::CREATED, Json(made)))
}

/// The token that a body asks for.
pub(crate) fn wanted_token(gate: &Gate, fields: &Fields) -> Result<Wanted, Refused> {
    fields.only(&["name", "scopes", "expires_seconds", "runner"])?;
    let scopes = fields.texts("scopes")?.into_iter().map(str::parse).collect::<Result<Scopes, _>>();
    let lasts: Option<Duration> = fields.seconds("expires_seconds")?;
    Ok(Wanted {
        name: fields.needed("name")?.to_owned(),
        scopes: scopes.map_err(|error| Refused::invalid("scopes", error))?,
        expires_at: lasts.map(|lasts| gate.engine().clock().wall().after(lasts)),
        runner: fields.text("runner")?.map(str::to_owned),
    })
}

/// `DELETE /api/me/tokens/{id}`
async fn revoke(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(typed): Typed<String>,
) -> Result<StatusCode, Refused> {
    let user = login(&caller)?.user();
    let id: TokenId = typed.parse().map_err(|_| Refused::from(TokenError::NoToken))?;
    gate.engine().revoke_token(id, Some(user), &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        let line = error.to_string();
        match error {
            TokenError::NoUser | TokenError::NoToken => Self::NotFound(line),
            TokenError::Disabled(_) => Self::Conflict(line),
            TokenError::Name => Self::invalid("name", line),
            TokenError::Runner(_) => Self::invalid("runner", line),
            TokenError::NoScope | TokenError::RunnerScopes => Self::invalid("scopes", line),
            TokenError::Expiry => Self::invalid("expires_seconds", line),
            TokenError::Audit(_) => Self::Audit(line),
            TokenError::Randomness(_) => Self::Bug,
            TokenError::Store(error) => match Fault::of(&error) {
                Fault::Conflict => Self::Conflict(line),
                Fault::Missing => Self::NotFound(line),
                Fault::Unavailable => {
                    tracing::error!(%error, "a token was not made or revoked");
                    Self::Store
                }
            },
        }
    }
}

/// A token, as it is shown.
pub(crate) fn shown_token(token: &TokenView) -> Token {
    Token {
        id: token.id.to_string(),
        name: token.name.clone(),
        scopes: names(token.scopes),
        runner: token.runner.clone(),
        status: match token.status {
            TokenStatus::Active => "active",
            TokenStatus::Expired => "expired",
            TokenStatus::Revoked => "revoked",
            TokenStatus::Disabled => "disabled",
        },
        created_at: token.created_at.to_rfc3339(),
        expires_at: token.expires_at.map(|at| at.to_rfc3339()),
        last_used_at: token.last_used_at.map(|at| at.to_rfc3339()),
    }
}
