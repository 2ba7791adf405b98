//! Events of one session on disk, from their birth until the gateway has acknowledged them.
//!
//! An event gets its number here and is written before anybody may send it, so a runner that was
//! killed has lost nothing that was shown. (Written, not synced: a crash of the whole machine may
//! lose what its kernel had not written out.) Files are segments of JSON lines, named after the first
//! number in them; an acknowledged segment is deleted as a whole. What is kept is bounded: when it is
//! full, [`Spool::append`] says so, and whoever fills it has to wait, which stops the agent.

use std::collections::VecDeque;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Epoch;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::MAX_FRAME;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::relay::Sequenced;

/// A segment is closed when it is this long, in bytes.
const SEGMENT: u64 = 1 << 20;

/// What every event may add beyond its bound: the end of a session is never refused a place.
const RESERVE: u64 = 64 << 10;

/// Why an event was not kept.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// There is no room until the gateway has acknowledged some.
    #[error("the spool is full ({0} bytes wait for the gateway)")]
    Full(u64),
    /// The event is longer than one may be.
    #[error("the event is too long")]
    Long,
    /// The disk says no.
    #[error("the spool cannot be written: {0}")]
    Disk(#[from] io::Error),
}

/// One file.
#[derive(Debug)]
struct Segment {
    /// The first number in it.
    first: Seq,
    bytes: u64,
}

/// The events of one session that the gateway does not have for certain.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    session: SessionId,
    /// The oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    file: Option<File>,
    head: Seq,
    acked: Seq,
    bytes: u64,
    most: u64,
    /// Where the last reading ended: going on from there reads nothing twice.
    place: Option<Place>,
}

/// A place between two events.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The event that comes next.
    next: Seq,
    /// The segment it is in, by its first number.
    segment: Seq,
    offset: u64,
}

impl Spool {
    /// Opens what a runner kept of a session, or begins it. At most `most` bytes are kept.
    ///
    /// A line that was not written whole (the runner was killed in it) is cut off: nobody was shown
    /// it.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn open(directory: &Path, session: SessionId, most: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut firsts: Vec<Seq> = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let first: Option<Seq> =
                name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse().ok());
            firsts.extend(first);
        }
        firsts.sort_unstable();
        let mut spool = Self {
            directory: directory.to_owned(),
            session,
            segments: VecDeque::new(),
            file: None,
            head: firsts.first().map_or(0, |first: &Seq| first.saturating_sub(1)),
            acked: firsts.first().map_or(0, |first| first.saturating_sub(1)),
            bytes: 0,
            most,
            place: None,
        };
        for first in firsts {
            spool.take_up(first)?;
        }
        Ok(spool)
    }

    fn take_up(&mut self, first: Seq) -> io::Result<()> {
        let path = self.path(first);
        let mut whole = 0;
        let mut reader = BufReader::new(File::open(&path)?);
        let mut line = Vec::new();
        while read_line(&mut reader, &mut line)? {
            let Ok(event) = serde_json::from_slice::<Sequenced>(&line) else { break };
            if event.seq != self.head + 1 {
                break;
            }
            self.head = event.seq;
            whole += line.len() as u64 + 1;
        }
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(whole)?;
        self.segments.push_back(Segment { first, bytes: whole });
        self.bytes += whole;
        Ok(())
    }

    fn path(&self, first: Seq) -> PathBuf {
        self.directory.join(format!("{first:020}.jsonl"))
    }

    /// The number of the last event; 0 before the first.
    #[must_use]
    pub const fn head(&self) -> Seq {
        self.head
    }

    /// Up to where the gateway has them.
    #[must_use]
    pub const fn acked(&self) -> Seq {
        self.acked
    }

    /// Numbers an event and keeps it. When that is done, it may be sent.
    ///
    /// # Errors
    /// When there is no room; nothing is kept then, and its number goes to the next.
    pub fn append(
        &mut self,
        epoch: Epoch,
        at: Wall,
        event: Event,
    ) -> Result<Sequenced, SpoolError> {
        // The end always fits: a session that fills its spool must be able to say that it is over.
        let is_last = matches!(event, Event::Ended { .. } | Event::LimitExceeded { .. });
        let event = Sequenced { session: self.session, epoch, seq: self.head + 1, at, event };
        let mut line = serde_json::to_vec(&event).map_err(|_| SpoolError::Long)?;
        line.push(b'\n');
        if line.len() > MAX_FRAME {
            return Err(SpoolError::Long);
        }
        let length = line.len() as u64;
        let room = if is_last { self.most + RESERVE } else { self.most };
        if self.bytes + length > room {
            return Err(SpoolError::Full(self.bytes));
        }
        self.write(&line)?;
        self.head = event.seq;
        self.bytes += length;
        Ok(event)
    }

    /// Writes a whole line or none.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let first = self.head + 1;
        let is_full = self.segments.back().is_none_or(|last| last.bytes >= SEGMENT);
        if is_full {
            let file = OpenOptions::new()
                .create_new(true)
                .append(true)
                .mode(0o600)
                .open(self.path(first))?;
            self.file = Some(file);
            self.segments.push_back(Segment { first, bytes: 0 });
        }
        let Some(last) = self.segments.back_mut() else { return Ok(()) };
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let name = self.directory.join(format!("{:020}.jsonl", last.first));
                none.insert(OpenOptions::new().append(true).open(name)?)
            }
        };
        if let Err(error) = file.write_all(line) {
            // What was written of it must not stand before the next one.
            file.set_len(last.bytes)?;
            return Err(error);
        }
        last.bytes += line.len() as u64;
        Ok(())
    }

    /// The gateway has everything up to this. Returns whether that made room.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub fn acknowledge(&mut self, seq: Seq) -> io::Result<bool> {
        if seq <= self.acked || seq > self.head {
            return Ok(false);
        }
        self.acked = seq;
        let mut made_room = false;
        // A segment goes when the next one begins at or before what comes next; the last one stays,
        // so that its name tells the number after a restart.
        while self.segments.get(1).is_some_and(|next| next.first <= seq + 1) {
            let Some(old) = self.segments.pop_front() else { break };
            fs::remove_file(self.path(old.first))?;
            self.bytes -= old.bytes;
            made_room = true;
        }
        Ok(made_room)
    }

    /// The gateway has more than there is here, as after a crash of the machine: numbers go on behind
    /// what it has.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub fn skip_to(&mut self, seq: Seq) -> io::Result<()> {
        if seq <= self.head {
            return Ok(());
        }
        for old in self.segments.drain(..) {
            fs::remove_file(self.directory.join(format!("{:020}.jsonl", old.first)))?;
        }
        (self.head, self.acked, self.bytes) = (seq, seq, 0);
        (self.file, self.place) = (None, None);
        Ok(())
    }

    /// The events from this number on, at most so many. Going on from where the last call ended is
    /// cheap.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn from(&mut self, seq: Seq, most: usize) -> io::Result<Vec<Sequenced>> {
        let mut events = Vec::new();
        let place = self.place.filter(|place| place.next == seq);
        let start = match place {
            Some(place) => self.segments.iter().position(|it| it.first == place.segment),
            None => self.segments.iter().rposition(|segment| segment.first <= seq),
        };
        let mut offset = place.filter(|_| start.is_some()).map_or(0, |place| place.offset);
        for segment in self.segments.iter().skip(start.unwrap_or(0)) {
            if events.len() >= most {
                break;
            }
            let mut file = File::open(self.path(segment.first))?;
            file.seek(SeekFrom::Start(offset))?;
            let mut reader = BufReader::new(file);
            let mut line = Vec::new();
            while events.len() < most && read_line(&mut reader, &mut line)? {
                let event: Sequenced = serde_json::from_slice(&line).map_err(io::Error::other)?;
                offset += line.len() as u64 + 1;
                let next = event.seq + 1;
                if event.seq >= seq {
                    events.push(event);
                }
                self.place = Some(Place { next, segment: segment.first, offset });
            }
            offset = 0;
        }
        Ok(events)
    }

    /// Deletes all of it: the session's end is on record at the gateway.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(self.directory)
    }
}

/// Reads a line that is whole, without its end. False at the end of the file, and where a line is cut.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    reader.take(MAX_FRAME as u64 + 1).read_until(b'\n', line)?;
    Ok(line.pop() == Some(b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Event {
        Event::Stderr { text: text.to_owned() }
    }

    fn open(directory: &Path, most: u64) -> Spool {
        let session = "01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().unwrap();
        Spool::open(directory, session, most).unwrap()
    }

    fn numbers(spool: &mut Spool, from: Seq) -> Vec<Seq> {
        spool.from(from, usize::MAX).unwrap().iter().map(|event| event.seq).collect()
    }

    #[test]
    fn events_outlive_their_runner_until_they_are_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path(), 64 << 20);
        let big = "x".repeat(100_000);
        for n in 1..=40 {
            assert_eq!(spool.append(1, Wall(n), said(&big)).unwrap().seq, n as u64);
        }
        drop(spool);
        let mut spool = open(dir.path(), 64 << 20);
        assert_eq!((spool.head(), spool.acked()), (40, 0));
        assert_eq!(numbers(&mut spool, 1), (1..=40).collect::<Vec<_>>());
        assert_eq!(numbers(&mut spool, 38), [38, 39, 40]);
        assert!(spool.acknowledge(35).unwrap());
        assert!(!spool.acknowledge(20).unwrap(), "it never goes back");
        assert!(!spool.acknowledge(99).unwrap(), "nor beyond what there is");
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert!(files <= 2, "{files} files");
        assert_eq!(numbers(&mut spool, 36), [36, 37, 38, 39, 40]);
        spool.acknowledge(40).unwrap();
        drop(spool);
        assert_eq!(open(dir.path(), 64 << 20).append(2, Wall(0), said("x")).unwrap().seq, 41);
    }

    #[test]
    fn reading_goes_on_where_it_ended_while_others_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path(), 64 << 20);
        let big = "x".repeat(300_000);
        let mut read = Vec::new();
        for n in 1..=30 {
            spool.append(1, Wall(n), said(&big)).unwrap();
            if n % 3 == 0 {
                let next = read.last().map_or(1, |last| last + 1);
                read.extend(spool.from(next, 2).unwrap().iter().map(|event| event.seq));
                spool.acknowledge(next.saturating_sub(4)).unwrap();
            }
        }
        assert_eq!(read, (1..=20).collect::<Vec<_>>());
        assert_eq!(spool.from(21, 100).unwrap().len(), 10);
        assert_eq!(spool.from(31, 100).unwrap(), []);
        spool.append(1, Wall(0), said("x")).unwrap();
        assert_eq!(spool.from(31, 100).unwrap().len(), 1);
        spool.skip_to(40).unwrap();
        assert_eq!(spool.append(1, Wall(0), said("y")).unwrap().seq, 41);
        assert_eq!(numbers(&mut spool, 41), [41]);
    }

    #[test]
    fn a_line_that_was_cut_is_as_if_it_never_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path(), 1 << 20);
        spool.append(1, Wall(0), said("whole")).unwrap();
        let second = spool.append(1, Wall(0), said("cut")).unwrap();
        drop(spool);
        let path = dir.path().join(format!("{:020}.jsonl", 1));
        let whole = fs::read(&path).unwrap();
        for keep in 1..=serde_json::to_vec(&second).unwrap().len() {
            fs::write(&path, &whole[..whole.len() - keep]).unwrap();
            let mut spool = open(dir.path(), 1 << 20);
            assert_eq!(spool.head(), 1, "{keep} bytes lost");
            assert_eq!(spool.append(1, Wall(0), said("again")).unwrap().seq, 2);
            assert_eq!(numbers(&mut spool, 1), [1, 2]);
            fs::write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn a_full_spool_refuses_all_but_the_end_and_room_comes_with_acknowledgement() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path(), 3 << 20);
        let big = "x".repeat(200_000);
        let full = loop {
            match spool.append(1, Wall(0), said(&big)) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(full, SpoolError::Full(_)), "{full}");
        let head = spool.head();
        let end = Event::LimitExceeded {
            limit: sojourn_core::end::Limit::MaxOutput,
            configured: 1,
            reached: 2,
        };
        assert_eq!(spool.append(1, Wall(0), end).unwrap().seq, head + 1);
        assert!(spool.acknowledge(head).unwrap());
        assert!(spool.append(1, Wall(0), said(&big)).is_ok());
    }
}
