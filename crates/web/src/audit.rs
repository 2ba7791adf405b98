//! `GET /api/audit`: what is on record, the newest first.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use sojourn_core::authz::General;
use sojourn_core::scope::Scope;
use sojourn_core::time::Wall;
use sojourn_engine::audit::DIR;
use sojourn_engine::audit::MAX_PAGE;
use sojourn_engine::audit::Query;
use sojourn_engine::audit::SearchError;
use sojourn_engine::audit::search;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::answer::Code;
use crate::answer::Refused;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Asked;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// Entries of one page, when nobody says how many.
const USUAL_PAGE: usize = 50;

/// The longest text that is looked for, in bytes.
const LONGEST: usize = 256;

/// So many look through the log at the same time.
static TURNS: Semaphore = Semaphore::const_new(2);

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
struct Page {
    /// Entries as the log has them, the newest first.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
    /// Where the next page begins; none: this is the last.
    next_cursor: Option<String>,
}

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/api/audit",
        Access::Role(Scope::Admin, General::ReadAudit),
        Activity::Counts,
        list,
        Doc::of("searchAudit", "What is on record, the newest first.")
            .query::<String>("user", "Of this user, who acted or whom it was about.")
            .query::<String>("session", "Of this session, by its id or an ending of it.")
            .query::<String>("action", "With this action.")
            .query::<String>("since", "At or after this time, RFC 3339.")
            .query::<String>("until", "Before this time, RFC 3339.")
            .query::<String>("cursor", "Where the page begins.")
            .query::<u32>("limit", "At most so many.")
            .gives::<Page>(200, "A page.")
            .refuses(&[Code::Invalid, Code::AuditUnavailable]),
    )]
}

async fn list(State(gate): State<Gate>, asked: Asked) -> Result<Json<Page>, Refused> {
    let limit = asked.parsed("limit")?.unwrap_or(USUAL_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refused::invalid("limit", format_args!("not from 1 to {MAX_PAGE}")));
    }
    let query = Query {
        user: text(&asked, "user")?,
        session: text(&asked, "session")?,
        action: text(&asked, "action")?,
        since: time(&asked, "since")?,
        until: time(&asked, "until")?,
    };
    let before: Option<u64> = asked.parsed("cursor")?;
    let dir = gate.recordings().with_file_name(DIR);
    let _turn = TURNS.acquire().await.map_err(|_| Refused::Overloaded)?;
    let found = tokio::task::spawn_blocking(move || search(&dir, &query, before, limit)).await;
    match found {
        Ok(Ok(found)) => Ok(Json(Page {
            items: found.entries,
            next_cursor: found.next.map(|next| next.to_string()),
        })),
        Ok(Err(error @ SearchError::Late)) => Err(Refused::invalid("since", error)),
        Ok(Err(SearchError::Io(error))) => {
            tracing::error!(%error, "the audit log cannot be read");
            Err(Refused::Audit("the audit log cannot be read; see the gateway's log".to_owned()))
        }
        Err(error) => {
            tracing::error!(%error, "looking through the audit log broke");
            Err(Refused::Bug)
        }
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

fn time(asked: &Asked, name: &'static str) -> Result<Option<Wall>, Refused> {
    let time = asked.get(name).map(Wall::from_rfc3339).transpose();
    time.map_err(|_| Refused::invalid(name, "not a time as 2026-11-22T08:00:00Z"))
}
