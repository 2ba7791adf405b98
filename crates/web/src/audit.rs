//! `GET /api/audit`: what is on record, the newest first; and whether all of it is as it was written.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

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
use sojourn_engine::audit::verify_until;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
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

/// One checks the whole log at a time.
static ONE: Semaphore = Semaphore::const_new(1);

/// So long that may take: less than any answer, so that it is said what to do instead.
const CHECKED_WITHIN: Duration = Duration::from_secs(15);

/// The most findings that are told.
const MOST_TOLD: usize = 50;

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
struct Entries {
    /// Entries as the log has them, the newest first.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
    /// Where the next page begins; none: this is the last.
    next_cursor: Option<String>,
}

/// What a check of the whole log found.
#[derive(Serialize, ToSchema)]
struct Verified {
    /// Whether nothing is wrong.
    whole: bool,
    /// Files that were read.
    files: u64,
    /// Entries that were read.
    lines: u64,
    /// Checkpoints whose signature is ours.
    checkpoints: u64,
    /// What is wrong, in the order of the log.
    findings: Vec<String>,
    /// How much more is wrong.
    more: u64,
    /// What is worth knowing and not wrong.
    notes: Vec<String>,
}

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    let verify = Route::get(
        "/api/audit/verify",
        Access::Role(Scope::Admin, General::ReadAudit),
        Activity::Counts,
        verify,
        Doc::of("verifyAudit", "Reads the whole log and checks its chain and checkpoints.")
            .gives::<Verified>(200, "What was found.")
            .refuses(&[Code::AuditUnavailable]),
    );
    let search = Route::get(
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
            .gives::<Entries>(200, "A page.")
            .refuses(&[Code::Invalid, Code::AuditUnavailable]),
    );
    vec![search, verify]
}

/// `GET /api/audit/verify`
async fn verify(State(gate): State<Gate>, _: Caller) -> Result<Json<Verified>, Refused> {
    let data_dir = gate.recordings().parent().map(Path::to_owned).ok_or(Refused::Bug)?;
    let turn = ONE.try_acquire().map_err(|_| Refused::Overloaded)?;
    let until = Instant::now() + CHECKED_WITHIN;
    let checking = tokio::task::spawn_blocking(move || {
        // The turn ends with the reading, whoever still waits for it.
        let _turn = turn;
        verify_until(&data_dir, until)
    });
    match checking.await {
        Ok(Ok(found)) => Ok(Json(Verified {
            whole: found.is_whole(),
            files: found.files,
            lines: found.lines,
            checkpoints: found.checkpoints,
            findings: found.findings.iter().take(MOST_TOLD).map(ToString::to_string).collect(),
            more: found.more + found.findings.len().saturating_sub(MOST_TOLD) as u64,
            notes: found.notes,
        })),
        Ok(Err(error)) if error.kind() == ErrorKind::TimedOut => {
            tracing::warn!("the audit log is too long to be checked for a page");
            Err(Refused::Audit(
                "the log is too long to be checked from here: run \"sojourn verify\" on the \
                 gateway's machine"
                    .to_owned(),
            ))
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the audit log cannot be read");
            Err(Refused::Audit("the audit log cannot be read; see the gateway's log".to_owned()))
        }
        Err(error) => {
            tracing::error!(%error, "checking the audit log broke");
            Err(Refused::Bug)
        }
    }
}

async fn list(State(gate): State<Gate>, asked: Asked) -> Result<Json<Entries>, Refused> {
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
    let turn = TURNS.acquire().await.map_err(|_| Refused::Overloaded)?;
    let looking = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        search(&dir, &query, before, limit)
    });
    match looking.await {
        Ok(Ok(found)) => Ok(Json(Entries {
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
