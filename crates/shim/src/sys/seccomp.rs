//! A list of the system calls that are left to a process of ours.

use std::io;

use super::check;

/// How the kernel names the calling convention that the numbers below belong to.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// Leaves this thread and what it starts nothing but `calls`; everything else answers `EPERM`. The
/// thread has given up gaining privileges, or has the right to do this anyway.
pub(crate) fn allow_only(calls: &[libc::c_long]) -> io::Result<()> {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut program = vec![
        step(load, ARCH, 0, 0),
        step(equal, ARCHITECTURE, 1, 0),
        step(answer, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        step(load, NUMBER, 0, 0),
    ];
    for call in calls {
        let number = u32::try_from(*call).map_err(io::Error::other)?;
        program.push(step(equal, number, 0, 1));
        program.push(step(answer, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    program.push(step(answer, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(), 0, 0));
    install(&program)
}

/// Leaves this thread and what it starts no more than a program says. The thread has given up gaining
/// privileges, or has the right to do this anyway.
pub(crate) fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        // The kernel only reads it.
        filter: program.as_ptr().cast_mut(),
    };
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: `filter` and the program it points to outlive the call.
    let returned = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) };
    check(returned).map(drop)
}
