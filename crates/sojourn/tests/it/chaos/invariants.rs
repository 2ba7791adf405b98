//! What must be true after every round, whatever went wrong in it.

mod tests;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sojourn_testkit::Gateway;

use super::ledger::Asked;
use super::ledger::Conversation;
use super::ledger::Ledger;
use super::ledger::Printed;
use super::people_said;
use super::town::LONG;
use super::town::OWNER;
use super::town::Street;
use super::town::Town;
use super::within;
use crate::leaving::traces;

/// The longest that a limited session may last, in milliseconds: its limit, the grace after it, and what
/// a machine needs that is very busy.
const LATEST: u64 = 60_000;

/// What is on record of one session.
#[derive(Debug, Default)]
struct Session {
    starts: usize,
    ends: usize,
    reason: String,
    exit: Value,
}

/// Everything that is on record.
struct Records {
    audit: Vec<Value>,
    sessions: BTreeMap<String, Session>,
    /// Recordings: where, whose, and what of output is in them.
    casts: Vec<(PathBuf, String, String)>,
    /// Where is what sandboxes left.
    kept: PathBuf,
}

/// Waits until everything has ended by itself that does, and holds what is on record against what people
/// saw.
pub(super) fn hold(town: &mut Town, street: &Street) {
    let healthy = within(LONG, || {
        let mut browser = street.browser();
        let health = browser.try_once(&sojourn_testkit::Ask::new("GET", "/api/health")).ok()?;
        (health.json()["status"] == "healthy").then_some(())
    });
    if healthy.is_none() {
        let told = street.browser().get("/api/health").text();
        street.ledger.breach(format!("it does not get well again: {told}"));
    }
    // An agent that was started in the moment of a crash waits for people who do not know of it.
    town.gateway.cli(&["session", "end-all", "--user", OWNER]);
    if within(LONG, || all_are_over(town).then_some(())).is_none() {
        let left = town.gateway.sessions();
        let left: Vec<_> = left.iter().filter(|session| !is_over(session)).collect();
        street.ledger.breach(format!("sessions do not end: {left:#?}"));
        town.gateway.cli(&["session", "end-all", "--all"]);
        within(LONG, || all_are_over(town).then_some(()));
    }
    verify(town, street, "while it runs");
    town.runner.stop();
    let status = town.gateway.stop();
    if !status.success() {
        street.ledger.breach(format!("the gateway's end: {status}\n{}", town.gateway.log()));
    }
    verify(town, street, "after the stop");
    if let Some(engine) = &town.engine
        && within(LONG, || engine.containers().is_empty().then_some(())).is_none()
    {
        street.ledger.breach(format!("containers are left: {:?}", engine.containers()));
    }
    let records = Records::of(town.gateway.audit(), &town.gateway.data());
    compare(&records, &street.ledger);
    nothing_is_left(&town.gateway, &town.cgroups, &street.ledger, LONG);
}

/// Holds what is on record against what people saw.
fn compare(records: &Records, ledger: &Ledger) {
    sessions(records, ledger);
    answers(records, ledger);
    for printed in ledger.printed.lock().unwrap().iter() {
        prints(records, ledger, printed);
    }
    for conversation in ledger.conversations.lock().unwrap().iter() {
        talks(records, ledger, conversation);
    }
}

fn is_over(session: &Value) -> bool {
    ["ended", "failed"].contains(&session["status"].as_str().unwrap_or_default())
}

fn all_are_over(town: &Town) -> bool {
    let (status, out, _) = town.gateway.try_cli(&["session", "ls", "--json"], "");
    let listed: Value = serde_json::from_str(&out).unwrap_or_default();
    let items = listed["items"].as_array().or(listed.as_array()).cloned();
    status.success() && items.is_some_and(|items| items.iter().all(is_over))
}

fn verify(town: &Town, street: &Street, when: &str) {
    let (status, out, err) = town.gateway.try_cli(&["verify"], "");
    if !status.success() || !out.is_empty() {
        street.ledger.breach(format!("verify, {when}: {status}: {out}{err}"));
    }
}

impl Records {
    /// What the audit log has, and what is in the data directory.
    fn of(audit: Vec<Value>, data: &Path) -> Self {
        let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
        for line in &audit {
            let Some(id) = line["session_id"].as_str() else { continue };
            let session = sessions.entry(id.to_owned()).or_default();
            match line["action"].as_str() {
                Some("session_started") => session.starts += 1,
                Some("session_ended") => {
                    session.ends += 1;
                    let reason = line["details"]["reason"].as_str();
                    session.reason = reason.unwrap_or_default().to_owned();
                    session.exit = line["details"]["exit"].clone();
                }
                _ => {}
            }
        }
        let casts = crate::files_below(&data.join("recordings"))
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == "cast"))
            .map(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let id = name.split('.').next().unwrap().to_owned();
                let output = output_of(&path);
                (path, id, output)
            })
            .collect();
        Self { audit, sessions, casts, kept: data.join("kept") }
    }
}

/// What was printed, as a recording has it.
fn output_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let events = text.lines().skip(1).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event[1] == "o")
        .filter_map(|event| event[2].as_str().map(str::to_owned))
        .collect()
}

/// Every session has one start and one end; no line is there twice.
fn sessions(records: &Records, ledger: &Ledger) {
    for (id, session) in &records.sessions {
        if (session.starts, session.ends) != (1, 1) && (session.starts, session.ends) != (0, 0) {
            ledger.breach(format!("{id}: {session:?}"));
        }
    }
    for id in ledger.begun.lock().unwrap().iter() {
        if records.sessions.get(id).is_none_or(|session| session.starts == 0) {
            ledger.breach(format!("{id} was answered for, and its start is not on record"));
        }
    }
    for (path, id, output) in &records.casts {
        let known = records.sessions.get(id).is_some_and(|session| session.starts == 1);
        let told = sidecar(path)["end_reason"].as_str().unwrap_or("none").to_owned();
        let reason = records.sessions.get(id).map_or("none", |session| session.reason.as_str());
        if known && told != reason {
            let path = path.display();
            ledger.breach(format!("{path}: its sidecar says {told}, the log says {reason}"));
        }
        if !known && !output.is_empty() {
            let path = path.display();
            ledger.breach(format!("{path}: a recording of a session that never began"));
        }
    }
    let mut ids = HashSet::new();
    for line in &records.audit {
        if !ids.insert(line["event_id"].as_str().unwrap_or_default()) {
            ledger.breach(format!("twice in the audit log: {line}"));
        }
    }
}

/// What was answered is on record, and no more than was asked for.
fn answers(records: &Records, ledger: &Ledger) {
    for ((action, user), Asked { asked, answered }) in ledger.asked.lock().unwrap().iter() {
        let of_it = |line: &&Value| {
            let by = &line["actor"]["user"];
            let named = by == user.as_str() || line["details"]["user"] == user.as_str();
            line["action"] == *action && (named || line["details"]["username"] == user.as_str())
        };
        let found = records.audit.iter().filter(of_it).count();
        ledger.tell(format!("{action} {user}: {answered} ≤ {found} ≤ {asked}"));
        if found < *answered {
            ledger.breach(format!("{answered} {action} of {user}, {found} on record"));
        }
        // One of them was before the round. A try that nobody could look into is a failed one as well.
        if *action == "login_succeeded" && found > *asked + 1 {
            ledger.breach(format!("{asked} {action} of {user}, {found} on record"));
        }
    }
    for digest in ledger.transfers.lock().unwrap().iter() {
        let of_it = |line: &&Value| {
            line["action"] == "file_transferred" && line["details"]["sha256"] == digest.as_str()
        };
        let found = records.audit.iter().filter(of_it).count();
        if found != 2 {
            ledger.breach(format!("{found} transfers of {digest} on record"));
        }
    }
}

/// The counted lines of a program, so many of them.
fn counted(tag: &str, lines: impl Iterator<Item = u64>, end: &str) -> String {
    lines.map(|line| format!("{tag}-{line}{end}")).collect()
}

/// A recording has what the program printed from the beginning without a gap; at least all that anybody
/// saw; and all there was to print, where the program came to its end.
fn prints(records: &Records, ledger: &Ledger, printed: &Printed) {
    let Printed { tag, .. } = printed;
    let first = format!("{}{tag}-0", printed.before);
    let found = records.casts.iter().find(|(_, id, output)| match &printed.session {
        Some(session) => id == session,
        None => output.starts_with(&first),
    });
    let Some((path, id, output)) = found else {
        if !printed.seen.is_empty() {
            ledger.breach(format!("{tag}: {} bytes seen, no recording", printed.seen.len()));
        }
        return;
    };
    let session = &records.sessions[id];
    let whole =
        |lines: u64, end: &str| format!("{}{}", printed.before, counted(tag, 0..lines, end));
    let end = if output.contains("\r\n") { "\r\n" } else { "\n" };
    let longest = printed.lines.unwrap_or(100_000);
    let wanted = whole(longest, end);
    let seen = String::from_utf8_lossy(&printed.seen);
    let about = format!("{tag} {} ({})", path.display(), session.reason);
    if !wanted.starts_with(output.as_str()) {
        ledger.breach(format!("{about}: not what was printed: {output:?}"));
    }
    if !output.starts_with(seen.as_ref()) {
        ledger.breach(format!("{about}: seen {seen:?}, recorded {output:?}"));
    }
    if session.reason == "exited" && printed.lines.is_some() && *output != wanted {
        ledger.breach(format!("{about}: the program came to its end, recorded {output:?}"));
    }
    if printed.told_end && printed.lines.is_some() && seen != wanted {
        ledger.breach(format!("{about}: told of the end, seen {seen:?}"));
    }
    // A session goes on while its connection does: what became of it after its program's end, on record
    // as a whole, is another matter.
    let lost_afterwards = session.reason == "runner_lost" && *output == wanted;
    let has_ended = session.reason == "exited" || lost_afterwards;
    if printed.told_end && printed.lines.is_some() && !has_ended {
        ledger.breach(format!("{about}: a person was told that it exited"));
    }
    if printed.lines.is_none() && session.reason == "max_runtime" {
        let lasted = sidecar(path)["duration_ms"].as_u64().unwrap_or(0);
        ledger.tell(format!("{about}: lasted {lasted} ms"));
        if lasted > LATEST {
            ledger.breach(format!("{about}: lasted {lasted} ms"));
        }
    }
    let Some(written) = written_down(&records.kept, id, tag) else { return };
    // It printed the line, then wrote it down. Where its shim died, so did what was on its way.
    let lost = ["runner_lost", "failed"].contains(&session.reason.as_str());
    // What a full disk had no room for is counted.
    let counted = gap_of(path);
    let printed = sidecar(path)["lease"]["output_bytes"].as_u64();
    let accounted = counted > 0 && Some(output.len() as u64 + counted) == printed;
    if accounted {
        ledger.tell(format!("{about}: {counted} bytes had no room, and are counted"));
    }
    if !lost && !accounted && !output.contains(&format!("{tag}-{written}{end}")) {
        ledger.breach(format!("{about}: it had printed line {written}; recorded {output:?}"));
    }
}

/// How many bytes a recording says it has not.
fn gap_of(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let events = text.lines().skip(1).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let notes = events.filter(|event| event[1] == "m");
    let gap = |event: Value| -> Option<u64> {
        event[2].as_str()?.strip_prefix("recording gap: ")?.split(' ').next()?.parse().ok()
    };
    notes.filter_map(gap).sum()
}

/// What is beside a recording.
fn sidecar(cast: &Path) -> Value {
    let text = fs::read(cast.with_extension("json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// How far a program was, by what it left in its sandbox.
fn written_down(kept: &Path, id: &str, tag: &str) -> Option<u64> {
    let kept = fs::read_dir(kept).ok()?.filter_map(Result::ok);
    let of_it = kept
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(id)))?;
    let tar = of_it.join("files.tar");
    let output = Command::new("tar").arg("-xOf").arg(tar).args(["--wildcards", "*root/n"]).output();
    let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
    text.strip_prefix(tag)?.trim().parse().ok()
}

/// Every event of a conversation is there once, and what the agent said is what it said.
fn talks(records: &Records, ledger: &Ledger, conversation: &Conversation) {
    let Conversation { session: id, .. } = conversation;
    let Some((path, ..)) = records.casts.iter().find(|(_, of, _)| of == id) else {
        if conversation.events > 0 {
            ledger.breach(format!("{id}: {} events, no recording", conversation.events));
        }
        return;
    };
    let text = fs::read_to_string(path).unwrap_or_default();
    let events: Vec<Value> = text
        .lines()
        .skip(1)
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event[1] == "e")
        .filter_map(|event| serde_json::from_str(event[2].as_str()?).ok())
        .collect();
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    let wanted: Vec<u64> = (1..).take(numbers.len()).collect();
    if numbers != wanted || numbers.len() < conversation.events {
        let seen = conversation.events;
        ledger.breach(format!("{id}: {seen} events seen, recorded {numbers:?}"));
    }
    let said = people_said(&events);
    if !conversation.text.starts_with(&said) && !said.starts_with(&conversation.text) {
        ledger.breach(format!("{id}: it said {said:?}"));
    }
    if conversation.whole && said.len() < conversation.text.len() {
        let wanted = conversation.text.len();
        ledger.breach(format!("{id}: it said {} bytes of {wanted}", said.len()));
    }
    let granted = records
        .audit
        .iter()
        .filter(|line| line["session_id"] == id.as_str() && line["action"] == "permission_granted");
    let granted = granted.count();
    if granted != usize::from(conversation.granted) {
        ledger.breach(format!("{id}: {granted} grants on record"));
    }
}

/// No process, mount, control group or file is left that is not to be kept, at the latest after `patience`.
fn nothing_is_left(gateway: &Gateway, cgroups: &str, ledger: &Ledger, patience: Duration) {
    let own = gateway.data();
    let left = || -> Vec<String> {
        let mut left = traces(gateway, cgroups);
        // Its disk is ours. What is below `kept/` goes by age, also where its keeper was killed, and is
        // told to the next gateway where this one had no time.
        left.retain(|line| !line.contains(&format!(" / {} ", own.display())));
        left.retain(|line| !line.starts_with("kept/"));
        left.extend(gateway.leftovers());
        left
    };
    if within(patience, || left().is_empty().then_some(())).is_none() {
        ledger.breach(format!("left behind: {:#?}", left()));
    }
}
