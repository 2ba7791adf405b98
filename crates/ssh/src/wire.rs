//! The socket as the SSH library sees it: quick acknowledgements while signing in, a read buffer that
//! an idle connection does not pay for, and an end to a peer that takes nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// The library reads a packet's length and then its body; this makes one system call of many packets.
const READ_BUFFER: usize = 64 * 1024;

/// OpenSSH's client leaves Nagle's algorithm on until it has signed in, and the kernel delays our
/// acknowledgements by 40 ms once a connection looks interactive: together they cost a login 40 ms
/// and more. The option does not stick, so it is set again after each of the first reads.
const QUICK_READS: u8 = 40;

/// How long a client may take to close its side once we have closed ours.
const CLOSING: Duration = Duration::from_secs(2);

/// A connection's socket.
pub(crate) struct Wire {
    socket: Arc<TcpStream>,
    /// Read from the socket and not yet taken; no memory while there is nothing.
    buffer: Vec<u8>,
    taken: usize,
    quick_reads: u8,
    patience: Duration,
    /// Set while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set when our side is closed.
    closing: Option<Pin<Box<Sleep>>>,
}

/// Ends a connection from outside, whatever it is waiting for.
#[derive(Clone, Debug)]
pub(crate) struct Cutter(Arc<TcpStream>);

impl Cutter {
    /// Both directions end now; unsent bytes are the kernel's to try.
    pub(crate) fn cut(&self) {
        // It fails when the peer was faster, which is as good.
        let _gone = rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Both);
    }
}

impl Wire {
    /// A peer that takes no byte for `patience` while there are some to send is gone: the library's
    /// keepalives do not run while it waits to write.
    pub(crate) fn new(socket: TcpStream, patience: Duration) -> (Self, Cutter) {
        // Without it each keystroke's echo may wait for an acknowledgement.
        let _unset = socket.set_nodelay(true);
        let socket = Arc::new(socket);
        let cutter = Cutter(socket.clone());
        let wire = Self {
            socket,
            buffer: Vec::new(),
            taken: 0,
            quick_reads: QUICK_READS,
            patience,
            stalled: None,
            closing: None,
        };
        (wire, cutter)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            self.buffer.clear();
            self.taken = 0;
            self.buffer.reserve_exact(READ_BUFFER);
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.buffer = Vec::new();
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.quick_reads > 0 {
            self.quick_reads -= 1;
            let _unset = rustix::net::sockopt::set_tcp_quickack(&*self.socket, true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.taken == wire.buffer.len() {
            if wire.closing.as_mut().is_some_and(|late| late.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Ok(()));
            }
            ready!(wire.poll_fill(cx))?;
        }
        let rest = wire.buffer.get(wire.taken..).unwrap_or_default();
        let part = rest.get(..out.remaining()).unwrap_or(rest);
        out.put_slice(part);
        wire.taken += part.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        loop {
            if wire.socket.poll_write_ready(cx)?.is_pending() {
                let patience = wire.patience;
                let late = wire
                    .stalled
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                ready!(late.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            match wire.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    wire.stalled = None;
                    return Poll::Ready(written);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let closed = rustix::net::shutdown(&*wire.socket, rustix::net::Shutdown::Write);
        wire.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSING)));
        match closed {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
