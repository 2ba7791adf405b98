//! A real runner at a real gateway: how it is started, what it says, and how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Runner;
use sojourn_testkit::processes_of;
use sojourn_testkit::until;

use crate::gateway;

const PASSWORD: &str = "nine tall cranes over 40 harbours";

/// A gateway, its user `mia`, and her runner that is not started yet.
pub(crate) fn house(options: &Options) -> (Gateway, Browser, Runner) {
    let gateway = gateway(options);
    gateway.add_user("mia", "member", PASSWORD);
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let made = mia.post("/api/runners", &json!({"name": "laptop"})).expect(201);
    let token = made["token"].as_str().expect("a token").to_owned();
    let runner = Runner::new(env!("CARGO_BIN_EXE_sojourn"), gateway.web_port(), &token);
    (gateway, mia, runner)
}

/// Signs `mia` in again, as after a restart.
pub(crate) fn again(gateway: &Gateway) -> Browser {
    gateway.signed_in("mia", PASSWORD)
}

/// Waits until the runner is there, and gives what the gateway knows of it.
#[track_caller]
pub(crate) fn connected(mia: &mut Browser, runner: &Runner) -> Value {
    until(&format!("the runner: {}", runner.log()), PATIENCE, || {
        let listed = mia.get("/api/runners").expect(200);
        let found = listed["items"][0].clone();
        (found["connected"] == true).then_some(found)
    })
}

/// Starts an agent with its first message.
#[track_caller]
pub(crate) fn start(mia: &mut Browser, runner: &Runner, prompt: &str) -> String {
    let body = json!({"harness": "fake", "cwd": runner.work(), "prompt": prompt});
    let started = mia.post("/api/sessions", &body).expect(201);
    started["session_id"].as_str().expect("an id").to_owned()
}

/// Waits until a session stands so.
#[track_caller]
pub(crate) fn stands(mia: &mut Browser, runner: &Runner, id: &str, status: &str) -> Value {
    let mut last = Value::Null;
    let what = format!("a session that is {status}; {}", runner.log());
    until(&what, PATIENCE, || {
        last = mia.get(&format!("/api/sessions/{id}")).expect(200);
        (last["status"] == status).then(|| last.clone())
    })
}

/// Everything that happened in a session.
#[track_caller]
pub(crate) fn transcript(mia: &mut Browser, id: &str) -> Vec<Value> {
    let page = mia.get(&format!("/api/sessions/{id}/events?limit=1000")).expect(200);
    page["items"].as_array().expect("a list").iter().map(|it| it["event"].clone()).collect()
}

/// What the agent said in it.
pub(crate) fn said(events: &[Value]) -> String {
    let updates = events.iter().filter(|event| event["type"] == "update");
    updates.filter_map(|event| event["update"]["content"]["text"].as_str()).collect()
}

/// What every agent was told to do, in order.
pub(crate) fn prompts(runner: &Runner) -> Vec<String> {
    let heard = runner.agent_heard().into_iter();
    heard.filter(|line| line["got"] == "prompt").map(|line| line["text"].to_string()).collect()
}

#[test]
fn a_conversation_with_an_agent_on_ones_own_machine() {
    let (gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    let found = connected(&mut mia, &runner);
    let work = fs::canonicalize(runner.work()).expect("a path");
    assert_eq!(found["about"]["directories"], json!([work]));
    let harnesses = found["about"]["harnesses"].as_array().expect("a list");
    let fake = harnesses.iter().find(|harness| harness["name"] == "fake").expect("the agent");
    assert_eq!(fake["available"], true);
    let id = start(&mut mia, &runner, "say 3");
    stands(&mut mia, &runner, &id, "waiting");
    let events = transcript(&mut mia, &id);
    assert_eq!(said(&events), "word 1\nword 2\nword 3\n");
    assert!(!processes_of(&id).is_empty());
    mia.delete(&format!("/api/sessions/{id}")).expect(202);
    let ended = stands(&mut mia, &runner, &id, "ended");
    assert_eq!(ended["end_reason"], "ended_by");
    assert_eq!(processes_of(&id), [""; 0]);
    let environments = runner.agent_heard();
    assert!(!format!("{environments:?}").contains("not for agents"), "flaw 6");
    assert_eq!(runner.stop().code(), Some(0));
    gateway.wait_for_audit("its going", |line| line["action"] == "runner_disconnected");
}

#[test]
fn flaw_06_a_directory_that_is_not_allowed_is_refused_with_what_to_do() {
    let (_gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let body = json!({"harness": "fake", "cwd": "/etc", "prompt": "hello"});
    let started = mia.post("/api/sessions", &body).expect(201);
    let id = started["session_id"].as_str().expect("an id");
    let failed = stands(&mut mia, &runner, id, "failed");
    assert_eq!(failed["end_reason"], "failed");
    let told = transcript(&mut mia, id).last().expect("an end").to_string();
    assert!(told.contains("/etc is not allowed on this runner; allowed is"), "{told}");
}

/// What became of a runner that was started wrongly: its status, and its line.
fn refused(output: &Output) -> (Option<i32>, String) {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let wrong: Vec<_> = told.lines().filter(|line| !line.starts_with("sojourn: note:")).collect();
    assert_eq!(wrong.len(), 1, "{told}");
    (output.status.code(), wrong.concat())
}

#[test]
fn what_is_configured_wrongly_is_told_in_one_line() {
    let runner = Runner::new(env!("CARGO_BIN_EXE_sojourn"), 1, "sjrunner1_x");
    let file = runner.token_file();
    let (status, told) = {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("its mode");
        let output = runner.command().output().expect("the command");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
        refused(&output)
    };
    assert!(status == Some(2) && told.contains("chmod 600"), "{status:?} {told}");
    for (arguments, wanted) in [
        (["--gateway", "http://gateway.example.org"], "use https"),
        (["--gateway", "gateway.example.org"], "begin with https://"),
        (["--allow", "/nowhere/at/all"], "/nowhere/at/all: No such file or directory"),
    ] {
        let mut command = runner.command();
        if arguments[0] == "--gateway" {
            // Each option may be given once: the first words are those of the sound one.
            command = std::process::Command::new(env!("CARGO_BIN_EXE_sojourn"));
            command.args(["runner", "--token-file"]).arg(&file).env("HOME", "/");
        }
        let (status, told) = refused(&command.args(arguments).output().expect("the command"));
        assert!(status == Some(2) && told.contains(wanted), "{status:?} {told}");
    }
}

#[test]
fn a_second_runner_is_refused_and_a_revoked_one_stops() {
    let (_gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    let found = connected(&mut mia, &runner);
    let id = start(&mut mia, &runner, "hang");
    stands(&mut mia, &runner, &id, "running");
    let second = runner.command().output().expect("the command");
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains("another runner (pid "), "{told}");
    let runner_id = found["id"].as_str().expect("an id");
    mia.delete(&format!("/api/runners/{runner_id}")).expect(204);
    assert_eq!(runner.wait().code(), Some(1), "{}", runner.log());
    assert_eq!(processes_of(&id), [""; 0]);
}
