//! The gateway is killed while agents work, the link breaks, agents die: what people see is what it would
//! have been.

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Options;

use super::PASSWORD;
use super::Runner;
use super::attach;
use super::house;
use super::prompt;
use super::stands;
use super::start;
use super::update;

/// Every event of a session, as anybody reads it.
fn transcript(browser: &mut Browser, id: &str) -> Vec<Value> {
    let page = browser.get(&format!("/api/sessions/{id}/events?limit=1000")).expect(200);
    page["items"].as_array().expect("a list").iter().map(|it| it["event"].clone()).collect()
}

#[test]
fn case_02_a_killed_gateway_loses_and_doubles_nothing() {
    let mut gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    let mut wanted = 1;
    for round in 0..3 {
        for n in 0..40 {
            runner.event(&id, update(&format!("{round} {n}")));
        }
        wanted += 40;
        // In the midst of it, whatever of it is stored.
        gateway.kill();
        gateway.launch();
        runner.again(&gateway, "running", &[]);
        mia = gateway.signed_in("mia", PASSWORD);
    }
    runner.ended(&id, "exited");
    stands(&mut mia, &id, "ended");
    let read = transcript(&mut mia, &id);
    assert_eq!(read.len(), wanted + 1);
    for (round, part) in read[1..].chunks(40).enumerate().take(3) {
        for (n, event) in part.iter().enumerate() {
            assert_eq!(*event, update(&format!("{round} {n}")));
        }
    }
    let recording = mia.get(&format!("/api/sessions/{id}/recording")).body;
    let lines = String::from_utf8(recording).expect("UTF-8").lines().count();
    assert_eq!(lines, wanted + 2, "a header, and each event once");
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

#[test]
fn flaw_17_case_09_a_prompt_survives_refreshes_a_broken_link_and_a_killed_gateway() {
    let mut gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    let settled = runner.event(&id, prompt("ls"));
    let by_mode = json!({"is": "settled", "decision": "allow"});
    runner.event(&id, json!({"type": "resolved", "request": settled, "outcome": by_mode}));
    let request = runner.event(&id, prompt("make"));
    for _ in 0..3 {
        let mut socket = attach(&mia, &id, "?from=1");
        assert_eq!(socket.wait_for("permission_prompt")["request_id"], request, "and no other");
    }
    gateway.kill();
    gateway.launch();
    mia = gateway.signed_in("mia", PASSWORD);
    stands(&mut mia, &id, "disconnected");
    let mut socket = attach(&mia, &id, "?from=1");
    assert_eq!(socket.wait_for("permission_prompt")["request_id"], request);
    let said = json!({"type": "user_message", "content": "wait", "client_msg_id": "m1"});
    socket.json(&said).expect("a message");
    assert_eq!(socket.wait_for("message")["state"], "queued", "an honest answer");
    let path = format!("/api/sessions/{id}/prompts/{request}");
    mia.post(&path, &json!({"input_hash": "hash of make", "allow": false})).expect(200);
    gateway.kill();
    gateway.launch();
    mia = gateway.signed_in("mia", PASSWORD);
    let asks = [request.clone()];
    runner.again(&gateway, "running", &asks);
    let answer = runner.command("answer");
    assert_eq!((&answer["request"], &answer["decision"]), (&json!(request), &json!("deny")));
    assert_eq!(runner.command("message")["content"], "wait");
    stands(&mut mia, &id, "running");
}

#[test]
fn case_05_an_agent_that_died_is_resumed_and_what_it_asked_is_lost() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    let request = runner.event(&id, prompt("make"));
    let mut socket = attach(&mia, &id, "");
    socket.wait_for("permission_prompt");
    runner.ended(&id, "signalled");
    let lost = socket.wait_for("prompt_resolved");
    assert_eq!(lost["decision"], "lost");
    let gone = stands(&mut mia, &id, "disconnected");
    assert_eq!(gone["recovery"]["can_resume"], true);
    let path = format!("/api/sessions/{id}/prompts/{request}");
    let late = json!({"input_hash": "hash of make", "allow": true});
    mia.post(&path, &late).refused(410, "GONE");
    mia.post(&format!("/api/sessions/{id}/resume"), &json!({})).expect(202);
    let launch = runner.command("resume");
    assert_eq!((&launch["epoch"], &launch["resume"]), (&json!(2), &json!("a-1")));
    assert_eq!(launch["head"], 3);
    runner.epoch = 2;
    runner.started(&id);
    stands(&mut mia, &id, "running");
    mia.post(&path, &late).refused(410, "GONE");
    mia.post(&format!("/api/sessions/{id}/resume"), &json!({})).refused(409, "CONFLICT");
    runner.ended(&id, "exited");
    stands(&mut mia, &id, "ended");
    mia.post(&format!("/api/sessions/{id}/resume"), &json!({})).expect(202);
    runner.command("resume");
    runner.epoch = 3;
    runner.started(&id);
    stands(&mut mia, &id, "running");
    runner.ended(&id, "exited");
    stands(&mut mia, &id, "ended");
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}
