//! SFTP version 3 on the wire (draft-ietf-secsh-filexfer-02), as a server reads and writes it. Paths are
//! bytes and stay bytes.
//!
//! The crate that is usually taken for this answers one request at a time and reads names as UTF-8;
//! both are a client's to feel.

use bytes::Bytes;
use sojourn_core::wire::files::Attributes;
use sojourn_core::wire::files::Change;
use sojourn_core::wire::files::Fields;
use sojourn_core::wire::files::MAX_PATH;

/// The version that is spoken.
pub(super) const VERSION: u32 = 3;

/// The longest packet after its length, as OpenSSH has it.
pub(super) const MAX_PACKET: usize = 256 * 1024;

/// The most bytes of one read or write that are worth asking for.
pub(super) const MAX_TRANSFER: usize = MAX_PACKET - 1024;

/// The extensions there are, with their versions.
pub(super) const EXTENSIONS: &[(&str, &str)] = &[
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
];

/// What a client may ask for of a file that it opens.
pub(super) mod flags {
    pub(in super::super) const READ: u32 = 1;
    pub(in super::super) const WRITE: u32 = 2;
    pub(in super::super) const APPEND: u32 = 4;
    pub(in super::super) const CREATE: u32 = 8;
    pub(in super::super) const TRUNCATE: u32 = 16;
    pub(in super::super) const EXCLUSIVE: u32 = 32;
}

/// Which members attributes have.
const HAS_SIZE: u32 = 1;
const HAS_OWNER: u32 = 2;
const HAS_MODE: u32 = 4;
const HAS_TIMES: u32 = 8;
const HAS_MORE: u32 = 0x8000_0000;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

impl Status {
    /// What an errno is to a client of this protocol.
    pub(super) fn of_errno(errno: u32) -> Self {
        match errno {
            // ENOENT, EBADF, ENOTDIR, ELOOP
            2 | 9 | 20 | 40 => Self::NoSuchFile,
            // EPERM, EACCES, EFAULT
            1 | 13 | 14 => Self::PermissionDenied,
            // EINVAL, ENAMETOOLONG
            22 | 36 => Self::BadMessage,
            // ENOSYS, EOPNOTSUPP
            38 | 95 => Self::Unsupported,
            _ => Self::Failure,
        }
    }

    /// In words, where there are no better ones.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Ok => "Success",
            Self::Eof => "End of file",
            Self::NoSuchFile => "No such file",
            Self::PermissionDenied => "Permission denied",
            Self::Failure => "Failure",
            Self::BadMessage => "Bad message",
            Self::Unsupported => "Operation unsupported",
        }
    }
}

/// A handle as a client has it.
pub(super) type Handle = u32;

/// A client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Init,
    Open {
        path: &'a [u8],
        flags: u32,
        mode: Option<u32>,
    },
    Close(Handle),
    Read {
        handle: Handle,
        offset: u64,
        length: u32,
    },
    Write {
        handle: Handle,
        offset: u64,
        bytes: &'a [u8],
    },
    Lstat(&'a [u8]),
    Fstat(Handle),
    Setstat(&'a [u8], Change),
    Fsetstat(Handle, Change),
    Opendir(&'a [u8]),
    Readdir(Handle),
    Remove(&'a [u8]),
    Mkdir {
        path: &'a [u8],
        mode: Option<u32>,
    },
    Rmdir(&'a [u8]),
    Realpath(&'a [u8]),
    Stat(&'a [u8]),
    Rename {
        from: &'a [u8],
        to: &'a [u8],
        replace: bool,
    },
    Readlink(&'a [u8]),
    Symlink {
        target: &'a [u8],
        path: &'a [u8],
    },
    Link {
        from: &'a [u8],
        to: &'a [u8],
    },
    Statvfs(&'a [u8]),
    Fstatvfs(Handle),
    Fsync(Handle),
    Limits,
    ExpandPath(&'a [u8]),
    HomeDirectory(&'a [u8]),
    /// From one open file to another.
    Copy {
        from: Handle,
        offset: u64,
        length: u64,
        to: Handle,
        at: u64,
    },
    /// One that is not known here.
    Unknown,
}

/// A packet that cannot be read; with the request's number, if that much could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bad(pub(super) Option<u32>);

/// Reads a packet, without its length.
pub(super) fn decode(packet: &[u8]) -> Result<(u32, Request<'_>), Bad> {
    let mut fields = Fields(packet);
    let kind = fields.u8().map_err(|_| Bad(None))?;
    let id = fields.u32().map_err(|_| Bad(None))?;
    if kind == 1 {
        return Ok((id, Request::Init));
    }
    request(kind, &mut fields).map(|request| (id, request)).ok_or(Bad(Some(id)))
}

fn request<'a>(kind: u8, fields: &mut Fields<'a>) -> Option<Request<'a>> {
    Some(match kind {
        3 => {
            let (path, flags) = (path(fields)?, fields.u32().ok()?);
            Request::Open { path, flags, mode: change(fields)?.mode }
        }
        4 => Request::Close(handle(fields)?),
        5 => Request::Read {
            handle: handle(fields)?,
            offset: fields.u64().ok()?,
            length: fields.u32().ok()?,
        },
        6 => Request::Write {
            handle: handle(fields)?,
            offset: fields.u64().ok()?,
            bytes: fields.string().ok()?,
        },
        7 => Request::Lstat(path(fields)?),
        8 => Request::Fstat(handle(fields)?),
        9 => Request::Setstat(path(fields)?, change(fields)?),
        10 => Request::Fsetstat(handle(fields)?, change(fields)?),
        11 => Request::Opendir(path(fields)?),
        12 => Request::Readdir(handle(fields)?),
        13 => Request::Remove(path(fields)?),
        14 => Request::Mkdir { path: path(fields)?, mode: change(fields)?.mode },
        15 => Request::Rmdir(path(fields)?),
        16 => Request::Realpath(path(fields)?),
        17 => Request::Stat(path(fields)?),
        18 => Request::Rename { from: path(fields)?, to: path(fields)?, replace: false },
        19 => Request::Readlink(path(fields)?),
        // The draft has them the other way round; OpenSSH, and so every client, has them like this.
        20 => Request::Symlink { target: path(fields)?, path: path(fields)? },
        200 => extended(fields)?,
        _ => Request::Unknown,
    })
}

fn extended<'a>(fields: &mut Fields<'a>) -> Option<Request<'a>> {
    Some(match fields.string().ok()? {
        b"posix-rename@openssh.com" => {
            Request::Rename { from: path(fields)?, to: path(fields)?, replace: true }
        }
        b"statvfs@openssh.com" => Request::Statvfs(path(fields)?),
        b"fstatvfs@openssh.com" => Request::Fstatvfs(handle(fields)?),
        b"hardlink@openssh.com" => Request::Link { from: path(fields)?, to: path(fields)? },
        b"fsync@openssh.com" => Request::Fsync(handle(fields)?),
        b"limits@openssh.com" => Request::Limits,
        b"expand-path@openssh.com" => Request::ExpandPath(path(fields)?),
        b"copy-data" => Request::Copy {
            from: handle(fields)?,
            offset: fields.u64().ok()?,
            length: fields.u64().ok()?,
            to: handle(fields)?,
            at: fields.u64().ok()?,
        },
        b"home-directory" => Request::HomeDirectory(fields.string().ok()?),
        _ => Request::Unknown,
    })
}

fn handle(fields: &mut Fields<'_>) -> Option<Handle> {
    // Whatever else it may be is a handle that nobody was given.
    let bytes = fields.string().ok()?;
    Some(bytes.try_into().map_or(Handle::MAX, Handle::from_be_bytes))
}

/// A path that can be one; its file may not exist.
fn path<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    let path = fields.string().ok()?;
    (path.len() <= MAX_PATH && !path.contains(&0)).then_some(path)
}

fn change(fields: &mut Fields<'_>) -> Option<Change> {
    let has = fields.u32().ok()?;
    let mut change = Change::default();
    if has & HAS_SIZE != 0 {
        change.size = Some(fields.u64().ok()?);
    }
    if has & HAS_OWNER != 0 {
        change.owner = Some((fields.u32().ok()?, fields.u32().ok()?));
    }
    if has & HAS_MODE != 0 {
        change.mode = Some(fields.u32().ok()? & 0o7777);
    }
    if has & HAS_TIMES != 0 {
        change.times = Some((fields.u32().ok()?.into(), fields.u32().ok()?.into()));
    }
    if has & HAS_MORE != 0 {
        // Pairs that nobody defined; they are passed over.
        for _ in 0..fields.u32().ok()?.min(64).saturating_mul(2) {
            fields.string().ok()?;
        }
    }
    Some(change)
}

/// Appends a packet with what was read.
pub(super) fn data(id: u32, parts: &[Bytes], out: &mut Vec<u8>) {
    let bytes: usize = parts.iter().map(Bytes::len).sum();
    out.reserve(13 + bytes);
    out.extend_from_slice(&length(9 + bytes).to_be_bytes());
    out.push(103);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&length(bytes).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A packet that is written.
#[derive(Debug)]
pub(super) struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u8, id: u32) -> Self {
        let mut packet = Self(vec![0, 0, 0, 0, kind]);
        packet.number(id);
        packet
    }

    pub(super) fn version() -> Self {
        let mut packet = Self::new(2, VERSION);
        for (name, version) in EXTENSIONS {
            packet.string(name.as_bytes());
            packet.string(version.as_bytes());
        }
        packet
    }

    pub(super) fn status(id: u32, status: Status, words: &str) -> Self {
        let mut packet = Self::new(101, id);
        packet.number(status as u32);
        packet.string(words.as_bytes());
        packet.string(b"");
        packet
    }

    pub(super) fn handle(id: u32, handle: Handle) -> Self {
        let mut packet = Self::new(102, id);
        packet.string(&handle.to_be_bytes());
        packet
    }

    /// Names; each is completed by [`Packet::entry`].
    pub(super) fn names(id: u32, count: u32) -> Self {
        let mut packet = Self::new(104, id);
        packet.number(count);
        packet
    }

    pub(super) fn entry(&mut self, name: &[u8], long: &[u8], attributes: Option<&Attributes>) {
        self.string(name);
        self.string(long);
        match attributes {
            Some(attributes) => self.attributes(attributes),
            None => self.number(0),
        }
    }

    pub(super) fn attrs(id: u32, attributes: &Attributes) -> Self {
        let mut packet = Self::new(105, id);
        packet.attributes(attributes);
        packet
    }

    pub(super) fn extended(id: u32, numbers: &[u64]) -> Self {
        let mut packet = Self::new(201, id);
        numbers.iter().for_each(|number| packet.0.extend_from_slice(&number.to_be_bytes()));
        packet
    }

    /// With its length before it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let rest = length(self.0.len().saturating_sub(4));
        if let Some(place) = self.0.first_chunk_mut() {
            *place = rest.to_be_bytes();
        }
        self.0
    }

    fn attributes(&mut self, attributes: &Attributes) {
        let seconds = |time: u64| u32::try_from(time).unwrap_or(u32::MAX);
        self.number(HAS_SIZE | HAS_OWNER | HAS_MODE | HAS_TIMES);
        self.0.extend_from_slice(&attributes.size.to_be_bytes());
        self.number(attributes.uid);
        self.number(attributes.gid);
        self.number(attributes.mode);
        self.number(seconds(attributes.atime));
        self.number(seconds(attributes.mtime));
    }

    fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn string(&mut self, bytes: &[u8]) {
        self.number(length(bytes.len()));
        self.0.extend_from_slice(bytes);
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn requests_are_read_as_clients_write_them() {
        let open = bytes(&[
            &[3, 0, 0, 0, 9, 0, 0, 0, 2, b'/', 0xff],
            &[0, 0, 0, 26, 0, 0, 0, 4, 0, 0, 0x81, 0xa4],
        ]);
        let wanted = Request::Open { path: b"/\xff", flags: 26, mode: Some(0o644) };
        assert_eq!(decode(&open), Ok((9, wanted)));
        let read = bytes(&[
            &[5, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7],
            &[0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0x80, 0],
        ]);
        assert_eq!(decode(&read), Ok((1, Request::Read { handle: 7, offset: 5, length: 32768 })));
        let foreign = [4, 0, 0, 0, 1, 0, 0, 0, 1, b'x'];
        assert_eq!(decode(&foreign), Ok((1, Request::Close(Handle::MAX))));
        assert_eq!(decode(&[99, 0, 0, 0, 1]), Ok((1, Request::Unknown)));
        assert_eq!(decode(&[4, 0, 0, 0, 1, 0]), Err(Bad(Some(1))));
        assert_eq!(decode(&[4, 0]), Err(Bad(None)));
        let nul = [7, 0, 0, 0, 1, 0, 0, 0, 1, 0];
        assert_eq!(decode(&nul), Err(Bad(Some(1))), "no path has a NUL in it");
    }

    #[test]
    fn what_is_written_has_its_length_before_it() {
        let status = Packet::status(1, Status::Eof, "x").finish();
        let wanted = [0, 0, 0, 18, 101, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0, 0, 0];
        assert_eq!(status, wanted);
        assert_eq!(Status::of_errno(2), Status::NoSuchFile);
        assert_eq!(Status::of_errno(28), Status::Failure);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
