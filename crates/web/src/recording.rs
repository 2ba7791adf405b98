//! `GET /api/sessions/{id}/recording`: the file as it stands.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::authz::Deed;
use sojourn_core::ids::SessionId;
use sojourn_core::scope::Scope;
use sojourn_core::time::Wall;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::follow;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Asked;
use crate::request::Named;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

const DAY: Duration = Duration::from_secs(86_400);

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/api/sessions/{id}/recording",
        Access::Scope(Scope::Read),
        Activity::Counts,
        read,
        Doc::of("readRecording", "What a channel of the session showed, as asciicast.")
            .query::<u16>("channel", "The channel, 0 where none is named.")
            .query::<u8>("follow", "1: what comes is sent as well, until it is complete.")
            .gives_bytes(200, "application/x-asciicast", "The recording up to here.")
            .refuses(&[Code::NotFound, Code::Conflict, Code::Gone, Code::Invalid])
            .refuses(&[Code::AuditUnavailable]),
    )]
}

/// The recording up to here; of a session that runs, that may be in the midst of a line.
async fn read(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
    asked: Asked,
) -> Result<Response, Refused> {
    let channel: u16 = asked.parsed("channel")?.unwrap_or(0);
    let to_the_end = match asked.get("follow") {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return Err(Refused::invalid("follow", "0 or 1")),
    };
    let session = gate.admit(&caller, Deed::Read, &typed).await?;
    let none = || match &session.recording_removed {
        Some(gone) => {
            let at = gone.at.to_rfc3339();
            Refused::Gone(format!("the recording was removed on {at}: {}", gone.why))
        }
        None => {
            let id = session.id.short();
            Refused::NotFound(format!("session {id} has no recording of a channel {channel}"))
        }
    };
    let file = open(gate.recordings(), session.id, session.created_at, channel).ok_or_else(none)?;
    let length = file.metadata().map_err(|_| none())?.len();
    let event = Event::new(gate.engine().clock().wall(), Action::RecordingRead, caller.actor())
        .session(session.id)
        .detail("channel", channel);
    // Root reads the file whether or not the log can be written.
    if let Err(error) = gate.engine().audit().record(event).await {
        tracing::warn!(session = %session.id, "a recording is read and that is not on record");
        if caller.user().is_some() {
            return Err(Refused::Audit(error.to_string()));
        }
    }
    if to_the_end {
        let (engine, id) = (gate.engine().clone(), session.id);
        let end = async move {
            match engine.session(id) {
                Some(session) => session.over().await,
                None => engine.agents().over(id).await,
            }
        };
        let gone = async move {
            gate.ended(&caller).await;
        };
        let body = follow::follow(file, end, gone);
        return Ok(([(CONTENT_TYPE, "application/x-asciicast")], body).into_response());
    }
    let file = tokio::fs::File::from_std(file).take(length);
    let body = Body::from_stream(ReaderStream::with_capacity(file, 64 << 10));
    Ok(([(CONTENT_TYPE, "application/x-asciicast")], body).into_response())
}

/// Recordings lie under the day their session was opened on, which may be the next when it was
/// asked for at midnight.
fn open(root: &Path, session: SessionId, created: Wall, channel: u16) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    [created, created.after(DAY)].into_iter().find_map(|day| {
        let path = root.join(relative(session, day, channel));
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
        file.metadata().ok()?.is_file().then_some(file)
    })
}

fn relative(session: SessionId, day: Wall, channel: u16) -> PathBuf {
    let (year, month, day) = day.date();
    let name = match channel {
        0 => format!("{session}.cast"),
        n => format!("{session}.{n}.cast"),
    };
    PathBuf::from(format!("{year:04}/{month:02}/{day:02}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_lie_under_their_day() {
        let id: SessionId = "01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().unwrap();
        let day = Wall(1_795_345_331_532_000);
        assert_eq!(
            relative(id, day, 2).to_str(),
            Some("2026/11/22/01932b5e-7c1a-7f00-8000-00003f2a91c0.2.cast")
        );
    }
}
