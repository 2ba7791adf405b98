//! Which commands this runner has seen, also before its last restart: one that comes again is not done
//! again.
//!
//! A command is written down before it is done and its outcome after; one without an outcome was cut
//! off by the runner's death, and nobody knows how far it came: it is not done again either.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::Receipt;

/// So many commands are remembered.
const MOST: usize = 4096;

/// The file is written anew when it has so many lines.
const LINES: usize = 4 * MOST;

/// The longest line that is read.
const LONGEST: u64 = 16 << 10;

#[derive(Serialize, Deserialize)]
struct Line {
    command: CommandId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Receipt>,
}

/// What is known of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is new; from now on it is not.
    New,
    /// It is being done: its receipt comes.
    Begun,
    /// It was done.
    Done(Receipt),
}

/// The commands that were seen.
#[derive(Debug)]
pub(super) struct Receipts {
    path: PathBuf,
    file: File,
    lines: usize,
    known: HashMap<CommandId, Option<Receipt>>,
    order: VecDeque<CommandId>,
}

impl Receipts {
    /// Opens what an earlier runner knew.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = append_to(path)?;
        let mut receipts = Self {
            path: path.to_owned(),
            file,
            lines: 0,
            known: HashMap::new(),
            order: VecDeque::new(),
        };
        let mut reader = BufReader::new(File::open(path)?);
        let mut text = Vec::new();
        loop {
            text.clear();
            let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut text)?;
            if read == 0 {
                break;
            }
            if let Ok(line) = serde_json::from_slice::<Line>(&text) {
                receipts.remember(line.command, line.outcome);
            }
        }
        for outcome in receipts.known.values_mut().filter(|outcome| outcome.is_none()) {
            *outcome = Some(Receipt::Rejected {
                code: "RUNNER_LOST".to_owned(),
                message: "the runner was restarted while it did this; look, and try again"
                    .to_owned(),
            });
        }
        receipts.rewrite()?;
        Ok(receipts)
    }

    fn remember(&mut self, command: CommandId, outcome: Option<Receipt>) {
        if self.known.insert(command, outcome).is_none() {
            self.order.push_back(command);
        }
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// A command came. It may be done when it is new and this is written.
    pub(super) fn begin(&mut self, command: CommandId) -> io::Result<Known> {
        match self.known.get(&command) {
            Some(None) => return Ok(Known::Begun),
            Some(Some(Receipt::Accepted)) => return Ok(Known::Done(Receipt::Duplicate)),
            Some(Some(outcome)) => return Ok(Known::Done(outcome.clone())),
            None => {}
        }
        self.write(&Line { command, outcome: None })?;
        self.remember(command, None);
        Ok(Known::New)
    }

    /// What became of it.
    pub(super) fn done(&mut self, command: CommandId, outcome: &Receipt) {
        self.remember(command, Some(outcome.clone()));
        if let Err(error) = self.write(&Line { command, outcome: Some(outcome.clone()) }) {
            // After a restart it counts as cut off, which is no worse than not knowing.
            tracing::warn!(%error, "a command's outcome is not written down");
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        if self.lines >= LINES {
            self.rewrite()?;
        }
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        self.lines += 1;
        Ok(())
    }

    /// Writes what is known into a new file.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        for command in &self.order {
            let outcome = self.known.get(command).cloned().flatten();
            serde_json::to_writer(&mut text, &Line { command: *command, outcome })?;
            text.push(b'\n');
        }
        super::record::put(&self.path, &text)?;
        self.file = append_to(&self.path)?;
        self.lines = self.order.len();
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_02_a_command_that_comes_again_is_not_done_again_not_even_by_another_runner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipts");
        let [done, refused, cut] = [CommandId::new(), CommandId::new(), CommandId::new()];
        let rejected = Receipt::Rejected { code: "X".to_owned(), message: "x".to_owned() };
        let mut receipts = Receipts::open(&path).unwrap();
        for command in [done, refused, cut] {
            assert_eq!(receipts.begin(command).unwrap(), Known::New);
            assert_eq!(receipts.begin(command).unwrap(), Known::Begun);
        }
        receipts.done(done, &Receipt::Accepted);
        receipts.done(refused, &rejected);
        for _restart in 0..2 {
            assert_eq!(receipts.begin(done).unwrap(), Known::Done(Receipt::Duplicate));
            assert_eq!(receipts.begin(refused).unwrap(), Known::Done(rejected.clone()));
            receipts = Receipts::open(&path).unwrap();
        }
        let Known::Done(Receipt::Rejected { code, .. }) = receipts.begin(cut).unwrap() else {
            panic!("nobody knows whether it was done")
        };
        assert_eq!(code, "RUNNER_LOST");
    }

    #[test]
    fn what_is_remembered_is_bounded_on_disk_and_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipts");
        let mut receipts = Receipts::open(&path).unwrap();
        let first = CommandId::new();
        receipts.begin(first).unwrap();
        for _ in 0..2 * LINES {
            let command = CommandId::new();
            receipts.begin(command).unwrap();
            receipts.done(command, &Receipt::Accepted);
        }
        assert_eq!(receipts.known.len(), MOST);
        assert!(fs::metadata(&path).unwrap().len() < LINES as u64 * 160);
        assert_eq!(receipts.begin(first).unwrap(), Known::New, "the oldest is forgotten");
    }
}
