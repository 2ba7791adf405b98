//! Where a connection leads, or is listened for.

use core::ffi::CStr;
use core::net::IpAddr;

use crate::input::Input;

const TCP: u8 = 1;
const UNIX: u8 = 2;
const DISPLAY: u8 = 3;
/// The longest cookie.
pub(crate) const LONGEST_COOKIE: usize = 64;

pub(crate) enum Endpoint<'a> {
    Tcp {
        host: &'a [u8],
        port: u16,
    },
    Unix(&'a CStr),
    /// With the cookie that programs prove themselves by.
    Display(&'a [u8]),
}

impl<'a> Endpoint<'a> {
    pub(crate) fn read(input: &mut Input<'a>) -> Option<Self> {
        match input.u8()? {
            TCP => {
                let port = input.u16()?;
                Some(Self::Tcp { host: input.string()?.strip_suffix(b"\0")?, port })
            }
            UNIX => Some(Self::Unix(CStr::from_bytes_with_nul(input.string()?).ok()?)),
            DISPLAY => {
                let cookie = input.bytes()?;
                (1..=LONGEST_COOKIE).contains(&cookie.len()).then_some(Self::Display(cookie))
            }
            _ => None,
        }
    }
}

/// An address as people write it.
pub(crate) fn literal(text: &[u8]) -> Option<IpAddr> {
    core::str::from_utf8(text).ok()?.parse().ok()
}
