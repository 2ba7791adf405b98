//! Safe wrappers for the kernel calls that no library offers: each does one thing, checks nothing.
//!
//! `unsafe` of the native sandbox lives here and nowhere else.

#![expect(unsafe_code, reason = "calls into the C library and the kernel")]

pub(crate) mod loopdev;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod seccomp;

use std::io;

/// Turns the C convention (-1 and `errno`) into a result.
fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}
