//! Process 1 of every sandbox: starts programs, reaps everything, reports how programs ended.
//!
//! One file on `std` alone, linked statically and carried into the sandbox without a path. It owns
//! nothing worth taking: terminals and pipes are made outside and arrive as open descriptors; none
//! is ever sent back. It speaks over one inherited socket (see `src/init_link/wire.rs`, the other
//! side of this protocol) and ends, and the sandbox with it, when that socket closes.

#![no_main]

use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_long;
use std::ffi::c_short;
use std::ffi::c_uint;
use std::ffi::c_ulong;
use std::ffi::c_void;
use std::ptr::null;
use std::ptr::null_mut;

/// Raised when either side of the protocol changes.
const VERSION: u8 = 1;
/// The socket to the shim: the one descriptor kept across the exec.
const SHIM: c_int = 3;
/// Programs that may run as leaders of a channel at a time; more are refused with `EAGAIN`.
const MAX_CHANNELS: usize = 64;
/// The longest message.
const MAX_MESSAGE: usize = 64 * 1024;
/// A terminal comes as one descriptor, three pipe ends as three.
const MAX_FDS: usize = 3;

// shim -> init
const START: u8 = 1;
const SIGNAL: u8 = 2;
// init -> shim
const READY: u8 = 1;
const STARTED: u8 = 2;
const REFUSED: u8 = 3;
const EXITED: u8 = 4;

const FLAG_PTY: u8 = 1;
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The first process of a channel.
struct Leader {
    channel: u16,
    pid: c_int,
    pty: bool,
}

/// A program as a `START` message describes it.
struct Program {
    cwd: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
}

#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    let Some(children) = prepare() else { return 70 };
    let mut leaders: Vec<Leader> = Vec::with_capacity(MAX_CHANNELS);
    let mut buffer: Vec<u8> = Vec::with_capacity(MAX_MESSAGE);
    send(&[READY, VERSION]);
    loop {
        let mut fds = [
            PollFd { fd: SHIM, events: POLLIN, revents: 0 },
            PollFd { fd: children, events: POLLIN, revents: 0 },
        ];
        // SAFETY: `fds` outlives the call and its length is given.
        if unsafe { poll(fds.as_mut_ptr(), 2, -1) } < 0 {
            continue;
        }
        if fds[1].revents != 0 {
            reap(children, &mut leaders);
        }
        if fds[0].revents != 0 {
            let Some(received) = receive(&mut buffer) else { return 0 };
            obey(&buffer, received, &mut leaders);
        }
    }
}

/// Hides this process from the others, keeps its socket from children, and gives the descriptor
/// that becomes readable when a child ends.
fn prepare() -> Option<c_int> {
    let mut set = SigSet([0; 16]);
    set.0[0] = 1 << (SIGCHLD - 1);
    // SAFETY: plain calls; `set` and the name outlive them.
    unsafe {
        // Undumpable: nobody else inside may open our memory or descriptors through /proc.
        prctl(PR_SET_DUMPABLE, 0 as c_ulong);
        prctl(PR_SET_NAME, c"init".as_ptr());
        umask(0o022);
        if fcntl(SHIM, F_SETFD, FD_CLOEXEC) != 0 || sigprocmask(SIG_SETMASK, &set, null_mut()) != 0
        {
            return None;
        }
        let fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        (fd >= 0).then_some(fd)
    }
}

/// Descriptors that came with a message; closed when this is dropped.
struct Received {
    fds: [c_int; MAX_FDS],
    count: usize,
}

impl Drop for Received {
    fn drop(&mut self) {
        for fd in self.fds.iter().take(self.count) {
            // SAFETY: the descriptor was received for us and is closed once.
            unsafe { close(*fd) };
        }
    }
}

/// Reads one message into `buffer`. Nothing: the shim is gone, or sent what it never would.
fn receive(buffer: &mut Vec<u8>) -> Option<Received> {
    let mut received = Received { fds: [-1; MAX_FDS], count: 0 };
    let mut control = Control { len: 0, level: 0, kind: 0, fds: [-1; MAX_FDS + 1] };
    let mut iov = IoVec { base: buffer.as_mut_ptr().cast(), len: MAX_MESSAGE };
    let mut header = MsgHdr {
        name: null_mut(),
        name_len: 0,
        iov: &mut iov,
        iov_len: 1,
        control: (&raw mut control).cast(),
        control_len: size_of::<Control>(),
        flags: 0,
    };
    let length = loop {
        // SAFETY: every pointer in `header` refers to a live buffer of the given length.
        let got = unsafe { recvmsg(SHIM, &mut header, MSG_CMSG_CLOEXEC) };
        if got >= 0 || errno() != EINTR {
            break got;
        }
    };
    if length <= 0 || header.flags & (MSG_TRUNC | MSG_CTRUNC) != 0 {
        return None;
    }
    // SAFETY: the kernel wrote `length` bytes, at most the capacity.
    unsafe { buffer.set_len((length as usize).min(MAX_MESSAGE)) };
    if header.control_len > CONTROL_HEADER
        && control.level == SOL_SOCKET
        && control.kind == SCM_RIGHTS
    {
        let count = control.len.saturating_sub(CONTROL_HEADER) / size_of::<c_int>();
        for fd in control.fds.iter().take(count.min(MAX_FDS)) {
            received.fds[received.count] = *fd;
            received.count += 1;
        }
    }
    Some(received)
}

fn obey(message: &[u8], received: Received, leaders: &mut Vec<Leader>) {
    let mut input = Input(message);
    match (input.u8(), input.u16()) {
        (Some(START), Some(channel)) => match start(channel, &mut input, &received, leaders) {
            Ok(()) => send(&[STARTED, (channel >> 8) as u8, channel as u8]),
            Err(errno) => report(REFUSED, channel, errno),
        },
        (Some(SIGNAL), Some(channel)) => {
            if let (Some(signal), Some(leader)) =
                (input.u8(), leaders.iter().find(|leader| leader.channel == channel))
            {
                let group = if leader.pty { foreground(leader.pid) } else { leader.pid };
                // SAFETY: a plain call. `group` is above 1: never ourselves, never everybody.
                unsafe { kill(-group, c_int::from(signal)) };
            }
        }
        _ => {}
    }
}

fn start(
    channel: u16,
    input: &mut Input,
    received: &Received,
    leaders: &mut Vec<Leader>,
) -> Result<(), c_int> {
    if leaders.len() >= MAX_CHANNELS || leaders.iter().any(|leader| leader.channel == channel) {
        return Err(EAGAIN);
    }
    let pty = input.u8().ok_or(EINVAL)? & FLAG_PTY != 0;
    let program = input.program().ok_or(EINVAL)?;
    let stdio = match (pty, received.count) {
        (true, 1) => [received.fds[0]; 3],
        (false, 3) => received.fds,
        _ => return Err(EINVAL),
    };
    let pid = spawn(&program, stdio, pty)?;
    leaders.push(Leader { channel, pid, pty });
    Ok(())
}

/// Forks and executes; comes back when the program runs, or with the reason why it does not.
fn spawn(program: &Program, stdio: [c_int; 3], pty: bool) -> Result<c_int, c_int> {
    let argv = pointers(&program.argv);
    let env = pointers(&program.env);
    let candidates = candidates(program);
    let mut failure = [-1; 2];
    // SAFETY: `failure` has room for two descriptors.
    if unsafe { pipe2(failure.as_mut_ptr(), O_CLOEXEC) } != 0 {
        return Err(errno());
    }
    // SAFETY: this process has one thread; the child only makes calls until it executes or exits.
    let pid = unsafe { fork() };
    if pid == 0 {
        let reason = become_program(program, &candidates, &argv, &env, stdio, pty).to_ne_bytes();
        // SAFETY: plain calls on our own descriptor and buffer.
        unsafe {
            write(failure[1], reason.as_ptr().cast(), reason.len());
            _exit(127);
        }
    }
    let fork_error = if pid < 0 { Some(errno()) } else { None };
    let mut reason = [0u8; 4];
    // SAFETY: plain calls on our own descriptors; each is closed once.
    let got = unsafe {
        close(failure[1]);
        let got = loop {
            let got = read(failure[0], reason.as_mut_ptr().cast(), reason.len());
            if got >= 0 || errno() != EINTR {
                break got;
            }
        };
        close(failure[0]);
        got
    };
    match (fork_error, got) {
        (Some(error), _) => Err(error),
        (None, 4) => Err(i32::from_ne_bytes(reason)),
        (None, _) => Ok(pid),
    }
}

/// Turns the forked child into the program; comes back only with the reason why it could not.
fn become_program(
    program: &Program,
    candidates: &[CString],
    argv: &[*const c_char],
    env: &[*const c_char],
    stdio: [c_int; 3],
    pty: bool,
) -> c_int {
    // SAFETY: plain calls; all strings and arrays outlive them and end with a null.
    unsafe {
        setsid();
        if pty && ioctl(stdio[0], TIOCSCTTY, 0 as c_ulong) != 0 {
            return errno();
        }
        for (target, fd) in stdio.iter().enumerate() {
            if dup2(*fd, target as c_int) < 0 {
                return errno();
            }
        }
        for number in 1..=64 {
            signal(number, SIG_DFL);
        }
        sigprocmask(SIG_SETMASK, &SigSet([0; 16]), null_mut());
        // Everything above stderr goes at exec. All of it is close-on-exec already; this is the net.
        syscall(SYS_CLOSE_RANGE, 3 as c_ulong, c_ulong::from(c_uint::MAX), CLOSE_RANGE_CLOEXEC);
        if chdir(program.cwd.as_ptr()) != 0 {
            chdir(c"/".as_ptr());
        }
        let mut reason = ENOENT;
        for path in candidates {
            execve(path.as_ptr(), argv.as_ptr(), env.as_ptr());
            match errno() {
                ENOENT | ENOTDIR => {}
                // Another directory of PATH may hold one that may be executed.
                EACCES => reason = EACCES,
                other => return other,
            }
        }
        reason
    }
}

/// What to try to execute: the name itself if it holds a slash, else it in each directory of PATH.
fn candidates(program: &Program) -> Vec<CString> {
    let name = program.argv[0].as_bytes();
    if name.contains(&b'/') {
        return vec![program.argv[0].clone()];
    }
    let path = program.env.iter().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
    path.unwrap_or(DEFAULT_PATH)
        .split(|byte| *byte == b':')
        .filter_map(|directory| {
            let directory = if directory.is_empty() { b"." } else { directory };
            CString::new([directory, b"/", name].concat()).ok()
        })
        .collect()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([null()]).collect()
}

/// Collects every ended child, ours or inherited, and reports those that led a channel.
fn reap(children: c_int, leaders: &mut Vec<Leader>) {
    let mut drained = [0u8; 1024];
    // SAFETY: plain calls on our own descriptor and buffers.
    unsafe { while read(children, drained.as_mut_ptr().cast(), drained.len()) > 0 {} }
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { waitpid(-1, &mut status, WNOHANG) };
        if pid <= 0 {
            return;
        }
        if let Some(index) = leaders.iter().position(|leader| leader.pid == pid) {
            report(EXITED, leaders.swap_remove(index).channel, status);
        }
    }
}

/// The process group that has the terminal of `leader`'s session: the eighth field of its stat,
/// counted after the name, which may hold anything. The leader's own group when there is none.
fn foreground(leader: c_int) -> c_int {
    let group = std::fs::read(format!("/proc/{leader}/stat")).ok().and_then(|stat| {
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let field = stat.get(name_end + 1..)?.split(|byte| *byte == b' ').nth(6)?;
        std::str::from_utf8(field).ok()?.parse::<c_int>().ok()
    });
    group.filter(|group| *group > 1).unwrap_or(leader)
}

fn report(kind: u8, channel: u16, number: c_int) {
    let [a, b] = channel.to_be_bytes();
    let [c, d, e, f] = number.to_be_bytes();
    send(&[kind, a, b, c, d, e, f]);
}

/// Waits while the shim does not read. A failed send means that it is gone: the next receive ends us.
fn send(message: &[u8]) {
    loop {
        // SAFETY: the buffer outlives the call and its length is given.
        let sent = unsafe { sys_send(SHIM, message.as_ptr().cast(), message.len(), MSG_NOSIGNAL) };
        if sent >= 0 || errno() != EINTR {
            return;
        }
    }
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(EINVAL)
}

/// What is left of a message. Every read is checked against its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<CString> {
        let length = self.u16()?;
        CString::new(self.take(length.into())?).ok()
    }

    fn strings(&mut self) -> Option<Vec<CString>> {
        (0..self.u16()?).map(|_| self.string()).collect()
    }

    fn program(&mut self) -> Option<Program> {
        let (cwd, argv, env) = (self.string()?, self.strings()?, self.strings()?);
        (!argv.is_empty()).then_some(Program { cwd, argv, env })
    }
}

// The C library, as far as it is needed. The numbers are Linux's on x86-64, AArch64 and RISC-V.

const SIGCHLD: c_int = 17;
const SIG_DFL: usize = 0;
const SIG_SETMASK: c_int = 2;
const SFD_CLOEXEC: c_int = 0o2000000;
const SFD_NONBLOCK: c_int = 0o4000;
const O_CLOEXEC: c_int = 0o2000000;
const F_SETFD: c_int = 2;
const FD_CLOEXEC: c_int = 1;
const POLLIN: c_short = 1;
const WNOHANG: c_int = 1;
const SOL_SOCKET: c_int = 1;
const SCM_RIGHTS: c_int = 1;
const MSG_TRUNC: c_int = 0x20;
const MSG_CTRUNC: c_int = 0x8;
const MSG_NOSIGNAL: c_int = 0x4000;
const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
const TIOCSCTTY: c_ulong = 0x540e;
const PR_SET_DUMPABLE: c_int = 4;
const PR_SET_NAME: c_int = 15;
const SYS_CLOSE_RANGE: c_long = 436;
const CLOSE_RANGE_CLOEXEC: c_ulong = 4;
const ENOENT: c_int = 2;
const EINTR: c_int = 4;
const EAGAIN: c_int = 11;
const EACCES: c_int = 13;
const ENOTDIR: c_int = 20;
const EINVAL: c_int = 22;

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

#[repr(C)]
struct SigSet([u64; 16]);

#[repr(C)]
struct IoVec {
    base: *mut c_void,
    len: usize,
}

#[repr(C)]
struct MsgHdr {
    name: *mut c_void,
    name_len: c_uint,
    iov: *mut IoVec,
    iov_len: usize,
    control: *mut c_void,
    control_len: usize,
    flags: c_int,
}

/// One control message with room for the descriptors, padded to the alignment the kernel uses.
#[repr(C)]
struct Control {
    len: usize,
    level: c_int,
    kind: c_int,
    fds: [c_int; MAX_FDS + 1],
}

const CONTROL_HEADER: usize = size_of::<usize>() + 2 * size_of::<c_int>();

unsafe extern "C" {
    fn _exit(status: c_int) -> !;
    fn chdir(path: *const c_char) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn dup2(old: c_int, new: c_int) -> c_int;
    fn execve(path: *const c_char, argv: *const *const c_char, env: *const *const c_char) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn fork() -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn pipe2(fds: *mut c_int, flags: c_int) -> c_int;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn read(fd: c_int, buffer: *mut c_void, length: usize) -> isize;
    fn recvmsg(fd: c_int, header: *mut MsgHdr, flags: c_int) -> isize;
    #[link_name = "send"]
    fn sys_send(fd: c_int, buffer: *const c_void, length: usize, flags: c_int) -> isize;
    fn setsid() -> c_int;
    fn signal(number: c_int, handler: usize) -> usize;
    fn signalfd(fd: c_int, mask: *const SigSet, flags: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const SigSet, old: *mut SigSet) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn umask(mask: c_uint) -> c_uint;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn write(fd: c_int, buffer: *const c_void, length: usize) -> isize;
}
