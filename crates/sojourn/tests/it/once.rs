//! A POST that is sent again, and starts that come too often.

use serde_json::json;
use sojourn_testkit::Answer;
use sojourn_testkit::Ask;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

/// An account is made by a program of an admin's, with this key.
fn make(gateway: &Gateway, token: &str, key: Option<&str>, name: &str) -> Answer {
    let body = json!({"name": name, "password": "seventeen brass kettles"});
    let ask = Ask::new("POST", "/api/users").bearer(token).json(&body);
    let ask = match key {
        Some(key) => ask.with("Idempotency-Key", key),
        None => ask,
    };
    gateway.browser().send(&ask)
}

fn admin(gateway: &Gateway) -> String {
    gateway.cli(&["user", "role", "alice", "admin"]);
    let token = gateway.cli(&["token", "create", "--user", "alice", "--scope", "admin"]);
    token.trim().to_owned()
}

#[test]
fn a_key_makes_it_once_for_a_day() {
    let gateway = gateway(&Options::default());
    let token = admin(&gateway);
    let first = make(&gateway, &token, Some("key-1"), "bob");
    let bob = first.expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = make(&gateway, &token, Some("key-1"), "bob");
    assert_eq!(again.expect(201), bob, "the same answer");
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    make(&gateway, &token, None, "bob").refused(409, "CONFLICT");
    let other = make(&gateway, &token, Some("key-1"), "carol").refused(422, "INVALID");
    assert_eq!(other["field"], "Idempotency-Key");
    let bad = make(&gateway, &token, Some("two words"), "carol").refused(422, "INVALID");
    assert_eq!(bad["field"], "Idempotency-Key");
    // What was refused may be tried again with its key.
    make(&gateway, &token, Some("key-2"), "bob").refused(409, "CONFLICT");
    gateway.cli(&["user", "add", "dora", "--no-password"]);
    make(&gateway, &token, Some("key-2"), "dora").refused(409, "CONFLICT");
    make(&gateway, &token, Some("key-2"), "erin").expect(201);
    // Another's key is another key.
    gateway.add_user("frank", "admin", "eighteen copper ladles");
    let theirs = gateway.cli(&["token", "create", "--user", "frank", "--scope", "admin"]);
    make(&gateway, theirs.trim(), Some("key-1"), "gina").expect(201);
    gateway.clock().advance("24h1s");
    make(&gateway, &token, Some("key-1"), "hana").expect(201);
}

#[test]
fn of_many_at_once_one_is_done() {
    let gateway = gateway(&Options::default());
    let token = admin(&gateway);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asks: Vec<_> =
            (0..16).map(|_| scope.spawn(|| make(&gateway, &token, Some("race"), "bob"))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(made.iter().all(|answer| answer.json() == made[0].json()));
    let first = made.iter().filter(|answer| answer.header("idempotent-replayed").is_none());
    assert_eq!(first.count(), 1);
    let rest = answers.iter().filter(|answer| answer.status != 201);
    assert!(rest.map(Answer::outcome).all(|outcome| outcome == (409, "CONFLICT".to_owned())));
    gateway.wait_for_audit("the account", |line| {
        line["action"] == "user_added" && line["details"].to_string().contains("bob")
    });
    let log = gateway.audit();
    let added = log.iter().filter(|line| line["action"] == "user_added");
    assert_eq!(added.filter(|line| line["details"].to_string().contains("bob")).count(), 1);
}

#[test]
fn starts_have_a_window_that_slides_and_refusals_cost_nothing() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway =
        gateway(&Options { limits: "starts_per_minute = 2\n".to_owned(), ..Options::default() });
    let token = gateway.cli(&["token", "create", "--user", "alice", "--scope", "sessions"]);
    let clock = gateway.clock();
    clock.hold();
    let start = || {
        let ask = Ask::new("POST", "/api/sessions").bearer(token.trim());
        gateway.browser().send(&ask.json(&json!({"harness": "shell"})))
    };
    start().expect(201);
    clock.advance("40s");
    start().expect(201);
    for _ in 0..5 {
        let refused = start();
        let body = refused.refused(429, "RATE_LIMITED");
        assert_eq!(refused.header("retry-after"), Some("20"));
        assert_eq!(body["retry_after_ms"], 20_000);
    }
    clock.advance("19s999ms");
    start().refused(429, "RATE_LIMITED");
    clock.advance("1ms");
    start().expect(201);
    assert_eq!(start().header("retry-after"), Some("40"), "not a whole new minute's");
    gateway.wait_for_audit("it", |line| line["action"] == "limit_exceeded");
    let log = gateway.audit();
    let exceeded: Vec<_> = log.iter().filter(|l| l["action"] == "limit_exceeded").collect();
    assert!(exceeded.len() <= 2, "one a minute is on record: {exceeded:?}");
    assert_eq!(exceeded[0]["details"]["limit"], "starts_per_minute");
    assert_eq!(exceeded[0]["details"]["configured"], 2);
    gateway.cli(&["session", "end-all", "--all"]);
}

#[test]
fn tokens_that_are_nobodys_are_refused_for_a_while() {
    let gateway = gateway(&Options {
        limits: "unknown_tokens_per_minute = 3\n".to_owned(),
        ..Options::default()
    });
    gateway.clock().hold();
    let token = gateway.cli(&["token", "create", "--user", "alice"]);
    let ask = |token: &str| gateway.browser().send(&Ask::new("GET", "/api/sessions").bearer(token));
    for n in 0..3 {
        ask(&format!("sjt1_guess{n}")).refused(401, "INVALID_CREDENTIALS");
    }
    let refused = ask("sjt1_guess");
    refused.refused(429, "RATE_LIMITED");
    assert_eq!(refused.header("retry-after"), Some("20"));
    ask(token.trim()).expect(200);
    gateway.browser().get("/api/health").expect(200);
}
