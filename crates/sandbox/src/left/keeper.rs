//! The keeper: a short-lived process beside the walker. It opens the files that the walker writes,
//! answers the one question that takes a right of root's, ends the walker when it takes too long, and
//! puts the finished files in their place.
//!
//! It outlives the runner that asked for it: then what it kept is found by the next one. It holds a
//! lock on the directory, so that two never work on one.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::AtFlags;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::thread::CapabilitySet;
use serde_json::json;
use sojourn_core::time::Mono;
use sojourn_shim::clock;
use sojourn_shim::confined;
use sojourn_shim::confined::Confined;
use sojourn_shim::control;
use sojourn_shim::files;
use sojourn_shim::files::Durability;
use sojourn_shim::layers::Layers;
use sojourn_shim::seqpacket;

use super::ABOUT;
use super::About;
use super::Cut;
use super::LIST;
use super::Order;
use super::Report;
use super::TAR;
use super::Totals;
use super::UNTOLD;
use super::UPLOADS;
use super::walk;
use super::walk::Ask;
use super::walk::Mark;
use super::walk::Whole;

/// The files while they are being written.
const NEW_LIST: &str = ".files.jsonl.new";
const NEW_TAR: &str = ".files.tar.new";

/// How long the runner may take to say what it wants.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// How much longer than its bound a walk may take before it is ended.
const SLACK: Duration = Duration::from_secs(10);

/// What the walker may use, besides the bounds of its order.
const MEMORY: u64 = 512 << 20;
const DESCRIPTORS: u64 = 512;

/// What the walker asks, and its last word.
const IS_OPAQUE: u8 = 1;
const IS_WHITEOUT: u8 = 2;
const DONE: u8 = 3;
const LONGEST_WORD: usize = 4096;

/// The most of an [`ABOUT`] that is read.
const LONGEST_ABOUT: u64 = 64 << 10;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Lives a keeper's life in a process of its own with one thread, and gives its exit status.
#[must_use]
pub fn run(control: OwnedFd) -> u8 {
    let Ok((order, fds)) = confined::settle(c"sojourn-keeper").and_then(|()| told(&control)) else {
        return 1;
    };
    let report = keep(&order, fds).unwrap_or_else(|error| Report::Failed {
        message: error.to_string().chars().take(1000).collect(),
    });
    // If the runner is gone, the next one finds the directory.
    let _sent = control::send(&control, &report, &[]);
    u8::from(matches!(report, Report::Failed { .. }))
}

fn told(control: &OwnedFd) -> io::Result<(Order, Vec<OwnedFd>)> {
    if !seqpacket::wait(control, TOLD_WITHIN)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    control::recv(control)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// `fds`: `kept/`, then the layers.
fn keep(order: &Order, mut fds: Vec<OwnedFd>) -> io::Result<Report> {
    if fds.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let kept = fds.remove(0);
    let layers = Layers::from_received(fds).ok_or(io::ErrorKind::InvalidInput)?;
    let until = clock::mono().after(order.bounds.time).after(SLACK);
    let directory = Directory::take(&kept, order, until)?;
    if let Some(about) = directory.about() {
        // The keeper before this one was not cut short, only its runner.
        return Ok(Report::Kept(about.totals));
    }
    let kept = directory.fill(order, &layers, until);
    if !matches!(kept, Ok(Report::Kept(_))) {
        directory.clear();
        directory.remove_if_empty();
    }
    kept
}

/// The directory of one session, locked.
struct Directory<'a> {
    kept: &'a OwnedFd,
    name: &'a str,
    fd: OwnedFd,
}

impl<'a> Directory<'a> {
    fn take(kept: &'a OwnedFd, order: &'a Order, until: Mono) -> io::Result<Self> {
        let name = order.name.as_str();
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match rustix::fs::mkdirat(kept, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let fd = rustix::fs::openat(kept, name, DIRECTORY, Mode::empty())?;
        rustix::fs::fchmod(&fd, Mode::RWXU)?;
        loop {
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { kept, name, fd }),
                Err(Errno::WOULDBLOCK) if clock::mono() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is kept, if all of it is.
    fn about(&self) -> Option<About> {
        let bytes = files::read(self.fd.as_fd(), ABOUT, LONGEST_ABOUT).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let _stale = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    fn fill(&self, order: &Order, layers: &Layers, until: Mono) -> io::Result<Report> {
        let (mut list, mut tar) = (self.create(NEW_LIST)?, self.create(NEW_TAR)?);
        let bounds = confined::Bounds {
            memory: MEMORY,
            cpu: order.bounds.time + SLACK,
            descriptors: DESCRIPTORS,
            file: order.bounds.tar.max(order.bounds.list),
        };
        let mut needed = layers.parts();
        needed.extend([list.as_fd(), tar.as_fd()]);
        let walker = confined::spawn(layers.upper.as_fd(), &needed, bounds, |socket| {
            let files = list.try_clone().and_then(|list| Ok((list, tar.try_clone()?)));
            files.map_or(1, |files| be_walker(order, layers, files, &socket))
        })?;
        // To answer for the walker, and to end it.
        confined::keep_only(CapabilitySet::SYS_ADMIN | CapabilitySet::KILL)?;
        let (totals, whole) = match attend(&walker, order, until)? {
            Some(done) => done,
            None => broken_off(&list)?,
        };
        if totals.entries == 0 && totals.truncated.is_empty() && !self.has_uploads() {
            return Ok(Report::Nothing);
        }
        end_list(&mut list, whole.list, &totals)?;
        end_tar(&mut tar, whole.tar)?;
        self.finish(order, totals, [&list, &tar])
    }

    /// Puts the files in their place: what is there under its own name is whole.
    fn finish(&self, order: &Order, totals: Totals, written: [&File; 2]) -> io::Result<Report> {
        for file in written {
            file.sync_all()?;
        }
        let about = About {
            version: 1,
            session: order.session,
            profile: order.profile.clone(),
            keep_for: order.keep_for,
            kept_at: clock::wall().to_rfc3339(),
            totals,
        };
        self.mark_untold()?;
        for (from, to) in [(NEW_TAR, TAR), (NEW_LIST, LIST)] {
            rustix::fs::renameat(&self.fd, from, &self.fd, to)?;
        }
        let mut json = serde_json::to_vec_pretty(&about)?;
        json.push(b'\n');
        files::replace(self.fd.as_fd(), ABOUT, &json, Durability::Power)?;
        rustix::fs::fsync(self.kept)?;
        Ok(Report::Kept(about.totals))
    }

    /// Leaves its name where the runner looks for what it has to tell.
    fn mark_untold(&self) -> io::Result<()> {
        match rustix::fs::mkdirat(self.kept, UNTOLD, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let untold = rustix::fs::openat(self.kept, UNTOLD, DIRECTORY, Mode::empty())?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&untold, self.name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(rustix::fs::fsync(&untold)?)
    }

    fn has_uploads(&self) -> bool {
        rustix::fs::statat(&self.fd, UPLOADS, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn clear(&self) {
        for name in [NEW_LIST, NEW_TAR] {
            let _missing = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
        }
    }

    fn remove_if_empty(&self) {
        let _holds_something = rustix::fs::unlinkat(self.kept, self.name, AtFlags::REMOVEDIR);
    }
}

/// The walker's whole life.
fn be_walker(order: &Order, layers: &Layers, files: (File, File), socket: &OwnedFd) -> i32 {
    let (totals, whole) = walk::walk(layers, order, files, &mut Asking(socket));
    let word = json!({"totals": totals, "list": whole.list, "tar": whole.tar}).to_string();
    let mut message = vec![DONE];
    message.extend_from_slice(word.as_bytes());
    i32::from(seqpacket::send(socket, &message, &[]).is_err())
}

/// The walker's way to ask.
struct Asking<'a>(&'a OwnedFd);

impl Ask for Asking<'_> {
    fn has(&mut self, file: BorrowedFd<'_>, mark: Mark) -> bool {
        let question = match mark {
            Mark::Opaque => IS_OPAQUE,
            Mark::Whiteout => IS_WHITEOUT,
        };
        let mut answer = [0];
        seqpacket::send(self.0, &[question], &[file]).is_ok()
            && seqpacket::recv(self.0, &mut answer).is_ok_and(|got| got.len == 1)
            && answer == [1]
    }
}

/// Answers the walker until it is done. None: it broke off, or had to be ended.
fn attend(walker: &Confined, order: &Order, until: Mono) -> io::Result<Option<(Totals, Whole)>> {
    let mut done = None;
    let mut buffer = vec![0; LONGEST_WORD];
    loop {
        let left = until.since(clock::mono());
        if left.is_zero() || !seqpacket::wait(&walker.socket, left)? {
            let _gone = rustix::process::pidfd_send_signal(&walker.pidfd, Signal::KILL);
            break;
        }
        let Ok(got) = seqpacket::recv(&walker.socket, &mut buffer) else { break };
        let message = buffer.get(..got.len).unwrap_or_default();
        let mark = match message {
            [IS_OPAQUE] => Mark::Opaque,
            [IS_WHITEOUT] => Mark::Whiteout,
            [DONE, word @ ..] => {
                done = last_word(word);
                break;
            }
            _ => break,
        };
        let has = got.fds.first().is_some_and(|file| mark.is_on(file.as_fd(), order.marks));
        if seqpacket::send(&walker.socket, &[u8::from(has)], &[]).is_err() {
            break;
        }
    }
    let left = until.after(SLACK).since(clock::mono());
    if !seqpacket::wait(&walker.pidfd, left.min(SLACK))? {
        let _gone = rustix::process::pidfd_send_signal(&walker.pidfd, Signal::KILL);
    }
    let ended = rustix::process::waitpid(Some(walker.pid), WaitOptions::empty())?;
    let exited = ended.and_then(|(_, status)| status.exit_status());
    match exited {
        Some(0) => Ok(done),
        Some(125) => Err(io::Error::other("its reader cannot be confined on this machine")),
        _ => Ok(None),
    }
}

fn last_word(word: &[u8]) -> Option<(Totals, Whole)> {
    #[derive(serde::Deserialize)]
    struct Word {
        totals: Totals,
        list: u64,
        tar: u64,
    }
    let Word { totals, list, tar } = serde_json::from_slice(word).ok()?;
    Some((totals, Whole { list, tar }))
}

/// What a walker left that did not come to its end: the lines that are whole.
fn broken_off(list: &File) -> io::Result<(Totals, Whole)> {
    let mut reader = list.try_clone()?;
    reader.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut whole = Whole { list: 0, tar: 0 };
    let mut totals = Totals { truncated: vec![Cut::BrokenOff], ..Totals::default() };
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        if line.last() != Some(&b'\n') {
            return Ok((totals, whole));
        }
        whole.list += length;
        totals.entries += 1;
    }
}

/// Cuts the list to its whole lines and adds the one that says how many there are.
fn end_list(list: &mut File, whole: u64, totals: &Totals) -> io::Result<()> {
    // Less, where the disk was full before all had gone out: then its last line may be half.
    let length = list.metadata()?.len();
    let whole = if length < whole { broken_off(list)?.1.list } else { whole };
    list.set_len(whole)?;
    list.seek(SeekFrom::Start(whole))?;
    let mut line = serde_json::to_vec(totals)?;
    line.push(b'\n');
    list.write_all(&line)
}

/// Cuts the tar to its whole entries and ends it.
fn end_tar(tar: &mut File, whole: u64) -> io::Result<()> {
    let length = tar.metadata()?.len();
    // Less, where the disk was full: a tar that ends early is read up to there.
    let whole = whole.min(length / 512 * 512);
    tar.set_len(whole)?;
    tar.seek(SeekFrom::Start(whole))?;
    match tar.write_all(&[0; 1024]) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => tar.set_len(whole),
        Err(error) => Err(error),
    }
}
