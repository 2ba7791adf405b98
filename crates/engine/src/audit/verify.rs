//! Checks the whole log: every line, every file, every checkpoint. Changes nothing, and works
//! beside a running gateway.

use std::fmt;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use sojourn_core::audit::ChainChecker;
use sojourn_core::audit::Checkpoint;
use sojourn_core::audit::Entry;
use sojourn_core::audit::Fault;

use super::disk;
use super::keys;
use super::read::LogReader;

/// The most findings that are kept; more are counted.
const MAX_FINDINGS: usize = 1000;
/// The most bytes of a file of kept checkpoints.
const MAX_KEPT: u64 = 4 << 20;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which file, below the data directory.
    pub file: PathBuf,
    /// In which of its lines, counted from 1; none: the file itself.
    pub line: Option<u64>,
    /// What.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}: {}", self.file.display(), self.what),
            None => write!(f, "{}: {}", self.file.display(), self.what),
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Files that were read.
    pub files: u64,
    /// Lines that were read.
    pub lines: u64,
    /// Checkpoints whose signature is ours.
    pub checkpoints: u64,
    /// What is wrong, in the order of the log.
    pub findings: Vec<Finding>,
    /// How much more is wrong.
    pub more: u64,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty() && self.more == 0
    }

    fn add(&mut self, file: PathBuf, line: Option<u64>, what: impl fmt::Display) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { file, line, what: what.to_string() });
        } else {
            self.more += 1;
        }
    }
}

/// Checks the log in a data directory, also against the checkpoints in the file `kept` (audit lines
/// or bare checkpoints, one a line). `each` sees every entry that is whole.
///
/// # Errors
/// When a file cannot be read at all.
pub fn verify(
    data_dir: &Path,
    kept: Option<&Path>,
    each: &mut dyn FnMut(&Entry),
) -> io::Result<Findings> {
    check(data_dir, kept, each, &mut || Ok(()))
}

/// The same for whoever waits no longer than this.
///
/// # Errors
/// When a file cannot be read at all; [`io::ErrorKind::TimedOut`] when it takes longer.
pub fn verify_until(data_dir: &Path, until: Instant) -> io::Result<Findings> {
    check(data_dir, None, &mut |_| {}, &mut || match Instant::now() > until {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(()),
    })
}

/// `goes_on` is asked before each line, whatever is in it.
fn check(
    data_dir: &Path,
    kept: Option<&Path>,
    each: &mut dyn FnMut(&Entry),
    goes_on: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<Findings> {
    let dir = data_dir.join(disk::DIR);
    let mut found = Findings::default();
    let key = keys::load_public(data_dir).unwrap_or_else(|error| {
        found.notes.push(error.to_string());
        None
    });
    if key.is_none() {
        found.notes.push("no key is there, so no checkpoint's signature was checked".to_owned());
    }
    let signed = key.is_some();
    let mut checker = ChainChecker::new(key);
    if let Some(path) = kept {
        hold_against(&mut checker, path, &mut found)?;
    }
    if dir.is_dir() {
        check_names(&dir, &mut found)?;
        let mut is_checkpoint = |entry: &Entry| {
            each(entry);
            signed && entry.checkpoint().is_some()
        };
        check_lines(&dir, &mut checker, &mut found, &mut is_checkpoint, goes_on)?;
    }
    let end = Path::new(disk::DIR).to_owned();
    for fault in checker.finish() {
        found.add(end.clone(), None, fault);
    }
    Ok(found)
}

/// Files are numbered from 1 without gaps.
fn check_names(dir: &Path, found: &mut Findings) -> io::Result<()> {
    let numbers = disk::numbers(dir)?;
    found.files = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
    let mut expected = 1;
    for number in numbers {
        if number > expected {
            let missing = Path::new(disk::DIR).join(disk::name(expected));
            found.add(missing, None, "missing");
        }
        expected = number + 1;
    }
    Ok(())
}

fn check_lines(
    dir: &Path,
    checker: &mut ChainChecker,
    found: &mut Findings,
    is_checkpoint: &mut dyn FnMut(&Entry) -> bool,
    goes_on: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let is_live = disk::is_held(dir);
    let mut reader = LogReader::open(dir)?;
    let mut last = (0, 0);
    while let Some(line) = reader.next_line()? {
        goes_on()?;
        found.lines += 1;
        last = (line.file, line.number);
        match checker.feed(&line.bytes) {
            Ok(entry) => found.checkpoints += u64::from(is_checkpoint(&entry)),
            Err(fault) => {
                let file = Path::new(disk::DIR).join(line.file_name());
                found.add(file, Some(line.number), fault);
            }
        }
    }
    let torn = reader.partial();
    if !torn.is_empty() {
        let file = Path::new(disk::DIR).join(disk::name(reader.file()));
        // A crash leaves less than a line; a whole one with something else than an end of line
        // behind it was tampered with.
        let whole = torn.split_last().is_some_and(|(_, line)| Entry::from_line(line).is_ok());
        if whole {
            let line = if last.0 == reader.file() { last.1 + 1 } else { 1 };
            found.add(file, Some(line), "changed: the line's end is not an end of line");
        } else if !is_live {
            let (file, bytes) = (file.display(), torn.len());
            found.notes.push(format!("{file}: torn end of {bytes} bytes, cut at next start"));
        }
    }
    Ok(())
}

fn hold_against(checker: &mut ChainChecker, path: &Path, found: &mut Findings) -> io::Result<()> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_KEPT).read_to_string(&mut text)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let mut any = false;
    for (number, line) in lines {
        any = true;
        let Some(checkpoint) = Checkpoint::from_kept(line) else {
            // The rest of such a file is none either.
            let fault = Fault::BadCheckpoint("not a checkpoint, nor an audit line of one");
            found.add(path.to_owned(), Some(number), fault);
            break;
        };
        if let Err(fault) = checker.hold_against(checkpoint) {
            found.add(path.to_owned(), Some(number), fault);
        }
    }
    if !any {
        found.add(path.to_owned(), None, "holds no checkpoint");
    }
    Ok(())
}
