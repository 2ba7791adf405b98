//! A network that a test has for itself, with an outside world in it.
//!
//! ```text
//!   the test's network namespace          the world's
//!     198.51.100.2 ────────────────────── 198.51.100.1   where the way out leads
//!     127.0.0.1                           203.0.113.5 10.9.9.9 192.168.7.7 169.254.169.254
//! ```
//!
//! Nothing in it reaches, or is reached from, any other network.

use std::io::BufRead;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::PATIENCE;
use crate::Scratch;
use crate::until;

/// Set in the process that is in a network of its own.
const INSIDE: &str = "SOJOURN_TEST_NETWORK";

/// Names that the host of the test knows.
const HOSTS: &str = "127.0.0.1 localhost\n203.0.113.5 shop.example\n10.9.9.9 inner.example\n";

/// What answers in the world: on every address, TCP at ports 80 and 8080 with a greeting, at 9000 with
/// four megabytes, at 9001 with the number of bytes it was sent; UDP at 53 as a resolver that knows
/// one address for all names.
const WORLD: &str = r#"
import socket, struct, subprocess, sys, threading
def ip(*words): subprocess.run(["ip", *words], check=True)
sys.stdin.readline()
ip("link", "set", "lo", "up")
ip("addr", "add", "198.51.100.1/24", "dev", "world")
ip("link", "set", "world", "up")
for address in ("203.0.113.5", "10.9.9.9", "192.168.7.7", "169.254.169.254"):
    ip("addr", "add", address + "/32", "dev", "lo")
def tcp(port, serve):
    listener = socket.create_server(("0.0.0.0", port), backlog=64)
    def one(client):
        try:
            with client: serve(client)
        except OSError: pass
    def run():
        while True: threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=run, daemon=True).start()
def greet(client): client.sendall(b"hello from %s %d\n" % (client.getsockname()[0].encode(), client.getsockname()[1]))
def give(client): client.sendall(b"x" * (4 << 20))
def take(client):
    count = 0
    while data := client.recv(65536): count += len(data)
    client.sendall(b"%d\n" % count)
tcp(80, greet); tcp(8080, greet); tcp(9000, give); tcp(9001, take)
resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
resolver.bind(("198.51.100.1", 53))
print("ready", flush=True)
while True:
    query, asker = resolver.recvfrom(512)
    end = query.index(b"\0", 12) + 5
    wants_v4 = query[end - 4:end - 2] == b"\0\1"
    head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if wants_v4 else b"\0\0") + b"\0\0\0\0"
    answer = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 60, 4) + socket.inet_aton("203.0.113.5")
    resolver.sendto(head + query[12:end] + (answer if wants_v4 else b""), asker)
"#;

/// A network with a world in it, as long as this lives.
#[derive(Debug)]
pub struct Network {
    world: Child,
    _files: Scratch,
}

impl Network {
    /// Runs the calling test again in a process with network and mounts of its own, where this gives
    /// the network; in the first process it gives none, once that went well. `test` is the test's
    /// name with its modules.
    ///
    /// # Panics
    /// When the test failed there.
    #[must_use]
    pub fn enter(test: &str) -> Option<Self> {
        alone(test).then(Self::make)
    }

    fn make() -> Self {
        let files = Scratch::new();
        cover("/etc/hosts", &files.file("hosts", HOSTS));
        cover("/etc/resolv.conf", &files.file("resolv.conf", "nameserver 198.51.100.1\n"));
        let mut world = Command::new("unshare")
            .args(["--net", "--kill-child", "--", "python3", "-c", WORLD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let pid = world.id().to_string();
        let own = std::fs::read_link("/proc/self/ns/net").expect("a network namespace");
        until("the world's namespace", PATIENCE, || {
            let its = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
            (its != own).then_some(())
        });
        ip("link set lo up");
        ip(&format!("link add name out type veth peer name world netns {pid}"));
        ip("addr add 198.51.100.2/24 dev out");
        ip("link set out up");
        world.stdin.as_mut().expect("its input").write_all(b"go\n").expect("it reads");
        let mut line = String::new();
        let output = world.stdout.take().expect("its output");
        std::io::BufReader::new(output).read_line(&mut line).expect("it speaks");
        assert_eq!(line, "ready\n");
        ip("route add default via 198.51.100.1");
        Self { world, _files: files }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _gone = self.world.kill();
        let _status = self.world.wait();
    }
}

/// Runs the calling test again in a process with network and mounts of its own, where this is true; in
/// the first process it is false, once that went well.
///
/// # Panics
/// When the test failed there.
#[must_use]
pub fn alone(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return true;
    }
    let own = std::env::current_exe().expect("this program");
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare");
    assert!(status.success(), "it failed in a network of its own; see above");
    false
}

/// Shows `file` in the place of another, to this process and those it starts.
///
/// # Panics
/// When that cannot be done.
pub fn cover(path: &str, file: &Path) {
    let status = Command::new("mount").arg("--bind").arg(file).arg(path).status().expect("mount");
    assert!(status.success(), "mount --bind {} {path}", file.display());
}

pub(crate) fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {words}");
}
