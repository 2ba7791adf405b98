//! One's second factor: codes of the moment, and recovery codes for when their device is lost.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use sojourn_engine::identity::FactorError;
use sojourn_engine::secret::Secret;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use super::login;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// How it stands with one's second factor.
#[derive(Serialize, ToSchema)]
struct Standing {
    /// Whether a code is asked for after the password.
    enabled: bool,
    /// Since when.
    #[schema(format = "date-time")]
    added_at: Option<String>,
    /// Recovery codes that were not used yet.
    recovery_codes_left: usize,
}

/// To be shown to an authenticator, once.
#[derive(Serialize, ToSchema)]
struct Enrolment {
    /// The secret in base 32, to type.
    secret: String,
    /// The same as an `otpauth:` address, for a QR code.
    uri: String,
}

/// To be written down: they are shown this once.
#[derive(Serialize, ToSchema)]
struct RecoveryCodes {
    recovery_codes: Vec<String>,
}

/// A beginning, or its confirmation.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the document; each is answered as what it is")]
enum Enabling {
    Begun(Enrolment),
    Confirmed(RecoveryCodes),
}

/// Nothing to begin; a code to confirm.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct Confirmation {
    /// A code of the authenticator that was shown the secret.
    code: Option<String>,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/api/me/totp",
            Access::Login,
            Activity::Counts,
            read,
            Doc::of("readMyTotp", "How it stands with one's second factor.")
                .gives::<Standing>(200, "So."),
        ),
        Route::post(
            "/api/me/totp",
            Access::Fresh,
            Activity::Counts,
            enable,
            Doc::of("enableMyTotp", "Begins to add a second factor, or with a code confirms it.")
                .takes::<Confirmation>(Required::False)
                .gives::<Enabling>(200, "A secret to show to an authenticator, or recovery codes.")
                .refuses(&[Code::Invalid, Code::Conflict, Code::AuditUnavailable]),
        ),
        Route::delete(
            "/api/me/totp",
            Access::Fresh,
            Activity::Counts,
            remove,
            Doc::of("removeMyTotp", "Takes the second factor and its recovery codes away.")
                .gives_nothing(204, "It is gone.")
                .refuses(&[Code::NotFound, Code::AuditUnavailable]),
        ),
        Route::post(
            "/api/me/totp/recovery-codes",
            Access::Fresh,
            Activity::Counts,
            renew,
            Doc::of("renewMyRecoveryCodes", "New recovery codes; those before are void.")
                .gives::<RecoveryCodes>(200, "Shown this once.")
                .refuses(&[Code::NotFound, Code::AuditUnavailable, Code::UnsupportedMediaType]),
        ),
    ]
}

/// `GET /api/me/totp`
async fn read(State(gate): State<Gate>, caller: Caller) -> Result<Json<Standing>, Refused> {
    let user = login(&caller)?.user();
    let factor = gate.engine().identity().second_factor_of(user).await?;
    Ok(Json(Standing {
        enabled: factor.is_some(),
        added_at: factor.map(|factor| factor.added_at.to_rfc3339()),
        recovery_codes_left: factor.map_or(0, |factor| factor.recovery_codes_left),
    }))
}

/// `POST /api/me/totp`
async fn enable(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refused> {
    fields.only(&["code"])?;
    let (identity, user) = (gate.engine().identity(), login(&caller)?.user());
    let Some(code) = fields.text("code")? else {
        let begun = identity.begin_totp(user).await?;
        let secret = begun.secret.expose().to_owned();
        let enrolment = Enrolment { secret, uri: begun.uri.expose().to_owned() };
        return Ok(Json(enrolment).into_response());
    };
    let codes = identity.confirm_totp(user, code, &caller.actor()).await.map_err(|e| match e {
        FactorError::Missing => Refused::Conflict("begin first, without a code".to_owned()),
        error => error.into(),
    })?;
    Ok(Json(shown(&codes)).into_response())
}

/// `DELETE /api/me/totp`
async fn remove(State(gate): State<Gate>, caller: Caller) -> Result<StatusCode, Refused> {
    let user = login(&caller)?.user();
    gate.engine().identity().remove_totp(user, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/me/totp/recovery-codes`
async fn renew(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<Json<RecoveryCodes>, Refused> {
    fields.only(&[])?;
    let user = login(&caller)?.user();
    let codes = gate.engine().identity().renew_recovery_codes(user, &caller.actor()).await?;
    Ok(Json(shown(&codes)))
}

fn shown(codes: &[Secret]) -> RecoveryCodes {
    RecoveryCodes { recovery_codes: codes.iter().map(|code| code.expose().to_owned()).collect() }
}

impl From<FactorError> for Refused {
    fn from(error: FactorError) -> Self {
        let line = error.to_string();
        match error {
            FactorError::Exists => Self::Conflict(line),
            FactorError::Missing => Self::NotFound(line),
            FactorError::Code => Self::invalid("code", line),
            FactorError::Seal(_) => {
                tracing::error!(%error, "second factors cannot be sealed or opened");
                Self::Bug
            }
            FactorError::Store(_) => {
                tracing::error!(%error, "second factors cannot be kept");
                Self::Store
            }
        }
    }
}
