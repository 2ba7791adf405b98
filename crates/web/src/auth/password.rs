//! Changing one's password, and setting one by a link that an admin has made.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use sojourn_engine::identity::ResetError;
use sojourn_engine::login::ChangeError;
use sojourn_engine::login::LoginEnd;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use super::add_cookie;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::FromClient;
use crate::caller::ONLY_A_PERSON;
use crate::cookie;
use crate::cookie::Kind;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// What a change is asked with.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct Change {
    current_password: String,
    new_password: String,
    /// The new one once more.
    confirm_password: String,
}

/// What a link is used with.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct Reset {
    /// The token of the link.
    token: String,
    new_password: String,
    /// The new one once more.
    confirm_password: String,
}

/// It is done.
#[derive(Serialize, ToSchema)]
struct PasswordSet {
    success: bool,
    /// For people.
    message: &'static str,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    let may_fail =
        [Code::Invalid, Code::RateLimited, Code::AuditUnavailable, Code::StoreUnavailable];
    vec![
        Route::post(
            "/api/auth/change-password",
            Access::Login,
            Activity::Counts,
            change,
            Doc::of("changePassword", "Changes one's password. Every login of the account ends.")
                .takes::<Change>(Required::True)
                .gives::<PasswordSet>(200, "It is changed.")
                .refuses(&may_fail)
                .refuses(&[Code::CurrentPasswordWrong]),
        ),
        Route::post(
            "/api/auth/reset",
            Access::SignIn,
            Activity::Passive,
            reset,
            Doc::of("resetPassword", "Sets a password by a one-time link; nobody is signed in.")
                .takes::<Reset>(Required::True)
                .gives::<PasswordSet>(200, "It is set.")
                .refuses(&may_fail)
                .refuses(&[Code::InvalidCredentials]),
        ),
    ]
}

/// `POST /api/auth/change-password`
async fn change(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refused> {
    fields.only(&["current_password", "new_password", "confirm_password"])?;
    let login = caller.login().ok_or(Refused::Forbidden(ONLY_A_PERSON))?;
    let current = fields.needed("current_password")?;
    let new = twice(&fields)?;
    gate.logins().change_password(login, current, new, caller.client()).await?;
    let message = "Password changed. All logins ended; please sign in.";
    let mut response = Json(PasswordSet { success: true, message }).into_response();
    add_cookie(response.headers_mut(), cookie::removal(gate.origin(), Kind::Login));
    Ok(response)
}

/// `POST /api/auth/reset`
async fn reset(
    State(gate): State<Gate>,
    FromClient(client): FromClient,
    fields: Fields,
) -> Result<Json<PasswordSet>, Refused> {
    fields.only(&["token", "new_password", "confirm_password"])?;
    let token = fields.needed("token")?;
    let (new, again) = (fields.needed("new_password")?, fields.needed("confirm_password")?);
    gate.engine().identity().reset(token, new, again, &client).await?;
    // The account's logins are good for nothing already; this tells those who wait for their end.
    gate.logins().recheck().await.map_err(|_| Refused::Store)?;
    Ok(Json(PasswordSet { success: true, message: "Password set; please sign in." }))
}

/// The new password, which is to be there twice.
fn twice(fields: &Fields) -> Result<&str, Refused> {
    let new = fields.needed("new_password")?;
    if fields.needed("confirm_password")? != new {
        return Err(Refused::invalid("confirm_password", "not the same as the new password"));
    }
    Ok(new)
}

impl From<ResetError> for Refused {
    fn from(error: ResetError) -> Self {
        match &error {
            ResetError::Link => Self::InvalidCredentials("this link is not good any more"),
            ResetError::Confirmation => Self::invalid("confirm_password", error),
            ResetError::Password(why) => Self::invalid("new_password", why),
            ResetError::Unavailable(why) => (*why).into(),
        }
    }
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Wrong => Self::CurrentPasswordWrong,
            ChangeError::Throttled { retry_after } => Self::RateLimited { retry_after },
            ChangeError::LoginOver => Self::Revoked { reason: LoginEnd::Revoked.name() },
            ChangeError::Stale => Self::Revoked { reason: LoginEnd::PasswordChange.name() },
            ChangeError::Bad(why) => Self::invalid("new_password", why),
            ChangeError::Same => Self::invalid("new_password", error),
            ChangeError::Unavailable(why) => why.into(),
        }
    }
}
