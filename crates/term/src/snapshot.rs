//! The screen of a terminal, drawn anew from its recording, as bytes for another terminal.
//!
//! A short recording is emulated whole. Of a long one only the end is, from a point where the screen
//! was cleared; what came before is looked through for modes alone. So the work is bounded, and the
//! screen is right unless a program has drawn on it for longer than that without ever clearing it.

mod modes;
mod portable;

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;

use avt::Terminal;

use crate::cast::Code;
use crate::cast::MAX_SIDE;
use crate::cast::ReadError;
use crate::cast::reader::Lines;
use crate::cast::reader::parse_event;
use crate::cast::reader::parse_header;
use crate::replay::RESTORE;
use modes::Modes;

/// The size of a terminal whose client gave none.
const USUAL: Size = Size { cols: 80, rows: 24 };

/// How many events pass between two looks at the time.
const LOOK_EVERY: u32 = 64;

/// A terminal in order, with an empty screen.
const EMPTY: &str = "\x1b[?7h\x1b[4l\x1b[20l\x1b)B\x0f\x1b[H\x1b[2J\x1b7";

/// A screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Up to where in the recording it is what was printed.
    pub offset: u64,
    /// Its columns.
    pub cols: u16,
    /// Its rows.
    pub rows: u16,
    /// Bytes that draw it on any terminal of this size: text, attributes, cursor, both screens, modes.
    pub data: Vec<u8>,
}

/// How much a snapshot may cost.
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// The end of the recording that is emulated, in bytes; up to four times as much where the screen
    /// was not cleared within.
    pub emulate: u64,
    /// The end that is looked through for modes.
    pub survey: u64,
    /// Whether it has taken long enough.
    pub is_late: &'a dyn Fn() -> bool,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The recording cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It takes too long.
    #[error("drawing the screen took too long")]
    Late,
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        Self::Read(error.into())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    cols: u32,
    rows: u32,
}

/// A point in a recording, and what is known of the terminal there.
#[derive(Clone, Debug)]
struct Start {
    offset: u64,
    size: Size,
    modes: Modes,
}

impl Snapshot {
    /// Draws what a recording's terminal shows after its first `offset` bytes, on a terminal of this
    /// size (columns, rows), or of its own where none is given.
    ///
    /// # Errors
    /// When the recording cannot be read, or it takes too long.
    pub fn take<R: Read + Seek>(
        recording: R,
        offset: u64,
        size: Option<(u16, u16)>,
        budget: &Budget<'_>,
    ) -> Result<Self, SnapshotError> {
        let mut recording = BufReader::with_capacity(64 << 10, recording);
        let begin = begin(&mut recording, offset)?;
        let start = match offset <= budget.emulate {
            true => begin,
            false => survey(&mut recording, begin, offset, budget)?,
        };
        let (mut terminal, modes) = emulate(&mut recording, start, offset, budget)?;
        if let Some((cols, rows)) = size {
            let wanted = Size { cols: cols.into(), rows: rows.into() }.real();
            resize(&mut terminal, wanted);
        }
        let (cols, rows) = terminal.size();
        // What a terminal still waits for comes last: the rest of it is what is printed next.
        let parts =
            [RESTORE, EMPTY, &modes.for_a_terminal(), &portable::portable(&terminal.dump())];
        Ok(Self {
            offset,
            cols: u16::try_from(cols).unwrap_or(u16::MAX),
            rows: u16::try_from(rows).unwrap_or(u16::MAX),
            data: parts.concat().into_bytes(),
        })
    }
}

impl Size {
    /// A size that a terminal can have. A recording has 1x1 where the client gave none.
    fn real(self) -> Self {
        if self.cols <= 1 && self.rows <= 1 {
            return USUAL;
        }
        Self { cols: self.cols.clamp(1, MAX_SIDE), rows: self.rows.clamp(1, MAX_SIDE) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (cols, rows) = text.split_once('x')?;
        Some(Self { cols: cols.parse().ok()?, rows: rows.parse().ok()? }.real())
    }
}

/// Reads the header.
fn begin<R: Read + Seek>(recording: &mut BufReader<R>, upto: u64) -> Result<Start, SnapshotError> {
    let mut lines = lines(recording, 0, upto)?;
    let header = lines.next_line()?.ok_or(ReadError::NoHeader)?;
    let header = parse_header(header).map_err(|fault| ReadError::Line { line: 1, fault })?;
    let size = Size { cols: header.width, rows: header.height }.real();
    Ok(Start { offset: lines.offset, size, modes: Modes::default() })
}

/// Looks through the recording for a place to begin at.
fn survey<R: Read + Seek>(
    recording: &mut BufReader<R>,
    begin: Start,
    upto: u64,
    budget: &Budget<'_>,
) -> Result<Start, SnapshotError> {
    let near = upto.saturating_sub(budget.emulate);
    let far = upto.saturating_sub(budget.emulate.saturating_mul(4));
    let from = begin.offset.max(upto.saturating_sub(budget.survey.max(budget.emulate)));
    let mut at = Start { offset: from, ..begin.clone() };
    let mut cleared: Option<Start> = None;
    let mut crossed: Option<Start> = None;
    let mut lines = lines(recording, from, upto)?;
    if from > begin.offset {
        // It begins in the midst of a line.
        lines.next_line()?;
        at.offset = from + lines.offset;
    }
    let mut looks = Looks::new(budget);
    while let Some(line) = lines.next_line()? {
        looks.look()?;
        if at.offset >= near && crossed.is_none() {
            crossed = Some(at.clone());
        }
        if let Some((code, data)) = event(line) {
            let before = (crossed.is_none() && at.offset >= far).then(|| at.clone());
            let clears = at.take(code, &data);
            match (clears, before) {
                // Within what is emulated anyway, after all that came before the clearing.
                (true, None) if crossed.is_some() => return Ok(crossed.unwrap_or(begin)),
                (true, Some(before)) => cleared = Some(before),
                _ => {}
            }
        }
        at.offset = from + lines.offset;
    }
    Ok(cleared.or(crossed).unwrap_or(begin))
}

/// Shows a terminal the recording from a point on.
fn emulate<R: Read + Seek>(
    recording: &mut BufReader<R>,
    start: Start,
    upto: u64,
    budget: &Budget<'_>,
) -> Result<(Terminal, Modes), SnapshotError> {
    let Start { offset, size, mut modes } = start;
    let mut terminal = Terminal::new(1, 1).map_err(|_| ReadError::NoHeader)?;
    resize(&mut terminal, size);
    terminal.feed(modes.for_an_emulator().as_str());
    let mut lines = lines(recording, offset, upto)?;
    let mut looks = Looks::new(budget);
    while let Some(line) = lines.next_line()? {
        looks.look()?;
        match event(line) {
            Some((Code::Output, data)) => {
                modes.feed(&data);
                terminal.feed(&*data);
            }
            Some((Code::Resize, data)) => {
                if let Some(size) = Size::parse(&data) {
                    resize(&mut terminal, size);
                }
            }
            _ => {}
        }
    }
    Ok((terminal, modes))
}

impl Start {
    /// Goes on past an event. Whether it cleared the screen.
    fn take(&mut self, code: Code, data: &str) -> bool {
        match code {
            Code::Output => self.modes.feed(data),
            Code::Resize => {
                self.size = Size::parse(data).unwrap_or(self.size);
                false
            }
            _ => false,
        }
    }
}

/// Whole lines of a part of the recording.
fn lines<R: Read + Seek>(
    recording: &mut BufReader<R>,
    from: u64,
    upto: u64,
) -> io::Result<Lines<impl BufRead + '_>> {
    recording.seek(SeekFrom::Start(from))?;
    Ok(Lines::new(recording.take(upto.saturating_sub(from))))
}

/// What a line says, if it says anything: one that was not written well costs itself alone.
fn event(line: &[u8]) -> Option<(Code, std::borrow::Cow<'_, str>)> {
    let parsed = parse_event(line, 0).ok()?;
    Some((parsed.code, parsed.data))
}

fn resize(terminal: &mut Terminal, size: Size) {
    let side = |side: u32| usize::try_from(side).unwrap_or(1);
    terminal.resize(side(size.cols), side(size.rows));
}

/// Looks at the time now and then.
struct Looks<'a> {
    is_late: &'a dyn Fn() -> bool,
    passed: u32,
}

impl<'a> Looks<'a> {
    fn new(budget: &Budget<'a>) -> Self {
        Self { is_late: budget.is_late, passed: 0 }
    }

    fn look(&mut self) -> Result<(), SnapshotError> {
        self.passed = (self.passed + 1) % LOOK_EVERY;
        if self.passed == 0 && (self.is_late)() { Err(SnapshotError::Late) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
