//! The shim's side of the socket to `init`, process 1 of a sandbox.
//!
//! Everything that comes from there is hostile: the prisoner may have become `init`. So each kind of
//! message is taken only in the state it belongs to, nothing is longer than a few bytes, and no
//! descriptor is ever accepted: terminals and pipes are made out here and handed in. A terminal made
//! inside would share its non-blocking flag with the prisoner, who could then make the shim wait.

mod image;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::io::IoSliceMut;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvFlags;
use rustix::net::ReturnFlags;
use sojourn_core::wire::shim::Endpoint;

use crate::seqpacket;

pub use image::InitImage;
pub use wire::Command;

/// Programs that lead a channel at a time.
pub const MAX_CHANNELS: usize = 64;

/// Sockets that are listened at, at a time.
pub const MAX_LISTENERS: usize = 8;

/// What a program gets as standard input, output and error.
#[derive(Clone, Copy, Debug)]
pub enum Stdio<'a> {
    /// A terminal's slave, for all three; it becomes the controlling terminal.
    Terminal(BorrowedFd<'a>),
    /// The program's ends of three pipes.
    Pipes([BorrowedFd<'a>; 3]),
}

/// Something that `init` does itself, in a process of its own, so that nothing is needed inside.
#[derive(Clone, Copy, Debug)]
pub enum Helper<'a> {
    /// Serves the sandbox's files, in the frames of `sojourn_core::wire::files`.
    Files {
        /// Where paths begin that are not absolute.
        cwd: &'a str,
    },
    /// A connection that is made from inside.
    Connect(&'a Endpoint),
    /// The next connection that a listener takes.
    Accept {
        /// Which; it listens.
        listener: u16,
    },
}

/// What `init` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitEvent {
    /// It runs and takes commands.
    Ready,
    /// The channel's program runs.
    Started {
        /// The channel.
        channel: u16,
    },
    /// The channel's program could not be run.
    Refused {
        /// The channel.
        channel: u16,
        /// Why: an `errno`.
        errno: i32,
    },
    /// The channel's program ended, as the sandbox claims.
    Exited {
        /// The channel.
        channel: u16,
        /// How.
        status: ExitStatus,
    },
    /// It listens.
    Listening {
        /// The listener.
        listener: u16,
        /// Its port, as the sandbox claims; 0 for a Unix socket.
        port: u16,
    },
    /// It does not listen.
    NotListening {
        /// The listener.
        listener: u16,
        /// Why: an `errno`.
        errno: i32,
    },
}

/// Why the link cannot go on: the sandbox is killed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// `init`, or who took its place, said what it must not say.
    #[error("init broke its protocol: {0}")]
    Protocol(&'static str),
    /// The socket is closed: `init` has ended.
    #[error("init is gone")]
    Gone,
    /// It does not read what it is told.
    #[error("init does not listen")]
    Stuck,
    /// Something else.
    #[error("socket to init")]
    Io(#[from] io::Error),
}

/// Why a program was not even asked for. The link goes on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The channel has a program.
    #[error("channel {0} is in use")]
    InUse(u16),
    /// All channels are taken.
    #[error("no more than {MAX_CHANNELS} programs at a time")]
    TooMany,
    /// Command line, environment and directory exceed a message.
    #[error("command line and environment are too long")]
    TooLong,
    /// No host has such a name, no socket such a path.
    #[error("the name of the host, or the path of the socket, is too long")]
    LongEndpoint,
    /// A zero byte, or no program at all.
    #[error("it cannot be started: {0}")]
    Malformed(&'static str),
    /// The number of a listener is taken.
    #[error("listener {0} is in use")]
    Listens(u16),
    /// There is no such listener.
    #[error("nothing listens as {0}")]
    NoListener(u16),
    /// As many as there may be.
    #[error("no more than {MAX_LISTENERS} listeners at a time")]
    TooManyListeners,
    /// The link itself failed.
    #[error(transparent)]
    Link(#[from] LinkError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListenerPhase {
    /// `init` has been asked.
    Asked,
    /// It said so.
    Listening,
    /// It has been told to end it before it had answered.
    Unwanted,
}

/// The link. All of its calls return at once.
#[derive(Debug)]
pub struct InitLink {
    socket: OwnedFd,
    ready: bool,
    channels: Vec<(u16, Phase)>,
    listeners: Vec<(u16, ListenerPhase)>,
}

impl InitLink {
    /// A new link and the other end of its socket, for `init`.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = seqpacket::pair()?;
        Ok((Self::new(ours)?, theirs))
    }

    /// A link over a connected `SOCK_SEQPACKET` socket, whose other end has said nothing yet.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        seqpacket::set_nonblocking(&socket)?;
        Ok(Self { socket, ready: false, channels: Vec::new(), listeners: Vec::new() })
    }

    /// Asks for a program. [`InitEvent::Started`] or [`InitEvent::Refused`] answers.
    pub fn start<S: AsRef<[u8]>>(
        &mut self,
        channel: u16,
        command: &Command<'_, S>,
        stdio: Stdio<'_>,
    ) -> Result<(), StartError> {
        self.check_free(channel)?;
        let terminal = matches!(stdio, Stdio::Terminal(_));
        let message = wire::start(channel, terminal, command)?;
        match stdio {
            Stdio::Terminal(slave) => self.send(&message, &[slave])?,
            Stdio::Pipes(ends) => self.send(&message, &ends)?,
        }
        self.channels.push((channel, Phase::Starting));
        Ok(())
    }

    /// Asks for a helper, which gets these as standard input and output. Answered as a program is.
    pub fn help(
        &mut self,
        channel: u16,
        helper: &Helper<'_>,
        ends: [BorrowedFd<'_>; 2],
    ) -> Result<(), StartError> {
        self.check_free(channel)?;
        if let Helper::Accept { listener } = helper
            && !self.listeners.contains(&(*listener, ListenerPhase::Listening))
        {
            return Err(StartError::NoListener(*listener));
        }
        self.send(&wire::help(channel, helper)?, &ends)?;
        self.channels.push((channel, Phase::Starting));
        Ok(())
    }

    /// Asks to listen. [`InitEvent::Listening`] or [`InitEvent::NotListening`] answers, also when it
    /// is no longer wanted by then.
    pub fn listen(&mut self, listener: u16, endpoint: &Endpoint) -> Result<(), StartError> {
        if self.listeners.iter().any(|(known, _)| *known == listener) {
            return Err(StartError::Listens(listener));
        }
        if self.listeners.len() >= MAX_LISTENERS {
            return Err(StartError::TooManyListeners);
        }
        self.send(&wire::listen(listener, endpoint)?, &[])?;
        self.listeners.push((listener, ListenerPhase::Asked));
        Ok(())
    }

    /// Ends a listener, and what waits for its connections. Nothing happens when there is none.
    pub fn unlisten(&mut self, listener: u16) -> Result<(), LinkError> {
        let Some(index) = self.listeners.iter().position(|(known, _)| *known == listener) else {
            return Ok(());
        };
        match self.listeners[index].1 {
            ListenerPhase::Unwanted => return Ok(()),
            ListenerPhase::Asked => self.listeners[index].1 = ListenerPhase::Unwanted,
            ListenerPhase::Listening => drop(self.listeners.swap_remove(index)),
        }
        self.send(&wire::unlisten(listener), &[])
    }

    fn check_free(&self, channel: u16) -> Result<(), StartError> {
        if self.phase(channel).is_some() {
            return Err(StartError::InUse(channel));
        }
        if self.channels.len() >= MAX_CHANNELS {
            return Err(StartError::TooMany);
        }
        Ok(())
    }

    /// Has it fork another one of itself, which speaks over `socket` and says there that it is ready.
    pub fn share(&mut self, socket: BorrowedFd<'_>) -> Result<(), LinkError> {
        self.send(&wire::share(), &[socket])
    }

    /// Sends a signal to the terminal's foreground programs, or to the program and its group. Nothing
    /// happens when the channel has no program.
    pub fn signal(&mut self, channel: u16, signal: i32) -> Result<(), LinkError> {
        match (self.phase(channel), u8::try_from(signal)) {
            (Some(_), Ok(signal)) => self.send(&wire::signal(channel, signal), &[]),
            _ => Ok(()),
        }
    }

    /// The next event, or nothing for now.
    pub fn recv(&mut self) -> Result<Option<InitEvent>, LinkError> {
        let mut buffer = [0; wire::MAX_EVENT];
        let mut iov = [IoSliceMut::new(&mut buffer)];
        // Without room for them, the kernel drops descriptors instead of installing them.
        let mut no_room = RecvAncillaryBuffer::new(&mut []);
        let received =
            match rustix::net::recvmsg(&self.socket, &mut iov, &mut no_room, RecvFlags::empty()) {
                Ok(received) => received,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                Err(Errno::CONNRESET) => return Err(LinkError::Gone),
                Err(error) => return Err(LinkError::Io(error.into())),
            };
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(LinkError::Protocol("sent a descriptor"));
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(LinkError::Protocol("sent a long message"));
        }
        match buffer.get(..received.bytes) {
            Some([]) | None => Err(LinkError::Gone),
            Some(message) => self.admit(wire::event(message)?).map(Some),
        }
    }

    /// Lets an event pass that belongs to the state of its channel, and moves the state.
    fn admit(&mut self, event: InitEvent) -> Result<InitEvent, LinkError> {
        let (channel, expected) = match event {
            InitEvent::Ready if self.ready => return Err(LinkError::Protocol("is ready twice")),
            InitEvent::Ready => {
                self.ready = true;
                return Ok(event);
            }
            _ if !self.ready => return Err(LinkError::Protocol("spoke before it was ready")),
            InitEvent::Started { channel } | InitEvent::Refused { channel, .. } => {
                (channel, Phase::Starting)
            }
            InitEvent::Exited { channel, .. } => (channel, Phase::Running),
            InitEvent::Listening { listener, .. } => return self.answered(listener, true, event),
            InitEvent::NotListening { listener, .. } => {
                return self.answered(listener, false, event);
            }
        };
        let index = self
            .channels
            .iter()
            .position(|known| *known == (channel, expected))
            .ok_or(LinkError::Protocol("spoke of a channel out of turn"))?;
        self.channels.swap_remove(index);
        if let InitEvent::Started { .. } = event {
            self.channels.push((channel, Phase::Running));
        }
        Ok(event)
    }

    /// The same for what answers [`InitLink::listen`].
    fn answered(
        &mut self,
        listener: u16,
        listens: bool,
        event: InitEvent,
    ) -> Result<InitEvent, LinkError> {
        let asked = |(known, phase): &(u16, ListenerPhase)| {
            *known == listener && *phase != ListenerPhase::Listening
        };
        let index = self.listeners.iter().position(asked);
        let index = index.ok_or(LinkError::Protocol("spoke of a listener out of turn"))?;
        let (_, phase) = self.listeners.swap_remove(index);
        if listens && phase == ListenerPhase::Asked {
            self.listeners.push((listener, ListenerPhase::Listening));
        }
        Ok(event)
    }

    fn phase(&self, channel: u16) -> Option<Phase> {
        self.channels.iter().find(|(known, _)| *known == channel).map(|(_, phase)| *phase)
    }

    fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        seqpacket::send(&self.socket, message, fds).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => LinkError::Stuck,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LinkError::Gone,
            _ => LinkError::Io(error),
        })
    }
}

impl AsFd for InitLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
