//! Asks the zygote for shims, one at a time: its answers come in order.

use std::io;
use std::os::fd::BorrowedFd;

use sojourn_shim::zygote::Born;
use sojourn_shim::zygote::RunnerEnd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

/// Where shims come from.
#[derive(Debug)]
pub struct Forge {
    end: Mutex<AsyncFd<RunnerEnd>>,
}

impl Forge {
    /// Takes the runner's end of the socket to the zygote.
    ///
    /// # Errors
    /// The system's.
    pub fn new(end: RunnerEnd) -> io::Result<Self> {
        end.set_nonblocking()?;
        #[expect(
            deprecated,
            reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
        )]
        let end = AsyncFd::new(end)?;
        Ok(Self { end: Mutex::new(end) })
    }

    /// Has a shim forked with this control socket.
    ///
    /// # Errors
    /// When there are no more processes to be had, or no zygote.
    pub(crate) async fn fork_shim(&self, control: BorrowedFd<'_>) -> io::Result<Born> {
        // Spawned callers are not cancelled between the request and its answer: see `Pool`.
        let end = self.end.lock().await;
        end.async_io(Interest::WRITABLE, |end| end.fork_shim(control)).await?;
        end.async_io(Interest::READABLE, |end| end.born()).await
    }

    /// Has an unpacker forked with this control socket. Not to be cancelled either.
    ///
    /// # Errors
    /// As with a shim.
    pub(crate) async fn fork_unpacker(&self, control: BorrowedFd<'_>) -> io::Result<Born> {
        let end = self.end.lock().await;
        end.async_io(Interest::WRITABLE, |end| end.fork_unpacker(control)).await?;
        end.async_io(Interest::READABLE, |end| end.born()).await
    }

    /// Has a keeper forked with this control socket. Not to be cancelled either.
    ///
    /// # Errors
    /// As with a shim.
    pub(crate) async fn fork_keeper(&self, control: BorrowedFd<'_>) -> io::Result<Born> {
        let end = self.end.lock().await;
        end.async_io(Interest::WRITABLE, |end| end.fork_keeper(control)).await?;
        end.async_io(Interest::READABLE, |end| end.born()).await
    }
}
