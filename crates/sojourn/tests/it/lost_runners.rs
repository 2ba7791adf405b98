//! Runners that never come back: their sessions end here, on record, and their places are free.

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Runner;
use sojourn_testkit::until;

use crate::runner_lives::connected;
use crate::runner_lives::house;
use crate::runner_lives::stands;
use crate::runner_lives::start;
use crate::runner_lives::transcript;

/// An agent and a terminal on a runner that has died without a word.
fn bereft(options: &Options) -> (Gateway, Browser, Runner, [String; 2]) {
    let (gateway, mut mia, mut runner) = house(options);
    runner.launch();
    connected(&mut mia, &runner);
    let agent = start(&mut mia, &runner, "hang");
    stands(&mut mia, &runner, &agent, "running");
    let wish = json!({"harness": "shell", "runner": "laptop", "cwd": runner.work()});
    let started = mia.post("/api/sessions", &wish).expect(201);
    let terminal = started["session_id"].as_str().expect("an id").to_owned();
    runner.kill();
    (gateway, mia, runner, [agent, terminal])
}

/// Waits until they are lost: their state, one line each, and no place that is taken.
#[track_caller]
fn are_lost(gateway: &Gateway, mia: &mut Browser, runner: &Runner, ids: &[String; 2], why: &str) {
    for id in ids {
        let ended = stands(mia, runner, id, "ended");
        assert_eq!(ended["end_reason"], "runner_lost");
        let line = gateway.wait_for_audit("its end", |line| {
            line["action"] == "session_ended" && line["session_id"] == id.as_str()
        });
        assert_eq!(line["details"]["reason"], "runner_lost");
        gateway.cli(&["verify", id]);
    }
    let ends = |line: &&Value| line["action"] == "session_ended";
    assert_eq!(gateway.audit().iter().filter(ends).count(), 2, "once each");
    let line = gateway.wait_for_audit("the agent's", |line| {
        line["action"] == "session_ended" && line["session_id"] == ids[0].as_str()
    });
    assert_eq!(line["details"]["why"], why);
    until("no place is taken", PATIENCE, || {
        let health = gateway.browser().get("/api/health").expect(200);
        (health["active_sessions"] == 0).then_some(())
    });
}

#[test]
fn a_runner_that_is_removed_while_it_is_away_takes_its_sessions_along() {
    let (gateway, mut mia, runner, ids) = bereft(&Options::default());
    for id in &ids {
        stands(&mut mia, &runner, id, "disconnected");
    }
    gateway.cli(&["runners", "rm", "laptop"]);
    are_lost(&gateway, &mut mia, &runner, &ids, "its runner was removed");
}

#[test]
fn a_runner_that_does_not_come_back_loses_its_sessions_and_their_places() {
    let limits = "runner_lost_after = \"2s\"\n".to_owned();
    let (gateway, mut mia, mut runner, ids) = bereft(&Options { limits, ..Options::default() });
    are_lost(&gateway, &mut mia, &runner, &ids, "its runner did not come back");
    assert_eq!(mia.get("/api/runners").expect(200)["items"][0]["sessions"], 0);
    // It comes after all: what it kept of them is not theirs any more, and it goes on.
    runner.launch();
    connected(&mut mia, &runner);
    let next = start(&mut mia, &runner, "say 1");
    stands(&mut mia, &runner, &next, "waiting");
    let kept = transcript(&mut mia, &ids[0]);
    assert!(kept.iter().all(|event| event["type"] != "ended"), "{kept:?}");
}
