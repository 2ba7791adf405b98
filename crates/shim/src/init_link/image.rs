//! The program `init` as a sealed file in memory: it has no path, and all sandboxes share its pages.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SealFlags;
use rustix::io::Errno;

static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// The sealed file. Made once; everybody who builds sandboxes inherits or is given it.
#[derive(Debug)]
pub struct InitImage(OwnedFd);

impl InitImage {
    /// The program itself, for who has to have it in a file.
    pub const PROGRAM: &[u8] = INIT;

    /// Makes it.
    pub fn make() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag, and make every such file executable.
        let file = match rustix::fs::memfd_create("init", flags | MemfdFlags::EXEC) {
            Err(Errno::INVAL) => rustix::fs::memfd_create("init", flags)?,
            made => made?,
        };
        let mut rest = INIT;
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        // A file open for writing may not be executed.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }
}

impl AsFd for InitImage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for InitImage {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}
