//! From root to the gateway's user, for good.

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Uid;
use rustix::thread::CapabilitySet;

use super::account::Account;
use crate::failure::Failure;

/// Becomes `account`: no groups, no capabilities, and no way back through a set-uid program. The
/// process has one thread.
pub(crate) fn drop_to(account: Account) -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| {
        Failure::Refused(format!("privileges cannot be dropped: {error}"))
    };
    rustix::thread::set_thread_groups(&[]).map_err(failed)?;
    rustix::thread::set_thread_res_gid(account.gid, account.gid, account.gid).map_err(failed)?;
    rustix::thread::set_thread_res_uid(account.uid, account.uid, account.uid).map_err(failed)?;
    rustix::thread::set_no_new_privs(true).map_err(failed)?;
    let left = rustix::thread::capabilities(None).map_err(failed)?;
    let none = CapabilitySet::empty();
    if rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok()
        || left.effective != none
        || left.permitted != none
    {
        return Err(Failure::Refused("privileges were dropped, and are still there".to_owned()));
    }
    Ok(())
}

/// Stays who started it, who is not root: there is no way to more through a set-uid program.
pub(crate) fn gain_none() -> Result<(), Failure> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| Failure::Refused(format!("privileges cannot be given up: {error}")))
}

/// As many open files as the system lets us have: a person at the web door takes one, and so does the
/// session behind.
pub(crate) fn raise_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "no more open files than the usual");
    }
}
