//! A place in a sandbox that another shim holds, for sessions that share one.
//!
//! ```text
//!   holder's shim ── socket ── init (process 1)
//!                                └ fork: another init ── socket ── this session's shim
//!                                          └ this session's programs, in a control group of their own
//! ```
//!
//! The holder's `init` forks another one of itself for each session. Before that one is told anything
//! it is put into a control group below the sandbox's, which all of the session's programs inherit: so
//! the session ends with all of its own and with nothing of the others'.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::PidfdFlags;
use serde::Deserialize;
use serde::Serialize;

use crate::cgroup::Cgroup;
use crate::error::At;
use crate::error::BuildError;
use crate::error::Stage;
use crate::init_link::InitLink;
use crate::sandbox::Deadline;
use crate::sandbox::Parts;
use crate::sandbox::Sandbox;
use crate::sandbox::has_ended;
use crate::seqpacket;

/// Which place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The sandbox's id.
    pub sandbox: String,
    /// The cgroup that holds those of all sandboxes, a plain name.
    pub cgroup_parent: String,
    /// A number that no other place in this sandbox ever had.
    pub number: u32,
}

impl Place {
    /// The id of what is taken: the sandbox's, and the number in it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.{}", self.sandbox, self.number)
    }
}

/// The sandbox of an id, and the number of the place in it, if it is one's.
#[must_use]
pub fn parts(id: &str) -> (&str, Option<&str>) {
    id.split_once('.').map_or((id, None), |(sandbox, number)| (sandbox, Some(number)))
}

/// Takes the place: `fds` are the socket to its `init`, made with [`socket`], and the sandbox's `ptmx`.
pub(crate) fn join(
    place: &Place,
    fds: Vec<OwnedFd>,
    timeout: Duration,
) -> Result<Sandbox, BuildError> {
    let stage = Stage::Init;
    let failed = |message: &str| BuildError { stage, message: message.to_owned() };
    let [socket, ptmx] =
        <[OwnedFd; 2]>::try_from(fds).map_err(|_| failed("a place without its descriptors"))?;
    let deadline = Deadline::after(timeout);
    if !deadline.wait(&[socket.as_fd()]).at(stage, "waiting for it")? {
        return Err(failed("not ready in time"));
    }
    // Its message is left in the socket for the link, which checks what it says.
    let pid = seqpacket::next_sender(&socket)
        .at(stage, "who it is")?
        .ok_or_else(|| failed("it does not say who it is"))?;
    rustix::net::sockopt::set_socket_passcred(&socket, false).at(stage, "socket to init")?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).at(stage, "holding it")?;
    let whole = Cgroup::find(&place.cgroup_parent, &place.sandbox).at(stage, "its cgroup")?;
    // The number may have been given to somebody else: only what is held and in there is it.
    if !whole.holds(pid) || has_ended(pidfd.as_fd()) {
        return Err(failed("it is not in its sandbox"));
    }
    let cgroup = whole.below(&place.number.to_string(), pid).at(stage, "its own cgroup")?;
    let link = InitLink::new(socket).at(stage, "socket to init")?;
    let mut sandbox = Sandbox::new(Parts { pid, pidfd, link, ptmx, cgroup, layers: None });
    match sandbox.wait_until_ready(&deadline) {
        Ok(()) => Ok(sandbox),
        Err(message) => {
            sandbox.kill();
            let _left = sandbox.release();
            Err(BuildError { stage, message })
        }
    }
}

/// A socket pair for a place: the shim's end, on which whoever speaks is named by the kernel, and the
/// end for `init`.
///
/// # Errors
/// The system's.
pub fn socket() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = seqpacket::pair()?;
    rustix::net::sockopt::set_socket_passcred(&ours, true)?;
    Ok((ours, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_speaks_is_named() {
        let (ours, theirs) = socket().unwrap();
        seqpacket::send(&theirs, b"ready", &[]).unwrap();
        assert_eq!(seqpacket::next_sender(&ours).unwrap(), Some(rustix::process::getpid()));
        let mut buf = [0; 8];
        assert_eq!(seqpacket::recv(&ours, &mut buf).unwrap().len, 5, "it is still there");
    }

    #[test]
    fn a_stranger_gets_no_place() {
        let (ours, theirs) = socket().unwrap();
        seqpacket::send(&theirs, b"ready", &[]).unwrap();
        let ptmx = std::fs::File::open("/dev/null").unwrap().into();
        let place = Place {
            sandbox: "s0-0".to_owned(),
            cgroup_parent: "sojourn-nobody".to_owned(),
            number: 1,
        };
        let error = join(&place, vec![ours, ptmx], Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.message, "it is not in its sandbox");
    }
}
