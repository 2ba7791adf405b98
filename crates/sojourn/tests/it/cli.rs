//! The command line: what it says, where it says it, and its exit status.

use std::fs;
use std::process::Command;
use std::process::Output;

use serde_json::Value;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Scratch;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;

/// Runs the command in a world of its own: no configuration but what the test gives.
fn run(scratch: &Scratch, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sojourn"))
        .args(arguments)
        .env_clear()
        .env("HOME", scratch.path())
        .env("SOJOURN_DATA_DIR", scratch.path().join("none"))
        .current_dir(scratch.path())
        .output()
        .expect("the command")
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_sample_is_fine_and_there_is_nothing_to_say_about_it() {
    let scratch = Scratch::new();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sample.toml");
    let (code, out, err) = told(&run(&scratch, &["config", "check", sample]));
    assert_eq!((code, out.as_str()), (Some(0), format!("{sample}: fine\n").as_str()), "{err}");
    assert_eq!(err, "");
}

#[test]
fn a_wrong_file_is_explained_line_by_line() {
    let scratch = Scratch::new();
    scratch.file("bad.toml", "[limits]\nsesion_timeout = \"1h\"\n[[ssh]]\nlisten = 22\n");
    let expected = "\
sojourn: bad.toml:2: limits.sesion_timeout: unknown key; the nearest is \"session_timeout\"
sojourn: bad.toml:4: ssh[0].listen: a whole number where a text in quotes is wanted
";
    for arguments in [&["config", "check", "bad.toml"][..], &["serve", "--config", "bad.toml"]] {
        let (code, out, err) = told(&run(&scratch, arguments));
        assert_eq!((code, out.as_str(), err.as_str()), (Some(2), "", expected));
    }
}

#[test]
fn what_is_shown_and_the_schema_can_be_read_by_programs() {
    let scratch = Scratch::new();
    let (code, out, _) = told(&run(&scratch, &["config", "show"]));
    assert_eq!(code, Some(0));
    scratch.file("shown.toml", &out);
    assert_eq!(told(&run(&scratch, &["config", "check", "shown.toml"])).0, Some(0), "{out}");
    let (_, schema, _) = told(&run(&scratch, &["config", "schema"]));
    let schema: Value = serde_json::from_str(&schema).expect("a schema");
    assert_eq!(schema["properties"]["limits"]["properties"]["grace"]["default"], "10s");
}

#[test]
fn every_failure_is_one_line_and_has_its_status() {
    let scratch = Scratch::new();
    for (arguments, code, says) in [
        (&["sesion", "ls"][..], 2, "a similar subcommand exists: 'session'"),
        (&["user", "role", "alice", "king"], 2, "roles are admin, member and auditor"),
        (&["session", "show", "x"], 2, "not an id"),
        (&["session", "end-all"], 2, "say whose"),
        (&["config", "check", "none.toml"], 2, "No such file"),
        (&["session", "ls"], 3, "no gateway runs here"),
        (&["user", "ls"], 1, "there is no data directory"),
        (&["runner", "--gateway", "https://x"], 2, "--token-file"),
        (&["session", "attach", "3f2a91c0", "--watch"], 3, "no gateway runs here"),
        (&["session", "start"], 3, "no gateway runs here"),
        (&["token", "create"], 2, "--user"),
        (&["token", "create", "--user", "a", "--scope", "all"], 2, "scope"),
    ] {
        let (got, out, err) = told(&run(&scratch, arguments));
        assert_eq!((got, out.as_str()), (Some(code), ""), "{arguments:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
        assert!(err.starts_with("sojourn: ") && err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn help_lists_what_works_within_80_columns() {
    let scratch = Scratch::new();
    let commands = ["session", "user", "token", "audit", "runner", "runners"];
    let helps = commands.map(|command| vec![command, "--help"]);
    for arguments in helps.iter().map(Vec::as_slice).chain([&["--help"][..]]) {
        let (code, out, _) = told(&run(&scratch, arguments));
        assert_eq!(code, Some(0));
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    }
    let (code, script, _) = told(&run(&scratch, &["completions", "bash"]));
    assert_eq!(code, Some(0));
    assert!(script.contains("end-all"));
}

#[test]
fn accounts_are_kept_with_the_gateway_running_and_stopped() {
    if can_make_sandboxes() {
        accounts_are_kept(&Options::default());
    }
}

/// Accounts are made and changed with the gateway running and stopped.
pub(crate) fn accounts_are_kept(options: &Options) {
    let mut gateway = gateway(options);
    let (status, _, err) = gateway.try_cli(&["user", "add", "bob", "--password-stdin"], "short\n");
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("15 characters"), "{err}");
    gateway.stop();
    let password = "a long enough password\n";
    let (status, out, err) =
        gateway.try_cli(&["user", "add", "bob", "--role", "auditor", "--password-stdin"], password);
    assert!(status.success(), "{err}");
    assert_eq!(out, "bob: added\n");
    gateway.cli(&["user", "disable", "bob"]);
    let table = gateway.cli(&["user", "ls"]);
    let bob: Vec<&str> =
        table.lines().find(|line| line.starts_with("bob")).unwrap().split_whitespace().collect();
    assert_eq!((bob[1], bob[2], bob[5]), ("auditor", "set", "disabled"), "{table}");
    let on_record = gateway.cli(&["audit", "search", "--user", "bob", "--json"]);
    let actions: Vec<Value> = on_record
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["action"].clone())
        .collect();
    assert_eq!(actions, ["user_added", "user_disabled"]);
    assert_eq!(gateway.cli(&["verify"]), "");
    gateway.launch();
    gateway.cli(&["user", "enable", "bob"]);
    gateway.wait_for_audit("bob's return", |line| line["action"] == "user_enabled");
}

#[test]
fn a_session_is_listed_shown_ended_and_replayed() {
    if can_make_sandboxes() {
        a_session_is_listed(&Options::default());
    }
}

/// A session, from its start to its replay, by commands.
pub(crate) fn a_session_is_listed(options: &Options) {
    let gateway = gateway(options);
    let mut shell = gateway.alice().with("-tt").start(&[]);
    shell.expect("# ");
    shell.write(b"printf 'mark%s\\n' one\n");
    shell.expect("markone");
    let id = gateway.sessions()[0]["id"].as_str().unwrap().to_owned();
    let ending = &id[id.len() - 8..];
    let table = gateway.cli(&["session", "ls"]);
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], [ending, "alice", "default", "running"], "{table}");
    let shown = gateway.cli(&["session", "show", &id[id.len() - 6..]]);
    assert!(shown.contains(&id), "{shown}");
    let told = gateway.cli(&["session", "interrupt", ending]);
    assert_eq!(told, format!("{ending} is told to stop what it does\n"));
    gateway.wait_for_audit("the interrupt", |line| line["action"] == "interrupt_sent");
    let ended = gateway.cli(&["session", "end", ending, "--reason", "lunch"]);
    assert_eq!(ended, format!("{ending} is ending\n"));
    let cut = shell.finish(PATIENCE);
    assert_eq!(cut.code, 143);
    assert!(cut.text().contains("\r\nSession ended by root: lunch\r\n"), "{}", cut.text());
    until("its end", PATIENCE, || {
        let session: Value =
            serde_json::from_str(&gateway.cli(&["session", "show", &id, "--json"])).ok()?;
        (session["status"] == "ended").then(|| {
            assert_eq!(session["end_reason"], "ended_by");
            assert_eq!(
                (&session["ended_by"], &session["end_detail"]),
                (&"root".into(), &"lunch".into())
            );
            assert!(session["output_bytes"].as_u64() > Some(0), "{session}");
        })
    });
    let shown = gateway.cli(&["session", "show", ending]);
    let has = |name: &str, value: &str| {
        shown.lines().any(|line| line.strip_prefix(name).is_some_and(|it| it.trim() == value))
    };
    assert!(has("ended by", "root") && has("because", "lunch"), "{shown}");
    for (arguments, line) in [
        (["session", "interrupt", ending], "that session is over"),
        (["session", "resume", ending], "that was a shell"),
    ] {
        let (status, out, err) = gateway.try_cli(&arguments, "");
        assert_eq!((status.code(), out.as_str()), (Some(1), ""), "{arguments:?}: {err}");
        assert!(err.contains(line), "{arguments:?}: {err}");
    }
    let again = gateway.cli(&["session", "end", &id]);
    assert_eq!(again, format!("{ending} was over already\n"));
    let (status, _, err) = gateway.try_cli(&["session", "show", "0000dead"], "");
    let none =
        "sojourn: there is no such session: \"0000dead\"; \"sojourn session ls\" lists them\n";
    assert_eq!((status.code(), err.as_str()), (Some(1), none));

    let played = gateway.cli(&["session", "replay", ending, "--speed", "1000"]);
    assert!(played.contains("markone"), "{played}");
    let cast = gateway.cli(&["session", "replay", ending, "--json"]);
    let header: Value = serde_json::from_str(cast.lines().next().unwrap()).unwrap();
    assert_eq!(header["version"], 2);
    let read = gateway.cli(&["audit", "search", "--action", "recording_read", "--session", ending]);
    assert_eq!(read.lines().count(), 2, "{read}");
    assert!(read.contains("local:root"), "{read}");
}

#[test]
fn an_audit_log_is_searched_and_held_against_what_was_kept() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    gateway.alice().run("true");
    gateway.wait_for_audit("the end", |line| line["action"] == "session_ended");
    gateway.stop();
    let whole = gateway.cli(&["audit", "export"]);
    let kept = whole.lines().rev().find(|line| line.contains("\"action\":\"checkpoint\""));
    let kept = gateway.scratch().file("kept", kept.expect("a checkpoint at the stop"));
    let kept = kept.to_str().unwrap();
    assert_eq!(gateway.cli(&["verify", "--checkpoint", kept]), "");
    assert_eq!(gateway.cli(&["audit", "tail", "-n", "2"]).lines().count(), 2);
    let (status, _, err) = gateway.try_cli(&["audit", "search", "--action", "sesion_ended"], "");
    assert_eq!(status.code(), Some(2));
    assert!(err.contains("the nearest is \"session_ended\""), "{err}");

    // A log that was cut off is whole in itself; the checkpoint knows better.
    let log = gateway.data().join("audit/audit-1.jsonl");
    let cut: Vec<&str> = whole.lines().take(3).collect();
    fs::write(&log, cut.join("\n") + "\n").unwrap();
    let (status, out, _) = gateway.try_cli(&["verify", "--checkpoint", kept], "");
    assert_eq!(status.code(), Some(1));
    assert!(out.contains("cut off"), "{out}");
}

#[test]
fn what_there_is_none_of_is_said_with_what_lists_it() {
    let gateway = gateway(&Options::default());
    for (arguments, status, line) in [
        (&["verify", "00000000"][..], 1, "there is no session \"00000000\" here"),
        (&["verify", "000"], 2, "\"000\" is not an id"),
        (&["session", "show", "00000000"], 1, "\"sojourn session ls\" lists them"),
        (&["session", "end-all", "--user", "nobody"], 1, "there is no such user"),
        (&["session", "end-all", "--user", "nobody"], 1, "\"sojourn user ls\" lists them"),
        (&["session", "ls", "--user", "nobody"], 1, "there is no user \"nobody\""),
        (&["session", "end-all", "--runner", "none"], 1, "there is no such runner: \"none\""),
        (&["session", "start", "--profile", "none", "--detach"], 1, "; there is default"),
        (&["token", "create", "--user", "nobody"], 1, "\"sojourn user ls\" lists them"),
        (&["user", "disable", "nobody"], 1, "\"sojourn user ls\" lists them"),
        (&["user", "disable", "admin"], 1, "that is the last admin; make another one first"),
        (&["user", "role", "admin", "member"], 1, "sojourn user role NAME admin"),
        (&["token", "revoke", "00000000"], 1, "\"sojourn token ls\" lists them"),
        (&["token", "create"], 2, "--user NAME for programs of theirs, or --runner NAME"),
    ] {
        let (found, out, err) = gateway.try_cli(arguments, "");
        let found = found.code().unwrap_or_default();
        assert_eq!((found, out.as_str()), (status, ""), "{arguments:?}: {err}");
        assert!(err.contains(line) && err.lines().count() == 1, "{arguments:?}: {err}");
    }
}

#[test]
fn the_last_admin_stays_and_any_other_may_go() {
    let gateway = gateway(&Options::default());
    assert_eq!(gateway.cli(&["user", "role", "alice", "admin"]), "alice is an admin now\n");
    assert_eq!(gateway.cli(&["user", "disable", "admin"]), "admin: disabled\n");
    for arguments in [&["user", "disable", "alice"][..], &["user", "role", "alice", "member"]] {
        let (status, _, err) = gateway.try_cli(arguments, "");
        assert_eq!(status.code(), Some(1), "one that is closed is none: {err}");
    }
    gateway.cli(&["user", "enable", "admin"]);
    assert_eq!(gateway.cli(&["user", "role", "alice", "member"]), "alice is a member now\n");
}

#[test]
fn a_first_start_that_finds_its_port_taken_names_the_key_and_leaves_nothing() {
    if !can_make_sandboxes() {
        return;
    }
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = (taken.local_addr().unwrap(), taken);
    let free = "127.0.0.1:0";
    for (key, web, ssh) in [
        ("[web] listen", taken.0.to_string(), free.to_owned()),
        ("[[ssh]] listen", free.to_owned(), taken.0.to_string()),
    ] {
        let config = format!(
            "[server]\nuser = \"65534\"\n[web]\nlisten = \"{web}\"\n\
             [[ssh]]\nlisten = \"{ssh}\"\n"
        );
        scratch.file("taken.toml", &config);
        let (code, _, err) = told(&run(&scratch, &["serve", "--config", "taken.toml"]));
        let line = err.lines().last().unwrap_or_default();
        assert_eq!(code, Some(1), "{err}");
        assert!(line.contains(&format!("{key} = \"{}\"", taken.0)), "{err}");
        assert!(!scratch.path().join("none").exists(), "its data directory");
    }
}

#[test]
fn who_has_a_gateway_elsewhere_is_told_that_records_are_verified_here() {
    let scratch = Scratch::new();
    let verify = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sojourn"));
        command.arg("verify").args(more).env_clear().env("HOME", scratch.path());
        let output = command.env("SOJOURN_URL", "https://gateway.example.org").output();
        told(&output.expect("the command"))
    };
    let (code, out, err) = verify(&[]);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{err}");
    assert!(err.contains("SOJOURN_URL") && err.contains("--data-dir DIR"), "{err}");
    let none = scratch.path().join("none");
    let (code, _, err) = verify(&["--data-dir", none.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("there is no data directory"), "{err}");
}
