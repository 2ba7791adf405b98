//! The directory that an image is unpacked into. Every path is resolved by the kernel as if the
//! directory were the root of everything: neither `..` nor a link leads out of it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::io::Errno;

use super::Problem;
use super::problem;
use super::shown;
use super::tar::LONGEST_PATH;

/// The most directories within directories.
const DEEPEST: usize = 128;
const LONGEST_NAME: usize = 255;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const PLAIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A path within the image: parts that are names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    parts: Vec<Vec<u8>>,
}

/// The directory.
pub(super) struct Tree {
    root: OwnedFd,
}

/// Who owns something, who may use it, and when it was changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) mode: Mode,
    pub(super) times: i64,
}

impl Place {
    /// A path as an archive has it.
    pub(super) fn of(path: &[u8]) -> Result<Self, Problem> {
        let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        let parts: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
        if parts.iter().any(|name| name == b"..") {
            return problem(format!("a path leads upwards: {}", shown(path)));
        }
        if parts.len() > DEEPEST || path.len() > LONGEST_PATH {
            return problem(format!("a path is too long: {}", shown(path)));
        }
        if parts.iter().any(|name| name.len() > LONGEST_NAME || name.contains(&0)) {
            return problem(format!("a name is none that a file can have: {}", shown(path)));
        }
        Ok(Self { parts })
    }

    /// The directory it is in and its name there; none for the root.
    pub(super) fn split(&self) -> Option<(Self, &[u8])> {
        let (name, parent) = self.parts.split_last()?;
        Some((Self { parts: parent.to_vec() }, name))
    }

    /// Something in it.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        let parts = self.parts.iter().cloned().chain([name.to_vec()]).collect();
        Self { parts }
    }

    /// The path, relative to the root.
    pub(super) fn path(&self) -> Vec<u8> {
        if self.parts.is_empty() { b".".to_vec() } else { self.parts.join(&b'/') }
    }
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Opens a directory, through links that the image has.
    pub(super) fn directory(&self, place: &Place) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, place.path(), flags, Mode::empty(), IN_ROOT)
    }

    /// Opens a directory, making it and those above it where they are missing.
    pub(super) fn make_directory(&self, place: &Place) -> Result<OwnedFd, Problem> {
        match self.directory(place) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(named(error, place)),
            Ok(directory) => return Ok(directory),
        }
        // The root is there.
        let Some((parent, name)) = place.split() else { return problem("it is gone") };
        let parent = self.make_directory(&parent)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.directory(place).map_err(|error| named(error, place)),
            // A link that leads nowhere.
            Err(error) => Err(named(error, place)),
        }
    }

    /// Makes a directory, or leaves the one that is there, and opens it.
    pub(super) fn add_directory(&self, parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Problem> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) if kind_of(parent, name)? == Some(FileType::Directory) => {}
            Err(Errno::EXIST) => {
                remove(parent.as_fd(), name)?;
                rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), PLAIN)?)
    }

    /// A new file, in the place of whatever has its name.
    pub(super) fn add_file(&self, parent: &OwnedFd, name: &[u8]) -> Result<File, Problem> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let flags = flags | OFlags::CLOEXEC | OFlags::LARGEFILE;
        let open = || rustix::fs::openat2(parent, name, flags, Mode::RUSR | Mode::WUSR, PLAIN);
        let file = match open() {
            Err(Errno::EXIST) => {
                remove(parent.as_fd(), name)?;
                open()?
            }
            other => other?,
        };
        Ok(File::from(file))
    }

    /// A symbolic link, in the place of whatever has its name.
    pub(super) fn add_symlink(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        to: &[u8],
        attributes: &Attributes,
    ) -> Result<(), Problem> {
        match rustix::fs::symlinkat(to, parent, name) {
            Err(Errno::EXIST) => {
                remove(parent.as_fd(), name)?;
                rustix::fs::symlinkat(to, parent, name)?;
            }
            other => other?,
        }
        let (uid, gid) = (Some(attributes.uid), Some(attributes.gid));
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        let times = times(attributes.times);
        Ok(rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Another name for a file that is there.
    pub(super) fn add_hard_link(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        to: &Place,
    ) -> Result<(), Problem> {
        let missing = || problem(format!("a hard link leads nowhere: {}", shown(&to.path())));
        let Some((directory, file)) = to.split() else { return missing() };
        let Ok(directory) = self.directory(&directory) else { return missing() };
        match kind_of(&directory, file)? {
            None => return missing(),
            Some(FileType::Directory) => {
                return problem(format!("a hard link to a directory: {}", shown(&to.path())));
            }
            Some(_) => {}
        }
        let link = || rustix::fs::linkat(&directory, file, parent, name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                // It may be this very file; then there is nothing to do, and nothing to lose.
                if same(&directory, file, parent, name)? {
                    return Ok(());
                }
                remove(parent.as_fd(), name)?;
                Ok(link()?)
            }
            other => Ok(other?),
        }
    }
}

/// Sets what belongs to an open file or directory.
pub(super) fn set(fd: BorrowedFd<'_>, attributes: &Attributes) -> Result<(), Problem> {
    rustix::fs::fchown(fd, Some(attributes.uid), Some(attributes.gid))?;
    rustix::fs::fchmod(fd, attributes.mode)?;
    Ok(rustix::fs::futimens(fd, &times(attributes.times))?)
}

/// Sets when an open directory was changed.
pub(super) fn date(fd: BorrowedFd<'_>, seconds: i64) -> Result<(), Problem> {
    Ok(rustix::fs::futimens(fd, &times(seconds))?)
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// What has this name, if anything has.
fn kind_of(parent: impl AsFd, name: &[u8]) -> Result<Option<FileType>, Problem> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(about) => Ok(Some(FileType::from_raw_mode(about.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn same(one: &OwnedFd, name: &[u8], other: &OwnedFd, other_name: &[u8]) -> Result<bool, Problem> {
    let about = |parent, name| rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let (one, other) = (about(one, name)?, about(other, other_name)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Whether this is a directory, and no link to one.
pub(super) fn is_directory(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    matches!(kind_of(parent, name), Ok(Some(FileType::Directory)))
}

/// Removes what has this name, with all that is in it.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Problem> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), PLAIN)?;
    for name in names(directory.as_fd())? {
        remove(directory.as_fd(), &name)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// The names in a directory.
pub(super) fn names(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Problem> {
    // Of its own, as reading it moves it.
    let own = rustix::fs::openat2(directory, ".", DIRECTORY, Mode::empty(), PLAIN)?;
    let mut names = Vec::new();
    for entry in Dir::new(own)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

fn named(error: Errno, place: &Place) -> Problem {
    Problem(format!("{}: {}", shown(&place.path()), std::io::Error::from(error)))
}
