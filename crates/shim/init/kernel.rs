//! The calls that `init` makes of the kernel, and what the C library would else have done for it.
//!
//! A call that was interrupted is made again: `init` has no signal handlers, but may be stopped.

use core::arch::asm;
use core::arch::global_asm;
use core::ffi::CStr;

/// A descriptor.
pub(crate) type Fd = i32;
/// A process, or a group of processes.
pub(crate) type Pid = i32;
/// Why a call failed.
pub(crate) type Errno = i32;

pub(crate) const EPERM: Errno = 1;
pub(crate) const ENOENT: Errno = 2;
const EINTR: Errno = 4;
pub(crate) const EBADF: Errno = 9;
pub(crate) const EAGAIN: Errno = 11;
pub(crate) const EACCES: Errno = 13;
pub(crate) const EEXIST: Errno = 17;
pub(crate) const ENOTDIR: Errno = 20;
pub(crate) const EISDIR: Errno = 21;
pub(crate) const EINVAL: Errno = 22;
pub(crate) const EMFILE: Errno = 24;
pub(crate) const EFBIG: Errno = 27;
pub(crate) const ENAMETOOLONG: Errno = 36;
const EPROTO: Errno = 71;
pub(crate) const ENOTSOCK: Errno = 88;
pub(crate) const EPROTOTYPE: Errno = 91;
pub(crate) const EAFNOSUPPORT: Errno = 97;
pub(crate) const EADDRINUSE: Errno = 98;
pub(crate) const EADDRNOTAVAIL: Errno = 99;
pub(crate) const ENETUNREACH: Errno = 101;
pub(crate) const ECONNABORTED: Errno = 103;
pub(crate) const ETIMEDOUT: Errno = 110;
pub(crate) const ECONNREFUSED: Errno = 111;
pub(crate) const EHOSTUNREACH: Errno = 113;
pub(crate) const EINPROGRESS: Errno = 115;

const AT_FDCWD: Fd = -100;
const O_CLOEXEC: i32 = 0o2_000_000;
const O_NONBLOCK: i32 = 0o4_000;
const FD_CLOEXEC: i32 = 1;
const F_SETFD: i32 = 2;
const SIGCHLD: u32 = 17;
const SIGNALS: u32 = 64;
const SIGNAL_SET: usize = 8;
const SIG_SETMASK: i32 = 2;
const WNOHANG: i32 = 1;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const MSG_CTRUNC: i32 = 0x8;
const MSG_TRUNC: i32 = 0x20;
const MSG_NOSIGNAL: i32 = 0x4000;
const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
const TIOCSCTTY: usize = 0x540e;
const PR_SET_DUMPABLE: usize = 4;
const PR_SET_NAME: usize = 15;
const PR_SET_CHILD_SUBREAPER: usize = 36;
const CLOSE_RANGE_CLOEXEC: usize = 4;
const MAX_FDS: usize = 3;

/// Declares the numbers of system calls: on x86-64, and on all later architectures.
macro_rules! calls {
    ($($name:ident = $x86_64:literal, $later:literal;)*) => {
        $(const $name: usize = if cfg!(target_arch = "x86_64") { $x86_64 } else { $later };)*
    };
}

pub(crate) mod files;
pub(crate) mod sockets;

calls! {
    READ = 0, 63;
    WRITE = 1, 64;
    CLOSE = 3, 57;
    RT_SIGACTION = 13, 134;
    RT_SIGPROCMASK = 14, 135;
    IOCTL = 16, 29;
    SENDTO = 44, 206;
    RECVMSG = 47, 212;
    CLONE = 56, 220;
    EXECVE = 59, 221;
    WAIT4 = 61, 260;
    KILL = 62, 129;
    FCNTL = 72, 25;
    CHDIR = 80, 49;
    UMASK = 95, 166;
    SETSID = 112, 157;
    PRCTL = 157, 167;
    EXIT_GROUP = 231, 94;
    SIGNALFD4 = 289, 74;
    DUP3 = 292, 24;
    PIPE2 = 293, 59;
    CLOSE_RANGE = 436, 436;
}

// What `init` runs through until it waits stands far from the rest, so that the kernel, which maps
// what lies around a page that is touched, maps nothing else of a sandbox that waits. Whatever is
// missing there, or put elsewhere by a linker, costs memory and no more.
global_asm!(".pushsection .text.far,\"axR\",@progbits", ".balign 65536", ".word 0", ".popsection");
#[cfg(target_arch = "x86_64")]
global_asm!(".pushsection .waiting,\"ax\",@progbits", ".balign 65536", ".globl _start", "_start:",
    "xor %ebp, %ebp", "and $-16, %rsp", "call {main}", "ud2", ".popsection",
    main = sym start, options(att_syntax));
#[cfg(target_arch = "aarch64")]
global_asm!(".pushsection .waiting,\"ax\",@progbits", ".balign 65536", ".globl _start", "_start:",
    "mov x29, #0", "mov x30, #0", "bl {main}", ".popsection", main = sym start);
#[cfg(target_arch = "riscv64")]
global_asm!(".pushsection .waiting,\"ax\",@progbits", ".balign 65536", ".globl _start", "_start:",
    ".option push", ".option norelax", "la gp, __global_pointer$", ".option pop",
    "andi sp, sp, -16", "call {main}", ".popsection", main = sym start);

#[unsafe(link_section = ".waiting")]
extern "C" fn start() -> ! {
    exit(crate::main())
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(70)
}

/// Makes a system call.
///
/// # Safety
/// As the call itself: pointers among the arguments are valid for what it does with them.
unsafe fn call(number: usize, arguments: [usize; 5]) -> Result<usize, Errno> {
    let [a, b, c, d, e] = arguments;
    loop {
        let returned: isize;
        // SAFETY: the caller answers for the arguments; the clobbers are those of the architecture.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            asm!("syscall", inlateout("rax") number => returned, in("rdi") a, in("rsi") b,
                in("rdx") c, in("r10") d, in("r8") e, in("r9") 0, lateout("rcx") _,
                lateout("r11") _, options(nostack));
            #[cfg(target_arch = "aarch64")]
            asm!("svc 0", in("x8") number, inlateout("x0") a => returned, in("x1") b, in("x2") c,
                in("x3") d, in("x4") e, in("x5") 0, options(nostack));
            #[cfg(target_arch = "riscv64")]
            asm!("ecall", in("a7") number, inlateout("a0") a => returned, in("a1") b, in("a2") c,
                in("a3") d, in("a4") e, in("a5") 0, options(nostack));
        }
        match usize::try_from(returned) {
            Ok(value) => return Ok(value),
            Err(_) if returned == -(EINTR as isize) => {}
            Err(_) => return Err(i32::try_from(-returned).unwrap_or(EINVAL)),
        }
    }
}

/// Makes a system call without pointers.
fn plain(number: usize, arguments: [usize; 5]) -> Result<usize, Errno> {
    // SAFETY: numbers and descriptors cannot violate memory safety in the calls made here.
    unsafe { call(number, arguments) }
}

/// A possibly negative number as an argument.
fn word(number: i32) -> usize {
    number as isize as usize
}

pub(crate) fn exit(status: i32) -> ! {
    loop {
        let _never = plain(EXIT_GROUP, [word(status), 0, 0, 0, 0]);
    }
}

pub(crate) fn fork() -> Result<Pid, Errno> {
    plain(CLONE, [SIGCHLD as usize, 0, 0, 0, 0]).map(|pid| pid as Pid)
}

pub(crate) fn close(fd: Fd) {
    let _closed = plain(CLOSE, [word(fd), 0, 0, 0, 0]);
}

#[unsafe(link_section = ".waiting")]
pub(crate) fn close_on_exec(fd: Fd) -> Result<(), Errno> {
    plain(FCNTL, [word(fd), word(F_SETFD), word(FD_CLOEXEC), 0, 0]).map(drop)
}

pub(crate) fn close_on_exec_from(first: Fd) {
    let last = u32::MAX as usize;
    let _done = plain(CLOSE_RANGE, [word(first), last, CLOSE_RANGE_CLOEXEC, 0, 0]);
}

pub(crate) fn close_from(first: Fd) -> Result<(), Errno> {
    plain(CLOSE_RANGE, [word(first), u32::MAX as usize, 0, 0, 0]).map(drop)
}

pub(crate) fn place(fd: Fd, target: Fd) -> Result<(), Errno> {
    plain(DUP3, [word(fd), word(target), 0, 0, 0]).map(drop)
}

pub(crate) fn umask(mask: usize) {
    let _before = plain(UMASK, [mask, 0, 0, 0, 0]);
}

pub(crate) fn set_undumpable() -> Result<(), Errno> {
    plain(PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0]).map(drop)
}

pub(crate) fn become_subreaper() -> Result<(), Errno> {
    plain(PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0]).map(drop)
}

#[unsafe(link_section = ".waiting")]
pub(crate) fn set_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the string outlives the call.
    unsafe { call(PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

pub(crate) fn new_session() -> Result<(), Errno> {
    plain(SETSID, [0; 5]).map(drop)
}

pub(crate) fn take_terminal(fd: Fd) -> Result<(), Errno> {
    plain(IOCTL, [word(fd), TIOCSCTTY, 0, 0, 0]).map(drop)
}

/// Signals a group. `group` is above 1: neither ourselves nor everybody.
pub(crate) fn kill_group(group: Pid, signal: i32) {
    let _gone = plain(KILL, [word(-group), word(signal), 0, 0, 0]);
}

/// `path` ends with a zero.
pub(crate) fn chdir(path: &[u8]) -> Result<(), Errno> {
    // SAFETY: the string outlives the call.
    unsafe { call(CHDIR, [path.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Comes back only with the reason why it could not. `file` ends with a zero, the lists with a null.
pub(crate) fn execute(file: &[u8], argv: *const *const u8, env: *const *const u8) -> Errno {
    // SAFETY: strings and lists outlive the call.
    let done = unsafe { call(EXECVE, [file.as_ptr() as usize, argv as usize, env as usize, 0, 0]) };
    done.err().unwrap_or(EINVAL)
}

/// Two ends of a pipe, to read from and to write to.
pub(crate) fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    unsafe { call(PIPE2, [ends.as_mut_ptr() as usize, word(O_CLOEXEC), 0, 0, 0]) }?;
    Ok((ends[0], ends[1]))
}

pub(crate) fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer outlives the call and its length is given.
    unsafe { call(READ, [word(fd), buffer.as_mut_ptr() as usize, buffer.len(), 0, 0]) }
}

pub(crate) fn write(fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer outlives the call and its length is given.
    unsafe { call(WRITE, [word(fd), bytes.as_ptr() as usize, bytes.len(), 0, 0]) }
}

/// Reads until the buffer is full, and says how much there was before the end.
pub(crate) fn read_all(fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(room) = buffer.get_mut(done..).filter(|room| !room.is_empty()) {
        match read(fd, room)? {
            0 => break,
            length => done += length,
        }
    }
    Ok(done)
}

/// Writes everything.
pub(crate) fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = write(fd, bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Reads the beginning of a file.
pub(crate) fn read_file(path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let fd = files::open(path, 0, 0)?;
    let length = read_all(fd, buffer);
    close(fd);
    length
}

/// Sends one message, waiting until there is room.
#[unsafe(link_section = ".waiting")]
pub(crate) fn send(fd: Fd, message: &[u8]) -> Result<(), Errno> {
    let (start, length) = (message.as_ptr() as usize, message.len());
    // SAFETY: the buffer outlives the call and its length is given.
    unsafe { call(SENDTO, [word(fd), start, length, word(MSG_NOSIGNAL), 0]) }.map(drop)
}

/// Blocks every signal: the kernel keeps them from process 1 alone. Gives a descriptor that becomes
/// readable when a child has ended.
#[unsafe(link_section = ".waiting")]
pub(crate) fn child_ends() -> Result<Fd, Errno> {
    set_mask(&u64::MAX)?;
    let set: u64 = 1 << (SIGCHLD - 1);
    let flags = O_CLOEXEC | O_NONBLOCK;
    let arguments = [word(-1), &raw const set as usize, SIGNAL_SET, word(flags), 0];
    // SAFETY: the set outlives the call and its size is given.
    unsafe { call(SIGNALFD4, arguments) }.map(|fd| fd as Fd)
}

/// Reads a non-blocking descriptor until nothing is left.
pub(crate) fn drain(fd: Fd) {
    let mut drained = [0; 128];
    while read(fd, &mut drained).is_ok_and(|length| length > 0) {}
}

/// Gives every signal its default action and blocks none.
pub(crate) fn reset_signals() -> Result<(), Errno> {
    // `struct sigaction` of the kernel: handler, flags, restorer, mask; zero is the default action.
    let default = [0usize; 4];
    for signal in 1..=SIGNALS {
        let arguments = [signal as usize, default.as_ptr() as usize, 0, SIGNAL_SET, 0];
        // SAFETY: the structure outlives the call. Two signals refuse; that is how they should be.
        let _set = unsafe { call(RT_SIGACTION, arguments) };
    }
    set_mask(&0)
}

#[unsafe(link_section = ".waiting")]
fn set_mask(set: &u64) -> Result<(), Errno> {
    let arguments = [word(SIG_SETMASK), core::ptr::from_ref(set) as usize, 0, SIGNAL_SET, 0];
    // SAFETY: the set outlives the call and its size is given.
    unsafe { call(RT_SIGPROCMASK, arguments) }.map(drop)
}

/// A child that has ended, and its wait status.
pub(crate) fn collect() -> Option<(Pid, i32)> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    let pid = unsafe { call(WAIT4, [word(-1), &raw mut status as usize, word(WNOHANG), 0, 0]) };
    pid.ok().filter(|pid| *pid > 0).map(|pid| (pid as Pid, status))
}

/// Descriptors that came with a message; closed when this is dropped.
pub(crate) struct Received {
    fds: [Fd; MAX_FDS],
    count: usize,
}

impl Received {
    pub(crate) fn as_slice(&self) -> &[Fd] {
        self.fds.get(..self.count).unwrap_or_default()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.as_slice().iter().for_each(|fd| close(*fd));
    }
}

/// Receives one whole message, with its descriptors, close-on-exec.
pub(crate) fn receive(fd: Fd, buffer: &mut [u8]) -> Result<(usize, Received), Errno> {
    #[repr(C)]
    struct Part {
        start: *mut u8,
        length: usize,
    }
    #[repr(C)]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        // One more than can come, for the kernel's alignment.
        fds: [Fd; MAX_FDS + 1],
    }
    #[repr(C)]
    struct Header {
        name: usize,
        name_length: u32,
        parts: *mut Part,
        part_count: usize,
        control: *mut Control,
        control_length: usize,
        flags: i32,
    }
    let mut part = Part { start: buffer.as_mut_ptr(), length: buffer.len() };
    let mut control = Control { length: 0, level: 0, kind: 0, fds: [-1; MAX_FDS + 1] };
    let mut header = Header {
        name: 0,
        name_length: 0,
        parts: &raw mut part,
        part_count: 1,
        control: &raw mut control,
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let arguments = [word(fd), &raw mut header as usize, word(MSG_CMSG_CLOEXEC), 0, 0];
    // SAFETY: every pointer of the header refers to a live buffer of the length given.
    let length = unsafe { call(RECVMSG, arguments) }?;
    let mut received = Received { fds: [-1; MAX_FDS], count: 0 };
    if header.control_length > 0 && (control.level, control.kind) == (SOL_SOCKET, SCM_RIGHTS) {
        let bytes = control.length.saturating_sub(size_of::<usize>() + 2 * size_of::<i32>());
        received.count = (bytes / size_of::<Fd>()).min(MAX_FDS);
        received.fds.iter_mut().zip(control.fds).for_each(|(to, from)| *to = from);
    }
    match header.flags & (MSG_TRUNC | MSG_CTRUNC) {
        0 => Ok((length, received)),
        _ => Err(EPROTO),
    }
}

/// What compiled code expects of a C library.
mod library {
    /// Referred to because `core` was compiled for unwinding; nothing unwinds here.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    #[unsafe(no_mangle)]
    #[unsafe(link_section = ".waiting")]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        for index in 0..length {
            // SAFETY: the caller answers for both ranges.
            unsafe { *to.add(index) = *from.add(index) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        if to.cast_const() <= from {
            // SAFETY: forwards, what is overwritten has been read.
            return unsafe { memcpy(to, from, length) };
        }
        for index in (0..length).rev() {
            // SAFETY: the caller answers for both ranges.
            unsafe { *to.add(index) = *from.add(index) };
        }
        to
    }

    #[unsafe(no_mangle)]
    #[unsafe(link_section = ".waiting")]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
        for index in 0..length {
            // SAFETY: the caller answers for the range.
            unsafe { *to.add(index) = byte as u8 };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
        for index in 0..length {
            // SAFETY: the caller answers for both ranges.
            let (one, other) = unsafe { (*one.add(index), *other.add(index)) };
            if one != other {
                return i32::from(one) - i32::from(other);
            }
        }
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
        // SAFETY: as ours.
        unsafe { memcmp(one, other, length) }
    }
}
