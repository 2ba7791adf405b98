//! A `SOCK_SEQPACKET` socket on the runtime: whole messages, and one descriptor a message at most.

use std::cell::RefCell;
use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendFlags;
use sojourn_core::wire::MAX_MESSAGE;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

thread_local! {
    /// One buffer a thread, not one a session: a thousand idle sessions need none.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_MESSAGE]);
}

/// One end of a connection whose messages stay whole.
#[derive(Debug)]
pub(crate) struct SeqPacket {
    fd: AsyncFd<OwnedFd>,
    /// The same socket, watched for room; made when there was none for the first time. Watched from
    /// the beginning, each message that the peer takes would wake a thread to hear of room again: once
    /// more for each key.
    full: OnceLock<AsyncFd<OwnedFd>>,
}

impl SeqPacket {
    /// Takes a connected socket.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd: watched(fd, Interest::READABLE)?, full: OnceLock::new() })
    }

    /// Sends one message, waiting while the peer does not read.
    pub(crate) async fn send(&self, message: &[u8]) -> io::Result<()> {
        let send = |fd: &OwnedFd| -> io::Result<()> {
            let mut none = SendAncillaryBuffer::default();
            rustix::net::sendmsg(fd, &[IoSlice::new(message)], &mut none, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        match send(self.fd.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        self.full()?.async_io(Interest::WRITABLE, send).await
    }

    fn full(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        if let Some(full) = self.full.get() {
            return Ok(full);
        }
        let full =
            watched(rustix::io::fcntl_dupfd_cloexec(self.fd.get_ref(), 3)?, Interest::WRITABLE)?;
        // Another may have been as quick; one of the two is enough.
        Ok(self.full.get_or_init(|| full))
    }

    /// Receives one message and hands it to `read` while it stands in a buffer that is not its own.
    /// None is the end of the connection. Only the first descriptor is kept.
    pub(crate) async fn recv<T>(
        &self,
        mut read: impl FnMut(&[u8], Option<OwnedFd>) -> T,
    ) -> io::Result<Option<T>> {
        self.fd
            .async_io(Interest::READABLE, |fd| {
                SCRATCH.with_borrow_mut(|buffer| {
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                    let mut control = RecvAncillaryBuffer::new(&mut space);
                    let mut receive = || {
                        let into = &mut [IoSliceMut::new(buffer)];
                        rustix::net::recvmsg(fd, into, &mut control, RecvFlags::CMSG_CLOEXEC)
                    };
                    let got = match receive() {
                        // The peer left without reading all we sent. The kernel says so once, before
                        // what it had sent itself.
                        Err(Errno::CONNRESET) => receive()?,
                        other => other?,
                    };
                    let mut passed = control.drain().flat_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
                        _ => Vec::new(),
                    });
                    let fd = passed.next();
                    if got.bytes == 0 {
                        return Ok(None);
                    }
                    if got.flags.contains(rustix::net::ReturnFlags::TRUNC) {
                        return Err(Errno::MSGSIZE.into());
                    }
                    Ok(Some(read(&buffer[..got.bytes], fd)))
                })
            })
            .await
    }
}

fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
    )]
    AsyncFd::with_interest(fd, interest)
}

#[cfg(test)]
impl std::os::fd::AsFd for SeqPacket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (SeqPacket, SeqPacket) {
        let (a, b) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        (SeqPacket::new(a).unwrap(), SeqPacket::new(b).unwrap())
    }

    #[tokio::test]
    async fn who_does_not_read_is_waited_for_and_misses_nothing() {
        let (a, b) = pair();
        let message = vec![7; MAX_MESSAGE];
        let send_all = async {
            for _ in 0..20 {
                a.send(&message).await.unwrap();
            }
        };
        let take_all = async {
            // What fits is sent by now.
            tokio::task::yield_now().await;
            for _ in 0..20 {
                assert_eq!(b.recv(|m, _| m.len()).await.unwrap(), Some(MAX_MESSAGE));
            }
        };
        tokio::join!(send_all, take_all);
        assert!(a.full.get().is_some(), "there was no room for some of it");
        assert!(b.full.get().is_none());
    }

    #[tokio::test]
    async fn messages_stay_whole_and_the_end_is_none() {
        let (a, b) = pair();
        a.send(b"one").await.unwrap();
        a.send(b"two").await.unwrap();
        assert_eq!(b.recv(|m, _| m.to_vec()).await.unwrap(), Some(b"one".to_vec()));
        assert_eq!(b.recv(|m, _| m.to_vec()).await.unwrap(), Some(b"two".to_vec()));
        drop(a);
        assert_eq!(b.recv(|m, _| m.to_vec()).await.unwrap(), None);
    }
}
