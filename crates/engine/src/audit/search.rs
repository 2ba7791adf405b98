//! Looking for entries, the newest first: file by file from the last, so that a page of what happened
//! lately reads little of a long log.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use sojourn_core::audit::Entry;

use super::disk;
use super::read::LogReader;
use super::read::Query;

/// The most entries of one page.
pub const MAX_PAGE: usize = 200;

/// How long is looked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lines between two looks at the time.
const LOOK_EVERY: u64 = 1024;

/// A page of entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// They, as the log has them, the newest first.
    pub entries: Vec<Value>,
    /// The page after this one has what came before this number; none: there is nothing more.
    pub next: Option<u64>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The log cannot be read.
    #[error("the audit log cannot be read")]
    Io(#[from] io::Error),
    /// It is too long for that.
    #[error("looking through the audit log took too long; say since when, and until when")]
    Late,
}

/// Looks in the log in `dir` for entries that match and have a lower number than `before`.
///
/// # Errors
/// When it cannot be read, or is too long.
pub fn search(
    dir: &Path,
    query: &Query,
    before: Option<u64>,
    limit: usize,
) -> Result<Found, SearchError> {
    let limit = limit.clamp(1, MAX_PAGE);
    let until = Instant::now() + PATIENCE;
    let mut entries = Vec::new();
    for file in disk::numbers(dir)?.into_iter().rev() {
        // One more than fits says that there is more.
        let wanted = limit + 1 - entries.len();
        let part = last_of(dir, file, (query, before), wanted, until)?;
        entries.extend(part.matching.into_iter().rev());
        let older_match =
            query.since.is_none_or(|since| part.first_at.is_none_or(|at| at >= since));
        if entries.len() > limit || !older_match {
            break;
        }
    }
    let more = entries.len() > limit;
    entries.truncate(limit);
    let last = entries.last().map(|(seq, _)| *seq);
    let entries = entries.into_iter().map(|(_, entry)| entry).collect();
    Ok(Found { entries, next: last.filter(|_| more) })
}

struct Part {
    matching: VecDeque<(u64, Value)>,
    /// When its first entry was written.
    first_at: Option<sojourn_core::time::Wall>,
}

/// The last entries of one file that match.
fn last_of(
    dir: &Path,
    file: u64,
    (query, before): (&Query, Option<u64>),
    wanted: usize,
    until: Instant,
) -> Result<Part, SearchError> {
    let mut reader = LogReader::at(dir, file);
    let mut part = Part { matching: VecDeque::with_capacity(wanted), first_at: None };
    while let Some(line) = reader.next_line()?.filter(|line| line.file == file) {
        if line.number % LOOK_EVERY == 0 && Instant::now() > until {
            return Err(SearchError::Late);
        }
        let Some(entry) = line.entry() else { continue };
        part.first_at.get_or_insert(entry.timestamp);
        if before.is_some_and(|before| entry.seq >= before) {
            break;
        }
        if query.matches(&entry) {
            part.keep(&entry, &line.bytes, wanted);
        }
    }
    Ok(part)
}

impl Part {
    fn keep(&mut self, entry: &Entry, line: &[u8], wanted: usize) {
        if self.matching.len() >= wanted {
            self.matching.pop_front();
        }
        if let Ok(value) = serde_json::from_slice(line) {
            self.matching.push_back((entry.seq, value));
        }
    }
}
