//! `init` by itself: what it costs while it waits, and the names of hosts as it looks them up, in a
//! network of its own with a name server that says what the test wants.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::Command;
use std::time::Instant;

use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::Greeting;
use sojourn_shim::init_link::Helper;
use sojourn_shim::init_link::InitEvent;
use sojourn_shim::init_link::InitImage;
use sojourn_shim::init_link::InitLink;

use crate::native_room::PATIENCE;
use crate::native_room::possible;
use crate::native_room::wait_for;
use crate::shim_house::in_child;

/// `init` without a sandbox around it.
struct Bare {
    link: InitLink,
    process: Child,
    next: u16,
}

impl Bare {
    #[expect(unsafe_code, reason = "its socket is the descriptor 3, and that has to be arranged")]
    fn start() -> Self {
        let image = InitImage::make().expect("memory for init");
        let (link, theirs) = InitLink::pair().expect("a pair");
        let mut command = Command::new(format!("/proc/self/fd/{}", image.as_fd().as_raw_fd()));
        let socket = theirs.as_raw_fd();
        // SAFETY: nothing but a system call happens between fork and exec.
        unsafe {
            command.pre_exec(move || match libc::dup2(socket, 3) {
                3 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let process = command.spawn().expect("it can be executed");
        let mut bare = Self { link, process, next: 0 };
        assert_eq!(bare.event(), InitEvent::Ready);
        bare
    }

    fn event(&mut self) -> InitEvent {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.link.recv().expect("it keeps to its protocol") {
                return event;
            }
            wait_for(self.link.as_fd(), until);
        }
    }

    fn connect(&mut self, host: &str, port: u16) -> Greeting {
        let channel = self.next;
        self.next += 1;
        let (input, _held) = std::io::pipe().expect("a pipe");
        let (mut output, theirs) = std::io::pipe().expect("a pipe");
        let to = Endpoint::Tcp { host: host.into(), port };
        let ends = [input.as_fd(), theirs.as_fd()];
        self.link.help(channel, &Helper::Connect(&to), ends).expect("it listens");
        drop(theirs);
        assert_eq!(self.event(), InitEvent::Started { channel });
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            output.read_exact(&mut byte).expect("a line");
            if byte == *b"\n" {
                break;
            }
            line.push(byte[0]);
        }
        // Signals reach the helper's own group.
        self.link.signal(channel, 9).expect("it listens");
        assert!(matches!(self.event(), InitEvent::Exited { .. }));
        Greeting::parse(&line).expect("a greeting")
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }
}

/// A network of our own, with its loopback up, and files of our own in `/etc`.
fn apart(hosts: &str, servers: &str) {
    #[expect(unsafe_code, reason = "this process has one thread, and shares nothing that matters")]
    // SAFETY: no descriptor table is shared or unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }
        .expect("root may");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("root may");
    rustix::mount::mount("none", "/tmp", "tmpfs", MountFlags::NODEV, c"size=1m").expect("root may");
    for (name, text) in [("hosts", hosts), ("resolv.conf", servers)] {
        let file = format!("/tmp/{name}");
        fs::write(&file, text).expect("there is room");
        rustix::mount::mount_bind(&file, format!("/etc/{name}")).expect("root may");
    }
    let raised = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(raised.expect("iproute2 is here").success());
}

/// What a name server says: for a name and a kind, a failure or addresses.
fn records(name: &[u8], kind: u8) -> (u8, Vec<Vec<u8>>) {
    let loopback = [vec![0; 15], vec![1]].concat();
    match (name, kind) {
        (b"\x02db\x04test", 1) => (0, vec![vec![127, 0, 0, 3], vec![127, 0, 0, 1]]),
        (b"\x02db\x04test" | b"\x03old\x04test", _) if kind == 28 => (0, Vec::new()),
        (b"\x03old\x04test", 1) => (0, vec![vec![127, 0, 0, 1]]),
        (b"\x03new\x04test", 28) => (0, vec![loopback]),
        (b"\x03new\x04test", _) => (0, Vec::new()),
        (b"\x04half\x04test", 1) => (0, vec![vec![127, 0, 0, 1]]),
        (b"\x04half\x04test", _) | (b"\x04sick\x04test", _) => (2, Vec::new()),
        _ => (3, Vec::new()),
    }
}

fn serve_names(socket: &UdpSocket) {
    let mut question = [0; 512];
    while let Ok((length, asker)) = socket.recv_from(&mut question) {
        let question = &question[..length];
        let name = question[12..length - 5].to_ascii_lowercase();
        let (failure, addresses) = records(&name, question[length - 3]);
        let mut answer = question.to_vec();
        answer[2..4].copy_from_slice(&[0x81, 0x80 | failure]);
        answer[7] = u8::try_from(addresses.len()).expect("a few");
        for address in addresses {
            answer.extend([0xc0, 12, 0, question[length - 3], 0, 1, 0, 0, 0, 9, 0]);
            answer.push(u8::try_from(address.len()).expect("short"));
            answer.extend(address);
        }
        // First what it must not take: rubbish, and an answer to somebody else.
        let mut forged = answer.clone();
        forged[0] ^= 1;
        for message in [&b"x"[..], &forged, &answer] {
            socket.send_to(message, asker).expect("a small one");
        }
    }
}

/// Most of it stands apart from what it runs through until then.
#[test]
fn while_it_waits_it_costs_next_to_no_memory() {
    let init = Bare::start();
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", init.process.id()));
    let Ok(rollup) = rollup else {
        eprintln!("SKIPPED: as root only: nobody else may look");
        return;
    };
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("it is there");
    let resident: u32 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(resident <= 48, "{resident} kB");
}

#[test]
fn names_are_found_in_the_hosts_file_and_by_name_servers() {
    if !possible() {
        return;
    }
    let status = in_child(|| {
        apart(
            "# 127.0.0.1 remarked\n127.0.0.1\tfirst Second.Test\nnonsense third\n::1 first # x\n",
            "; the first does not answer\nnameserver 127.0.0.9\nnameserver fe80::1%lo\n\
             search test\nnameserver 127.0.0.1\nnameserver 127.0.0.1\n",
        );
        let older = TcpListener::bind("127.0.0.1:0").expect("a port");
        let newer = TcpListener::bind("[::1]:0").expect("a port");
        let port = older.local_addr().expect("bound").port();
        let newer_port = newer.local_addr().expect("bound").port();
        let names = UdpSocket::bind("127.0.0.1:53").expect("nobody else is here");
        std::thread::spawn(move || serve_names(&names));
        let mut init = Bare::start();
        let open = Greeting::Open { peer: None };
        let unknown = Greeting::Failed("name or service not known".to_owned());
        for host in
            ["first", "second.test", "localhost", "db.test", "DB.test.", "old.test", "half.test"]
        {
            assert_eq!(init.connect(host, port), open, "{host}");
        }
        for host in ["first", "LOCALHOST", "new.test", "::1"] {
            assert_eq!(init.connect(host, newer_port), open, "{host}");
        }
        for host in ["third", "remarked", "x", "db", "none.test", "sick.test"] {
            assert_eq!(init.connect(host, port), unknown, "{host}");
        }
        let refused = Greeting::Failed("connection refused".to_owned());
        assert_eq!(init.connect("db.test", newer_port), refused);
        0
    });
    assert_eq!(status, 0, "see above");
}
