//! `/api/sessions`: list, show, extend, end one, end many.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Value;
use serde_json::json;
use sojourn_core::authz::Deed;
use sojourn_core::authz::General;
use sojourn_core::authz::is_user_name;
use sojourn_core::ids::RunnerId;
use sojourn_core::scope::Scope;
use sojourn_engine::extend::ExtendError;
use sojourn_engine::extend::Extended;
use sojourn_engine::extend::Extension;
use sojourn_engine::identity::AccountError;
use sojourn_engine::listing::EndAll;
use sojourn_engine::listing::MAX_PAGE;
use sojourn_engine::listing::SessionQuery;
use sojourn_engine::listing::StoreUnavailable;
use sojourn_engine::view::Seconds;
use sojourn_engine::view::SessionView;

use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Asked;
use crate::request::Fields;
use crate::request::Named;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;
use crate::shapes;

/// Sessions of one page, when nobody says how many.
const USUAL_PAGE: u32 = 50;
/// The longest text that is looked for, in bytes.
const LONGEST: usize = 256;

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    let one = [Code::NotFound, Code::Conflict];
    vec![
        Route::get(
            "/api/sessions",
            Access::Scope(Scope::Read),
            Activity::Counts,
            list,
            Doc::of("listSessions", "Sessions, newest first: one's own, or everybody's.")
                .query::<String>("status", "Those of this status.")
                .query::<String>("user", "Those of this user.")
                .query::<String>("harness", "Those with this harness.")
                .query::<String>("q", "Those with this in them.")
                .query::<String>("label", "Those with this label, `name` or `name=value`.")
                .query::<String>("cursor", "Where the page begins.")
                .query::<u32>("limit", "At most so many.")
                .gives::<shapes::SessionsShape>(200, "A page.")
                .refuses(&[Code::Invalid]),
        ),
        Route::get(
            "/api/sessions/{id}",
            Access::Scope(Scope::Read),
            Activity::Counts,
            show,
            Doc::of("showSession", "One session.")
                .gives::<shapes::SessionShape>(200, "The session.")
                .refuses(&one),
        ),
        Route::delete(
            "/api/sessions/{id}",
            Access::Scope(Scope::Sessions),
            Activity::Counts,
            end,
            Doc::of("endSession", "Ends a session; nothing happens to one that has ended.")
                .query::<String>("reason", "What its people are told.")
                .gives::<shapes::EndingShape>(202, "It ends, or has ended.")
                .refuses(&one)
                .refuses(&[Code::Invalid, Code::UnsupportedMediaType]),
        ),
        Route::post(
            "/api/sessions/{id}/extend",
            Access::Scope(Scope::Sessions),
            Activity::Counts,
            extend,
            Doc::of(
                "extendSession",
                "Moves a session's deadline later; nothing happens to one that has ended.",
            )
            .gives::<shapes::ExtendedShape>(
                202,
                "The new deadline; of one that has ended, its end.",
            )
            .refuses(&one)
            .refuses(&[
                Code::Invalid,
                Code::UnsupportedMediaType,
                Code::AuditUnavailable,
            ]),
        ),
        Route::post(
            "/api/sessions/end-all",
            Access::Role(Scope::Admin, General::KillSwitch),
            Activity::Counts,
            end_all,
            Doc::of("endSessions", "The kill switch: ends many sessions at once.")
                .gives::<shapes::EndedSessionsShape>(202, "How many end.")
                .refuses(&[Code::Invalid, Code::UnsupportedMediaType]),
        ),
    ]
}

/// `GET /api/sessions`
async fn list(
    State(gate): State<Gate>,
    caller: Caller,
    asked: Asked,
) -> Result<Json<Value>, Refused> {
    let limit = asked.parsed("limit")?.unwrap_or(USUAL_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refused::invalid("limit", format_args!("not from 1 to {MAX_PAGE}")));
    }
    let query = SessionQuery {
        status: asked.parsed("status")?,
        user: whose(&gate, &caller, text(&asked, "user")?)?,
        harness: text(&asked, "harness")?,
        text: text(&asked, "q")?,
        label: text(&asked, "label")?,
        after: asked.parsed("cursor")?,
        limit,
    };
    let page = gate.engine().sessions(&query).await?;
    Ok(Json(json!({"items": page.items, "next_cursor": page.next})))
}

/// Whose sessions are listed: whoever may not see everybody's sees their own.
fn whose(gate: &Gate, caller: &Caller, asked: Option<String>) -> Result<Option<String>, Refused> {
    match (gate.admit_in_general(caller, General::ListAll), asked) {
        (Ok(()), asked) => Ok(asked),
        (Err(_), None) => Ok(Some(caller.name().ok_or(Refused::LoginRequired)?.to_owned())),
        (Err(_), Some(name)) if caller.name() == Some(name.as_str()) => Ok(Some(name)),
        (Err(refused), Some(_)) => Err(refused),
    }
}

fn text(asked: &Asked, name: &'static str) -> Result<Option<String>, Refused> {
    match asked.get(name) {
        Some(text) if text.len() > LONGEST => {
            Err(Refused::invalid(name, format_args!("longer than {LONGEST} bytes")))
        }
        text => Ok(text.map(ToOwned::to_owned)),
    }
}

/// `GET /api/sessions/{id}`
async fn show(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
) -> Result<Json<SessionView>, Refused> {
    let session = gate.admit(&caller, Deed::Read, &typed).await?;
    Ok(Json(gate.engine().with_extensions(session).await?))
}

/// `DELETE /api/sessions/{id}`
async fn end(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
    asked: Asked,
    fields: Fields,
) -> Result<(StatusCode, Json<Value>), Refused> {
    fields.only(&["reason"])?;
    let reason = fields.text("reason")?.or_else(|| asked.get("reason"));
    let session = gate.admit(&caller, Deed::End, &typed).await?;
    let ended = gate.engine().end(session.id, caller.ended_by(reason), &caller.actor()).await;
    let status = if ended { "ending" } else { session.status.name() };
    Ok((StatusCode::ACCEPTED, Json(json!({"id": session.id, "status": status}))))
}

/// `POST /api/sessions/{id}/extend`
async fn extend(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
    fields: Fields,
) -> Result<(StatusCode, Json<Value>), Refused> {
    fields.only(&["seconds", "why"])?;
    let by = fields.seconds("seconds")?;
    let by = by.ok_or_else(|| Refused::invalid("seconds", "say how much later"))?;
    let session = gate.admit(&caller, Deed::Extend, &typed).await?;
    let extension = Extension {
        by,
        who: caller.ended_by(fields.text("why")?),
        asker: caller.asker(),
        actor: caller.actor(),
    };
    let extended = match gate.engine().extend(session.id, &extension).await {
        // Nothing happens to what is over, or nearly so: it ends when it ended.
        Err(ExtendError::Over) => {
            let deadline = session.ended_at.unwrap_or_else(|| gate.engine().clock().wall());
            Extended { deadline, left: Duration::ZERO }
        }
        extended => extended?,
    };
    let answer = json!({
        "id": session.id,
        "deadline": extended.deadline.to_rfc3339(),
        "remaining_seconds": Seconds(extended.left),
    });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// The runner of this id, or of this name and owner; names alone are enough where one has it.
async fn runner_of(gate: &Gate, owner: Option<&str>, named: &str) -> Result<RunnerId, Refused> {
    let all = gate.engine().remote().list(None).await.map_err(StoreUnavailable::from)?;
    let found: Vec<_> = all
        .iter()
        .filter(|it| it.name == named || it.id.to_string() == named)
        .filter(|it| owner.is_none_or(|owner| it.owner_name == owner))
        .collect();
    match found.as_slice() {
        [one] => Ok(one.id),
        [] => Err(Refused::invalid("runner", format_args!("there is no such runner: {named:?}"))),
        _ => Err(Refused::invalid("runner", "more than one has this name; say \"user\" too")),
    }
}

/// `POST /api/sessions/end-all`
async fn end_all(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<(StatusCode, Json<Value>), Refused> {
    fields.only(&["user", "runner", "all", "reason"])?;
    let whose = match (fields.text("user")?, fields.text("runner")?, fields.flag("all")?) {
        (Some(user), None, false) if is_user_name(user) => {
            // A slip of the pen is not to look as if all had ended. A store that does not answer is no
            // reason to end nothing.
            if let Err(AccountError::NoUser(_)) = gate.engine().accounts().get(user).await {
                let line = format_args!("there is no such user: {user:?}");
                return Err(Refused::invalid("user", line));
            }
            EndAll::User(user.to_owned())
        }
        (Some(_), None, false) => return Err(Refused::invalid("user", "not a user's name")),
        (user, Some(runner), false) => EndAll::Runner(runner_of(&gate, user, runner).await?),
        (None, None, true) => EndAll::All,
        _ => return Err(Refused::invalid("all", "say either whose, or all")),
    };
    let by = caller.ended_by(fields.text("reason")?);
    let ended = gate.engine().end_all(&whose, &by, &caller.actor()).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"ended": ended}))))
}
