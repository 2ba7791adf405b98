//! Small files, beneath a directory that is already open, without following a link.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::BorrowedFd;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;

/// Readable by the owner and the group.
const MODE: Mode = Mode::from_raw_mode(0o640);

/// Makes a file that was not there, to be appended to.
pub(crate) fn create(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::CREATE
        | OFlags::EXCL
        | OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, MODE)?.into())
}

/// How sure it is that a file survives the loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Quick: it survives the death of every process.
    Process,
    /// It waits for the disk.
    Power,
}

/// Puts a file with these bytes in the place of the one called `name`, at once: who reads it sees
/// the old one or the new one.
pub fn replace(
    dir: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
    durability: Durability,
) -> io::Result<()> {
    let unfinished = format!(".{name}.new");
    match rustix::fs::unlinkat(dir, &unfinished, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut file = create(dir, &unfinished)?;
    let whole = file.write_all(bytes).and_then(|()| match durability {
        Durability::Power => file.sync_all(),
        Durability::Process => Ok(()),
    });
    if let Err(error) = whole {
        // Half of it is of no use to anybody, and takes room on a disk that has none.
        let _gone = rustix::fs::unlinkat(dir, &unfinished, AtFlags::empty());
        return Err(error);
    }
    rustix::fs::renameat(dir, &unfinished, dir, name)?;
    if durability == Durability::Power {
        rustix::fs::fsync(dir)?;
    }
    Ok(())
}

/// Reads a file of at most `most` bytes.
pub fn read(dir: BorrowedFd<'_>, name: &str, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is too long")));
    }
    Ok(bytes)
}
