//! `sojourn session`: what runs and what ran, asked of the gateway.

use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::extension::about;
use sojourn_core::status::Status;
use sojourn_core::units::Span;
use sojourn_engine::records::SHELL;
use sojourn_engine::view::ExtensionView;
use sojourn_engine::view::FilesView;
use sojourn_engine::view::GoneView;
use sojourn_engine::view::RecoveryView;
use sojourn_engine::view::Seconds;
use sojourn_engine::view::SessionView;

use super::attach;
use super::export;
use super::files;
use super::replay;
use super::start;
use crate::cli::Common;
use crate::cli::EndAll;
use crate::cli::List;
use crate::cli::Session as Command;
use crate::client::Client;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::output;
use crate::table::Table;
use crate::table::pairs;

/// The most sessions that are asked for at once.
const PAGE: u32 = 200;

/// How much of what went wrong a table shows, in characters.
const LONGEST_DETAIL: usize = 60;

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    match command {
        Command::Ls(options) => list(common, &options),
        Command::Show { id } => show(common, &id.id),
        Command::End { id, reason } => end(common, &id.id, reason.as_deref()),
        Command::EndAll(options) => end_all(common, &options),
        Command::Extend { id, by, why } => extend(common, &id.id, by, why.as_deref()),
        Command::Replay(options) => replay::run(common, &options),
        Command::Start(options) => start::run(common, &options),
        Command::Attach(options) => attach::run(common, &options),
        Command::Interrupt { id } => interrupt(common, &id.id),
        Command::Resume { id } => resume(common, &id.id),
        Command::Files(options) => files::run(common, &options),
        Command::Export(options) => export::run(common, &options),
    }
}

pub(super) fn client(common: &Common) -> Result<Client, Failure> {
    Client::new(|| Ok(super::load(common)?.config.data_dir.0))
}

/// The path of a session in the API.
pub(super) fn path(id: &str) -> Result<String, Failure> {
    let fits = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits && (4..=64).contains(&id.len()) {
        return Ok(format!("/api/sessions/{id}"));
    }
    let id = output::foreign(id);
    Err(Failure::Usage(format!("\"{id}\" is not an id, nor the last 4 characters of one or more")))
}

fn interrupt(common: &Common, id: &str) -> Outcome {
    let answer = order(common, id, "interrupt")?;
    if is_over(&answer) {
        return Err(Failure::refused("that session is over, so nothing runs there"));
    }
    done(common, id, &answer, "is told to stop what it does")
}

fn resume(common: &Common, id: &str) -> Outcome {
    let answer = order(common, id, "resume")?;
    if is_over(&answer) {
        return Err(Failure::refused(
            "that was a shell, and only agents' conversations are taken up again; start a new session",
        ));
    }
    done(common, id, &answer, "is taken up again")
}

/// Whether what an answer is about was over, so that nothing happened to it.
fn is_over(answer: &Json) -> bool {
    matches!(answer["status"].as_str(), Some("ended" | "failed"))
}

/// Has something done to a session that needs no more words.
fn order(common: &Common, id: &str, what: &str) -> Result<Json, Failure> {
    let path = format!("{}/{what}", path(id)?);
    client(common)?.call(Method::POST, &path, Some(&json!({})))
}

/// Says what was done to a session.
fn done(common: &Common, id: &str, answer: &Json, what: &str) -> Outcome {
    match common.json {
        true => output::json(answer),
        false => output::say(format_args!("{} {what}", short(id, answer))),
    }
}

/// A session's name in messages, by an answer about it.
fn short(id: &str, answer: &Json) -> String {
    let shown = answer["id"].as_str().unwrap_or(id);
    shown.get(shown.len().saturating_sub(8)..).unwrap_or(shown).to_owned()
}

/// A page of sessions, as the API gives it.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    items: Vec<SessionView>,
    next_cursor: Option<String>,
}

fn list(common: &Common, options: &List) -> Outcome {
    let client = client(common)?;
    let mut all = Page { items: Vec::new(), next_cursor: None };
    loop {
        let asked =
            options.limit.saturating_sub(u32::try_from(all.items.len()).unwrap_or(u32::MAX));
        let page: Page =
            client.get(&query(options, asked.min(PAGE), all.next_cursor.as_deref()))?;
        all.items.extend(page.items);
        all.next_cursor = page.next_cursor;
        if all.next_cursor.is_none() || all.items.len() >= options.limit as usize {
            break;
        }
    }
    if let (Some(user), true) = (&options.user, all.items.is_empty()) {
        is_there(&client, user)?;
    }
    if common.json {
        return output::json(&all);
    }
    let headings = ["ID", "USER", "PROFILE", "STATUS", "AGE", "LEFT", "IDLE", "OUTPUT", "END"];
    let mut table = Table::new(&headings);
    for session in &all.items {
        table.row(row(session));
    }
    table.print("no sessions")?;
    match all.items.iter().filter(|session| session.recording_removed.is_some()).count() {
        0 => {}
        1 => crate::failure::complain("note: the recording of 1 of these was removed"),
        count => crate::failure::complain(format_args!(
            "note: the recordings of {count} of these were removed"
        )),
    }
    if all.next_cursor.is_some() {
        crate::failure::complain(format_args!("there are more; see them with --limit"));
    }
    Ok(())
}

/// That somebody has no sessions is another thing than that there is nobody of this name. Whoever may
/// not list accounts is told nothing.
fn is_there(client: &Client, user: &str) -> Outcome {
    let Ok(users) = client.get::<Json>("/api/users") else { return Ok(()) };
    let mut users = users["items"].as_array().into_iter().flatten();
    if users.any(|known| known["name"] == user) {
        return Ok(());
    }
    let user = output::foreign(user);
    Err(Failure::refused(format!("there is no user \"{user}\"; \"sojourn user ls\" lists them")))
}

fn query(options: &List, limit: u32, cursor: Option<&str>) -> String {
    let limit = limit.to_string();
    let status = options.status.map(|status| status.name());
    let parts = [
        ("status", status),
        ("user", options.user.as_deref()),
        ("q", options.search.as_deref()),
        ("label", options.label.as_deref()),
        ("cursor", cursor),
        ("limit", Some(limit.as_str())),
    ];
    let parts = parts.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let pairs: Vec<String> =
        parts.map(|(name, value)| format!("{name}={}", percent(value))).collect();
    format!("/api/sessions?{}", pairs.join("&"))
}

/// A value as a query string has it.
pub(super) fn percent(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    value
        .bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn row(session: &SessionView) -> [String; 9] {
    let lease = session.lease.as_ref();
    let started = session.started_at.unwrap_or(session.created_at);
    let end = ending(session);
    [
        session.id.short(),
        session.user.clone().unwrap_or_else(|| "-".to_owned()),
        session.profile.clone(),
        status(session),
        output::duration(output::since(started)),
        lease.and_then(|l| l.remaining_seconds).map(|s| output::duration(s.0)).unwrap_or_default(),
        lease.map(|l| output::duration(l.idle_seconds.0)).unwrap_or_default(),
        lease
            .map(|lease| lease.output_bytes)
            .or(session.output_bytes)
            .map(output::size)
            .unwrap_or_default(),
        exit(session.exit.as_ref()).map_or(end.clone(), |exit| format!("{end} ({exit})")),
    ]
}

/// Why it ended, in few words: of what never started that is what went wrong.
fn ending(session: &SessionView) -> String {
    let Some(reason) = session.end_reason else { return String::new() };
    match &session.end_detail {
        Some(detail) if reason == EndReason::Failed => {
            let mut line: String = detail.chars().take(LONGEST_DETAIL + 1).collect();
            if line.chars().count() > LONGEST_DETAIL {
                line = line.chars().take(LONGEST_DETAIL - 1).chain(['…']).collect();
            }
            format!("{}: {line}", reason.name())
        }
        _ => reason.name().to_owned(),
    }
}

/// How it stands, and whether anybody is there.
fn status(session: &SessionView) -> String {
    let name = session.status.name();
    match (session.status, session.attached) {
        (Status::Running, false) if session.harness == SHELL => format!("{name} (detached)"),
        _ => name.to_owned(),
    }
}

fn exit(exit: Option<&Exit>) -> Option<String> {
    exit.map(|exit| match exit {
        Exit::Code(code) => code.to_string(),
        Exit::Signal(name) => format!("SIG{name}"),
    })
}

fn show(common: &Common, id: &str) -> Outcome {
    let session: SessionView = client(common)?.get(&path(id)?)?;
    if common.json {
        return output::json(&session);
    }
    let time = |at: Option<_>| at.map(output::time).unwrap_or_default();
    let seconds = |of: Option<sojourn_engine::view::Seconds>| {
        of.map_or("no limit".to_owned(), |seconds| output::duration(seconds.0))
    };
    let limits = &session.limits;
    let most = limits.max_output_bytes.map_or("no limit".to_owned(), output::size);
    let labels: Vec<String> =
        session.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let lease = session.lease.as_ref();
    let reason = session.end_reason.map(|reason| reason.name().to_owned()).unwrap_or_default();
    let printed = lease.map(|lease| lease.output_bytes).or(session.output_bytes);
    let extensions: Vec<String> = session.extensions.iter().map(extension).collect();
    let mut shown = vec![
        ("id", session.id.to_string()),
        ("status", status(&session)),
        ("user", session.user.clone().unwrap_or_else(|| "nobody".to_owned())),
        ("door", session.door.clone()),
        ("harness", session.harness.clone()),
        ("profile", session.profile.clone()),
        ("runner", session.runner.clone()),
        ("directory", session.cwd.clone().unwrap_or_default()),
        ("can be resumed", session.recovery.as_ref().map(resumes).unwrap_or_default()),
        ("why", session.why.clone().unwrap_or_default()),
        ("labels", labels.join(" ")),
        ("created", output::time(session.created_at)),
        ("started", time(session.started_at)),
        ("ended", time(session.ended_at)),
        ("end reason", reason),
        ("ended by", session.ended_by.clone().unwrap_or_default()),
        ("because", session.end_detail.clone().unwrap_or_default()),
        ("exit", exit(session.exit.as_ref()).unwrap_or_default()),
        ("max runtime", seconds(limits.max_runtime_seconds)),
        ("idle timeout", seconds(limits.idle_timeout_seconds)),
        ("max output", most),
        ("max cost", limits.max_cost_micros.map(sojourn_core::end::money).unwrap_or_default()),
        ("ends at", time(lease.and_then(|lease| lease.deadline))),
        (
            "time left",
            lease.and_then(|l| l.remaining_seconds).map_or(String::new(), |s| seconds(Some(s))),
        ),
        ("idle for", lease.map_or(String::new(), |lease| seconds(Some(lease.idle_seconds)))),
        ("output", printed.map(output::size).unwrap_or_default()),
        ("files", session.files.as_ref().map(left).unwrap_or_default()),
        ("recording", session.recording_removed.as_ref().map(removed).unwrap_or_default()),
    ];
    shown.extend(extensions.into_iter().map(|line| ("extended", line)));
    std::io::Write::write_all(&mut std::io::stdout().lock(), pairs(&shown).as_bytes())?;
    Ok(())
}

/// That it was extended, in a line.
fn extension(extended: &ExtensionView) -> String {
    let (at, until) = (output::time(extended.at), output::time(extended.deadline));
    let why = extended.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let by = output::duration(extended.seconds.0);
    format!("{at} by {}, {by} longer, to {until}{why}", extended.by)
}

/// Whether an agent's conversation can be taken up again, and where.
fn resumes(recovery: &RecoveryView) -> String {
    match recovery.can_resume {
        true => format!("yes, in {}", recovery.cwd),
        false => "not now".to_owned(),
    }
}

/// What it left in its sandbox, in a line.
fn left(files: &FilesView) -> String {
    let cut = if files.truncated { ", cut short" } else { "" };
    let size = output::size(files.bytes);
    let kept = format!("{} changed, {size} kept{cut}", files.entries);
    match &files.removed {
        Some(gone) => format!("{kept}; {}", removed(gone)),
        None => kept,
    }
}

fn removed(gone: &GoneView) -> String {
    format!("removed {}: {}", output::time(gone.at), gone.why)
}

fn end(common: &Common, id: &str, reason: Option<&str>) -> Outcome {
    let body = reason.map(|reason| json!({"reason": reason}));
    let answer: Json = client(common)?.call(Method::DELETE, &path(id)?, body.as_ref())?;
    if common.json {
        return output::json(&answer);
    }
    let short = short(id, &answer);
    match answer["status"].as_str() {
        Some("ended" | "failed") => output::say(format_args!("{short} was over already")),
        _ => output::say(format_args!("{short} is ending")),
    }
}

fn extend(common: &Common, id: &str, by: Span, why: Option<&str>) -> Outcome {
    let body = json!({"seconds": Seconds(by.0), "why": why});
    let path = format!("{}/extend", path(id)?);
    let answer: Json = client(common)?.call(Method::POST, &path, Some(&body))?;
    if answer["remaining_seconds"].as_f64() == Some(0.0) {
        return Err(Failure::refused("the session has ended, or is ending; start a new one"));
    }
    if common.json {
        return output::json(&answer);
    }
    let short = short(id, &answer);
    let left = answer["remaining_seconds"].as_f64().unwrap_or_default();
    let left = Duration::try_from_secs_f64(left).unwrap_or_default();
    output::say(format_args!("{short} ends in {}", about(left)))
}

fn end_all(common: &Common, options: &EndAll) -> Outcome {
    let body = match (&options.user, &options.runner) {
        (Some(user), None) => json!({"user": user}),
        (None, Some(runner)) => json!({"runner": runner}),
        (Some(user), Some(runner)) => json!({"user": user, "runner": runner}),
        (None, None) if options.all => json!({"all": true}),
        (None, None) => {
            let line = "say whose: --user NAME, --runner NAME, or --all".to_owned();
            return Err(Failure::Usage(line));
        }
    };
    let answer: Json = client(common)?.call(Method::POST, "/api/sessions/end-all", Some(&body))?;
    if common.json {
        return output::json(&answer);
    }
    match answer["ended"].as_u64() {
        Some(1) => output::say("1 session is ending"),
        count => output::say(format_args!("{} sessions are ending", count.unwrap_or(0))),
    }
}
