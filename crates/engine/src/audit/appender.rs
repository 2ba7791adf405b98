//! From events to durable lines: one batch, one sync.

use std::io;
use std::sync::Arc;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ChainWriter;
use sojourn_core::audit::Checkpoint;
use sojourn_core::audit::CheckpointKey;
use sojourn_core::audit::Event;
use sojourn_core::audit::Head;
use sojourn_core::time::Wall;

use super::disk::Disk;

/// A file is not made longer than this by much.
const FILE_SIZE: u64 = 64 << 20;
/// A checkpoint comes after so many lines, at the latest.
const CHECKPOINT_LINES: u64 = 1000;

/// What makes lines of events and puts them on the disk. It goes to a blocking thread and back.
pub(super) struct Appender {
    disk: Box<dyn Disk>,
    chain: ChainWriter,
    key: CheckpointKey,
    /// Lines since the last checkpoint.
    since: u64,
    /// Where a file ends and the next begins.
    file_size: u64,
}

impl Appender {
    pub(super) fn new(disk: Box<dyn Disk>, head: Head, key: CheckpointKey) -> Self {
        let since = u64::from(head.seq > 0);
        Self { disk, chain: ChainWriter::new(head), key, since, file_size: FILE_SIZE }
    }

    /// The same with shorter files.
    #[cfg(test)]
    pub(super) fn with_file_size(self, file_size: u64) -> Self {
        Self { file_size, ..self }
    }

    /// All of it is durable, or nothing happened.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<Option<Checkpoint>> {
        if batch.may_rotate && self.disk.size() >= self.file_size {
            self.disk.rotate()?;
        }
        let mut chain = self.chain;
        let mut lines = String::new();
        for event in &batch.events {
            lines.push_str(&chain.line(event)?);
            lines.push('\n');
        }
        let since = self.since + u64::try_from(batch.events.len()).unwrap_or(u64::MAX);
        let due = since >= CHECKPOINT_LINES || (batch.checkpoint && since > 0);
        let checkpoint = due.then(|| self.key.sign(chain.head()));
        if let Some(checkpoint) = &checkpoint {
            let mut event = Event::new(batch.now, Action::Checkpoint, Actor::SYSTEM);
            event.details = checkpoint.details();
            lines.push_str(&chain.line(&event)?);
            lines.push('\n');
        }
        if !lines.is_empty() {
            self.disk.append(lines.as_bytes())?;
        }
        self.chain = chain;
        self.since = if checkpoint.is_some() { 0 } else { since };
        Ok(checkpoint)
    }
}

/// What goes to the disk at once.
pub(super) struct Batch {
    pub(super) events: Vec<Arc<Event>>,
    /// Also sign the end.
    pub(super) checkpoint: bool,
    /// No event of this file is still in the outbox.
    pub(super) may_rotate: bool,
    pub(super) now: Wall,
}
