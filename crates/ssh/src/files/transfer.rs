//! One file on its way in or out, and the line that the audit log gets of it: path, direction, bytes,
//! SHA-256. All of it is computed from the bytes that pass.

use std::sync::Arc;
use std::time::Duration;

use sha2::Digest;
use sha2::Sha256;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::ids::SessionId;
use sojourn_engine::door::shown;

use super::error_text;
use super::evidence::Keeping;
use super::evidence::Kept;
use crate::connection::Connection;
use crate::gate::Gate;
use crate::gate::GateSession;
use crate::pace::Pace;

/// The longest path in the audit log, in characters.
const LONGEST_PATH: usize = 4096;

/// Transfers of one channel that may be on record at once; more wait for [`EVERY`].
const BURST: u32 = 1000;

/// One more a while: a client that does nothing but open and close files writes no more lines.
const EVERY: Duration = Duration::from_millis(2);

/// What a client is told of a transfer that is not on record: an input or output error.
const NOT_ON_RECORD: u32 = 5;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Into the sandbox.
    In,
    /// Out of it.
    Out,
}

/// A channel's transfers.
pub(crate) struct Ledger<G: Gate> {
    connection: Arc<Connection<G>>,
    session: G::Session,
    pace: Pace,
}

impl<G: Gate> Ledger<G> {
    pub(crate) fn new(connection: Arc<Connection<G>>, session: G::Session) -> Self {
        Self { connection, session, pace: Pace::new(BURST, EVERY) }
    }

    /// A file is opened that is to go this way.
    pub(crate) fn begin(&self, direction: Direction, path: &[u8]) -> Transfer<G> {
        Transfer {
            connection: self.connection.clone(),
            direction,
            path: path.to_vec(),
            hash: Sha256::new(),
            run: Run::Unbegun,
            bytes: 0,
            copied: None,
            error: None,
            short: false,
            whole: false,
            told: false,
            keep: direction == Direction::In && self.session.is_honeypot(),
            session: self.session.id(),
            evidence: None,
        }
    }

    /// A file was closed, and so is on record, before anybody is told that it is there. Waits where there
    /// have been too many. An error number when the record cannot be written.
    pub(crate) async fn close(&self, mut transfer: Transfer<G>) -> Result<(), u32> {
        self.pace.turn().await;
        transfer.whole = true;
        let kept = match &mut transfer.evidence {
            Some(keeping) => Some(keeping.finish().await),
            None => None,
        };
        let line = transfer.line(kept);
        if self.connection.gate.keep(line).await { Ok(()) } else { Err(NOT_ON_RECORD) }
    }

    /// Whether the session is a honeypot's.
    pub(crate) fn is_honeypots(&self) -> bool {
        self.session.is_honeypot()
    }

    /// What time it is, in seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.connection.gate.now().0 / 1_000_000).unwrap_or(0)
    }
}

/// Where the bytes that passed lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Unbegun,
    /// One after the other, from the first to the second.
    Ordered(u64, u64),
    /// Here and there; the least offset.
    Scattered(u64),
    /// To the end of the file, wherever that was; the client thought it here.
    Appended(u64),
}

/// One file on its way. When it is dropped without having been closed, it is on record as partial.
pub(crate) struct Transfer<G: Gate> {
    connection: Arc<Connection<G>>,
    direction: Direction,
    path: Vec<u8>,
    hash: Sha256,
    run: Run,
    bytes: u64,
    /// How much of it came from another file inside, if any did.
    copied: Option<u64>,
    error: Option<String>,
    short: bool,
    whole: bool,
    told: bool,
    session: SessionId,
    /// Whether what passes is evidence.
    keep: bool,
    evidence: Option<Keeping>,
}

impl<G: Gate> Transfer<G> {
    /// Everything goes to the end of the file, wherever the client says it is to go.
    pub(crate) fn appends_at(&mut self, offset: u64) {
        if self.run == Run::Unbegun {
            self.run = Run::Appended(offset);
        }
    }

    /// Some bytes passed.
    pub(crate) fn pass(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        let end = offset.saturating_add(length);
        self.run = match self.run {
            Run::Unbegun => Run::Ordered(offset, end),
            Run::Ordered(first, next) if next == offset => Run::Ordered(first, end),
            Run::Ordered(first, _) => Run::Scattered(first.min(offset)),
            Run::Scattered(first) => Run::Scattered(first.min(offset)),
            Run::Appended(first) => Run::Appended(first),
        };
        if !matches!(self.run, Run::Scattered(_)) {
            self.hash.update(bytes);
        }
        if self.keep {
            let begin = || Keeping::begin(self.connection.gate.clone(), self.session);
            self.evidence.get_or_insert_with(begin).pass(bytes);
        }
    }

    /// Some bytes came from another file inside; nobody here has seen them.
    pub(crate) fn copied(&mut self, bytes: u64) {
        self.copied = Some(self.copied.unwrap_or(0).saturating_add(bytes));
    }

    /// What passed is not all that there was.
    pub(crate) fn not_whole(&mut self) {
        self.short = true;
    }

    /// Some of it could not be read or written.
    pub(crate) fn failed(&mut self, errno: u32) {
        self.error.get_or_insert_with(|| error_text(errno));
    }

    /// What the audit log gets of it.
    fn line(&mut self, kept: Option<Kept>) -> Event {
        self.told = true;
        let direction = match self.direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        let mut event = self
            .connection
            .event(Action::FileTransferred)
            .detail("path", shown(&self.path, LONGEST_PATH))
            .detail("direction", direction)
            .detail("bytes", self.bytes);
        let digest = || {
            let digest = self.hash.clone().finalize();
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let mut partial = !self.whole || self.short || self.error.is_some();
        match self.run {
            _ if self.copied.is_some() => {
                event = event.detail("copied", self.copied.unwrap_or_default());
            }
            Run::Unbegun | Run::Ordered(0, _) => event = event.detail("sha256", digest()),
            Run::Ordered(offset, _) => {
                partial = true;
                event = event.detail("sha256", digest()).detail("offset", offset);
            }
            Run::Appended(offset) => {
                partial = true;
                event = event.detail("sha256", digest()).detail("offset", offset);
                event = event.detail("appended", true);
            }
            Run::Scattered(offset) => {
                partial = true;
                event = event.detail("offset", offset);
            }
        }
        if partial {
            event = event.detail("partial", true);
        }
        if let Some(error) = &self.error {
            event = event.detail("error", error.clone());
        }
        let kept = kept.or_else(|| self.evidence.as_ref().map(Keeping::so_far));
        if let Some(Kept { file, truncated }) = kept {
            event = event.detail("evidence", file).detail("evidence_truncated", truncated);
        }
        event
    }
}

impl<G: Gate> Drop for Transfer<G> {
    fn drop(&mut self) {
        if !self.told {
            let line = self.line(None);
            self.connection.gate.record(line);
        }
    }
}
