//! The file `state` of a session's directory: what whoever restarts needs to carry on, or to clean
//! up after a shim that left no word.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::Pid;
use serde::Deserialize;
use serde::Serialize;
use sojourn_core::end::EndReason;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_core::wire::runner::About;
use sojourn_core::wire::shim::Summary;

use crate::files;
use crate::files::Durability;

/// The file's name.
pub const FILE: &str = "state";

/// Version of the file's shape.
pub const VERSION: u16 = 1;

/// The longest state that is read.
const LONGEST: u64 = 4 << 20;

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It has its sandbox; nothing runs yet.
    Assigned,
    /// Its first program was started: the lease runs.
    Running,
    /// It is being ended.
    Ending,
    /// Everything of it is gone and on record.
    Over,
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot, as in field 22 of its `stat`.
    pub start: u64,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u16,
    /// Where the session is in its life.
    pub phase: Phase,
    /// The session.
    pub session: SessionId,
    /// The sandbox's id.
    pub sandbox: String,
    /// The profile's name.
    pub profile: String,
    /// Who it is for.
    pub about: About,
    /// The limits it runs under.
    pub limits: Limits,
    /// The recording of channel 0, below `recordings/`.
    pub recording: String,
    /// Whether it has passwords in it, of which nothing else is to tell.
    #[serde(default)]
    pub passwords: bool,
    /// Which boot of the machine this is; the processes and the deadline are of no meaning in
    /// another one.
    pub boot: String,
    /// The shim.
    pub shim: Process,
    /// Process 1 of the sandbox, as the host sees it.
    pub init: Process,
    /// When the session got its sandbox.
    pub assigned_at: Wall,
    /// When its first program started.
    pub started_at: Option<Wall>,
    /// When its runtime is over, on the boot-time clock in microseconds; none before the first
    /// program starts, or without such a limit.
    pub deadline: Option<Mono>,
    /// Whether it is a honeypot's.
    #[serde(default)]
    pub honeypot: bool,
    /// Why it is ending, or ended.
    pub reason: Option<EndReason>,
    /// What it was, once it is over.
    pub summary: Option<Summary>,
}

impl State {
    /// Reads the state of the session whose directory is given.
    ///
    /// # Errors
    /// When it cannot be read or is none. One without a byte is not there: its name had reached the
    /// disk when the machine lost its power.
    pub fn read(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let bytes = files::read(dir, FILE, LONGEST)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Replaces the state of the session whose directory is given. Once the session is over it waits
    /// for the disk; before, a machine that loses its power has lost the session anyway.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        let durability = match self.phase {
            Phase::Over => Durability::Power,
            _ => Durability::Process,
        };
        files::replace(dir, FILE, &serde_json::to_vec(self)?, durability)
    }

    /// Whether the session's shim still runs.
    #[must_use]
    pub fn is_live(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot) && self.shim.is_alive()
    }
}

impl Process {
    /// The process with this number, as it runs now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let number = pid.as_raw_pid();
        let stat = std::fs::read(format!("/proc/{number}/stat"))?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a stat without a start");
        // Counted after the name, which may hold anything.
        let name_end = stat.iter().rposition(|byte| *byte == b')').ok_or_else(malformed)?;
        let field = stat[name_end..].split(|byte| *byte == b' ').nth(20).ok_or_else(malformed)?;
        let start = std::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
        let pid = u32::try_from(number).map_err(|_| malformed())?;
        Ok(Self { pid, start: start.ok_or_else(malformed)? })
    }

    /// Whether this very process is still there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.and_then(|pid| Self::of(pid).ok()).is_some_and(|now| now == *self)
    }
}

/// Which boot of the machine this is.
///
/// # Errors
/// When the kernel does not say.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself_from_its_successor() {
        let own = Process::of(rustix::process::getpid()).unwrap();
        assert_eq!(own.pid, std::process::id());
        assert!(own.is_alive());
        assert!(!Process { start: own.start + 1, ..own }.is_alive());
    }
}
