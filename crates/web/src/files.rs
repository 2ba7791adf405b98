//! `GET /api/sessions/{id}/files` and `…/files.tar`: what a session changed in its sandbox. All of it
//! is a stranger's data: it goes out as a download, never to be shown by itself.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_DISPOSITION;
use axum::http::header::CONTENT_LENGTH;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::authz::Deed;
use sojourn_core::scope::Scope;
use sojourn_core::wire::runner::LeftForm;
use sojourn_engine::remains::Left;
use sojourn_engine::remains::NothingLeft;
use sojourn_engine::view::SessionView;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio_util::io::ReaderStream;

use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Named;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// The longest line of a list. A path and the target of a link are 4 KiB each, and escaped.
const LONGEST_LINE: u64 = 256 << 10;

/// So much is read ahead of whoever takes it.
const AHEAD: usize = 64 << 10;

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    let codes = [Code::NotFound, Code::Conflict, Code::Gone, Code::RunnerUnavailable];
    vec![
        Route::get(
            "/api/sessions/{id}/files",
            Access::Scope(Scope::Read),
            Activity::Counts,
            list,
            Doc::of("listFiles", "What the session changed in its sandbox.")
                .gives_bytes(200, "application/json", "A list, as an attachment.")
                .refuses(&codes),
        ),
        Route::get(
            "/api/sessions/{id}/files.tar",
            Access::Scope(Scope::Read),
            Activity::Counts,
            tar,
            Doc::of("readFiles", "The files that the session changed in its sandbox.")
                .gives_bytes(200, "application/x-tar", "A tar archive, as an attachment.")
                .refuses(&codes),
        ),
    ]
}

/// The list.
async fn list(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
) -> Result<Response, Refused> {
    let (session, left) = open(&gate, &caller, &typed, LeftForm::List).await?;
    let (writer, reader) = tokio::io::duplex(AHEAD);
    let head = json!({"session_id": session.id, "name": left.name});
    // Ends with the file, or when nobody reads any more.
    tokio::spawn(async move {
        let file = BufReader::new(tokio::fs::File::from_std(left.file));
        let _nobody_reads = as_object(file, writer, &head).await;
    });
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (CONTENT_DISPOSITION, attachment(&session, "json")),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(reader))).into_response())
}

/// The tar.
async fn tar(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
) -> Result<Response, Refused> {
    let (session, left) = open(&gate, &caller, &typed, LeftForm::Tar).await?;
    let headers = [
        (CONTENT_TYPE, "application/x-tar".to_owned()),
        (CONTENT_LENGTH, left.bytes.to_string()),
        (CONTENT_DISPOSITION, attachment(&session, "tar")),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    let file = tokio::fs::File::from_std(left.file).take(left.bytes);
    let body = Body::from_stream(ReaderStream::with_capacity(file, AHEAD));
    Ok((headers, body).into_response())
}

async fn open(
    gate: &Gate,
    caller: &Caller,
    typed: &str,
    form: LeftForm,
) -> Result<(SessionView, Left), Refused> {
    let session = gate.admit(caller, Deed::Read, typed).await?;
    let left = gate.engine().left(session.id, form).await?;
    let form = match form {
        LeftForm::List => "list",
        LeftForm::Tar => "tar",
    };
    let event = Event::new(gate.engine().clock().wall(), Action::FilesRead, caller.actor())
        .session(session.id)
        .detail("name", left.name.clone())
        .detail("form", form);
    // Root reads the files whether or not the log can be written.
    if let Err(error) = gate.engine().audit().record(event).await {
        if caller.user().is_some() {
            return Err(Refused::Audit(error.to_string()));
        }
        tracing::warn!(session = %session.id, "files were read and that is not on record");
    }
    Ok((session, left))
}

fn attachment(session: &SessionView, ending: &str) -> String {
    format!("attachment; filename=\"{}.files.{ending}\"", session.id)
}

impl From<NothingLeft> for Refused {
    fn from(nothing: NothingLeft) -> Self {
        let line = nothing.to_string();
        match nothing {
            NothingLeft::Runs => Self::Conflict(line),
            NothingLeft::Nothing => Self::NotFound(line),
            NothingLeft::Gone { .. } => Self::Gone(line),
            NothingLeft::Runner(_) => Self::Runner(line),
            NothingLeft::Store(_) => Self::Store,
        }
    }
}

/// Makes one JSON object of a list with an object a line: those with a path are its items, what the
/// last one says stands beside them. A line that is none ends it.
async fn as_object(
    mut lines: impl AsyncBufReadExt + Unpin,
    mut out: impl AsyncWrite + Unpin,
    head: &Value,
) -> std::io::Result<()> {
    let head = head.to_string();
    let head = head.strip_suffix('}').unwrap_or(&head);
    out.write_all(format!("{head},\"items\":[").as_bytes()).await?;
    let mut totals = Map::new();
    let mut separator = "";
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
        if length == 0 {
            break;
        }
        match serde_json::from_slice::<Map<String, Value>>(&line) {
            Ok(item) if item.contains_key("path") => {
                let item = serde_json::to_string(&item)?;
                out.write_all(format!("{separator}\n{item}").as_bytes()).await?;
                separator = ",";
            }
            Ok(last) => totals = last,
            Err(_) => {
                totals = Map::from_iter([("truncated".to_owned(), json!(["unreadable"]))]);
                break;
            }
        }
    }
    totals.insert("next_cursor".to_owned(), Value::Null);
    let totals = Value::from(totals).to_string();
    let rest = totals.strip_prefix('{').unwrap_or("}");
    out.write_all(format!("],{rest}").as_bytes()).await?;
    out.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn object(list: &str) -> Value {
        let mut out = Vec::new();
        as_object(list.as_bytes(), &mut out, &json!({"name": "x"})).await.unwrap();
        serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {out:?}"))
    }

    #[tokio::test]
    async fn a_list_is_one_object_with_its_totals() {
        let list = "{\"path\":\"a\"}\n{\"path\":\"b\\\"]\"}\n{\"entries\":2,\"truncated\":[]}\n";
        assert_eq!(
            object(list).await,
            json!({"name": "x", "items": [{"path": "a"}, {"path": "b\"]"}], "entries": 2,
                "truncated": [], "next_cursor": null})
        );
        let cut = object("{\"path\":\"a\"}\n{\"path\":").await;
        assert_eq!(cut["items"], json!([{"path": "a"}]));
        assert_eq!(cut["truncated"], json!(["unreadable"]));
        assert_eq!(object("").await["items"], json!([]));
    }
}
