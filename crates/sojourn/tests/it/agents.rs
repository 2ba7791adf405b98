//! Conversations with agents as people and runners have them, through the real program. The runner is
//! the test: a WebSocket that says what a runner would.

mod crashes;
mod finding;
mod real;
mod scripted;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Ask;
use sojourn_testkit::Browser;
use sojourn_testkit::Frame;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Socket;
use sojourn_testkit::until;

use crate::gateway;
use scripted::Runner;
use scripted::prompt;
use scripted::update;

const PASSWORD: &str = "nine tall cranes over 40 harbours";

/// A gateway with `mia` and `dora`, members, and `adam`, an admin.
fn house(options: &Options) -> Gateway {
    let gateway = gateway(options);
    for (name, role) in [("mia", "member"), ("dora", "member"), ("adam", "admin")] {
        gateway.add_user(name, role, PASSWORD);
    }
    gateway
}

/// Starts an agent's session.
#[track_caller]
fn start(browser: &mut Browser) -> String {
    let body = json!({"harness": "claude", "cwd": "/home/mia/src", "prompt": "hello"});
    let started = browser.post("/api/sessions", &body).expect(201);
    assert_eq!((&started["status"], &started["harness"]), (&json!("starting"), &json!("claude")));
    started["session_id"].as_str().expect("an id").to_owned()
}

fn attach(browser: &Browser, id: &str, query: &str) -> Socket {
    browser.socket(&format!("/api/sessions/{id}/attach{query}"))
}

fn show(browser: &mut Browser, id: &str) -> Value {
    browser.get(&format!("/api/sessions/{id}")).expect(200)
}

/// Waits until a session stands so.
#[track_caller]
fn stands(browser: &mut Browser, id: &str, status: &str) -> Value {
    until(&format!("a session that is {status}"), PATIENCE, || {
        let session = show(browser, id);
        (session["status"] == status).then_some(session)
    })
}

/// What is on record of a session, in order.
fn on_record(gateway: &Gateway, id: &str) -> Vec<Value> {
    let lines = gateway.audit().into_iter();
    lines.filter(|line| line["session_id"] == id).collect()
}

fn actions(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["action"].as_str().expect("an action")).collect()
}

#[test]
fn a_prompt_is_shown_to_everybody_and_answered_once() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    let launch = runner.command("start");
    assert_eq!((&launch["prompt"], &launch["by"]["user"]), (&json!("hello"), &json!("mia")));
    assert_eq!(launch["permission_mode"], "relay");
    let mut first = attach(&mia, &id, "");
    assert_eq!(first.wait_for("status")["status"], "starting");
    runner.started(&id);
    runner.event(&id, update("working"));
    let request = runner.event(&id, prompt("make"));
    let shown = first.wait_for("permission_prompt");
    assert_eq!((&shown["tool"], &shown["details"]["command"]), (&json!("Bash"), &json!("make")));
    assert_eq!(shown["request_id"], request);
    let mut second = attach(&mia, &id, "?from=1");
    let replayed: Vec<u64> =
        (0..3).map(|_| second.wait_for("event")["seq"].as_u64().expect("a number")).collect();
    assert_eq!(replayed, [1, 2, 3]);
    let late = second.wait_for("permission_prompt");
    assert_eq!(late["input_hash"], shown["input_hash"], "who comes later is asked as well");

    let answer = |allow: bool| {
        json!({"type": "permission_response", "request_id": request,
            "input_hash": shown["input_hash"], "allow": allow})
    };
    second.json(&answer(true)).expect("an answer");
    for socket in [&mut first, &mut second] {
        let resolved = socket.wait_for("prompt_resolved");
        assert_eq!((&resolved["by"], &resolved["decision"]), (&json!("mia"), &json!("allow")));
    }
    first.json(&answer(false)).expect("an answer");
    let refused = first.wait_for("error");
    assert_eq!((&refused["code"], &refused["by"]), (&json!("CONFLICT"), &json!("mia")));
    let sent = runner.command("answer");
    assert_eq!((&sent["request"], &sent["decision"]), (&json!(request), &json!("allow")));
    let path = format!("/api/sessions/{id}/prompts/{request}");
    let body = json!({"input_hash": shown["input_hash"], "allow": false});
    let conflict = mia.post(&path, &body).refused(409, "CONFLICT");
    assert_eq!((&conflict["by"], &conflict["decision"]), (&json!("mia"), &json!("allow")));

    runner.event(&id, update("done"));
    runner.ended(&id, "exited");
    assert_eq!(first.wait_for("ended")["reason"], "exited");
    assert_eq!(first.wait_for_close().0, 1000);
    let ended = stands(&mut mia, &id, "ended");
    assert_eq!((&ended["runner"], &ended["end_reason"]), (&json!("laptop"), &json!("exited")));
    gateway.audit_with(1, "session_ended");
    let lines = on_record(&gateway, &id);
    let wanted = [
        "session_started",
        "session_attached",
        "permission_requested",
        "session_attached",
        "permission_granted",
        "session_ended",
    ];
    assert_eq!(actions(&lines), wanted);
    let granted = &lines[4];
    assert_eq!(granted["actor"]["user"], "mia");
    assert_eq!(
        (&granted["details"]["tool"], &granted["details"]["input_hash"]),
        (&json!("Bash"), &shown["input_hash"])
    );
    let shown = serde_json::to_string(&lines).expect("JSON");
    assert!(!shown.contains("hello"), "a prompt is told by its digest: {shown}");
    let page = mia.get(&format!("/api/sessions/{id}/events?from=2&limit=2")).expect(200);
    let numbers: Vec<_> =
        page["items"].as_array().expect("a list").iter().map(|it| it["seq"].clone()).collect();
    assert_eq!((numbers, &page["next_cursor"]), (vec![json!(2), json!(3)], &json!("4")));
}

#[test]
fn an_opening_of_anothers_conversation_is_on_record_once() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut adam = gateway.signed_in("adam", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    runner.event(&id, update("I say something"));
    for from in [1, 2] {
        let page = format!("/api/sessions/{id}/events?from={from}&limit=1");
        mia.get(&page).expect(200);
        adam.get(&page).expect(200);
    }
    let mut lines = on_record(&gateway, &id);
    lines.retain(|line| line["action"] == "recording_read");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (actor, details) = (&lines[0]["actor"], &lines[0]["details"]);
    assert_eq!(actor["user"], "adam");
    assert_eq!(details, &json!({"what": "events", "from": 1}));
}

#[test]
fn a_conversation_is_recorded_replayed_and_verified() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    runner.event(&id, update("I say something"));
    runner.ended(&id, "exited");
    stands(&mut mia, &id, "ended");
    let recording = mia.get(&format!("/api/sessions/{id}/recording"));
    assert_eq!(recording.status, 200);
    let text = String::from_utf8(recording.body).expect("UTF-8");
    let events: Vec<Value> =
        text.lines().skip(1).map(|line| serde_json::from_str(line).expect("an event")).collect();
    assert_eq!(events.len(), 3, "{text}");
    assert!(events.iter().all(|event| event[1] == "e"), "{text}");
    let second: Value = serde_json::from_str(events[1][2].as_str().expect("a text")).expect("JSON");
    assert_eq!((&second["seq"], &second["event"]["type"]), (&json!(2), &json!("update")));
    let told = gateway.cli(&["session", "replay", &id, "--speed", "1000"]);
    assert!(told.contains("I say something") && told.contains("ended (exited)"), "{told}");
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
    let shown = gateway.cli(&["session", "show", &id]);
    assert!(shown.contains("laptop") && shown.contains("claude"), "{shown}");
    let found = mia.get("/api/sessions?q=laptop").expect(200);
    assert_eq!(found["items"][0]["id"], json!(id));
}

#[test]
fn flaw_02_a_conversation_is_its_owners() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut dora = gateway.signed_in("dora", PASSWORD);
    let mut adam = gateway.signed_in("adam", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    let request = runner.event(&id, prompt("make"));
    stands(&mut mia, &id, "waiting");
    let prompt = format!("/api/sessions/{id}/prompts/{request}");
    let body = json!({"input_hash": "hash of make", "allow": true});
    for path in ["events", "attach", "recording"] {
        dora.get(&format!("/api/sessions/{id}/{path}")).refused(404, "NOT_FOUND");
    }
    dora.post(&prompt, &body).refused(404, "NOT_FOUND");
    adam.post(&prompt, &body).refused(403, "FORBIDDEN");
    dora.post(&format!("/api/sessions/{id}/resume"), &json!({})).refused(404, "NOT_FOUND");
    let body = json!({"harness": "claude", "runner": "laptop", "prompt": "mine"});
    let refused = dora.post("/api/sessions", &body).refused(422, "INVALID");
    assert_eq!(refused["field"], "runner", "flaw 4: another's runner is none");
    let mut watching = attach(&adam, &id, "");
    watching.wait_for("permission_prompt");
    let said = json!({"type": "user_message", "content": "x", "client_msg_id": "1"});
    watching.json(&said).expect("a message");
    assert_eq!(watching.wait_for("error")["code"], "FORBIDDEN", "flaw 5");
    gateway.wait_for_audit("who watched", |line| {
        line["session_id"] == id && line["action"] == "session_watched"
    });
    adam.delete(&format!("/api/sessions/{id}")).expect(202);
    let end = runner.command("end");
    assert_eq!((&end["reason"], &end["by"]["user"]), (&json!("ended_by"), &json!("adam")));
    runner.ended(&id, "ended_by");
    let ended = stands(&mut mia, &id, "ended");
    assert_eq!(ended["end_reason"], "ended_by");
}

#[test]
fn flaw_11_the_sixth_start_in_a_minute_is_refused_and_the_fourth_session_too() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let body = json!({"harness": "claude", "prompt": "hello"});
    for _ in 0..3 {
        let id = start(&mut mia);
        runner.command("start");
        runner.started(&id);
    }
    let full = mia.post("/api/sessions", &body).refused(429, "LIMIT_REACHED");
    let limit = (&full["limit"], &full["max_sessions"]);
    assert_eq!(limit, (&json!("max_sessions_per_runner"), &json!(3)));
    for bad in [json!({"harness": "claude", "prompt": ""}), json!({"harness": "x y"})] {
        mia.post("/api/sessions", &bad).refused(422, "INVALID");
    }
    let live = mia.get("/api/sessions?harness=claude").expect(200);
    for session in live["items"].as_array().expect("a list") {
        runner.ended(session["id"].as_str().expect("an id"), "exited");
    }
    for _ in 0..2 {
        until("a free place", PATIENCE, || {
            let sessions = mia.get("/api/sessions?harness=claude&status=running").expect(200);
            sessions["items"].as_array().expect("a list").is_empty().then_some(())
        });
        let id = start(&mut mia);
        runner.command("start");
        runner.ended(&id, "exited");
        stands(&mut mia, &id, "ended");
    }
    let answer = mia.post("/api/sessions", &body);
    let header = answer.header("retry-after").map(ToOwned::to_owned);
    let refused = answer.refused(429, "RATE_LIMITED");
    let millis = refused["retry_after_ms"].as_u64().expect("a time");
    assert!(millis <= 60_000, "{refused}");
    let seconds: u64 = header.expect("Retry-After").parse().expect("seconds");
    assert!((millis.div_ceil(1000)).abs_diff(seconds) <= 1, "{seconds} {millis}");
}

#[test]
fn messages_are_queued_changed_taken_back_and_counted() {
    let options = Options { limits: "messages_per_minute = 4".to_owned(), ..Options::default() };
    let gateway = house(&options);
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    let mut socket = attach(&mia, &id, "");
    let say = |socket: &mut Socket, n: u32| {
        let message = json!({"type": "user_message", "content": format!("say {n}"),
            "client_msg_id": format!("m{n}")});
        socket.json(&message).expect("a message");
    };
    say(&mut socket, 1);
    assert_eq!(runner.command("message")["content"], "say 1");
    assert_eq!(socket.wait_for("message")["state"], "queued");
    say(&mut socket, 2);
    assert_eq!(runner.command("message")["client_msg_id"], "m2");
    say(&mut socket, 2);
    socket
        .json(&json!({"type": "message_edit", "client_msg_id": "m2", "content": "other"}))
        .expect("an edit");
    assert_eq!(runner.command("edit_message")["content"], "other");
    socket.json(&json!({"type": "message_cancel", "client_msg_id": "m2"})).expect("a cancel");
    assert_eq!(runner.command("cancel_message")["client_msg_id"], "m2");
    let gone = json!({"type": "message", "client_msg_id": "m2", "state": "cancelled"});
    runner.event(&id, gone);
    runner.event(
        &id,
        json!({"type": "user_message", "client_msg_id": "m1", "content": "say 1",
        "by": {"user": "mia"}}),
    );
    let mut states = Vec::new();
    while states.len() < 2 {
        let message = socket.wait_for("message");
        if message["state"] != "queued" {
            states.push((message["client_msg_id"].clone(), message["state"].clone()));
        }
    }
    assert_eq!(states, [(json!("m2"), json!("cancelled")), (json!("m1"), json!("sent"))]);
    say(&mut socket, 3);
    assert_eq!(runner.command("message")["content"], "say 3");
    say(&mut socket, 4);
    let refused = loop {
        let message = socket.wait_for("message");
        if message["state"] == "refused" {
            break message;
        }
    };
    assert_eq!(
        (&refused["code"], &refused["client_msg_id"]),
        (&json!("RATE_LIMITED"), &json!("m4"))
    );
    let sent = gateway.wait_for_audit("a message", |line| {
        line["session_id"] == id && line["action"] == "input_sent"
    });
    assert_eq!(sent["details"]["message"]["bytes"], 5);
    assert_eq!(sent["details"]["message"]["sha256"].as_str().map(str::len), Some(64));
}

#[test]
fn flaw_21_an_interrupt_is_passed_on_and_the_session_goes_on() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    stands(&mut mia, &id, "running");
    mia.post(&format!("/api/sessions/{id}/interrupt"), &json!({})).expect(202);
    assert_eq!(runner.command("interrupt")["by"]["user"], "mia");
    runner.event(&id, json!({"type": "turn_cut", "why": "interrupted"}));
    runner.event(&id, json!({"type": "status", "status": "waiting"}));
    stands(&mut mia, &id, "waiting");
    let body = json!({"seconds": 60, "why": "more to do"});
    mia.post(&format!("/api/sessions/{id}/extend"), &body).refused(422, "INVALID");
    let mut adam = gateway.signed_in("adam", PASSWORD);
    // It is answered when the runner has done it.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| adam.post(&format!("/api/sessions/{id}/extend"), &body));
        runner.command("extend");
        asked.join().expect("an answer").expect(202);
    });
    let ended = adam.post("/api/sessions/end-all", &json!({"runner": "laptop"})).expect(202);
    assert_eq!(ended["ended"], 1);
    runner.command("end");
}

#[test]
fn a_password_that_changes_ends_what_it_opened() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    let mut socket = attach(&mia, &id, "");
    socket.wait_for("event");
    let line = "eleven slow ferries at 6 quays\n";
    let (status, _, err) = gateway.try_cli(&["user", "passwd", "mia", "--password-stdin"], line);
    assert!(status.success(), "{err}");
    assert_eq!(runner.command("end")["reason"], "login_ended");
    let (code, told) = socket.wait_for_close();
    assert_eq!((code, &told.last().expect("a word")["type"]), (4401, &json!("login_ended")));
}

#[test]
fn case_03_one_who_does_not_read_holds_nobody_up() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    let _stuck = attach(&mia, &id, "");
    let mut reads = attach(&mia, &id, "");
    let long = "x".repeat(60_000);
    for n in 0..300 {
        runner.event(&id, update(&format!("{n} {long}")));
    }
    let mut last = 0;
    while last < 301 {
        match reads.next() {
            Frame::Text(frame) if frame["type"] == "event" => {
                let seq = frame["seq"].as_u64().expect("a number");
                assert_eq!(seq, last + 1);
                last = seq;
            }
            Frame::Text(_) | Frame::Output(..) => {}
            Frame::Closed(code, why) => panic!("closed: {code} {why}"),
        }
    }
    runner.ended(&id, "exited");
    stands(&mut mia, &id, "ended");
}

#[test]
fn a_start_that_cannot_be_says_what_to_do() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let body = json!({"harness": "claude", "prompt": "hello"});
    let refused = mia.post("/api/sessions", &body).refused(422, "INVALID");
    assert_eq!(refused["field"], "runner");
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let codex = json!({"harness": "codex", "runner": "laptop", "prompt": "hello"});
    let refused = mia.post("/api/sessions", &codex).refused(422, "INVALID");
    assert_eq!(refused["field"], "harness");
    let line = refused["error"].as_str().expect("a line");
    assert!(line.contains("not found on PATH"), "{line}");
    let started = mia.post("/api/sessions", &body).expect(201);
    let id = started["session_id"].as_str().expect("an id").to_owned();
    runner.refuse("start", "not_allowed", "/etc is not allowed here; see allow_dirs");
    let failed = stands(&mut mia, &id, "failed");
    assert_eq!(failed["end_reason"], "failed");
    let ended = gateway.wait_for_audit("its end", |line| {
        line["action"] == "session_ended" && line["session_id"] == json!(id)
    });
    assert_eq!(ended["details"]["why"], "/etc is not allowed here; see allow_dirs");
    runner.away();
    until("a runner that is away", PATIENCE, || {
        let named = json!({"harness": "claude", "runner": "laptop", "prompt": "hello"});
        let answer = mia.send(&Ask::new("POST", "/api/sessions").json(&named));
        (answer.status == 503).then_some(())
    });
}
