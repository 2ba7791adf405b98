//! Reading the log: line by line, from the beginning or its end, filtered, also while it grows.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use sojourn_core::audit::Entry;
use sojourn_core::audit::MAX_LINE;
use sojourn_core::ids::is_named_by;
use sojourn_core::time::Wall;

use super::disk;

/// A line and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file's number.
    pub file: u64,
    /// Counts from 1 in its file.
    pub number: u64,
    /// The line without its end of line; of a line that is too long, its beginning.
    pub bytes: Vec<u8>,
}

impl Line {
    /// The name of the line's file.
    #[must_use]
    pub fn file_name(&self) -> String {
        disk::name(self.file)
    }

    /// The entry in it; none when it is damaged.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        serde_json::from_slice(&self.bytes).ok()
    }
}

/// Reads whole lines in order, file after file. At the end it can be asked again later.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    open: Option<Open>,
    /// The file to go on with.
    next: u64,
}

#[derive(Debug)]
struct Open {
    number: u64,
    reader: BufReader<File>,
    lines: u64,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
}

impl LogReader {
    /// Reads from the first line on. `dir` is the `audit` directory.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let next = disk::numbers(dir)?.first().copied().unwrap_or(1);
        Ok(Self { dir: dir.to_owned(), open: None, next })
    }

    /// Reads the last file only, which is enough for `tail`.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn open_last(dir: &Path) -> io::Result<Self> {
        let next = disk::numbers(dir)?.last().copied().unwrap_or(1);
        Ok(Self { dir: dir.to_owned(), open: None, next })
    }

    /// Reads from the first line of this file on.
    pub(super) fn at(dir: &Path, number: u64) -> Self {
        Self { dir: dir.to_owned(), open: None, next: number }
    }

    /// The next whole line; none at the end, for now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            if let Some(line) = open.next_line()? {
                return Ok(Some(line));
            }
            // The next file is there: this one has had its last line, which may have come between
            // the look at its end and the look for the next.
            if self.following()?.is_none() {
                return Ok(None);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            if let Some(line) = open.next_line()? {
                return Ok(Some(line));
            }
            if open.partial.is_empty() {
                self.open = None;
            } else {
                // A torn end in the middle of the log: given as a line, for it is damage.
                return Ok(Some(open.take_partial()));
            }
        }
    }

    /// What stands behind the last whole line.
    #[must_use]
    pub fn partial(&self) -> &[u8] {
        self.open.as_ref().map_or(&[], |open| open.partial.as_slice())
    }

    /// The number of the file that is being read.
    #[must_use]
    pub fn file(&self) -> u64 {
        self.open.as_ref().map_or(self.next, |open| open.number)
    }

    /// The next file after the one that is open.
    fn following(&self) -> io::Result<Option<u64>> {
        Ok(disk::numbers(&self.dir)?.into_iter().find(|number| *number >= self.next))
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let Some(number) = self.following()? else { return Ok(false) };
        let reader =
            BufReader::with_capacity(128 * 1024, File::open(self.dir.join(disk::name(number)))?);
        self.open = Some(Open { number, reader, lines: 0, partial: Vec::new() });
        self.next = number + 1;
        Ok(true)
    }
}

impl Open {
    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let room = u64::try_from(MAX_LINE + 2 - self.partial.len().min(MAX_LINE + 1)).unwrap_or(0);
        (&mut self.reader).take(room).read_until(b'\n', &mut self.partial)?;
        if self.partial.last() == Some(&b'\n') {
            self.partial.pop();
            return Ok(Some(self.take_partial()));
        }
        if self.partial.len() > MAX_LINE && self.skip_to_end_of_line()? {
            return Ok(Some(self.take_partial()));
        }
        Ok(None)
    }

    fn take_partial(&mut self) -> Line {
        self.lines += 1;
        let bytes = std::mem::take(&mut self.partial);
        Line { file: self.number, number: self.lines, bytes }
    }

    /// Passes over the rest of a line that is too long to hold. False when its end is not there.
    fn skip_to_end_of_line(&mut self) -> io::Result<bool> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

/// Which entries are looked for. What is not set matches all.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Those of this user, as the one who acted or the one it was about.
    pub user: Option<String>,
    /// Those of a session, by its id or an ending of it.
    pub session: Option<String>,
    /// Those with this action.
    pub action: Option<String>,
    /// Those at or after this time.
    pub since: Option<Wall>,
    /// Those before this time.
    pub until: Option<Wall>,
}

impl Query {
    /// Whether the entry is one of those.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        let about = |name: &String| {
            entry.actor.user.as_ref() == Some(name)
                || entry.details.get("user").and_then(|user| user.as_str()) == Some(name)
        };
        let in_session =
            |typed: &String| entry.session_id.is_some_and(|id| is_named_by(&id.0, typed));
        self.user.as_ref().is_none_or(about)
            && self.session.as_ref().is_none_or(in_session)
            && self.action.as_ref().is_none_or(|action| entry.action == *action)
            && self.since.is_none_or(|since| entry.timestamp >= since)
            && self.until.is_none_or(|until| entry.timestamp < until)
    }
}
