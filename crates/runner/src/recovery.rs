//! What a runner finds when it starts, and what a lost shim leaves: sessions that go on, sessions that
//! ended while nobody looked, recordings without an end, control groups without a sandbox.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use sojourn_core::end::EndReason;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::shim::RecordingFacts;
use sojourn_core::wire::shim::Summary;
use sojourn_sandbox::prepared::ShimProcess;
use sojourn_sandbox::profile::slot_of;
use sojourn_sandbox::slots::Slot;
use sojourn_sandbox::slots::Slots;
use sojourn_shim::clock;
use sojourn_shim::files;
use sojourn_shim::shim::begin_sidecar;
use sojourn_shim::state::Phase;
use sojourn_shim::state::Process;
use sojourn_shim::state::State;
use sojourn_shim::state::boot_id;
use sojourn_term::cast;
use sojourn_term::cast::Marks;
use sojourn_term::commands;
use sojourn_term::sidecar::Channel;
use sojourn_term::sidecar::Sidecar;

use crate::closing::READ;
use crate::directories::Directories;
use crate::sessions::Entry;

/// Below a directory that is open, and through no link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// The longest sidecar that is read.
const LONGEST_SIDECAR: u64 = 4 << 20;

/// What the directory of one session turned out to be.
pub(crate) enum Found {
    /// Its shim lives.
    Running(Entry),
    /// It is over, and its end is not known to be on record.
    Over {
        /// What is known of it.
        entry: Entry,
        /// Whether nobody has read what it left, and nobody is left who could.
        is_unheld: bool,
    },
}

/// Looks at a session that the runner before this one had.
///
/// # Errors
/// When there is no state to be read: then nothing was ever run in it.
pub(crate) fn find(
    dirs: &Directories,
    slots: &Slots,
    taken: &mut BTreeMap<u32, Arc<Slot>>,
    id: SessionId,
) -> io::Result<Found> {
    let directory = dirs.session(id)?;
    let state = State::read(directory.as_fd())?;
    let live = state.is_live();
    let shim = if live { hold(&state.shim) } else { None };
    // Its shim has said its last word and stays for what the sandbox left.
    let ended = state.summary.clone().filter(|_| state.phase == Phase::Over);
    // Sessions that share a sandbox share its ids.
    let slot = slot_of(&state.sandbox).filter(|_| shim.is_some()).and_then(|number| {
        if let Some(slot) = slots.take_over(number) {
            taken.insert(number, Arc::new(slot));
        }
        taken.get(&number).cloned()
    });
    let (shim, over) = match shim {
        Some(pidfd) => (ShimProcess::new(pidfd, slot)?, false),
        // Any process that has ended will do: there is nothing to wait for.
        None => (ShimProcess::new(ended_process()?, None)?, true),
    };
    let mut entry = Entry {
        profile: state.profile.clone(),
        sandbox: state.sandbox.clone(),
        about: state.about.clone(),
        directory: Arc::new(directory),
        shim: Some(Arc::new(shim)),
        tether: None,
        layers: None,
        honeypot: state.honeypot,
        shared: None,
        ended,
        on_record: false,
        closed: false,
    };
    if over {
        // After a loss of power it is not known what was read of those that were over.
        let is_known = state.phase != Phase::Over || boot_id().is_ok_and(|boot| boot == state.boot);
        let is_unheld = is_known && is_unread(&entry.directory);
        entry.ended = Some(close(dirs, &entry.directory, state)?);
        entry.closed = true;
        return Ok(Found::Over { entry, is_unheld });
    }
    Ok(Found::Running(entry))
}

/// Whether a session has started, and what it left has not been read.
pub(crate) fn is_unread(directory: &OwnedFd) -> bool {
    let read = rustix::fs::accessat(directory, READ, Access::EXISTS, AtFlags::empty());
    read.is_err() && State::read(directory.as_fd()).is_ok_and(|state| state.started_at.is_some())
}

/// What is said of a session of which nothing is known.
pub(crate) fn unknown(session: SessionId) -> Summary {
    Summary {
        session,
        reason: EndReason::RunnerLost,
        exit: None,
        output_bytes: 0,
        started_at: None,
        ended_at: clock::wall(),
        recordings: Vec::new(),
        reached: None,
    }
}

/// What a session was whose shim is gone: its own last word, or what can be found out.
///
/// # Errors
/// When its state cannot be read or written.
pub(crate) fn after_shim(dirs: &Directories, directory: &OwnedFd) -> io::Result<Summary> {
    let state = State::read(directory.as_fd())?;
    close(dirs, directory, state)
}

fn close(dirs: &Directories, directory: &OwnedFd, mut state: State) -> io::Result<Summary> {
    if let (Phase::Over, Some(summary)) = (state.phase, &state.summary) {
        return Ok(summary.clone());
    }
    let same_boot = boot_id().is_ok_and(|boot| boot == state.boot);
    if same_boot && let Some(init) = hold(&state.init) {
        // It ends by itself when its shim does; this makes sure.
        let _gone = rustix::process::pidfd_send_signal(&init, Signal::KILL);
    }
    let reason = match (state.reason, same_boot) {
        (Some(reason), _) => reason,
        (None, true) => EndReason::RunnerLost,
        (None, false) => EndReason::Shutdown,
    };
    let (recordings, marks): (Vec<_>, Vec<_>) = recover(dirs, &state.recording).into_iter().unzip();
    let ended_at = clock::wall();
    let sealed = recordings.iter().zip(marks);
    if let Err(error) = close_sidecar(dirs, &state, reason, ended_at, sealed) {
        tracing::error!(session = %state.session, %error, "a sidecar cannot be completed");
    }
    let summary = Summary {
        session: state.session,
        reason,
        exit: None,
        output_bytes: 0,
        started_at: state.started_at,
        ended_at,
        recordings,
        reached: None,
    };
    state.phase = Phase::Over;
    state.reason = Some(reason);
    state.summary = Some(summary.clone());
    if let Err(error) = state.write(directory.as_fd()) {
        // A full disk: what is known is told all the same, and found out anew after a restart.
        tracing::error!(session = %state.session, %error, "a session's state cannot be written");
    }
    Ok(summary)
}

/// Cuts recordings to their last whole line and measures them.
pub(crate) fn recover(dirs: &Directories, first: &str) -> Vec<(RecordingFacts, Marks)> {
    let channels = match channels(dirs, first) {
        Ok(channels) => channels,
        Err(error) => {
            tracing::error!(file = first, %error, "recordings cannot be listed");
            return Vec::new();
        }
    };
    let mut recordings = Vec::new();
    for (channel, name) in channels {
        let recovered = open_recording(dirs, &name).map_err(cast::ReadError::from);
        match recovered.and_then(|mut file| cast::recover(&mut file)) {
            Ok(recovered) => {
                let verified = recovered.verified;
                let facts = RecordingFacts {
                    channel,
                    file: name,
                    bytes: verified.bytes,
                    sha256: verified.sha256,
                };
                recordings.push((facts, verified.marks));
            }
            Err(error) => tracing::error!(file = name, %error, "a recording cannot be recovered"),
        }
    }
    recordings
}

/// The channels of a session that have a recording, and its name, in order. They are looked for in
/// the directory: between two of them may be thousands that have none.
fn channels(dirs: &Directories, first: &str) -> io::Result<BTreeMap<u16, String>> {
    let (directory, name) = first.rsplit_once('/').ok_or(io::ErrorKind::InvalidData)?;
    let stem = name.strip_suffix(".cast").ok_or(io::ErrorKind::InvalidData)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let day = rustix::fs::openat2(dirs.recordings(), directory, flags, Mode::empty(), BENEATH)?;
    let mut found = BTreeMap::new();
    for entry in rustix::fs::Dir::new(day)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let channel = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(".cast"));
        let channel = match channel {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('.').and_then(|number| number.parse().ok()),
            None => None,
        };
        if let Some(channel) = channel {
            found.insert(channel, format!("{directory}/{name}"));
        }
    }
    Ok(found)
}

/// Puts into the sidecar what its shim could not any more.
fn close_sidecar<'a>(
    dirs: &Directories,
    state: &State,
    reason: EndReason,
    ended_at: Wall,
    sealed: impl Iterator<Item = (&'a RecordingFacts, Marks)>,
) -> io::Result<()> {
    let mut sealed = sealed.peekable();
    let (day, _) = state.recording.rsplit_once('/').ok_or(io::ErrorKind::InvalidData)?;
    let name = format!("{}.json", state.session);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let day = rustix::fs::openat2(dirs.recordings(), day, flags, Mode::empty(), BENEATH)?;
    let mut sidecar = match files::read(day.as_fd(), &name, LONGEST_SIDECAR) {
        // Its name had reached the disk when the power was lost, and not its bytes.
        Ok(bytes) if bytes.is_empty() => begin_sidecar(state),
        Ok(bytes) => Sidecar::from_json(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if sealed.peek().is_none() {
                return Ok(());
            }
            // Its shim was killed before there was time for one.
            begin_sidecar(state)
        }
        Err(error) => return Err(error),
    };
    sidecar.ended_at = Some(ended_at.to_rfc3339());
    sidecar.end_reason = Some(reason.name().to_owned());
    sidecar.recovered = true;
    // Its shim had noted those it was begun with; the recordings have them all.
    sidecar.commands.clear();
    for (facts, marks) in sealed {
        // It was written when the first program started; of later ones nobody knows what they were.
        let n = u32::from(facts.channel);
        if !sidecar.channels.iter().any(|channel| channel.n == n) {
            let recording = facts.file.rsplit('/').next().unwrap_or_default().to_owned();
            let kind = "unknown".to_owned();
            sidecar.channels.push(Channel { n, kind, recording, ..Channel::default() });
        }
        sidecar.seal(facts.channel.into(), facts.bytes, &facts.sha256, marks);
        if !state.passwords {
            let recording = io::BufReader::new(open_recording(dirs, &facts.file)?);
            let found = &mut |line: &str| sidecar.command(line.as_bytes());
            if let Err(error) = commands::recorded(recording, found) {
                tracing::warn!(file = facts.file, %error, "its commands are not all known");
            }
        }
    }
    files::replace(day.as_fd(), &name, &sidecar.to_json()?, files::Durability::Power)
}

/// Opens a recording for its repair, below `recordings/` and through no link.
fn open_recording(dirs: &Directories, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(dirs.recordings(), name, flags, Mode::empty(), BENEATH)?;
    Ok(File::from(fd))
}

/// Holds a process, if it is still this very one.
fn hold(process: &Process) -> Option<OwnedFd> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Looked at after it was opened: a number that was used again shows another start.
    process.is_alive().then_some(pidfd)
}

/// A descriptor that is readable at once, as the pidfd of a process that has ended is.
fn ended_process() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(1, rustix::event::EventfdFlags::CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sojourn_core::ids::SessionId;

    use super::*;

    #[test]
    fn recordings_are_found_however_far_apart_their_channels_are() {
        let session = SessionId::new();
        let data = std::env::temp_dir().join(format!("recovery-{session}"));
        for directory in ["recordings/2026/11/22", "sessions", "images"] {
            fs::create_dir_all(data.join(directory)).unwrap();
        }
        let day = data.join("recordings/2026/11/22");
        let other = SessionId::new();
        let whole = "{\"version\": 2, \"width\": 80, \"height\": 24}\n[0.5, \"o\", \"x\"]\n";
        for name in ["cast", "9.cast", "4000.cast", "70000.cast", "json", "x.cast", "9.cast.new"] {
            fs::write(day.join(format!("{session}.{name}")), format!("{whole}[1.0, \"o")).unwrap();
        }
        fs::write(day.join(format!("{other}.3.cast")), whole).unwrap();
        let dirs = Directories::open(&data).unwrap();
        let found = recover(&dirs, &format!("2026/11/22/{session}.cast"));
        let found: Vec<_> = found.iter().map(|(facts, _)| (facts.channel, facts.bytes)).collect();
        let length = whole.len() as u64;
        assert_eq!(found, [(0, length), (9, length), (4000, length)]);
        assert!(recover(&dirs, &format!("2026/11/23/{session}.cast")).is_empty());
        fs::remove_dir_all(&data).unwrap();
    }
}
