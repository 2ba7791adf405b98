//! A process that reads what a prisoner left, and can do nothing else: no right of root's but to read
//! every file, a root directory that is the prisoner's own tree, a list of system calls, bounds on
//! memory, time and what it writes.
//!
//! It is forked by a process of ours that has one thread and nothing to lose, which keeps an eye on
//! it. Everything it needs it is given as descriptors.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::CWD;
use rustix::process::DumpableBehavior;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;
use rustix::thread::LinkNameSpaceType;

use crate::kernel;
use crate::native::IdRange;
use crate::seqpacket;
use crate::sys;
use crate::userns;

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

/// After everybody else.
const NICE: i32 = 10;

/// What reading a tree, writing to open files and asking one's parent takes.
const CALLS: &[libc::c_long] = &[
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_fgetxattr,
    libc::SYS_fcntl,
    libc::SYS_lseek,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_futex,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// And what making one takes besides.
const MAKING: &[libc::c_long] = &[
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_utimensat,
];

/// The rights of whoever owns all files of the namespace.
const OWNER: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

/// What a confined process may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Memory of its own, in bytes.
    pub memory: u64,
    /// Processor time.
    pub cpu: Duration,
    /// Descriptors.
    pub descriptors: u64,
    /// The longest file it writes.
    pub file: u64,
}

/// A confined process.
#[derive(Debug)]
pub struct Confined {
    /// Its number; it is a child of the caller, who waits for it.
    pub pid: Pid,
    /// It, held.
    pub pidfd: OwnedFd,
    /// The other end of the socket it has.
    pub socket: OwnedFd,
}

/// Makes this process, a fork with one thread, one that outlives its starter and is in nobody's way.
///
/// # Errors
/// The system's.
pub fn settle(name: &std::ffi::CStr) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::thread::set_name(name)?;
    kernel::detach_stdio(kernel::Output::Nothing)?;
    kernel::ignore(&[Signal::PIPE, Signal::HUP, Signal::INT, Signal::XFSZ]);
    // Best effort: what it does is as right when it does it sooner.
    let _nice = rustix::process::setpriority_process(None, NICE);
    sys::process::last_at_the_disk();
    Ok(())
}

/// Gives up every capability but these, and the way to get one back.
///
/// # Errors
/// The system's.
pub fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    let kept = rustix::thread::capabilities(None)?.permitted & kept;
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Forks a confined process that does `work` with its end of a socket, whose messages stay whole, and
/// exits with what that gives. Of the descriptors it has `keep`; `root` is its root directory.
///
/// # Errors
/// When this process has threads, or the system refuses. That the child could not be confined shows
/// in its exit status, 125: it has done nothing then.
pub fn spawn(
    root: BorrowedFd<'_>,
    keep: &[BorrowedFd<'_>],
    bounds: Bounds,
    work: impl FnOnce(OwnedFd) -> i32,
) -> io::Result<Confined> {
    fork(root, keep, bounds, None, work)
}

/// As [`spawn`], for one that makes files: in a user namespace of its own it is the root of `ids`, and
/// owner of what they own alone.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_mapped(
    root: BorrowedFd<'_>,
    keep: &[BorrowedFd<'_>],
    bounds: Bounds,
    ids: IdRange,
    work: impl FnOnce(OwnedFd) -> i32,
) -> io::Result<Confined> {
    let namespace = userns::make(0, ids)?;
    fork(root, keep, bounds, Some(namespace), work)
}

fn fork(
    root: BorrowedFd<'_>,
    keep: &[BorrowedFd<'_>],
    bounds: Bounds,
    user: Option<OwnedFd>,
    work: impl FnOnce(OwnedFd) -> i32,
) -> io::Result<Confined> {
    if !kernel::is_single_threaded() {
        return Err(io::Error::other("threads exist before the fork"));
    }
    let (socket, theirs) = seqpacket::pair()?;
    let parent = rustix::process::getpid();
    let pid = sys::process::fork(|| {
        let mut all = keep.to_vec();
        all.extend([root, theirs.as_fd()]);
        all.extend(user.iter().map(AsFd::as_fd));
        // SAFETY: this child never returns, and uses none of the values it inherited but these.
        let closed = unsafe { kernel::close_all_but(&all) };
        match closed.and_then(|()| confine(root, bounds, user.as_ref(), parent)) {
            Ok(()) => work(theirs),
            Err(_) => 125,
        }
    })?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok(Confined { pid, pidfd, socket })
}

fn confine(
    root: BorrowedFd<'_>,
    bounds: Bounds,
    user: Option<&OwnedFd>,
    parent: Pid,
) -> io::Result<()> {
    let limit = |resource, most: u64| {
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Data, bounds.memory)?;
    limit(Resource::Cpu, bounds.cpu.as_secs().max(1))?;
    limit(Resource::Nofile, bounds.descriptors)?;
    limit(Resource::Fsize, bounds.file)?;
    limit(Resource::Nproc, 0)?;
    rustix::process::fchdir(root)?;
    match user {
        None => {
            rustix::process::chroot(".")?;
            sys::process::become_user(NOBODY)?;
            keep_only(CapabilitySet::DAC_READ_SEARCH)?;
        }
        Some(namespace) => {
            let kind = Some(LinkNameSpaceType::User);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
            sys::process::become_user(0)?;
            rustix::process::chroot(".")?;
            keep_only(OWNER)?;
        }
    }
    // After the change of user, which clears it.
    kernel::end_with(parent)?;
    // The root directory is the working directory: a relative path stays in it.
    rustix::fs::accessat(CWD, ".", rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty())?;
    match user {
        None => sys::seccomp::allow_only(CALLS),
        Some(_) => sys::seccomp::allow_only(&[CALLS, MAKING].concat()),
    }
}
