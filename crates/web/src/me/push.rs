//! One's browsers that are told when an agent waits.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_engine::login::device;
use sojourn_engine::push::Device;
use sojourn_engine::push::LONGEST_ENDPOINT;
use sojourn_engine::push::NewDevice;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use super::login;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::push::Push;
use crate::push::Unfit;
use crate::request::Fields;
use crate::request::Typed;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// A browser that is told.
#[derive(Serialize, ToSchema)]
struct PushDevice {
    #[schema(format = "uuid")]
    id: String,
    /// What it is.
    device: String,
    #[schema(format = "date-time")]
    added_at: String,
    /// Whether it is told what waits, and not only that something does.
    signed_in: bool,
    /// Whether it was added in this login.
    current: bool,
}

/// Browsers that are told.
#[derive(Serialize, ToSchema)]
struct PushDevices {
    /// The gateway's key, to which a browser binds what it lets us tell it.
    public_key: String,
    items: Vec<PushDevice>,
    /// Always none: there are no more than fit.
    next_cursor: Option<String>,
}

/// A browser that wants to be told, as its push manager describes it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct NewPushDevice {
    /// Where messages for it go.
    #[schema(max_length = 2048)]
    endpoint: String,
    /// Its public key, in base64url.
    #[schema(max_length = 128)]
    p256dh: String,
    /// The secret it shares, in base64url.
    #[schema(max_length = 64)]
    auth: String,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/api/me/push",
            Access::Login,
            Activity::Counts,
            list,
            Doc::of("listMyPushDevices", "One's browsers that are told when an agent waits.")
                .gives::<PushDevices>(200, "They.")
                .refuses(&[Code::NotFound]),
        ),
        Route::post(
            "/api/me/push",
            Access::Login,
            Activity::Counts,
            add,
            Doc::of(
                "addMyPushDevice",
                "This browser wants to be told. It takes the place of itself.",
            )
            .takes::<NewPushDevice>(Required::True)
            .gives::<PushDevice>(201, "It is.")
            .refuses(&[Code::Invalid, Code::NotFound]),
        ),
        Route::delete(
            "/api/me/push/{id}",
            Access::Login,
            Activity::Counts,
            remove,
            Doc::of("removeMyPushDevice", "A browser is told no more.")
                .gives_nothing(204, "It is not.")
                .refuses(&[Code::NotFound]),
        ),
    ]
}

/// `GET /api/me/push`
async fn list(State(gate): State<Gate>, caller: Caller) -> Result<Json<PushDevices>, Refused> {
    let login = login(&caller)?;
    let public_key = push(&gate)?.key().to_owned();
    let devices = gate.engine().devices(login.user()).await?;
    let shown = |device: &Device| shown(device, device.login == login.id());
    Ok(Json(PushDevices {
        public_key,
        items: devices.iter().map(shown).collect(),
        next_cursor: None,
    }))
}

/// `POST /api/me/push`
async fn add(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<(StatusCode, Json<PushDevice>), Refused> {
    fields.only(&["endpoint", "p256dh", "auth"])?;
    let login = login(&caller)?;
    let push = push(&gate)?;
    let [endpoint, p256dh, auth] =
        [fields.needed("endpoint")?, fields.needed("p256dh")?, fields.needed("auth")?];
    for (name, text, most) in
        [("endpoint", endpoint, LONGEST_ENDPOINT), ("p256dh", p256dh, 128), ("auth", auth, 64)]
    {
        if text.len() > most {
            return Err(Refused::invalid(name, format_args!("longer than {most} bytes")));
        }
    }
    push.check(endpoint, p256dh, auth).map_err(|unfit| match unfit {
        Unfit::Endpoint(why) => Refused::invalid("endpoint", why),
        Unfit::Keys(why) => Refused::invalid("p256dh", why),
    })?;
    let new = NewDevice {
        endpoint: endpoint.to_owned(),
        p256dh: p256dh.to_owned(),
        auth: auth.to_owned(),
        device: device(caller.client().user_agent()),
    };
    let before = gate.engine().devices(login.user()).await?;
    let device = gate.engine().add_device(login, new, caller.actor()).await?;
    note_gone(&gate, &caller, &before, &device).await;
    Ok((StatusCode::CREATED, Json(shown(&device, true))))
}

/// With too many the store lets the oldest go: its person finds out why it is told nothing any more.
async fn note_gone(gate: &Gate, caller: &Caller, before: &[Device], added: &Device) {
    let engine = gate.engine();
    // It is added; whether that can be told changes nothing.
    let Ok(after) = engine.devices(added.user).await else { return };
    let is_gone = |old: &&Device| {
        // The same browser takes its own place.
        old.endpoint != added.endpoint && !after.iter().any(|kept| kept.id == old.id)
    };
    for gone in before.iter().filter(is_gone) {
        tracing::info!(push = %gone.id, device = gone.device, "a browser made room for another one");
        let event = Event::new(engine.clock().wall(), Action::PushRemoved, caller.actor())
            .detail("push_id", gone.id.to_string())
            .detail("device", gone.device.clone())
            .detail("why", "there were as many as there may be, and another one was added");
        engine.audit().record_soon(event);
    }
}

/// `DELETE /api/me/push/{id}`
async fn remove(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(typed): Typed<String>,
) -> Result<StatusCode, Refused> {
    let login = login(&caller)?;
    let none = || Refused::NotFound("there is no such browser".to_owned());
    let id = typed.parse().map_err(|_| none())?;
    let why = "its person wants that";
    match gate.engine().remove_device(login.user(), id, caller.actor(), why).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(none()),
    }
}

fn push(gate: &Gate) -> Result<&Push, Refused> {
    gate.push().ok_or_else(|| Refused::NotFound("nobody is told anything here".to_owned()))
}

fn shown(device: &Device, current: bool) -> PushDevice {
    PushDevice {
        id: device.id.to_string(),
        device: device.device.clone(),
        added_at: device.added_at.to_rfc3339(),
        signed_in: device.signed_in,
        current,
    }
}
