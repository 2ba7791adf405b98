//! Calls about files.

use core::ffi::CStr;
use core::ptr::null;

use super::AT_FDCWD;
use super::EINVAL;
use super::Errno;
use super::Fd;
use super::O_CLOEXEC;
use super::O_NONBLOCK;
use super::call;
use super::plain;
use super::word;

calls! {
    PREAD64 = 17, 67;
    PWRITE64 = 18, 68;
    FSYNC = 74, 82;
    TRUNCATE = 76, 45;
    FTRUNCATE = 77, 46;
    FCHMOD = 91, 52;
    FCHOWN = 93, 55;
    STATFS = 137, 43;
    FSTATFS = 138, 44;
    GETDENTS64 = 217, 61;
    OPENAT = 257, 56;
    MKDIRAT = 258, 34;
    FCHOWNAT = 260, 54;
    UNLINKAT = 263, 35;
    LINKAT = 265, 37;
    SYMLINKAT = 266, 36;
    READLINKAT = 267, 78;
    FCHMODAT = 268, 53;
    UTIMENSAT = 280, 88;
    RENAMEAT2 = 316, 276;
    STATX = 332, 291;
}

const O_NOCTTY: i32 = 0o400;
/// Of these the numbers differ; files of any length open without a flag on 64 bits.
const O_DIRECTORY: i32 = if cfg!(target_arch = "aarch64") { 0o40_000 } else { 0o200_000 };
const O_PATH: i32 = 0o10_000_000;
const AT_SYMLINK_NOFOLLOW: usize = 0x100;
const AT_REMOVEDIR: usize = 0x200;
const AT_EMPTY_PATH: usize = 0x1000;
const STATX_BASIC_STATS: usize = 0x7ff;
const RENAME_NOREPLACE: usize = 1;

/// The bits of a mode that say what kind of file it is, and two kinds.
pub(crate) const KIND: u32 = 0o170_000;
pub(crate) const REGULAR: u32 = 0o100_000;
pub(crate) const DIRECTORY: u32 = 0o040_000;

/// What `statx` says of a file; the same on every architecture.
#[repr(C)]
pub(crate) struct Stat {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u16,
    pad: u16,
    inode: u64,
    pub(crate) size: u64,
    blocks: u64,
    attributes_mask: u64,
    /// Read, made, changed, written: seconds, and the rest.
    times: [[i64; 2]; 4],
    /// Of the device that it is, and of the one that it is on: major and minor number.
    devices: [u32; 4],
    /// More than any kernel may add.
    rest: [u64; 14],
}

/// A file, whatever its names are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    inode: u64,
    device: [u32; 2],
}

impl Stat {
    pub(crate) fn kind(&self) -> u32 {
        u32::from(self.mode) & KIND
    }

    pub(crate) fn accessed(&self) -> i64 {
        self.times[0][0]
    }

    pub(crate) fn modified(&self) -> i64 {
        self.times[3][0]
    }

    /// Which file it is.
    pub(crate) fn identity(&self) -> Identity {
        Identity { inode: self.inode, device: [self.devices[2], self.devices[3]] }
    }
}

/// What `statfs` says of a file system, on 64 bits.
#[repr(C)]
#[derive(Default)]
pub(crate) struct FileSystem {
    pub(crate) kind: u64,
    pub(crate) block_size: u64,
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) files: u64,
    pub(crate) files_free: u64,
    id: u64,
    pub(crate) name_length: u64,
    pub(crate) fragment_size: u64,
    rest: [u64; 5],
}

/// A file: by its path from the working directory, or open.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    Path(&'a CStr),
    Open(Fd),
}

fn address(path: &CStr) -> usize {
    path.as_ptr() as usize
}

/// Opens a file. Neither a FIFO nor a device makes it wait, and no terminal becomes ours.
pub(crate) fn open(path: &CStr, flags: u32, mode: u32) -> Result<Fd, Errno> {
    let flags = flags as usize | word(O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    // SAFETY: the string outlives the call.
    unsafe { call(OPENAT, [word(AT_FDCWD), address(path), flags, mode as usize, 0]) }
        .map(|fd| fd as Fd)
}

/// Opens a directory, to list it.
pub(crate) fn open_directory(path: &CStr) -> Result<Fd, Errno> {
    open(path, O_DIRECTORY as u32, 0)
}

/// Opens a place among the files, and nothing of what is there.
pub(crate) fn open_path(path: &CStr, directory: bool) -> Result<Fd, Errno> {
    let flags = O_PATH | O_CLOEXEC | if directory { O_DIRECTORY } else { 0 };
    // SAFETY: the string outlives the call.
    unsafe { call(OPENAT, [word(AT_FDCWD), address(path), word(flags), 0, 0]) }.map(|fd| fd as Fd)
}

pub(crate) fn read_at(fd: Fd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let (start, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    // SAFETY: the buffer outlives the call and its length is given.
    unsafe { call(PREAD64, [word(fd), start, length, offset as usize, 0]) }
}

pub(crate) fn write_at(fd: Fd, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    let (start, length) = (bytes.as_ptr() as usize, bytes.len());
    // SAFETY: the buffer outlives the call and its length is given.
    unsafe { call(PWRITE64, [word(fd), start, length, offset as usize, 0]) }
}

pub(crate) fn sync(fd: Fd) -> Result<(), Errno> {
    plain(FSYNC, [word(fd), 0, 0, 0, 0]).map(drop)
}

/// What a file is like, `follow`ing links or not; of an open one, itself.
pub(crate) fn stat(which: Which<'_>, follow: bool) -> Result<Stat, Errno> {
    let link = if follow { 0 } else { AT_SYMLINK_NOFOLLOW };
    match which {
        Which::Path(path) => stat_at(AT_FDCWD, path, link),
        Which::Open(fd) => stat_at(fd, c"", AT_EMPTY_PATH),
    }
}

/// What an entry of an open directory is like itself.
pub(crate) fn stat_entry(directory: Fd, name: &CStr) -> Result<Stat, Errno> {
    stat_at(directory, name, AT_SYMLINK_NOFOLLOW)
}

fn stat_at(directory: Fd, path: &CStr, flags: usize) -> Result<Stat, Errno> {
    let mut stat = Stat {
        mask: 0,
        block_size: 0,
        attributes: 0,
        links: 0,
        uid: 0,
        gid: 0,
        mode: 0,
        pad: 0,
        inode: 0,
        size: 0,
        blocks: 0,
        attributes_mask: 0,
        times: [[0; 2]; 4],
        devices: [0; 4],
        rest: [0; 14],
    };
    const { assert!(size_of::<Stat>() == 256) };
    let buffer = &raw mut stat as usize;
    let arguments = [word(directory), address(path), flags, STATX_BASIC_STATS, buffer];
    // SAFETY: string and structure outlive the call; the structure is as long as the kernel's.
    unsafe { call(STATX, arguments) }?;
    Ok(stat)
}

pub(crate) fn resize(which: Which<'_>, size: u64) -> Result<(), Errno> {
    let size = usize::try_from(size).map_err(|_| EINVAL)?;
    match which {
        // SAFETY: the string outlives the call.
        Which::Path(path) => unsafe { call(TRUNCATE, [address(path), size, 0, 0, 0]) },
        Which::Open(fd) => plain(FTRUNCATE, [word(fd), size, 0, 0, 0]),
    }
    .map(drop)
}

pub(crate) fn change_mode(which: Which<'_>, mode: u32) -> Result<(), Errno> {
    let mode = mode as usize;
    match which {
        // SAFETY: the string outlives the call.
        Which::Path(path) => unsafe { call(FCHMODAT, [word(AT_FDCWD), address(path), mode, 0, 0]) },
        Which::Open(fd) => plain(FCHMOD, [word(fd), mode, 0, 0, 0]),
    }
    .map(drop)
}

pub(crate) fn change_owner(which: Which<'_>, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    let (uid, gid) = (uid as usize, gid as usize);
    match which {
        // SAFETY: the string outlives the call.
        Which::Path(path) => unsafe {
            call(FCHOWNAT, [word(AT_FDCWD), address(path), uid, gid, 0])
        },
        Which::Open(fd) => plain(FCHOWN, [word(fd), uid, gid, 0, 0]),
    }
    .map(drop)
}

/// Sets when a file was read and written, in seconds.
pub(crate) fn change_times(which: Which<'_>, (read, written): (u64, u64)) -> Result<(), Errno> {
    let times = [[read, 0], [written, 0]];
    let (fd, path) = match which {
        Which::Path(path) => (AT_FDCWD, path.as_ptr()),
        Which::Open(fd) => (fd, null()),
    };
    // SAFETY: string and times outlive the call.
    unsafe { call(UTIMENSAT, [word(fd), path as usize, times.as_ptr() as usize, 0, 0]) }.map(drop)
}

/// Entries of a directory, as the kernel writes them; none at its end.
pub(crate) fn entries(directory: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (start, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    // SAFETY: the buffer outlives the call and its length is given.
    unsafe { call(GETDENTS64, [word(directory), start, length, 0, 0]) }
}

pub(crate) fn make_directory(path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: the string outlives the call.
    unsafe { call(MKDIRAT, [word(AT_FDCWD), address(path), mode as usize, 0, 0]) }.map(drop)
}

pub(crate) fn remove(path: &CStr, directory: bool) -> Result<(), Errno> {
    let flags = if directory { AT_REMOVEDIR } else { 0 };
    // SAFETY: the string outlives the call.
    unsafe { call(UNLINKAT, [word(AT_FDCWD), address(path), flags, 0, 0]) }.map(drop)
}

pub(crate) fn rename(from: &CStr, to: &CStr, replace: bool) -> Result<(), Errno> {
    let flags = if replace { 0 } else { RENAME_NOREPLACE };
    let here = word(AT_FDCWD);
    // SAFETY: the strings outlive the call.
    unsafe { call(RENAMEAT2, [here, address(from), here, address(to), flags]) }.map(drop)
}

pub(crate) fn link(from: &CStr, to: &CStr) -> Result<(), Errno> {
    let here = word(AT_FDCWD);
    // SAFETY: the strings outlive the call.
    unsafe { call(LINKAT, [here, address(from), here, address(to), 0]) }.map(drop)
}

pub(crate) fn make_link(target: &CStr, path: &CStr) -> Result<(), Errno> {
    // SAFETY: the strings outlive the call.
    unsafe { call(SYMLINKAT, [address(target), word(AT_FDCWD), address(path), 0, 0]) }.map(drop)
}

/// Where a link points; as much of it as there is room for.
pub(crate) fn read_link(path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (start, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    // SAFETY: string and buffer outlive the call, and the length is given.
    unsafe { call(READLINKAT, [word(AT_FDCWD), address(path), start, length, 0]) }
}

/// What a file system is like that a file is on.
pub(crate) fn file_system(which: Which<'_>) -> Result<FileSystem, Errno> {
    let mut found = FileSystem::default();
    const { assert!(size_of::<FileSystem>() == 120) };
    let buffer = &raw mut found as usize;
    // SAFETY: string and structure outlive the call; the structure is as long as the kernel's.
    unsafe {
        match which {
            Which::Path(path) => call(STATFS, [address(path), buffer, 0, 0, 0]),
            Which::Open(fd) => call(FSTATFS, [word(fd), buffer, 0, 0, 0]),
        }
    }?;
    Ok(found)
}
