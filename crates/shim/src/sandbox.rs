//! A sandbox as a session uses it, however it was made: process 1 and the link to it, the way to its
//! terminals, the control groups that hold everything inside.
//!
//! Neither killing nor waiting depends on what runs inside, nor on whoever made it.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use sojourn_core::time::Mono;
use sojourn_core::wire::shim::WindowSize;

use crate::cgroup::Cgroup;
use crate::cgroup::MemoryFacts;
use crate::clock;
use crate::init_link::InitEvent;
use crate::init_link::InitLink;
use crate::layers::Layers;
use crate::nat;
use crate::nat::Namespaces;
use crate::nat::Nat;
use crate::pty::Pty;

/// What a sandbox is held by.
pub(crate) struct Parts {
    /// Process 1, as seen from outside.
    pub(crate) pid: Pid,
    /// The same, held.
    pub(crate) pidfd: OwnedFd,
    /// The link to it.
    pub(crate) link: InitLink,
    /// The `ptmx` node of its devpts.
    pub(crate) ptmx: OwnedFd,
    /// Where everything inside is counted and found.
    pub(crate) cgroup: Cgroup,
    /// What it writes, where that can be held.
    pub(crate) layers: Option<Layers>,
}

/// A sandbox that runs nothing but `init`, until it is told to.
#[derive(Debug)]
pub struct Sandbox {
    pid: Pid,
    pidfd: OwnedFd,
    link: InitLink,
    ptmx: OwnedFd,
    cgroup: Cgroup,
    layers: Option<Layers>,
    network: Option<nat::Link>,
    /// What is locked as long as it lives.
    held: Option<OwnedFd>,
    /// Whether process 1 has ended and was collected.
    ended: bool,
}

impl Sandbox {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { pid, pidfd, link, ptmx, cgroup, layers } = parts;
        Self { pid, pidfd, link, ptmx, cgroup, layers, network: None, held: None, ended: false }
    }

    /// Has it hold a descriptor as long as it is there.
    pub(crate) fn hold(mut self, held: Option<OwnedFd>) -> Self {
        self.held = held;
        self
    }

    /// Gives it a network; `cgroup` and namespaces of process 1 are its own.
    pub(crate) fn attach_network(&mut self, nat: &Nat, deadline: &Deadline) -> Result<(), String> {
        let namespaces = Namespaces::of(self.pid).map_err(|error| error.to_string())?;
        self.network = Some(nat::attach(nat, &namespaces, &self.cgroup, deadline)?);
        Ok(())
    }

    /// The processes in its control groups that are not the prisoner's.
    fn attendants(&self) -> Vec<Pid> {
        self.network.iter().map(nat::Link::pid).chain([self.pid]).collect()
    }

    /// Waits until `init` says that it takes commands, or gives the reason why it will not.
    pub(crate) fn wait_until_ready(&mut self, deadline: &Deadline) -> Result<(), String> {
        loop {
            match self.link.recv() {
                Ok(Some(InitEvent::Ready)) => return Ok(()),
                Ok(Some(_)) => return Err("it is not ready".to_owned()),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            match deadline.wait(&[self.link.as_fd(), self.pidfd.as_fd()]) {
                Ok(true) => {}
                Ok(false) => return Err("not ready in time".to_owned()),
                Err(error) => return Err(format!("waiting for it: {error}")),
            }
        }
    }

    /// The link to `init`.
    pub fn link(&mut self) -> &mut InitLink {
        &mut self.link
    }

    /// Process 1, as seen from outside.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Process 1, held. Readable when it has ended, and with it everything in its pid namespace.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What it writes and what it writes over; none where that cannot be held, or was taken.
    pub fn layers(&self) -> Option<&Layers> {
        self.layers.as_ref()
    }

    /// Its layers, to be held longer than itself.
    pub fn take_layers(&mut self) -> Option<Layers> {
        self.layers.take()
    }

    /// Opens a terminal inside. `modes` are opcodes and values of RFC 4254, section 8.
    pub fn open_pty(&self, size: WindowSize, modes: &[(u8, u32)]) -> io::Result<Pty> {
        Pty::open(&self.ptmx, size, modes)
    }

    /// Has `init` fork another one of itself, which speaks over `place`.
    pub(crate) fn share(&mut self, place: BorrowedFd<'_>) -> io::Result<()> {
        self.link.share(place).map_err(io::Error::other)
    }

    /// The `ptmx` node of its devpts.
    pub(crate) fn ptmx(&self) -> BorrowedFd<'_> {
        self.ptmx.as_fd()
    }

    /// Whether nothing but `init` runs inside.
    pub(crate) fn is_deserted(&self) -> bool {
        self.cgroup.holds_only(&self.attendants())
    }

    /// Signals every process inside but `init`, without asking it.
    pub fn signal_all(&self, signal: Signal) {
        let _told = self.cgroup.signal(signal, &self.attendants());
    }

    /// Kills everything inside. [`Sandbox::is_empty`] says when it is gone.
    pub fn kill(&self) {
        // The kernel takes the rest of a pid namespace along with its process 1.
        let _gone = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        if let Some(network) = &self.network {
            network.kill();
        }
        let _told = self.cgroup.kill();
    }

    /// Whether every process has ended; collects process 1 when it has.
    pub fn is_empty(&mut self) -> bool {
        if !self.ended {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let ended = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
            self.ended = match ended {
                Ok(Some(_)) => true,
                // Somebody else's child, as a container's is; what is held tells all the same.
                Err(Errno::CHILD) => has_ended(self.pidfd.as_fd()),
                _ => false,
            };
        }
        if let Some(network) = &self.network {
            network.collect();
        }
        self.ended && self.cgroup.is_empty()
    }

    /// What the memory controller counted; of use until [`Sandbox::release`].
    pub fn memory(&self) -> MemoryFacts {
        self.cgroup.memory()
    }

    /// Removes what is left when it is empty. Mounts and namespaces are gone by then, and
    /// the loop device as well unless somebody holds its layers.
    ///
    /// # Errors
    /// Its control groups could not be removed within a second.
    pub fn release(mut self) -> io::Result<()> {
        self.cgroup.remove()
    }
}

/// Whether a held process has ended.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

/// A time by which something is done.
pub(crate) struct Deadline(Mono);

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(clock::mono().after(timeout))
    }

    /// Waits until one of `fds` has something to say; `false` when the time is over.
    pub(crate) fn wait(&self, fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
        let mut polled: Vec<_> =
            fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        loop {
            let left = Timespec::try_from(self.0.since(clock::mono())).ok();
            match rustix::event::poll(&mut polled, left.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
