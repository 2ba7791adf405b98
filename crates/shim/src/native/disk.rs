//! The writable layer of a sandbox: full is `ENOSPC`, never a killed process.
//!
//! A small one is a tmpfs, which counts as the sandbox's memory. A larger one is an ext4 image on a
//! loop device: an unlinked, sparse copy of a template. The kernel gives all of it back when the last
//! mount is gone, whoever died how.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::sys::loopdev;

/// Up to here a tmpfs is used.
pub const MAX_IN_MEMORY: u64 = 16 << 20;

/// Where `mkfs.ext4` is, on a machine whose PATH leaves the administrator's directories out.
const MKFS: [&str; 3] = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "mkfs.ext4"];

/// An empty file system of one size, to copy for each sandbox, and the directory for the copies.
#[derive(Debug)]
pub struct DiskTemplate {
    directory: OwnedFd,
    image: OwnedFd,
}

impl DiskTemplate {
    /// Makes the template for layers of `size` bytes, unlinked, on the file system of `directory`.
    pub fn make(directory: OwnedFd, size: u64) -> io::Result<Self> {
        let image = unlinked(directory.as_fd())?;
        rustix::fs::ftruncate(&image, size)?;
        let mut missing = io::Error::from(io::ErrorKind::NotFound);
        for program in MKFS {
            let ran = Command::new(program)
                // No journal: nothing of it outlives a crash. Tables are written when first used.
                .args(["-q", "-F", "-b", "4096", "-i", "8192", "-m", "0"])
                .args(["-O", "^has_journal,^resize_inode"])
                .args(["-E", "lazy_itable_init=1,nodiscard", "/dev/stdin"])
                .stdin(Stdio::from(image.try_clone()?))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .output();
            match ran {
                Ok(output) if output.status.success() => return Ok(Self { directory, image }),
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return Err(io::Error::other(format!("{program}: {said}")));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing = error,
                Err(error) => return Err(error),
            }
        }
        let advice = "mkfs.ext4 is not there: install e2fsprogs, or set disk_size to 16MB or less";
        Err(io::Error::new(missing.kind(), advice))
    }

    /// A template that came over a socket: the directory, then the image.
    pub fn from_parts([directory, image]: [OwnedFd; 2]) -> Self {
        Self { directory, image }
    }

    /// Its parts, for sending it over a socket.
    pub fn parts(&self) -> [BorrowedFd<'_>; 2] {
        [self.directory.as_fd(), self.image.as_fd()]
    }

    /// The size of the layers.
    pub fn size(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.image)?.st_size.unsigned_abs())
    }

    /// A fresh copy that shares nothing with the template but, where possible, its blocks.
    fn copy(&self) -> io::Result<OwnedFd> {
        let copy = unlinked(self.directory.as_fd())?;
        if rustix::fs::ioctl_ficlone(&copy, &self.image).is_ok() {
            return Ok(copy);
        }
        let size = self.size()?;
        rustix::fs::ftruncate(&copy, size)?;
        let (from, to) = (File::from(self.image.try_clone()?), File::from(copy));
        let mut buffer = vec![0; 64 * 1024];
        let mut hole = 0;
        loop {
            let mut at = match rustix::fs::seek(&from, SeekFrom::Data(hole)) {
                Ok(data) => data,
                Err(Errno::NXIO) => return Ok(to.into()),
                Err(error) => return Err(error.into()),
            };
            hole = rustix::fs::seek(&from, SeekFrom::Hole(at))?;
            while at < hole {
                let wanted = usize::try_from(hole - at).unwrap_or(usize::MAX).min(buffer.len());
                let part = buffer.get_mut(..wanted).unwrap_or_default();
                from.read_exact_at(part, at)?;
                to.write_all_at(part, at)?;
                at += wanted as u64;
            }
        }
    }
}

/// Mounts a writable layer of `size` bytes at `target`.
pub(crate) fn mount(target: &Path, size: u64, template: Option<&DiskTemplate>) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    if size <= MAX_IN_MEMORY {
        let options = format!("mode=755,size={size}");
        return Ok(mount_with("tmpfs", target, "tmpfs", flags, &options)?);
    }
    let template = template.ok_or_else(|| io::Error::other("no template for it was made"))?;
    if template.size()? != size {
        return Err(io::Error::other("the template has another size"));
    }
    let image = template.copy()?;
    let (device, _until_mounted) = loopdev::attach(image.as_fd())?;
    Ok(mount_with(&device, target, "ext4", flags, "noinit_itable")?)
}

fn mount_with(
    source: &str,
    target: &Path,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> rustix::io::Result<()> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(source, target, kind, flags, options.as_c_str())
}

/// A new file without a name on the file system of `directory`.
fn unlinked(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::LARGEFILE;
    Ok(rustix::fs::openat(directory, ".", flags, Mode::RUSR | Mode::WUSR)?)
}
