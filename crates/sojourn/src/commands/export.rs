//! `sojourn session export`: everything that is known of one session, in a directory.
//!
//! `session.json` is how the gateway shows it, `<id>[.<n>].cast` are the recordings of its channels,
//! `files.tar` what it left in its sandbox, `audit.jsonl` its lines of the audit log.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value as Json;
use serde_json::json;
use sojourn_engine::view::SessionView;

use super::session;
use crate::cli::Common;
use crate::cli::Export;
use crate::client::Client;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;

/// Channels that are asked for: a session cannot have had more recordings than this.
const CHANNELS: u16 = 1024;

/// Channels without a recording that may lie between two that have one.
const GAP: u16 = 16;

pub(super) fn run(common: &Common, options: &Export) -> Outcome {
    let client = session::client(common)?;
    let view: SessionView = client.get(&session::path(&options.id.id)?)?;
    let path = format!("/api/sessions/{}", view.id);
    let directory =
        options.to.clone().unwrap_or_else(|| PathBuf::from(format!("sojourn-{}", view.id.short())));
    fs::create_dir(&directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::at(&directory, "this is there already; name another directory with --to")
        }
        _ => Failure::at(&directory, error),
    })?;
    let mut written = vec![facts(&directory, &view)?];
    let mut missing = 0;
    for channel in 0..CHANNELS {
        let name = match channel {
            0 => format!("{}.cast", view.id),
            channel => format!("{}.{channel}.cast", view.id),
        };
        let from = format!("{path}/recording?channel={channel}");
        match copy(&client, &from, &directory, &name)? {
            true => {
                missing = 0;
                written.push(name);
            }
            false => missing += 1,
        }
        if missing == GAP {
            break;
        }
    }
    if view.files.as_ref().is_some_and(|files| files.removed.is_none())
        && copy(&client, &format!("{path}/files.tar"), &directory, "files.tar")?
    {
        written.push("files.tar".to_owned());
    }
    written.extend(audit(&client, &directory, &view)?);
    if common.json {
        return output::json(&json!({"directory": directory, "files": written}));
    }
    output::say(format_args!("{}: {}", directory.display(), written.join(", ")))
}

fn facts(directory: &Path, view: &SessionView) -> Result<String, Failure> {
    let name = "session.json".to_owned();
    let place = directory.join(&name);
    let text = serde_json::to_string_pretty(view).map_err(Failure::refused)?;
    fs::write(&place, text + "\n").map_err(|error| Failure::at(&place, error))?;
    Ok(name)
}

/// Writes what is at a path to a file; false, and no file, where there is no such thing.
fn copy(client: &Client, from: &str, directory: &Path, name: &str) -> Result<bool, Failure> {
    let place = directory.join(name);
    let failed = |error: std::io::Error| Failure::at(&place, error);
    let mut file = BufWriter::new(File::create_new(&place).map_err(failed)?);
    let found = client.copy(from, &mut file)?;
    file.flush().map_err(failed)?;
    if !found {
        fs::remove_file(&place).map_err(failed)?;
    }
    Ok(found)
}

/// Its lines of the audit log, oldest first; none, where the caller may not read it.
fn audit(client: &Client, directory: &Path, view: &SessionView) -> Result<Option<String>, Failure> {
    let mut lines = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: Json =
            match client.get(&format!("/api/audit?session={}&limit=200{cursor}", view.id)) {
                Ok(page) => page,
                Err(Failure::Refused(why)) => {
                    complain(format_args!("note: without its audit lines: {why}"));
                    return Ok(None);
                }
                Err(failure) => return Err(failure),
            };
        lines.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", session::percent(next)),
            None => break,
        }
    }
    let place = directory.join("audit.jsonl");
    let failed = |error: std::io::Error| Failure::at(&place, error);
    let mut file = BufWriter::new(File::create_new(&place).map_err(failed)?);
    for line in lines.iter().rev() {
        writeln!(file, "{line}").map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    Ok(Some("audit.jsonl".to_owned()))
}
