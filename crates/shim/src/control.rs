//! Runner ⇄ shim, over the shim's control socket: make a sandbox, wait, take a session.
//!
//! ```text
//!   runner                     shim
//!     Make ─────────────────▶  builds            Failed{stage}: it leaves
//!     ◀───────────────── Ready
//!        … in the pool …                         its end: the shim destroys the sandbox, leaves
//!     Assign + descriptors ──▶ checks            Failed{stage}: it leaves
//!     ◀──────────────── Assigned
//!     Note ─────────────────▶  for the sidecar   its end: nothing, the session has its own socket
//!     ◀────────────────── Over                   its end: waits for the next runner, not for ever
//!     Leave ────────────────▶  leaves
//! ```
//!
//! A runner that started after the shim finds it at the session's second socket, and is told `Held`
//! or `Over` there first. The descriptors of [`Layers`] come with `Ready`, `Held` and `Over`: so
//! neither the death of a runner nor that of a shim takes along what the session leaves.
//!
//! JSON, one message a frame, never longer than [`MAX_MESSAGE`]. Both sides are root; what the shim
//! does in a session is told by the gateway, in [`sojourn_core::wire::shim`].

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::wire::Text;
use sojourn_core::wire::runner::About;
use sojourn_core::wire::runner::Note;
use sojourn_core::wire::runner::Stage;

use crate::container::ContainerProfile;
use crate::host::HostProfile;
use crate::joined::Place;
#[cfg(doc)]
use crate::layers::Layers;
use crate::native::NativeProfile;
use crate::seqpacket;

/// The longest message.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Runner → shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Order {
    /// Make a sandbox; the first message. The descriptors that the blueprint asks for come along.
    Make {
        /// Which.
        blueprint: Box<Blueprint>,
        /// How long it may take.
        timeout: Duration,
    },
    /// Serve a session. The descriptors of [`AssignFds`] come along.
    Assign(Box<Assign>),
    /// For the sidecar; while the session lasts.
    Note {
        /// What.
        note: Note,
    },
    /// Let another shim have a place in the sandbox, which takes no session of its own any more. The
    /// place's end of [`crate::joined::socket`] comes along. Answered by [`Report::Shared`].
    Share,
    /// What the session left is kept, or will not be: there is nothing to stay for.
    Leave,
}

/// The sandbox that a shim is to hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blueprint {
    /// One that the shim builds. Where its disk needs a template, the descriptors of
    /// [`crate::native::DiskTemplate::parts`] come along.
    Native(NativeProfile),
    /// A place in one that another shim holds. The socket to its `init`, and the `ptmx` that came with
    /// [`Report::Shared`], come along.
    Joined(Place),
    /// A container that an engine has made. The descriptors of
    /// [`crate::container::ContainerFds`] come along.
    Container(ContainerProfile),
    /// The host itself, as another user.
    Host(HostProfile),
}

impl Blueprint {
    /// The sandbox's id.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Native(profile) => profile.id.clone(),
            Self::Joined(place) => place.id(),
            Self::Container(profile) => profile.id.clone(),
            Self::Host(profile) => profile.id.clone(),
        }
    }
}

/// Shim → runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// The sandbox waits.
    Ready {
        /// Its process 1, as the host sees it.
        init: u32,
    },
    /// It will not be; the shim leaves.
    Failed {
        /// Where.
        stage: Stage,
        /// What went wrong, in a line.
        message: String,
    },
    /// The session is taken: its state is written and its socket served.
    Assigned,
    /// There is a place; the sandbox's `ptmx` comes along.
    Shared,
    /// To a later runner: the session goes on.
    Held,
    /// Every process of the session is gone, and its state says so.
    Over,
}

/// A session for a waiting sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// Its id.
    pub session: SessionId,
    /// Whether it is a honeypot's: nothing inside may say whose gateway this is.
    pub honeypot: bool,
    /// The profile's name.
    pub profile: String,
    /// Who it is for.
    pub about: About,
    /// The limits it runs under.
    pub limits: Limits,
    /// What is recorded.
    pub recording: RecordingPolicy,
    /// The recordings' day directory below `recordings/`, as in `2026/11/22`.
    pub day: String,
    /// The profile's command; its first word is also the shell of `exec`.
    pub command: Vec<Text>,
    /// The profile's environment.
    pub env: Vec<(Text, Text)>,
    /// Who its programs are.
    pub account: Account,
}

/// Who programs are, as they are told: `init` has the rights already that they get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Their name.
    pub name: String,
    /// Where they are at home, and start.
    pub home: String,
}

impl Default for Account {
    /// The root of a sandbox.
    fn default() -> Self {
        Self { name: "root".to_owned(), home: "/root".to_owned() }
    }
}

/// What is recorded of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingPolicy {
    /// What people type.
    pub input: InputPolicy,
    /// Of each stream of a program without a terminal, so many bytes.
    pub exec_bytes: u64,
    /// What becomes of a session that cannot be recorded.
    pub on_failure: OnFailure,
}

/// What is recorded of what people type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputPolicy {
    /// All of it.
    All,
    /// Only the length where a terminal asks for a password: ECHO off, ICANON on.
    #[default]
    Masked,
    /// Nothing.
    Nothing,
}

/// What becomes of a session that cannot be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It ends.
    #[default]
    End,
    /// It goes on; the gap is marked.
    Continue,
}

/// The descriptors that come with [`Order::Assign`], in this order.
#[derive(Debug)]
pub struct AssignFds {
    /// The session's directory, opened for reading.
    pub session: OwnedFd,
    /// The recordings' day directory, opened for reading.
    pub day: OwnedFd,
    /// The session's socket, `SOCK_SEQPACKET`, bound and listening.
    pub listener: OwnedFd,
    /// Another one, at which the next runner finds the shim. Without it nobody comes for what the
    /// session leaves.
    pub comeback: Option<OwnedFd>,
}

impl AssignFds {
    fn from_received(mut fds: Vec<OwnedFd>) -> io::Result<Self> {
        let comeback = if fds.len() > 3 { fds.pop() } else { None };
        let [session, day, listener] = <[OwnedFd; 3]>::try_from(fds)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not three descriptors"))?;
        Ok(Self { session, day, listener, comeback })
    }

    /// They, as they are sent.
    #[must_use]
    pub fn parts(&self) -> Vec<BorrowedFd<'_>> {
        let three = [self.session.as_fd(), self.day.as_fd(), self.listener.as_fd()];
        three.into_iter().chain(self.comeback.as_ref().map(AsFd::as_fd)).collect()
    }
}

/// Sends an order or a report.
///
/// # Errors
/// As [`seqpacket::send`]; `InvalidInput` when it is too long.
pub fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message is too long"));
    }
    seqpacket::send(socket, &bytes, fds)
}

/// Receives an order or a report with its descriptors; none when the other side is gone.
///
/// # Errors
/// As [`seqpacket::recv`]; `InvalidData` when it is none.
pub fn recv<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    // As long as the message: what a waiting shim has touched of its memory stays its own.
    let mut buf = vec![0; seqpacket::next_len(&socket)?.min(MAX_MESSAGE)];
    let message = seqpacket::recv(socket, &mut buf)?;
    if message.len == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buf[..message.len])?, message.fds)))
}

/// Tells apart what a shim is told, with the descriptors that belong to it.
pub(crate) enum Told {
    /// See [`Order::Make`].
    Make(Box<Blueprint>, Duration, Vec<OwnedFd>),
    /// See [`Order::Assign`].
    Assign(Box<Assign>, AssignFds),
    /// See [`Order::Note`].
    Note(Note),
    /// See [`Order::Share`].
    Share(OwnedFd),
    /// See [`Order::Leave`].
    Leave,
    /// The runner is gone.
    Gone,
}

/// The next order; none when there is none now.
pub(crate) fn hear(socket: BorrowedFd<'_>) -> io::Result<Option<Told>> {
    match recv(socket) {
        Ok(None) => Ok(Some(Told::Gone)),
        Ok(Some((Order::Make { blueprint, timeout }, fds))) => {
            Ok(Some(Told::Make(blueprint, timeout, fds)))
        }
        Ok(Some((Order::Assign(assign), fds))) => {
            Ok(Some(Told::Assign(assign, AssignFds::from_received(fds)?)))
        }
        Ok(Some((Order::Note { note }, _))) => Ok(Some(Told::Note(note))),
        Ok(Some((Order::Share, fds))) => {
            let [place] = <[OwnedFd; 1]>::try_from(fds)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not one descriptor"))?;
            Ok(Some(Told::Share(place)))
        }
        Ok(Some((Order::Leave, _))) => Ok(Some(Told::Leave)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_comes_with_its_descriptors() {
        let (near, far) = seqpacket::pair().unwrap();
        let assign = Assign {
            session: SessionId::new(),
            honeypot: false,
            profile: "default".to_owned(),
            about: About::default(),
            limits: Limits::default(),
            recording: RecordingPolicy {
                input: InputPolicy::Masked,
                exec_bytes: 1 << 20,
                on_failure: OnFailure::End,
            },
            day: "2026/11/22".to_owned(),
            command: vec!["/bin/bash".into()],
            env: Vec::new(),
            account: Account::default(),
        };
        let order = Order::Assign(Box::new(assign.clone()));
        send(&near, &order, &[far.as_fd()]).unwrap();
        assert!(hear(far.as_fd()).is_err(), "one descriptor is not three");
        send(&near, &order, &[far.as_fd(), far.as_fd(), far.as_fd()]).unwrap();
        match hear(far.as_fd()).unwrap() {
            Some(Told::Assign(told, _)) => assert_eq!(*told, assign),
            _ => panic!("another order"),
        }
    }
}
