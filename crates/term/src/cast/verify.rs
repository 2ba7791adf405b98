//! Whether a recording is whole, and making one whole that was cut off.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Seek;

use sha2::Digest;
use sha2::Sha256;

use super::Marks;
use super::hex;
use super::reader::Lines;
use super::reader::ReadError;
use super::reader::Tail;
use super::reader::parse_event;
use super::reader::parse_header;

/// What a recording holds, up to its last whole line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Bytes of whole lines; all of the file when `tail` is [`Tail::Whole`].
    pub bytes: u64,
    /// SHA-256 of those bytes, lower-case hexadecimal.
    pub sha256: String,
    /// Number of events.
    pub events: u64,
    /// Number of whole lines, the header's among them; 0 for a file without anything.
    pub whole_lines: u64,
    /// Time of the last event, in microseconds.
    pub duration_us: u64,
    /// Marks along those lines.
    pub marks: Marks,
    /// How the file ended.
    pub tail: Tail,
}

/// A recording that its recorder had not sealed, after it was cut to whole lines.
#[derive(Debug)]
pub struct Recovered {
    /// What it holds now.
    pub verified: Verified,
    /// Bytes of a line begun and not finished, which were removed.
    pub removed: u64,
    /// The first line that is not what it should be. Such lines stay: they are evidence.
    pub fault: Option<ReadError>,
}

/// Reads a recording from one end to the other and checks every line.
///
/// A file that ends in the midst of a line is checked up to there; `tail` says so. An empty file
/// is whole: a recorder cut off in its first line leaves one.
///
/// # Errors
/// The first line that is not what it should be, or the first read that went wrong.
pub fn verify(source: impl BufRead) -> Result<Verified, ReadError> {
    match survey(source)? {
        (verified, None) => Ok(verified),
        (_, Some(fault)) => Err(fault),
    }
}

/// Cuts an unsealed recording to its last whole line, on disk when this returns.
///
/// # Errors
/// When the file cannot be read or cut, or a line is too long to be looked at.
pub fn recover(file: &mut File) -> Result<Recovered, ReadError> {
    file.rewind()?;
    let (mut verified, fault) = survey(BufReader::new(&mut *file))?;
    let length = file.metadata()?.len();
    if length > verified.bytes {
        file.set_len(verified.bytes)?;
    }
    file.sync_all()?;
    file.seek(io::SeekFrom::End(0))?;
    verified.tail = Tail::Whole;
    Ok(Recovered { removed: length.saturating_sub(verified.bytes), verified, fault })
}

/// Measures all whole lines; parses them up to the first that is wrong, and says which that is.
///
/// # Errors
/// When the file cannot be read, or a line is too long to be looked at.
pub fn survey(source: impl BufRead) -> Result<(Verified, Option<ReadError>), ReadError> {
    let mut lines = Lines::new(source);
    let mut digest = Sha256::new();
    let mut marks = Marks::default();
    let mut duration_us = 0;
    let mut wrong = None;
    loop {
        let number = lines.number + 1;
        let Some(line) = lines.next_line()? else { break };
        digest.update(line);
        marks.line(&digest);
        let checked = match (&wrong, number) {
            (Some(_), _) => continue,
            (None, 1) => parse_header(line).map(|_| 0),
            (None, _) => parse_event(line, duration_us).map(|event| event.time_us),
        };
        match checked {
            Ok(time_us) => duration_us = time_us,
            Err(fault) => wrong = Some(ReadError::Line { line: number, fault }),
        }
    }
    let verified = Verified {
        bytes: lines.offset,
        sha256: hex(&digest.finalize()),
        events: lines.number.saturating_sub(1),
        whole_lines: lines.number,
        duration_us,
        marks,
        tail: lines.tail(),
    };
    Ok((verified, wrong))
}
