//! Another machine, as far as networks go: a network namespace of its own, a cable to the test's, packets
//! lost on it, and a relay that takes its time.
//!
//! ```text
//!   the test's namespace                      the far one
//!   gateway ◀── relay ◀──── cable ────▶ relay (delay) ◀── runner
//!   127.0.0.1:PORT   10.77.N.1:PORT     127.0.0.1:PORT
//! ```
//!
//! Both relays have the gateway's port, so that everybody dials 127.0.0.1. Nothing of it outlives the
//! test: the namespace is held by a process that ends with the test's.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use std::time::Instant;

use rustix::thread::LinkNameSpaceType;
use rustix::thread::move_into_link_name_space;

use crate::PATIENCE;
use crate::network::ip;
use crate::until;

/// Pieces that are under way in one direction.
const UNDER_WAY: usize = 1024;

/// How a piece is delayed: so long, and up to so much more or less.
const DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(5));

/// Another machine; only inside [`crate::alone`].
#[derive(Debug)]
pub struct Far {
    number: u8,
    holder: Child,
    relayed: Arc<Relayed>,
}

/// The connections that are relayed.
#[derive(Debug, Default)]
struct Relayed {
    open: Mutex<Vec<TcpStream>>,
}

impl Far {
    /// One that reaches the gateway at this port of 127.0.0.1, and nothing else.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn reaching(port: u16, number: u8) -> Self {
        let holder = Command::new("unshare")
            .args(["--net", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare");
        let pid = holder.id();
        let own = std::fs::read_link("/proc/self/ns/net").expect("a network namespace");
        until("the other namespace", PATIENCE, || {
            let its = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
            (its != own).then_some(())
        });
        ip(&format!("link add far{number} type veth peer name cable netns {pid}"));
        ip(&format!("addr add 10.77.{number}.1/24 dev far{number}"));
        ip(&format!("link set far{number} up"));
        lose(&format!("far{number}"));
        let far = Self { number, holder, relayed: Arc::default() };
        let near = SocketAddr::from(([10, 77, number, 1], port));
        let local = SocketAddr::from(([127, 0, 0, 1], port));
        far.relayed.clone().listen(near, local, None);
        far.inside(|| {
            ip("link set lo up");
            ip(&format!("addr add 10.77.{number}.2/24 dev cable"));
            ip("link set cable up");
            lose("cable");
            far.relayed.clone().listen(local, near, Some(DELAY));
        });
        far
    }

    /// Does something there. What it starts stays there.
    ///
    /// # Panics
    /// When one cannot go there, or it panics.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let place =
            File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("its namespace");
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("a way there");
                work()
            });
            there.join().expect("work that is done")
        })
    }

    /// Cuts everything that is connected.
    pub fn cut(&self) {
        let mut open = self.relayed.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many packets were lost on the way to and from it.
    #[must_use]
    pub fn lost(&self) -> u64 {
        lost_at(&format!("far{}", self.number)) + self.inside(|| lost_at("cable"))
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _status = self.holder.wait();
    }
}

/// Has one in twenty packets lost that come in here.
fn lose(device: &str) {
    for rule in [
        format!("add table inet {device}"),
        format!("add chain inet {device} in {{ type filter hook input priority 0 ; }}"),
        format!(
            "add rule inet {device} in iifname {device} numgen random mod 100 < 5 counter drop"
        ),
    ] {
        let status = Command::new("nft").arg(&rule).status().expect("nft");
        assert!(status.success(), "nft {rule}");
    }
}

/// Whether packets can be lost on purpose here. When not, says so.
#[must_use]
pub fn can_lose_packets() -> bool {
    let tried = Command::new("unshare")
        .args(["--net", "--", "sh", "-c"])
        .arg(
            "nft add table inet t && nft 'add chain inet t c { type filter hook input priority 0 ; }' \
             && nft add rule inet t c numgen random mod 100 '<' 5 counter drop \
             && ip link add one type veth peer name other",
        )
        .output();
    match tried {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprintln!(
                "SKIPPED: no network that loses: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            false
        }
        Err(error) => {
            eprintln!("SKIPPED: no network that loses: {error}");
            false
        }
    }
}

fn lost_at(device: &str) -> u64 {
    let listed = Command::new("nft").args(["list", "table", "inet", device]).output().expect("nft");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut words = listed.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|count| count.parse().ok()).expect("a counter")
}

impl Relayed {
    /// Relays, in the namespace of the calling thread.
    fn listen(
        self: Arc<Self>,
        at: SocketAddr,
        to: SocketAddr,
        delay: Option<(Duration, Duration)>,
    ) {
        let listener = TcpListener::bind(at).expect("a port");
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let own = self.clone();
                std::thread::spawn(move || own.relay(near, to, delay));
            }
        });
    }

    fn relay(&self, near: TcpStream, to: SocketAddr, delay: Option<(Duration, Duration)>) {
        let Ok(far) = TcpStream::connect(to) else { return };
        let copies = || Some([near.try_clone().ok()?, far.try_clone().ok()?]);
        let (Some(kept), Some([from_near, from_far])) = (copies(), copies()) else { return };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).extend(kept);
        let ends = (near.set_nodelay(true), far.set_nodelay(true));
        std::thread::spawn(move || pass(from_far, near, delay));
        pass(from_near, far, delay);
        drop(ends);
    }
}

/// Passes on what comes, in order, each piece after its time.
fn pass(mut from: TcpStream, to: TcpStream, delay: Option<(Duration, Duration)>) {
    let (under_way, arriving) = sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let writer = std::thread::spawn(move || {
        let mut to = to;
        while let Ok((due, piece)) = arriving.recv() {
            // The time it takes, not a wait for something.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _over = to.shutdown(Shutdown::Both);
    });
    let mut last = Instant::now();
    let mut chance = 1_u64;
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count) = read(&mut from, &mut buffer) {
        let time = delay.map_or(Duration::ZERO, |(time, jitter)| {
            // Any numbers will do, as long as they differ.
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (time + jitter * 2 * ((chance >> 33) as u32 % 100) / 100).saturating_sub(jitter)
        });
        last = last.max(Instant::now() + time);
        if under_way.send((last, buffer[..count].to_vec())).is_err() {
            break;
        }
    }
    drop(under_way);
    let _over = writer.join();
    let _over = from.shutdown(Shutdown::Both);
}

fn read(from: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match from.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(count),
    }
}
