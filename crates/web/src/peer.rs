//! Who is at the other end of a connection, before anybody has said anything.

use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use tokio::net::UnixStream;

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Somebody on a network.
    Net(SocketAddr),
    /// At the local socket: root, or the gateway's user.
    Local {
        /// Its user id.
        uid: u32,
    },
    /// At the local socket: anybody else, and why that is so.
    Stranger(&'static str),
}

impl Peer {
    /// The user id at the local socket.
    pub(crate) fn uid(&self) -> Option<u32> {
        match self {
            Self::Local { uid } => Some(*uid),
            Self::Net(_) | Self::Stranger(_) => None,
        }
    }

    /// The address; that of this machine at the local socket.
    pub(crate) fn ip(&self) -> IpAddr {
        match self {
            Self::Net(address) => address.ip().to_canonical(),
            Self::Local { .. } | Self::Stranger(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// Who connected to the local socket, as the kernel has it.
    pub(crate) fn of(stream: &UnixStream) -> Self {
        let Ok(credentials) = stream.peer_cred() else {
            return Self::Stranger("the system does not say who you are");
        };
        let me = rustix::process::geteuid().as_raw();
        judge(credentials.uid(), credentials.pid(), me)
    }
}

/// Root and the gateway's own user are trusted, unless they are inside a session: where the gateway
/// is not root, its sandboxes run under its own user id.
fn judge(uid: u32, pid: Option<i32>, me: u32) -> Peer {
    if uid != 0 && uid != me {
        return Peer::Stranger("only root and the gateway's user may ask here");
    }
    // A process of root's cannot be inside: there it would have another id out here.
    if uid != 0 && pid.is_none_or(is_inside) {
        return Peer::Stranger("not from inside a session");
    }
    Peer::Local { uid }
}

/// Whether a process is in a pid namespace below ours. Best effort: the process may have ended and
/// its number been given away since it connected.
fn is_inside(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_none_or(|numbers| numbers.split_whitespace().count() != 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_gateways_user_are_trusted() {
        let own = i32::try_from(std::process::id()).ok();
        assert_eq!(judge(0, own, 990), Peer::Local { uid: 0 });
        assert_eq!(judge(990, own, 990), Peer::Local { uid: 990 });
        assert!(matches!(judge(1000, own, 990), Peer::Stranger(_)));
        assert!(matches!(judge(990, None, 990), Peer::Stranger(_)), "nobody knows where it is");
        assert!(matches!(judge(1_879_048_192, own, 990), Peer::Stranger(_)), "a prisoner");
    }
}
