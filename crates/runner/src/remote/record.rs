//! What a runner keeps of a session beside its events: enough to tell, after its own death, what was
//! cut off, and to take the session up again.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::ids::SessionId;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::Epoch;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::MAX_PROMPTS;
use sojourn_core::wire::relay::Recovery;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Seq;

use super::leash::Taken;

/// The file's name.
const NAME: &str = "session.json";

/// The longest such file that is read.
const LONGEST: u64 = 1 << 20;

/// One session's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) session: SessionId,
    /// How often its program was started.
    pub(super) epoch: Epoch,
    pub(super) harness: String,
    pub(super) status: Status,
    /// What its agent asked and nobody answered.
    pub(super) asks: Vec<RequestId>,
    /// Whether the agent was at work.
    pub(super) in_turn: bool,
    /// How to take it up again.
    pub(super) recovery: Option<Recovery>,
    /// The number of its last event, once it is over.
    pub(super) head: Seq,
    /// For how long it ran, in milliseconds.
    ran_ms: u64,
    /// What it printed, in bytes.
    printed: u64,
    /// What its agent spent, in millionths.
    #[serde(default)]
    spent: u64,
    /// Whether its end was told.
    pub(super) over: bool,
}

impl Record {
    /// Before the start.
    pub(super) fn new(session: SessionId, harness: &str, epoch: Epoch) -> Self {
        Self {
            session,
            epoch,
            harness: harness.to_owned(),
            status: Status::Starting,
            asks: Vec::new(),
            in_turn: false,
            recovery: None,
            head: 0,
            ran_ms: 0,
            printed: 0,
            spent: 0,
            over: false,
        }
    }

    /// Another start of the same session.
    pub(super) fn again(&self, epoch: Epoch) -> Self {
        Self {
            epoch,
            status: Status::Starting,
            asks: Vec::new(),
            in_turn: false,
            over: false,
            ..self.clone()
        }
    }

    /// What the session took so far.
    pub(super) const fn taken(&self) -> Taken {
        let runtime = Duration::from_millis(self.ran_ms);
        Taken { runtime, output: self.printed, cost: self.spent }
    }

    /// Notes what the session took.
    pub(super) fn took(&mut self, taken: Taken) {
        self.ran_ms = u64::try_from(taken.runtime.as_millis()).unwrap_or(u64::MAX);
        self.printed = taken.output;
        self.spent = taken.cost;
    }

    /// Something happened in it. Says whether that changed what has to be kept.
    pub(super) fn hear(&mut self, event: &Event) -> bool {
        let before = (self.status, self.asks.len(), self.in_turn, self.over);
        match event {
            Event::Started { recovery, .. } => {
                self.status = Status::Running;
                if recovery.is_some() {
                    self.recovery.clone_from(recovery);
                }
                return true;
            }
            Event::Status { status } => {
                self.status = *status;
                self.in_turn = match status {
                    Status::Running => true,
                    Status::Waiting => self.in_turn && !self.asks.is_empty(),
                    _ => self.in_turn,
                };
            }
            Event::Prompt(prompt) => self.ask(prompt.request),
            Event::Question(question) => self.ask(question.request),
            Event::Resolved { request, .. } => self.asks.retain(|ask| ask != request),
            Event::TurnEnded { .. } | Event::TurnCut { .. } => self.in_turn = false,
            Event::Ended { recovery, .. } => {
                self.status = Status::Ended;
                self.asks.clear();
                (self.in_turn, self.over) = (false, true);
                if recovery.is_some() {
                    self.recovery.clone_from(recovery);
                }
            }
            // What was spent is not forgotten by a crash.
            Event::Usage(usage) => return usage.cost_micros.is_some(),
            _ => return false,
        }
        before != (self.status, self.asks.len(), self.in_turn, self.over)
    }

    fn ask(&mut self, request: RequestId) {
        self.in_turn = true;
        if self.asks.len() < MAX_PROMPTS {
            self.asks.push(request);
        }
    }

    /// Writes it into the session's directory, whole or not at all.
    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        put(&directory.join(NAME), &text)
    }

    /// Reads it; none where there is none that can be read.
    pub(super) fn load(directory: &Path) -> Option<Self> {
        let path = directory.join(NAME);
        if fs::metadata(&path).ok()?.len() > LONGEST {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

/// Writes a file of ours whole, in the place of what was there.
pub(super) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use sojourn_core::wire::relay::Outcome;
    use sojourn_core::wire::relay::Question;

    use super::*;

    #[test]
    fn what_is_open_is_known_after_the_runners_death() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::new(SessionId::new(), "claude", 1);
        let request = RequestId::new();
        let question = Event::Question(Box::new(Question {
            request,
            question: "Which?".to_owned(),
            schema: serde_json::Value::Null,
            input_hash: String::new(),
        }));
        assert!(record.hear(&Event::Status { status: Status::Running }));
        assert!(record.hear(&question));
        assert!(!record.hear(&Event::Stderr { text: String::new() }));
        record.took(Taken { runtime: Duration::from_secs(5), output: 7, cost: 3 });
        record.save(dir.path()).unwrap();
        let mut found = Record::load(dir.path()).unwrap();
        assert_eq!(found, record);
        assert_eq!((found.asks.as_slice(), found.in_turn), (&[request][..], true));
        assert_eq!((found.taken().output, found.taken().cost), (7, 3));
        assert!(found.hear(&Event::Resolved { request, outcome: Outcome::Lost }));
        assert!(found.hear(&Event::TurnCut { why: "runner_died".to_owned() }));
        assert!(found.asks.is_empty() && !found.in_turn);
    }
}
