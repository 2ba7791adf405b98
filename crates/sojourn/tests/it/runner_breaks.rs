//! What breaks between a runner, its agents and its gateway: what people see is what it would have
//! been.

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Cutter;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Runner;
use sojourn_testkit::processes_of;
use sojourn_testkit::until;

use crate::is_long_run;
use crate::runner_lives::again;
use crate::runner_lives::connected;
use crate::runner_lives::house;
use crate::runner_lives::prompts;
use crate::runner_lives::said;
use crate::runner_lives::stands;
use crate::runner_lives::start;
use crate::runner_lives::transcript;

/// As [`house`], with somebody in between who cuts.
pub(crate) fn house_with_a_cutter() -> (Gateway, Browser, Runner, Cutter) {
    let options = Options { limits: "starts_per_minute = 0\n".to_owned(), ..Options::default() };
    let (gateway, mia, runner) = house(&options);
    let cutter = Cutter::new(gateway.web_port());
    let token = std::fs::read_to_string(runner.token_file()).expect("its token");
    let runner = Runner::new(env!("CARGO_BIN_EXE_sojourn"), cutter.port, &token);
    (gateway, mia, runner, cutter)
}

/// The prompt that waits for an answer.
#[track_caller]
pub(crate) fn asked(mia: &mut Browser, id: &str) -> Value {
    until("a prompt", PATIENCE, || {
        let events = transcript(mia, id);
        events.into_iter().find(|event| event["type"] == "prompt")
    })
}

#[track_caller]
pub(crate) fn allow(mia: &mut Browser, id: &str, prompt: &Value) -> u16 {
    let request = prompt["request"].as_str().expect("a request");
    let body = json!({"input_hash": prompt["input_hash"], "allow": true});
    mia.post(&format!("/api/sessions/{id}/prompts/{request}"), &body).status
}

pub(crate) fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind).count()
}

#[test]
fn case_02_a_link_that_is_cut_again_and_again_changes_nothing_that_is_shown() {
    let (_gateway, mut mia, mut runner, cutter) = house_with_a_cutter();
    runner.launch();
    connected(&mut mia, &runner);
    let cuts: &[usize] = if is_long_run() { &[1, 2, 3, 4, 5, 6, 7, 8, 9] } else { &[1, 3] };
    for (round, k) in cuts.iter().enumerate() {
        cutter.cut_after(0);
        connected(&mut mia, &runner);
        let id = start(&mut mia, &runner, "perm");
        let prompt = asked(&mut mia, &id);
        cutter.cut_after(*k);
        assert_eq!(allow(&mut mia, &id, &prompt), 200);
        stands(&mut mia, &runner, &id, "waiting");
        mia.delete(&format!("/api/sessions/{id}")).expect(202);
        stands(&mut mia, &runner, &id, "ended");
        let events = transcript(&mut mia, &id);
        assert_eq!(said(&events), "ran make all\n", "k={k}");
        assert_eq!((count(&events, "prompt"), count(&events, "ended")), (1, 1), "k={k}");
        assert_eq!(prompts(&runner).len(), round + 1, "each prompt reached an agent once");
    }
    assert!(cutter.cuts() > 0);
}

#[test]
fn flaw_19_case_02_a_gateway_that_is_killed_misses_nothing_of_what_an_agent_says() {
    let (mut gateway, mut mia, mut runner, cutter) = house_with_a_cutter();
    runner.launch();
    connected(&mut mia, &runner);
    let id = start(&mut mia, &runner, "stream 300k at 100k/s");
    let rounds = if is_long_run() { 5 } else { 2 };
    for round in 0..rounds {
        until("more of it", PATIENCE, || {
            (said(&transcript(&mut mia, &id)).len() > round * 30_000).then_some(())
        });
        gateway.kill();
        gateway.launch();
        cutter.follow(gateway.web_port());
        mia = again(&gateway);
        connected(&mut mia, &runner);
    }
    stands(&mut mia, &runner, &id, "waiting");
    let text = said(&transcript(&mut mia, &id));
    assert!(text.bytes().all(|byte| byte == b'x'));
    assert_eq!(text.len(), 300_000, "nothing is missing and nothing is twice");
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

#[test]
fn case_05_case_10_a_killed_runner_leaves_nothing_alive_and_what_was_cut_is_told() {
    let (_gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let stubborn = start(&mut mia, &runner, "fork-setsid");
    let asking = start(&mut mia, &runner, "perm");
    let prompt = asked(&mut mia, &asking);
    stands(&mut mia, &runner, &stubborn, "waiting");
    assert!(processes_of(&stubborn).len() > 1, "{:?}", processes_of(&stubborn));
    runner.kill();
    for id in [&stubborn, &asking] {
        until("an empty tree", PATIENCE, || processes_of(id).is_empty().then_some(()));
    }
    runner.launch();
    connected(&mut mia, &runner);
    let over = until("its end", PATIENCE, || {
        let session = mia.get(&format!("/api/sessions/{asking}")).expect(200);
        let over = ["ended", "disconnected"].contains(&session["status"].as_str()?);
        (over && session["end_reason"] != Value::Null || session["recovery"] != Value::Null)
            .then_some(session)
    });
    let events = until("what was cut", PATIENCE, || {
        let events = transcript(&mut mia, &asking);
        (count(&events, "ended") == 1).then_some(events)
    });
    let resolved = events.iter().find(|event| event["type"] == "resolved").expect("an outcome");
    assert_eq!(resolved["outcome"]["is"], "lost", "{over}");
    let cut = events.iter().find(|event| event["type"] == "turn_cut").expect("a cut turn");
    assert_eq!(cut["why"], "runner_died");
    assert_eq!(events.last().expect("an end")["reason"], "runner_lost");
    assert_eq!(allow(&mut mia, &asking, &prompt), 410, "a late answer reaches nobody");
    let resumed = mia.post(&format!("/api/sessions/{asking}/resume"), &json!({}));
    assert_eq!(resumed.status, 202, "{}", String::from_utf8_lossy(&resumed.body));
    stands(&mut mia, &runner, &asking, "waiting");
    assert_eq!(prompts(&runner).len(), 2, "nothing was asked of an agent twice");
}

#[test]
fn case_10_the_end_of_a_session_and_of_its_runner_is_the_end_of_all_it_started() {
    let (_gateway, mut mia, mut runner) =
        house(&Options { limits: "grace = \"1s\"\n".to_owned(), ..Options::default() });
    runner.launch();
    connected(&mut mia, &runner);
    let first = start(&mut mia, &runner, "fork-setsid");
    let second = start(&mut mia, &runner, "fork-setsid");
    for id in [&first, &second] {
        stands(&mut mia, &runner, id, "waiting");
        assert!(processes_of(id).len() > 1, "{:?}", processes_of(id));
    }
    mia.delete(&format!("/api/sessions/{first}")).expect(202);
    stands(&mut mia, &runner, &first, "ended");
    assert_eq!(processes_of(&first), [""; 0], "when the end is told nothing lives");
    assert_eq!(runner.stop().code(), Some(0), "{}", runner.log());
    assert_eq!(processes_of(&second), [""; 0]);
    let ended = stands(&mut mia, &runner, &second, "ended");
    assert_eq!(ended["end_reason"], "shutdown");
}

#[test]
fn case_06_a_flood_ends_once_and_nobody_else_is_disturbed() {
    let options = Options { limits: "max_output = \"2MB\"\n".to_owned(), ..Options::default() };
    let (gateway, mut mia, mut runner) = house(&options);
    runner.launch();
    connected(&mut mia, &runner);
    let calm = start(&mut mia, &runner, "say 1");
    let flood = start(&mut mia, &runner, "stream 200MB");
    let ended = stands(&mut mia, &runner, &flood, "ended");
    assert_eq!(ended["end_reason"], "max_output");
    let told = gateway.audit_with(1, "limit_exceeded");
    let exceeded = told.iter().filter(|line| line["action"] == "limit_exceeded").count();
    assert_eq!(exceeded, 1);
    assert_eq!(stands(&mut mia, &runner, &calm, "waiting")["end_reason"], Value::Null);
}
