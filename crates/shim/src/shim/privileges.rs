//! What a shim keeps of root once its sandbox is built: killing what is in it, and owning its files.
//!
//! A seccomp filter of its own may come on top.

use std::io;

use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;

/// Gives up every capability but the one to signal processes of other users, which the prisoners'
/// are; no program it could execute gets one back. It stays user 0, who owns the directories and
/// control groups it works in.
pub(super) fn drop_all_but_kill() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    // Without root there may be none: prisoners are processes of our own user then.
    let kept = rustix::thread::capabilities(None)?.permitted & CapabilitySet::KILL;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}
