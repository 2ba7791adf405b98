//! `sojourn verify`: whether anybody changed the audit log or a recording. Silent when all is whole, but
//! for a person at a terminal, who is told how much that is.

mod recordings;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::audit::Action;
use sojourn_core::audit::Entry;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::is_named_by;
use sojourn_engine::audit::Finding;
use sojourn_engine::audit::Findings;
use sojourn_engine::audit::verify as verify_log;
use sojourn_shim::state::State;

use super::session;
use crate::cli::Common;
use crate::cli::Verify;
use crate::client::is_remote;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;

use recordings::Recordings;

/// The longest file of kept checkpoints.
const LONGEST_FILE: u64 = 4 << 20;

pub(super) fn run(common: &Common, options: &Verify) -> Outcome {
    for typed in &options.sessions {
        session::path(typed)?;
    }
    is_meant_here(common)?;
    let data = super::data_dir(common)?;
    // Both with the rights of whoever calls: the file is theirs, and states of sessions are root's.
    let kept = options.checkpoint.as_deref().map(Kept::read).transpose()?;
    let live = Live::look(&data);
    data.become_owner()?;

    let checked = || -> Result<(Findings, Recordings, Ends), Failure> {
        let mut ends = Ends::default();
        let log =
            verify_log(data.path(), kept.as_ref().map(Kept::path), &mut |entry| ends.see(entry))
                .map_err(|error| Failure::at(&data.audit(), error))?;
        let wanted = options.sessions.as_slice();
        let recordings = Recordings::check(&data.recordings(), wanted, &live, &ends)
            .map_err(|error| Failure::at(&data.recordings(), error))?;
        Ok((log, recordings, ends))
    };
    let (mut log, mut recordings, mut ends) = checked()?;
    if recordings.is_missing {
        // A recording may be removed between the one and the other; its removal is on record first.
        (log, recordings, ends) = checked()?;
    }
    for typed in &options.sessions {
        let known = recordings.sessions.iter().chain(&ends.sessions).chain(live.sessions.keys());
        is_one(typed, known)?;
    }
    for finding in &mut log.findings {
        if let Some(kept) = kept.as_ref().filter(|kept| finding.file == kept.path()) {
            finding.file.clone_from(&kept.name);
        }
    }

    let findings = || log.findings.iter().chain(&recordings.findings);
    let count = findings().count() as u64 + log.more + recordings.more;
    let notes: Vec<&String> = log.notes.iter().chain(&recordings.notes).collect();
    if common.json {
        output::json(&json!({
            "whole": count == 0,
            "audit": {"files": log.files, "lines": log.lines, "checkpoints": log.checkpoints},
            "recordings": recordings.files,
            "findings": findings().map(in_json).collect::<Vec<_>>(),
            "notes": notes,
        }))?;
    } else {
        let mut out = output::stdout();
        for finding in findings() {
            writeln!(out, "{}", output::foreign(&finding.to_string()))?;
        }
        out.flush()?;
        notes.iter().for_each(|note| complain(format_args!("note: {}", output::foreign(note))));
    }
    match count {
        // What runs it by the clock has nothing to pass on.
        0 if common.json || !io::stderr().is_terminal() => Ok(()),
        0 => {
            let (recordings, entries) = (recordings.files, log.lines);
            complain(format_args!(
                "whole: {recordings} {}, {entries} audit {}",
                if recordings == 1 { "recording" } else { "recordings" },
                if entries == 1 { "entry" } else { "entries" },
            ));
            Ok(())
        }
        1 => Err(Failure::refused("not whole: 1 finding; keep a copy of the data directory")),
        n => Err(Failure::refused(format!(
            "not whole: {n} findings; keep a copy of the data directory"
        ))),
    }
}

/// Files are read, not a gateway asked: whoever names a gateway elsewhere is not to be told of another
/// one that may be here.
fn is_meant_here(common: &Common) -> Outcome {
    let is_named = common.data_dir.is_some()
        || common.config.is_some()
        || std::env::var_os("SOJOURN_DATA_DIR").is_some();
    match is_remote() && !is_named {
        true => Err(Failure::Usage(
            "verify reads a data directory of this machine, and SOJOURN_URL names a gateway \
             elsewhere: run it there, or name a directory here with --data-dir DIR"
                .to_owned(),
        )),
        false => Ok(()),
    }
}

/// Whether what was typed names one session: that nothing was found in none would say nothing.
fn is_one<'a>(typed: &str, known: impl Iterator<Item = &'a SessionId>) -> Outcome {
    let named: BTreeSet<_> = known.filter(|id| is_named_by(&id.0, typed)).collect();
    match named.len() {
        1 => Ok(()),
        0 => Err(Failure::refused(format!(
            "there is no session {:?} here; \"sojourn session ls\" lists them",
            output::foreign(typed)
        ))),
        _ => {
            let named: Vec<String> = named.iter().map(ToString::to_string).collect();
            let named = named.join(", ");
            Err(Failure::refused(format!("more than one session ends so; name one of {named}")))
        }
    }
}

fn in_json(finding: &Finding) -> Json {
    json!({"file": finding.file, "line": finding.line, "what": finding.what})
}

/// The file of kept checkpoints, read before we become somebody who may not read it.
struct Kept {
    name: PathBuf,
    copy: PathBuf,
    _memory: OwnedFd,
}

impl Kept {
    fn read(path: &Path) -> Result<Self, Failure> {
        let copy = || -> io::Result<OwnedFd> {
            let memory = rustix::fs::memfd_create("checkpoint", MemfdFlags::CLOEXEC)?;
            let mut file = File::from(memory);
            io::copy(&mut io::Read::take(File::open(path)?, LONGEST_FILE), &mut file)?;
            Ok(file.into())
        };
        let memory = copy().map_err(|error| Failure::at(path, error))?;
        let copy = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        Ok(Self { name: path.to_owned(), copy, _memory: memory })
    }

    fn path(&self) -> &Path {
        &self.copy
    }
}

/// Sessions whose shims are there: their recordings still grow.
struct Live {
    sessions: HashMap<SessionId, bool>,
    /// Whether it could be looked at all.
    is_known: bool,
}

impl Live {
    fn look(data: &DataDir) -> Self {
        let mut live = Self { sessions: HashMap::new(), is_known: true };
        let root = data.path().join("sessions");
        let entries = match fs::read_dir(&root) {
            Ok(entries) => entries,
            Err(error) => {
                live.is_known = error.kind() == io::ErrorKind::NotFound;
                return live;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let state = rustix::fs::open(entry.path(), flags, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|directory| State::read(directory.as_fd()));
            live.sessions.insert(id, state.is_ok_and(|state| state.is_live()));
        }
        live
    }

    /// Whether the session runs; none when that cannot be told.
    fn is_live(&self, session: SessionId) -> Option<bool> {
        let known = self.sessions.get(&session).copied();
        known.or(if self.is_known { Some(false) } else { None })
    }
}

/// Recordings as the audit log has them on record.
#[derive(Default)]
struct Ends {
    /// By session, their digests by their file.
    sealed: HashMap<SessionId, HashMap<PathBuf, String>>,
    /// Sessions whose recordings were removed.
    removed: HashSet<SessionId>,
    /// Sessions of which there is anything on record.
    sessions: HashSet<SessionId>,
}

impl Ends {
    fn see(&mut self, entry: &Entry) {
        let Some(id) = entry.session_id else { return };
        self.sessions.insert(id);
        if entry.action == Action::RecordingRemoved.name() {
            self.removed.insert(id);
        }
        if entry.action != Action::SessionEnded.name() {
            return;
        }
        let details = &entry.details;
        let mut add = |file: Option<&Json>, sha256: Option<&Json>| {
            if let (Some(file), Some(sha256)) =
                (file.and_then(Json::as_str), sha256.and_then(Json::as_str))
            {
                let of_session = self.sealed.entry(id).or_default();
                of_session.insert(PathBuf::from(file), sha256.to_owned());
            }
        };
        add(details.get("recording"), details.get("recording_sha256"));
        // Those of further channels, where a session had more than one.
        for more in details.get("recordings").and_then(Json::as_array).into_iter().flatten() {
            add(more.get("file"), more.get("sha256"));
        }
    }
}
