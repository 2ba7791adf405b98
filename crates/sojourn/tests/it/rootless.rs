//! A gateway that somebody without root started: everything but sandboxes of its own, and it says so.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Runner;
use sojourn_testkit::Running;
use sojourn_testkit::Scratch;
use sojourn_testkit::until;

use crate::descendants;
use crate::detach::at_terminal;
use crate::far_networks::stay_at;
use crate::files_below;
use crate::runner_lives::connected;
use crate::runner_lives::said;
use crate::runner_lives::stands;
use crate::runner_lives::start;
use crate::runner_lives::transcript;
use crate::web::hang_up;

const SOJOURN: &str = env!("CARGO_BIN_EXE_sojourn");
const PASSWORD: &str = "nine tall cranes over 40 harbours";

/// Who starts everything, where the test is root.
const NOBODY: u32 = 65534;

fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who did start it.
fn starter() -> u32 {
    if am_root() { NOBODY } else { rustix::process::geteuid().as_raw() }
}

/// A gateway, alice signed in, and her runner on the same machine, which is the same user's.
fn house(options: Options) -> (Gateway, Browser, Runner) {
    let gateway = crate::gateway(&Options { uid: Some(NOBODY), ..options });
    let line = format!("{PASSWORD}\n");
    let (status, _, err) = gateway.try_cli(&["user", "passwd", "alice", "--password-stdin"], &line);
    assert!(status.success(), "{err}");
    let alice = gateway.signed_in("alice", PASSWORD);
    let token = gateway.cli(&["token", "create", "--runner", "laptop", "--owner", "alice"]);
    let mut runner = Runner::new(SOJOURN, gateway.web_port(), token.trim());
    runner.uid = Some(NOBODY);
    (gateway, alice, runner)
}

/// A line of what the kernel says of a process.
fn status_of(pid: u32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("such a line");
    line.split_whitespace().next().expect("a value").to_owned()
}

#[test]
fn it_lets_people_in_and_says_what_it_has_not() {
    let profile = "[profiles.mine]\nsandbox = \"host\"\nrun_as = \"daemon\"\nallow = [\"*\"]\n";
    let options = Options { more: profile.to_owned(), ..Options::default() };
    let (mut gateway, mut alice, _runner) = house(options);
    assert!(gateway.log().contains("sojourn: note: this runs without root"), "{}", gateway.log());
    for (user, wanted) in [
        ("alice", "this gateway runs without root and makes no sandboxes; use a machine with"),
        ("alice+mine", "this gateway runs without root and runs nothing as \"daemon\"; use"),
    ] {
        let refused = gateway.alice().user(user).run("true");
        assert_eq!(refused.code, 75, "{refused:?}");
        assert!(refused.err.contains(wanted), "{refused:?}");
    }
    let refused = alice
        .post("/api/sessions", &json!({"harness": "shell"}))
        .refused(503, "RUNNER_UNAVAILABLE");
    assert!(refused["error"].as_str().is_some_and(|line| line.contains("without root")));
    gateway.audit_with(3, "session_refused");
    let health = alice.get("/api/health").expect(200);
    assert_eq!(health["status"], "healthy", "{health}");

    let below = descendants(gateway.pid());
    assert!(below.len() >= 2, "zygote and runner: {below:?}");
    for pid in [vec![gateway.pid()], below].concat() {
        assert_eq!(status_of(pid, "Uid:"), starter().to_string(), "{pid}");
        assert_eq!(status_of(pid, "NoNewPrivs:"), "1", "{pid}");
    }
    for name in ["", "audit", "keys", "recordings", "kept", "sessions", "images"] {
        let about = fs::metadata(gateway.data().join(name)).expect("a directory");
        assert_eq!((about.mode() & 0o7777, about.uid()), (0o700, starter()), "{name}");
    }
    hang_up(&gateway);
    let read = gateway.wait_for_audit("a reload", |line| line["action"] == "config_reloaded");
    assert_eq!(read["details"]["waiting"], json!([]), "{read}");
    gateway.cli(&["verify"]);
    assert_eq!(gateway.stop().code(), Some(0), "{}", gateway.log());
    until("nobody to be left", PATIENCE, || gateway.leftovers().is_empty().then_some(()));
    // It has no control groups to look for, and none to miss.
    let complaints: Vec<_> = gateway
        .log_lines()
        .into_iter()
        .filter(|line| line["level"] == "WARN" || line["level"] == "ERROR")
        .filter(|line| line["target"].as_str().is_some_and(|of| of.starts_with("sojourn_runner")))
        .collect();
    assert_eq!(complaints, [Value::Null; 0]);
}

#[test]
fn agents_and_terminals_on_its_own_machine_are_recorded_and_end_on_time() {
    let (mut gateway, mut alice, mut runner) = house(Options::default());
    runner.launch();
    connected(&mut alice, &runner);
    let agent = start(&mut alice, &runner, "say 3");
    stands(&mut alice, &runner, &agent, "waiting");
    assert_eq!(said(&transcript(&mut alice, &agent)), "word 1\nword 2\nword 3\n");
    alice.delete(&format!("/api/sessions/{agent}")).expect(202);
    stands(&mut alice, &runner, &agent, "ended");

    let body = json!({"harness": "fake", "cwd": runner.work(), "prompt": "hang",
        "limits": {"max_runtime_seconds": 1}});
    let started = alice.post("/api/sessions", &body).expect(201);
    let late = started["session_id"].as_str().expect("an id");
    let ended = stands(&mut alice, &runner, late, "ended");
    assert_eq!(ended["end_reason"], "max_runtime");

    let mut ssh = at_terminal(&gateway.alice(), "alice+laptop:", (80, 24));
    ssh.write(b"echo up-$((6*7)) as $(id -u)\r");
    ssh.expect(&format!("up-42 as {}", starter()));
    // The same user, and all the same not at home: whoever answers for a session is not inside.
    let command = format!(
        "cd /; setsid -w /proc/{}/exe --data-dir '{}' session end-all --all; echo left-$?\r",
        gateway.pid(),
        gateway.data().display()
    );
    ssh.write(command.as_bytes());
    ssh.expect("not from inside a session");
    ssh.expect("left-1");
    ssh.write(b"exit 3\r");
    let over = ssh.finish(PATIENCE);
    assert_eq!(over.code, 3, "{}", over.text());

    let newest = until("its end", PATIENCE, || {
        gateway.sessions().into_iter().next().filter(|session| session["status"] == "ended")
    });
    let shell = newest["id"].as_str().expect("an id");
    assert_eq!((&newest["runner"], &newest["exit"]["code"]), (&json!("laptop"), &json!(3)));
    assert!(gateway.cli(&["session", "show", shell]).contains(shell));
    let played = gateway.cli(&["session", "replay", shell, "--speed", "1000"]);
    assert!(played.contains("up-42"), "{played}");
    let recordings = files_below(&gateway.data().join("recordings"));
    for id in [agent.as_str(), late, shell] {
        gateway.wait_for_audit("its end on record", |line| {
            line["action"] == "session_ended"
                && line["session_id"] == id
                && line["details"]["recording_sha256"].is_string()
        });
        for ending in ["cast", "json"] {
            let name = format!("{id}.{ending}");
            let file = recordings.iter().find(|file| file.ends_with(&name)).expect("a record");
            assert_eq!(fs::metadata(file).expect("a file").uid(), starter(), "{name}");
        }
    }
    gateway.cli(&["verify"]);
    assert_eq!(runner.stop().code(), Some(0), "{}", runner.log());
    assert_eq!(gateway.stop().code(), Some(0), "{}", gateway.log());
    gateway.cli(&["verify"]);
}

#[test]
fn sessions_on_a_runner_go_on_while_the_gateway_is_gone() {
    let options = Options { server: "on_stop = \"leave\"".to_owned(), ..Options::default() };
    let (mut gateway, mut alice, mut runner) = house(options);
    stay_at(&gateway);
    runner.launch();
    connected(&mut alice, &runner);
    let id = start(&mut alice, &runner, "say 1");
    stands(&mut alice, &runner, &id, "waiting");
    gateway.kill();
    gateway.launch();
    connected(&mut alice, &runner);
    stands(&mut alice, &runner, &id, "waiting");
    assert_eq!(gateway.stop().code(), Some(0), "{}", gateway.log());
    gateway.launch();
    connected(&mut alice, &runner);
    stands(&mut alice, &runner, &id, "waiting");
    let mut socket = alice.socket(&format!("/api/sessions/{id}/attach"));
    let message = json!({"type": "user_message", "content": "say 2", "client_msg_id": "again"});
    socket.json(&message).expect("a message");
    until("an answer", PATIENCE, || {
        let told = said(&transcript(&mut alice, &id));
        (told == "word 1\nword 1\nword 2\n").then_some(())
    });
    alice.delete(&format!("/api/sessions/{id}")).expect(202);
    stands(&mut alice, &runner, &id, "ended");
    let lines = gateway.audit_with(1, "session_ended");
    let of_it = |action: &str| {
        lines.iter().filter(|it| it["action"] == action && it["session_id"] == *id).count()
    };
    assert_eq!((of_it("session_started"), of_it("session_ended")), (1, 1));
    gateway.cli(&["verify"]);
}

#[test]
fn recordings_that_there_is_no_room_for_go() {
    let more = "[recording]\nmax_total = \"100KB\"\n".to_owned();
    let (gateway, mut alice, mut runner) = house(Options { more, ..Options::default() });
    runner.launch();
    connected(&mut alice, &runner);
    let ids = [(); 2].map(|()| {
        let id = start(&mut alice, &runner, "stream 70k");
        stands(&mut alice, &runner, &id, "waiting");
        alice.delete(&format!("/api/sessions/{id}")).expect(202);
        stands(&mut alice, &runner, &id, "ended");
        id
    });
    gateway.wait_for_audit("its removal", |line| {
        line["action"] == "recording_removed" && line["session_id"] == ids[0].as_str()
    });
    until("its file to be gone", PATIENCE, || {
        let files = files_below(&gateway.data().join("recordings"));
        let has = |id: &String| files.iter().any(|file| file.ends_with(format!("{id}.cast")));
        (!has(&ids[0]) && has(&ids[1])).then_some(())
    });
    gateway.cli(&["verify"]);
}

/// A command of ours in a world of one's own, as nobody special.
fn command(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new(scratch.executable(Path::new(SOJOURN)));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("XDG_DATA_HOME", scratch.path().join("share"))
        .env("XDG_CONFIG_HOME", scratch.path().join("config"))
        .current_dir("/");
    if am_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_it_cannot_be_it_refuses_in_one_line_that_names_it() {
    let scratch = Scratch::new();
    let config = "[web]\nlisten = \"127.0.0.1:0\"\n[[ssh]]\nlisten = \"127.0.0.1:0\"\n\
                  mode = \"honeypot\"\nprofile = \"bait\"\n";
    let file = scratch.file("honeypot.toml", config);
    let mut serve = command(&scratch, &["serve", "--config"]);
    let (code, line) = told(&serve.arg(file).output().expect("the command"));
    assert_eq!((code, line.lines().count()), (Some(2), 1), "{line}");
    assert!(line.contains("a honeypot's visitors get sandboxes (profile \"bait\")"), "{line}");
    if am_root() {
        let theirs = scratch.path().join("theirs");
        fs::create_dir(&theirs).expect("a directory");
        let mut serve = command(&scratch, &["serve", "--data-dir"]);
        let (code, line) = told(&serve.arg(&theirs).output().expect("the command"));
        assert_eq!((code, line.lines().count()), (Some(1), 1), "{line}");
        assert!(line.contains("it is another user's (uid 0)"), "{line}");
    }
}

#[test]
fn ones_own_configuration_and_data_are_where_ones_own_things_are() {
    let scratch = Scratch::new();
    for name in ["share", "config/sojourn"] {
        fs::create_dir_all(scratch.path().join(name)).expect("a directory");
    }
    let config = "[web]\nlisten = \"127.0.0.1:0\"\n[[ssh]]\nlisten = \"127.0.0.1:0\"\n";
    scratch.file("config/sojourn/sojourn.toml", config);
    let share = scratch.path().join("share");
    if am_root() {
        std::os::unix::fs::chown(&share, Some(NOBODY), Some(NOBODY)).expect("its owner");
    }
    let serve = Running::new(command(&scratch, &["serve"]));
    serve.expect("look around");
    let welcome = serve.so_far();
    assert!(welcome.contains("admin+RUNNER:@127.0.0.1"), "{welcome}");
    assert!(welcome.contains("sojourn runner --gateway http://localhost:"), "{welcome}");
    let password = fs::read_to_string(share.join("sojourn/first-admin")).expect("a password");
    assert!(password.starts_with("first admin: admin "), "{password}");
    for (arguments, wanted) in [
        (&["user", "ls"][..], "admin"),
        (&["session", "ls"], ""),
        (&["audit", "tail"], "gateway_started"),
        (&["config", "show"], "share/sojourn"),
        (&["verify"], ""),
    ] {
        let output = command(&scratch, arguments).output().expect("the command");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && out.contains(wanted), "{arguments:?}: {output:?}");
    }
    let second = command(&scratch, &["serve"]).output().expect("the command");
    let (code, line) = told(&second);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(&format!("another gateway (pid {})", serve.pid())), "{line}");
    let pid = i32::try_from(serve.pid()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::TERM).expect("it");
    let over = serve.finish(PATIENCE);
    assert_eq!(over.code, 0, "{}", over.err);
}
