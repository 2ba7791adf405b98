//! What the file helper is asked: the payloads of `crates/core/src/wire/files.rs`, read.

use super::input::Input;

/// A request. Paths and data are as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Open { flags: u32, mode: u32, path: &'a [u8] },
    Close(u32),
    Read { handle: u32, offset: u64, length: u32 },
    Write { handle: u32, offset: u64, bytes: &'a [u8] },
    Stat(&'a [u8]),
    Lstat(&'a [u8]),
    Fstat(u32),
    Setstat(&'a [u8], Change),
    Fsetstat(u32, Change),
    Opendir(&'a [u8]),
    Readdir(u32),
    Remove(&'a [u8]),
    Mkdir { mode: u32, path: &'a [u8] },
    Rmdir(&'a [u8]),
    Rename { replace: bool, from: &'a [u8], to: &'a [u8] },
    Readlink(&'a [u8]),
    Symlink { target: &'a [u8], path: &'a [u8] },
    Link { from: &'a [u8], to: &'a [u8] },
    Realpath(&'a [u8]),
    Statvfs(&'a [u8]),
    Fsync(u32),
    Copy { from: u32, offset: u64, length: u64, to: u32, at: u64 },
}

/// What is to be changed of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) size: Option<u64>,
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) times: Option<(u64, u64)>,
}

const SIZE: u32 = 1;
const MODE: u32 = 2;
const OWNER: u32 = 4;
const TIMES: u32 = 8;

impl<'a> Request<'a> {
    /// Reads one, all of it; none when it is not well formed.
    pub(crate) fn parse(code: u8, payload: &'a [u8]) -> Option<Self> {
        let mut input = Input(payload);
        let request = match code {
            1 => Self::Open { flags: input.u32()?, mode: input.u32()?, path: input.bytes()? },
            2 => Self::Close(input.u32()?),
            3 => Self::Read { handle: input.u32()?, offset: input.u64()?, length: input.u32()? },
            4 => Self::Write { handle: input.u32()?, offset: input.u64()?, bytes: input.bytes()? },
            5 => Self::Stat(input.bytes()?),
            6 => Self::Lstat(input.bytes()?),
            7 => Self::Fstat(input.u32()?),
            8 => Self::Setstat(input.bytes()?, Change::parse(&mut input)?),
            9 => Self::Fsetstat(input.u32()?, Change::parse(&mut input)?),
            10 => Self::Opendir(input.bytes()?),
            11 => Self::Readdir(input.u32()?),
            12 => Self::Remove(input.bytes()?),
            13 => Self::Mkdir { mode: input.u32()?, path: input.bytes()? },
            14 => Self::Rmdir(input.bytes()?),
            15 => {
                let replace = match input.u8()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                Self::Rename { replace, from: input.bytes()?, to: input.bytes()? }
            }
            16 => Self::Readlink(input.bytes()?),
            17 => Self::Symlink { target: input.bytes()?, path: input.bytes()? },
            18 => Self::Link { from: input.bytes()?, to: input.bytes()? },
            19 => Self::Realpath(input.bytes()?),
            20 => Self::Statvfs(input.bytes()?),
            21 => Self::Fsync(input.u32()?),
            22 => Self::Copy {
                from: input.u32()?,
                offset: input.u64()?,
                length: input.u64()?,
                to: input.u32()?,
                at: input.u64()?,
            },
            _ => return None,
        };
        input.0.is_empty().then_some(request)
    }
}

impl Change {
    fn parse(input: &mut Input<'_>) -> Option<Self> {
        let mask = input.u32()?;
        if mask & !(SIZE | MODE | OWNER | TIMES) != 0 {
            return None;
        }
        let size = if mask & SIZE != 0 { Some(input.u64()?) } else { None };
        let mode = if mask & MODE != 0 { Some(input.u32()?) } else { None };
        let owner = if mask & OWNER != 0 { Some((input.u32()?, input.u32()?)) } else { None };
        let times = if mask & TIMES != 0 { Some((input.u64()?, input.u64()?)) } else { None };
        Some(Self { size, mode, owner, times })
    }
}
