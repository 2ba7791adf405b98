//! The recording of a terminal on another machine, written here from what its runner sends.
//!
//! The file alone says how far that is: after each event of the runner's, and after output that was no
//! text, comes a note of the event's number and of how many bytes the terminal had printed. What came
//! since is in the file as it was. So after a crash the runner is asked for exactly what is missing.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::shim::WindowSize;
use sojourn_term::cast;
use sojourn_term::cast::Code;
use sojourn_term::cast::Header;
use sojourn_term::cast::Origin;
use sojourn_term::cast::Reader;
use sojourn_term::cast::Stream;
use sojourn_term::cast::Writer;

use crate::agents::recording::Opened;

/// The longest event that is in the note about it; of a longer one only the number is.
const LONGEST_EVENT: usize = 16 << 10;

/// A note, as it is in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    #[serde(rename = "type")]
    kind: Kind,
    /// The last event.
    seq: Seq,
    /// What the terminal had printed, in bytes.
    printed: u64,
    /// The event, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Event>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Relay,
}

/// What a recording says of its session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) seq: Seq,
    pub(super) printed: u64,
    pub(super) size: WindowSize,
    /// When its program started, in microseconds from the recording's beginning.
    pub(super) started_us: Option<u64>,
    /// Its end, where that is told.
    pub(super) ended: Option<Event>,
}

/// Something does not follow what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap;

/// A recording that is written.
pub(super) struct Book {
    writer: Writer<File>,
    file: Arc<File>,
    /// Bytes of the file before those of `writer`.
    base: u64,
    seq: Seq,
    /// What was received, in bytes; the last of it may be half a character, which is not written yet.
    received: u64,
}

impl Book {
    /// Begins a recording.
    pub(super) fn begin(
        opened: Opened,
        session: SessionId,
        created: Wall,
        size: WindowSize,
    ) -> io::Result<Self> {
        let header = Header {
            width: size.cols.into(),
            height: size.rows.into(),
            timestamp: Some(micros(created) / 1_000_000),
            sojourn: Some(Origin { session: session.to_string(), channel: 0 }),
            ..Header::default()
        };
        let header = header.with_env("TERM", Some("xterm-256color"));
        let file = Arc::new(opened.file.try_clone()?);
        let writer = Writer::start(opened.file, &header, micros(created))?;
        Ok(Self { writer, file, base: 0, seq: 0, received: 0 })
    }

    /// Goes on with one.
    pub(super) fn resume(opened: Opened, created: Wall, found: &Found) -> io::Result<Self> {
        let file = Arc::new(opened.file.try_clone()?);
        let base = file.metadata()?.len();
        let writer = Writer::resume(opened.file, micros(created), opened.last_us);
        Ok(Self { writer, file, base, seq: found.seq, received: found.printed })
    }

    /// The last event.
    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    /// What is written, in bytes of the terminal's.
    pub(super) fn printed(&self) -> u64 {
        self.received - self.writer.held(Stream::Output).len() as u64
    }

    /// The half of a character that is received and not written.
    pub(super) fn held(&self) -> &[u8] {
        self.writer.held(Stream::Output)
    }

    /// The file's length.
    pub(super) fn length(&self) -> u64 {
        self.base + self.writer.bytes()
    }

    /// What makes it durable, on any thread.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Writes what a terminal printed, as far as it is new: that much of its end.
    pub(super) fn output(
        &mut self,
        now: Wall,
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<Result<usize, Gap>> {
        let Some(known) = self.received.checked_sub(offset) else { return Ok(Err(Gap)) };
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        let new = bytes.get(known..).unwrap_or_default();
        if new.is_empty() {
            return Ok(Ok(0));
        }
        let mut whole = self.held().to_vec();
        whole.extend_from_slice(new);
        self.writer.data(micros(now), Stream::Output, new)?;
        self.received += new.len() as u64;
        let written = whole.len() - self.held().len().min(whole.len());
        // What was no text is not in the file as it was.
        if std::str::from_utf8(whole.get(..written).unwrap_or_default()).is_err() {
            self.note(now, None)?;
        }
        Ok(Ok(new.len()))
    }

    /// Writes an event, unless it is there. Whether it is new.
    pub(super) fn event(&mut self, now: Wall, event: &Sequenced) -> io::Result<bool> {
        if event.seq <= self.seq {
            return Ok(false);
        }
        if let Event::Resized { cols, rows } = event.event {
            self.writer.resize(micros(now), cols.into(), rows.into())?;
        }
        self.seq = event.seq;
        self.note(now, Some(event.event.clone()))?;
        Ok(true)
    }

    /// Nothing more is printed: what is left of a character is written.
    pub(super) fn finish(&mut self, now: Wall) -> io::Result<()> {
        self.writer.seal(micros(now)).map(drop)
    }

    fn note(&mut self, now: Wall, event: Option<Event>) -> io::Result<()> {
        let fits = |event: &Event| {
            serde_json::to_string(event).is_ok_and(|json| json.len() <= LONGEST_EVENT)
        };
        let event = event.filter(fits);
        let note = Note { kind: Kind::Relay, seq: self.seq, printed: self.printed(), event };
        let json = serde_json::to_string(&note)?;
        self.writer.agent_event(micros(now), &json)
    }
}

/// Reads how far a recording is. Lines that make no sense are as if they were not there.
pub(super) fn read(source: impl BufRead) -> Result<Found, cast::ReadError> {
    let reader = Reader::open(source)?;
    let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    let (cols, rows) = (side(reader.header().width), side(reader.header().height));
    let size = WindowSize { cols, rows, ..WindowSize::default() };
    let mut found = Found { size, ..Found::default() };
    for event in reader {
        let event = event?;
        match event.code {
            Code::Output => found.printed += event.data.len() as u64,
            Code::Resize => {
                let sides = event.data.split_once('x');
                let sides = sides.and_then(|(c, r)| Some((c.parse().ok()?, r.parse().ok()?)));
                if let Some((cols, rows)) = sides {
                    found.size = WindowSize { cols, rows, ..WindowSize::default() };
                }
            }
            Code::Agent => {
                let Ok(note) = serde_json::from_str::<Note>(&event.data) else { continue };
                (found.seq, found.printed) = (note.seq, note.printed);
                match note.event {
                    Some(Event::Started { .. }) => found.started_us = Some(event.time_us),
                    Some(ended @ Event::Ended { .. }) => found.ended = Some(ended),
                    _ => {}
                }
            }
            Code::Input | Code::Marker | Code::Other => {}
        }
    }
    Ok(found)
}

fn micros(at: Wall) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const CREATED: Wall = Wall(1_795_345_331_000_000);

    fn opened(dir: &TempDir) -> Opened {
        let path = dir.path().join("a.cast");
        let file = File::options().append(true).create(true).open(path).unwrap();
        let is_new = file.metadata().unwrap().len() == 0;
        Opened { file, name: "a.cast".to_owned(), events: 0, last_us: 0, is_new }
    }

    fn found(dir: &TempDir) -> Found {
        read(BufReader::new(File::open(dir.path().join("a.cast")).unwrap())).unwrap()
    }

    fn size() -> WindowSize {
        WindowSize { cols: 80, rows: 24, ..WindowSize::default() }
    }

    fn happened(seq: Seq, event: Event) -> Sequenced {
        Sequenced { session: SessionId::new(), epoch: 1, seq, at: CREATED, event }
    }

    #[test]
    fn what_comes_twice_is_written_once_and_what_is_missing_is_noticed() {
        let dir = TempDir::new().unwrap();
        let mut book = Book::begin(opened(&dir), SessionId::new(), CREATED, size()).unwrap();
        assert_eq!(book.output(CREATED, 0, b"one").unwrap(), Ok(3));
        assert_eq!(book.output(CREATED, 0, b"one two").unwrap(), Ok(4));
        assert_eq!(book.output(CREATED, 2, b"e t").unwrap(), Ok(0));
        assert_eq!(book.output(CREATED, 9, b"three").unwrap(), Err(Gap));
        let resized = happened(1, Event::Resized { cols: 100, rows: 40 });
        assert!(book.event(CREATED, &resized).unwrap());
        assert!(!book.event(CREATED, &resized).unwrap());
        let found = found(&dir);
        assert_eq!((found.seq, found.printed), (1, 7));
        assert_eq!((found.size.cols, found.size.rows), (100, 40));
    }

    #[test]
    fn its_start_and_its_end_are_in_it() {
        let dir = TempDir::new().unwrap();
        let mut book = Book::begin(opened(&dir), SessionId::new(), CREATED, size()).unwrap();
        let later = Wall(CREATED.0 + 1500);
        let started = happened(4, Event::Started { agent: None, recovery: None });
        book.event(later, &started).unwrap();
        let ended = Event::Ended {
            reason: sojourn_core::end::EndReason::Exited,
            exit: None,
            output_bytes: 0,
            message: None,
            recovery: None,
        };
        book.event(later, &happened(5, ended.clone())).unwrap();
        let found = found(&dir);
        assert_eq!((found.seq, found.started_us, found.ended), (5, Some(1500), Some(ended)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Invariant 5: however it is cut into pieces and wherever the gateway is killed, a recording
        /// says exactly how much of what was printed is in it.
        #[test]
        fn a_recording_says_exactly_how_far_it_is(
            printed in prop::collection::vec(any::<u8>(), 0..400),
            text in "\\PC{0,200}",
            sizes in prop::collection::vec(1_usize..40, 1..20),
            kill in 0_usize..20,
        ) {
            let all = [text.as_bytes(), &printed, text.as_bytes()].concat();
            let dir = TempDir::new().unwrap();
            let mut book = Book::begin(opened(&dir), SessionId::new(), CREATED, size()).unwrap();
            let (mut at, mut step) = (0, 0);
            while at < all.len() {
                if step == kill {
                    let said = found(&dir);
                    prop_assert_eq!(said.printed, book.printed());
                    book = Book::resume(opened(&dir), CREATED, &said).unwrap();
                    at = usize::try_from(said.printed).unwrap();
                }
                let end = (at + sizes[step % sizes.len()]).min(all.len());
                let written = book.output(CREATED, at as u64, &all[at..end]).unwrap();
                prop_assert_eq!(written, Ok(end - at));
                (at, step) = (end, step + 1);
            }
            prop_assert_eq!(found(&dir).printed, book.printed());
            prop_assert!(book.printed() + 4 > all.len() as u64);
        }
    }
}
