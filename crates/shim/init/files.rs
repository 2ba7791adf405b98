//! The file helper: serves the frames of `crates/core/src/wire/files.rs` on its standard input and
//! output, in a process of its own, with the powers of the sandbox's root and no more.
//!
//! One request at a time, in order. The end of its input ends it; so does a frame that is none.

use core::ffi::CStr;

use crate::kernel;
use crate::kernel::Errno;
use crate::kernel::Fd;
use crate::kernel::files;
use crate::kernel::files::Stat;
use crate::kernel::files::Which;
use crate::request::Change;
use crate::request::Request;
use crate::text::Text;

const INPUT: Fd = 0;
const OUTPUT: Fd = 1;

/// The longest frame after its length.
const MAX_FRAME: usize = 40 * 1024;
/// Length, id and code.
const HEADER: usize = 9;
/// The most bytes of one read or write.
const MAX_DATA: usize = 32 * 1024;
/// The longest path, with its zero.
const MAX_PATH: usize = 4096;
const MAX_HANDLES: usize = 64;
/// Entries of a directory, as the kernel writes them, that fit a frame as we do: an entry of ours is
/// never longer than twice the kernel's.
const LISTING: usize = (MAX_FRAME - HEADER) / 2;

/// What memory of [`crate::Room`] it needs.
pub(crate) const ROOM: usize = MAX_FRAME + (MAX_FRAME + 4) + LISTING;

/// Access mode, `O_CREAT`, `O_EXCL`, `O_TRUNC`, `O_APPEND`.
const OPEN_FLAGS: u32 = ACCESS | 0o100 | 0o200 | 0o1000 | 0o2000;
const ACCESS: u32 = 0o3;
const READ_ONLY: u32 = 0;
/// Permissions, and with set-user-id, set-group-id and sticky bits.
const PERMISSIONS: u32 = 0o777;
const ALL_PERMISSIONS: u32 = 0o7777;
/// The kind of `/proc`.
const PROC: u64 = 0x9fa0;

const DONE: u8 = 0;
const REFUSED: u8 = 1;

/// Serves until the end of the input, and gives the exit status.
pub(crate) fn serve(room: &mut [u8]) -> i32 {
    let Some((request, room)) = room.split_at_mut_checked(MAX_FRAME) else { return 70 };
    let Some((answer, listing)) = room.split_at_mut_checked(MAX_FRAME + 4) else { return 70 };
    let mut helper = Helper { handles: [const { None }; MAX_HANDLES], listing };
    loop {
        let mut length = [0; 4];
        match kernel::read_all(INPUT, &mut length) {
            Ok(0) => return 0,
            Ok(4) => {}
            _ => return 1,
        }
        let length = u32::from_be_bytes(length) as usize;
        let Some(request) = request.get_mut(..length) else { return 1 };
        if kernel::read_all(INPUT, request) != Ok(length) {
            return 1;
        }
        let Some((&[a, b, c, d, code], payload)) = request.split_first_chunk() else { return 1 };
        let mut output = Output { buffer: answer, length: HEADER };
        let refused = match Request::parse(code, payload) {
            Some(request) => helper.answer(&request, &mut output).err(),
            None => Some(kernel::EINVAL),
        };
        if let Some(errno) = refused {
            output.length = HEADER;
            // There is room for a number.
            let _put = output.u32(errno.unsigned_abs());
        }
        let code = if refused.is_some() { REFUSED } else { DONE };
        let Some(frame) = output.frame([a, b, c, d], code) else { return 70 };
        if kernel::write_all(OUTPUT, frame).is_err() {
            return 1;
        }
    }
}

/// A file or a directory that is open; closed when this is dropped.
struct Handle {
    fd: Fd,
    directory: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        kernel::close(self.fd);
    }
}

struct Helper<'a> {
    handles: [Option<Handle>; MAX_HANDLES],
    /// Room for entries of a directory, or for a piece of a copy.
    listing: &'a mut [u8],
}

impl Helper<'_> {
    /// Does what is asked, and puts down what there is to say.
    fn answer(&mut self, request: &Request<'_>, output: &mut Output<'_>) -> Result<(), Errno> {
        let (mut one, mut other) = (Path::new(), Path::new());
        match *request {
            Request::Open { flags, mode, path } => {
                let handle = open(one.set(path)?, flags, mode)?;
                output.u32(self.keep(handle)?)
            }
            Request::Opendir(path) => {
                let fd = files::open_directory(one.set(path)?)?;
                output.u32(self.keep(Handle { fd, directory: true })?)
            }
            Request::Close(handle) => {
                let place = self.handles.get_mut(handle as usize).ok_or(kernel::EBADF)?;
                place.take().map(drop).ok_or(kernel::EBADF)
            }
            Request::Read { handle, offset, length } => {
                let length = (length as usize).min(MAX_DATA);
                output.fill(length, |room| files::read_at(self.file(handle)?, room, offset))
            }
            Request::Write { handle, offset, bytes } => write(self.file(handle)?, offset, bytes),
            Request::Stat(path) => output.stat(&files::stat(Which::Path(one.set(path)?), true)?),
            Request::Lstat(path) => output.stat(&files::stat(Which::Path(one.set(path)?), false)?),
            Request::Fstat(handle) => output.stat(&files::stat(self.open(handle)?, true)?),
            Request::Setstat(path, change) => apply(Which::Path(one.set(path)?), &change),
            Request::Fsetstat(handle, change) => apply(self.open(handle)?, &change),
            Request::Readdir(handle) => self.list(handle, output),
            Request::Remove(path) => files::remove(one.set(path)?, false),
            Request::Rmdir(path) => files::remove(one.set(path)?, true),
            Request::Mkdir { mode, path } => {
                files::make_directory(one.set(path)?, mode & PERMISSIONS)
            }
            Request::Rename { replace, from, to } => {
                rename(one.set(from)?, other.set(to)?, replace)
            }
            Request::Readlink(path) => {
                let path = one.set(path)?;
                output.fill(MAX_PATH, |room| files::read_link(path, room))
            }
            Request::Symlink { target, path } => {
                files::make_link(one.set(target)?, other.set(path)?)
            }
            Request::Link { from, to } => files::link(one.set(from)?, other.set(to)?),
            Request::Realpath(path) => {
                output.u32(0)?;
                real_path(one.set(path)?, &mut other, output)?;
                output.count()
            }
            Request::Statvfs(path) => output.file_system(Which::Path(one.set(path)?)),
            Request::Fsync(handle) => files::sync(self.file(handle)?),
            Request::Copy { from, offset, length, to, at } => {
                output.u64(self.copy((from, offset), length, (to, at))?)
            }
        }
    }

    /// Gives an open file a number.
    fn keep(&mut self, handle: Handle) -> Result<u32, Errno> {
        let mut places = (0..).zip(&mut self.handles);
        let (number, place) = places.find(|(_, place)| place.is_none()).ok_or(kernel::EMFILE)?;
        *place = Some(handle);
        Ok(number)
    }

    fn handle(&self, number: u32) -> Result<&Handle, Errno> {
        self.handles.get(number as usize).and_then(Option::as_ref).ok_or(kernel::EBADF)
    }

    /// A file or directory that is open.
    fn open(&self, number: u32) -> Result<Which<'static>, Errno> {
        Ok(Which::Open(self.handle(number)?.fd))
    }

    /// A file that is open.
    fn file(&self, number: u32) -> Result<Fd, Errno> {
        match self.handle(number)? {
            Handle { directory: true, .. } => Err(kernel::EISDIR),
            Handle { fd, .. } => Ok(*fd),
        }
    }

    /// Copies from a place in one open file to one in another, and gives how many bytes that were: no
    /// further than it went when this began, so that what is copied behind itself has an end.
    fn copy(&mut self, from: (u32, u64), length: u64, to: (u32, u64)) -> Result<u64, Errno> {
        if from.0 == to.0 {
            return Err(kernel::EINVAL);
        }
        let (source, target) = (self.file(from.0)?, self.file(to.0)?);
        let there = files::stat(Which::Open(source), true)?.size.saturating_sub(from.1);
        let whole = if length == 0 { there } else { length.min(there) };
        let mut done = 0;
        while done < whole {
            let most = usize::try_from(whole - done).unwrap_or(usize::MAX).min(self.listing.len());
            let room = self.listing.get_mut(..most).ok_or(kernel::EINVAL)?;
            let place = |start: u64| start.checked_add(done).ok_or(kernel::EFBIG);
            let read = files::read_at(source, room, place(from.1)?)?;
            if read == 0 {
                break;
            }
            write(target, place(to.1)?, self.listing.get(..read).unwrap_or_default())?;
            done += read as u64;
        }
        Ok(done)
    }

    /// Puts down the next entries; nothing at the end.
    fn list(&mut self, number: u32, output: &mut Output<'_>) -> Result<(), Errno> {
        let &Handle { fd, directory } = self.handle(number)?;
        if !directory {
            return Err(kernel::ENOTDIR);
        }
        // Should all that were read have vanished since, the next are not yet the end.
        while output.length == HEADER {
            let length = files::entries(fd, self.listing)?;
            let mut rest = self.listing.get(..length).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            while let Some(name) = next_entry(&mut rest) {
                if let Ok(stat) = files::stat_entry(fd, name) {
                    output.bytes(name.to_bytes())?;
                    output.stat(&stat)?;
                }
            }
        }
        Ok(())
    }
}

/// The name of the first entry, which is taken off: inode, offset (u64 each), length (u16), kind,
/// and a name that ends with a zero.
fn next_entry<'a>(entries: &mut &'a [u8]) -> Option<&'a CStr> {
    let length = u16::from_ne_bytes(entries.get(16..18)?.try_into().ok()?);
    let (entry, rest) = entries.split_at_checked(length.into())?;
    *entries = rest;
    CStr::from_bytes_until_nul(entry.get(19..)?).ok()
}

/// Opens a regular file, and nothing else.
fn open(path: &CStr, flags: u32, mode: u32) -> Result<Handle, Errno> {
    if flags & !OPEN_FLAGS != 0 || flags & ACCESS == ACCESS {
        return Err(kernel::EINVAL);
    }
    let fd = files::open(path, flags, mode & PERMISSIONS)?;
    let handle = Handle { fd, directory: false };
    match files::stat(Which::Open(fd), true)?.kind() {
        files::REGULAR => {}
        files::DIRECTORY => return Err(kernel::EISDIR),
        _ => return Err(kernel::EACCES),
    }
    // Or who may bring files might run what the policy does not let them, in this very process.
    if flags & ACCESS != READ_ONLY && files::file_system(Which::Open(fd))?.kind == PROC {
        return Err(kernel::EACCES);
    }
    Ok(handle)
}

/// Writes everything, or says why not.
fn write(fd: Fd, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    if bytes.len() > MAX_DATA {
        return Err(kernel::EINVAL);
    }
    while !bytes.is_empty() {
        let written = files::write_at(fd, bytes, offset)?;
        bytes = bytes.get(written..).unwrap_or_default();
        offset = offset.checked_add(written as u64).ok_or(kernel::EFBIG)?;
    }
    Ok(())
}

/// Makes every change that can be made, and gives the first reason why one cannot. The owner comes
/// last: who gives a file away may change nothing else of it.
fn apply(which: Which<'_>, change: &Change) -> Result<(), Errno> {
    let size = change.size.map_or(Ok(()), |size| files::resize(which, size));
    let mode = change.mode.map_or(Ok(()), |m| files::change_mode(which, m & ALL_PERMISSIONS));
    let times = change.times.map_or(Ok(()), |times| files::change_times(which, times));
    let owner = change.owner.map_or(Ok(()), |owner| files::change_owner(which, owner));
    size.and(mode).and(times).and(owner)
}

fn rename(from: &CStr, to: &CStr, replace: bool) -> Result<(), Errno> {
    match files::rename(from, to, replace) {
        // Not every file system can tell; then somebody may come in between.
        Err(kernel::EINVAL) if !replace => match files::stat(Which::Path(to), false) {
            Ok(_) => Err(kernel::EEXIST),
            Err(kernel::ENOENT) => files::rename(from, to, true),
            Err(errno) => Err(errno),
        },
        done => done,
    }
}

/// Puts down the absolute path, without links, of what need not be there if its directory is.
fn real_path(path: &CStr, parent: &mut Path, output: &mut Output<'_>) -> Result<(), Errno> {
    match files::open_path(path, false) {
        Err(kernel::ENOENT) => {}
        opened => return output.name_of(&Handle { fd: opened?, directory: false }),
    }
    let mut path = path.to_bytes();
    while let Some(shorter) = path.strip_suffix(b"/") {
        path = shorter;
    }
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (directory, name) = match slash {
        Some(slash) => path.split_at_checked(slash + 1).ok_or(kernel::EINVAL)?,
        None => (&b"."[..], path),
    };
    if matches!(name, b"" | b"." | b"..") {
        return Err(kernel::ENOENT);
    }
    let fd = files::open_path(parent.set(directory)?, true)?;
    output.name_of(&Handle { fd, directory: true })?;
    if output.counted() != b"/" {
        output.push(b"/")?;
    }
    output.push(name)
}

/// A path with its zero.
struct Path([u8; MAX_PATH]);

impl Path {
    fn new() -> Self {
        Self([0; MAX_PATH])
    }

    fn set(&mut self, path: &[u8]) -> Result<&CStr, Errno> {
        let place = self.0.get_mut(..=path.len()).ok_or(kernel::ENAMETOOLONG)?;
        place.iter_mut().zip(path.iter().chain(b"\0")).for_each(|(to, from)| *to = *from);
        CStr::from_bytes_with_nul(place).map_err(|_| kernel::EINVAL)
    }
}

/// An answer in the making. What does not fit is refused.
struct Output<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl Output<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let end = self.length + bytes.len();
        let place = self.buffer.get_mut(self.length..end).ok_or(kernel::ENAMETOOLONG)?;
        place.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    fn u32(&mut self, number: u32) -> Result<(), Errno> {
        self.push(&number.to_be_bytes())
    }

    fn u64(&mut self, number: u64) -> Result<(), Errno> {
        self.push(&number.to_be_bytes())
    }

    /// Bytes with their length before them.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.u32(u32::try_from(bytes.len()).map_err(|_| kernel::EINVAL)?)?;
        self.push(bytes)
    }

    /// As many bytes as are read, and at most `length`, with their length before them.
    fn fill(
        &mut self,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let start = self.length + 4;
        let room = self.buffer.get_mut(start..start + length).ok_or(kernel::EINVAL)?;
        let length = read(room)?;
        self.u32(u32::try_from(length).map_err(|_| kernel::EINVAL)?)?;
        self.length += length;
        Ok(())
    }

    fn stat(&mut self, stat: &Stat) -> Result<(), Errno> {
        self.u32(stat.mode.into())?;
        self.u32(stat.uid)?;
        self.u32(stat.gid)?;
        self.u64(stat.size)?;
        self.u64(u64::try_from(stat.accessed()).unwrap_or(0))?;
        self.u64(u64::try_from(stat.modified()).unwrap_or(0))
    }

    fn file_system(&mut self, which: Which<'_>) -> Result<(), Errno> {
        let found = files::file_system(which)?;
        let unit = if found.fragment_size == 0 { found.block_size } else { found.fragment_size };
        let files = [found.files, found.files_free, found.name_length];
        let blocks = [unit, found.blocks, found.free, found.available];
        blocks.into_iter().chain(files).try_for_each(|number| self.u64(number))
    }

    /// Puts down where an open file is, without a length.
    fn name_of(&mut self, handle: &Handle) -> Result<(), Errno> {
        let mut link = Text::<32>::new(b"/proc/self/fd/");
        link.number(handle.fd.unsigned_abs(), 10);
        let link = link.as_c_str().ok_or(kernel::EINVAL)?;
        let room = self.buffer.get_mut(self.length..self.length + MAX_PATH);
        let length = files::read_link(link, room.ok_or(kernel::EINVAL)?)?;
        self.length += length;
        // A pipe has no place among the files.
        if self.counted().first() == Some(&b'/') { Ok(()) } else { Err(kernel::ENOENT) }
    }

    /// What stands behind a length, which is first in the answer.
    fn counted(&self) -> &[u8] {
        self.buffer.get(HEADER + 4..self.length).unwrap_or_default()
    }

    /// Puts that length right.
    fn count(&mut self) -> Result<(), Errno> {
        let length = u32::try_from(self.counted().len()).map_err(|_| kernel::EINVAL)?;
        let place = self.buffer.get_mut(HEADER..HEADER + 4).ok_or(kernel::EINVAL)?;
        place.copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// The whole frame.
    fn frame(&mut self, id: [u8; 4], code: u8) -> Option<&[u8]> {
        let frame = self.buffer.get_mut(..self.length)?;
        let length = u32::try_from(self.length - 4).ok()?.to_be_bytes();
        let header = length.iter().chain(&id).chain(core::slice::from_ref(&code));
        frame.iter_mut().zip(header).for_each(|(to, from)| *to = *from);
        Some(frame)
    }
}
