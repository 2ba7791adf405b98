//! `sojourn runners`: machines that dial in, asked of the gateway.

use hyper::Method;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::time::Wall;

use super::session;
use crate::cli::Common;
use crate::cli::Runners as Command;
use crate::client::Client;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::output;
use crate::table::Table;

/// All runners, as the API gives them.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    items: Vec<Runner>,
    next_cursor: Option<String>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
struct Runner {
    id: String,
    name: String,
    owner: String,
    connected: bool,
    paused: bool,
    created_at: String,
    last_seen_at: Option<String>,
    address: Option<String>,
    sessions: u64,
    max_sessions: u64,
    about: Option<About>,
}

/// What it said of itself.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    build: String,
    host: String,
    os: String,
    arch: String,
    harnesses: Vec<Harness>,
    directories: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Harness {
    name: String,
    available: bool,
    version: Option<String>,
    note: Option<String>,
}

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    let client = session::client(common)?;
    match command {
        Command::Ls => list(common, &client),
        Command::Pause { name } => pause(common, &client, &name, true),
        Command::Resume { name } => pause(common, &client, &name, false),
        Command::Rm { name } => remove(common, &client, &name),
    }
}

fn list(common: &Common, client: &Client) -> Outcome {
    let page: Page = client.get("/api/runners")?;
    if common.json {
        return output::json(&page);
    }
    let headings = ["NAME", "OWNER", "STATUS", "SESSIONS", "HOST", "CAN RUN", "LAST SEEN"];
    let mut table = Table::new(&headings);
    for runner in &page.items {
        table.row(row(runner));
    }
    table.print("no runners; make one's token with \"sojourn token create --runner NAME\"")
}

fn row(runner: &Runner) -> [String; 7] {
    let status = match (runner.connected, runner.paused) {
        (true, false) => "connected",
        (true, true) => "connected, paused",
        (false, false) => "away",
        (false, true) => "away, paused",
    };
    let about = runner.about.as_ref();
    let harnesses = about.into_iter().flat_map(|about| &about.harnesses);
    let can_run: Vec<String> = harnesses
        .filter(|harness| harness.available)
        .map(|harness| output::foreign(&harness.name))
        .collect();
    let seen = runner.last_seen_at.as_deref().and_then(|at| Wall::from_rfc3339(at).ok());
    [
        output::foreign(&runner.name),
        output::foreign(&runner.owner),
        status.to_owned(),
        format!("{} of {}", runner.sessions, runner.max_sessions),
        about.map(|about| output::foreign(&about.host)).unwrap_or_default(),
        can_run.join(" "),
        seen.map_or_else(
            || "never".to_owned(),
            |at| format!("{} ago", output::duration(output::since(at))),
        ),
    ]
}

fn pause(common: &Common, client: &Client, name: &str, paused: bool) -> Outcome {
    let runner = named(client, name)?;
    let path = format!("/api/runners/{}/pause", session::percent(&runner.id));
    let answer: Json = client.call(Method::POST, &path, Some(&json!({"paused": paused})))?;
    if common.json {
        return output::json(&answer);
    }
    let name = output::foreign(&runner.name);
    match paused {
        true => output::say(format_args!("{name} is paused: no new session starts there")),
        false => output::say(format_args!("{name} takes new sessions again")),
    }
}

fn remove(common: &Common, client: &Client, name: &str) -> Outcome {
    let runner = named(client, name)?;
    let path = format!("/api/runners/{}", session::percent(&runner.id));
    let _nothing: Json = client.call(Method::DELETE, &path, None)?;
    match common.json {
        true => output::json(&json!({"removed": runner.id})),
        false => output::say(format_args!(
            "{} may not come any more: its token is revoked",
            output::foreign(&runner.name)
        )),
    }
}

/// The runner of this name; where several users have one, `USER/NAME` says whose.
fn named(client: &Client, typed: &str) -> Result<Runner, Failure> {
    let (owner, name) = match typed.split_once('/') {
        Some((owner, name)) => (Some(owner), name),
        None => (None, typed),
    };
    let page: Page = client.get("/api/runners")?;
    let is_it = |runner: &Runner| {
        (runner.name == name || runner.id == name)
            && owner.is_none_or(|owner| runner.owner == owner)
    };
    let mut found: Vec<Runner> = page.items.into_iter().filter(is_it).collect();
    let shown = output::foreign(typed);
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(Failure::refused(format!(
            "there is no runner \"{shown}\"; \"sojourn runners ls\" lists them"
        ))),
        (Some(_), _) => Err(Failure::Usage(format!(
            "several users have a runner \"{shown}\"; say whose, as in USER/{shown}"
        ))),
    }
}
