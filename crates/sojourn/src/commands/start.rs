//! `sojourn session start`: a new session, and this terminal in it.

use std::io;
use std::io::IsTerminal;

use serde::Deserialize;
use serde::Serialize;
use serde_json::json;
use sojourn_core::ids::SessionId;
use sojourn_engine::records::SHELL;
use sojourn_engine::view::SessionView;

use super::attach;
use super::attach::Wish;
use super::session;
use crate::cli::Common;
use crate::cli::Start;
use crate::failure::Outcome;
use crate::output;

/// What the gateway says of a new session.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    session_id: SessionId,
    status: String,
    harness: String,
}

pub(super) fn run(common: &Common, options: &Start) -> Outcome {
    let client = session::client(common)?;
    let mut body = json!({"harness": options.harness});
    let texts = [
        ("runner", &options.runner),
        ("profile", &options.profile),
        ("cwd", &options.cwd),
        ("why", &options.why),
        ("prompt", &options.prompt),
        ("model", &options.model),
        ("permission_mode", &options.permission_mode),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            body[name] = json!(text);
        }
    }
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let is_shell = options.harness == SHELL;
    if is_terminal
        && is_shell
        && let Ok(size) = rustix::termios::tcgetwinsize(io::stdout())
        && size.ws_col > 0
        && size.ws_row > 0
    {
        body["cols"] = json!(size.ws_col.min(1000));
        body["rows"] = json!(size.ws_row.min(1000));
    }
    let started: Started = client.create("/api/sessions", &body)?;
    if common.json {
        return output::json(&started);
    }
    if !is_terminal || options.detach {
        return output::say(started.session_id);
    }
    let view: SessionView = client.get(&session::path(&started.session_id.to_string())?)?;
    attach::attach(client, &view, Wish::default())
}
