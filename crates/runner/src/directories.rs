//! The runner's directories, as descriptors: once opened, no path is followed through a directory that
//! somebody else could have changed.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;

/// The names of a session's sockets, and of the runner's own.
const SOCKET: &str = "sock";
const COMEBACK: &str = "runner";
const RUNNER_SOCKET: &str = "runner.sock";
const RUNNER_LOCK: &str = "runner.lock";

/// How many connections may wait to be taken.
const BACKLOG: i32 = 16;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// `recordings/` and `sessions/`.
#[derive(Debug)]
pub(crate) struct Directories {
    data: OwnedFd,
    recordings: OwnedFd,
    sessions: OwnedFd,
    images: OwnedFd,
}

impl Directories {
    /// Opens both below the data directory, which must hold them.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let data = rustix::fs::open(data_dir, DIRECTORY, Mode::empty())?;
        Ok(Self {
            recordings: rustix::fs::openat(&data, "recordings", DIRECTORY, Mode::empty())?,
            sessions: rustix::fs::openat(&data, "sessions", DIRECTORY, Mode::empty())?,
            images: rustix::fs::openat(&data, "images", DIRECTORY, Mode::empty())?,
            data,
        })
    }

    /// `kept/`.
    pub(crate) fn kept(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.data, "kept", DIRECTORY, Mode::empty())?)
    }

    /// `recordings/`.
    pub(crate) fn recordings(&self) -> &OwnedFd {
        &self.recordings
    }

    /// `images/`: trees that sandboxes are made of.
    pub(crate) fn images(&self) -> &OwnedFd {
        &self.images
    }

    /// Where unlinked images of sandboxes' disks may lie: on the data directory's own disk.
    pub(crate) fn scratch(&self) -> &OwnedFd {
        &self.sessions
    }

    /// Takes the lock of the one runner of this data directory; it is held as long as the descriptor.
    ///
    /// # Errors
    /// `WouldBlock` when another runner has it.
    pub(crate) fn lock(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.sessions, RUNNER_LOCK, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(lock)
    }

    /// Listens where the next gateway finds this runner.
    pub(crate) fn listen(&self) -> io::Result<OwnedFd> {
        listen(&self.sessions, RUNNER_SOCKET)
    }

    /// Removes the runner's socket.
    pub(crate) fn unlisten(&self) {
        let _missing = rustix::fs::unlinkat(&self.sessions, RUNNER_SOCKET, AtFlags::empty());
    }

    /// The day's directory for recordings, made when missing, and its name.
    pub(crate) fn day(&self, now: Wall) -> io::Result<(OwnedFd, String)> {
        let (year, month, day) = now.date();
        let parts = [format!("{year:04}"), format!("{month:02}"), format!("{day:02}")];
        let mut directory = rustix::io::dup(&self.recordings)?;
        for part in &parts {
            match rustix::fs::mkdirat(&directory, part, Mode::RWXU | Mode::RGRP | Mode::XGRP) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            directory = rustix::fs::openat(&directory, part, DIRECTORY, Mode::empty())?;
        }
        Ok((directory, parts.join("/")))
    }

    /// Makes a session's directory and listens at its sockets: the gateway's, and the one where the
    /// next runner finds the shim.
    pub(crate) fn create(&self, session: SessionId) -> io::Result<(OwnedFd, OwnedFd, OwnedFd)> {
        let name = session.to_string();
        rustix::fs::mkdirat(&self.sessions, &name, Mode::RWXU)?;
        let directory = rustix::fs::openat(&self.sessions, &name, DIRECTORY, Mode::empty())?;
        let listener = listen(&directory, SOCKET)?;
        let comeback = listen(&directory, COMEBACK)?;
        Ok((directory, listener, comeback))
    }

    /// A session's directory.
    pub(crate) fn session(&self, session: SessionId) -> io::Result<OwnedFd> {
        let name = session.to_string();
        Ok(rustix::fs::openat(&self.sessions, name, DIRECTORY, Mode::empty())?)
    }

    /// Removes a session's directory and the few files in it.
    pub(crate) fn remove(&self, session: SessionId) -> io::Result<()> {
        let directory = match self.session(session) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        // First: without it nothing else in there is of any meaning, should this be cut short.
        match rustix::fs::unlinkat(&directory, sojourn_shim::state::FILE, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        for entry in fs::read_dir(as_path(&directory))? {
            rustix::fs::unlinkat(&directory, entry?.file_name(), AtFlags::empty())?;
        }
        rustix::fs::unlinkat(&self.sessions, session.to_string(), AtFlags::REMOVEDIR)?;
        Ok(())
    }

    /// The sessions that have a directory, oldest first.
    pub(crate) fn list(&self) -> io::Result<Vec<SessionId>> {
        let mut found: Vec<SessionId> = fs::read_dir(as_path(&self.sessions))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }
}

/// Connects to a session's shim by its directory.
pub(crate) fn connect(directory: impl AsFd) -> io::Result<OwnedFd> {
    connect_to(directory, SOCKET)
}

/// Connects to a shim where it waits for a runner that started after it.
pub(crate) fn come_back(directory: impl AsFd) -> io::Result<OwnedFd> {
    connect_to(directory, COMEBACK)
}

fn connect_to(directory: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let socket = seqpacket()?;
    // A shim that takes no connections must not hold up the runner.
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::net::connect(&socket, &address(&directory, name)?)?;
    Ok(socket)
}

fn listen(directory: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = seqpacket()?;
    rustix::net::bind(&socket, &address(&directory, name)?)?;
    fs::set_permissions(as_path(&directory).join(name), fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn seqpacket() -> io::Result<OwnedFd> {
    let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socket_with(unix, seqpacket, SocketFlags::CLOEXEC, None)?)
}

/// An address through the descriptor: a data directory's path may be longer than the 108 bytes that
/// the name of a socket has.
fn address(directory: impl AsFd, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(as_path(directory).join(name))?)
}

/// A path to an open directory, for what has no call with a descriptor.
pub(crate) fn as_path(directory: impl AsFd) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()).into()
}
