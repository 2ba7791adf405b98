//! The second factor at the SSH door, with the clients that people have.

use std::process::Command;
use std::process::Stdio;

use serde_json::json;
use sojourn_core::time::Wall;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

const PASSWORD: &str = "plum orbit cartwheel nine";

/// Somebody with a password and an authenticator, at a gateway whose clock stands still.
struct Bob {
    gateway: Gateway,
    secret: [u8; 20],
    recovery: Vec<String>,
}

impl Bob {
    fn with(options: &Options) -> Self {
        let gateway = gateway(options);
        gateway.clock().hold();
        let (status, _, err) =
            gateway.try_cli(&["user", "add", "bob", "--password-stdin"], &format!("{PASSWORD}\n"));
        assert!(status.success(), "{err}");
        let key = gateway.scratch().path().join("key.pub");
        gateway.cli(&["user", "key", "add", "bob", key.to_str().expect("a path in UTF-8")]);
        let mut browser = gateway.signed_in("bob", PASSWORD);
        let begun = browser.post("/api/me/totp", &json!({})).expect(200);
        let secret = begun["secret"].as_str().expect("a secret").as_bytes();
        let secret = data_encoding::BASE32_NOPAD.decode(secret).expect("base 32");
        let mut bob =
            Self { gateway, secret: secret.try_into().expect("20 bytes"), recovery: Vec::new() };
        let confirmed = browser.post("/api/me/totp", &json!({"code": bob.code()})).expect(200);
        let codes = confirmed["recovery_codes"].as_array().expect("recovery codes");
        bob.recovery = codes.iter().filter_map(|code| Some(code.as_str()?.to_owned())).collect();
        bob.next_step();
        bob
    }

    /// What the authenticator shows.
    fn code(&self) -> String {
        let now = Wall::from_rfc3339(&self.gateway.clock().now()).expect("a time").0 / 1_000_000;
        let totp = totp_rs::Builder::new().with_secret(self.secret).build().expect("a secret");
        totp.generate(u64::try_from(now).expect("a time")).to_string()
    }

    fn next_step(&self) {
        self.gateway.clock().advance("30s");
    }

    /// The real `ssh`, which is asked and answers so.
    fn ssh(&self, methods: &str, answers: &[&str]) -> sojourn_testkit::Output {
        let ssh = self.gateway.client(self.gateway.port, "bob").passwords(answers);
        let ssh = ssh.with("-oNumberOfPasswordPrompts=1");
        ssh.with(&format!("-oPreferredAuthentications={methods}")).run("echo in")
    }
}

#[test]
fn a_password_alone_is_refused_and_a_code_after_it_opens() {
    if !can_make_sandboxes() {
        return;
    }
    let bob = Bob::with(&Options::default());
    let alone = bob.ssh("password", &[PASSWORD]);
    assert_eq!((alone.code, &*alone.text()), (255, ""), "{}", alone.err);
    let code = bob.code();
    let asked = bob.ssh("keyboard-interactive", &[PASSWORD, &code]);
    assert_eq!(asked.text(), "in\n", "{}", asked.err);
    let again = bob.ssh("keyboard-interactive", &[PASSWORD, &code]);
    assert_eq!((again.code, &*again.text()), (255, ""), "used before");
    bob.next_step();
    let wrong = bob.ssh("keyboard-interactive", &["wrong wrong wrong", &bob.code()]);
    assert_eq!((wrong.code, &*wrong.text()), (255, ""));
    let recovered = bob.ssh("keyboard-interactive", &[PASSWORD, &bob.recovery[0]]);
    assert_eq!(recovered.text(), "in\n", "{}", recovered.err);
    let key = bob.gateway.client(bob.gateway.port, "bob").run("echo in");
    assert_eq!(key.text(), "in\n", "a key alone is enough: {}", key.err);

    let replayed = bob.gateway.audit_with(1, "user_totp_replayed").into_iter();
    assert_eq!(replayed.filter(|line| line["action"] == "user_totp_replayed").count(), 1);
    let lines = bob.gateway.log_lines();
    let has = |text: &str| lines.iter().any(|line| line.to_string().contains(text));
    assert!(!has(PASSWORD) && !has(&bob.recovery[0]), "no secret is logged");
}

#[test]
fn where_a_key_is_not_enough_a_code_follows_it() {
    if !can_make_sandboxes() {
        return;
    }
    let more = "[login]\nssh_key_needs_totp = true\n".to_owned();
    let bob = Bob::with(&Options { more, ..Options::default() });
    let alone = bob.gateway.client(bob.gateway.port, "bob").run("echo in");
    assert_eq!((alone.code, &*alone.text()), (255, ""), "{}", alone.err);
    let key = bob.gateway.scratch().path().join("key").display().to_string();
    let with_key = |answers: &[&str]| {
        let ssh = bob.gateway.client(bob.gateway.port, "bob").passwords(answers);
        ssh.with("-i").with(&key).with("-oNumberOfPasswordPrompts=1").run("echo in")
    };
    let wrong = with_key(&["000000"]);
    assert_eq!((wrong.code, &*wrong.text()), (255, ""), "{}", wrong.err);
    let right = with_key(&[&bob.code()]);
    assert_eq!(right.text(), "in\n", "{}", right.err);
    let alice = bob.gateway.alice().run("echo in");
    assert_eq!(alice.text(), "in\n", "who has no second factor is not asked: {}", alice.err);
}

/// Runs a program on a terminal and answers its questions: pairs of what it asks and what is said.
const ON_A_TERMINAL: &str = r#"
import json, os, pty, select, sys, time
program, talk = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(program[0], program)
heard, deadline = b"", time.monotonic() + 30
while time.monotonic() < deadline:
    if not select.select([terminal], [], [], 0.1)[0]:
        continue
    try:
        more = os.read(terminal, 4096)
    except OSError:
        break
    if not more:
        break
    heard += more
    if talk and talk[0][0].encode() in heard:
        os.write(terminal, talk.pop(0)[1].encode() + b"\n")
sys.stdout.write(heard.decode(errors="replace"))
"#;

#[test]
fn people_at_a_terminal_are_asked_for_password_and_code() {
    if !can_make_sandboxes() {
        return;
    }
    let bob = Bob::with(&Options::default());
    let port = bob.gateway.port.to_string();
    let known = bob.gateway.scratch().path().join("known_hosts").display().to_string();
    let home = bob.gateway.scratch().path().display().to_string();
    let openssh = [
        "ssh",
        "-F",
        "/dev/null",
        "-p",
        &port,
        "-oPubkeyAuthentication=no",
        "-oStrictHostKeyChecking=no",
        &format!("-oUserKnownHostsFile={known}"),
        "bob@127.0.0.1",
        "echo in",
    ];
    let scan =
        Command::new("ssh-keyscan").args(["-t", "ed25519", "-p", &port, "127.0.0.1"]).output();
    let scanned = String::from_utf8_lossy(&scan.expect("ssh-keyscan").stdout).into_owned();
    let file = bob.gateway.scratch().file("host.pub", &scanned);
    let shown = Command::new("ssh-keygen").arg("-lf").arg(&file).output().expect("ssh-keygen");
    let fingerprint = String::from_utf8_lossy(&shown.stdout).into_owned();
    let fingerprint = fingerprint.split(' ').nth(1).expect("a fingerprint");
    let plink = [
        "plink",
        "-ssh",
        "-hostkey",
        fingerprint,
        "-P",
        &port,
        "-noagent",
        "-no-antispoof",
        "bob@127.0.0.1",
        "echo in",
    ];
    for program in [&openssh[..], &plink[..]] {
        let talk = [("assword: ", PASSWORD), ("erification code: ", &bob.code())];
        let output = Command::new("python3")
            .args(["-c", ON_A_TERMINAL, &json!([program, talk]).to_string()])
            .env("HOME", &home)
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("SSH_ASKPASS")
            .stdin(Stdio::null())
            .output()
            .expect("python3");
        let heard = String::from_utf8_lossy(&output.stdout);
        let is_in = heard.lines().any(|line| line.trim() == "in");
        assert!(is_in, "{}: {heard}", program[0]);
        assert!(!heard.contains(PASSWORD), "the password is not shown");
        bob.next_step();
    }
}

#[test]
fn an_admin_makes_a_link_whether_or_not_the_gateway_runs() {
    if !can_make_sandboxes() {
        return;
    }
    let bob = Bob::with(&Options::default());
    let (status, token, said) = bob.gateway.try_cli(&["user", "reset", "bob"], "");
    assert!(status.success() && said.contains("once"), "{said}");
    let token = token.trim_end();
    assert!(token.starts_with("sjr1_") && token.len() == 48, "the token alone: {token:?}");
    let (status, _, said) = bob.gateway.try_cli(&["user", "reset", "nobody"], "");
    assert!(!status.success() && said.contains("there is no user"), "{said}");
    let new = "another four words here";
    let mut browser = bob.gateway.browser();
    let body = json!({"token": token, "new_password": new, "confirm_password": new});
    let answer = browser.post("/api/auth/reset", &body);
    assert!((200..300).contains(&answer.status), "{}", answer.status);
    assert!(browser.post("/api/auth/reset", &body).status >= 400, "once");
    let asked = bob.ssh("keyboard-interactive", &[new, &bob.code()]);
    assert_eq!(asked.text(), "in\n", "the second factor is still asked for: {}", asked.err);
}
