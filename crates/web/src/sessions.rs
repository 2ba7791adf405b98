//! `/api/sessions`: list, show, extend, end one, end many.

use axum::Json;
use axum::extract::ConnectInfo;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Value;
use serde_json::json;
use sojourn_core::authz::Asker;
use sojourn_core::authz::is_user_name;
use sojourn_core::ids::SHORTEST_ENDING;
use sojourn_core::ids::SessionId;
use sojourn_engine::extend::Extension;
use sojourn_engine::listing::EndAll;
use sojourn_engine::listing::MAX_PAGE;
use sojourn_engine::listing::SessionQuery;
use sojourn_engine::view::Seconds;
use sojourn_engine::view::SessionView;

use crate::answer::Refused;
use crate::local::Local;
use crate::local::Peer;
use crate::request::Asked;
use crate::request::Fields;
use crate::request::Named;

/// Sessions of one page, when nobody says how many.
const USUAL_PAGE: u32 = 50;
/// The longest text that is looked for, in bytes.
const LONGEST: usize = 256;

/// `GET /api/sessions`
pub(crate) async fn list(State(local): State<Local>, asked: Asked) -> Result<Json<Value>, Refused> {
    let limit = asked.parsed("limit")?.unwrap_or(USUAL_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refused::invalid("limit", format_args!("not from 1 to {MAX_PAGE}")));
    }
    let query = SessionQuery {
        status: asked.parsed("status")?,
        user: text(&asked, "user")?,
        harness: text(&asked, "harness")?,
        text: text(&asked, "q")?,
        label: text(&asked, "label")?,
        after: asked.parsed("cursor")?,
        limit,
    };
    let page = local.engine.sessions(&query).await?;
    Ok(Json(json!({"items": page.items, "next_cursor": page.next})))
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
pub(crate) async fn show(
    State(local): State<Local>,
    Named(typed): Named,
) -> Result<Json<SessionView>, Refused> {
    find(&local, &typed).await.map(Json)
}

/// `DELETE /api/sessions/{id}`
pub(crate) async fn end(
    State(local): State<Local>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Named(typed): Named,
    asked: Asked,
    fields: Fields,
) -> Result<(StatusCode, Json<Value>), Refused> {
    fields.only(&["reason"])?;
    let reason = fields.text("reason")?.or_else(|| asked.get("reason"));
    let session = find(&local, &typed).await?;
    let ended = local.engine.end(session.id, peer.ended_by(reason), &peer.actor()).await;
    let status = if ended { "ending" } else { session.status.name() };
    Ok((StatusCode::ACCEPTED, Json(json!({"id": session.id, "status": status}))))
}

/// `POST /api/sessions/{id}/extend`
pub(crate) async fn extend(
    State(local): State<Local>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Named(typed): Named,
    fields: Fields,
) -> Result<(StatusCode, Json<Value>), Refused> {
    fields.only(&["seconds", "why"])?;
    let by = fields.seconds("seconds")?;
    let by = by.ok_or_else(|| Refused::invalid("seconds", "say how much later"))?;
    let session = find(&local, &typed).await?;
    let extension = Extension {
        by,
        who: peer.ended_by(fields.text("why")?),
        asker: Asker::Local,
        actor: peer.actor(),
    };
    let extended = local.engine.extend(session.id, &extension).await?;
    let answer = json!({
        "id": session.id,
        "deadline": extended.deadline.to_rfc3339(),
        "remaining_seconds": Seconds(extended.left),
    });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// `POST /api/sessions/end-all`
pub(crate) async fn end_all(
    State(local): State<Local>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    fields: Fields,
) -> Result<(StatusCode, Json<Value>), Refused> {
    fields.only(&["user", "runner", "all", "reason"])?;
    if fields.text("runner")?.is_some() {
        return Err(Refused::invalid("runner", "there is no runner but the built-in one"));
    }
    let whose = match (fields.text("user")?, fields.flag("all")?) {
        (Some(user), false) if is_user_name(user) => EndAll::User(user.to_owned()),
        (Some(_), false) => return Err(Refused::invalid("user", "not a user's name")),
        (None, true) => EndAll::All,
        _ => return Err(Refused::invalid("all", "say either whose, or all")),
    };
    let by = peer.ended_by(fields.text("reason")?);
    let ended = local.engine.end_all(&whose, &by, &peer.actor()).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"ended": ended}))))
}

/// The one session that an id, or an ending of it, names.
pub(crate) async fn find(local: &Local, typed: &str) -> Result<SessionView, Refused> {
    let none = || Refused::NotFound("there is no such session".to_owned());
    let id = match typed.parse::<SessionId>() {
        Ok(id) => id,
        Err(_) => {
            let is_ending = typed.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            if !is_ending || !(SHORTEST_ENDING..=36).contains(&typed.len()) {
                return Err(none());
            }
            let found = local.engine.find(typed).await?;
            match found.as_slice() {
                [] => return Err(none()),
                [one] => *one,
                _ => return Err(Refused::Ambiguous(found)),
            }
        }
    };
    local.engine.session_view(id).await?.ok_or_else(none)
}
