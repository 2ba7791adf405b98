//! Reads a recording line by line: strict about what a line says, forgiving about a last one that
//! was cut short.

use std::borrow::Cow;
use std::io;
use std::io::BufRead;
use std::io::Read;

use serde::Deserialize;

use super::Code;
use super::Header;
use super::MAX_LINE;
use super::Versioned;

/// One event of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the start.
    pub time_us: u64,
    /// What it is.
    pub code: Code,
    /// The text, the size, the note: by `code`.
    pub data: String,
}

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// With a whole line.
    Whole,
    /// In the midst of a line that begins at `offset`: the recorder was cut off, or is writing.
    Cut {
        /// Bytes of whole lines.
        offset: u64,
    },
}

/// Why a recording cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file itself could not be read.
    #[error("the recording cannot be read")]
    Io(#[from] io::Error),
    /// The file has no whole first line.
    #[error("the recording has no header")]
    NoHeader,
    /// A line is not what an asciicast v2 file has there.
    #[error("line {line}: {fault}")]
    Line {
        /// The line's number, from 1.
        line: u64,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// More bytes than a reader takes into memory.
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    /// The first line is not a header.
    #[error("not an asciicast header")]
    NotAHeader(#[source] serde_json::Error),
    /// A version of the format that is not read here.
    #[error("asciicast version {0}, where 2 is wanted")]
    Version(u32),
    /// Not a `[time, code, data]` array.
    #[error("not a [time, code, data] event")]
    NotAnEvent(#[source] serde_json::Error),
    /// A time that is negative, or beyond any clock.
    #[error("impossible time")]
    Time,
    /// An event earlier than the one before it.
    #[error("time goes backwards")]
    Backwards,
}

/// The events of a recording, in order. After the last one, [`Reader::tail`] says how it ended.
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    header: Header,
    last_us: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When there is none, or it is not one of asciicast v2.
    pub fn open(source: R) -> Result<Self, ReadError> {
        let mut lines = Lines::new(source);
        let header = match lines.next_line()? {
            Some(line) => parse_header(line).map_err(|fault| ReadError::Line { line: 1, fault })?,
            None => return Err(ReadError::NoHeader),
        };
        Ok(Self { lines, header, last_us: 0 })
    }

    /// The first line.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How the file ended, as far as it has been read.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.lines.tail()
    }

    fn read_event(&mut self) -> Result<Option<Event>, ReadError> {
        let number = self.lines.number + 1;
        let Some(line) = self.lines.next_line()? else { return Ok(None) };
        let event = parse_event(line, self.last_us)
            .map_err(|fault| ReadError::Line { line: number, fault })?;
        self.last_us = event.time_us;
        let (time_us, code) = (event.time_us, event.code);
        Ok(Some(Event { time_us, code, data: event.data.into_owned() }))
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Event, ReadError>;

    /// The next event. What follows an error is not to be relied on.
    fn next(&mut self) -> Option<Self::Item> {
        self.read_event().transpose()
    }
}

/// Whole lines of a file, bounded in length.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    source: R,
    line: Vec<u8>,
    /// Lines read so far.
    pub(super) number: u64,
    /// Bytes of whole lines so far.
    pub(crate) offset: u64,
    cut: bool,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, line: Vec::new(), number: 0, offset: 0, cut: false }
    }

    /// The next whole line, with its newline; `None` at the end or where the file is cut.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.line.clear();
        let limit = MAX_LINE as u64 + 1;
        self.source.by_ref().take(limit).read_until(b'\n', &mut self.line)?;
        if self.line.len() > MAX_LINE {
            return Err(ReadError::Line { line: self.number + 1, fault: Fault::TooLong });
        }
        if self.line.last() != Some(&b'\n') {
            self.cut = !self.line.is_empty();
            return Ok(None);
        }
        self.number += 1;
        self.offset += self.line.len() as u64;
        Ok(Some(&self.line))
    }

    pub(super) fn tail(&self) -> Tail {
        if self.cut { Tail::Cut { offset: self.offset } } else { Tail::Whole }
    }
}

/// An event whose text is still in the line it was read from, where nothing had to be unescaped.
pub(crate) struct Parsed<'a> {
    pub(super) time_us: u64,
    pub(crate) code: Code,
    pub(crate) data: Cow<'a, str>,
}

pub(crate) fn parse_header(line: &[u8]) -> Result<Header, Fault> {
    let Versioned::<Header> { version, header } =
        serde_json::from_slice(line).map_err(Fault::NotAHeader)?;
    if version == 2 { Ok(header) } else { Err(Fault::Version(version)) }
}

pub(crate) fn parse_event(line: &[u8], last_us: u64) -> Result<Parsed<'_>, Fault> {
    #[derive(Deserialize)]
    struct Raw<'a>(f64, #[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>);

    let Raw(seconds, code, data) = serde_json::from_slice(line).map_err(Fault::NotAnEvent)?;
    let time_us = micros(seconds).ok_or(Fault::Time)?;
    if time_us < last_us {
        return Err(Fault::Backwards);
    }
    Ok(Parsed { time_us, code: Code::parse(&code), data })
}

/// Seconds to microseconds; `None` beyond what a double holds exactly (285 years).
fn micros(seconds: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let micros = (seconds * 1e6).round();
    (0.0..EXACT).contains(&micros).then_some(micros as u64)
}
