//! The images that a runner has: which archive is unpacked where. An archive is looked at whenever a
//! sandbox is made of it; one that was replaced is unpacked anew, beside what running sandboxes have.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Signal;
use serde::Deserialize;
use serde::Serialize;
use sojourn_core::wire::Text;
use sojourn_core::wire::runner::Stage;
use sojourn_shim::control;
use sojourn_shim::files;
use sojourn_shim::files::Durability;
use sojourn_shim::native;
use sojourn_shim::native::IdRange;
use sojourn_shim::seqpacket;
use tokio::time::Instant;

use super::About;
use super::Bounds;
use super::Order;
use super::Report;
use super::unpacker;
use super::unpacker::ABOUT;
use super::unpacker::ROOTFS;
use crate::forge::Forge;
use crate::packets::Packets;
use crate::prepared::Failure;

/// What is known of archives, so that they need not be read again after a restart.
const KNOWN: &str = "known.json";
const LONGEST_KNOWN: u64 = 1 << 20;
const LONGEST_ABOUT: u64 = 64 << 10;

/// How much longer than its order says an unpacker may take.
const SLACK: Duration = Duration::from_secs(30);
/// An archive that could not be unpacked is not tried again so soon, and then not twice as soon, unless
/// it has changed: most of what can be wrong with one stays so.
const AGAIN: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(600));

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// An archive that was unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    name: String,
}

/// An archive that could not be unpacked.
#[derive(Clone, Debug)]
struct Failed {
    stamp: Stamp,
    failure: Failure,
    pause: Duration,
    until: Instant,
}

/// All images of a runner.
#[derive(Debug)]
pub struct Images {
    forge: Arc<Forge>,
    path: PathBuf,
    directory: Arc<OwnedFd>,
    ids: IdRange,
    /// One is unpacked at a time, and nothing is removed meanwhile.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// By the archive's path.
    known: Mutex<BTreeMap<PathBuf, Known>>,
    about: Mutex<BTreeMap<PathBuf, About>>,
    failed: Mutex<BTreeMap<PathBuf, Failed>>,
    busy: AtomicBool,
}

impl Images {
    /// Takes the directory of images, and removes what no profile needs and no sandbox is made of.
    /// `ids` are the files' on disk, and nobody else's.
    ///
    /// # Errors
    /// The system's.
    pub fn open(
        forge: Arc<Forge>,
        path: PathBuf,
        directory: &OwnedFd,
        ids: IdRange,
        archives: &[PathBuf],
    ) -> io::Result<Self> {
        let directory = Arc::new(rustix::io::dup(directory)?);
        let mut known = match files::read(directory.as_fd(), KNOWN, LONGEST_KNOWN) {
            // What cannot be read is found out anew.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => BTreeMap::<PathBuf, Known>::new(),
        };
        known.retain(|archive, known| {
            let of_these_ids = known.name.ends_with(&format!("-{}", ids.start));
            of_these_ids && archives.contains(archive)
        });
        let images = Self {
            forge,
            path,
            directory,
            ids,
            turn: Arc::default(),
            known: Mutex::new(known),
            about: Mutex::default(),
            failed: Mutex::default(),
            busy: AtomicBool::new(false),
        };
        images.clean();
        Ok(images)
    }

    /// Removes what no profile's archive holds any more.
    fn clean(&self) {
        let needed: Vec<String> = lock(&self.known).values().map(|k| k.name.clone()).collect();
        clean(&self.directory, &needed);
    }

    /// The root file system that an archive holds now.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn root(self: &Arc<Self>, archive: &Path) -> Result<native::Image, Failure> {
        let file = open(archive).await.map_err(|error| failure(archive, error))?;
        let stamp = Stamp::of(&file).map_err(|error| failure(archive, error))?;
        if let Some(image) = self.find(archive, &stamp)? {
            return Ok(image);
        }
        let turn = self.turn.clone().lock_owned().await;
        // Somebody may have had the same wish before.
        if let Some(image) = self.find(archive, &stamp)? {
            return Ok(image);
        }
        self.busy.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let unpacked = self.unpack(&file).await;
        self.busy.store(false, Ordering::Relaxed);
        match unpacked {
            Ok((name, about)) => {
                tracing::info!(
                    archive = %archive.display(), image = name,
                    seconds = begun.elapsed().as_secs(), "an image is unpacked"
                );
                lock(&self.about).insert(archive.to_owned(), about);
                let known = Known { stamp, name: name.clone() };
                lock(&self.known).insert(archive.to_owned(), known);
                self.remember();
                // What it replaces, if nothing is made of that any more. Nobody waits for it here.
                let all = self.clone();
                drop(tokio::task::spawn_blocking(move || {
                    all.clean();
                    drop(turn);
                }));
                Ok(self.image(&name))
            }
            Err(error) => {
                let failure = failure(archive, error);
                let mut all = lock(&self.failed);
                let before = all.get(archive).filter(|before| before.stamp == stamp);
                let pause = before.map_or(AGAIN.0, |before| (before.pause * 2).min(AGAIN.1));
                let until = Instant::now() + pause;
                let failed = Failed { stamp, failure: failure.clone(), pause, until };
                all.insert(archive.to_owned(), failed);
                Err(failure)
            }
        }
    }

    /// Has these unpacked, so that whoever comes first need not wait for it; what is wrong with one is
    /// said in the log now.
    pub async fn make_ready(self: Arc<Self>, archives: Vec<PathBuf>) {
        for archive in archives {
            if let Err(failure) = self.root(&archive).await {
                tracing::warn!(%failure, "an image archive cannot be used");
            }
        }
    }

    /// What an archive's image says of the environment.
    pub fn env(&self, archive: &Path) -> Vec<(Text, Text)> {
        let about = lock(&self.about);
        let env = about.get(archive).map_or(&[][..], |about| &about.env);
        let pairs = env.iter().filter_map(|variable| variable.split_once('='));
        pairs.map(|(name, value)| (Text::from(name), Text::from(value))).collect()
    }

    /// Whether one is being unpacked.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// What is there for a file in this state, or why it failed just now.
    fn find(&self, archive: &Path, stamp: &Stamp) -> Result<Option<native::Image>, Failure> {
        if let Some(failed) = lock(&self.failed).get(archive)
            && failed.stamp == *stamp
            && Instant::now() < failed.until
        {
            return Err(failed.failure.clone());
        }
        let known = lock(&self.known).get(archive).cloned();
        let Some(known) = known.filter(|known| known.stamp == *stamp) else { return Ok(None) };
        let Ok(about) = self.about(&known.name) else { return Ok(None) };
        lock(&self.about).entry(archive.to_owned()).or_insert(about);
        Ok(Some(self.image(&known.name)))
    }

    fn image(&self, name: &str) -> native::Image {
        let (directory, tree) = (self.path.join(name), ROOTFS.to_owned());
        native::Image { directory, tree, first: self.ids.start }
    }

    fn about(&self, name: &str) -> io::Result<About> {
        let directory = rustix::fs::openat(&*self.directory, name, DIRECTORY, Mode::empty())?;
        Ok(serde_json::from_slice(&files::read(directory.as_fd(), ABOUT, LONGEST_ABOUT)?)?)
    }

    async fn unpack(&self, archive: &OwnedFd) -> io::Result<(String, About)> {
        let order = Order { ids: self.ids, bounds: Bounds::default() };
        let (ours, theirs) = seqpacket::pair()?;
        let born = self.forge.fork_unpacker(theirs.as_fd()).await?;
        drop(theirs);
        let control = Packets::new(ours)?;
        let fds = [archive.as_fd(), self.directory.as_fd()];
        let word = async {
            control.write(|socket| control::send(socket, &order, &fds)).await?;
            control.read(|socket| control::recv::<Report>(socket)).await
        };
        match tokio::time::timeout(order.bounds.time + SLACK, word).await {
            Ok(Ok(Some((Report::Ready { name, about }, _)))) => Ok((name, about)),
            Ok(Ok(Some((Report::Failed { message }, _)))) => Err(io::Error::other(message)),
            Ok(Ok(None)) => Err(io::Error::other("what unpacks it left without a word")),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let _gone = rustix::process::pidfd_send_signal(&born.pidfd, Signal::KILL);
                Err(io::Error::other("unpacking it takes too long"))
            }
        }
    }

    fn remember(&self) {
        let known = lock(&self.known).clone();
        let written = serde_json::to_vec(&known).map_err(io::Error::from).and_then(|bytes| {
            files::replace(self.directory.as_fd(), KNOWN, &bytes, Durability::Process)
        });
        if let Err(error) = written {
            // Then archives are read again after a restart.
            tracing::warn!(%error, "what is known of images cannot be written");
        }
    }
}

impl Stamp {
    fn of(file: &OwnedFd) -> io::Result<Self> {
        let about = File::from(rustix::io::dup(file)?).metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok(Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

/// Removes the images in a directory but those that are needed. One that a sandbox is made of is locked.
pub fn clean(directory: &OwnedFd, needed: &[String]) {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| is_images(name) && !needed.contains(name)) {
        let held =
            rustix::fs::openat(directory, &name, DIRECTORY, Mode::empty()).and_then(|image| {
                rustix::fs::flock(&image, FlockOperation::NonBlockingLockExclusive).map(|()| image)
            });
        // Held to the end of it, so that nobody begins to use it.
        let Ok(_held) = held else { continue };
        match unpacker::discard(directory.as_fd(), &name) {
            Ok(()) => tracing::info!(image = name, "an image that nobody needs is removed"),
            Err(error) => tracing::warn!(image = name, %error, "an image cannot be removed"),
        }
    }
}

/// Whether a name in the directory is an image's, or that of one that was never finished.
fn is_images(name: &str) -> bool {
    let digest = name.split('-').next().unwrap_or_default();
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest || name.starts_with(unpacker::UNFINISHED)
}

/// Opens an archive; a slow disk holds up nobody else.
async fn open(archive: &Path) -> io::Result<OwnedFd> {
    let archive = archive.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        // A pipe is no archive, and not waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::open(archive, flags, Mode::empty())?)
    });
    opened.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn failure(archive: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(Stage::Image, format!("{}: {error}", archive.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
