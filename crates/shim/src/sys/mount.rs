//! Attributes of mounts that are not attached yet.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// What to set on a mount.
#[derive(Clone, Copy, Default)]
pub(crate) struct Attributes<'a> {
    /// Nothing may be written.
    pub(crate) read_only: bool,
    /// Set-user-id bits are without effect.
    pub(crate) no_suid: bool,
    /// Device nodes are without effect.
    pub(crate) no_dev: bool,
    /// Owners are shown and stored through the map of this user namespace.
    pub(crate) ids: Option<BorrowedFd<'a>>,
}

/// Sets attributes on the mount that `mount` refers to, an `open_tree` clone or a mount's root.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes<'_>) -> io::Result<()> {
    let mut attr_set = 0;
    for (wanted, bit) in [
        (attributes.read_only, libc::MOUNT_ATTR_RDONLY),
        (attributes.no_suid, libc::MOUNT_ATTR_NOSUID),
        (attributes.no_dev, libc::MOUNT_ATTR_NODEV),
        (attributes.ids.is_some(), libc::MOUNT_ATTR_IDMAP),
    ] {
        if wanted {
            attr_set |= bit;
        }
    }
    let attr = libc::mount_attr {
        attr_set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: attributes.ids.map_or(0, |fd| fd.as_raw_fd().unsigned_abs().into()),
    };
    // SAFETY: `attr` outlives the call and its size is given.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
