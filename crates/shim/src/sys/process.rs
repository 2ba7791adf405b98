//! Making processes and turning one into another program.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::ptr;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use super::check;

/// Runs `child` in a forked child, which exits with the status it gives.
///
/// The caller has one thread, or `child` does nothing that another thread of the parent could have
/// been in the middle of (the C library's allocator takes care of itself).
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the child runs `child` and leaves by `_exit`, so that no destructor of the parent's
    // values and no exit handler runs twice.
    let pid = check(unsafe { libc::fork() })?;
    match Pid::from_raw(pid) {
        Some(pid) => Ok(pid),
        None => {
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends this process.
            unsafe { libc::_exit(status.unwrap_or(101)) }
        }
    }
}

/// Moves this process, which has one thread, into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: FILES and FS are the flags that would surprise other threads; there are none.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Makes this process, which has one thread, one of this user and group alone. It keeps the
/// capabilities it is permitted, none of them in effect.
pub(crate) fn become_user(id: u32) -> io::Result<()> {
    rustix::thread::set_keep_capabilities(true)?;
    // SAFETY: plain calls; there are no other threads that would have to follow.
    unsafe {
        check(libc::setgroups(0, ptr::null()))?;
        check(libc::setresgid(id, id, id))?;
        check(libc::setresuid(id, id, id))?;
    }
    Ok(())
}

/// Lets everybody else at the disk first.
pub(crate) fn last_at_the_disk() {
    const PROCESS: libc::c_int = 1;
    const LAST_OF_BEST_EFFORT: libc::c_int = (2 << 13) | 7;
    // SAFETY: a plain call. Where it is refused, the disk is shared as usual.
    unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, LAST_OF_BEST_EFFORT) };
}

/// Gives this process `fds` as its descriptors 0, 1, 2 and so on, inherited by programs, whatever was
/// there. Only for a forked child, which never touches or closes what its parent's values own.
pub(crate) fn inherit(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let out_of_the_way = RawFd::try_from(fds.len()).map_err(io::Error::other)?;
    let copies: Vec<OwnedFd> =
        fds.iter().map(|fd| duplicate_above(*fd, out_of_the_way)).collect::<io::Result<_>>()?;
    for (copy, target) in copies.iter().zip(0..) {
        // SAFETY: a plain call; see above for who could have owned `target`.
        check(unsafe { libc::dup2(copy.as_raw_fd(), target) })?;
    }
    Ok(())
}

/// A copy of `fd` at a number of at least `least`, close-on-exec.
pub(crate) fn duplicate_above(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a plain call that makes a new descriptor, which is ours.
    unsafe {
        let new = check(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least))?;
        Ok(OwnedFd::from_raw_fd(new))
    }
}

/// Becomes the program in the open file `fd`, with an empty environment; comes back only to say why
/// it could not.
pub(crate) fn execute(fd: RawFd, name: &CStr) -> io::Error {
    let argv = [name.as_ptr(), ptr::null()];
    let env = [ptr::null::<libc::c_char>()];
    // SAFETY: the strings and the arrays outlive the call and end with a null.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd,
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
