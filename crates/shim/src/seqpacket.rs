//! `SOCK_SEQPACKET` sockets: one message is one frame, whole or not at all, and may carry
//! descriptors.
//!
//! Nothing here waits unless the socket itself is a waiting one; [`wait`] bounds that. An empty
//! message is never sent, so a length of zero is the end of the other side.

use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::ReturnFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::process::Pid;

/// The most descriptors of one message.
pub const MAX_FDS: usize = 8;

/// A message that was received.
#[derive(Debug)]
pub struct Received {
    /// Its bytes in the buffer; zero: the other side is gone.
    pub len: usize,
    /// The descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Makes two connected sockets. They wait: the caller makes its own end non-blocking if need be.
///
/// # Errors
/// The system's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Makes this end non-blocking; the other end stays what it is.
///
/// # Errors
/// The system's.
pub fn set_nonblocking(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

/// Sends one message with descriptors: all of it or nothing.
///
/// # Errors
/// `WouldBlock` on a non-blocking socket whose other side does not read; `BrokenPipe` when it is
/// gone; else the system's.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_parts(socket, &[IoSlice::new(bytes)], fds)
}

/// As [`send`], of a message in parts.
///
/// # Errors
/// As [`send`].
pub fn send_parts(
    socket: impl AsFd,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, parts, &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one message into `buf`.
///
/// # Errors
/// `InvalidData` for one that is longer than `buf` or has too many descriptors; `WouldBlock` on a
/// non-blocking socket when there is none; else the system's.
pub fn recv(socket: impl AsFd, buf: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = past_reset(|| {
        let parts = &mut [IoSliceMut::new(buf)];
        rustix::net::recvmsg(&socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = Vec::new();
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            fds.extend(rights);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    Ok(Received { len: message.bytes, fds })
}

/// The length of the next message, which stays; zero: the other side is gone.
///
/// # Errors
/// `WouldBlock` on a non-blocking socket when there is none; else the system's.
pub fn next_len(socket: impl AsFd) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    let mut nothing: [u8; 0] = [];
    Ok(past_reset(|| rustix::net::recv(&socket, &mut nothing[..], flags))?.1)
}

/// Who sent the next message, which stays: the kernel's word, on a socket that asks for it. None: it
/// is not known, or the other side is gone.
///
/// # Errors
/// `WouldBlock` on a non-blocking socket when there is none; else the system's.
pub fn next_sender(socket: impl AsFd) -> io::Result<Option<Pid>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    past_reset(|| {
        let parts = &mut [IoSliceMut::new(&mut [])];
        rustix::net::recvmsg(&socket, parts, &mut ancillary, RecvFlags::PEEK)
    })?;
    Ok(ancillary.drain().find_map(|item| match item {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
        _ => None,
    }))
}

/// Tries again what a signal interrupted. A peer that left without having read everything is told of
/// once, as an error, before what it had sent: that can still be read, and then its end.
fn past_reset<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    match rustix::io::retry_on_intr(&mut call) {
        Err(Errno::CONNRESET) => rustix::io::retry_on_intr(&mut call),
        other => other,
    }
}

/// Waits until `fd` has something to read, or its other side is gone; false when that took longer
/// than `timeout`.
///
/// # Errors
/// The system's.
pub fn wait(fd: impl AsFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(timeout).ok();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout.as_ref()))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_with_their_descriptors() {
        let (near, far) = pair().unwrap();
        let (inner, outer) = pair().unwrap();
        send(&near, b"first", &[]).unwrap();
        send(&near, b"second", &[inner.as_fd()]).unwrap();
        let mut buf = [0; 64];
        let first = recv(&far, &mut buf).unwrap();
        assert_eq!((&buf[..first.len], first.fds.len()), (&b"first"[..], 0));
        assert_eq!(next_len(&far).unwrap(), 6);
        let second = recv(&far, &mut buf).unwrap();
        assert_eq!((&buf[..second.len], second.fds.len()), (&b"second"[..], 1));
        send(&second.fds[0], b"through", &[]).unwrap();
        assert_eq!(recv(&outer, &mut buf).unwrap().len, 7);
        drop(near);
        assert_eq!(next_len(&far).unwrap(), 0, "the end");
        assert_eq!(recv(&far, &mut buf).unwrap().len, 0, "the end");
    }

    #[test]
    fn what_a_peer_sent_can_be_read_though_it_left_without_reading() {
        let (near, far) = pair().unwrap();
        send(&far, b"unread", &[]).unwrap();
        send(&near, b"last word", &[]).unwrap();
        drop(near);
        let mut buf = [0; 64];
        assert_eq!(recv(&far, &mut buf).unwrap().len, 9);
        assert_eq!(recv(&far, &mut buf).unwrap().len, 0);
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused_and_its_descriptors_closed() {
        let (near, far) = pair().unwrap();
        let (inner, outer) = pair().unwrap();
        send(&near, b"much too long", &[inner.as_fd()]).unwrap();
        drop(inner);
        let error = recv(&far, &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(recv(&outer, &mut [0; 4]).unwrap().len, 0, "nobody holds the other end");
    }
}
