//! Runners on other machines, as far as the gateway is concerned: enrolled, let in by their own token
//! and nothing else, seen by those whose they are, sent away for good. The runner is the test.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Ask;
use sojourn_testkit::Browser;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Socket;
use sojourn_testkit::until;

use crate::gateway;

const PASSWORD: &str = "nine tall cranes over 40 harbours";
const CONNECT: &str = "/api/runners/connect";

/// A gateway with `mia` and `dora`, members, and `adam`, an admin.
fn house() -> Gateway {
    let gateway = gateway(&Options::default());
    for (name, role) in [("mia", "member"), ("dora", "member"), ("adam", "admin")] {
        gateway.add_user(name, role, PASSWORD);
    }
    gateway
}

/// Enrols a runner: its id and its token.
#[track_caller]
fn enrol(browser: &mut Browser, name: &str) -> (String, String) {
    let made = browser.post("/api/runners", &json!({"name": name})).expect(201);
    let text = |field: &str| made[field].as_str().expect(field).to_owned();
    (text("id"), text("token"))
}

fn hello(sessions: &Value) -> Value {
    json!({
        "type": "hello", "version": 1, "build": "a test",
        "machine": {"host": "box", "os": "linux", "arch": "x86_64"},
        "harnesses": [
            {"name": "claude", "available": true, "version": "1.2"},
            {"name": "codex", "available": false, "note": "not found on PATH"},
        ],
        "directories": ["/home/mia/src"], "sessions": sessions,
    })
}

/// Connects a runner, which is welcome.
#[track_caller]
fn connect(gateway: &Gateway, token: &str) -> (Socket, Value) {
    let ask = Ask::new("GET", CONNECT).bearer(token);
    let mut socket = gateway.browser().try_socket(&ask).expect("a WebSocket");
    socket.json(&hello(&json!([]))).expect("hello");
    let welcome = socket.wait_for("welcome");
    (socket, welcome)
}

#[track_caller]
fn refused(gateway: &Gateway, ask: &Ask) -> (u16, String) {
    gateway.browser().try_socket(ask).expect_err("no WebSocket").outcome()
}

/// The runners that somebody sees, by name.
fn names(browser: &mut Browser) -> Vec<String> {
    let listed = browser.get("/api/runners").expect(200);
    let items = listed["items"].as_array().expect("a list");
    items.iter().map(|runner| runner["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn flaw_03_a_runner_is_whom_its_token_says_and_nobody_else_comes_in() {
    let gateway = house();
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let (_, token) = enrol(&mut mia, "laptop");
    assert!(token.starts_with("sjrunner1_"), "told from every other secret: {token}");
    let asked = json!({"name": "all", "scopes": ["admin"]});
    let made = mia.post("/api/me/tokens", &asked).expect(201);
    let of_a_program = made["token"].as_str().expect("a token");
    let connect_with = |token: &str| refused(&gateway, &Ask::new("GET", CONNECT).bearer(token));
    assert_eq!(connect_with(of_a_program), (403, "FORBIDDEN".to_owned()));
    let invented = format!("sjrunner1_{}", "A".repeat(43));
    for other in [invented.as_str(), "laptop", &token[..token.len() - 1]] {
        assert_eq!(connect_with(other), (401, "INVALID_CREDENTIALS".to_owned()), "{other:?}");
    }
    let nobody = refused(&gateway, &Ask::new("GET", CONNECT));
    assert_eq!(nobody, (401, "LOGIN_REQUIRED".to_owned()));
    let in_a_browser = mia.try_socket(&Ask::new("GET", CONNECT)).expect_err("no WebSocket");
    assert_eq!(in_a_browser.outcome(), (403, "FORBIDDEN".to_owned()));
    let elsewhere = mia.try_socket(&Ask::new("GET", CONNECT).cross_site());
    let elsewhere = elsewhere.expect_err("no WebSocket").outcome();
    assert_eq!(elsewhere, (403, "CROSS_ORIGIN".to_owned()), "flaw 2");
    let (_socket, welcome) = connect(&gateway, &token);
    assert_eq!((&welcome["version"], &welcome["max_sessions"]), (&json!(1), &json!(3)));
}

#[test]
fn flaw_03_a_runners_token_opens_nothing_but_its_own_way_in() {
    let gateway = house();
    let (_, token) = enrol(&mut gateway.signed_in("adam", PASSWORD), "laptop");
    let document = gateway.browser().get("/api/openapi.json").expect(200);
    let mut open = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let method = method.to_ascii_uppercase();
            let id = "01932b5e-7c1a-7f00-8000-00003f2a91c0";
            let real = ["{id}", "{name}", "{request_id}"]
                .iter()
                .fold(path.clone(), |path, name| path.replace(name, id));
            let ask = Ask::new(&method, &real).bearer(&token);
            let ask = if method == "GET" { ask } else { ask.json(&json!({})) };
            if gateway.browser().send(&ask).status != 403 {
                open.insert(format!("{method} {path}"));
            }
        }
    }
    let to_everybody = [
        "GET /api/health",
        "GET /api/openapi.json",
        "GET /api/runners/connect",
        "POST /api/auth/login",
        "POST /api/auth/login/recovery",
        "POST /api/auth/login/totp",
        "POST /api/auth/logout",
        "POST /api/auth/reset",
    ];
    assert_eq!(open, to_everybody.map(str::to_owned).into());
}

#[test]
fn flaw_04_runners_are_their_owners_and_seen_by_admins() {
    let gateway = house();
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut dora = gateway.signed_in("dora", PASSWORD);
    let mut adam = gateway.signed_in("adam", PASSWORD);
    let (id, _) = enrol(&mut mia, "laptop");
    enrol(&mut dora, "laptop");
    enrol(&mut dora, "tower");
    mia.post("/api/runners", &json!({"name": "laptop"})).refused(409, "CONFLICT");
    for name in ["", "Laptop", "a b", "../x", &"a".repeat(33)] {
        let refused = mia.post("/api/runners", &json!({"name": name})).refused(422, "INVALID");
        assert_eq!(refused["field"], "name", "{name:?}");
    }
    assert_eq!(names(&mut mia), ["laptop"]);
    assert_eq!(names(&mut dora), ["laptop", "tower"]);
    assert_eq!(names(&mut adam), ["laptop", "tower", "laptop"], "by owner and name");
    let (path, pause) = (format!("/api/runners/{id}"), format!("/api/runners/{id}/pause"));
    dora.delete(&path).refused(404, "NOT_FOUND");
    dora.post(&pause, &json!({"paused": true})).refused(404, "NOT_FOUND");
    mia.post(&pause, &json!({"paused": "yes"})).refused(422, "INVALID");
    assert_eq!(mia.post(&pause, &json!({})).expect(200)["paused"], true);
    assert_eq!(mia.post(&pause, &json!({"paused": false})).expect(200)["paused"], false);
    let paused = adam.post(&pause, &json!({"paused": true})).expect(200);
    assert_eq!((&paused["owner"], &paused["paused"]), (&json!("mia"), &json!(true)));
    assert_eq!(mia.get("/api/runners").expect(200)["items"][0]["paused"], true);
    adam.delete(&path).expect(204);
    assert_eq!(names(&mut mia), Vec::<String>::new());
    enrol(&mut mia, "laptop");
}

#[test]
fn a_runner_that_is_removed_is_gone_at_once_and_may_not_come_again() {
    let gateway = house();
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let (id, token) = enrol(&mut mia, "laptop");
    let (mut socket, _) = connect(&gateway, &token);
    let health = gateway.browser().get("/api/health").expect(200);
    assert_eq!(health["runners_connected"], 1);
    let shown = mia.get("/api/runners").expect(200)["items"][0].clone();
    assert_eq!((&shown["connected"], &shown["address"]), (&json!(true), &json!("127.0.0.1")));
    let expected = json!({
        "build": "a test", "host": "box", "os": "linux", "arch": "x86_64",
        "harnesses": [
            {"name": "claude", "available": true, "version": "1.2", "note": null},
            {"name": "codex", "available": false, "version": null, "note": "not found on PATH"},
        ],
        "directories": ["/home/mia/src"],
    });
    assert_eq!(shown["about"], expected);
    mia.delete(&format!("/api/runners/{id}")).expect(204);
    let (code, told) = socket.wait_for_close();
    assert_eq!(code, 4401);
    let last = told.last().expect("a last word");
    assert_eq!((&last["type"], &last["for_good"]), (&json!("refused"), &json!(true)));
    let again = refused(&gateway, &Ask::new("GET", CONNECT).bearer(&token));
    assert_eq!(again, (401, "INVALID_CREDENTIALS".to_owned()));
    let is_it = |line: &Value| line["details"]["runner_id"] == json!(id);
    let came = gateway
        .wait_for_audit("its coming", |line| line["action"] == "runner_connected" && is_it(line));
    assert_eq!((&came["actor"]["type"], &came["actor"]["user"]), (&json!("runner"), &json!("mia")));
    assert_eq!(came["details"]["runner"], "laptop");
    let went = gateway
        .wait_for_audit("its going", |line| line["action"] == "runner_disconnected" && is_it(line));
    assert_eq!(went["details"]["reason"], "revoked");
    assert_eq!(gateway.browser().get("/api/health").expect(200)["runners_connected"], 0);
    assert!(!gateway.log().contains(&token), "no token is in the log");
}

#[test]
fn a_runner_goes_with_its_owners_account() {
    let gateway = house();
    let (_, token) = enrol(&mut gateway.signed_in("mia", PASSWORD), "laptop");
    let (mut socket, _) = connect(&gateway, &token);
    gateway.cli(&["user", "disable", "mia"]);
    assert_eq!(socket.wait_for_close().0, 4401);
    let again = refused(&gateway, &Ask::new("GET", CONNECT).bearer(&token));
    assert_eq!(again, (401, "INVALID_CREDENTIALS".to_owned()));
    gateway.cli(&["user", "enable", "mia"]);
    connect(&gateway, &token);
}

#[test]
fn the_command_enrols_lists_pauses_and_removes_runners() {
    let gateway = house();
    let arguments = ["token", "create", "--runner", "laptop", "--owner", "mia"];
    let (status, out, err) = gateway.try_cli(&arguments, "");
    assert!(status.success(), "{err}");
    let token = out.trim_end().to_owned();
    assert!(token.starts_with("sjrunner1_") && !token.contains(char::is_whitespace), "{out:?}");
    let (mut socket, welcome) = connect(&gateway, &token);
    assert_eq!(welcome["paused"], false);
    let table = gateway.cli(&["runners", "ls"]);
    let row = table.lines().nth(1).expect("a row");
    for word in ["laptop", "mia", "connected", "0 of 3", "box", "claude"] {
        assert!(row.contains(word), "{word:?} in {table}");
    }
    assert!(!row.contains("codex"), "{table}");
    gateway.cli(&["runners", "pause", "laptop"]);
    assert_eq!(socket.wait_for("pause")["paused"], true);
    gateway.cli(&["runners", "resume", "mia/laptop"]);
    assert_eq!(socket.wait_for("pause")["paused"], false);
    gateway.cli(&["token", "create", "--runner", "laptop", "--owner", "dora"]);
    let (status, _, err) = gateway.try_cli(&["runners", "rm", "laptop"], "");
    assert_eq!(status.code(), Some(2), "{err}");
    assert!(err.contains("USER/laptop"), "{err}");
    let (status, _, err) = gateway.try_cli(&["runners", "rm", "desktop"], "");
    assert_eq!(status.code(), Some(1), "{err}");
    gateway.cli(&["runners", "rm", "mia/laptop"]);
    assert_eq!(socket.wait_for_close().0, 4401);
    let listed: Value =
        serde_json::from_str(&gateway.cli(&["runners", "ls", "--json"])).expect("JSON");
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["items"][0]["owner"], "dora");
}

#[test]
fn case_07_a_runner_that_comes_again_takes_the_place_of_its_former_connection() {
    let gateway = house();
    let (_, token) = enrol(&mut gateway.signed_in("mia", PASSWORD), "laptop");
    let (mut old, first) = connect(&gateway, &token);
    let (mut new, second) = connect(&gateway, &token);
    let number = |welcome: &Value| welcome["generation"].as_u64().expect("a number");
    assert!(number(&second) > number(&first));
    let (code, told) = old.wait_for_close();
    assert_eq!((code, told.last().map(|last| &last["code"])), (1000, Some(&json!("replaced"))));
    new.json(&json!({"type": "ping"})).expect("a ping");
    new.wait_for("pong");
    let health = gateway.browser().get("/api/health").expect(200);
    assert_eq!(health["runners_connected"], 1);
}

#[test]
fn a_killed_gateway_knows_its_runners_again() {
    let mut gateway = house();
    let (_, token) = enrol(&mut gateway.signed_in("mia", PASSWORD), "laptop");
    let (_socket, _) = connect(&gateway, &token);
    gateway.kill();
    gateway.launch();
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let shown = mia.get("/api/runners").expect(200)["items"][0].clone();
    assert_eq!((&shown["connected"], &shown["about"]["host"]), (&json!(false), &json!("box")));
    let _connected = connect(&gateway, &token);
    until("it is there", PATIENCE, || {
        let shown = mia.get("/api/runners").expect(200)["items"][0].clone();
        (shown["connected"] == true).then_some(())
    });
}

#[test]
fn what_a_runner_says_is_bounded() {
    let gateway = house();
    let (_, token) = enrol(&mut gateway.signed_in("mia", PASSWORD), "laptop");
    let ask = Ask::new("GET", CONNECT).bearer(&token);
    let mut old = gateway.browser().try_socket(&ask).expect("a WebSocket");
    let mut too_old = hello(&json!([]));
    too_old["version"] = json!(0);
    old.json(&too_old).expect("hello");
    let (code, told) = old.wait_for_close();
    let last = told.last().expect("a last word");
    assert_eq!((code, &last["code"], &last["for_good"]), (4403, &json!("version"), &json!(true)));
    let (mut strange, _) = connect(&gateway, &token);
    strange.json(&json!({"type": "welcome"})).expect("nonsense");
    assert_eq!(strange.wait_for_close().0, 4403);
    // More of a frame than there may be is not read to its end.
    let (mut long, _) = connect(&gateway, &token);
    let _broken = long.json(&json!({"type": "ping", "padding": "x".repeat(2 << 20)}));
    until("it is away", PATIENCE, || {
        let health = gateway.browser().get("/api/health").expect(200);
        (health["runners_connected"] == 0).then_some(())
    });
    connect(&gateway, &token);
}
