//! Checkpoints on their way to the system's log, which may be kept where whoever changes ours does not
//! reach.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use serde_json::Value;
use sojourn_core::audit::Checkpoint;

/// Where the system's log listens.
const PLACE: &str = "/dev/log";

/// What is for administrators (10), and worth noting (5).
const PRIORITY: u8 = 10 * 8 + 5;

/// The way there.
#[derive(Debug)]
pub struct Syslog {
    place: PathBuf,
    /// Whether the last one was not taken.
    failed: bool,
}

impl Default for Syslog {
    fn default() -> Self {
        Self::at(PLACE)
    }
}

impl Syslog {
    pub(super) fn at(place: impl Into<PathBuf>) -> Self {
        Self { place: place.into(), failed: false }
    }

    /// Sends a checkpoint, as `verify --checkpoint` takes it. Nobody waits for a log that does not read,
    /// and that it took none is said once.
    pub(super) fn send(&mut self, checkpoint: &Checkpoint) {
        let failed = self.try_send(checkpoint);
        match &failed {
            Err(error) if !self.failed => {
                let place = self.place.display();
                tracing::warn!(%place, %error, "checkpoints do not reach syslog");
            }
            Ok(()) if self.failed => tracing::info!("checkpoints reach syslog again"),
            _ => {}
        }
        self.failed = failed.is_err();
    }

    fn try_send(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let checkpoint = Value::Object(checkpoint.details());
        let line = format!("<{PRIORITY}>sojourn[{}]: audit {checkpoint}", std::process::id());
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(line.as_bytes(), &self.place).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use sojourn_core::audit::CheckpointKey;
    use sojourn_core::audit::Head;

    use super::*;

    #[test]
    fn a_checkpoint_is_sent_as_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("log");
        let checkpoint = CheckpointKey::from_seed(&[7; 32]).sign(Head::START);
        let mut syslog = Syslog::at(&place);
        syslog.send(&checkpoint);
        assert!(syslog.failed, "nobody is there");
        let log = UnixDatagram::bind(&place).unwrap();
        syslog.send(&checkpoint);
        assert!(!syslog.failed);
        let mut bytes = [0; 1024];
        let length = log.recv(&mut bytes).unwrap();
        let line = str::from_utf8(&bytes[..length]).unwrap();
        let (head, kept) = line.split_once(": audit ").unwrap();
        assert!(head.starts_with("<85>sojourn["), "{head}");
        assert_eq!(serde_json::from_str::<Checkpoint>(kept).unwrap(), checkpoint);
    }
}
