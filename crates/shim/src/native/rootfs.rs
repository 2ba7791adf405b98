//! The root file system, put together in the builder's own mount namespace.
//!
//! Layers have relative names and live on file systems that exist for this sandbox alone, so that no
//! path of the host shows in `/proc/*/mountinfo`. What is mounted here, before the user namespace, is
//! locked inside it: a prisoner with every capability could neither unmount nor rewrite it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::OpenTreeFlags;

use super::made::Made;
use super::profile::NativeProfile;
use super::profile::Rootfs;
use crate::layers::Layers;
use crate::sys::mount::Attributes;
use crate::sys::mount::set_attributes;

/// Of the host, besides what stands beside `/usr` under the names of [`is_system_directory`].
const SHOWN: [&str; 3] = ["usr", "etc/alternatives", "etc/ld.so.cache"];
/// Of what is shown, what is not: whatever the administrator put there is nobody's business.
const HIDDEN: [&str; 2] = ["usr/local", "usr/src"];

/// Lower layers by their names in the staging directory: a profile's overlay, and what is below it.
const OVER: &str = "over";
/// Files that only this sandbox has, where the base is not made here.
const MADE: &str = "made";
const BASE: &str = "base";

/// What the profile shows of the host, taken while its paths can still be reached.
pub(super) struct Lower {
    base: Base,
    overlay: Option<OwnedFd>,
    /// Whether there is a layer of files that only this sandbox has.
    made: bool,
}

enum Base {
    /// Trees to attach, and where.
    Host(Vec<(String, OwnedFd)>),
    /// The whole layer.
    Directory(OwnedFd),
}

impl Lower {
    /// The names of the layers in the staging directory, the topmost first.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let overlay = self.overlay.iter().map(|_| OVER);
        overlay.chain(self.made.then_some(MADE)).chain([BASE]).collect()
    }
}

/// Takes what the profile shows of the host. `ids` makes a user namespace in which ids from
/// its argument on are the sandbox's.
pub(super) fn take(
    profile: &NativeProfile,
    ids: impl Fn(u32) -> io::Result<OwnedFd>,
) -> io::Result<Lower> {
    let tree = match &profile.rootfs {
        Rootfs::Host => None,
        Rootfs::Directory(path) => Some((path.clone(), 0)),
        Rootfs::Image(image) => Some((image.directory.join(&image.tree), image.first)),
    };
    // A tree without a network is shown as it is; an image leaves these files to whoever runs it.
    let made = match &profile.rootfs {
        Rootfs::Host => false,
        Rootfs::Directory(_) => profile.nat.is_some(),
        Rootfs::Image(_) => true,
    };
    let base = match tree {
        None => Base::Host(take_host()?),
        Some((path, first)) => Base::Directory(take_mapped(&path, &ids(first)?)?),
    };
    let overlay = match &profile.overlay {
        None => None,
        Some(path) => Some(take_mapped(path, &ids(0)?)?),
    };
    Ok(Lower { base, overlay, made })
}

/// A directory whose owners are shown through a user namespace's map.
fn take_mapped(path: &Path, ids: &OwnedFd) -> io::Result<OwnedFd> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let tree = clone(path).map_err(|error| named(error.into()))?;
    let (read_only, no_suid, no_dev) = (true, true, true);
    let attributes = Attributes { read_only, no_suid, no_dev, ids: Some(ids.as_fd()) };
    match set_attributes(tree.as_fd(), attributes) {
        Ok(()) => Ok(tree),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(io::Error::other(format!(
                "{}: owners on its file system cannot be shown by another map (idmapped mounts): keep it \
             on ext4, xfs or btrfs",
                path.display()
            )))
        }
        Err(error) => Err(named(error)),
    }
}

fn take_host() -> io::Result<Vec<(String, OwnedFd)>> {
    let beside = fs::read_dir("/")?.filter_map(Result::ok).filter(is_system_directory);
    let names = beside.filter_map(|entry| entry.file_name().into_string().ok());
    let mut trees = Vec::new();
    for name in names.chain(SHOWN.map(str::to_owned)) {
        match clone(&Path::new("/").join(&name)) {
            Ok(tree) => trees.push((name, tree)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (_, tree) in &trees {
        let (read_only, no_suid, no_dev) = (true, true, true);
        set_attributes(tree.as_fd(), Attributes { read_only, no_suid, no_dev, ids: None })?;
    }
    Ok(trees)
}

/// Puts the root together at `root`, from `base` (made here), what is laid over it, and the writable
/// layer at `disk`. All are directories below the current one.
pub(super) fn assemble(profile: &NativeProfile, lower: &Lower) -> io::Result<()> {
    let owner = profile.ids.start;
    let made = Made { owner };
    for directory in [BASE, OVER, MADE, "made/etc", "root", "disk/u", "disk/w"] {
        made.directory(directory, 0o755)?;
    }
    if lower.made {
        made.fill_own(MADE, &profile.hostname, profile.nat.as_ref())?;
    }
    match &lower.base {
        Base::Host(_) => made.fill(profile)?,
        Base::Directory(tree) => attach(tree, Path::new(BASE))?,
    }
    if let Some(tree) = &lower.overlay {
        attach(tree, Path::new(OVER))?;
    }
    let options = format!("lowerdir={},upperdir=disk/u,workdir=disk/w", lower.names().join(":"));
    let options = CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("overlay", "root", "overlay", flags, options.as_c_str())?;
    if let Base::Host(trees) = &lower.base {
        for (name, tree) in trees {
            attach(tree, &Path::new("root").join(name))?;
        }
        let options = CString::new(format!("mode=755,size=4k,uid={owner},gid={owner}"))?;
        for name in HIDDEN {
            let target = Path::new("root").join(name);
            if target.is_dir() {
                let flags = flags | MountFlags::RDONLY;
                rustix::mount::mount("tmpfs", &target, "tmpfs", flags, options.as_c_str())?;
            }
        }
    }
    Ok(())
}

/// The layers of the root that [`assemble`] put together, each as a mount of its own that nobody can
/// write through and that shows nothing but the layer.
pub(super) fn layers(lowers: &[&str]) -> io::Result<Layers> {
    let hold = |path: &str| -> io::Result<OwnedFd> {
        let tree = clone(Path::new(path))?;
        let (read_only, no_suid, no_dev) = (true, true, true);
        set_attributes(tree.as_fd(), Attributes { read_only, no_suid, no_dev, ids: None })?;
        Ok(tree)
    };
    let lowers = lowers.iter().map(|name| hold(name)).collect::<io::Result<_>>()?;
    Ok(Layers { upper: hold("disk/u")?, lowers })
}

/// `/bin`, `/sbin`, `/lib*`, where they are directories and not links into `/usr`.
fn is_system_directory(entry: &fs::DirEntry) -> bool {
    is_system_name(entry) && entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// Whether an entry of `/` holds programs or libraries, beside `/usr`.
pub(super) fn is_system_name(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    name == "bin" || name == "sbin" || name.to_str().is_some_and(|name| name.starts_with("lib"))
}

/// A detached copy of the mount at `path`, without the mounts below it.
fn clone(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags)
}

fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", CWD, target, flags)?)
}
