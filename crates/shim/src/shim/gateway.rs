//! The connection of the gateway that is attached to a session: what it is told, in bounded queues.
//!
//! Frames about the session go first; output follows, one frame at a time. While that one does not
//! fit the socket no output is read from programs, so nothing grows here when a gateway is slow.

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::net::SocketFlags;
use rustix::net::sockopt;
use sojourn_core::time::Mono;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::HEADER;
use sojourn_core::wire::shim::Stream;

use crate::seqpacket;

/// Frames about the session that may wait. An attentive gateway never lets so many gather: one that
/// does is let go, and may come back.
const MAX_WAITING: usize = 1024;

/// What a socket holds on its way to the gateway, as far as the system allows it. By itself it is
/// three frames, and a program that prints a lot waits for the gateway each time they are there.
const ON_THE_WAY: usize = 1 << 20;

/// How long a gateway may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Gateway {
    socket: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    /// Output that did not fit the socket.
    output: Option<Vec<u8>>,
    scratch: Vec<u8>,
    /// Until when it has to have said hello; none once it has.
    hello_by: Option<Mono>,
    lost: bool,
}

impl Gateway {
    /// The next connection that waits at `listener`; none when none does, or it is neither root's nor
    /// our own user's.
    pub(super) fn accept(listener: BorrowedFd<'_>, now: Mono) -> Option<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::accept_with(listener, flags).ok()?;
        // The runner connects and hands the connection on; who has it then does not show here.
        let peer = sockopt::socket_peercred(&socket).ok()?;
        let known = peer.uid.is_root() || peer.uid == rustix::process::geteuid();
        let _as_it_was = sockopt::set_socket_send_buffer_size(&socket, ON_THE_WAY);
        known.then(|| Self {
            socket,
            waiting: VecDeque::new(),
            output: None,
            scratch: Vec::new(),
            hello_by: Some(now.after(HELLO_WITHIN)),
            lost: false,
        })
    }

    /// Reads one message; none when there is none now, or never will be.
    pub(super) fn hear(&mut self, buf: &mut [u8]) -> Option<usize> {
        match seqpacket::recv(&self.socket, buf) {
            Ok(message) if message.len > 0 => Some(message.len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            _ => {
                self.lost = true;
                None
            }
        }
    }

    /// It has said hello.
    pub(super) fn greeted(&mut self) {
        self.hello_by = None;
    }

    /// Until when it has to have said hello; none once it has.
    pub(super) fn hello_by(&self) -> Option<Mono> {
        self.hello_by
    }

    /// Tells it something about the session.
    pub(super) fn tell(&mut self, frame: &FromShim<'_>) {
        frame.encode(&mut self.scratch);
        if self.waiting.len() >= MAX_WAITING {
            self.lost = true;
        } else {
            self.waiting.push_back(self.scratch.clone());
        }
    }

    /// Passes output on. Only when nothing waits.
    pub(super) fn pass(&mut self, channel: u16, stream: Stream, bytes: &[u8]) {
        FromShim::Output(channel, stream, &[]).encode(&mut self.scratch);
        let parts = [IoSlice::new(&self.scratch), IoSlice::new(bytes)];
        match seqpacket::send_parts(&self.socket, &parts, &[]) {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                let mut frame = Vec::with_capacity(HEADER + bytes.len());
                frame.extend_from_slice(&self.scratch);
                frame.extend_from_slice(bytes);
                self.output = Some(frame);
            }
            Err(_) => self.lost = true,
        }
    }

    /// Sends what waits, as far as it fits.
    pub(super) fn flush(&mut self) {
        while let Some(frame) = self.waiting.front().or(self.output.as_ref()) {
            match seqpacket::send(&self.socket, frame, &[]) {
                Ok(()) => {
                    if self.waiting.pop_front().is_none() {
                        self.output = None;
                    }
                }
                Err(error) if is_full(&error) => return,
                Err(_) => {
                    self.lost = true;
                    return;
                }
            }
        }
    }

    /// Takes nothing more and reads what had come: a socket closed on unread frames would tell its
    /// peer of that before the last words.
    pub(super) fn stop_hearing(&self, buf: &mut [u8]) {
        if rustix::net::shutdown(&self.socket, Shutdown::Read).is_ok() {
            while seqpacket::recv(&self.socket, buf).is_ok_and(|message| message.len > 0) {}
        }
    }

    /// Forgets output that waits: no more is wanted.
    pub(super) fn forget_output(&mut self) {
        self.output = None;
    }

    /// Forgets output of a channel that waits: whoever reads it from now on has it from the recording.
    pub(super) fn forget_output_of(&mut self, channel: u16) {
        let of = |frame: &Vec<u8>| frame.get(1..HEADER) == Some(&channel.to_be_bytes()[..]);
        if self.output.as_ref().is_some_and(of) {
            self.output = None;
        }
    }

    /// Whether nothing waits, so that output may be read for it.
    pub(super) fn is_clear(&self) -> bool {
        self.waiting.is_empty() && self.output.is_none()
    }

    /// Whether the connection is of no use any more.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Gives the connection up.
    pub(super) fn give_up(&mut self) {
        self.lost = true;
    }
}

impl AsFd for Gateway {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether a message did not fit for now. The kernel also says so when it is short of memory.
fn is_full(error: &io::Error) -> bool {
    let full = [Errno::AGAIN, Errno::NOBUFS];
    full.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
