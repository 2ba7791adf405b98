//! Proving again who one is, before something that matters: a new token, and both deadlines anew.

use axum::extract::State;
use axum::response::Response;
use sojourn_engine::identity::Again;
use sojourn_engine::login::Rotation;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use super::Step;
use super::WRONG;
use super::next_step;
use super::signed_in;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::ONLY_A_PERSON;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// The password, and a code where the account asks for one.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct Proof {
    password: String,
    /// The code of the moment, or a recovery code.
    code: Option<String>,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![Route::post(
        "/api/auth/reauth",
        Access::Login,
        Activity::Counts,
        prove,
        Doc::of("reauthenticate", "Proves again who one is. The login goes on with a new token.")
            .takes::<Proof>(Required::True)
            .gives::<Step>(200, "Proved; or a code is asked for, to be sent with the password.")
            .refuses(&[Code::Invalid, Code::RateLimited, Code::AuditUnavailable]),
    )]
}

/// `POST /api/auth/reauth`
async fn prove(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refused> {
    fields.only(&["password", "code"])?;
    let login = caller.login().ok_or(Refused::Forbidden(ONLY_A_PERSON))?;
    let (password, code) = (fields.needed("password")?, fields.text("code")?);
    let (user, client) = (login.user(), caller.client());
    let who = match gate.engine().identity().prove_again(user, password, code, client).await {
        Again::Proved(who) => who,
        Again::CodeNeeded => return Ok(next_step()),
        Again::Wrong => return Err(Refused::InvalidCredentials(WRONG)),
        Again::Throttled { retry_after } => return Err(Refused::RateLimited { retry_after }),
        Again::Unavailable(why) => return Err(why.into()),
    };
    let proved = gate.logins().rotate(login, Rotation::Reauthenticated(who), client).await;
    let (secret, login) = proved?;
    Ok(signed_in(&gate, &secret, &login))
}
