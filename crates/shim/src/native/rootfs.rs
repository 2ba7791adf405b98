//! The root file system, put together in the builder's own mount namespace.
//!
//! Layers have relative names and live on file systems that exist for this sandbox alone, so that no
//! path of the host shows in `/proc/*/mountinfo`. What is mounted here, before the user namespace, is
//! locked inside it: a prisoner with every capability could neither unmount nor rewrite it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::lchown;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::OpenTreeFlags;

use super::profile::NativeProfile;
use super::profile::Rootfs;
use crate::layers::Layers;
use crate::sys::mount::Attributes;
use crate::sys::mount::set_attributes;

/// Of the host, besides what stands beside `/usr` under the names of [`is_system_directory`].
const SHOWN: [&str; 3] = ["usr", "etc/alternatives", "etc/ld.so.cache"];
/// Of what is shown, what is not: whatever the administrator put there is nobody's business.
const HIDDEN: [&str; 2] = ["usr/local", "usr/src"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
    networks: files\nprotocols: files\nservices: files\n";
const PROFILE: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
    export PATH\numask 022\n\
    if [ -n \"${BASH_VERSION-}\" ]; then . /etc/bash.bashrc; else PS1='# '; fi\n";
const BASHRC: &str = "[ -n \"${PS1-}\" ] || return\nPS1='\\u@\\h:\\w\\$ '\nshopt -s checkwinsize\n";

/// The lower layer, taken from the host while its paths can still be reached.
pub(super) enum Lower {
    /// Trees to attach, and where.
    Host(Vec<(String, OwnedFd)>),
    /// The whole layer.
    Directory(OwnedFd),
}

/// Takes what the profile shows of the host. `ids` is a user namespace with the sandbox's map.
pub(super) fn take(
    profile: &NativeProfile,
    ids: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<Lower> {
    match &profile.rootfs {
        Rootfs::Host => {
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
                let attributes = Attributes { read_only, no_suid, no_dev, ids: None };
                set_attributes(tree.as_fd(), attributes)?;
            }
            Ok(Lower::Host(trees))
        }
        Rootfs::Directory(path) => {
            let tree = clone(path)?;
            let ids = ids()?;
            let ids = Some(ids.as_fd());
            let attributes = Attributes { read_only: true, no_suid: true, no_dev: true, ids };
            set_attributes(tree.as_fd(), attributes)?;
            Ok(Lower::Directory(tree))
        }
    }
}

/// Puts the root together at `root`, from `base` (made here) and the writable layer at `disk`. All
/// are directories below the current one.
pub(super) fn assemble(profile: &NativeProfile, lower: &Lower) -> io::Result<()> {
    let owner = profile.ids.start;
    for directory in ["base", "root", "disk/u", "disk/w"] {
        Base { owner }.directory(directory, 0o755)?;
    }
    match lower {
        Lower::Host(_) => Base { owner }.fill(profile)?,
        Lower::Directory(tree) => attach(tree, Path::new("base"))?,
    }
    let options = c"lowerdir=base,upperdir=disk/u,workdir=disk/w";
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("overlay", "root", "overlay", flags, options)?;
    if let Lower::Host(trees) = lower {
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
pub(super) fn layers() -> io::Result<Layers> {
    let hold = |path: &str| -> io::Result<OwnedFd> {
        let tree = clone(Path::new(path))?;
        let (read_only, no_suid, no_dev) = (true, true, true);
        set_attributes(tree.as_fd(), Attributes { read_only, no_suid, no_dev, ids: None })?;
        Ok(tree)
    };
    Ok(Layers { upper: hold("disk/u")?, lowers: vec![hold("base")?] })
}

/// `/bin`, `/sbin`, `/lib*`, where they are directories and not links into `/usr`.
fn is_system_directory(entry: &fs::DirEntry) -> bool {
    is_system_name(entry) && entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn is_system_name(entry: &fs::DirEntry) -> bool {
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

/// The made-up lower layer of a sandbox with the host's programs. All of it is the sandbox's root's.
struct Base {
    owner: u32,
}

impl Base {
    fn fill(&self, profile: &NativeProfile) -> io::Result<()> {
        for name in ["etc", "etc/alternatives", "dev", "home", "proc", "run", "sys", "usr", "var"] {
            self.directory(format!("base/{name}"), 0o755)?;
        }
        self.directory("base/root", 0o700)?;
        self.directory("base/tmp", 0o1777)?;
        for entry in fs::read_dir("/")?.filter_map(Result::ok).filter(is_system_name) {
            let place = Path::new("base").join(entry.file_name());
            match entry.file_type()? {
                kind if kind.is_symlink() => self.link(&fs::read_link(entry.path())?, &place)?,
                kind if kind.is_dir() => self.directory(&place, 0o755)?,
                _ => {}
            }
        }
        let hostname = &profile.hostname;
        let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n");
        for (name, text) in [
            ("passwd", PASSWD),
            ("group", GROUP),
            ("hosts", &hosts),
            ("hostname", &format!("{hostname}\n")),
            ("resolv.conf", ""),
            ("nsswitch.conf", NSSWITCH),
            ("profile", PROFILE),
            ("bash.bashrc", BASHRC),
            ("ld.so.cache", ""),
        ] {
            self.file(&Path::new("base/etc").join(name), text)?;
        }
        self.link(Path::new("../usr/lib/os-release"), Path::new("base/etc/os-release"))?;
        self.link(Path::new("../proc/self/mounts"), Path::new("base/etc/mtab"))
    }

    fn directory(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().mode(mode).create(&path)?;
        self.own(path)
    }

    fn file(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(text.as_bytes())?;
        self.own(path)
    }

    fn link(&self, to: &Path, path: &Path) -> io::Result<()> {
        symlink(to, path)?;
        self.own(path)
    }

    fn own(&self, path: impl AsRef<Path>) -> io::Result<()> {
        lchown(path, Some(self.owner), Some(self.owner))
    }
}
