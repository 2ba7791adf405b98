//! The ways in which relays of this kind are known to go wrong, each with the test that would see it
//! here. Where a flaw cannot be by construction, that is said.
//!
//! | flaw | what goes wrong | test, or why it cannot be |
//! |---|---|---|
//! | 1 | who one is, and from where, is what one says | `flaw_01_no_header_says_who_somebody_is_or_from_where` here |
//! | 2 | sockets without authentication; knowing an id is enough | `flaw_02_a_conversation_is_its_owners` in `agents`; other sites' pages: `flaw_03_a_runner_is_whom_its_token_says…` in `runners` |
//! | 3 | a runner claims to be another, or speaks of any session | `flaw_03_…` in `runners` (two) and in the engine's `agents` |
//! | 4 | sessions start on anybody's machine | `flaw_04_…` in `runners` and in the runner's `remote` |
//! | 5 | a message is whose it says it is | `flaw_05_a_message_is_whose_login_it_came_by` here |
//! | 6 | directories are not checked, secrets inherited | `flaw_06_…` in `runner_lives` and in the runner's `remote` (four) |
//! | 7 | notifications run what they show | `flaw_07_…` in the runner's `notice` (two); there is no shell |
//! | 8 | approving one request runs another | `flaw_08_parallel_prompts_stay_apart…` in the runner's `agent` |
//! | 9 | answers to nothing are taken and logged | `flaw_09_a_prompt_names_the_tool_it_is_about` in the runner; `flaw_09_an_answer_to_nothing_is_refused_and_not_on_record` here |
//! | 10 | permission modes are names without a meaning, or are lost | `flaw_10_…` in the runner's `agent` (two) and the engine's `agents` |
//! | 11 | twice the rate at a window's edge; a refusal costs | `flaw_11_the_sixth_start_in_a_minute…` in `agents`; the windows are exact, see the engine's `rates` |
//! | 12 | limits begin anew with each turn | `flaw_12_…` in the runner (three) |
//! | 13 | a silent session has no limits; waiting for a person is idle | `flaw_13_…` in the runner's `leash` (two) and the engine's `agents` |
//! | 14 | a breach is repeated, and nobody is told | `flaw_14_a_limit_is_told_once_and_a_refused_message_is_not_lost` here |
//! | 15 | a new connection has new slots | `flaw_15_…` in the engine's `remote` and `agents` |
//! | 16 | output is lost or doubled over a break, joins reorder | `flaw_16_…` in `runner_rounds` and the engine's `agents` |
//! | 17 | prompts are lost by a refresh | `flaw_17_case_09_a_prompt_survives_refreshes…` in `agents::crashes` |
//! | 18 | the late end of an old connection takes the new one along | `flaw_18_case_07_…` in the engine's `remote` |
//! | 19 | a restarted gateway knows nothing of what runs | `flaw_19_case_02_…` in `runner_breaks` |
//! | 20 | two agents on one conversation; nothing is sent as a message | `flaw_20_…` in the runner's `agent` (three); resuming elsewhere cannot be: a session names its runner |
//! | 21 | an interrupt ends the session | `flaw_21_…` in `agents` and in the runner's `agent` |
//! | 22 | only the first process is ended | `flaw_22_what_outlives_its_program…` in the runner's `process`; `case_10_…` in `runner_breaks` |
//! | 23 | questions are not shown as they are asked | `flaw_23_…` in the runner's `agent` (two) |
//! | 24 | lines, queues and buffers without a bound | `flaw_24_…` in the runner's `agent` (two); `case_06_flaw_24_…` in `floods` |
//! | 25 | the audit log loses lines and keeps secrets | `flaw_25_what_is_said_is_on_record_at_once_and_never_in_the_clear` here |
//! | 26 | health is always good, and tells strangers too much | `flaw_26_health_tells_strangers_a_word_and_no_more` here; its honesty in `health` |
//!
//! The ten hardest cases, `case_01_…` to `case_10_…`, are tests of those names: 1 engine `agents`, 2
//! `runner_rounds`, `runner_breaks`, 3 `agents`, 4 engine `agents` and the runner's, 5 `runner_rounds`, 6
//! `floods`, 7 `runners` and engine `remote`, 8 the runner's `leash`, 9 `agents::crashes`, 10
//! `runner_breaks` and the runner's `process`.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Ask;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::until;

use crate::runner_breaks::asked;
use crate::runner_breaks::count;
use crate::runner_lives::again;
use crate::runner_lives::connected;
use crate::runner_lives::house;
use crate::runner_lives::stands;
use crate::runner_lives::start;
use crate::runner_lives::transcript;

fn with_limits(limits: &str) -> Options {
    Options { limits: limits.to_owned(), ..Options::default() }
}

#[test]
fn flaw_01_no_header_says_who_somebody_is_or_from_where() {
    let (gateway, mut mia, mut runner) = house(&with_limits("max_sessions_per_runner = 10\n"));
    runner.launch();
    connected(&mut mia, &runner);
    let body = json!({"harness": "fake", "cwd": runner.work(), "prompt": "say 1"});
    let mut try_as = |n: usize| {
        let address = format!("203.0.113.{n}");
        let ask = Ask::new("POST", "/api/sessions")
            .json(&body)
            .with("X-Client-ID", &format!("client-{n}"))
            .with("X-Forwarded-For", &address)
            .with("X-Real-IP", &address)
            .with("Forwarded", &format!("for={address}"));
        mia.send(&ask)
    };
    for n in 0..5 {
        try_as(n).expect(201);
    }
    try_as(5).refused(429, "RATE_LIMITED");
    let lines = gateway.audit();
    let starts: Vec<_> = lines.iter().filter(|it| it["action"] == "session_started").collect();
    assert_eq!(starts.len(), 5);
    for line in starts {
        let actor = (&line["actor"]["user"], &line["actor"]["ip_address"]);
        assert_eq!(actor, (&json!("mia"), &json!("127.0.0.1")));
    }
    let claims = Ask::new("GET", "/api/sessions").with("X-Client-ID", "client-1");
    gateway.browser().send(&claims).refused(401, "LOGIN_REQUIRED");
}

#[test]
fn flaw_05_a_message_is_whose_login_it_came_by() {
    let (gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let id = start(&mut mia, &runner, "say 1");
    stands(&mut mia, &runner, &id, "waiting");
    let mut page = mia.socket(&format!("/api/sessions/{id}/attach"));
    let forged = json!({"type": "user_message", "content": "say 2", "client_msg_id": "m",
        "user_id": "dora", "user": "dora", "by": {"user": "dora"}});
    page.json(&forged).expect("a message");
    let said = until("the message", PATIENCE, || {
        let told = transcript(&mut mia, &id);
        told.into_iter().find(|it| it["type"] == "user_message" && it["client_msg_id"] == "m")
    });
    assert_eq!(said["by"]["user"], "mia");
    let line = gateway.wait_for_audit("the message", |line| line["action"] == "input_sent");
    assert_eq!(line["actor"]["user"], "mia");
}

#[test]
fn flaw_09_an_answer_to_nothing_is_refused_and_not_on_record() {
    let (gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let id = start(&mut mia, &runner, "perm");
    let prompt = asked(&mut mia, &id);
    let answer = json!({"input_hash": prompt["input_hash"], "allow": true});
    let request = prompt["request"].as_str().expect("an id");
    let (first, rest) = request.split_at(1);
    let other = format!("{}{rest}", if first == "0" { "1" } else { "0" });
    let path = |request: &str| format!("/api/sessions/{id}/prompts/{request}");
    mia.post(&path(&other), &answer).refused(404, "NOT_FOUND");
    let changed = json!({"input_hash": "something else", "allow": true});
    let refused = mia.post(&path(request), &changed);
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    mia.post(&path(request), &answer).expect(200);
    stands(&mut mia, &runner, &id, "waiting");
    mia.post(&path(request), &answer).refused(409, "CONFLICT");
    let decided = ["permission_granted", "permission_denied"];
    let lines = gateway.audit();
    let decided: Vec<_> =
        lines.iter().filter(|it| decided.contains(&it["action"].as_str().unwrap_or(""))).collect();
    assert_eq!(decided.len(), 1, "{decided:?}");
    let details = &decided[0]["details"];
    let about = (&details["request_id"], &details["input_hash"]);
    assert_eq!(about, (&prompt["request"], &prompt["input_hash"]));
}

#[test]
fn flaw_14_a_limit_is_told_once_and_a_refused_message_is_not_lost() {
    let limits = "max_output = \"1MB\"\nmessages_per_minute = 1\n";
    let (gateway, mut mia, mut runner) = house(&with_limits(limits));
    runner.launch();
    connected(&mut mia, &runner);
    let id = start(&mut mia, &runner, "say 1");
    stands(&mut mia, &runner, &id, "waiting");
    let mut page = mia.socket(&format!("/api/sessions/{id}/attach"));
    for (n, text) in ["stream 50MB", "another"].into_iter().enumerate() {
        let say =
            json!({"type": "user_message", "content": text, "client_msg_id": format!("m{n}")});
        page.json(&say).expect("a message");
    }
    let (code, told) = page.wait_for_close();
    assert_eq!(code, 1000);
    let of = |kind: &str| told.iter().filter(|it| it["type"] == kind).cloned().collect::<Vec<_>>();
    let refused: Vec<Value> =
        of("message").into_iter().filter(|it| it["state"] == "refused").collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    let which = (&refused[0]["client_msg_id"], &refused[0]["code"]);
    assert_eq!(which, (&json!("m1"), &json!("RATE_LIMITED")), "a page has its text still");
    let exceeded = of("limit_exceeded");
    assert_eq!(exceeded.len(), 1, "{exceeded:?}");
    assert_eq!(exceeded[0]["message"], "Session ended: maximum output size exceeded (1 MB)");
    assert_eq!(of("ended")[0]["reason"], "max_output");
    let events = transcript(&mut mia, &id);
    assert_eq!(count(&events, "limit_exceeded"), 1);
    let at = events.iter().position(|event| event["type"] == "limit_exceeded").expect("it");
    let after = |kind: &str| count(&events[at..], kind);
    assert_eq!(after("update"), 0, "nothing that came later is kept");
    let is_it = |line: &&Value| {
        line["action"] == "limit_exceeded" && line["details"]["limit"] == "max_output"
    };
    assert_eq!(gateway.audit().iter().filter(is_it).count(), 1);
}

/// Everything of the audit log, as it lies.
fn log_of(gateway: &Gateway) -> String {
    let files = crate::files_below(&gateway.data().join("audit"));
    files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
}

#[test]
fn flaw_25_what_is_said_is_on_record_at_once_and_never_in_the_clear() {
    let (mut gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let id = start(&mut mia, &runner, "my password is swordfish");
    stands(&mut mia, &runner, &id, "waiting");
    let mut page = mia.socket(&format!("/api/sessions/{id}/attach"));
    let say = json!({"type": "user_message", "content": "swordfish, too", "client_msg_id": "m"});
    page.json(&say).expect("a message");
    page.wait_for("message");
    // Whoever is told that it is taken finds it on record, whatever happens next.
    gateway.kill();
    gateway.launch();
    let line = gateway.wait_for_audit("the message", |line| line["action"] == "input_sent");
    let message = &line["details"]["message"];
    assert_eq!(message["bytes"], "swordfish, too".len());
    assert_eq!(message["sha256"].as_str().map(str::len), Some(64));
    let log = log_of(&gateway);
    assert!(log.contains("session_started") && !log.contains("swordfish"));
    let ids: Vec<Value> = gateway.audit().iter().map(|line| line["event_id"].clone()).collect();
    let once: BTreeSet<String> = ids.iter().map(Value::to_string).collect();
    assert_eq!(once.len(), ids.len(), "each line once");
    again(&gateway);
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

#[test]
fn flaw_26_health_tells_strangers_a_word_and_no_more() {
    let web = "trusted_proxies = [\"127.0.0.1\"]\n".to_owned();
    let (gateway, mut mia, mut runner) = house(&Options { web, ..Options::default() });
    runner.launch();
    connected(&mut mia, &runner);
    let from_elsewhere = Ask::new("GET", "/api/health").with("X-Forwarded-For", "203.0.113.7");
    let told = gateway.browser().send(&from_elsewhere).expect(200);
    assert_eq!(told, json!({"status": "healthy"}));
    let told = mia.send(&from_elsewhere).expect(200);
    assert_eq!(told["runners_connected"], 1, "to who is signed in");
}
