//! The unpacker: a short-lived process that makes a directory, has a confined one read the archive into
//! it, and gives it its name when all of it is there.

use std::fs::File;
use std::io;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Uid;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use serde::Deserialize;
use serde::Serialize;
use sojourn_core::time::Mono;
use sojourn_shim::clock;
use sojourn_shim::confined;
use sojourn_shim::confined::Confined;
use sojourn_shim::control;
use sojourn_shim::files;
use sojourn_shim::files::Durability;
use sojourn_shim::seqpacket;

use super::About;
use super::Meter;
use super::Order;
use super::Problem;
use super::Report;
use super::archive::Archive;
use super::compress::Counted;
use super::compress::Hashed;
use super::compress::Plain;
use super::describe;
use super::describe::Blob;
use super::describe::Image;
use super::layer;
use super::problem;
use super::tar::Tar;
use super::tree::Tree;

/// Before the names of directories that are not whole yet.
pub(super) const UNFINISHED: &str = ".new-";
/// In a finished directory: the files, and what is said of them.
pub(super) const ROOTFS: &str = "rootfs";
pub(super) const ABOUT: &str = "about.json";

/// How long the runner may take to say what it wants.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// How much longer than its bound the reader may take before it is ended.
const SLACK: Duration = Duration::from_secs(10);
/// What the reader may use, besides the bounds of its order.
const MEMORY: u64 = 1 << 30;
const DESCRIPTORS: u64 = 512;
const BUFFER: usize = 128 << 10;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What the reader says; it goes on when it is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Word {
    /// It knows which image it is.
    Is { digest: String, about: About },
    /// All of it is there.
    Done,
    /// It cannot be had.
    Failed { message: String },
}

/// The answer to [`Word::Is`]: go on. Without one there is nothing to be done.
const GO_ON: u8 = 1;

/// Lives an unpacker's life in a process of its own with one thread, and gives its exit status.
#[must_use]
pub fn run(control: OwnedFd) -> u8 {
    let told = confined::settle(c"sojourn-unpack").and_then(|()| told(&control));
    let Ok((order, archive, images)) = told else { return 1 };
    let report = match unpack(&order, archive, &images) {
        Ok((name, about)) => Report::Ready { name, about },
        Err(Problem(message)) => Report::Failed { message: message.chars().take(1000).collect() },
    };
    // If the runner is gone, the next one finds the directory.
    let _sent = control::send(&control, &report, &[]);
    u8::from(matches!(report, Report::Failed { .. }))
}

fn told(control: &OwnedFd) -> io::Result<(Order, OwnedFd, OwnedFd)> {
    if !seqpacket::wait(control, TOLD_WITHIN)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let (order, fds) = control::recv(control)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let [archive, images] =
        <[OwnedFd; 2]>::try_from(fds).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok((order, archive, images))
}

/// The directory's name for an image whose ids are shown from `first` on.
fn name(digest: &str, first: u32) -> String {
    format!("{digest}-{first}")
}

fn unpack(order: &Order, archive: OwnedFd, images: &OwnedFd) -> Result<(String, About), Problem> {
    let unfinished = Unfinished::make(images, order)?;
    let until = clock::mono().after(order.bounds.time).after(SLACK);
    let bounds = confined::Bounds {
        memory: MEMORY,
        cpu: order.bounds.time,
        descriptors: DESCRIPTORS,
        file: order.bounds.bytes,
    };
    let archive = File::from(archive);
    let (root, file) = (unfinished.root.as_fd(), archive.as_fd());
    let reader = confined::spawn_mapped(root, &[file], bounds, order.ids, |socket| {
        read(order, &archive, &socket)
    })?;
    let heard = hear(&reader, order, images, until);
    if !matches!(heard, Ok((_, _, true))) {
        let _gone = rustix::process::pidfd_send_signal(&reader.pidfd, Signal::KILL);
    }
    let _status = rustix::process::waitpid(Some(reader.pid), WaitOptions::empty());
    let (name, about, is_new) = heard?;
    if is_new {
        unfinished.finish(images, &name, &about)?;
    }
    Ok((name, about))
}

/// Follows the reader to its end. Returns also whether it has unpacked anything.
fn hear(
    reader: &Confined,
    order: &Order,
    images: &OwnedFd,
    until: Mono,
) -> Result<(String, About, bool), Problem> {
    let mut image = None;
    loop {
        if !seqpacket::wait(&reader.socket, until.since(clock::mono()))? {
            return problem("unpacking it takes too long");
        }
        match (control::recv(&reader.socket)?, &image) {
            (Some((Word::Is { digest, about }, _)), None) => {
                let is_digest = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
                if !is_digest {
                    return problem("what reads it names no digest");
                }
                let name = name(&digest, order.ids.start);
                let known = rustix::fs::accessat(images, &name, Access::EXISTS, AtFlags::empty());
                let on = known.is_err();
                if !on {
                    return Ok((name, about, false));
                }
                seqpacket::send(&reader.socket, &[GO_ON], &[])?;
                image = Some((name, about));
            }
            (Some((Word::Done, _)), Some((name, about))) => {
                return Ok((name.clone(), about.clone(), true));
            }
            (Some((Word::Failed { message }, _)), _) => return Err(Problem(message)),
            (None, _) => return problem("what reads it was ended: it takes too much to read it"),
            _ => return problem("what reads it says what it must not"),
        }
    }
}

/// A directory that is not whole yet; gone with this unless it is finished.
struct Unfinished<'a> {
    images: &'a OwnedFd,
    name: String,
    directory: OwnedFd,
    root: OwnedFd,
    finished: bool,
}

impl<'a> Unfinished<'a> {
    fn make(images: &'a OwnedFd, order: &Order) -> Result<Self, Problem> {
        let pid = rustix::process::getpid().as_raw_nonzero();
        let name = format!("{UNFINISHED}{pid}");
        discard(images.as_fd(), &name)?;
        rustix::fs::mkdirat(images, &name, Mode::RWXU)?;
        let directory = rustix::fs::openat(images, &name, DIRECTORY, Mode::empty())?;
        // As long as this lives, the next runner leaves it alone.
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared)?;
        rustix::fs::mkdirat(&directory, ROOTFS, Mode::RWXU)?;
        let root = rustix::fs::openat(&directory, ROOTFS, DIRECTORY, Mode::empty())?;
        rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))?;
        let (uid, gid) = (Uid::from_raw(order.ids.start), Gid::from_raw(order.ids.start));
        rustix::fs::fchown(&root, Some(uid), Some(gid))?;
        Ok(Self { images, name, directory, root, finished: false })
    }

    fn finish(mut self, images: &OwnedFd, name: &str, about: &About) -> Result<(), Problem> {
        let about = serde_json::to_vec(about).map_err(io::Error::from)?;
        files::replace(self.directory.as_fd(), ABOUT, &about, Durability::Process)?;
        // Or a crash of the machine could leave a name for half of it.
        rustix::fs::syncfs(&self.directory)?;
        rustix::fs::renameat(images, &self.name, images, name)?;
        self.finished = true;
        Ok(rustix::fs::fsync(images)?)
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // What is left is found by the next runner.
            let _left = discard(self.images.as_fd(), &self.name);
        }
    }
}

/// Removes a directory with all that is in it.
pub(super) fn discard(images: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}/{name}", images.as_raw_fd());
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the confined process does: its root is the directory to unpack into.
fn read(order: &Order, archive: &File, socket: &OwnedFd) -> i32 {
    let word = match read_all(order, archive, socket) {
        Ok(true) => Word::Done,
        Ok(false) => return 0,
        Err(Problem(message)) => Word::Failed { message: message.chars().take(1000).collect() },
    };
    i32::from(control::send(socket, &word, &[]).is_err())
}

fn read_all(order: &Order, archive: &File, socket: &OwnedFd) -> Result<bool, Problem> {
    let root = root()?;
    let length = archive.metadata()?.len();
    // What all of it is compressed with may count as much again as the layers.
    let meter = Meter::new(&order.bounds, length);
    let archive = Archive::open(archive.try_clone()?, &root, &meter)?;
    let image = describe::image(&archive)?;
    let word = Word::Is { digest: image.digest.clone(), about: image.about.clone() };
    control::send(socket, &word, &[])?;
    let mut answer = [0];
    let answered = seqpacket::recv(socket, &mut answer)?;
    if answered.len != 1 || answer != [GO_ON] {
        return Ok(false);
    }
    let meter = Meter::new(&order.bounds, length);
    fill(&archive, &image, &Tree::new(root), &meter)?;
    Ok(true)
}

/// The root directory of this process.
fn root() -> Result<OwnedFd, Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::empty())?)
}

/// Applies every layer, and makes sure that each is what it should be.
pub(super) fn fill(
    archive: &Archive,
    image: &Image,
    tree: &Tree,
    meter: &Meter,
) -> Result<(), Problem> {
    let count = image.layers.len();
    for (blob, number) in image.layers.iter().zip(1..) {
        let of = |Problem(message)| Problem(format!("layer {number} of {count}: {message}"));
        fill_one(archive, blob, tree, meter).map_err(of)?;
    }
    Ok(())
}

fn fill_one(archive: &Archive, blob: &Blob, tree: &Tree, meter: &Meter) -> Result<(), Problem> {
    let stored = Hashed::new(archive.part(&blob.name)?);
    let counted = Counted { source: Plain::of(stored)?, meter };
    let mut tar = Tar::new(BufReader::with_capacity(BUFFER, Hashed::new(counted)));
    layer::apply(&mut tar, tree, meter)?;
    // Both digests are of all there is, also of what stands after the end of the tar.
    let (holds, counted) = tar.into_source().into_inner().finish()?;
    let (digest, _) = counted.source.into_source().finish()?;
    if blob.digest.as_ref().is_some_and(|expected| *expected != digest) {
        return problem("it is not what its digest says");
    }
    if holds != blob.holds {
        return problem("it does not hold what the configuration says");
    }
    Ok(())
}
