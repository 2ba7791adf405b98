//! Whether every recording is what was sealed: by its sidecar, and by the audit log.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use sojourn_core::ids::SessionId;
use sojourn_core::ids::is_named_by;
use sojourn_engine::audit::Finding;
use sojourn_term::cast;
use sojourn_term::cast::ReadError;
use sojourn_term::cast::Verified;
use sojourn_term::sidecar::Channel;
use sojourn_term::sidecar::Sidecar;

use super::Ends;
use super::Live;
use crate::recordings;
use crate::recordings::Part;

/// The longest sidecar.
const LONGEST_SIDECAR: u64 = 16 << 20;
/// The most findings that are kept; more are counted.
const MAX_FINDINGS: usize = 1000;
/// How often somebody who waits is told how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// What the check of all recordings found.
#[derive(Default)]
pub(super) struct Recordings {
    /// Sessions that they are of.
    pub(super) sessions: BTreeSet<SessionId>,
    /// Recordings that were read.
    pub(super) files: u64,
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
    /// How much more is wrong.
    pub(super) more: u64,
    /// What is worth knowing and not wrong.
    pub(super) notes: Vec<String>,
    /// Whether something is missing: then it may have been removed since the log was read.
    pub(super) is_missing: bool,
}

/// The files of one session on one day.
struct Stay<'a> {
    session: SessionId,
    /// The directory, in full.
    day: &'a Path,
    /// The directory, below the data directory.
    shown: &'a Path,
    has_sidecar: bool,
    channels: Vec<u16>,
}

impl Recordings {
    /// Checks the recordings under `root`: all, or those of the sessions that `wanted` names.
    pub(super) fn check(
        root: &Path,
        wanted: &[String],
        live: &Live,
        ends: &Ends,
    ) -> io::Result<Self> {
        let mut found = Self::default();
        let is_wanted = |id: SessionId| {
            wanted.is_empty() || wanted.iter().any(|typed| is_named_by(&id.0, typed))
        };
        let mut told = Instant::now();
        let days = if root.is_dir() { recordings::days(root)? } else { Vec::new() };
        for day in days {
            let below = day.strip_prefix(root).unwrap_or(&day);
            let shown = Path::new("recordings").join(below);
            for stay in stays(&day, &shown)? {
                if is_wanted(stay.session) {
                    found.sessions.insert(stay.session);
                    found.stay(&stay, live, ends);
                }
                if told.elapsed() > PROGRESS && io::stderr().is_terminal() {
                    told = Instant::now();
                    let _ = write!(io::stderr(), "\r{} recordings checked ", found.files);
                }
            }
        }
        found.missing(root, ends, is_wanted);
        Ok(found)
    }

    fn add(&mut self, file: PathBuf, line: Option<u64>, what: impl std::fmt::Display) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { file, line, what: what.to_string() });
        } else {
            self.more += 1;
        }
    }

    /// Recordings that the audit log has on record and that are not there.
    fn missing(&mut self, root: &Path, ends: &Ends, is_wanted: impl Fn(SessionId) -> bool) {
        let wanted = ends.sealed.iter();
        let wanted = wanted.filter(|(id, _)| is_wanted(**id) && !ends.removed.contains(*id));
        let files = wanted.flat_map(|(_, recordings)| recordings.keys());
        let mut gone: Vec<_> = files.filter(|file| !root.join(file).is_file()).collect();
        gone.sort();
        for file in gone.into_iter().map(|file| Path::new("recordings").join(file)) {
            if !self.findings.iter().any(|finding| finding.file == file) {
                self.is_missing = true;
                self.add(file, None, "missing, and on record in the audit log");
            }
        }
    }

    fn stay(&mut self, stay: &Stay<'_>, live: &Live, ends: &Ends) {
        let id = stay.session;
        let name = format!("{id}.json");
        let sidecar = match stay.has_sidecar.then(|| read_sidecar(&stay.day.join(&name))) {
            Some(Ok(sidecar)) => Some(sidecar),
            Some(Err(what)) => {
                self.add(stay.shown.join(&name), None, what);
                None
            }
            None => None,
        };
        if sidecar.as_ref().is_some_and(|sidecar| sidecar.session != id.to_string()) {
            self.add(stay.shown.join(&name), None, "changed: it names another session");
        }
        match sidecar {
            Some(sidecar) if sidecar.ended_at.is_some() => self.sealed(stay, &sidecar, ends),
            None if stay.has_sidecar => self.alone(stay, ends),
            _ => self.open(stay, live, ends),
        }
    }

    /// A session that is over: its files are exactly those it was sealed with.
    fn sealed(&mut self, stay: &Stay<'_>, sidecar: &Sidecar, ends: &Ends) {
        // Files and forwards have none.
        let recorded = || sidecar.channels.iter().filter(|channel| !channel.recording.is_empty());
        for channel in recorded() {
            let is_own = u16::try_from(channel.n)
                .is_ok_and(|n| recordings::file_name(stay.session, n) == channel.recording);
            if is_own {
                self.sealed_channel(stay, channel, ends);
            } else {
                let sidecar = stay.shown.join(format!("{}.json", stay.session));
                let what = format_args!("changed: {:?} is no recording of it", channel.recording);
                self.add(sidecar, None, what);
            }
        }
        for n in &stay.channels {
            if !recorded().any(|channel| channel.n == u32::from(*n)) {
                let file = stay.shown.join(recordings::file_name(stay.session, *n));
                self.add(file, None, "added: its session's sidecar does not know it");
            }
        }
    }

    fn sealed_channel(&mut self, stay: &Stay<'_>, channel: &Channel, ends: &Ends) {
        let file = stay.shown.join(&channel.recording);
        // What is left of a removal that was cut short.
        let is_removed = ends.removed.contains(&stay.session);
        if is_removed && !stay.day.join(&channel.recording).exists() {
            return;
        }
        if channel.sha256.is_empty() {
            // An agent's, which was taken up again and is being written.
            if let Some(verified) = self.read_whole(stay, &channel.recording) {
                self.on_record(stay, file, &verified, ends);
            }
            return;
        }
        let Some((verified, fault)) = self.read(stay, &channel.recording) else { return };
        if verified.bytes != channel.bytes || verified.sha256 != channel.sha256 {
            self.changed(file, channel, &verified, fault);
        } else if let Some(fault) = fault {
            self.fault(file, fault);
        } else if verified.tail != cast::Tail::Whole {
            self.add(file, None, "changed: something stands behind its last line");
        } else {
            self.on_record(stay, file, &verified, ends);
        }
    }

    /// A recording that is not what was sealed: where, and what shows it.
    fn changed(
        &mut self,
        file: PathBuf,
        channel: &Channel,
        verified: &Verified,
        fault: Option<ReadError>,
    ) {
        let lines = channel.marks.as_ref().map(|marks| marks.changed(&verified.marks));
        let first = lines.as_ref().map(|lines| *lines.start());
        let what = match fault {
            Some(fault) if lines.is_none() => return self.fault(file, fault),
            Some(ReadError::Line { line, fault }) if first == Some(line) => fault.to_string(),
            // The line that was changed may be sound, and only the next one not follow it.
            Some(fault) => fault.to_string(),
            None if verified.bytes != channel.bytes => format!(
                "it has {} bytes of whole lines, and was sealed with {}",
                verified.bytes, channel.bytes
            ),
            None => format!("its SHA-256 is not {}, as sealed", channel.sha256),
        };
        match lines.filter(|lines| lines.start() < lines.end()) {
            Some(lines) => {
                let (first, last) = lines.into_inner();
                self.add(file, None, format_args!("changed in lines {first} to {last}: {what}"));
            }
            None => self.add(file, first, format_args!("changed: {what}")),
        }
    }

    /// Recordings whose sidecar says nothing any more.
    fn alone(&mut self, stay: &Stay<'_>, ends: &Ends) {
        for n in &stay.channels {
            let name = recordings::file_name(stay.session, *n);
            if let Some(verified) = self.read_whole(stay, &name) {
                self.on_record(stay, stay.shown.join(name), &verified, ends);
            }
        }
    }

    /// Holds a recording against the audit log, which a sidecar cannot be made to agree with.
    fn on_record(&mut self, stay: &Stay<'_>, file: PathBuf, verified: &Verified, ends: &Ends) {
        let below = file.strip_prefix("recordings").unwrap_or(&file);
        let sealed = ends.sealed.get(&stay.session).and_then(|end| end.get(below));
        if let Some(sha256) = sealed.filter(|sha256| **sha256 != verified.sha256) {
            let what = format!("changed: its SHA-256 is not {sha256}, as the audit log has it");
            self.add(file, None, what);
        }
    }

    /// A session that runs, or whose shim was lost before it could seal its recordings.
    fn open(&mut self, stay: &Stay<'_>, live: &Live, ends: &Ends) {
        for n in &stay.channels {
            self.read_whole(stay, &recordings::file_name(stay.session, *n));
        }
        if ends.sealed.contains_key(&stay.session) && live.is_live(stay.session) == Some(false) {
            let sidecar = stay.shown.join(format!("{}.json", stay.session));
            self.add(sidecar, None, "changed: the session ended, and this does not say so");
            return;
        }
        let id = stay.session.short();
        match live.is_live(stay.session) {
            Some(true) => {}
            Some(false) => {
                self.notes.push(format!(
                    "session {id} is not sealed; it will be recovered at next start"
                ));
            }
            None => self.notes.push(format!(
                "session {id} is not sealed: it runs, or will be recovered at next start (as root \
                 this can tell)"
            )),
        }
    }

    /// Reads a recording line by line. What is wrong with it is added, and nothing given.
    fn read_whole(&mut self, stay: &Stay<'_>, name: &str) -> Option<Verified> {
        let (verified, fault) = self.read(stay, name)?;
        match fault {
            None => Some(verified),
            Some(fault) => {
                self.fault(stay.shown.join(name), fault);
                None
            }
        }
    }

    /// Reads a recording: what it is, and the first line that is no line of a recording. What
    /// cannot be read is added, and nothing given.
    fn read(&mut self, stay: &Stay<'_>, name: &str) -> Option<(Verified, Option<ReadError>)> {
        let shown = stay.shown.join(name);
        self.files += 1;
        let file = match File::open(stay.day.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.is_missing = true;
                self.add(shown, None, "missing");
                return None;
            }
            Err(error) => {
                self.add(shown, None, error);
                return None;
            }
        };
        cast::survey(BufReader::with_capacity(256 << 10, file))
            .map_err(|fault| self.fault(shown, fault))
            .ok()
    }

    fn fault(&mut self, file: PathBuf, fault: ReadError) {
        match fault {
            ReadError::Line { line, fault } => self.add(file, Some(line), fault),
            error => self.add(file, None, error),
        }
    }
}

fn stays<'a>(day: &'a Path, shown: &'a Path) -> io::Result<Vec<Stay<'a>>> {
    let mut stays = BTreeMap::new();
    for name in recordings::of_day(day)? {
        let session = name.session;
        let stay = stays.entry(session).or_insert_with(|| Stay {
            session,
            day,
            shown,
            has_sidecar: false,
            channels: Vec::new(),
        });
        match name.part {
            Part::Sidecar => stay.has_sidecar = true,
            Part::Channel(n) => stay.channels.push(n),
        }
    }
    Ok(stays.into_values().collect())
}

fn read_sidecar(path: &Path) -> Result<Sidecar, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(LONGEST_SIDECAR).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Sidecar::from_json(&bytes).map_err(|error| format!("changed: not a sidecar: {error}"))
}
