//! Pseudo-terminals of a particular devpts.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;

use super::check;

/// The superblock magic of devpts.
const DEVPTS: i64 = 0x1cd1;
/// Device number of `ptmx`.
const PTMX: (u32, u32) = (5, 2);

/// Whether `fd` refers to the `ptmx` node of a devpts.
pub(crate) fn is_ptmx(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let device = rustix::fs::fstat(fd)?.st_rdev;
    let number = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(rustix::fs::fstatfs(fd)?.f_type as i64 == DEVPTS && number == PTMX)
}

/// Opens a new terminal of the devpts whose `ptmx` node is given: master, unlocked and non-blocking,
/// and slave. Neither becomes our controlling terminal.
pub(crate) fn open(ptmx: BorrowedFd<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    let node = format!("/proc/self/fd/{}", ptmx.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let master = rustix::fs::open(node, flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}

/// The settings of a terminal.
pub(crate) fn settings(tty: BorrowedFd<'_>) -> io::Result<libc::termios> {
    // SAFETY: a plain structure of numbers, for which zero is a value; the call fills it.
    unsafe {
        let mut termios: libc::termios = std::mem::zeroed();
        check(libc::tcgetattr(tty.as_fd().as_raw_fd(), &mut termios))?;
        Ok(termios)
    }
}

/// Sets a terminal at once.
pub(crate) fn apply(tty: BorrowedFd<'_>, termios: &libc::termios) -> io::Result<()> {
    // SAFETY: `termios` outlives the call.
    check(unsafe { libc::tcsetattr(tty.as_raw_fd(), libc::TCSANOW, termios) }).map(drop)
}

/// Sets the input speed, or the output speed, in `termios`. `code` is one of the `B` constants.
pub(crate) fn set_speed(termios: &mut libc::termios, code: libc::speed_t, input: bool) {
    let set = if input { libc::cfsetispeed } else { libc::cfsetospeed };
    // SAFETY: changes the structure alone. It fails for unknown codes only, and then changes nothing.
    unsafe { set(termios, code) };
}
