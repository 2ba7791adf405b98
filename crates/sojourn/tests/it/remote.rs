//! The command line of somebody elsewhere: the gateway by its address, and a token.

mod attached;

use std::process::Command;
use std::process::Stdio;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Running;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

/// Somebody with a token, at a gateway's address.
struct Remote {
    url: String,
    token: String,
}

impl Remote {
    /// With a token of this user's, made on the gateway's own machine.
    fn of(gateway: &Gateway, user: &str, scopes: &[&str]) -> Self {
        let mut arguments = vec!["token", "create", "--user", user];
        for scope in scopes {
            arguments.extend(["--scope", scope]);
        }
        let token = gateway.cli(&arguments).trim().to_owned();
        Self { url: format!("http://localhost:{}", gateway.web_port()), token }
    }

    /// A command of theirs, in a world without configuration.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sojourn"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", "/nonexistent")
            .env("SOJOURN_URL", &self.url)
            .env("SOJOURN_TOKEN", &self.token)
            .stdin(Stdio::null());
        command
    }

    /// Its exit status, and what it said.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        told(&mut self.command(arguments))
    }

    /// The same in a terminal of this size, as a person has it. What it says on either output comes
    /// on the terminal.
    fn in_terminal(&self, (cols, rows): (u16, u16), arguments: &[&str]) -> Running {
        let words: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
        let line = format!(
            "stty rows {rows} cols {cols}; exec {} {}",
            env!("CARGO_BIN_EXE_sojourn"),
            words.join(" ")
        );
        let mut script = Command::new("script");
        script
            .args(["-qec", &line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .env("SOJOURN_URL", &self.url)
            .env("SOJOURN_TOKEN", &self.token);
        Running::new(script)
    }
}

fn told(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the command");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_token_is_good_elsewhere_until_it_is_revoked() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let remote = Remote::of(&gateway, "alice", &["sessions"]);
    assert!(remote.token.starts_with("sjt1_") && !remote.token.contains(char::is_whitespace));
    let shell = gateway.alice().with("-tt").start(&["echo up; exec sleep 999"]);
    shell.expect("up");
    let (code, out, err) = remote.run(&["session", "ls", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let listed: Value = serde_json::from_str(&out).unwrap();
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let ending = &id[id.len() - 8..];
    assert!(remote.run(&["session", "show", ending]).1.contains(&id));
    let (code, _, err) = remote.run(&["token", "ls"]);
    assert_eq!(code, Some(1), "a member manages nobody: {err}");
    assert_eq!(remote.run(&["session", "end", ending, "--reason", "lunch"]).0, Some(0));
    assert!(shell.finish(sojourn_testkit::PATIENCE).text().contains("Session ended by alice"));

    let listed = gateway.cli(&["token", "ls"]);
    assert!(listed.contains("alice") && listed.contains("sessions") && listed.contains("active"));
    assert!(!listed.contains(&remote.token), "a token is shown once");
    let all: Value = serde_json::from_str(&gateway.cli(&["token", "ls", "--json"])).unwrap();
    let token = all["items"][0]["id"].as_str().unwrap().to_owned();
    gateway.cli(&["token", "revoke", &token[token.len() - 8..]]);
    let (code, out, err) = remote.run(&["session", "ls"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("SOJOURN_TOKEN was revoked") && err.lines().count() == 1, "{err}");
    assert!(gateway.cli(&["token", "ls"]).contains("revoked"));
    // The answer is kept for its Idempotency-Key, but nobody can read it in the store.
    for file in ["sojourn.db", "sojourn.db-wal"] {
        let bytes = std::fs::read(gateway.data().join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(&remote.token), "{file} has the token");
    }
}

#[test]
fn accounts_are_kept_from_elsewhere_but_nobody_sets_a_password_of_others() {
    let gateway = gateway(&Options::default());
    gateway.add_user("carol", "admin", "tall green orchard");
    let remote = Remote::of(&gateway, "carol", &["admin"]);
    let (code, out, err) = remote.run(&["user", "add", "dora", "--no-password"]);
    assert_eq!((code, out.as_str()), (Some(0), "dora: added\n"), "{err}");
    assert!(err.contains("user key add dora FILE") && err.lines().count() == 1, "{err}");
    let (code, out, err) = remote.run(&["user", "add", "emil", "--link"]);
    assert_eq!((code, out.as_str()), (Some(0), "emil: added\n"), "{err}");
    assert!(err.contains("/reset#") && err.lines().count() == 1, "{err}");
    assert_eq!(remote.run(&["user", "role", "dora", "auditor"]).1, "dora is an auditor now\n");
    assert_eq!(remote.run(&["user", "disable", "dora"]).1, "dora: disabled\n");
    let here = gateway.cli(&["user", "ls"]);
    let line = here.lines().find(|line| line.contains("dora")).expect("a line of hers");
    assert!(line.contains("auditor") && line.contains("disabled"), "{here}");
    assert_eq!(remote.run(&["user", "ls"]).1, here, "the same table");
    let (code, out, _) = remote.run(&["user", "enable", "dora", "--json"]);
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["disabled"], false);
    for refused in [&["user", "reset", "dora"][..], &["user", "passwd", "dora", "--password-stdin"]]
    {
        let (code, out, err) = remote.run(refused);
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
        assert!(err.contains("on the gateway's own machine"), "{err}");
    }
    let member = Remote::of(&gateway, "alice", &["sessions"]);
    let (code, _, err) = member.run(&["user", "ls"]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
}

#[test]
fn what_does_not_work_is_told_in_a_line_with_its_status() {
    let gateway = gateway(&Options::default());
    let good = Remote::of(&gateway, "alice", &[]);
    let at = |url: &str, token: &str| {
        let remote = Remote { url: url.to_owned(), token: token.to_owned() };
        let (code, out, err) = remote.run(&["session", "ls"]);
        assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{err}");
        assert!(token.is_empty() || !err.contains(token), "{err}");
        (code, err)
    };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, token, code, says) in [
        (format!("http://localhost:{nobody}").as_str(), "sjt1_none", 3, "is the gateway running"),
        (
            &format!("https://localhost:{}", gateway.web_port()),
            "sjt1_none",
            3,
            "no TLS is spoken there",
        ),
        ("gateway.example.org", "sjt1_none", 2, "http:// or https://"),
        ("https://gateway.example.org/path", "sjt1_none", 2, "has no path"),
        (&good.url, "two words", 2, "SOJOURN_TOKEN: not a token"),
        (&good.url, "", 1, "set SOJOURN_TOKEN"),
        (&good.url, "sjt1_wrong", 1, "SOJOURN_TOKEN was revoked"),
        (&good.url.replace("localhost", "127.0.0.2"), "sjt1_none", 3, "refused"),
    ] {
        let (status, line) = at(url, token);
        assert_eq!(status, Some(code), "{url}: {line}");
        assert!(line.contains(says), "{url}: {line}");
    }
}

#[test]
fn an_admin_reads_the_audit_log_from_elsewhere() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    gateway.cli(&["user", "role", "alice", "admin"]);
    let remote = Remote::of(&gateway, "alice", &["admin"]);
    assert_eq!(gateway.alice().run("exit 3").code, 3);
    gateway.wait_for_audit("its end", |line| line["action"] == "session_ended");
    let (code, out, err) = remote.run(&["audit", "search", "--action", "session_ended"]);
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{out}{err}");
    let (_, tail, _) = remote.run(&["audit", "tail", "-n", "3", "--json"]);
    let seqs: Vec<u64> = tail
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs.len(), 3);
    assert!(seqs.is_sorted(), "oldest first, as on the gateway's own machine");
    let id = gateway.sessions()[0]["id"].as_str().unwrap().to_owned();
    let to = gateway.scratch().path().join("export");
    let (code, _, err) = remote.run(&["session", "export", &id, "--to", to.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    let cast = std::fs::read_to_string(to.join(format!("{id}.cast"))).unwrap();
    assert!(cast.starts_with("{\"version\""), "{cast}");
    let audit = std::fs::read_to_string(to.join("audit.jsonl")).unwrap();
    assert!(audit.lines().count() >= 2 && audit.contains("session_started"), "{audit}");
    assert!(to.join("session.json").exists());
    let (code, _, err) = remote.run(&["session", "export", &id, "--to", to.to_str().unwrap()]);
    assert_eq!(code, Some(1), "nothing is overwritten: {err}");
}
