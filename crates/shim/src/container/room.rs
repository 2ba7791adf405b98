//! The root file system of a container, made anew from inside its mount namespace.
//!
//! ```text
//!   upper   a disk of the profile's size            all that programs write, /tmp and /dev/shm aside
//!   overlay the profile's directory, if any
//!   base    host name, addresses, mount points      and nothing that tells of an engine
//!   lower   the container's own root, read-only     the image, as the engine mounted it
//! ```
//!
//! `/proc`, `/dev` and `/tmp` are the container's; `/sys` is empty, terminals are new. The old root is
//! let go of with all that was mounted there, `init` and its socket among it. What the image says is
//! hostile: every place to mount on is a directory that was made here.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::OpenTreeFlags;
use rustix::mount::UnmountFlags;
use rustix::process::Pid;
use rustix::thread::LinkNameSpaceType;
use rustix::thread::UnshareFlags;

use super::ContainerProfile;
use super::OURS;
use crate::builder::Built;
use crate::builder::Channel;
use crate::builder::terminals;
use crate::error::At;
use crate::error::BuildError;
use crate::error::Stage;
use crate::layers::Layers;
use crate::native::DiskTemplate;
use crate::native::Made;
use crate::native::mount_disk;
use crate::sys;
use crate::sys::mount::Attributes;
use crate::sys::mount::set_attributes;

/// A directory that the host has, covered in the builder's own namespace only, and that the container
/// has because the engine was told to mount something there.
const STAGING: &str = "/tmp";
/// What stays of the container's mounts, with everything below.
const KEPT: [&str; 3] = ["proc", "dev", "tmp"];
/// Of the container's files, what tells that an engine made it.
const ENGINES: [&str; 2] = [".dockerenv", ".containerenv"];
/// The group of terminals.
const TTY: u32 = 5;
/// As a native sandbox has it; the owner of terminals comes on top.
const DEVPTS: &str = "newinstance,ptmxmode=0666,mode=0620,max=128";

/// What the builder does.
pub(super) fn build(
    profile: &ContainerProfile,
    pid: Pid,
    disk: Option<&DiskTemplate>,
    report: &Channel,
) -> Result<(), BuildError> {
    let stage = Stage::Prepare;
    sys::process::unshare(UnshareFlags::NEWNS).at(stage, "mount namespace")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).at(stage, "making mounts private")?;
    let owner = owner_of(pid).at(stage, "its user")?;
    report.reached(Stage::Disk);
    mount_disk(Path::new(STAGING), profile.disk_size, disk).at(Stage::Disk, "mounting")?;
    let disk = clone(STAGING).at(Stage::Disk, "taking it along")?;
    let overlay = match &profile.overlay {
        Some(directory) => Some(layer(directory).at(Stage::Rootfs, "the overlay")?),
        None => None,
    };

    report.reached(Stage::Container);
    enter(pid).at(Stage::Container, "entering it")?;
    report.reached(Stage::Rootfs);
    let layers =
        assemble(profile, owner, &disk, overlay).at(Stage::Rootfs, "putting it together")?;
    report.reached(Stage::Terminals);
    let ptmx = terminals("/dev/pts/ptmx").at(Stage::Terminals, "opening ptmx")?;
    report.reached(Stage::Start);
    report.done(&Built { pid, ptmx, layers: Some(layers) }).at(Stage::Start, "reporting")
}

/// The user that process 1 is: another one than root where the engine maps users.
fn owner_of(pid: Pid) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let uid = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    uid.ok_or_else(|| io::Error::other("it is not said"))
}

/// Goes where the container is. This process shares its root directory with nobody.
fn enter(pid: Pid) -> io::Result<()> {
    let namespace = fs::File::open(format!("/proc/{}/ns/mnt", pid.as_raw_nonzero()))?;
    let kind = Some(LinkNameSpaceType::Mount);
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?)
}

/// Makes the new root and puts it in the place of the old one, for every process that had that.
fn assemble(
    profile: &ContainerProfile,
    owner: u32,
    disk: &OwnedFd,
    overlay: Option<OwnedFd>,
) -> io::Result<Layers> {
    let kept = KEPT.map(|name| Ok((name, clone_all(&format!("/{name}"))?)));
    let kept = kept.into_iter().collect::<io::Result<Vec<_>>>()?;
    attach(disk, Path::new(STAGING))?;
    std::env::set_current_dir(STAGING)?;
    fill(Made { owner }, profile)?;
    let (mut names, mut lowers) = (vec!["base", "/"], vec![layer(Path::new("base"))?]);
    if let Some(overlay) = overlay {
        attach(&overlay, Path::new("over"))?;
        names.insert(0, "over");
        lowers.insert(0, layer(Path::new("over"))?);
    }
    lowers.push(layer(Path::new("/"))?);
    let options = format!("lowerdir={},upperdir=u,workdir=w", names.join(":"));
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("overlay", Path::new("root"), flags, &options)?;
    for (name, tree) in &kept {
        attach(tree, &Path::new("root").join(name))?;
    }
    // The engine's has room for what no limit of the disk counts.
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let data = c"mode=755,size=64k";
    rustix::mount::mount_remount("root/dev", flags, data)?;
    let nothing = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    let options = format!("mode=0555,size=4k,uid={owner},gid={owner}");
    mount("tmpfs", Path::new("root/sys"), nothing, &options)?;
    let options = format!("{DEVPTS},uid={owner},gid={}", owner.saturating_add(TTY));
    mount("devpts", Path::new("root/dev/pts"), flags, &options)?;
    let layers = Layers { upper: layer(Path::new("u"))?, lowers };
    std::env::set_current_dir("root")?;
    // The old root comes to lie on the new one, and is lifted off it.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    Ok(layers)
}

/// A detached copy of the mount at `path`, without the mounts below it.
fn clone(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(CWD, path.as_ref(), flags)?)
}

/// The same with everything below it.
fn clone_all(path: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

/// A copy that nobody can write through.
fn layer(path: &Path) -> io::Result<OwnedFd> {
    let tree = clone(path)?;
    let (read_only, no_suid, no_dev) = (true, true, true);
    set_attributes(tree.as_fd(), Attributes { read_only, no_suid, no_dev, ids: None })?;
    Ok(tree)
}

fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", CWD, target, flags)?)
}

fn mount(kind: &str, target: &Path, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(kind, target, kind, flags, options.as_c_str())?)
}

/// The layer between the image and what is written.
fn fill(made: Made, profile: &ContainerProfile) -> io::Result<()> {
    let directories =
        ["base", "base/dev", "base/etc", "base/proc", "base/sys", "over", "root", "u", "w"];
    for name in directories {
        made.directory(name, 0o755)?;
    }
    made.directory("base/root", 0o700)?;
    made.directory("base/tmp", 0o1777)?;
    made.fill_own("base", &profile.hostname, profile.nat.as_ref())?;
    for name in ENGINES.into_iter().chain([OURS.trim_start_matches('/')]) {
        // How an overlay says that what is below is not there.
        let path = Path::new("base").join(name);
        let nothing = rustix::fs::makedev(0, 0);
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), nothing)?;
    }
    Ok(())
}
