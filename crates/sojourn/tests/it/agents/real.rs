//! The same with a real runner and an agent that plays a script: everything between a browser and what
//! an agent does.

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Ask;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Socket;
use sojourn_testkit::until;

use super::attach;
use crate::runner_lives::connected;
use crate::runner_lives::house;
use crate::runner_lives::said;
use crate::runner_lives::stands;
use crate::runner_lives::start;
use crate::runner_lives::transcript;

fn say(socket: &mut Socket, id: &str, content: &str) {
    let message = json!({"type": "user_message", "content": content, "client_msg_id": id});
    socket.json(&message).expect("a message");
}

fn answer(prompt: &Value, allow: bool, reason: &str) -> Value {
    json!({"type": "permission_response", "request_id": prompt["request_id"],
        "input_hash": prompt["input_hash"], "allow": allow, "reason": reason})
}

#[test]
fn a_prompt_is_answered_in_one_of_two_browsers_and_the_agent_does_it() {
    let (gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let id = start(&mut mia, &runner, "perm");
    let mut first = attach(&mia, &id, "");
    let mut second = attach(&mia, &id, "");
    let prompt = first.wait_for("permission_prompt");
    assert_eq!(second.wait_for("permission_prompt")["request_id"], prompt["request_id"]);
    stands(&mut mia, &runner, &id, "waiting");
    second.json(&answer(&prompt, true, "")).expect("an answer");
    for socket in [&mut first, &mut second] {
        let resolved = socket.wait_for("prompt_resolved");
        assert_eq!((&resolved["by"], &resolved["decision"]), (&json!("mia"), &json!("allow")));
    }
    until("what was allowed", PATIENCE, || {
        (said(&transcript(&mut mia, &id)) == "ran make all\n").then_some(())
    });
    say(&mut first, "m1", "perm");
    let prompt = second.wait_for("permission_prompt");
    first.json(&answer(&prompt, false, "not today")).expect("an answer");
    until("what was denied", PATIENCE, || {
        said(&transcript(&mut mia, &id)).contains("denied make all").then_some(())
    });
    // Else it is the turn before that runs, and is interrupted.
    stands(&mut mia, &runner, &id, "waiting");
    say(&mut first, "m2", "hang");
    stands(&mut mia, &runner, &id, "running");
    first.json(&json!({"type": "interrupt"})).expect("an interrupt");
    stands(&mut mia, &runner, &id, "waiting");
    say(&mut first, "m3", "say 2");
    until("an answer after the interrupt", PATIENCE, || {
        said(&transcript(&mut mia, &id)).ends_with("word 1\nword 2\n").then_some(())
    });
    first.json(&json!({"type": "end"})).expect("an end");
    assert_eq!(second.wait_for("ended")["reason"], "ended_by");
    let lines = gateway.audit_with(1, "session_ended");
    let count = |action: &str| {
        let of_this = |line: &&Value| line["session_id"] == json!(id) && line["action"] == action;
        lines.iter().filter(of_this).count()
    };
    assert_eq!((count("permission_granted"), count("permission_denied")), (1, 1));
    assert_eq!((count("input_sent"), count("interrupt_sent"), count("session_ended")), (3, 1, 1));
    let told = gateway.cli(&["session", "replay", &id, "--speed", "1000"]);
    for words in ["ran make all", "= denied by mia", "word 2", "ended (ended by)"] {
        assert!(told.contains(words), "{words:?} in {told}");
    }
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

#[test]
fn case_04_a_hundred_answers_race_and_the_agent_gets_one() {
    let (gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let id = start(&mut mia, &runner, "perm");
    let prompt = attach(&mia, &id, "").wait_for("permission_prompt");
    let request = prompt["request_id"].as_str().expect("an id");
    let path = format!("/api/sessions/{id}/prompts/{request}");
    let asked = json!({"name": "racer", "scopes": ["sessions"]});
    let token = mia.post("/api/me/tokens", &asked).expect(201)["token"].clone();
    let token = token.as_str().expect("a token");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let racing: Vec<_> = (0..100)
            .map(|n| {
                let (mut racer, hash) = (gateway.browser(), &prompt["input_hash"]);
                let body = json!({"input_hash": hash, "allow": n % 2 == 0});
                let ask = Ask::new("POST", &path).bearer(token).json(&body);
                scope.spawn(move || racer.send(&ask).status)
            })
            .collect();
        racing.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    stands(&mut mia, &runner, &id, "waiting");
    let heard = runner.agent_heard();
    let got = heard.iter().filter(|line| line["got"] == "permission").count();
    assert_eq!(got, 1, "{heard:?}");
    let lines = gateway.audit_with(1, "session_started");
    let decided = |line: &&Value| {
        ["permission_granted", "permission_denied"].contains(&line["action"].as_str().unwrap())
    };
    assert_eq!(lines.iter().filter(decided).count(), 1);
}
