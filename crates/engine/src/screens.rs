//! Screens of terminals, drawn anew from their recordings for people who come back.
//!
//! Reading and emulating are done beside the runtime, a few at a time, and not for long: a recording
//! that is huge or slow costs its reader the screen, and nobody anything else.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::WindowSize;
use sojourn_term::snapshot::Budget;
use sojourn_term::snapshot::Snapshot;
use sojourn_term::tail::printed_before;
use tokio::sync::Semaphore;

/// Screens drawn at the same time.
const AT_ONCE: usize = 2;

/// How long somebody waits for their screen.
const PATIENCE: Duration = Duration::from_secs(5);

/// The end of a recording that is emulated, and the end that is looked through for modes.
const EMULATED: u64 = 16 << 20;
const SURVEYED: u64 = 512 << 20;

/// Draws screens. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Screens {
    recordings: Arc<PathBuf>,
    turns: Arc<Semaphore>,
}

impl Screens {
    /// Draws from recordings below this directory.
    pub(crate) fn new(recordings: PathBuf) -> Self {
        Self { recordings: Arc::new(recordings), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The directory they are read below.
    pub(crate) fn recordings(&self) -> Arc<PathBuf> {
        self.recordings.clone()
    }

    /// The bytes that draw a terminal on one of this size; none when they cannot be had, or not soon.
    pub(crate) async fn draw(&self, attached: Attached, size: WindowSize) -> Option<Bytes> {
        self.snapshot(attached, size).await.map(|snapshot| Bytes::from(snapshot.data))
    }

    /// A terminal's screen on one of this size; none when it cannot be had, or not soon.
    pub(crate) async fn snapshot(&self, attached: Attached, size: WindowSize) -> Option<Snapshot> {
        self.in_turn(move |recordings| draw(recordings, &attached, size)).await
    }

    /// The last `most` bytes that a terminal printed, or as many as its recording has; none when they
    /// cannot be had, or not soon.
    pub(crate) async fn printed(&self, attached: &Attached, most: u64) -> Option<Bytes> {
        let Attached { file, offset, .. } = attached.clone();
        let read = move |recordings: &PathBuf| {
            let recording = open(recordings, &file)?;
            printed_before(recording, offset, most).map(Bytes::from).map_err(io::Error::other)
        };
        self.in_turn(read).await
    }

    /// Makes something of a screen that was drawn; none when that cannot be, or not soon.
    pub(crate) async fn make<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.in_turn(move |_recordings| Ok(work())).await
    }

    /// Does what takes its time, a few at a time.
    pub(crate) async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&PathBuf) -> io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let done = async {
            let turn = self.turns.clone().acquire_owned().await.ok()?;
            let recordings = self.recordings.clone();
            let work = move || {
                // Held until it is done, also when nobody waits any more.
                let _turn = turn;
                work(&recordings)
            };
            // An error is a mistake of the emulator's, which costs this screen alone.
            tokio::task::spawn_blocking(work).await.ok()
        };
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(Some(Ok(done))) => Some(done),
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, "a screen cannot be drawn anew");
                None
            }
            Ok(None) | Err(_) => {
                tracing::warn!("a screen was not drawn anew");
                None
            }
        }
    }
}

fn draw(recordings: &PathBuf, attached: &Attached, size: WindowSize) -> io::Result<Snapshot> {
    let recording = open(recordings, &attached.file)?;
    let until = Instant::now() + PATIENCE;
    let is_late = || Instant::now() > until;
    let budget = Budget { emulate: EMULATED, survey: SURVEYED, is_late: &is_late };
    let size = [size, attached.size].into_iter().find(|size| size.cols > 0 && size.rows > 0);
    let size = size.map(|size| (size.cols, size.rows));
    Snapshot::take(recording, attached.offset, size, &budget).map_err(io::Error::other)
}

/// Opens a recording: a plain file, reached without a symbolic link.
pub(crate) fn open(recordings: &PathBuf, file: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let directory = rustix::fs::open(recordings, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let file = File::from(rustix::fs::openat2(directory, file, flags, Mode::empty(), beneath)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a plain file")),
    }
}
