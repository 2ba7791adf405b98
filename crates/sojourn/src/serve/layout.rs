//! The data directory: what is in it, and whose each part is.
//!
//! ```text
//!   data_dir            root:gateway  1770   sticky: the gateway makes files, but moves none of root's
//!     audit/ keys/      gateway       0700
//!     recordings/       root:gateway  2750   written by shims, read by the gateway
//!     kept/             root:gateway  2750   what sessions left: a directory each, for root alone
//!     sessions/         root          0700   live state
//!     images/           root          0700   trees that sandboxes are made of
//!     sojourn.db …      gateway              made by itself
//! ```
//!
//! Where nobody is root all of it belongs to who started it, 0700.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Gid;
use rustix::process::Uid;

use super::account::Account;
use crate::failure::Failure;

/// Directories that are the gateway's.
const GATEWAYS: [&str; 2] = ["audit", "keys"];

/// Directories that are the runner's.
const RUNNERS: [&str; 4] = ["recordings", "kept", "sessions", "images"];

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes what is missing and sets owners and modes. As root.
pub(crate) fn prepare(data_dir: &Path, gateway: Account) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::Refused(format!(
            "the data directory {} cannot be made: {error}",
            data_dir.display()
        ))
    };
    make(data_dir, gateway).map_err(failed)
}

fn make(data_dir: &Path, gateway: Account) -> io::Result<()> {
    let root = Uid::ROOT;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o755).create(data_dir)?;
    let data = rustix::fs::open(data_dir, DIRECTORY, Mode::empty())?;
    own(&data, root, gateway.gid, 0o1770)?;
    for name in GATEWAYS {
        own(&below(&data, name)?, gateway.uid, gateway.gid, 0o700)?;
    }
    own(&below(&data, "recordings")?, root, gateway.gid, 0o2750)?;
    own(&below(&data, "kept")?, root, gateway.gid, 0o2750)?;
    own(&below(&data, "sessions")?, root, Gid::ROOT, 0o700)?;
    own(&below(&data, "images")?, root, Gid::ROOT, 0o700)?;
    Ok(())
}

/// Makes what is missing, as somebody who is not root: all of it is theirs, and nobody else's to enter.
pub(crate) fn prepare_own(data_dir: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::Refused(format!(
            "the data directory {} cannot be used: {error}; choose another with --data-dir",
            data_dir.display()
        ))
    };
    make_own(data_dir).map_err(failed)
}

fn make_own(data_dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(data_dir)?;
    let data = rustix::fs::open(data_dir, DIRECTORY, Mode::empty())?;
    close_to_others(&data)?;
    for name in GATEWAYS.iter().chain(&RUNNERS) {
        close_to_others(&below(&data, name)?)?;
    }
    Ok(())
}

fn close_to_others(directory: &OwnedFd) -> io::Result<()> {
    let owner = rustix::fs::fstat(directory)?.st_uid;
    if owner != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("it is another user's (uid {owner})")));
    }
    Ok(rustix::fs::fchmod(directory, Mode::RWXU)?)
}

fn below(data: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(data, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::openat(data, name, DIRECTORY, Mode::empty())?)
}

fn own(directory: &OwnedFd, uid: Uid, gid: Gid, mode: u32) -> io::Result<()> {
    rustix::fs::fchown(directory, Some(uid), Some(gid))?;
    rustix::fs::fchmod(directory, Mode::from_raw_mode(mode))?;
    Ok(())
}

/// Checks, as the gateway's user, that the data directory can be reached and used; names the part of
/// the path that stops it.
pub(crate) fn check_reachable(data_dir: &Path) -> Result<(), Failure> {
    let mut ancestors: Vec<&Path> = data_dir.ancestors().collect();
    ancestors.reverse();
    for part in ancestors {
        if let Err(error) = rustix::fs::accessat(
            rustix::fs::CWD,
            part,
            rustix::fs::Access::EXEC_OK,
            AtFlags::EACCESS,
        ) {
            return Err(Failure::Refused(format!(
                "the gateway's user cannot pass {}: {error}; let it in (chmod o+x {}), or choose \
                 another data_dir",
                part.display(),
                part.display(),
            )));
        }
    }
    Ok(())
}
