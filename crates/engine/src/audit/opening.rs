//! Taking up the log where the last writer left it.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use serde::Deserialize;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::audit::Head;
use sojourn_core::ids::EventId;
use sojourn_core::time::Wall;
use sojourn_store::Store;

use super::AuditOpenError;
use super::disk::Disk;
use super::disk::FileDisk;
use super::disk::Torn;
use super::read::LogReader;

/// A log that can be continued.
pub(super) struct Opened {
    pub(super) disk: FileDisk,
    /// The end of the chain.
    pub(super) head: Head,
    /// What a crash left behind it, already cut.
    pub(super) torn: Option<Torn>,
}

/// Takes the log's lock and finds the end of its chain.
pub(super) fn open(dir: &Path) -> Result<Opened, AuditOpenError> {
    let mut disk = FileDisk::open(dir)?;
    let torn = disk.cut_torn_end()?;
    let head = match last_stated(disk.last_lines()?.split(|byte| *byte == b'\n')) {
        Some(head) => head,
        // A new file, or a damaged one: what is before it tells.
        None => last_stated_in(dir)?.unwrap_or(Head::START),
    };
    Ok(Opened { disk, head, torn })
}

/// The end of the chain, as the last line that says so has it. A changed line is not found here but
/// by whoever verifies; the log goes on behind it.
fn last_stated<'a>(mut lines: impl DoubleEndedIterator<Item = &'a [u8]>) -> Option<Head> {
    lines.rfind(|line| Head::stated_by(line).is_some()).and_then(Head::stated_by)
}

fn last_stated_in(dir: &Path) -> io::Result<Option<Head>> {
    let mut reader = LogReader::open(dir)?;
    let mut head = None;
    while let Some(line) = reader.next_line()? {
        head = Head::stated_by(&line.bytes).or(head);
    }
    Ok(head)
}

/// Which of the outbox's events are in the last file: written before a crash, not yet forgotten. No
/// file is ended before its events are forgotten, so none can be in an older one.
pub(super) async fn already_written(
    dir: &Path,
    disk: &FileDisk,
    store: &Store,
) -> Result<HashSet<EventId>, AuditOpenError> {
    #[derive(Deserialize)]
    struct Id {
        event_id: EventId,
    }
    let wanted: HashSet<_> = store.untold_ids().await?.into_iter().collect();
    let mut written = HashSet::new();
    if wanted.is_empty() || disk.size() == 0 {
        return Ok(written);
    }
    let mut reader = LogReader::open_last(dir)?;
    while let Some(line) = reader.next_line()? {
        let id = serde_json::from_slice::<Id>(&line.bytes).map(|line| line.event_id);
        written.extend(id.ok().filter(|id| wanted.contains(id)));
    }
    Ok(written)
}

/// The event that tells of the cut.
pub(super) fn repaired(torn: &Torn, now: Wall) -> Event {
    tracing::warn!(file = torn.file, bytes = torn.bytes, "torn end of the audit log cut");
    Event::new(now, Action::AuditRepaired, Actor::SYSTEM)
        .detail("file", torn.file.clone())
        .detail("bytes", torn.bytes)
        .detail("text", String::from_utf8_lossy(&torn.beginning).into_owned())
}
