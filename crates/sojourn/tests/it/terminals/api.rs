//! The API of sessions, without a socket.

use sojourn_testkit::Ask;

use super::*;

#[test]
fn what_cannot_be_started_is_refused_with_the_field_or_the_limit() {
    let limits = "max_sessions_per_user = 1\nmax_concurrent_sessions = 2\n".to_owned();
    let more = "[profiles.asks]\nrequire_why = true\n\
                [profiles.others]\nallow = [\"user:bob\"]\n";
    let options = Options { limits, more: more.to_owned(), ..Options::default() };
    let Some(gateway) = house(&options) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    for (field, body) in [
        ("harness", json!({})),
        ("runner", json!({"harness": "claude"})),
        ("runner", json!({"harness": "shell", "runner": "laptop"})),
        ("profile", json!({"harness": "shell", "profile": "nowhere"})),
        ("profile", json!({"harness": "shell", "profile": "others"})),
        ("why", json!({"harness": "shell", "profile": "asks"})),
        ("cols", json!({"harness": "shell", "cols": 0})),
    ] {
        assert_eq!(
            alice.post("/api/sessions", &body).refused(422, "INVALID")["field"],
            field,
            "{body}"
        );
    }
    let stated = json!({"profile": "asks", "why": "to see"});
    let id = start(&mut alice, &stated);
    assert_eq!(show(&mut alice, &id)["why"], "to see");
    let full = alice.post("/api/sessions", &json!({"harness": "shell"}));
    let full = full.refused(429, "LIMIT_REACHED");
    assert_eq!(
        (&full["limit"], &full["max_sessions"]),
        (&"max_sessions_per_user".into(), &1.into())
    );
    gateway.add_user("carol", "auditor", PASSWORD);
    let mut carol = gateway.signed_in("carol", PASSWORD);
    carol.post("/api/sessions", &json!({"harness": "shell"})).refused(403, "FORBIDDEN");
    let mut nobody = gateway.browser();
    nobody.post("/api/sessions", &json!({"harness": "shell"})).refused(401, "LOGIN_REQUIRED");
    let refused = gateway.wait_for_audit("a refusal", |line| {
        line["action"] == "session_refused" && line["details"]["code"] == "max_sessions_per_user"
    });
    assert_eq!(refused["actor"]["type"], "browser");
}

#[test]
fn a_session_is_listed_steered_read_and_on_record() {
    let Some(gateway) = house(&Options::default()) else { return };
    gateway.add_user("bob", "member", PASSWORD);
    gateway.add_user("root1", "admin", PASSWORD);
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let mut bob = gateway.signed_in("bob", PASSWORD);
    let mut admin = gateway.signed_in("root1", PASSWORD);
    let (hers, his) = (start(&mut alice, &json!({})), start(&mut bob, &json!({})));
    let ids = |browser: &mut Browser, query: &str| -> Vec<String> {
        let list = browser.get(&format!("/api/sessions{query}")).expect(200);
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&mut alice, ""), std::slice::from_ref(&hers));
    assert_eq!(ids(&mut admin, ""), [his.clone(), hers.clone()]);
    assert_eq!(
        ids(&mut admin, "?user=alice&harness=shell&status=running"),
        std::slice::from_ref(&hers)
    );
    for path in ["", "/recording", "/files", "/events"] {
        alice.get(&format!("/api/sessions/{his}{path}")).refused(404, "NOT_FOUND");
    }
    let path = |what: &str| format!("/api/sessions/{hers}/{what}");
    bob.post(&path("interrupt"), &json!({})).refused(404, "NOT_FOUND");
    alice.post(&path("interrupt"), &json!({})).expect(202);
    admin.post(&path("interrupt"), &json!({})).refused(403, "FORBIDDEN");
    let mut looking = attach(&admin, &hers, "");
    looking.wait_for("snapshot");
    looking.json(&json!({"type": "interrupt"})).unwrap();
    assert_eq!(looking.wait_for("error")["code"], "FORBIDDEN", "as over HTTP");
    drop(looking);
    alice.post(&path("resume"), &json!({})).refused(409, "CONFLICT");
    assert_eq!(alice.get(&path("events")).expect(200)["items"], json!([]));
    let answer = json!({"input_hash": "x", "allow": true});
    alice.post(&path("prompts/p1"), &answer).refused(404, "NOT_FOUND");
    let extend = |seconds: u64| json!({"seconds": seconds, "why": "more"});
    alice.post(&path("extend"), &extend(1 << 40)).refused(422, "INVALID");
    admin.post(&path("extend"), &extend(3600)).expect(202);

    // What follows a recording gets all of it, and ends with it.
    let mut following = gateway.signed_in("alice", PASSWORD);
    let followed = {
        let path = path("recording?follow=1");
        std::thread::spawn(move || following.get(&path).text())
    };
    let mut socket = attach(&alice, &hers, "");
    socket.wait_for("snapshot");
    socket.input(b"touch left-here; echo gr''own; exit\n").unwrap();
    assert_eq!(socket.wait_for("ended")["reason"], "exited");
    let followed = followed.join().unwrap();
    assert!(followed.contains("grown"), "{followed}");
    assert_eq!(followed, alice.get(&path("recording")).text());
    let files = until("what it left", PATIENCE, || {
        let answer = alice.get(&path("files"));
        (answer.status == 200).then(|| answer.json())
    });
    assert!(files.to_string().contains("left-here"), "{files}");
    alice.post(&path("prompts/p1"), &answer).refused(410, "GONE");
    alice.delete(&format!("/api/sessions/{hers}")).expect(202);

    alice.get("/api/audit").refused(403, "FORBIDDEN");
    for (who, code, route, session) in [
        ("alice", "forbidden", "/api/audit", None),
        ("alice", "hidden", "/api/sessions/{id}/recording", Some(&his)),
        ("bob", "hidden", "/api/sessions/{id}/interrupt", Some(&hers)),
        ("root1", "forbidden", "/api/sessions/{id}/interrupt", Some(&hers)),
    ] {
        let denied = gateway.wait_for_audit("who was kept from what", |line| {
            line["action"] == "access_refused"
                && line["actor"]["user"] == who
                && line["details"]["route"] == route
        });
        assert_eq!(
            (&denied["details"]["code"], &denied["details"]["count"]),
            (&code.into(), &1.into())
        );
        assert_eq!(denied["session_id"].as_str(), session.map(String::as_str), "{denied}");
    }
    let page = admin.get(&format!("/api/audit?session={hers}&limit=2")).expect(200);
    let items = page["items"].as_array().unwrap();
    let seqs: Vec<u64> = items.iter().map(|item| item["seq"].as_u64().unwrap()).collect();
    assert!(seqs.len() == 2 && seqs[0] > seqs[1], "the newest first: {seqs:?}");
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = admin.get(&format!("/api/audit?session={hers}&limit=200&cursor={cursor}"));
    let next = next.expect(200);
    let rest = next["items"].as_array().unwrap();
    assert!(rest.iter().all(|item| item["seq"].as_u64().unwrap() < seqs[1]), "{rest:?}");
    assert_eq!(rest.last().unwrap()["action"], "session_started");
    assert_eq!(next["next_cursor"], Value::Null);
    let since = admin.get("/api/audit?since=2999-01-01T00:00:00Z").expect(200);
    assert_eq!(since["items"], json!([]));
    admin.get("/api/audit?since=yesterday").refused(422, "INVALID");
    let ended = admin.post("/api/sessions/end-all", &json!({"user": "bob"})).expect(202);
    assert_eq!(ended["ended"], 1);
}

#[test]
fn who_may_read_ends_nothing_and_reads_no_longer_than_their_login() {
    let Some(gateway) = house(&Options::default()) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut alice, &json!({}));
    let asked = json!({"name": "reader", "scopes": ["read"]});
    let made = alice.post("/api/me/tokens", &asked).expect(201);
    let token = made["token"].as_str().expect("a token").to_owned();
    let path = format!("/api/sessions/{id}/attach?mode=watch");
    let reader = gateway.browser();
    let mut socket = match reader.try_socket(&Ask::new("GET", &path).bearer(&token)) {
        Ok(socket) => socket,
        Err(answer) => panic!("{answer:?}"),
    };
    socket.wait_for("snapshot");
    socket.json(&json!({"type": "end"})).expect("a living socket");
    assert_eq!(socket.wait_for("error")["code"], "FORBIDDEN");
    assert_eq!(show(&mut alice, &id)["status"], "running");

    let mut following = gateway.signed_in("alice", PASSWORD);
    let path = format!("/api/sessions/{id}/recording?follow=1");
    let reading = std::thread::spawn(move || following.try_once(&Ask::new("GET", &path)));
    gateway.wait_for_audit("the reading", |line| line["action"] == "recording_read");
    gateway.cli(&["user", "logins", "alice", "--end"]);
    let broken = reading.join().expect("no panic").expect_err("it breaks off, and is not complete");
    assert_eq!(broken.kind(), std::io::ErrorKind::UnexpectedEof, "{broken}");
    gateway.cli(&["session", "end-all", "--all"]);
}
