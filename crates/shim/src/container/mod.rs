//! A container that an engine made, taken over: `init` waits in it already, connected to us.
//!
//! The engine gave it namespaces, control groups, capabilities and a filter of system calls. What an
//! engine cannot promise on every storage driver is done here, by a builder that enters the
//! container's mount namespace before anything else has run in it: a root file system whose writable
//! layer has a size, and in which no path of the host shows. From then on nothing depends on the
//! engine: the container is held by a pidfd and its control groups, as every sandbox is.

mod room;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use serde::Deserialize;
use serde::Serialize;

use crate::builder;
use crate::builder::Built;
use crate::cgroup::Cgroup;
use crate::error::At;
use crate::error::BuildError;
use crate::error::Stage;
use crate::init_link::InitLink;
use crate::nat::Nat;
use crate::native::DiskTemplate;
use crate::sandbox::Deadline;
use crate::sandbox::Parts;
use crate::sandbox::Sandbox;

/// The directory of a container in which an engine shows `init` and its socket. It is not there any
/// more when a program runs.
pub const OURS: &str = "/.sojourn";

/// A container to take over. The descriptors of [`ContainerFds`] come along.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerProfile {
    /// The sandbox's id.
    pub id: String,
    /// The engine's id of the container, which its control groups are named after.
    pub container: String,
    /// Its process 1, as the host sees it.
    pub pid: u32,
    /// Its host name.
    pub hostname: String,
    /// What it may write besides `/tmp`, in bytes.
    pub disk_size: u64,
    /// A directory laid over its root file system.
    pub overlay: Option<PathBuf>,
    /// What it reaches; none: nothing.
    pub nat: Option<Nat>,
}

/// What comes along with a container.
#[derive(Debug)]
pub struct ContainerFds {
    /// The socket to its `init`.
    pub link: OwnedFd,
    /// Its process 1, held.
    pub pidfd: OwnedFd,
    /// For a disk that does not fit in memory: the template.
    pub disk: Option<DiskTemplate>,
}

impl ContainerFds {
    /// Those that came over a socket: link, pidfd, and the parts of a template where there is one.
    pub(crate) fn from_received(fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let (link, pidfd) = fds.next().zip(fds.next())?;
        let disk = fds.next().zip(fds.next());
        let disk = disk.map(|(directory, image)| DiskTemplate::from_parts([directory, image]));
        Some(Self { link, pidfd, disk })
    }
}

/// Takes a container over. The caller has one thread.
///
/// # Errors
/// The step that failed, or that was not done after `timeout`. The container is killed then; to
/// remove it is its engine's.
pub fn adopt(
    profile: &ContainerProfile,
    fds: ContainerFds,
    timeout: Duration,
) -> Result<Sandbox, BuildError> {
    let ContainerFds { link, pidfd, disk } = fds;
    let adopted = furnish(profile, link, &pidfd, disk.as_ref(), &Deadline::after(timeout));
    if adopted.is_err() {
        // An error says that it is dead already.
        let _gone = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    }
    adopted
}

fn furnish(
    profile: &ContainerProfile,
    link: OwnedFd,
    pidfd: &OwnedFd,
    disk: Option<&DiskTemplate>,
    deadline: &Deadline,
) -> Result<Sandbox, BuildError> {
    let stage = Stage::Container;
    let pid = i32::try_from(profile.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(BuildError { stage, message: "it has no process".to_owned() })?;
    let cgroup = Cgroup::of_container(pid, &profile.container).at(stage, "its control groups")?;
    let link = InitLink::new(link).at(Stage::Init, "its socket")?;
    let held = rustix::io::fcntl_dupfd_cloexec(pidfd, 3).at(stage, "holding it")?;
    let (builder, progress) = builder::spawn(|report| room::build(profile, pid, disk, report))?;
    let built = progress.follow(deadline);
    if built.is_err() {
        let _gone = rustix::process::kill_process_group(builder, Signal::KILL);
    }
    crate::native::reap(WaitId::Pid(builder)).at(Stage::Init, "the builder")?;
    let Built { pid, ptmx, layers } = built?;
    let mut sandbox = Sandbox::new(Parts { pid, pidfd: held, link, ptmx, cgroup, layers });
    let ready = sandbox.wait_until_ready(deadline);
    ready.map_err(|message| BuildError { stage: Stage::Init, message })?;
    if let Some(nat) = &profile.nat {
        let attached = sandbox.attach_network(nat, deadline);
        attached.map_err(|message| BuildError { stage: Stage::Network, message })?;
    }
    Ok(sandbox)
}
