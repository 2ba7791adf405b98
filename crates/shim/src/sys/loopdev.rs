//! Loop devices that vanish with their last user.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::check;

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// Others may take the free device that was named before we have configured it.
const TRIES: usize = 64;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device over `file`: its path and the descriptor that keeps it. It is given back by the
/// kernel when the last mount and descriptor of it are gone, however they went.
pub(crate) fn attach(file: BorrowedFd<'_>) -> io::Result<(String, OwnedFd)> {
    let open = |path: &str| {
        rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)
    };
    let control = open("/dev/loop-control")?;
    // SAFETY: a plain structure of numbers, for which zero is a value.
    let mut config: Config = unsafe { std::mem::zeroed() };
    config.fd = file.as_raw_fd().unsigned_abs();
    // Direct: the page cache of the image would be charged to the sandbox a second time.
    config.info.flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    for _ in 0..TRIES {
        // SAFETY: a call without argument on our own descriptor.
        let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
        let path = format!("/dev/loop{number}");
        let device = open(&path)?;
        // SAFETY: `config` outlives the call and is what this request takes.
        let configured =
            check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) });
        match configured {
            Ok(_) => return Ok((path, device)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            // File systems without direct I/O.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                config.info.flags = LO_FLAGS_AUTOCLEAR;
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no loop device is free"))
}
