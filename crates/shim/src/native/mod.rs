//! The native sandbox: an OCI container of namespaces, control groups, seccomp and an overlay, built
//! without a daemon or an image.
//!
//! [`build`] forks a *builder*: it does the work in a mount namespace of its own and leaves nothing
//! behind when it dies, at whatever step. The shim, as its subreaper, becomes the parent of the
//! sandbox's process 1 and holds it by descriptors: neither killing nor waiting depends on what runs
//! inside.

mod builder;
mod disk;
mod made;
mod profile;
mod rootfs;
mod seccomp;
mod spec;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;

use crate::builder::Built;
use crate::builder::Channel;
use crate::cgroup::Cgroup;
use crate::error::At;
use crate::error::BuildError;
use crate::error::Stage;
use crate::init_link::InitImage;
use crate::init_link::InitLink;
use crate::sandbox::Deadline;
use crate::sandbox::Parts;
use crate::sandbox::Sandbox;

pub(crate) use disk::mount as mount_disk;
pub(crate) use made::Made;

pub use disk::DiskTemplate;
pub use disk::MAX_IN_MEMORY;
pub use profile::IdRange;
pub use profile::Image;
pub use profile::NativeProfile;
pub use profile::Rootfs;
pub use spec::CAPABILITIES;
pub use spec::masked_paths;
pub use spec::read_only_paths;
pub use spec::system_calls;

/// Does what is done once for all sandboxes that this process, and what it forks, will make.
pub(crate) fn make_ready() {
    // Who makes one asks again, and hears why there is none.
    let _later = seccomp::program();
}

/// What all sandboxes are made with.
#[derive(Clone, Copy, Debug)]
pub struct Supplies<'a> {
    /// The program `init`.
    pub init: &'a InitImage,
    /// For profiles whose disk is larger than [`MAX_IN_MEMORY`]: the template of exactly that size.
    pub disk: Option<&'a DiskTemplate>,
}

/// Builds a sandbox. The caller has one thread; it is made the subreaper of what it starts.
///
/// # Errors
/// The step that failed, or that was not done after `timeout`. Nothing is left then.
pub fn build(
    profile: &NativeProfile,
    supplies: Supplies<'_>,
    timeout: Duration,
) -> Result<Sandbox, BuildError> {
    profile.check().map_err(|message| BuildError { stage: Stage::Profile, message })?;
    let deadline = Deadline::after(timeout);
    let image = lock_image(&profile.rootfs)?;
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).at(Stage::Prepare, "becoming a subreaper")?;
    let (link, theirs) = InitLink::pair().at(Stage::Prepare, "socket to init")?;
    let (builder, progress) = builder::spawn(profile, supplies, &theirs)?;
    drop(theirs);
    let adopted = adopt(profile, link, &progress, &deadline).map(|sandbox| sandbox.hold(image));
    match adopted {
        // It has nothing left to do but to exit.
        Ok(_) => reap(WaitId::Pid(builder)).at(Stage::Init, "the builder")?,
        Err(_) => abandon(profile, builder),
    }
    adopted
}

/// Keeps the image that a sandbox is made of from being removed, as long as the descriptor is open.
fn lock_image(rootfs: &Rootfs) -> Result<Option<OwnedFd>, BuildError> {
    let Rootfs::Image(image) = rootfs else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(&image.directory, flags, Mode::empty());
    let directory = directory.at(Stage::Rootfs, "the image")?;
    let shared = FlockOperation::NonBlockingLockShared;
    rustix::fs::flock(&directory, shared).at(Stage::Rootfs, "locking the image")?;
    Ok(Some(directory))
}

/// Follows the builder until it is done, and waits for `init` to be ready.
fn adopt(
    profile: &NativeProfile,
    link: InitLink,
    progress: &Channel,
    deadline: &Deadline,
) -> Result<Sandbox, BuildError> {
    let Built { pid, ptmx, layers } = progress.follow(deadline)?;
    let stage = Stage::Init;
    // It is the builder's child, which reaps nothing, or ours by now: the number is still its own.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).at(stage, "holding it")?;
    let cgroup = Cgroup::find(&profile.cgroup_parent, &profile.id).at(stage, "its cgroup")?;
    let mut sandbox = Sandbox::new(Parts { pid, pidfd, link, ptmx, cgroup, layers });
    let ready = sandbox.wait_until_ready(deadline);
    ready.map_err(|message| BuildError { stage, message })?;
    if let Some(nat) = &profile.nat {
        let attached = sandbox.attach_network(nat, deadline);
        attached.map_err(|message| BuildError { stage: Stage::Network, message })?;
    }
    Ok(sandbox)
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
pub(crate) fn reap(who: WaitId<'_>) -> io::Result<()> {
    loop {
        match rustix::process::waitid(who.clone(), WaitIdOptions::EXITED) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
