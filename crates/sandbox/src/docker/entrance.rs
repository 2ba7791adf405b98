//! The socket by which `init` of one container comes in: one connection, from process 1 of that
//! container, before anything else has run in it. Then its path is gone.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use sojourn_core::wire::runner::Stage;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::prepared::Failure;

/// The socket, and its path for as long as this is there.
#[derive(Debug)]
pub(crate) struct Entrance {
    listener: AsyncFd<OwnedFd>,
    path: PathBuf,
}

impl Entrance {
    /// Listens in a directory that is root's alone.
    pub(crate) fn open(directory: &Path, id: &str) -> Result<Self, Failure> {
        let path = directory.join(format!("{id}.sock"));
        listen(directory, &path).map_err(|error| {
            Failure::new(Stage::Container, format!("the socket for init: {error}"))
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the one connection, which has to be from process `pid`, held by `pidfd`.
    pub(crate) async fn welcome(
        self,
        pid: u32,
        pidfd: &OwnedFd,
        deadline: Instant,
    ) -> Result<OwnedFd, Failure> {
        let failed = |message: String| Failure::new(Stage::Init, message);
        #[expect(
            deprecated,
            reason = "the new way is unsafe for a type that may lose its descriptor; this one borrows it"
        )]
        let process = AsyncFd::with_interest(pidfd.as_fd(), Interest::READABLE)
            .map_err(|error| failed(error.to_string()))?;
        let connection = tokio::select! {
            taken = self.listener.async_io(Interest::READABLE, accept) => {
                taken.map_err(|error| failed(format!("taking init's connection: {error}")))?
            }
            _ = process.readable() => {
                return Err(failed("the container ended before init had connected".to_owned()));
            }
            () = tokio::time::sleep_until(deadline) => {
                let message = "init did not connect from inside the container in time; the engine \
                               has to be on this machine, and run containers by its own kernel";
                return Err(Failure::new(Stage::Timeout, message));
            }
        };
        let peer = rustix::net::sockopt::socket_peercred(&connection)
            .map_err(|error| failed(error.to_string()))?;
        if peer.pid.as_raw_pid().unsigned_abs() != pid {
            return Err(failed(format!(
                "process {} connected in init's place",
                peer.pid.as_raw_pid()
            )));
        }
        Ok(connection)
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        // It may be gone with its directory.
        let _gone = fs::remove_file(&self.path);
    }
}

fn listen(directory: &Path, path: &Path) -> io::Result<Entrance> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(unix, seqpacket, flags, None)?;
    // Through a descriptor: the name of a socket has 108 bytes, a data directory's may have more.
    let directory = fs::File::open(directory)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    rustix::net::bind(&socket, &SocketAddrUnix::new(&short)?)?;
    // The engine may map users; nobody else comes as far as here.
    fs::set_permissions(&short, fs::Permissions::from_mode(0o666))?;
    rustix::net::listen(&socket, 1)?;
    #[expect(
        deprecated,
        reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
    )]
    let listener = AsyncFd::with_interest(socket, Interest::READABLE)?;
    Ok(Entrance { listener, path: path.to_owned() })
}

fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?)
}
