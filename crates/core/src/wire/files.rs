//! Gateway ⇄ file helper: what a process inside the sandbox does with the sandbox's files, for SFTP
//! and SCP. The helper resolves every path itself, so nothing outside ever opens one of the prisoner's.
//!
//! Both ways a frame is `length: u32, id: u32, code: u8, payload`; the length counts what follows it.
//! Numbers are big-endian; strings and bytes have their length (u32) before them. Requests are
//! answered in order, one answer each, with the request's id. The helper is hostile: whoever reads
//! its answers bounds them and believes nothing but that they are about the sandbox's own files.
//!
//! | request | code | payload | answer's payload |
//! |---|---|---|---|
//! | open | 1 | flags u32, mode u32, path | handle u32 |
//! | close | 2 | handle u32 | |
//! | read | 3 | handle u32, offset u64, length u32 | bytes; none at the end of the file |
//! | write | 4 | handle u32, offset u64, bytes | |
//! | stat | 5 | path | attributes |
//! | lstat | 6 | path | attributes |
//! | fstat | 7 | handle u32 | attributes |
//! | setstat | 8 | path, change | |
//! | fsetstat | 9 | handle u32, change | |
//! | opendir | 10 | path | handle u32 |
//! | readdir | 11 | handle u32 | entries: name, attributes (of the link itself); none at the end |
//! | remove | 12 | path | |
//! | mkdir | 13 | mode u32, path | |
//! | rmdir | 14 | path | |
//! | rename | 15 | replace u8, from, to | |
//! | readlink | 16 | path | bytes |
//! | symlink | 17 | target, path | |
//! | link | 18 | from, to | |
//! | realpath | 19 | path | bytes |
//! | statvfs | 20 | path | block size, blocks, free, available, files, files free, name length (u64 each) |
//! | fsync | 21 | handle u32 | |
//! | copy | 22 | from handle u32, offset u64, length u64 (0: all there is), to handle u32, at u64 | bytes copied u64 |
//!
//! An answer's code is 0 (done) or 1 (refused, payload: errno u32). `flags` of open are Linux's
//! `O_*`: access mode, `O_CREAT`, `O_EXCL`, `O_TRUNC`, `O_APPEND` and no other. Only regular files are
//! opened. Attributes are mode u32, uid u32, gid u32, size u64, atime u64, mtime u64 (seconds). A
//! change is mask u32, then only what the mask names, in this order: size u64 (1), mode u32 (2),
//! uid u32 and gid u32 (4), atime u64 and mtime u64 (8).

use super::WireError;

/// Before the payload: length, id, code.
pub const HEADER: usize = 9;

/// The longest frame after its length.
pub const MAX_FRAME: usize = 40 * 1024;

/// The most bytes of one read or write.
pub const MAX_DATA: usize = 32 * 1024;

/// The longest path.
pub const MAX_PATH: usize = 4096;

/// Files and directories that are open at a time.
pub const MAX_HANDLES: usize = 64;

/// What a file is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Kind and permissions, as in `st_mode`.
    pub mode: u32,
    /// Owner, as the sandbox sees it.
    pub uid: u32,
    /// Group, as the sandbox sees it.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last read, in seconds since 1970.
    pub atime: u64,
    /// Last changed, in seconds since 1970.
    pub mtime: u64,
}

/// What is to be changed of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Its length.
    pub size: Option<u64>,
    /// Its permissions.
    pub mode: Option<u32>,
    /// Its owner and group.
    pub owner: Option<(u32, u32)>,
    /// When it was last read and changed, in seconds since 1970.
    pub times: Option<(u64, u64)>,
}

/// Gateway → helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Open a regular file.
    Open {
        /// Access mode, `O_CREAT`, `O_EXCL`, `O_TRUNC`, `O_APPEND`.
        flags: u32,
        /// Permissions of a new one.
        mode: u32,
        /// Which.
        path: &'a [u8],
    },
    /// Close a handle.
    Close(u32),
    /// Read.
    Read {
        /// From which file.
        handle: u32,
        /// Where.
        offset: u64,
        /// How much, at most [`MAX_DATA`].
        length: u32,
    },
    /// Write all of it.
    Write {
        /// To which file.
        handle: u32,
        /// Where.
        offset: u64,
        /// At most [`MAX_DATA`].
        bytes: &'a [u8],
    },
    /// Attributes, links followed.
    Stat(&'a [u8]),
    /// Attributes of the link itself.
    Lstat(&'a [u8]),
    /// Attributes of an open file.
    Fstat(u32),
    /// Change a file.
    Setstat(&'a [u8], Change),
    /// Change an open file.
    Fsetstat(u32, Change),
    /// Open a directory.
    Opendir(&'a [u8]),
    /// The next entries, as many as fit.
    Readdir(u32),
    /// Remove a file.
    Remove(&'a [u8]),
    /// Make a directory.
    Mkdir {
        /// Its permissions.
        mode: u32,
        /// Which.
        path: &'a [u8],
    },
    /// Remove an empty directory.
    Rmdir(&'a [u8]),
    /// Rename.
    Rename {
        /// Whether what is there already is replaced.
        replace: bool,
        /// What.
        from: &'a [u8],
        /// To what.
        to: &'a [u8],
    },
    /// Where a link points.
    Readlink(&'a [u8]),
    /// Make a link.
    Symlink {
        /// Where it points.
        target: &'a [u8],
        /// Where it is.
        path: &'a [u8],
    },
    /// Make another name for a file.
    Link {
        /// What.
        from: &'a [u8],
        /// The new name.
        to: &'a [u8],
    },
    /// The absolute path without links; its last part need not exist.
    Realpath(&'a [u8]),
    /// The file system's room.
    Statvfs(&'a [u8]),
    /// Write through to the disk.
    Fsync(u32),
    /// Copy from one open file to another.
    Copy {
        /// From which file.
        from: u32,
        /// Where in it.
        offset: u64,
        /// How much; 0: all there is now.
        length: u64,
        /// To which other file.
        to: u32,
        /// Where in that.
        at: u64,
    },
}

/// Helper → gateway: an answer whose payload is not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The request's id.
    pub id: u32,
    /// The payload, or an errno.
    pub result: Result<&'a [u8], u32>,
}

impl Request<'_> {
    /// Appends the frame to `buf`.
    pub fn encode(&self, id: u32, buf: &mut Vec<u8>) {
        let start = buf.len();
        buf.extend([0; 4]);
        put(buf, id);
        match *self {
            Self::Open { flags, mode, path } => {
                buf.push(1);
                put(buf, flags);
                put(buf, mode);
                string(buf, path);
            }
            Self::Close(handle) => numbered(buf, 2, handle),
            Self::Read { handle, offset, length } => {
                numbered(buf, 3, handle);
                put64(buf, offset);
                put(buf, length);
            }
            Self::Write { handle, offset, bytes } => {
                numbered(buf, 4, handle);
                put64(buf, offset);
                string(buf, bytes);
            }
            Self::Stat(path) => named(buf, 5, path),
            Self::Lstat(path) => named(buf, 6, path),
            Self::Fstat(handle) => numbered(buf, 7, handle),
            Self::Setstat(path, change) => {
                named(buf, 8, path);
                change.encode(buf);
            }
            Self::Fsetstat(handle, change) => {
                numbered(buf, 9, handle);
                change.encode(buf);
            }
            Self::Opendir(path) => named(buf, 10, path),
            Self::Readdir(handle) => numbered(buf, 11, handle),
            Self::Remove(path) => named(buf, 12, path),
            Self::Mkdir { mode, path } => {
                numbered(buf, 13, mode);
                string(buf, path);
            }
            Self::Rmdir(path) => named(buf, 14, path),
            Self::Rename { replace, from, to } => {
                buf.push(15);
                buf.push(u8::from(replace));
                string(buf, from);
                string(buf, to);
            }
            Self::Readlink(path) => named(buf, 16, path),
            Self::Symlink { target, path } => {
                named(buf, 17, target);
                string(buf, path);
            }
            Self::Link { from, to } => {
                named(buf, 18, from);
                string(buf, to);
            }
            Self::Realpath(path) => named(buf, 19, path),
            Self::Statvfs(path) => named(buf, 20, path),
            Self::Fsync(handle) => numbered(buf, 21, handle),
            Self::Copy { from, offset, length, to, at } => {
                numbered(buf, 22, from);
                put64(buf, offset);
                put64(buf, length);
                put(buf, to);
                put64(buf, at);
            }
        }
        let length = u32::try_from(buf.len() - start - 4).unwrap_or(u32::MAX);
        buf[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

impl Change {
    fn encode(&self, buf: &mut Vec<u8>) {
        let bit = |set: bool, bit: u32| if set { bit } else { 0 };
        let mask = bit(self.size.is_some(), 1)
            | bit(self.mode.is_some(), 2)
            | bit(self.owner.is_some(), 4)
            | bit(self.times.is_some(), 8);
        put(buf, mask);
        if let Some(size) = self.size {
            put64(buf, size);
        }
        if let Some(mode) = self.mode {
            put(buf, mode);
        }
        if let Some((uid, gid)) = self.owner {
            put(buf, uid);
            put(buf, gid);
        }
        if let Some((atime, mtime)) = self.times {
            put64(buf, atime);
            put64(buf, mtime);
        }
    }
}

impl<'a> Answer<'a> {
    /// Takes the first frame off `bytes`; none while it is not whole.
    ///
    /// # Errors
    /// When it is too long, or none.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, WireError> {
        let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(WireError::Long(length));
        }
        if length < HEADER - 4 {
            return Err(WireError::Short { kind: 0, len: length });
        }
        let Some(frame) = bytes.get(4..4 + length) else { return Ok(None) };
        let mut fields = Fields(frame);
        let (id, code) = (fields.u32()?, fields.u8()?);
        let result = match code {
            0 => Ok(fields.0),
            1 => Err(fields.u32()?),
            other => return Err(WireError::Kind(other)),
        };
        Ok(Some((Self { id, result }, 4 + length)))
    }
}

/// What is left of a payload; every read is checked against its end.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let short = WireError::Short { kind: 0, len: self.0.len() };
        let (taken, rest) = self.0.split_at_checked(length).ok_or(short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A byte.
    ///
    /// # Errors
    /// When there is none; so below.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    /// A number.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| WireError::Kind(0))
    }

    /// A long number.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.take(8)?.try_into().map(u64::from_be_bytes).map_err(|_| WireError::Kind(0))
    }

    /// Bytes with their length before them.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn string(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// Attributes of a file.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn attributes(&mut self) -> Result<Attributes, WireError> {
        Ok(Attributes {
            mode: self.u32()?,
            uid: self.u32()?,
            gid: self.u32()?,
            size: self.u64()?,
            atime: self.u64()?,
            mtime: self.u64()?,
        })
    }
}

fn put(buf: &mut Vec<u8>, number: u32) {
    buf.extend_from_slice(&number.to_be_bytes());
}

fn put64(buf: &mut Vec<u8>, number: u64) {
    buf.extend_from_slice(&number.to_be_bytes());
}

fn string(buf: &mut Vec<u8>, bytes: &[u8]) {
    put(buf, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    buf.extend_from_slice(bytes);
}

fn numbered(buf: &mut Vec<u8>, code: u8, number: u32) {
    buf.push(code);
    put(buf, number);
}

fn named(buf: &mut Vec<u8>, code: u8, path: &[u8]) {
    buf.push(code);
    string(buf, path);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_length_id_code_payload() {
        let mut buf = Vec::new();
        Request::Read { handle: 1, offset: 2, length: 3 }.encode(9, &mut buf);
        let wanted = [0, 0, 0, 21, 0, 0, 0, 9, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3];
        assert_eq!(buf, wanted);
        buf.clear();
        let change = Change { mode: Some(0o600), ..Change::default() };
        Request::Setstat(b"/a", change).encode(1, &mut buf);
        let wanted =
            [0, 0, 0, 19, 0, 0, 0, 1, 8, 0, 0, 0, 2, b'/', b'a', 0, 0, 0, 2, 0, 0, 1, 0x80];
        assert_eq!(buf, wanted);
    }

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        let frame = [0, 0, 0, 7, 0, 0, 0, 9, 0, b'h', b'i', 0xff];
        assert_eq!(Answer::decode(&frame[..10]).unwrap(), None);
        let answer = Answer { id: 9, result: Ok(&b"hi"[..]) };
        assert_eq!(Answer::decode(&frame).unwrap(), Some((answer, 11)));
        let refused = [0, 0, 0, 9, 0, 0, 0, 9, 1, 0, 0, 0, 2];
        let answer = Answer { id: 9, result: Err(2) };
        assert_eq!(Answer::decode(&refused).unwrap(), Some((answer, 13)));
        assert!(Answer::decode(&[0xff; 8]).is_err(), "too long");
        assert!(Answer::decode(&[0, 0, 0, 5, 0, 0, 0, 0, 7]).is_err(), "no such code");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Answer::decode(&bytes);
            let mut fields = Fields(&bytes);
            let _ = fields.attributes().and_then(|_| fields.string().map(drop));
        }
    }
}
