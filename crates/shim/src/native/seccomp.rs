//! The system calls a sandbox may make: an allow list. What is not on it fails with `EPERM`.
//!
//! Left out, among others: mounts, namespaces, tracing and reading other processes, `bpf`, keys,
//! `io_uring`, `userfaultfd`, performance counters, kernel modules, `kexec`, opening by handle,
//! quotas, swap, clocks. 32-bit system calls end the process.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::sync::OnceLock;

use libseccomp::ScmpAction;
use libseccomp::ScmpArgCompare;
use libseccomp::ScmpCompareOp;
use libseccomp::ScmpFilterContext;
use libseccomp::ScmpSyscall;
use libseccomp::error::SeccompError;
use rustix::fs::MemfdFlags;
use serde_json::Value;
use serde_json::json;

const ALLOW: &str = "SCMP_ACT_ALLOW";
const EQUAL: &str = "SCMP_CMP_EQ";
const MASKED_EQUAL: &str = "SCMP_CMP_MASKED_EQ";
/// Bytes of a step of a filter's program.
const STEP: usize = size_of::<libc::sock_filter>();

/// Flags of `clone` that make namespaces.
const NAMESPACES: u64 = 0x7e02_0000;
/// `ioctl` requests that type into a terminal as if its user had.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
/// The kernel looks at this much of the request and no more; comparing more could be evaded.
const REQUEST: u64 = 0xffff_ffff;

const UNIX: u64 = 1;
const INET: u64 = 2;
const INET6: u64 = 10;
const NETLINK: u64 = 16;

/// Execution domains: native, 32-bit `uname`, the 2.6 version number, both, and asking.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The filter, as a container's description has it.
pub(super) fn filter() -> Value {
    let mut rules = vec![
        json!({ "names": ALLOWED, "action": ALLOW }),
        // Its flags lie in memory where no filter can look; the C library falls back to `clone`.
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
        allow("clone", masked(0, NAMESPACES, 0)),
        allow("socketpair", equal(0, UNIX)),
    ];
    rules.extend([UNIX, INET, INET6, NETLINK].map(|family| allow("socket", equal(0, family))));
    rules.extend(PERSONALITIES.map(|domain| allow("personality", equal(0, domain))));
    rules.extend(harmless_requests().map(|argument| allow("ioctl", argument)));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "syscalls": rules,
    })
}

/// The filter, as the kernel takes it. It is made once in a process and inherited by those it forks:
/// making it is a tenth of what making a sandbox costs.
pub(super) fn program() -> Result<&'static [libc::sock_filter], String> {
    static PROGRAM: OnceLock<Result<Vec<libc::sock_filter>, String>> = OnceLock::new();
    PROGRAM.get_or_init(translate).as_deref().map_err(Clone::clone)
}

fn translate() -> Result<Vec<libc::sock_filter>, String> {
    let filter = filter();
    let failed = |error: SeccompError| format!("system call filter: {error}");
    let default = ScmpAction::Errno(libc::EPERM);
    let mut context = ScmpFilterContext::new(default).map_err(failed)?;
    for rule in list(&filter["syscalls"]) {
        let action = match (rule["action"].as_str(), rule["errnoRet"].as_i64()) {
            (Some(ALLOW), None) => ScmpAction::Allow,
            (_, errno) => {
                ScmpAction::Errno(errno.and_then(|e| e.try_into().ok()).unwrap_or(libc::EPERM))
            }
        };
        let arguments: Vec<_> = list(&rule["args"]).map(comparison).collect();
        for name in list(&rule["names"]).filter_map(Value::as_str) {
            // What the machine's library does not know stays forbidden.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            context.add_rule_conditional(action, call, &arguments).map_err(failed)?;
        }
    }
    let bytes = exported(&context).map_err(|error| format!("system call filter: {error}"))?;
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let whole = rest.is_empty().then(|| steps.iter().map(step).collect());
    whole.ok_or_else(|| "system call filter: it is cut off".to_owned())
}

/// The program as the library writes it.
fn exported(context: &ScmpFilterContext) -> io::Result<Vec<u8>> {
    let memory = rustix::fs::memfd_create(c"filter", MemfdFlags::CLOEXEC)?;
    context.export_bpf(&memory).map_err(io::Error::other)?;
    let (mut file, mut bytes) = (File::from(memory), Vec::new());
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One step of a program, as it lies in memory.
fn step(&[c0, c1, jt, jf, k @ ..]: &[u8; STEP]) -> libc::sock_filter {
    libc::sock_filter { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes(k) }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn comparison(condition: &Value) -> ScmpArgCompare {
    let number = |key: &str| condition[key].as_u64().unwrap_or_default();
    let index = u32::try_from(number("index")).unwrap_or_default();
    match condition["op"].as_str() {
        Some(EQUAL) => ScmpArgCompare::new(index, ScmpCompareOp::Equal, number("value")),
        _ => {
            let operation = ScmpCompareOp::MaskedEqual(number("value"));
            ScmpArgCompare::new(index, operation, number("valueTwo"))
        }
    }
}

/// Conditions that together hold for every `ioctl` request but the two forbidden ones. A filter of
/// permissions cannot say "not": so either one of the bits that both share differs, or the last four
/// are one of the other fourteen values.
fn harmless_requests() -> impl Iterator<Item = Value> {
    let shared = (4..32).map(move |bit| masked(1, 1 << bit, !TIOCSTI & (1 << bit)));
    let neighbours = (0..16)
        .map(|low| TIOCSTI & !0xf | low)
        .filter(|request| ![TIOCSTI, TIOCLINUX].contains(request))
        .map(move |request| masked(1, REQUEST, request));
    shared.chain(neighbours)
}

fn allow(name: &str, argument: Value) -> Value {
    json!({ "names": [name], "action": ALLOW, "args": [argument] })
}

fn equal(index: u32, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": EQUAL })
}

/// The mask comes first.
fn masked(index: u32, mask: u64, value: u64) -> Value {
    json!({ "index": index, "value": mask, "valueTwo": value, "op": MASKED_EQUAL })
}

/// Allowed whatever the arguments. Names that the machine's library does not know are skipped.
#[rustfmt::skip]
const ALLOWED: &[&str] = &[
    "accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "cachestat", "capget",
    "capset", "chdir", "chmod", "chown", "clock_getres", "clock_gettime", "clock_nanosleep", "close",
    "close_range", "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create",
    "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "epoll_wait_old", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat",
    "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown",
    "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr",
    "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futex", "futex_requeue", "futex_wait",
    "futex_waitv", "futex_wake", "futimesat", "get_robust_list", "get_thread_area", "getcpu",
    "getcwd", "getdents", "getdents64", "getegid", "geteuid", "getgid", "getgroups", "getitimer",
    "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
    "getresgid", "getresuid", "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt",
    "gettid", "gettimeofday", "getuid", "getxattr", "getxattrat", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy", "io_getevents",
    "io_pgetevents", "io_setup", "io_submit", "ioprio_get", "ioprio_set", "kill",
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lgetxattr",
    "link", "linkat", "listen", "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lseek",
    "lsetxattr", "lstat", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "mincore",
    "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall", "mmap", "mprotect",
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink",
    "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall",
    "munmap", "nanosleep", "newfstatat", "open", "openat", "openat2", "pause", "pidfd_open",
    "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll",
    "ppoll", "prctl", "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease", "pselect6",
    "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
    "recvfrom", "recvmmsg", "recvmsg", "remap_file_pages", "removexattr", "removexattrat", "rename",
    "renameat", "renameat2", "restart_syscall", "riscv_flush_icache", "rmdir", "rseq",
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr",
    "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget",
    "semop", "semtimedop", "sendfile", "sendmmsg", "sendmsg", "sendto", "set_robust_list",
    "set_thread_area", "set_tid_address", "setfsgid", "setfsuid", "setgid", "setgroups", "setitimer",
    "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid", "setrlimit",
    "setsid", "setsockopt", "setuid", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget",
    "shutdown", "sigaltstack", "signalfd", "signalfd4", "splice", "stat", "statfs", "statx",
    "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time",
    "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime",
    "timerfd_create", "timerfd_gettime", "timerfd_settime", "times", "tkill", "truncate", "umask",
    "uname", "unlink", "unlinkat", "utime", "utimensat", "utimes", "vfork", "vmsplice", "wait4",
    "waitid", "write", "writev",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &Value, request: u64) -> bool {
        let number = |key: &str| condition[key].as_u64().expect("a number");
        request & number("value") == number("valueTwo")
    }

    #[test]
    fn every_request_but_two_is_harmless() {
        let allowed = |request| harmless_requests().any(|condition| holds(&condition, request));
        for request in 0..0x1_0000 {
            assert_eq!(allowed(request), request != TIOCSTI && request != TIOCLINUX, "{request:x}");
        }
        // The kernel ignores the upper half.
        assert!(!allowed(TIOCSTI | 1 << 32) && !allowed(TIOCLINUX | 1 << 63));
        assert!(allowed(TIOCSTI | 1 << 31));
    }

    /// What the kernel would answer to a call of this machine's own kind.
    fn answer(architecture: u32, call: libc::c_long, arguments: &[u64]) -> u32 {
        let mut data = Vec::new();
        data.extend(u32::try_from(call).unwrap().to_ne_bytes());
        data.extend(architecture.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        for index in 0..6 {
            data.extend(arguments.get(index).copied().unwrap_or(0).to_ne_bytes());
        }
        let (program, mut value, mut at) = (program().unwrap(), 0_u32, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = program[at];
            let code = u32::from(code);
            at += 1;
            let jump = |taken| usize::from(if taken { jt } else { jf });
            match code {
                _ if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    let bytes = &data[k as usize..][..4];
                    value = u32::from_ne_bytes(bytes.try_into().unwrap());
                }
                _ if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => value &= k,
                _ if code == libc::BPF_JMP | libc::BPF_JA => at += k as usize,
                _ if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at += jump(value == k),
                _ if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += jump(value >= k),
                _ if code == libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K => at += jump(value > k),
                _ if code == libc::BPF_RET | libc::BPF_K => return k,
                other => panic!("a step nobody knows: {other:#x}"),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_program_answers_as_the_filter_says() {
        const HERE: u32 = 0xc000_003e;
        const THIRTY_TWO_BITS: u32 = 0x4000_0003;
        let errno = |number: i32| libc::SECCOMP_RET_ERRNO | number.unsigned_abs();
        let (yes, no) = (libc::SECCOMP_RET_ALLOW, errno(libc::EPERM));
        let namespaces = libc::CLONE_NEWUSER as u64;
        for (call, arguments, expected) in [
            (libc::SYS_read, &[][..], yes),
            (libc::SYS_execveat, &[], yes),
            (libc::SYS_writev, &[u64::MAX; 6], yes),
            (libc::SYS_mount, &[], no),
            (libc::SYS_ptrace, &[], no),
            (libc::SYS_bpf, &[], no),
            (libc::SYS_unshare, &[namespaces], no),
            (libc::SYS_clone3, &[], errno(libc::ENOSYS)),
            (libc::SYS_clone, &[17], yes),
            (libc::SYS_clone, &[namespaces | 17], no),
            (libc::SYS_socketpair, &[UNIX], yes),
            (libc::SYS_socketpair, &[INET], no),
            (libc::SYS_socket, &[NETLINK], yes),
            (libc::SYS_socket, &[17], no),
            (libc::SYS_personality, &[0xffff_ffff], yes),
            (libc::SYS_personality, &[0x4_0000], no),
            (libc::SYS_ioctl, &[0, 0x5401], yes),
            (libc::SYS_ioctl, &[0, TIOCSTI], no),
            (libc::SYS_ioctl, &[0, TIOCLINUX], no),
            (libc::SYS_ioctl, &[0, TIOCSTI | 1 << 32], no),
        ] {
            assert_eq!(answer(HERE, call, arguments), expected, "{call} {arguments:?}");
        }
        assert_eq!(answer(THIRTY_TWO_BITS, 3, &[]), libc::SECCOMP_RET_KILL_THREAD);
        assert_eq!(answer(HERE, 0x4000_0000, &[]), libc::SECCOMP_RET_KILL_THREAD, "x32");
    }
}
