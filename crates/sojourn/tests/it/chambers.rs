//! Shells on runners that dial in, in sandboxes that the runner makes.

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Dockerd;
use sojourn_testkit::Frame;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Runner;
use sojourn_testkit::Socket;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::processes_of;
use sojourn_testkit::until;

use crate::processes_with;
use crate::runner_lives::connected;
use crate::runner_lives::house;
use crate::runner_lives::stands;

/// A shell in the sandbox of this profile, and the way to its terminal.
#[track_caller]
fn open(mia: &mut Browser, runner: &Runner, profile: &str) -> (String, Socket) {
    let body = json!({"harness": "shell", "runner": "laptop", "profile": profile,
        "cols": 100, "rows": 30});
    let started = mia.post("/api/sessions", &body).expect(201);
    let id = started["session_id"].as_str().expect("an id").to_owned();
    stands(mia, runner, &id, "running");
    let socket = mia.socket(&format!("/api/sessions/{id}/attach?from=0"));
    (id, socket)
}

/// Reads a terminal until it has printed this. Gives all that it printed.
#[track_caller]
fn printed(socket: &mut Socket, text: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(text) {
        match socket.next() {
            Frame::Output(_, bytes) => all.extend(bytes),
            Frame::Text(_) => {}
            Frame::Closed(code, why) => panic!("{code} {why}: {}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// What there is to see of a sandbox from inside, whoever made it.
#[track_caller]
fn is_apart(socket: &mut Socket, runner: &Runner) {
    let look = format!(
        "stty size; id -u; test -e {}/. || echo apart-$((6*7)); echo on-$(tty | cut -c1-9).\n",
        runner.work().display()
    );
    socket.input(look.as_bytes()).expect("input");
    let told = printed(socket, "on-/dev/pts/.\r\n");
    assert!(told.contains("30 100\r\n0\r\n") && told.contains("apart-42\r\n"), "{told}");
    socket.json(&json!({"type": "resize", "cols": 120, "rows": 40})).expect("a new size");
    until("the new size inside", PATIENCE, || {
        socket.input(b"stty size; echo asked-$((1+1))\n").expect("input");
        printed(socket, "asked-2\r\n").contains("40 120").then_some(())
    });
}

/// Waits until a session ended so, and nothing of it lives.
#[track_caller]
fn is_gone(mia: &mut Browser, runner: &Runner, id: &str, reason: &str) -> Value {
    let ended = stands(mia, runner, id, "ended");
    assert_eq!(ended["end_reason"], reason);
    assert_eq!(processes_of(id), [""; 0], "{reason}");
    ended
}

#[test]
fn a_shell_on_a_runner_has_a_sandbox_where_its_profile_is_one() {
    if !can_make_sandboxes() {
        return;
    }
    let (gateway, mut mia, mut runner) = house(&Options::default());
    runner.keys = "[profiles.small]\nmemory = \"64MB\"\nhostname = \"nook\"\n".to_owned();
    runner.launch();
    connected(&mut mia, &runner);
    let (id, mut socket) = open(&mut mia, &runner, "small");
    is_apart(&mut socket, &runner);
    // Another one beside it is another sandbox.
    let (other, mut beside) = open(&mut mia, &runner, "default");
    beside.input(b"echo mine > /tmp/mine; hostname | tr a-z A-Z\n").expect("input");
    assert!(!printed(&mut beside, "SANDBOX-").contains("NOOK"));
    socket.input(b"ls /tmp; hostname | tr a-z A-Z; exit 7\n").expect("input");
    assert!(!printed(&mut socket, "NOOK").contains("mine\r\n"));
    assert_eq!(socket.wait_for("ended")["exit"], json!({"code": 7}));
    let ended = is_gone(&mut mia, &runner, &id, "exited");
    assert_eq!((&ended["profile"], &ended["exit"]["code"]), (&json!("small"), &json!(7)));
    mia.delete(&format!("/api/sessions/{other}")).expect(202);
    is_gone(&mut mia, &runner, &other, "ended_by");
    assert_eq!(runner.stop().code(), Some(0));
    gateway.wait_for_audit("its going", |line| line["action"] == "runner_disconnected");
}

#[test]
fn a_sandbox_ends_with_its_runner_and_the_next_one_makes_it_again() {
    if !can_make_sandboxes() {
        return;
    }
    let (_gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let (id, mut socket) = open(&mut mia, &runner, "default");
    let name = format!("in-a-chamber-{}", std::process::id());
    let line = format!("exec -a {name} bash -c 'trap \"\" HUP TERM; sleep 999; :'\n");
    socket.input(line.as_bytes()).expect("input");
    crate::the_process(&name);
    runner.kill();
    until("its end", PATIENCE, || processes_with(&name).is_empty().then_some(()));
    until("all else", PATIENCE, || processes_of(&id).is_empty().then_some(()));
    runner.launch();
    connected(&mut mia, &runner);
    is_gone(&mut mia, &runner, &id, "runner_lost");
    let (again, mut socket) = open(&mut mia, &runner, "default");
    is_apart(&mut socket, &runner);
    assert_eq!(runner.stop().code(), Some(0));
    is_gone(&mut mia, &runner, &again, "shutdown");
}

#[test]
fn what_a_runner_cannot_keep_apart_is_refused_with_what_to_do() {
    let (_gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let shell = json!({"harness": "shell", "runner": "laptop"});
    for (field, value, wanted) in [
        ("profile", json!("none"), "no profile \"none\"; it has default, host"),
        ("cwd", json!("/tmp"), "leave the directory out"),
    ] {
        let mut body = shell.clone();
        body["profile"] = json!("default");
        body[field] = value;
        let told = mia.post("/api/sessions", &body).refused(503, "RUNNER_UNAVAILABLE");
        assert!(told.to_string().replace("\\\"", "\"").contains(wanted), "{told}");
    }
    let body = json!({"harness": "fake", "profile": "default", "prompt": "say 1"});
    let started = mia.post("/api/sessions", &body).expect(201);
    let id = started["session_id"].as_str().expect("an id");
    stands(&mut mia, &runner, id, "failed");
    let told = mia.get(&format!("/api/sessions/{id}/events")).expect(200).to_string();
    assert!(told.contains("an agent works on the machine itself"), "{told}");
    // The profile of the machine itself is as none.
    let mut body = shell.clone();
    body["profile"] = json!("host");
    let started = mia.post("/api/sessions", &body).expect(201);
    stands(&mut mia, &runner, started["session_id"].as_str().expect("an id"), "running");
}

#[test]
fn a_shell_on_a_runner_has_a_container_where_its_profile_is_one() {
    let Some(engine) = Dockerd::start() else { return };
    let (_gateway, mut mia, mut runner) = house(&Options::default());
    runner.keys = engine.config("");
    runner.launch();
    connected(&mut mia, &runner);
    let (id, mut socket) = open(&mut mia, &runner, "default");
    is_apart(&mut socket, &runner);
    assert!(!engine.docker(&["ps", "-q"]).is_empty());
    socket.input(b"exit 3\n").expect("input");
    assert_eq!(socket.wait_for("ended")["exit"], json!({"code": 3}));
    is_gone(&mut mia, &runner, &id, "exited");
    assert_eq!(engine.docker(&["ps", "-aq"]), "", "the container is gone before the end is told");
}
