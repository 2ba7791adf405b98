//! The log's files: appended to, never changed, one process at a time.

use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// The directory of the log in the data directory.
pub const DIR: &str = "audit";
/// Held by whoever appends.
const LOCK: &str = "lock";
/// Whoever asks whether the lock is held holds it for a moment, and must not keep a gateway from
/// starting.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Where lines go. A trait, so that a test can have a disk that fails.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Appends and syncs: all of it is durable, or it counts as not there.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;

    /// The size of the file that is appended to.
    fn size(&self) -> u64;

    /// Goes on in a new file.
    fn rotate(&mut self) -> io::Result<()>;
}

/// The real thing.
#[derive(Debug)]
pub(crate) struct FileDisk {
    dir: PathBuf,
    number: u64,
    file: File,
    /// How much of the file is durable. What is behind it is from an append that failed.
    durable: u64,
    torn: bool,
    _lock: File,
}

impl FileDisk {
    /// Takes the lock and opens the newest file, or makes the first.
    pub(crate) fn open(dir: &Path) -> Result<Self, LockError> {
        DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        let lock = lock(dir)?;
        let number = numbers(dir)?.last().copied().unwrap_or(1);
        let file = open_file(dir, number)?;
        let durable = file.metadata()?.len();
        Ok(Self { dir: dir.to_owned(), number, file, durable, torn: false, _lock: lock })
    }

    /// Cuts what a crash left behind the last whole line, and gives it back (its beginning, and how
    /// much it was).
    pub(crate) fn cut_torn_end(&mut self) -> io::Result<Option<Torn>> {
        let whole = self.whole_lines()?;
        let bytes = self.durable - whole;
        if bytes == 0 {
            return Ok(None);
        }
        let mut beginning = vec![0; usize::try_from(bytes.min(4096)).unwrap_or(0)];
        self.file.read_exact_at(&mut beginning, whole)?;
        self.file.set_len(whole)?;
        self.file.sync_all()?;
        self.durable = whole;
        Ok(Some(Torn { file: name(self.number), bytes, beginning }))
    }

    /// The length up to and with the last end of line.
    fn whole_lines(&self) -> io::Result<u64> {
        let mut end = self.durable;
        let mut buffer = [0; 64 * 1024];
        while end > 0 {
            let start = end.saturating_sub(64 * 1024);
            let part = &mut buffer[..usize::try_from(end - start).unwrap_or(0)];
            self.file.read_exact_at(part, start)?;
            if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
                return Ok(start + u64::try_from(at).unwrap_or(0) + 1);
            }
            end = start;
        }
        Ok(0)
    }

    /// Fails as a full disk does: some of it is written.
    #[cfg(test)]
    pub(super) fn fail_halfway(&mut self, lines: &[u8]) -> io::Error {
        self.torn = true;
        self.file.write_all_at(&lines[..lines.len() / 2], self.durable).unwrap();
        io::Error::from(io::ErrorKind::StorageFull)
    }

    /// The last whole lines of the file, at least three when there are as many.
    pub(crate) fn last_lines(&mut self) -> io::Result<Vec<u8>> {
        let most = 4 * u64::try_from(sojourn_core::audit::MAX_LINE).unwrap_or(0);
        let start = self.durable.saturating_sub(most);
        self.file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&mut self.file).take(self.durable - start).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// What a crash left behind the last whole line.
#[derive(Debug)]
pub(crate) struct Torn {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) beginning: Vec<u8>,
}

impl Disk for FileDisk {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // After a failed sync the kernel may have dropped the pages and say that all is well, so
        // whatever is behind the durable end is written anew.
        if self.torn {
            self.file.set_len(self.durable)?;
        }
        self.torn = true;
        self.file.write_all_at(lines, self.durable)?;
        self.file.sync_data()?;
        self.torn = false;
        self.durable += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.durable
    }

    fn rotate(&mut self) -> io::Result<()> {
        let number = self.number + 1;
        let file = open_file(&self.dir, number)?;
        if self.torn {
            self.file.set_len(self.durable)?;
        }
        (self.file, self.number, self.durable, self.torn) = (file, number, 0, false);
        Ok(())
    }
}

/// Why the log could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process appends to it.
    #[error("the audit log is being written by process {0}")]
    Held(String),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn lock(dir: &Path) -> Result<File, LockError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let mut file = options.open(dir.join(LOCK))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    let mut pid = String::new();
    (&mut file).take(16).read_to_string(&mut pid)?;
    Err(LockError::Held(pid))
}

/// Whether some process appends to the log now.
pub(crate) fn is_held(dir: &Path) -> bool {
    File::open(dir.join(LOCK))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The name of the file with this number.
pub(crate) fn name(number: u64) -> String {
    format!("audit-{number}.jsonl")
}

/// The numbers of the log's files, in order.
pub(crate) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let file_name = entry?.file_name();
        let number = file_name
            .to_str()
            .and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"))
            .and_then(|number| number.parse().ok());
        numbers.extend(number.filter(|number| file_name.to_str() == Some(&name(*number))));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_file(dir: &Path, number: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let file = options.open(dir.join(name(number)))?;
    // The new name must be as durable as the lines that follow.
    File::open(dir)?.sync_all()?;
    Ok(file)
}
