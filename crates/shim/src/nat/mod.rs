//! A network of its own for a sandbox: a tap device, served by a `slirp4netns` beside the sandbox, and
//! packet rules inside its network namespace that say what may be reached.
//!
//! Nothing of the host's own network is changed. The rules are there before the device is, and before
//! anything of the prisoner's runs; a prisoner has no right over them. `slirp4netns` runs as the
//! sandbox's own root, in its user namespace and control groups, sees none of the host's files, and
//! ends when the shim lets go of a pipe, however that happens.

mod plan;
mod rules;
mod slirp;

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;

use crate::cgroup::Cgroup;
use crate::sandbox::Deadline;

pub use crate::sys::net::own_addresses;
pub use plan::GATEWAY_NET;
pub use plan::Nat;
pub use plan::Net;
pub use plan::Reach;
pub use plan::is_public;

pub(crate) use plan::RESOLVER;

/// Where programs of the administrator are, whatever PATH says.
const DIRECTORIES: [&str; 6] =
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];
const TUN: &str = "/dev/net/tun";

/// The namespaces of a sandbox.
#[derive(Debug)]
pub(crate) struct Namespaces {
    net: OwnedFd,
    /// None where it has none of its own.
    user: Option<OwnedFd>,
}

/// The programs that are needed.
struct Programs {
    slirp: PathBuf,
    nft: PathBuf,
}

/// What serves a sandbox's network.
#[derive(Debug)]
pub(crate) struct Link {
    pid: Pid,
    pidfd: OwnedFd,
    /// It ends when this is closed.
    _stay: OwnedFd,
}

/// Whether sandboxes with a network can be had on this machine.
///
/// # Errors
/// What is missing, and how to get it.
pub fn check() -> Result<(), String> {
    Programs::find()?;
    match fs::metadata(TUN) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{TUN}: {error}; load the kernel's module with: modprobe tun")),
    }
}

/// Gives a sandbox its network. Nothing hostile runs in it yet; `cgroup` is where its network's
/// process is to be counted and found.
pub(crate) fn attach(
    nat: &Nat,
    namespaces: &Namespaces,
    cgroup: &Cgroup,
    deadline: &Deadline,
) -> Result<Link, String> {
    check()?;
    let programs = Programs::find()?;
    let rules = rules::text(nat);
    rules::load(&programs.nft, &rules, namespaces.net.as_fd(), deadline)?;
    slirp::start(&programs.slirp, nat, namespaces, cgroup, deadline)
}

impl Namespaces {
    /// Those that a process is in.
    pub(crate) fn of(pid: Pid) -> io::Result<Self> {
        let path = format!("/proc/{}/ns", pid.as_raw_nonzero());
        let net = File::open(format!("{path}/net"))?;
        let user = File::open(format!("{path}/user"))?;
        let own = fs::metadata("/proc/self/ns/user")?.ino() == user.metadata()?.ino();
        Ok(Self { net: net.into(), user: (!own).then(|| user.into()) })
    }
}

impl Programs {
    fn find() -> Result<Self, String> {
        Ok(Self { slirp: find("slirp4netns", "slirp4netns")?, nft: find("nft", "nftables")? })
    }
}

fn find(name: &str, package: &str) -> Result<PathBuf, String> {
    let places = DIRECTORIES.iter().map(|directory| PathBuf::from(directory).join(name));
    let mut found = places.filter(|path| path.is_file());
    found.next().ok_or_else(|| format!("{name} is not there: install the package {package}"))
}

impl Link {
    /// The process that serves it.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends it.
    pub(crate) fn kill(&self) {
        // The one error there is: it has ended.
        let _gone = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Collects it if it has ended.
    pub(crate) fn collect(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _again = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
    }
}

/// Waits for a process that is held to end; kills it when that takes too long.
fn wait_for_end(pidfd: BorrowedFd<'_>, deadline: &Deadline) -> io::Result<bool> {
    let in_time = deadline.wait(&[pidfd])?;
    if !in_time {
        let _gone = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    }
    Ok(in_time)
}
