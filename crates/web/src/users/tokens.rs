//! Everybody's API tokens and runners' tokens, for admins and for the gateway's own machine.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sojourn_core::ids::TokenId;
use sojourn_engine::tokens::TokenError;
use sojourn_engine::tokens::TokenView;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use super::ADMINS;
use super::proved_lately;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::ONLY_A_PERSON;
use crate::caller::Who;
use crate::gate::Gate;
use crate::me::MadeToken;
use crate::me::NewToken;
use crate::me::Token;
use crate::me::shown_token;
use crate::me::wanted_token;
use crate::openapi::Doc;
use crate::request::Asked;
use crate::request::Fields;
use crate::request::Typed;
use crate::route::Activity;
use crate::route::Route;

/// Tokens of one page.
const PAGE: u32 = 100;

/// A token, and whose it is.
#[derive(Serialize, ToSchema)]
struct OwnedToken {
    user: String,
    #[serde(flatten)]
    #[schema(inline)]
    token: Token,
}

/// A page of tokens.
#[derive(Serialize, ToSchema)]
struct OwnedTokens {
    items: Vec<OwnedToken>,
    /// Where the next page begins.
    next_cursor: Option<String>,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/api/tokens",
            ADMINS,
            Activity::Counts,
            list,
            Doc::of("listTokens", "Everybody's tokens, the newest first.")
                .query::<String>("user", "Those of this user.")
                .query::<String>("cursor", "Where the page begins.")
                .gives::<OwnedTokens>(200, "A page.")
                .refuses(&[Code::Invalid, Code::NotFound]),
        ),
        Route::post(
            "/api/users/{name}/tokens",
            ADMINS,
            Activity::Counts,
            create,
            Doc::of("createUsersToken", "Makes a token of somebody's, which is shown this once.")
                .takes::<NewToken>(Required::True)
                .gives::<MadeToken>(201, "It is made.")
                .refuses(&[Code::Invalid, Code::Conflict, Code::NotFound])
                .refuses(&[Code::ReauthRequired, Code::AuditUnavailable]),
        )
        .creates(),
        Route::delete(
            "/api/tokens/{id}",
            ADMINS,
            Activity::Counts,
            revoke,
            Doc::of("revokeToken", "Revokes a token, by its id or an ending of it.")
                .gives_nothing(204, "It is good for nothing.")
                .refuses(&[Code::NotFound, Code::Conflict])
                .refuses(&[Code::ReauthRequired, Code::AuditUnavailable]),
        ),
    ]
}

/// `GET /api/tokens`
async fn list(
    State(gate): State<Gate>,
    _: Caller,
    asked: Asked,
) -> Result<Json<OwnedTokens>, Refused> {
    let user = match asked.get("user") {
        Some(name) => Some(gate.engine().accounts().get(name).await?.id),
        None => None,
    };
    let before = asked.parsed::<TokenId>("cursor")?;
    let tokens = gate.engine().tokens().list(user, before, PAGE).await;
    let tokens = tokens.map_err(TokenError::from)?;
    let is_full = u32::try_from(tokens.len()).is_ok_and(|count| count == PAGE);
    let next = tokens.last().filter(|_| is_full).map(|token| token.id.to_string());
    let owned =
        |token: &TokenView| OwnedToken { user: token.user.clone(), token: shown_token(token) };
    Ok(Json(OwnedTokens { items: tokens.iter().map(owned).collect(), next_cursor: next }))
}

/// `POST /api/users/{name}/tokens`
async fn create(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(name): Typed<String>,
    fields: Fields,
) -> Result<(StatusCode, Json<MadeToken>), Refused> {
    no_token(&gate, &caller)?;
    let wanted = wanted_token(&gate, &fields)?;
    let user = gate.engine().accounts().get(&name).await?;
    let (secret, view) = gate.engine().tokens().create(user.id, wanted, &caller.actor()).await?;
    let made = MadeToken { token: secret.expose().to_owned(), view: shown_token(&view) };
    Ok((StatusCode::CREATED, Json(made)))
}

/// `DELETE /api/tokens/{id}`
async fn revoke(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(typed): Typed<String>,
) -> Result<StatusCode, Refused> {
    no_token(&gate, &caller)?;
    let tokens = gate.engine().tokens();
    let named = tokens.named(&typed, None).await.map_err(TokenError::from)?;
    let [one] = named.as_slice() else {
        return Err(match named.is_empty() {
            true => TokenError::NoToken.into(),
            false => Refused::Conflict(format!("{} tokens end so; say more of it", named.len())),
        });
    };
    gate.engine().revoke_token(one.id, None, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tokens make and revoke no tokens, and a person has proved who they are a short while ago.
fn no_token(gate: &Gate, caller: &Caller) -> Result<(), Refused> {
    match caller.who() {
        Who::Token(_) => Err(Refused::Forbidden(ONLY_A_PERSON)),
        Who::Login(_) | Who::Local { .. } => proved_lately(gate, caller),
    }
}
