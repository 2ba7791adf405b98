//! Where a runner keeps what has to outlive it: one directory for each gateway and name, used by one
//! runner at a time.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use sha2::Digest;
use sha2::Sha256;
use sojourn_core::ids::SessionId;

/// A runner's directory, held as long as the runner lives.
#[derive(Debug)]
pub(super) struct State {
    directory: PathBuf,
    _lock: File,
}

/// Why there is no directory to work in.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    /// Another runner works there.
    #[error(
        "another runner (pid {pid}) runs for this gateway under the same name; stop it, or give \
         this one another name with --name"
    )]
    Taken {
        /// Its process.
        pid: String,
    },
    /// The system's words.
    #[error("{0}: {1}")]
    System(String, String),
}

impl State {
    /// Makes and locks the directory below `parent`.
    pub(super) fn open(parent: &Path, gateway: &str, name: &str) -> Result<Self, StateError> {
        let directory = parent.join(key(gateway, name));
        let failed = |path: &Path, error: &io::Error| {
            StateError::System(path.display().to_string(), crate::tls::plain(error))
        };
        let sessions = directory.join("sessions");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&sessions);
        made.map_err(|error| failed(&sessions, &error))?;
        let path = directory.join("runner.lock");
        let opened = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut lock = opened.map_err(|error| failed(&path, &error))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _unread = Read::by_ref(&mut lock).take(32).read_to_string(&mut holder);
            return Err(StateError::Taken { pid: holder.trim().to_owned() });
        }
        let mut written = || -> io::Result<()> {
            lock.rewind()?;
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())
        };
        written().map_err(|error| failed(&path, &error))?;
        Ok(Self { directory, _lock: lock })
    }

    /// The directory of one session.
    pub(super) fn session(&self, session: SessionId) -> PathBuf {
        self.directory.join("sessions").join(session.to_string())
    }

    /// Where it is remembered which commands were done.
    pub(super) fn receipts(&self) -> PathBuf {
        self.directory.join("receipts.jsonl")
    }

    /// What agents' conversations are kept by.
    pub(super) fn agents(&self) -> PathBuf {
        self.directory.join("agents")
    }

    /// What the sandbox at this place is made in.
    pub(super) fn chamber(&self, place: u32) -> PathBuf {
        self.directory.join("chambers").join(place.to_string())
    }

    /// The sessions that something is kept of, the oldest first.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        let entries = fs::read_dir(self.directory.join("sessions"));
        let entries = entries.into_iter().flatten().filter_map(Result::ok);
        let mut sessions: Vec<SessionId> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        sessions.sort_unstable();
        sessions
    }
}

/// A name for the directory: readable, and different for different gateways and names.
fn key(gateway: &str, name: &str) -> String {
    let letters = |text: &str| -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        text.trim_start_matches("https://")
            .trim_start_matches("http://")
            .chars()
            .map(plain)
            .take(40)
            .collect()
    };
    let digest = Sha256::digest(format!("{gateway}\0{name}"));
    let number: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{}_{}_{number}", letters(gateway), letters(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runner_works_in_a_directory_and_another_is_told_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::open(dir.path(), "https://gate.example", "laptop").unwrap();
        let second = State::open(dir.path(), "https://gate.example", "laptop").unwrap_err();
        assert!(second.to_string().contains(&format!("pid {}", std::process::id())), "{second}");
        assert!(State::open(dir.path(), "https://gate.example", "desktop").is_ok());
        assert!(State::open(dir.path(), "http://gate.example", "laptop").is_ok());
        drop(first);
        assert!(State::open(dir.path(), "https://gate.example", "laptop").is_ok());
    }
}
