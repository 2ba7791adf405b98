//! Builders: short-lived children of a shim that do what takes root to make a sandbox, say how they
//! are getting on, and let go of it.
//!
//! They exist so that what making costs (memory, mounts, namespaces) ends with them, and so that they
//! can be killed when it takes too long.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Pid;

use crate::error::At;
use crate::error::BuildError;
use crate::error::Stage;
use crate::kernel;
use crate::layers::Layers;
use crate::sandbox::Deadline;
use crate::seqpacket;
use crate::sys;

/// Descriptors that must not be in the way of those that `init` inherits are moved to here.
const OUT_OF_THE_WAY: RawFd = 10;
const MAX_REPORT: usize = 4096;

const REACHED: u8 = 0;
const FAILED: u8 = 1;
const DONE: u8 = 2;

/// How a builder is getting on.
enum Progress {
    /// It has come to a step.
    Reached(Stage),
    /// It could not go on.
    Failed(BuildError),
    /// The sandbox is there.
    Done(Built),
}

/// What a builder hands over.
pub(crate) struct Built {
    /// Process 1 of the sandbox.
    pub(crate) pid: Pid,
    /// The `ptmx` of its devpts.
    pub(crate) ptmx: OwnedFd,
    /// What it writes, where that can be held.
    pub(crate) layers: Option<Layers>,
}

/// The socket on which a builder reports.
pub(crate) struct Channel(OwnedFd);

/// Starts a builder, which leads a process group of its own and does not outlive this process.
pub(crate) fn spawn(
    build: impl FnOnce(&Channel) -> Result<(), BuildError>,
) -> Result<(Pid, Channel), BuildError> {
    let (ours, theirs) = seqpacket::pair().at(Stage::Prepare, "socket to the builder")?;
    let shim = rustix::process::getpid();
    let pid = sys::process::fork(|| {
        let theirs = match out_of_the_way(theirs.as_fd()) {
            Ok(theirs) => Channel(theirs),
            Err(_) => return 1,
        };
        match settle(shim).and_then(|()| build(&theirs)) {
            Ok(()) => 0,
            Err(error) => {
                theirs.fail(&error);
                1
            }
        }
    })
    .at(Stage::Prepare, "starting the builder")?;
    // Done on both sides, for whichever comes first. An error: the builder has already ended.
    let _grouped = rustix::process::setpgid(Some(pid), Some(pid));
    Ok((pid, Channel(ours)))
}

fn settle(shim: Pid) -> Result<(), BuildError> {
    let stage = Stage::Prepare;
    rustix::process::setpgid(None, None).at(stage, "own process group")?;
    kernel::end_with(shim).at(stage, "its shim")
}

/// A copy of a descriptor that is needed after [`inherit`].
pub(crate) fn out_of_the_way(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    sys::process::duplicate_above(fd, OUT_OF_THE_WAY)
}

/// Leaves `init` with nothing on its standard descriptors and its socket behind them.
pub(crate) fn inherit(init_socket: &OwnedFd) -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let null = null.as_fd();
    sys::process::inherit(&[null, null, null, init_socket.as_fd()])
}

/// The `ptmx` node of a devpts, for opening terminals there later. Nothing hostile runs yet.
pub(crate) fn terminals(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let ptmx = rustix::fs::open(path, flags, Mode::empty())?;
    match sys::pty::is_ptmx(ptmx.as_fd())? {
        true => Ok(ptmx),
        false => Err(io::Error::other("not a devpts")),
    }
}

impl Channel {
    /// Follows the builder until it is done.
    pub(crate) fn follow(&self, deadline: &Deadline) -> Result<Built, BuildError> {
        let mut stage = Stage::Prepare;
        loop {
            if !deadline.wait(&[self.0.as_fd()]).at(stage, "waiting for the builder")? {
                return Err(BuildError { stage, message: "not done in time".to_owned() });
            }
            match self.receive().at(stage, "the builder")? {
                Progress::Reached(next) => stage = next,
                Progress::Failed(error) => return Err(error),
                Progress::Done(built) => return Ok(built),
            }
        }
    }

    /// What the builder says next. Waits.
    fn receive(&self) -> io::Result<Progress> {
        let mut buffer = [0; MAX_REPORT];
        let mut received = seqpacket::recv(&self.0, &mut buffer)?;
        let message = buffer.get(..received.len).unwrap_or_default();
        let progress = match message {
            [REACHED, stage] => Stage::from_number(*stage).map(Progress::Reached),
            [FAILED, stage, message @ ..] => Stage::from_number(*stage).map(|stage| {
                let message = String::from_utf8_lossy(message).into_owned();
                Progress::Failed(BuildError { stage, message })
            }),
            [DONE, pid @ ..] => {
                let pid = pid.try_into().ok().map(i32::from_ne_bytes).and_then(Pid::from_raw);
                let ptmx = received.fds.pop();
                let layers = Layers::from_received(received.fds);
                pid.zip(ptmx).map(|(pid, ptmx)| Progress::Done(Built { pid, ptmx, layers }))
            }
            _ => None,
        };
        progress.ok_or_else(|| io::Error::other("it died"))
    }

    /// Says which step comes next.
    pub(crate) fn reached(&self, stage: Stage) {
        // Only of use to explain a timeout.
        let _sent = seqpacket::send(&self.0, &[REACHED, stage.number()], &[]);
    }

    fn fail(&self, error: &BuildError) {
        let mut message = vec![FAILED, error.stage.number()];
        message.extend(error.message.bytes().take(MAX_REPORT - message.len()));
        // If it cannot be sent, the shim is gone or sees the builder die.
        let _sent = seqpacket::send(&self.0, &message, &[]);
    }

    /// Hands the sandbox over.
    pub(crate) fn done(&self, built: &Built) -> io::Result<()> {
        let mut message = vec![DONE];
        message.extend(built.pid.as_raw_nonzero().get().to_ne_bytes());
        let mut fds = built.layers.as_ref().map(Layers::parts).unwrap_or_default();
        fds.push(built.ptmx.as_fd());
        seqpacket::send(&self.0, &message, &fds)
    }
}
