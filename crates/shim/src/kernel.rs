//! Kernel calls of the zygote and the shim that no library offers safely.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use rustix::process::Pid;
use rustix::process::Signal;

/// Whether this process has one thread.
pub(crate) fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Closes everything but standard input, output and error and `keep`.
///
/// # Safety
/// Nothing in this process uses, or closes again, a descriptor that is not in `keep`: a forked
/// child's first act, whose inherited values are never dropped.
pub(crate) unsafe fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> =
        keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers.into_iter().filter(|number| *number >= 3) {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: a plain call; the caller of our caller answers for the descriptors.
    let returned = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Blocks exactly these signals and gives a descriptor they are read from instead.
pub(crate) fn signal_fd(signals: &[Signal]) -> io::Result<OwnedFd> {
    let set = signal_set(signals);
    set_mask(&set)?;
    // SAFETY: `set` outlives the call, which makes a new descriptor that is ours.
    unsafe {
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd == -1 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Reads what a [`signal_fd`] holds: whether `signal` was among it.
pub(crate) fn take_signals(fd: BorrowedFd<'_>, signal: Signal) -> bool {
    const RECORD: usize = size_of::<libc::signalfd_siginfo>();
    let mut seen = false;
    let mut buf = [0u8; RECORD * 8];
    while let Ok(len) = rustix::io::read(fd, &mut buf) {
        // The signal's number is the record's first member.
        let numbers = buf[..len].chunks_exact(RECORD).filter_map(|record| record.first_chunk());
        for number in numbers {
            seen |= i32::from_ne_bytes(*number) == signal.as_raw();
        }
        if len < buf.len() {
            break;
        }
    }
    seen
}

/// Has the system kill this process as soon as `parent` has ended, which forked it. A change of user
/// undoes it.
///
/// # Errors
/// `BrokenPipe` when that one has ended already.
pub(crate) fn end_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    match rustix::process::getppid() == Some(parent) {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::BrokenPipe, "whoever started this is gone")),
    }
}

/// Ignores these signals.
pub(crate) fn ignore(signals: &[Signal]) {
    for signal in signals {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) };
    }
}

/// Gives signals the meaning they have in a fresh program: none blocked, none but SIGPIPE ignored.
pub(crate) fn reset_signals(ignored: &[Signal]) -> io::Result<()> {
    for signal in ignored {
        // SAFETY: the default action runs no code of ours.
        unsafe { libc::signal(signal.as_raw(), libc::SIG_DFL) };
    }
    set_mask(&signal_set(&[]))
}

fn signal_set(signals: &[Signal]) -> libc::sigset_t {
    // SAFETY: a plain structure of numbers, which the first call makes valid.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal.as_raw());
        }
        set
    }
}

fn set_mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` outlives the call.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// What becomes of standard error when the rest of standard input and output is let go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// It stays.
    KeepErrors,
    /// It goes, too.
    Nothing,
}

/// Points standard input and output at `/dev/null`, so that a process that outlives its starter
/// holds no terminal and no pipe of it.
pub(crate) fn detach_stdio(output: Output) -> io::Result<()> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    if output == Output::Nothing {
        rustix::stdio::dup2_stderr(&null)?;
    }
    Ok(())
}
