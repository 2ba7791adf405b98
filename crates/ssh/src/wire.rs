//! The socket as the SSH library sees it: quick acknowledgements while signing in, a read buffer that
//! an idle connection does not pay for, a pause while programs have too much to read, and an end to a
//! peer that takes nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use russh::Disconnect;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::hassh::Beginning;
use crate::hassh::Found;
use crate::valve::Valve;

/// The library reads a packet's length and then its body; this makes one system call of many packets.
const READ_BUFFER: usize = 64 * 1024;

/// OpenSSH's client leaves Nagle's algorithm on until it has signed in, and the kernel delays our
/// acknowledgements by 40 ms once a connection looks interactive: together they cost a login 40 ms
/// and more. The option does not stick, so it is set again after each of the first reads.
const QUICK_READS: u8 = 40;

/// How long a client may take to close its side once we have closed ours.
const CLOSING: Duration = Duration::from_secs(2);

/// How many reads of what it still sends are taken in that time.
const MOST_DRAINED: usize = 64;

const MSG_DISCONNECT: u8 = 1;

/// A connection's socket.
pub(crate) struct Wire {
    socket: Arc<TcpStream>,
    /// Read from the socket and not yet taken; no memory while there is nothing.
    buffer: Vec<u8>,
    taken: usize,
    quick_reads: u8,
    /// What the client says in the clear.
    beginning: Beginning,
    client: ClientName,
    hassh: Hassh,
    valve: Arc<Valve>,
    /// Runs while the valve is shut.
    waiting: Option<Pin<Box<Sleep>>>,
    patience: Duration,
    /// Set while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set when our side is closed.
    closing: Option<Pin<Box<Sleep>>>,
}

/// What the client's first line says it is. The library tells only when somebody has signed in.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientName(Arc<OnceLock<String>>);

impl ClientName {
    /// The name; empty as long as none is known.
    pub(crate) fn get(&self) -> &str {
        self.0.get().map_or("", String::as_str)
    }
}

/// The HASSH of the client's first key exchange.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hassh(Arc<OnceLock<String>>);

impl Hassh {
    /// None as long as it is not known.
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
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

/// What others hold of a wire.
#[derive(Clone, Debug)]
pub(crate) struct WireEnds {
    pub(crate) cutter: Cutter,
    pub(crate) client: ClientName,
    pub(crate) hassh: Hassh,
    pub(crate) valve: Arc<Valve>,
}

/// Says something in the clear and closes: read before it is dropped, or the kernel would take the
/// words back with what the peer has sent and nobody read.
pub(crate) async fn part_with(socket: &TcpStream, words: &[u8]) {
    // So little always fits.
    let _gone = socket.try_write(words);
    let _gone = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
    let drain = async {
        let mut rest = [0; 4096];
        for _ in 0..MOST_DRAINED {
            socket.readable().await?;
            match socket.try_read(&mut rest) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    let _stayed = tokio::time::timeout(CLOSING, drain).await;
}

/// A packet that ends a connection before it has keys (RFC 4253 sections 6 and 11.1).
pub(crate) fn disconnect_in_the_clear(reason: Disconnect, words: &str) -> Vec<u8> {
    let string = |text: &str| {
        let length = u32::try_from(text.len()).unwrap_or(0);
        [&length.to_be_bytes(), text.as_bytes()].concat()
    };
    let payload =
        [&[MSG_DISCONNECT][..], &(reason as u32).to_be_bytes(), &string(words), &string("")]
            .concat();
    // A multiple of eight in all, and at least four bytes of it padding.
    let padding = 8 - (payload.len() + 5) % 8 + if (payload.len() + 5) % 8 > 4 { 8 } else { 0 };
    let length = u32::try_from(payload.len() + padding + 1).unwrap_or(0);
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap_or(0));
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

impl Cutter {
    /// The last words to a peer whose connection never began.
    pub(crate) async fn part_with(&self, words: &[u8]) {
        part_with(&self.0, words).await;
    }
}

impl Wire {
    /// A peer that takes no byte for `patience` while there are some to send is gone: the library's
    /// keepalives do not run while it waits to write.
    /// `begun` was read from the socket already.
    pub(crate) fn new(socket: TcpStream, begun: Vec<u8>, patience: Duration) -> (Self, WireEnds) {
        // Without it each keystroke's echo may wait for an acknowledgement.
        let _unset = socket.set_nodelay(true);
        let socket = Arc::new(socket);
        let ends = WireEnds {
            cutter: Cutter(socket.clone()),
            client: ClientName::default(),
            hassh: Hassh::default(),
            valve: Arc::default(),
        };
        let mut wire = Self {
            socket,
            buffer: begun,
            taken: 0,
            quick_reads: QUICK_READS,
            beginning: Beginning::default(),
            client: ends.client.clone(),
            hassh: ends.hassh.clone(),
            valve: ends.valve.clone(),
            waiting: None,
            patience,
            stalled: None,
            closing: None,
        };
        wire.note_beginning();
        (wire, ends)
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
        self.note_beginning();
        Poll::Ready(Ok(()))
    }

    fn note_beginning(&mut self) {
        for found in self.beginning.see(&self.buffer) {
            let _set_once = match found {
                Found::Version(name) => self.client.0.set(name),
                Found::Hassh(hassh) => self.hassh.0.set(hassh),
            };
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.closing.as_mut().is_some_and(|late| late.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        ready!(wire.valve.poll_open(cx, &mut wire.waiting));
        if wire.taken == wire.buffer.len() {
            ready!(wire.poll_fill(cx))?;
        }
        let rest = wire.buffer.get(wire.taken..).unwrap_or_default();
        let part = rest.get(..out.remaining()).unwrap_or(rest);
        out.put_slice(part);
        wire.taken += part.len();
        wire.valve.passed(part.len());
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
                let late =
                    wire.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A wire that begins with `begun`, and its peer's end.
    async fn wire(begun: &[u8]) -> (Wire, WireEnds, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let (wire, ends) = Wire::new(socket, begun.to_vec(), Duration::from_secs(5));
        (wire, ends, peer)
    }

    #[tokio::test]
    async fn what_is_looked_at_passes_unchanged() {
        let mut sent = b"SSH-2.0-Test\r\n\0\0\x01\x04\x04\x14".to_vec();
        sent.extend((0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
        for begun in [0, 3, 14, 20, 5000] {
            let (begun, later) = sent.split_at(begun);
            let (mut wire, ends, mut peer) = wire(begun).await;
            let later = later.to_vec();
            let writing = tokio::spawn(async move {
                for (chunk, size) in later.chunks(997).zip([1, 2, 997].iter().cycle()) {
                    for part in chunk.chunks(*size) {
                        peer.write_all(part).await.unwrap();
                    }
                }
            });
            let mut got = Vec::new();
            wire.read_to_end(&mut got).await.unwrap();
            writing.await.unwrap();
            assert!(got == sent, "from {} bytes on", begun.len());
            assert_eq!(ends.client.get(), "SSH-2.0-Test");
            assert_eq!(ends.hassh.get(), None);
        }
    }

    #[test]
    fn a_disconnect_is_a_packet() {
        for words in ["", "a", "too many connections; try again in a minute"] {
            let packet = disconnect_in_the_clear(Disconnect::TooManyConnections, words);
            let (length, rest) = packet.split_first_chunk::<4>().unwrap();
            assert_eq!(u32::from_be_bytes(*length) as usize, rest.len());
            assert_eq!(packet.len() % 8, 0);
            let padding = usize::from(rest[0]);
            assert!(padding >= 4, "{padding}");
            let payload = &rest[1..rest.len() - padding];
            assert_eq!(payload[..5], [1, 0, 0, 0, 12]);
            assert_eq!(payload.len(), 5 + 4 + words.len() + 4);
        }
    }
}
