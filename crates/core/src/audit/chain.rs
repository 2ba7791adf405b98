//! From events to lines, and from lines to what is wrong with them.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use super::Action;
use super::Actor;
use super::Checkpoint;
use super::Event;
use super::Head;
use super::LineHash;
use super::MAX_LINE;
use super::PublicKey;
use crate::ids::EventId;
use crate::ids::SessionId;
use crate::time::Wall;

/// What stands between the hashed bytes and the hash.
const BEFORE_HASH: &[u8] = b",\"hash\":\"";
/// What stands behind the hash.
const AFTER_HASH: &[u8] = b"\"}";
/// What has room for most lines, in bytes.
const USUAL_LINE: usize = 640;
/// The longest details, as JSON. Longer ones are replaced by their size and digest.
const MAX_DETAILS: usize = 32 * 1024;

/// A line without its hash, in the order of its members.
#[derive(Serialize)]
struct Body<'a> {
    seq: u64,
    event_id: EventId,
    timestamp: String,
    action: &'static str,
    actor: Actor,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    details: &'a Map<String, Value>,
    prev: LineHash,
}

/// Makes lines that continue a chain. It is small and copied freely: to take lines back that could
/// not be written, keep a copy from before.
#[derive(Clone, Copy, Debug)]
pub struct ChainWriter {
    head: Head,
}

impl ChainWriter {
    /// Continues the chain that ends at `head`.
    #[must_use]
    pub const fn new(head: Head) -> Self {
        Self { head }
    }

    /// Where the chain ends now.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// The next line, without its end of line.
    ///
    /// # Errors
    /// Only when the event cannot be JSON, which no event of ours is.
    pub fn line(&mut self, event: &Event) -> Result<String, serde_json::Error> {
        let mut line = self.body(event, &event.details)?;
        // Shorter as a whole, its details are as well: as a rule they need not be measured.
        if line.len() > MAX_DETAILS {
            let details = serde_json::to_string(&event.details)?;
            if details.len() > MAX_DETAILS {
                line = self.body(event, &stand_in(&details))?;
            }
        }
        line.pop();
        let hash = LineHash::of(line.as_bytes());
        line.push_str(",\"hash\":\"");
        line.push_str(&hash.to_string());
        line.push_str("\"}");
        self.head = Head { seq: self.head.seq + 1, hash };
        Ok(line)
    }

    /// The next line as far as it is hashed, and a closing brace.
    fn body(
        &self,
        event: &Event,
        details: &Map<String, Value>,
    ) -> Result<String, serde_json::Error> {
        let mut line = Vec::with_capacity(USUAL_LINE);
        let body = Body {
            seq: self.head.seq + 1,
            event_id: event.event_id,
            timestamp: event.timestamp.to_rfc3339(),
            action: event.action.name(),
            actor: event.actor.bounded(),
            session_id: event.session_id,
            details,
            prev: self.head.hash,
        };
        serde_json::to_writer(&mut line, &body)?;
        String::from_utf8(line).map_err(serde::ser::Error::custom)
    }
}

/// What stands for details that are too long for a line.
fn stand_in(details: &str) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("too_long".to_owned(), true.into());
    map.insert("bytes".to_owned(), details.len().into());
    map.insert("sha256".to_owned(), LineHash::of(details.as_bytes()).to_string().into());
    map
}

/// A line as it is read. The action is a text, so that lines of a later version can be read too.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Entry {
    /// Counts from 1, without gaps, across files.
    pub seq: u64,
    /// The event's own id.
    pub event_id: EventId,
    /// When it happened.
    #[serde(deserialize_with = "rfc3339")]
    pub timestamp: Wall,
    /// What happened.
    pub action: String,
    /// Who did it.
    pub actor: Actor,
    /// In which session.
    #[serde(default)]
    pub session_id: Option<SessionId>,
    /// More about it.
    pub details: Map<String, Value>,
    /// The hash of the line before.
    pub prev: LineHash,
    /// This line's hash.
    pub hash: LineHash,
}

impl Entry {
    /// Reads a line by itself, given without its end of line: whole, unchanged, and ours.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_line(line: &[u8]) -> Result<Self, Fault> {
        if line.len() > MAX_LINE {
            return Err(Fault::TooLong);
        }
        let (body, hash) = split(line).ok_or(Fault::HashNotLast)?;
        if LineHash::of(body) != hash {
            return Err(Fault::Changed);
        }
        serde_json::from_slice(line).map_err(|error| Fault::NotAnEntry(error.to_string()))
    }

    /// The end of a chain whose last line this is.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// The checkpoint in this line, if it is one.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        (self.action == Action::Checkpoint.name())
            .then(|| serde_json::from_value(Value::Object(self.details.clone())).ok())
            .flatten()
    }
}

fn rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wall, D::Error> {
    Wall::from_rfc3339(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Longer than a line can be.
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    /// No hash at the very end, so what it covers cannot be told.
    #[error("does not end with its hash")]
    HashNotLast,
    /// The hash is of other bytes.
    #[error("changed: the line's bytes do not give the hash it states")]
    Changed,
    /// Hashed, but not a line of ours.
    #[error("not an audit line: {0}")]
    NotAnEntry(String),
    /// Numbers are missing.
    #[error("gap: line {expected} should stand here, this is {found}")]
    Gap {
        /// The next number.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// A number that was there before.
    #[error("out of order: line {expected} should stand here, this is {found}")]
    OutOfOrder {
        /// The next number.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// It continues another line than the one before it.
    #[error("does not continue the line before it: its \"prev\" is another line's hash")]
    WrongPrev,
    /// A checkpoint that does not fit the chain, or that our key did not sign.
    #[error("checkpoint: {0}")]
    BadCheckpoint(&'static str),
    /// A checkpoint kept elsewhere says this line had another hash.
    #[error("changed since the kept checkpoint: line {seq} had the hash {hash}")]
    NotAsKept {
        /// The line's number.
        seq: u64,
        /// The hash it had.
        hash: LineHash,
    },
    /// A checkpoint kept elsewhere covers a line that is not there any more.
    #[error("cut off: a kept checkpoint covers line {seq}, and the log ends before it")]
    CutOff {
        /// The line's number.
        seq: u64,
    },
}

/// Which hashes the next line may continue.
#[derive(Clone, Copy, Debug)]
enum Continues {
    /// Exactly this one.
    One(LineHash),
    /// The line before was changed: what it stated, or what its bytes give.
    Either(LineHash, LineHash),
    /// The line before could not be read.
    Anything,
}

/// Checks lines one after another. After a fault it goes on from what the faulty line says of
/// itself, so that one fault does not make every later line one.
#[derive(Clone, Debug)]
pub struct ChainChecker {
    /// The highest number so far.
    seq: u64,
    continues: Continues,
    key: Option<PublicKey>,
    kept: Vec<Checkpoint>,
}

impl ChainChecker {
    /// Checks a log from its first line on. With a `key`, checkpoints must be signed by it.
    #[must_use]
    pub const fn new(key: Option<PublicKey>) -> Self {
        Self { seq: 0, continues: Continues::One(LineHash::ZERO), key, kept: Vec::new() }
    }

    /// Also holds the log against a checkpoint that was kept elsewhere.
    ///
    /// # Errors
    /// When the checkpoint is not signed by the key.
    pub fn hold_against(&mut self, kept: Checkpoint) -> Result<(), Fault> {
        if self.key.as_ref().is_some_and(|key| !kept.is_signed_by(key)) {
            return Err(Fault::BadCheckpoint("the kept one is not signed by this gateway's key"));
        }
        self.kept.push(kept);
        Ok(())
    }

    /// The highest number so far.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Checks the next line, given without its end of line.
    ///
    /// # Errors
    /// What is wrong with it: the first thing, when there are several.
    pub fn feed(&mut self, line: &[u8]) -> Result<Entry, Fault> {
        let entry = match Entry::from_line(line) {
            Ok(entry) => entry,
            Err(fault) => {
                self.resume_after(line);
                return Err(fault);
            }
        };
        let expected = self.seq + 1;
        let unsure = matches!(self.continues, Continues::Anything);
        let continued = match self.continues {
            Continues::One(hash) => entry.prev == hash,
            Continues::Either(stated, computed) => entry.prev == stated || entry.prev == computed,
            Continues::Anything => true,
        };
        self.seq = self.seq.max(entry.seq);
        self.continues = Continues::One(entry.hash);
        let found = entry.seq;
        if found < expected {
            return Err(Fault::OutOfOrder { expected, found });
        }
        if found > expected && !unsure {
            return Err(Fault::Gap { expected, found });
        }
        if !continued {
            return Err(Fault::WrongPrev);
        }
        self.check_checkpoint(&entry)?;
        let differs = |kept: &&Checkpoint| kept.seq == entry.seq && kept.hash != entry.hash;
        if let Some(kept) = self.kept.iter().find(differs) {
            return Err(Fault::NotAsKept { seq: kept.seq, hash: kept.hash });
        }
        Ok(entry)
    }

    /// What only the log's end tells: kept checkpoints of lines that are not there.
    #[must_use]
    pub fn finish(self) -> Vec<Fault> {
        let missing = self.kept.iter().filter(|kept| kept.seq > self.seq);
        missing.map(|kept| Fault::CutOff { seq: kept.seq }).collect()
    }

    fn check_checkpoint(&self, entry: &Entry) -> Result<(), Fault> {
        if entry.action != Action::Checkpoint.name() {
            return Ok(());
        }
        let Some(checkpoint) = entry.checkpoint() else {
            return Err(Fault::BadCheckpoint("its details are not a checkpoint's"));
        };
        if checkpoint.seq + 1 != entry.seq || checkpoint.hash != entry.prev {
            return Err(Fault::BadCheckpoint("it is not of the line before it"));
        }
        if self.key.as_ref().is_some_and(|key| !checkpoint.is_signed_by(key)) {
            return Err(Fault::BadCheckpoint("it is not signed by this gateway's key"));
        }
        Ok(())
    }

    /// Finds out what the line behind a faulty one may continue.
    fn resume_after(&mut self, line: &[u8]) {
        self.continues = match (Head::stated_by(line), split(line)) {
            (Some(stated), Some((body, _))) if stated.seq == self.seq + 1 => {
                self.seq = stated.seq;
                Continues::Either(stated.hash, LineHash::of(body))
            }
            _ => Continues::Anything,
        };
    }
}

impl Head {
    /// What a line says of itself, whether or not it is true: a log goes on behind a damaged line
    /// as if it were whole, so that the damage stays one finding.
    #[must_use]
    pub fn stated_by(line: &[u8]) -> Option<Self> {
        let (_, hash) = split(line)?;
        let entry: Entry = serde_json::from_slice(line).ok()?;
        Some(Self { seq: entry.seq, hash })
    }
}

/// The hashed bytes of a line, and its hash.
fn split(line: &[u8]) -> Option<(&[u8], LineHash)> {
    let line = line.strip_suffix(AFTER_HASH)?;
    let (body, hash) = line.split_at_checked(line.len().checked_sub(64)?)?;
    let body = body.strip_suffix(BEFORE_HASH)?;
    let hash = std::str::from_utf8(hash).ok()?.parse().ok()?;
    Some((body, hash))
}
