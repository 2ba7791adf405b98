//! The real `sshd`, to hold ours against.
//!
//! It has namespaces of its own for mounts and processes: there its user exists, and with it everything
//! it started ends. Nothing of the machine is changed.

use std::fs;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::PATIENCE;
use crate::Peer;
use crate::Scratch;
use crate::until;

/// A user id that nothing else here has.
const UID: u32 = 65_433;

/// A running `sshd` with a user `alice` who has a key and an empty home.
#[derive(Debug)]
pub struct Sshd {
    scratch: Scratch,
    child: Child,
    port: u16,
}

impl Sshd {
    /// Starts one as Debian configures it, less passwords and PAM.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("PasswordAuthentication no\n", &[])
    }

    /// Starts one with the passwords and all the host keys that Debian's has, less PAM.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_as_debian_does() -> Self {
        let more = "PasswordAuthentication yes\nKbdInteractiveAuthentication no\n";
        Self::start_with(more, &["rsa", "ecdsa"])
    }

    fn start_with(more: &str, more_keys: &[&str]) -> Self {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name);
        let mut host_keys = String::new();
        let keys = more_keys.iter().map(|kind| (*kind, *kind));
        for (name, kind) in keys.chain([("host", "ed25519"), ("key", "ed25519")]) {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", kind, "-N", "", "-C", "test", "-f"])
                .arg(at(name))
                .status();
            assert!(made.expect("ssh-keygen").success());
            if name != "key" {
                host_keys += &format!("HostKey {}\n", at(name).display());
            }
        }
        let home = at("home");
        fs::create_dir(&home).expect("a home");
        std::os::unix::fs::chown(&home, Some(UID), Some(UID)).expect("its owner");
        fs::copy(at("key.pub"), at("authorized")).expect("a key");
        let users = fs::read_to_string("/etc/passwd").expect("users");
        let alice = format!("alice:*:{UID}:{UID}::{}:/bin/bash\n", home.display());
        scratch.file("passwd", users + &alice);
        // Free a moment ago; whoever takes it now makes the start fail, not a test.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let config = scratch.file(
            "config",
            format!(
                "Port {port}\nListenAddress 127.0.0.1\n{host_keys}{more}AuthorizedKeysFile {}\n\
                 UsePAM no\nStrictModes no\nAcceptEnv LANG LC_*\n\
                 Subsystem sftp /usr/lib/openssh/sftp-server\nPrintMotd no\nPidFile none\n\
                 MaxStartups 100\nLogLevel ERROR\n",
                at("authorized").display(),
            ),
        );
        let inside = format!(
            "mount --bind {} /etc/passwd && mount -t tmpfs tmpfs /run && mkdir -p /run/sshd && \
             exec /usr/sbin/sshd -D -e -f {}",
            at("passwd").display(),
            config.display(),
        );
        let log = fs::File::create(at("log")).expect("a log");
        let mut child = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "sh",
                "-c",
                &inside,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare");
        until("sshd", PATIENCE, || {
            let ended = child.try_wait().expect("its status");
            assert!(ended.is_none(), "{}", fs::read_to_string(at("log")).unwrap_or_default());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { scratch, child, port }
    }

    /// It for recipes.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::new(self.port, "alice", &self.scratch.path().join("key"))
    }

    /// The home of its user.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.scratch.path().join("home")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
