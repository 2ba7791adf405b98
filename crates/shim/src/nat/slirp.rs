//! `slirp4netns`, which carries a sandbox's connections: a small network stack in a process.
//!
//! It reads what a prisoner sends, so it gets as little as it can work with. Root of the host makes it
//! a mount namespace without the host's `/etc` and `/run`; then it enters the sandbox's user namespace
//! and is the sandbox's root from there on, drops every capability but one when it is ready, and
//! forbids itself what it does not need.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::io::FdFlags;
use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::process::PidfdFlags;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::thread::LinkNameSpaceType;
use rustix::thread::UnshareFlags;

use super::Link;
use super::Namespaces;
use super::TUN;
use super::plan::Nat;
use crate::cgroup::Cgroup;
use crate::sandbox::Deadline;
use crate::sys;

/// The device it serves.
pub(super) const DEVICE: &str = "tap0";

/// Connections it can carry at a time, and what else it has open.
const DESCRIPTORS: u64 = 1024;
/// Device number of `/dev/net/tun`.
const TUN_NUMBER: (u32, u32) = (10, 200);
/// The most that is shown of a complaint, and that is copied of the host's list of resolvers.
const COMPLAINT: u64 = 500;
const RESOLVERS: u64 = 64 << 10;

/// Starts it and waits until it serves.
pub(super) fn start(
    program: &Path,
    nat: &Nat,
    namespaces: &Namespaces,
    cgroup: &Cgroup,
    deadline: &Deadline,
) -> Result<Link, String> {
    let failed = |error: io::Error| format!("slirp4netns: {error}");
    let (ready, its_ready) = io::pipe().map_err(failed)?;
    let (its_stay, stay) = io::pipe().map_err(failed)?;
    let resolvers = if nat.dns { resolvers() } else { String::new() };
    let net = rustix::io::dup(&namespaces.net).map_err(|error| failed(error.into()))?;
    let user = namespaces.user.as_ref().map(rustix::io::dup).transpose();
    let user = user.map_err(|error| failed(error.into()))?;
    let groups = cgroup.entrances().map_err(failed)?;

    let mut command = Command::new(program);
    command
        .args(["--configure", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"])
        .arg(format!("--ready-fd={}", its_ready.as_raw_fd()))
        .arg(format!("--exit-fd={}", its_stay.as_raw_fd()));
    if !nat.dns {
        command.arg("--disable-dns");
    }
    command
        .arg("--netns-type=path")
        .args([&format!("/proc/self/fd/{}", net.as_raw_fd()), DEVICE])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // SAFETY: the child has one thread, as we have.
    unsafe {
        command.pre_exec(move || {
            for group in &groups {
                rustix::io::write(group, b"0")?;
            }
            // A guest that takes all memory there is loses its own programs first, where we may say so.
            let _may_not = fs::write("/proc/self/oom_score_adj", "-900");
            confine(&resolvers, user.as_ref())?;
            for inherited in [net.as_fd(), its_ready.as_fd(), its_stay.as_fd()] {
                rustix::io::fcntl_setfd(inherited, FdFlags::empty())?;
            }
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(failed)?;
    // With it go our copies of its ends of the pipes.
    drop(command);
    let pid = rustix::process::Pid::from_child(&child);
    let held = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    let link = match held {
        Ok(pidfd) => Link { pid, pidfd, _stay: stay.into() },
        Err(error) => {
            let _gone = child.kill();
            let _collected = child.wait();
            return Err(failed(error.into()));
        }
    };
    let serves = deadline
        .wait(&[ready.as_fd()])
        .and_then(|in_time| Ok((in_time, in_time && (&ready).read(&mut [0])? == 1)));
    match serves {
        Ok((_, true)) => Ok(link),
        Ok((false, _)) => {
            link.kill();
            let _collected = child.wait();
            Err("slirp4netns: not ready in time".to_owned())
        }
        Ok((true, false)) | Err(_) => {
            link.kill();
            let _collected = child.wait();
            let mut said = String::new();
            if let Some(errors) = child.stderr.take() {
                let _partly = errors.take(COMPLAINT).read_to_string(&mut said);
            }
            // Its warnings and what it does come first.
            let line = said.lines().rfind(|line| !line.is_empty()).unwrap_or("it says nothing");
            Err(format!("slirp4netns ended: {line}"))
        }
    }
}

/// The host's list of resolvers. Without one there are none inside.
fn resolvers() -> String {
    let mut text = String::new();
    if let Ok(file) = File::open("/etc/resolv.conf") {
        let _partly = file.take(RESOLVERS).read_to_string(&mut text);
    }
    text
}

/// What the child does before it becomes the program.
fn confine(resolvers: &str, user: Option<&OwnedFd>) -> io::Result<()> {
    sys::process::unshare(UnshareFlags::NEWNS)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    let cover = |directory: &str| {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        rustix::mount::mount("none", directory, "tmpfs", flags, c"mode=755,size=128k")
    };
    cover("/run")?;
    cover("/etc")?;
    fs::write("/etc/resolv.conf", resolvers)?;
    // The node as everybody may open it; the rights that count are those over the namespace.
    cover("/dev/net")?;
    let number = rustix::fs::makedev(TUN_NUMBER.0, TUN_NUMBER.1);
    rustix::fs::mknodat(CWD, TUN, FileType::CharacterDevice, Mode::RUSR, number)?;
    rustix::fs::chmod(TUN, Mode::from_raw_mode(0o666))?;
    let limit = |resource, most| {
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    limit(Resource::Nofile, DESCRIPTORS)?;
    limit(Resource::Core, 0)?;
    if let Some(user) = user {
        let kind = Some(LinkNameSpaceType::User);
        rustix::thread::move_into_link_name_space(user.as_fd(), kind)?;
        sys::process::become_user(0)?;
    }
    Ok(())
}
