//! Signing in: a password, then a code where the account asks for one.
//!
//! Between the two the browser has a cookie of another name that opens nothing but the second step.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use sojourn_engine::identity::Client;
use sojourn_engine::identity::SignIn;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use super::Step;
use super::WRONG;
use super::add_cookie;
use super::cookie_of;
use super::next_step;
use super::signed_in;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::FromClient;
use crate::caller::MaybeCaller;
use crate::cookie;
use crate::cookie::Kind;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// A name and a password.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct Credentials {
    username: String,
    password: String,
}

/// A code of the moment, or a recovery code.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct CodeGiven {
    code: String,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    let may_fail = [
        Code::InvalidCredentials,
        Code::LoginRequired,
        Code::Invalid,
        Code::RateLimited,
        Code::StoreUnavailable,
        Code::AuditUnavailable,
    ];
    let doc = |id, summary| {
        Doc::of(id, summary)
            .gives::<Step>(200, "Signed in, or a code is asked for.")
            .refuses(&may_fail)
    };
    vec![
        Route::post(
            "/api/auth/login",
            Access::SignIn,
            Activity::Passive,
            password,
            doc("signIn", "Signs in by name and password. The login sent along ends.")
                .takes::<Credentials>(Required::True),
        ),
        Route::post(
            "/api/auth/login/totp",
            Access::SignIn,
            Activity::Passive,
            totp,
            doc("signInTotp", "The second step: the code of the moment.")
                .takes::<CodeGiven>(Required::True),
        ),
        Route::post(
            "/api/auth/login/recovery",
            Access::SignIn,
            Activity::Passive,
            recovery,
            doc("signInRecovery", "The second step by a recovery code, which is used up.")
                .takes::<CodeGiven>(Required::True),
        ),
    ]
}

/// `POST /api/auth/login`
async fn password(
    State(gate): State<Gate>,
    FromClient(client): FromClient,
    MaybeCaller(caller): MaybeCaller,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Refused> {
    fields.only(&["username", "password"])?;
    let (name, password) = (fields.needed("username")?, fields.needed("password")?);
    let device = cookie_of(&gate, &headers, Kind::Device);
    let step = gate.engine().identity().sign_in(name, password, &client, device).await;
    answer(&gate, step, &client, caller.as_ref()).await
}

/// `POST /api/auth/login/totp`
async fn totp(
    State(gate): State<Gate>,
    FromClient(client): FromClient,
    MaybeCaller(caller): MaybeCaller,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Refused> {
    fields.only(&["code"])?;
    let code = fields.needed("code")?;
    let ceremony = cookie_of(&gate, &headers, Kind::Ceremony).ok_or(Refused::LoginRequired)?;
    let device = cookie_of(&gate, &headers, Kind::Device);
    let step = gate.engine().identity().second_factor(ceremony, code, &client, device).await;
    answer(&gate, step, &client, caller.as_ref()).await
}

/// `POST /api/auth/login/recovery`
async fn recovery(
    State(gate): State<Gate>,
    FromClient(client): FromClient,
    MaybeCaller(caller): MaybeCaller,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Refused> {
    fields.only(&["code"])?;
    let code = fields.needed("code")?;
    let ceremony = cookie_of(&gate, &headers, Kind::Ceremony).ok_or(Refused::LoginRequired)?;
    let device = cookie_of(&gate, &headers, Kind::Device);
    let step = gate.engine().identity().recovery(ceremony, code, &client, device).await;
    answer(&gate, step, &client, caller.as_ref()).await
}

async fn answer(
    gate: &Gate,
    step: SignIn,
    client: &Client,
    caller: Option<&Caller>,
) -> Result<Response, Refused> {
    let origin = gate.origin();
    match step {
        SignIn::Done(who, device) => {
            let former = caller.and_then(Caller::login);
            let begun = gate.logins().begin(&who, client, former.map(|login| &**login)).await;
            let (secret, login) = begun?;
            let mut response = signed_in(gate, &secret, &login);
            let headers = response.headers_mut();
            add_cookie(headers, cookie::removal(origin, Kind::Ceremony));
            if let Some(device) = device {
                add_cookie(headers, cookie::set(origin, Kind::Device, device.expose()));
            }
            Ok(response)
        }
        SignIn::SecondFactor(ceremony) => {
            let mut response = next_step();
            let cookie = cookie::set(origin, Kind::Ceremony, ceremony.expose());
            add_cookie(response.headers_mut(), cookie);
            Ok(response)
        }
        other => Err(refused(other)),
    }
}

/// What whoever did not get in is told.
fn refused(step: SignIn) -> Refused {
    match step {
        SignIn::Over => Refused::LoginRequired,
        SignIn::Throttled { retry_after } => Refused::RateLimited { retry_after },
        SignIn::Unavailable(why) => why.into(),
        SignIn::Refused | SignIn::Done(..) | SignIn::SecondFactor(_) => {
            Refused::InvalidCredentials(WRONG)
        }
    }
}
