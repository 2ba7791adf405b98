//! What the gateway and a runner hold of the zygote: one socket each.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use rustix::process::Pid;
use rustix::process::WaitStatus;

use crate::seqpacket;

pub(super) const START_RUNNER: [u8; 1] = [1];
pub(super) const FORK_SHIM: [u8; 1] = [2];
pub(super) const FORK_KEEPER: [u8; 1] = [3];
pub(super) const FORK_UNPACKER: [u8; 1] = [4];

const RUNNER_BORN: u8 = 0x81;
const RUNNER_GONE: u8 = 0x82;
const SHIM_BORN: u8 = 0x83;
const FORK_FAILED: u8 = 0x84;

/// Kind and two numbers, big-endian.
const LENGTH: usize = 9;

/// What the zygote tells the gateway.
#[derive(Debug)]
pub enum FromZygote {
    /// A runner lives.
    RunnerBorn {
        /// Its pid.
        pid: u32,
        /// The gateway's end of the socket to it.
        socket: OwnedFd,
    },
    /// The runner ended. Unless it did so with status 0, another one is started.
    RunnerGone {
        /// Its pid.
        pid: u32,
        /// Its status as `waitpid` gives it.
        status: i32,
    },
}

/// The gateway's end of A.
#[derive(Debug)]
pub struct GatewayEnd {
    socket: OwnedFd,
    pid: u32,
}

impl GatewayEnd {
    pub(super) fn new(socket: OwnedFd, pid: Pid) -> io::Result<Self> {
        seqpacket::set_nonblocking(&socket)?;
        Ok(Self { socket, pid: pid.as_raw_pid().unsigned_abs() })
    }

    /// The zygote's pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks for a runner; nothing happens while there is one.
    ///
    /// # Errors
    /// When the zygote is gone.
    pub fn start_runner(&self) -> io::Result<()> {
        seqpacket::send(&self.socket, &START_RUNNER, &[])
    }

    /// The next thing it has to tell; none when it is gone.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing now; `InvalidData` when it says what it must not.
    pub fn next(&self) -> io::Result<Option<FromZygote>> {
        let Some(Message { kind, pid, number, fd }) = recv(self.socket.as_fd())? else {
            return Ok(None);
        };
        match (kind, fd) {
            (RUNNER_BORN, Some(socket)) => Ok(Some(FromZygote::RunnerBorn { pid, socket })),
            (RUNNER_GONE, None) => Ok(Some(FromZygote::RunnerGone { pid, status: number })),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl AsFd for GatewayEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for GatewayEnd {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A shim that was forked.
#[derive(Debug)]
pub struct Born {
    /// Its pid.
    pub pid: u32,
    /// Readable when it has ended; the zygote reaps it.
    pub pidfd: OwnedFd,
}

/// A runner's end of Z. Answers come in the order of the requests.
#[derive(Debug)]
pub struct RunnerEnd {
    socket: OwnedFd,
}

impl RunnerEnd {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Makes this end non-blocking, for a runner that waits for many things.
    ///
    /// # Errors
    /// The system's.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        seqpacket::set_nonblocking(&self.socket)
    }

    /// Asks for a shim with this control socket.
    ///
    /// # Errors
    /// When the zygote is gone, or, on a non-blocking end, does not read.
    pub fn fork_shim(&self, control: BorrowedFd<'_>) -> io::Result<()> {
        seqpacket::send(&self.socket, &FORK_SHIM, &[control])
    }

    /// Asks for a keeper with this control socket. It is answered as a shim is.
    ///
    /// # Errors
    /// As [`RunnerEnd::fork_shim`].
    pub fn fork_keeper(&self, control: BorrowedFd<'_>) -> io::Result<()> {
        seqpacket::send(&self.socket, &FORK_KEEPER, &[control])
    }

    /// Asks for an unpacker with this control socket. It is answered as a shim is.
    ///
    /// # Errors
    /// As [`RunnerEnd::fork_shim`].
    pub fn fork_unpacker(&self, control: BorrowedFd<'_>) -> io::Result<()> {
        seqpacket::send(&self.socket, &FORK_UNPACKER, &[control])
    }

    /// The answer to the oldest request without one.
    ///
    /// # Errors
    /// Why there is no shim; `UnexpectedEof` when the zygote is gone; `WouldBlock` on a non-blocking
    /// end when there is no answer yet.
    pub fn born(&self) -> io::Result<Born> {
        let gone = io::ErrorKind::UnexpectedEof;
        let Message { kind, pid, number, fd } = recv(self.socket.as_fd())?.ok_or(gone)?;
        match (kind, fd) {
            (SHIM_BORN, Some(pidfd)) => Ok(Born { pid, pidfd }),
            (FORK_FAILED, None) => Err(io::Error::from_raw_os_error(number)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl AsFd for RunnerEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for RunnerEnd {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

pub(super) fn tell_born(to: BorrowedFd<'_>, pid: Pid, socket: BorrowedFd<'_>) -> io::Result<()> {
    seqpacket::send(to, &message(RUNNER_BORN, Some(pid), 0), &[socket])
}

pub(super) fn tell_gone(to: BorrowedFd<'_>, pid: Pid, status: WaitStatus) -> io::Result<()> {
    seqpacket::send(to, &message(RUNNER_GONE, Some(pid), status.as_raw()), &[])
}

pub(super) fn answer(to: BorrowedFd<'_>, born: io::Result<(Pid, OwnedFd)>) -> io::Result<()> {
    match born {
        Ok((pid, pidfd)) => {
            seqpacket::send(to, &message(SHIM_BORN, Some(pid), 0), &[pidfd.as_fd()])
        }
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(libc::EINVAL);
            seqpacket::send(to, &message(FORK_FAILED, None, number), &[])
        }
    }
}

fn message(kind: u8, pid: Option<Pid>, number: i32) -> [u8; LENGTH] {
    let [a, b, c, d] = pid.map_or(0, Pid::as_raw_pid).to_be_bytes();
    let [e, f, g, h] = number.to_be_bytes();
    [kind, a, b, c, d, e, f, g, h]
}

struct Message {
    kind: u8,
    pid: u32,
    number: i32,
    fd: Option<OwnedFd>,
}

/// The next message; none at the end.
fn recv(from: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    let mut buf = [0; LENGTH];
    let mut received = seqpacket::recv(from, &mut buf)?;
    match (received.len, buf) {
        (0, _) => Ok(None),
        (LENGTH, [kind, a, b, c, d, e, f, g, h]) => Ok(Some(Message {
            kind,
            pid: u32::from_be_bytes([a, b, c, d]),
            number: i32::from_be_bytes([e, f, g, h]),
            fd: received.fds.pop(),
        })),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
