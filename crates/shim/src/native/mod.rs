//! The native sandbox: an OCI container of namespaces, control groups, seccomp and an overlay, built
//! without a daemon or an image.
//!
//! [`build`] forks a *builder*: it does the work in a mount namespace of its own and leaves nothing
//! behind when it dies, at whatever step. The shim, as its subreaper, becomes the parent of the
//! sandbox's process 1 and holds it by descriptors: neither killing nor waiting depends on what runs
//! inside.

mod builder;
mod cgroup;
mod disk;
mod error;
mod profile;
mod pty;
mod rootfs;
mod seccomp;
mod spec;

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
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use sojourn_core::time::Mono;
use sojourn_core::wire::shim::WindowSize;

use crate::clock;
use crate::init_link::InitEvent;
use crate::init_link::InitImage;
use crate::init_link::InitLink;
use builder::Progress;
use cgroup::Cgroup;
use error::At;

pub use cgroup::MemoryFacts;
pub use cgroup::clean_orphans;
pub use cgroup::remove_parent;
pub use disk::DiskTemplate;
pub use disk::MAX_IN_MEMORY;
pub use error::BuildError;
pub use error::Stage;
pub use profile::IdRange;
pub use profile::NativeProfile;
pub use profile::Rootfs;
pub use pty::Pty;
pub use pty::resize;

/// What all sandboxes are made with.
#[derive(Clone, Copy, Debug)]
pub struct Supplies<'a> {
    /// The program `init`.
    pub init: &'a InitImage,
    /// For profiles whose disk is larger than [`MAX_IN_MEMORY`]: the template of exactly that size.
    pub disk: Option<&'a DiskTemplate>,
}

/// A sandbox that runs nothing but `init`, until it is told to.
#[derive(Debug)]
pub struct NativeSandbox {
    pid: Pid,
    pidfd: OwnedFd,
    link: InitLink,
    ptmx: OwnedFd,
    cgroup: Cgroup,
    reaped: bool,
}

/// Builds a sandbox. The caller has one thread; it is made the subreaper of what it starts.
///
/// # Errors
/// The step that failed, or that was not done after `timeout`. Nothing is left then.
pub fn build(
    profile: &NativeProfile,
    supplies: Supplies<'_>,
    timeout: Duration,
) -> Result<NativeSandbox, BuildError> {
    profile.check().map_err(|message| BuildError { stage: Stage::Profile, message })?;
    let deadline = Deadline::after(timeout);
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).at(Stage::Prepare, "becoming a subreaper")?;
    let (link, theirs) = InitLink::pair().at(Stage::Prepare, "socket to init")?;
    let (builder, mut progress) = builder::spawn(profile, supplies, theirs)?;
    let adopted = adopt(profile, link, &mut progress, &deadline);
    match adopted {
        // It has nothing left to do but to exit.
        Ok(_) => reap(WaitId::Pid(builder)).at(Stage::Init, "the builder")?,
        Err(_) => abandon(profile, builder),
    }
    adopted
}

/// Follows the builder until it is done, and waits for `init` to be ready.
fn adopt(
    profile: &NativeProfile,
    link: InitLink,
    progress: &mut builder::Channel,
    deadline: &Deadline,
) -> Result<NativeSandbox, BuildError> {
    let mut stage = Stage::Prepare;
    let (pid, ptmx) = loop {
        if !deadline.wait(&[progress.as_fd()]).at(stage, "waiting for the builder")? {
            return Err(BuildError { stage, message: "not done in time".to_owned() });
        }
        match progress.receive().at(stage, "the builder")? {
            Progress::Reached(next) => stage = next,
            Progress::Failed(error) => return Err(error),
            Progress::Done(pid, ptmx) => break (pid, ptmx),
        }
    };
    let stage = Stage::Init;
    // It is the builder's child, which reaps nothing, or ours by now: the number is still its own.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).at(stage, "holding it")?;
    let cgroup = Cgroup::find(&profile.cgroup_parent, &profile.id).at(stage, "its cgroup")?;
    let mut sandbox = NativeSandbox { pid, pidfd, link, ptmx, cgroup, reaped: false };
    loop {
        let failed = |message: String| BuildError { stage, message };
        match sandbox.link.recv() {
            Ok(Some(InitEvent::Ready)) => return Ok(sandbox),
            Ok(Some(_)) => return Err(failed("it is not ready".to_owned())),
            Ok(None) => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        let waited = deadline.wait(&[sandbox.link.as_fd(), sandbox.pidfd.as_fd()]);
        if !waited.at(stage, "waiting for it")? {
            return Err(failed("not ready in time".to_owned()));
        }
    }
}

/// Ends and removes whatever a failed build has made: most of it may never have been there.
fn abandon(profile: &NativeProfile, builder: Pid) {
    // The library's processes do not notice that the builder is gone. Those that have not left its
    // group are ended with it; the one that has is in the sandbox's control group by then.
    let _ended = rustix::process::kill_process_group(builder, Signal::KILL);
    let _reaped = reap(WaitId::Pgid(Some(builder)));
    if let Ok(mut group) = Cgroup::find(&profile.cgroup_parent, &profile.id) {
        for pid in group.kill() {
            let _reaped = reap(WaitId::Pid(pid));
        }
        let _removed = group.remove();
    }
}

/// Waits until none of our children is left of those that `who` means.
fn reap(who: WaitId<'_>) -> io::Result<()> {
    loop {
        match rustix::process::waitid(who.clone(), WaitIdOptions::EXITED) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

impl NativeSandbox {
    /// The link to `init`.
    pub fn link(&mut self) -> &mut InitLink {
        &mut self.link
    }

    /// Process 1, as seen from outside.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Process 1, held. Readable when it and everything else inside have ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Opens a terminal inside. `modes` are opcodes and values of RFC 4254, section 8.
    pub fn open_pty(&self, size: WindowSize, modes: &[(u8, u32)]) -> io::Result<Pty> {
        Pty::open(&self.ptmx, size, modes)
    }

    /// Signals every process inside but `init`, without asking it.
    pub fn signal_all(&self, signal: Signal) {
        let _told = self.cgroup.signal(signal, Some(self.pid));
    }

    /// Kills everything inside. [`NativeSandbox::is_empty`] says when it is gone.
    pub fn kill(&self) {
        // The kernel takes the rest of a pid namespace along with its process 1.
        let _gone = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _told = self.cgroup.kill();
    }

    /// Whether every process has ended; collects process 1 when it has.
    pub fn is_empty(&mut self) -> bool {
        if !self.reaped {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let ended = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
            self.reaped = matches!(ended, Ok(Some(_)) | Err(Errno::CHILD));
        }
        self.reaped && self.cgroup.is_empty()
    }

    /// What the memory controller counted; of use until [`NativeSandbox::release`].
    pub fn memory(&self) -> MemoryFacts {
        self.cgroup.memory()
    }

    /// Removes what is left when it is empty. Mounts, namespaces and loop device are gone by then.
    ///
    /// # Errors
    /// Its control groups could not be removed within a second.
    pub fn release(mut self) -> io::Result<()> {
        self.cgroup.remove()
    }
}

/// A time by which something is done.
struct Deadline(Mono);

impl Deadline {
    fn after(timeout: Duration) -> Self {
        Self(clock::mono().after(timeout))
    }

    /// Waits until one of `fds` has something to say; `false` when the time is over.
    fn wait(&self, fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
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
