//! What gives a honeypot away to whoever looks closely: held against the real `sshd`, and against the
//! page that says so.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::Sshd;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

/// Where `scripts/packages` puts it.
const SSH_AUDIT: &str = "/opt/sojourn-test/bin/ssh-audit";

/// The page with the table.
const PAGE: &str = include_str!("../../../../docs/honeypot.md");

fn honeypot() -> Options {
    let pot = "[[ssh]]\nlisten = \"127.0.0.1:0\"\nmode = \"honeypot\"\nrefusal_delay = \"0s\"\n\
               accept_after_failures = 0\nmax_auth_tries = 3\n[profiles.bait]\npool = 1\n";
    Options { more: pot.to_owned(), ..Options::default() }
}

/// What `ssh-audit` finds, by its own names of the lists.
fn audit(port: u16) -> Value {
    let mut scan = Command::new(SSH_AUDIT);
    scan.args(["--json", "--skip-rate-test", "--port", &port.to_string(), "127.0.0.1"]);
    // Its exit status says what it thinks of the algorithms.
    let output = Running::new(scan).finish(PATIENCE);
    serde_json::from_slice(&output.out)
        .unwrap_or_else(|_| panic!("{}{}", output.text(), output.err))
}

fn names(scan: &Value, list: &str) -> Vec<String> {
    let name = |item: &Value| item.as_str().or(item["algorithm"].as_str()).map(str::to_owned);
    scan[list].as_array().expect("a list").iter().filter_map(name).collect()
}

#[test]
fn a_scanner_finds_what_the_page_says() {
    if !can_make_sandboxes() {
        return;
    }
    if !Path::new(SSH_AUDIT).exists() {
        eprintln!("SKIPPED: no {SSH_AUDIT}; scripts/packages test installs it");
        return;
    }
    let gateway = gateway(&honeypot());
    let sshd = Sshd::start_as_debian_does();
    let (ours, theirs) = (audit(gateway.honeypot(0)), audit(sshd.peer().port()));
    assert_eq!(ours["banner"]["software"], "OpenSSH_10.0p2");
    assert_eq!(ours["banner"]["comments"], "Debian-7");
    assert_eq!(names(&ours, "key"), names(&theirs, "key"), "host keys, in their order");
    assert_eq!(ours["key"][0]["keysize"], theirs["key"][0]["keysize"]);
    let mut rows = Vec::new();
    for list in ["kex", "enc", "mac", "compression"] {
        let (ours, theirs) = (names(&ours, list), names(&theirs, list));
        let lacking = theirs.iter().filter(|name| !ours.contains(name)).map(|n| ("sshd", n));
        let added = ours.iter().filter(|name| !theirs.contains(name)).map(|n| ("here", n));
        rows.extend(lacking.chain(added).map(|(who, name)| format!("| `{name}` | {who} |")));
    }
    let missing: Vec<_> = rows.iter().filter(|row| !PAGE.contains(*row)).collect();
    assert!(missing.is_empty(), "docs/honeypot.md does not have {missing:#?}");
    let told = PAGE.lines().filter(|l| l.ends_with(" |") && l.starts_with("| `")).count();
    assert_eq!(told, rows.len(), "and no others: {rows:#?}");
}

fn string(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("short").to_be_bytes(), text].concat()
}

/// A packet in the clear.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 16 - (payload.len() + 5) % 8;
    let length = u32::try_from(payload.len() + padding + 1).expect("short");
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).expect("short"));
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

fn kexinit(kex: &str, key: &str, cipher: &str, mac: &str) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for list in [kex, key, cipher, cipher, mac, mac, "none", "none", "", ""] {
        payload.extend(string(list.as_bytes()));
    }
    payload.extend([0; 5]);
    packet(&payload)
}

/// What a server says to this, less its version and its own key exchange, and how it goes on.
fn answer(port: u16, says: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
    let mut all = Vec::new();
    let mut byte = [0];
    while all.last() != Some(&b'\n') && stream.read(&mut byte).expect("its version") == 1 {
        all.push(byte[0]);
    }
    all.clear();
    let _reset = stream.write_all(says);
    if says.is_empty() {
        stream.shutdown(Shutdown::Write).expect("a socket");
    }
    let ended = match stream.read_to_end(&mut all) {
        Ok(_) => "closed",
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "closed",
        Err(_) => "open",
    };
    let own = match all.get(..6) {
        Some(&[a, b, c, d, _, 20]) => 4 + u32::from_be_bytes([a, b, c, d]) as usize,
        _ => 0,
    };
    let rest = String::from_utf8_lossy(&all[own.min(all.len())..]).trim_end().to_owned();
    format!("{}{rest} {ended}", if own > 0 { "KEXINIT " } else { "" })
}

#[test]
fn odd_beginnings_are_answered_as_sshd_answers_them() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&honeypot());
    let sshd = Sshd::start_as_debian_does();
    const KEX: &str = "curve25519-sha256";
    let version = b"SSH-2.0-probe\r\n";
    let with = |packet: Vec<u8>| [&version[..], &packet].concat();
    let probes = [
        ("nothing", Vec::new()),
        ("HTTP", b"GET / HTTP/1.0\r\n\r\n".to_vec()),
        ("an empty line", b"\r\n".to_vec()),
        ("SSH 1", b"SSH-1.5-x\r\n".to_vec()),
        ("SSH 1.99", b"SSH-1.99-x\r\n".to_vec()),
        ("a line without end", vec![b'A'; 9000]),
        (
            "no common key exchange",
            with(kexinit("rot13", "ssh-ed25519", "aes128-ctr", "hmac-sha1")),
        ),
        ("no common host key", with(kexinit(KEX, "ssh-dss", "aes128-ctr", "hmac-sha1"))),
        ("no common cipher", with(kexinit(KEX, "ssh-ed25519", "rot13", "hmac-sha1"))),
        ("no common MAC", with(kexinit(KEX, "ssh-ed25519", "aes128-ctr", "rot13"))),
        ("a packet of 4 GB", with(vec![0xff; 40])),
        ("a packet of nothing", with(vec![0; 40])),
        ("a packet of an odd length", with([&[0, 0, 0, 13, 4][..], &[b'x'; 40]].concat())),
        ("goodbye", with(packet(&[&[1, 0, 0, 0, 11][..], &string(b"bye"), &string(b"")].concat()))),
    ];
    for (what, says) in probes {
        let (ours, theirs) =
            (answer(gateway.honeypot(0), &says), answer(sshd.peer().port(), &says));
        assert_eq!(ours, theirs, "{what}");
    }
}

#[test]
fn signing_in_is_refused_as_sshd_refuses_it() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&honeypot());
    let sshd = Sshd::start_as_debian_does();
    let tried = |port: u16| {
        let ssh = gateway.client(port, "root").passwords(&["wrong"]);
        let ssh = ssh.with("-v").with("-oLogLevel=DEBUG1").with("-oNumberOfPasswordPrompts=2");
        let output = ssh.run("true");
        let told = |line: &&str| {
            line.contains("Authentications that can continue") || line.contains("Permission denied")
        };
        let lines: Vec<_> = output.err.lines().filter(told).map(str::to_owned).collect();
        lines.join("\n").replace(&port.to_string(), "PORT")
    };
    let ours = tried(gateway.honeypot(0));
    assert!(ours.contains("can continue: publickey,password"), "{ours}");
    assert_eq!(ours, tried(sshd.peer().port()));
}
