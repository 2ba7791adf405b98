//! Who is at the other end of a connection, before anybody has said anything.

use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use tokio::net::UnixStream;

/// The command line of the process that all of a session on a runner of this machine is below, as the
/// runner starts it.
const WARDEN: &[u8] = b"/proc/self/exe\0warden\0";

/// Nobody has so many processes above.
const DEEPEST: usize = 4096;

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

/// Root and the gateway's own user are trusted, unless they are inside a session: where nobody is root, a
/// runner on this machine may be the gateway's user's own, and so are its sessions.
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

/// Whether a process is in a session: in a pid namespace below ours, or below a warden. Best effort: the
/// process may have ended and its number been given away since it connected.
fn is_inside(pid: i32) -> bool {
    let numbers = status(pid, "NSpid:");
    numbers.is_none_or(|numbers| numbers.split_whitespace().count() != 1) || is_below_a_warden(pid)
}

fn is_below_a_warden(pid: i32) -> bool {
    let (mut child, mut above) = (pid, pid);
    for _ in 0..DEEPEST {
        if fs::read(format!("/proc/{above}/cmdline")).is_ok_and(|line| line == WARDEN) {
            return true;
        }
        (child, above) = match parent(above) {
            Some(0) => return false,
            Some(next) => (above, next),
            // It is gone, and its child has another one now; or it is hidden, which none of ours is.
            None => match parent(child) {
                Some(next) if next != above => (child, next),
                _ => return false,
            },
        };
    }
    true
}

fn parent(pid: i32) -> Option<i32> {
    status(pid, "PPid:")?.trim().parse().ok()
}

/// A line of what the kernel says of a process.
fn status(pid: i32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::io::BufReader;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::process::Stdio;

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

    #[test]
    fn what_is_below_a_warden_is_inside() {
        let directory = tempfile::tempdir().unwrap();
        // A shell that is called what a warden is, and below it one that says who it is.
        std::fs::write(directory.path().join("warden"), "sh -c 'echo $$; cat; :'; :\n").unwrap();
        let mut warden = Command::new("/bin/sh")
            .arg0("/proc/self/exe")
            .arg("warden")
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(warden.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let below = line.trim().parse().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let seen = (is_inside(below), is_inside(own));
        // The end of what it reads is its own.
        drop(warden.stdin.take());
        warden.wait().unwrap();
        assert_eq!(seen, (true, false));
    }
}
