//! Who owns an agent's conversation. Two agents that write one transcript spoil it, so each
//! conversation has a file that names the process which may; a second one is refused while the first
//! one lives.
//!
//! A process is its id and its start time: ids come again, a pair does not.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::fs::flock;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

/// Why a conversation cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnerError {
    /// Somebody has it.
    #[error("the conversation is in use by process {0}; end its session first")]
    InUse(u32),
    /// Its file cannot be written.
    #[error("who owns the conversation cannot be written down: {0}")]
    Disk(#[from] io::Error),
}

/// A process, as no other one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    pid: u32,
    /// Clock ticks after boot.
    started: u64,
}

impl Process {
    /// The process with this id, if there is one.
    fn find(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may have some of its own.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        // A zombie writes nothing any more.
        (!matches!(state, "Z" | "X")).then_some(Self { pid, started })
    }
}

/// A conversation that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Owned {
    path: PathBuf,
    owner: Process,
}

/// Takes a conversation for a process.
///
/// # Errors
/// When another living process has it, or it cannot be written down.
pub(super) fn take(
    state_dir: &Path,
    harness: &str,
    conversation: &str,
    pid: u32,
) -> Result<Owned, OwnerError> {
    let directory = state_dir.join("conversations");
    fs::create_dir_all(&directory)?;
    // One at a time looks and writes.
    let lock = File::create(directory.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from)?;
    let name = Sha256::digest(format!("{harness}\0{conversation}").as_bytes());
    let name: String = name.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let path = directory.join(name);
    if let Some(owner) = owner(&path)
        && owner.pid != pid
        && Process::find(owner.pid) == Some(owner)
    {
        return Err(OwnerError::InUse(owner.pid));
    }
    // A process that is gone already owns nothing for long.
    let owner = Process::find(pid).unwrap_or(Process { pid, started: 0 });
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(serde_json::to_string(&owner).map_err(io::Error::other)?.as_bytes())?;
    fs::rename(&new, &path)?;
    Ok(Owned { path, owner })
}

fn owner(path: &Path) -> Option<Process> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Only our own: the process may have lost it, and another one has it.
        if owner(&self.path) == Some(self.owner) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Child;
    use std::process::Command;

    use super::*;

    /// A process that owns something, and is gone with the test.
    struct Owner(Child);

    impl Drop for Owner {
        fn drop(&mut self) {
            let _gone = self.0.kill();
            let _gone = self.0.wait();
        }
    }

    fn process() -> Owner {
        Owner(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    #[test]
    fn flaw_20_a_conversation_has_one_owner_while_that_lives() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = process();
        let second = process();
        let owned = take(dir.path(), "claude", "c-1", first.0.id()).unwrap();
        let refused = take(dir.path(), "claude", "c-1", second.0.id()).unwrap_err();
        assert!(matches!(refused, OwnerError::InUse(pid) if pid == first.0.id()), "{refused}");
        let other = take(dir.path(), "claude", "c-2", second.0.id()).unwrap();
        first.0.kill().unwrap();
        // Not reaped yet: a zombie is dead enough.
        let again = loop {
            match take(dir.path(), "claude", "c-1", second.0.id()) {
                Ok(again) => break again,
                Err(OwnerError::InUse(_)) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        drop(owned);
        assert!(owner(&again.path).is_some(), "the file of the new owner stays");
        first.0.wait().unwrap();
        drop((again, other));
        let left = fs::read_dir(dir.path().join("conversations")).unwrap().count();
        assert_eq!(left, 1, "the lock alone");
    }

    #[test]
    fn an_id_that_came_again_is_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id();
        let other = process();
        let owned = take(dir.path(), "x", "c", other.0.id()).unwrap();
        let stale = Process { pid: other.0.id(), started: 1 };
        fs::write(&owned.path, serde_json::to_string(&stale).unwrap()).unwrap();
        drop(take(dir.path(), "x", "c", me).unwrap());
    }
}
