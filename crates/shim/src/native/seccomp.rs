//! The system calls a sandbox may make: an allow list. What is not on it fails with `EPERM`.
//!
//! Left out, among others: mounts, namespaces, tracing and reading other processes, `bpf`, keys,
//! `io_uring`, `userfaultfd`, performance counters, kernel modules, `kexec`, opening by handle,
//! quotas, swap, clocks. 32-bit system calls end the process.

use serde_json::Value;
use serde_json::json;

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

/// Whose description of a container the filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// libcontainer 0.7.0, which takes mask and value of a masked comparison the other way round (a
    /// filter for another runtime would forbid every `clone`). Tests from inside notice.
    Library,
    /// Everybody else: the mask comes first.
    Engine,
}

/// The filter, as the container's description has it.
pub(super) fn filter(reader: Reader) -> Value {
    let masked = |index, mask, value| masked(reader, index, mask, value);
    let mut rules = vec![
        json!({ "names": ALLOWED, "action": "SCMP_ACT_ALLOW" }),
        // Its flags lie in memory where no filter can look; the C library falls back to `clone`.
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
        allow("clone", masked(0, NAMESPACES, 0)),
        allow("socketpair", equal(0, UNIX)),
    ];
    rules.extend([UNIX, INET, INET6, NETLINK].map(|family| allow("socket", equal(0, family))));
    rules.extend(PERSONALITIES.map(|domain| allow("personality", equal(0, domain))));
    rules.extend(harmless_requests(reader).map(|argument| allow("ioctl", argument)));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "syscalls": rules,
    })
}

/// Conditions that together hold for every `ioctl` request but the two forbidden ones. A filter of
/// permissions cannot say "not": so either one of the bits that both share differs, or the last four
/// are one of the other fourteen values.
fn harmless_requests(reader: Reader) -> impl Iterator<Item = Value> {
    let masked = move |index, mask, value| masked(reader, index, mask, value);
    let shared = (4..32).map(move |bit| masked(1, 1 << bit, !TIOCSTI & (1 << bit)));
    let neighbours = (0..16)
        .map(|low| TIOCSTI & !0xf | low)
        .filter(|request| ![TIOCSTI, TIOCLINUX].contains(request))
        .map(move |request| masked(1, REQUEST, request));
    shared.chain(neighbours)
}

fn allow(name: &str, argument: Value) -> Value {
    json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument] })
}

fn equal(index: u32, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" })
}

fn masked(reader: Reader, index: u32, mask: u64, value: u64) -> Value {
    let (first, second) = match reader {
        Reader::Library => (value, mask),
        Reader::Engine => (mask, value),
    };
    json!({ "index": index, "value": first, "valueTwo": second, "op": "SCMP_CMP_MASKED_EQ" })
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
        let allowed =
            |request| harmless_requests(Reader::Engine).any(|condition| holds(&condition, request));
        for request in 0..0x1_0000 {
            assert_eq!(allowed(request), request != TIOCSTI && request != TIOCLINUX, "{request:x}");
        }
        // The kernel ignores the upper half.
        assert!(!allowed(TIOCSTI | 1 << 32) && !allowed(TIOCLINUX | 1 << 63));
        assert!(allowed(TIOCSTI | 1 << 31));
    }
}
