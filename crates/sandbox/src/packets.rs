//! A `SOCK_SEQPACKET` socket on the runtime, with descriptors.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use sojourn_shim::seqpacket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One end of a connection whose messages stay whole.
#[derive(Debug)]
pub struct Packets {
    fd: AsyncFd<OwnedFd>,
}

impl Packets {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// The system's.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        seqpacket::set_nonblocking(&fd)?;
        #[expect(
            deprecated,
            reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
        )]
        Ok(Self { fd: AsyncFd::new(fd)? })
    }

    /// Runs `send` until it no longer would block.
    ///
    /// # Errors
    /// Those of `send`.
    pub async fn write<T>(
        &self,
        mut send: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.fd.async_io(Interest::WRITABLE, |fd| send(fd.as_fd())).await
    }

    /// Runs `recv` until it no longer would block.
    ///
    /// # Errors
    /// Those of `recv`.
    pub async fn read<T>(
        &self,
        mut recv: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.fd.async_io(Interest::READABLE, |fd| recv(fd.as_fd())).await
    }
}
