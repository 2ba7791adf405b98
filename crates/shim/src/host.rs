//! No sandbox: programs run as another user of this machine, in a process tree that can be limited,
//! found and ended whole.
//!
//! `init` is that user's process from the start and nobody's process 1; as the subreaper of what it
//! starts it stays the ancestor of all of it, and the control groups hold those that would get away.
//! Programs have the host's files and network. What they have not: set-user-id programs (a process
//! that became root could leave its control groups), and other people's terminals (they have a devpts
//! of their own, so that their terminals are theirs).

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::process::Gid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::Uid;
use rustix::process::WaitId;
use rustix::thread::UnshareFlags;
use serde::Deserialize;
use serde::Serialize;

use crate::builder;
use crate::builder::Built;
use crate::builder::Channel;
use crate::builder::out_of_the_way;
use crate::cgroup::Cgroup;
use crate::cgroup::Limits;
use crate::error::At;
use crate::error::BuildError;
use crate::error::Stage;
use crate::init_link::InitImage;
use crate::init_link::InitLink;
use crate::native::reap;
use crate::sandbox::Deadline;
use crate::sandbox::Parts;
use crate::sandbox::Sandbox;
use crate::sys;

/// As a native sandbox has it; the owner of terminals comes on top.
const DEVPTS: &str = "newinstance,ptmxmode=0666,mode=0620,gid=5,max=128";

/// Whose programs are run, and how much they may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostProfile {
    /// Names its cgroup; used by no other sandbox.
    pub id: String,
    /// The cgroup that holds those of all sandboxes.
    pub cgroup_parent: String,
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// All of its groups.
    pub groups: Vec<u32>,
    /// Memory, swap included, in bytes.
    pub memory: u64,
    /// Processors, fractions allowed.
    pub cpu: f64,
    /// Processes and threads.
    pub pids: u64,
}

/// Starts an `init` that is another user's. The caller has one thread; it is made the subreaper of
/// what it starts.
///
/// # Errors
/// The step that failed, or that was not done after `timeout`. Nothing is left then.
pub fn build(
    profile: &HostProfile,
    init: &InitImage,
    timeout: Duration,
) -> Result<Sandbox, BuildError> {
    if profile.uid == 0 {
        let message = "programs on the host are never root's".to_owned();
        return Err(BuildError { stage: Stage::Profile, message });
    }
    let deadline = Deadline::after(timeout);
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).at(Stage::Prepare, "becoming a subreaper")?;
    let limits = Limits { memory: profile.memory, cpu: profile.cpu, pids: profile.pids };
    let mut cgroup = Cgroup::make(&profile.cgroup_parent, &profile.id, limits)
        .at(Stage::Container, "its control groups")?;
    let started = start(profile, init, &cgroup, &deadline);
    if started.is_err() {
        for pid in cgroup.kill() {
            let _reaped = reap(WaitId::Pid(pid));
        }
        let _removed = cgroup.remove();
    }
    started
}

fn start(
    profile: &HostProfile,
    init: &InitImage,
    cgroup: &Cgroup,
    deadline: &Deadline,
) -> Result<Sandbox, BuildError> {
    let (link, theirs) = InitLink::pair().at(Stage::Prepare, "socket to init")?;
    let (child, progress) =
        builder::spawn(|report| become_init(profile, init, theirs, cgroup, report))?;
    let pidfd = rustix::process::pidfd_open(child, PidfdFlags::empty());
    let pidfd = pidfd.at(Stage::Init, "holding it")?;
    let started = progress.follow(deadline).and_then(|Built { pid, ptmx, layers }| {
        let (pidfd, cgroup) = (rustix::io::fcntl_dupfd_cloexec(&pidfd, 3), cgroup.clone());
        let pidfd = pidfd.at(Stage::Init, "holding it")?;
        let mut sandbox = Sandbox::new(Parts { pid, pidfd, link, ptmx, cgroup, layers });
        match sandbox.wait_until_ready(deadline) {
            Ok(()) => Ok(sandbox),
            Err(message) => Err(BuildError { stage: Stage::Init, message }),
        }
    });
    if started.is_err() {
        // It may not be in its control groups yet. An error says that it is dead.
        let _gone = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        let _reaped = reap(WaitId::Pid(child));
    }
    started
}

/// Turns this process into `init`; comes back with the reason why it could not.
fn become_init(
    profile: &HostProfile,
    init: &InitImage,
    socket: OwnedFd,
    cgroup: &Cgroup,
    report: &Channel,
) -> Result<(), BuildError> {
    let stage = Stage::Prepare;
    let image = out_of_the_way(init.as_fd()).at(stage, "the program init")?;
    builder::inherit(&socket).at(stage, "descriptors")?;
    report.reached(Stage::Container);
    cgroup.join().at(Stage::Container, "joining its control groups")?;
    report.reached(Stage::Terminals);
    let stage = Stage::Terminals;
    sys::process::unshare(UnshareFlags::NEWNS).at(stage, "mount namespace")?;
    // What is mounted on the host later shows; what is mounted here does not show there.
    let one_way = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", one_way).at(stage, "making mounts one-way")?;
    let options = CString::new(format!("{DEVPTS},uid={}", profile.uid)).at(stage, "options")?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("devpts", "/dev/pts", "devpts", flags, options.as_c_str())
        .at(stage, "a devpts")?;
    let ptmx = builder::terminals("/dev/pts/ptmx").at(stage, "opening ptmx")?;

    report.reached(Stage::Start);
    let stage = Stage::Start;
    drop_to(profile).at(stage, "becoming its user")?;
    let pid = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(pid)).at(stage, "becoming a subreaper")?;
    report.done(&Built { pid, ptmx, layers: None }).at(stage, "reporting")?;
    Err(sys::process::execute(image.as_raw_fd(), c"init")).at(stage, "executing init")
}

/// Becomes the profile's user, without a way to anything else.
fn drop_to(profile: &HostProfile) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(profile.uid), Gid::from_raw(profile.gid));
    let groups: Vec<Gid> = profile.groups.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    rustix::thread::set_no_new_privs(true)
}
