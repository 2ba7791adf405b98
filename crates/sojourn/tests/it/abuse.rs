//! What the SSH door does about guessing, scanning and false addresses.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;
use crate::relay::Relay;

const PASSWORD: &str = "sixteen characters and more";

fn with_password(options: &Options) -> Gateway {
    let gateway = gateway(options);
    let (status, _, err) =
        gateway.try_cli(&["user", "passwd", "alice", "--password-stdin"], &format!("{PASSWORD}\n"));
    assert!(status.success(), "{err}");
    gateway
}

#[test]
fn guesses_are_slowed_and_a_key_gets_in_at_once() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = with_password(&Options::default());
    let guess = |passwords: &[&str]| {
        let ssh = gateway.alice().passwords(passwords).with("-oNumberOfPasswordPrompts=3");
        ssh.with("-oPreferredAuthentications=password").run("echo in")
    };
    // From another address the right one, so that not only the name is known.
    for _ in 0..2 {
        assert_eq!(guess(&["wrong wrong wrong"]).code, 255);
    }
    let right = guess(&[PASSWORD]);
    assert_eq!(right.code, 255, "refused without a look: {}", right.text());
    assert!(right.err.contains("Permission denied (publickey,password,"), "{}", right.err);
    gateway.wait_for_audit("a try that was held", |line| line["details"]["outcome"] == "throttled");

    // The connection is not refused, and a key that is right gets in at once.
    let key = gateway.alice().run("echo in");
    assert_eq!(key.text(), "in\n", "{}", key.err);
    assert!(key.took.as_secs() < 5, "{:?}", key.took);
    // On the same connection, too: a password is refused, the key is not.
    let both = gateway
        .alice()
        .passwords(&[PASSWORD])
        .with("-i")
        .with(&gateway.scratch().path().join("key").display().to_string())
        .with("-oPreferredAuthentications=publickey,password");
    assert_eq!(both.run("echo in").text(), "in\n");
}

#[test]
fn those_who_never_sign_in_may_come_so_often() {
    if !can_make_sandboxes() {
        return;
    }
    let options = Options { ssh: "connects_per_minute = 15\n".to_owned(), ..Options::default() };
    let gateway = gateway(&options);
    for _ in 0..20 {
        assert_eq!(gateway.alice().run("true").code, 0, "who signs in is not counted");
    }
    let scan = || {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).expect("the door");
        stream.write_all(b"SSH-2.0-scan\r\n").expect("it reads");
        stream.shutdown(std::net::Shutdown::Write).expect("a socket");
        let mut all = Vec::new();
        let _reset = stream.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    };
    until("the limit", PATIENCE, || scan().contains("try again in a minute").then_some(()));
    let refused = gateway.alice().run("echo in");
    assert_eq!((refused.code, refused.text().as_str()), (255, ""));
    let line = "too many connections from your address did not sign in; try again in a minute";
    assert!(refused.err.contains(line), "the client shows why: {}", refused.err);
    let told = gateway.wait_for_audit("the refusal", |l| l["action"] == "connection_refused");
    assert_eq!(told["details"]["code"], "connects_per_minute");
    assert_eq!(told["actor"]["ip_address"], "127.0.0.1");
    for _ in 0..50 {
        scan();
    }
    let lines = gateway.audit();
    let told: Vec<_> = lines.iter().filter(|l| l["action"] == "connection_refused").collect();
    assert_eq!(told.len(), 1, "summed up, not a line each: {told:?}");
    // Another address comes in.
    let other = gateway.alice().with("-oBindAddress=127.0.0.2").run("echo in");
    assert_eq!(other.text(), "in\n", "{}", other.err);
}

/// A header of version 2 that names this client.
fn announcing(address: [u16; 8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24".to_vec();
    header.extend(address.iter().flat_map(|part| part.to_be_bytes()));
    header.extend([0; 15]);
    header.extend([1, 0x12, 0x67, 0, 22]);
    header
}

#[test]
fn a_load_balancer_that_is_listed_says_who_is_there() {
    if !can_make_sandboxes() {
        return;
    }
    let options =
        Options { ssh: "proxy_protocol_from = [\"127.0.0.1\"]\n".to_owned(), ..Options::default() };
    let gateway = with_password(&options);
    let v1 = Relay::to(gateway.port, b"PROXY TCP4 192.0.2.77 127.0.0.1 4711 22\r\n");
    let v2 = Relay::to(gateway.port, &announcing([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]));
    let neighbour = Relay::to(gateway.port, &announcing([0x2001, 0xdb8, 0, 0, 9, 9, 9, 9]));
    let stranger = Relay::to(gateway.port, &announcing([0x2001, 0xdb8, 0, 1, 0, 0, 0, 7]));

    for (relay, address) in [(&v1, "192.0.2.77"), (&v2, "2001:db8::7")] {
        let ssh = gateway.client(relay.port, "alice");
        let output = ssh.run("echo in");
        assert_eq!(output.text(), "in\n", "{}", output.err);
        let audit = gateway.audit();
        let started = audit.iter().rfind(|l| l["action"] == "session_started").expect("a start");
        assert_eq!(started["actor"]["ip_address"], address);
        let attempt = audit.iter().rfind(|l| l["action"] == "auth_attempt").expect("an attempt");
        assert_eq!(attempt["actor"]["ip_address"], address);
    }

    // Guesses count for the real address: the other one is not slowed.
    let guess = |relay: &Relay, user: &str| {
        let ssh = gateway.client(relay.port, user).passwords(&["wrong wrong wrong"]);
        ssh.with("-oNumberOfPasswordPrompts=5").run("id")
    };
    for user in ["ann", "ben", "cid", "dan", "eve"] {
        assert_eq!(guess(&v1, user).code, 255);
    }
    let in_by = |relay: &Relay| {
        gateway.client(relay.port, "alice").passwords(&[PASSWORD]).run("echo in").text()
    };
    assert_eq!(in_by(&v1), "", "after 20 guesses from there");
    for user in ["fay", "gus", "hal", "ida"] {
        assert_eq!(guess(&v2, user).code, 255);
    }
    assert_eq!(in_by(&stranger), "in\n");
    assert_eq!(in_by(&neighbour), "", "a /64 is one address");

    // A listed peer must say it; who is not listed must not.
    let bare = gateway.alice().run("echo in");
    assert_eq!(bare.code, 255, "{}", bare.text());
    gateway.wait_for_audit("the refusal", |line| {
        line["action"] == "connection_refused" && line["details"]["code"] == "proxy_protocol"
    });
    let stranger = gateway.alice().with("-oBindAddress=127.0.0.2").run("echo in");
    assert_eq!(stranger.text(), "in\n", "{}", stranger.err);
}

#[test]
fn nobody_else_says_where_they_come_from() {
    if !can_make_sandboxes() {
        return;
    }
    let options = Options {
        ssh: "proxy_protocol_from = [\"10.0.0.0/8\"]\n".to_owned(),
        ..Options::default()
    };
    let gateway = gateway(&options);
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).expect("the door");
    stream
        .write_all(b"PROXY TCP4 192.0.2.77 127.0.0.1 4711 22\r\nSSH-2.0-x\r\n")
        .expect("it reads");
    let mut all = Vec::new();
    let _reset = stream.read_to_end(&mut all);
    let said = String::from_utf8_lossy(&all);
    assert!(said.ends_with("Invalid SSH identification string.\r\n"), "{said:?}");
}

#[test]
fn a_certificate_is_good_from_the_real_address_only() {
    if !can_make_sandboxes() {
        return;
    }
    let scratch = sojourn_testkit::Scratch::new();
    let ca = scratch.path().join("ca");
    let keygen = |arguments: &[&str]| {
        let made = Command::new("ssh-keygen").args(arguments).output().expect("ssh-keygen");
        assert!(made.status.success(), "{made:?}");
    };
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", ca.to_str().expect("a path")]);
    let authority = ca.with_extension("pub");
    let ssh = format!(
        "proxy_protocol_from = [\"127.0.0.1\"]\ntrusted_user_ca = {:?}\n",
        authority.display().to_string()
    );
    let gateway = gateway(&Options { ssh, ..Options::default() });
    let key = scratch.path().join("id");
    let file = key.to_str().expect("a path");
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", file]);
    let certify = |options: &[&str]| {
        let mut arguments =
            vec!["-q", "-s", ca.to_str().expect("a path"), "-I", "test", "-n", "alice"];
        arguments.extend(options);
        let public = format!("{file}.pub");
        arguments.push(&public);
        keygen(&arguments);
    };
    let here = Relay::to(gateway.port, b"PROXY TCP4 192.0.2.77 127.0.0.1 4711 22\r\n");
    let there = Relay::to(gateway.port, b"PROXY TCP4 198.51.100.1 127.0.0.1 4711 22\r\n");
    let visit = |relay: &Relay| {
        let ssh = gateway.client(relay.port, "alice");
        // The test's own key is alice's; only the certified one is to be tried.
        let words: Vec<String> = ssh.arguments();
        let mut command = Command::new("ssh");
        let own = gateway.scratch().path().join("key").display().to_string();
        command.args(words.iter().map(|word| if *word == own { file } else { word }));
        command.args(["alice@127.0.0.1", "echo in"]);
        sojourn_testkit::Running::new(command).finish(PATIENCE)
    };
    certify(&["-O", "source-address=192.0.2.0/24"]);
    let output = visit(&here);
    assert_eq!(output.text(), "in\n", "{}", output.err);
    assert_eq!(visit(&there).code, 255);
    gateway.wait_for_audit("the refusal", |line| {
        line["action"] == "auth_attempt" && line["details"]["reason"] == "not from this address"
    });
}
