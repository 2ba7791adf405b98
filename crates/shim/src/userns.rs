//! User namespaces that nobody lives in: a map of ids, held by a descriptor.

use std::fs;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use rustix::thread::UnshareFlags;

use crate::native::IdRange;
use crate::sys;

/// A user namespace in which the ids from `inside` on are those of `ids`. The caller has one thread.
pub(crate) fn make(inside: u32, ids: IdRange) -> io::Result<OwnedFd> {
    let (ready, child_ready) = io::pipe()?;
    let child = sys::process::fork(|| {
        let _set = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        let made = sys::process::unshare(UnshareFlags::NEWUSER);
        drop(child_ready);
        if made.is_ok() {
            rustix::event::pause();
        }
        1
    })?;
    // Its end tells that the namespace is there; the writes below fail if it could not be made.
    let _end = (&ready).read(&mut [0])?;
    let process = format!("/proc/{}", child.as_raw_nonzero());
    let map = format!("{inside} {} {}", ids.start, ids.count);
    let namespace = ["uid_map", "gid_map"]
        .iter()
        .try_for_each(|file| fs::write(format!("{process}/{file}"), &map))
        .and_then(|()| fs::File::open(format!("{process}/ns/user")));
    rustix::process::kill_process(child, Signal::KILL)?;
    loop {
        match rustix::process::waitid(WaitId::Pid(child), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            Ok(_) | Err(Errno::CHILD) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(namespace?.into())
}
