//! What a client sent and its program has not taken yet: first in memory, then in a file without a
//! name, first in first out, bounded by channel and in all.
//!
//! The SSH library lets a client send on when bytes arrive, not when they are used. So every channel's
//! input is taken off the connection at once and kept here; only when a channel's spool is full does
//! its connection wait.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::Mode;
use rustix::fs::OFlags;

/// How much is read back from the file at once.
const REFILL: usize = 256 * 1024;

/// Memory up to this stays with an empty spool.
const KEPT: usize = 4 * 1024;

/// How much input may wait, where, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// The directory that the files without a name lie in.
    pub directory: PathBuf,
    /// In memory, a channel.
    pub memory: usize,
    /// In a file, a channel.
    pub file: u64,
    /// In files, in all.
    pub in_all: u64,
    /// A channel whose spool is full is closed when its program takes nothing for so long.
    pub patience: Duration,
}

impl SpoolLimits {
    /// The usual limits, with files in `directory`.
    #[must_use]
    pub fn in_directory(directory: PathBuf) -> Self {
        Self {
            directory,
            memory: 1 << 20,
            file: 256 << 20,
            in_all: 1 << 30,
            patience: Duration::from_secs(30),
        }
    }
}

/// What all spools share.
#[derive(Debug)]
pub(crate) struct SpoolRoom {
    limits: SpoolLimits,
    used: AtomicU64,
}

impl SpoolRoom {
    pub(crate) fn new(limits: SpoolLimits) -> Self {
        Self { limits, used: AtomicU64::new(0) }
    }

    pub(crate) fn limits(&self) -> &SpoolLimits {
        &self.limits
    }

    fn reserve(&self, bytes: u64) -> bool {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limits.in_all);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One channel's input, in the order it came. Its operations run to their end once begun: a future of
/// one that is dropped half-way takes the file's part with it.
#[derive(Debug)]
pub(crate) struct Spool {
    room: Arc<SpoolRoom>,
    /// The older part.
    memory: VecDeque<u8>,
    /// The newer part; none while nothing lies in a file.
    backlog: Option<Backlog>,
}

impl Spool {
    pub(crate) fn new(room: Arc<SpoolRoom>) -> Self {
        Self { room, memory: VecDeque::new(), backlog: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.backlog.is_none()
    }

    /// Whether some of it lies in a file.
    pub(crate) fn is_filed(&self) -> bool {
        self.backlog.is_some()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.memory = VecDeque::new();
        self.backlog = None;
    }

    /// Takes `bytes` in, or gives them back when there is no room for them now.
    pub(crate) async fn push(&mut self, bytes: Bytes) -> Result<(), Bytes> {
        let fits = self.memory.len() + bytes.len() <= self.room.limits.memory;
        if self.backlog.is_none() && fits {
            self.memory.extend(bytes.iter());
            return Ok(());
        }
        let backlog = match self.backlog.take() {
            Some(backlog) => backlog,
            None => Backlog::new(self.room.clone()),
        };
        let pushed = tokio::task::spawn_blocking(move || {
            let mut backlog = backlog;
            let pushed = backlog.push(&bytes);
            (backlog, pushed.map_err(|error| (error, bytes)))
        });
        // The closure does not panic, and blocking tasks that run are never cancelled.
        let Ok((backlog, pushed)) = pushed.await else { return Ok(()) };
        self.backlog = (!backlog.is_empty()).then_some(backlog);
        pushed.map_err(|(error, bytes)| {
            if error.kind() != io::ErrorKind::QuotaExceeded {
                tracing::warn!(%error, "input cannot be spooled to a file");
            }
            bytes
        })
    }

    /// The next bytes, `most` of them at the most; none when there are none, or when the file cannot
    /// be read, which loses what lay in it.
    pub(crate) async fn take(&mut self, most: usize) -> io::Result<Bytes> {
        let refill =
            self.memory.is_empty() || self.memory.len() + REFILL <= self.room.limits.memory;
        if refill && let Some(backlog) = self.backlog.take() {
            let pulled = tokio::task::spawn_blocking(move || {
                let mut backlog = backlog;
                let pulled = backlog.pull(REFILL);
                (backlog, pulled)
            });
            let (backlog, pulled) = pulled.await?;
            self.backlog = (!backlog.is_empty()).then_some(backlog);
            self.memory.extend(pulled?);
        }
        let (front, _) = self.memory.as_slices();
        let part = front.get(..most).unwrap_or(front);
        let bytes = Bytes::copy_from_slice(part);
        self.memory.drain(..bytes.len());
        if self.memory.is_empty() && self.memory.capacity() > KEPT {
            self.memory = VecDeque::new();
        }
        Ok(bytes)
    }
}

/// The part in a file, used as a ring so that it never grows beyond its limit.
#[derive(Debug)]
struct Backlog {
    room: Arc<SpoolRoom>,
    file: Option<File>,
    /// Where the oldest byte lies.
    head: u64,
    len: u64,
}

impl Backlog {
    fn new(room: Arc<SpoolRoom>) -> Self {
        Self { room, file: None, head: 0, len: 0 }
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = self.room.limits.file;
        let more = bytes.len() as u64;
        if self.len + more > size || !self.room.reserve(more) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let written = self.write(bytes, size);
        match written {
            Ok(()) => self.len += more,
            Err(_) => self.room.release(more),
        }
        written
    }

    fn write(&mut self, bytes: &[u8], size: u64) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(nameless(&self.room.limits)?),
        };
        let tail = (self.head + self.len) % size;
        let before_end = usize::try_from(size - tail).unwrap_or(usize::MAX).min(bytes.len());
        let (first, rest) = bytes.split_at(before_end);
        file.write_all_at(first, tail)?;
        file.write_all_at(rest, 0)
    }

    fn pull(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let size = self.room.limits.file;
        let wanted = self.len.min(most as u64);
        let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(most)];
        let before_end = usize::try_from(size - self.head).unwrap_or(usize::MAX).min(bytes.len());
        let (first, rest) = bytes.split_at_mut(before_end);
        file.read_exact_at(first, self.head)?;
        file.read_exact_at(rest, 0)?;
        self.head = (self.head + wanted) % size;
        self.len -= wanted;
        self.room.release(wanted);
        Ok(bytes)
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.room.release(self.len);
    }
}

/// Opens a file that has no name, and so is gone when it is closed, whatever happens to us.
fn nameless(limits: &SpoolLimits) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(&limits.directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        // Some file systems (overlayfs before Linux 6.3) have no such files.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = limits.directory.join(format!("spool-{}-{number}", std::process::id()));
    let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    rustix::fs::unlink(&path)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(memory: usize, file: u64, in_all: u64) -> Arc<SpoolRoom> {
        let usual = SpoolLimits::in_directory(std::env::temp_dir());
        Arc::new(SpoolRoom::new(SpoolLimits { memory, file, in_all, ..usual }))
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        Take(usize),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Push),
            5 => (1_usize..50).prop_map(Step::Take),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bytes_come_out_as_they_went_in(steps in prop::collection::vec(step(), 1..80)) {
            let room = room(32, 100, 90);
            let mut spool = Spool::new(room.clone());
            let mut model: VecDeque<u8> = VecDeque::new();
            run(async {
                for step in steps {
                    match step {
                        Step::Push(bytes) => match spool.push(Bytes::from(bytes.clone())).await {
                            Ok(()) => model.extend(&bytes),
                            Err(back) => {
                                prop_assert_eq!(&back[..], &bytes[..]);
                                prop_assert!(model.len() + bytes.len() > 32, "memory had room");
                            }
                        },
                        Step::Take(most) => {
                            let bytes = spool.take(most).await.unwrap();
                            prop_assert!(bytes.len() <= most);
                            prop_assert_eq!(bytes.is_empty(), model.is_empty());
                            let expected: Vec<u8> = model.drain(..bytes.len()).collect();
                            prop_assert_eq!(&bytes[..], &expected[..]);
                        }
                        Step::Clear => {
                            spool.clear();
                            model.clear();
                        }
                    }
                    prop_assert_eq!(spool.is_empty(), model.is_empty());
                    prop_assert!(room.used.load(Ordering::Relaxed) <= 90);
                }
                Ok(())
            })?;
            drop(spool);
            prop_assert_eq!(room.used.load(Ordering::Relaxed), 0, "all room is given back");
        }
    }

    #[test]
    fn the_room_of_all_bounds_each() {
        let room = room(10, 1000, 100);
        run(async {
            let mut one = Spool::new(room.clone());
            let mut other = Spool::new(room.clone());
            one.push(Bytes::from_static(&[1; 10])).await.unwrap();
            one.push(Bytes::from_static(&[1; 90])).await.unwrap();
            other.push(Bytes::from_static(&[2; 10])).await.unwrap();
            assert!(other.push(Bytes::from_static(&[2; 20])).await.is_err(), "90 + 20 > 100");
            one.clear();
            other.push(Bytes::from_static(&[2; 20])).await.unwrap();
        });
    }

    #[test]
    fn an_empty_spool_holds_no_memory_and_no_file() {
        let room = room(1 << 20, 1 << 20, 1 << 20);
        run(async {
            let mut spool = Spool::new(room);
            for _ in 0..40 {
                spool.push(Bytes::from(vec![7; 32 * 1024])).await.unwrap();
            }
            assert!(spool.backlog.is_some());
            let mut total = 0;
            while !spool.is_empty() {
                total += spool.take(32 * 1024).await.unwrap().len();
            }
            assert_eq!(total, 40 * 32 * 1024);
            assert!(spool.backlog.is_none());
            assert!(spool.memory.capacity() <= KEPT);
        });
    }
}
