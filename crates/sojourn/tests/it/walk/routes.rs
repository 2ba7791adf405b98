//! Every route and the terminal's socket.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Answer;
use sojourn_testkit::Ask;
use sojourn_testkit::Browser;
use sojourn_testkit::Frame;
use sojourn_testkit::Gateway;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::Socket;
use sojourn_testkit::until;

use super::PASSWORD;
use super::house;
use super::table::CALLERS;
use super::table::GENERAL;
use super::table::SESSIONS;
use super::table::SOCKET;

/// An id that nothing has.
const NO_ID: &str = "01932b5e-7c1a-7f00-8000-00003f2a91c0";

/// The runners' own way in is theirs alone; `runners` walks it.
const ELSEWHERE: [&str; 1] = ["GET /api/runners/connect"];

/// Somebody who asks, in a browser or with a token.
struct Caller {
    browser: Browser,
    token: Option<String>,
}

impl Caller {
    fn ask(&self, ask: Ask) -> Ask {
        match &self.token {
            Some(token) => ask.bearer(token),
            None => ask,
        }
    }
}

/// All callers, in the order of the tables' columns.
fn callers(gateway: &Gateway) -> Vec<Caller> {
    let person = |name: &str| Caller { browser: gateway.signed_in(name, PASSWORD), token: None };
    let mut callers = vec![Caller { browser: gateway.browser(), token: None }];
    callers.extend(["mia", "otto", "adam"].map(person));
    for (at, owner) in [(1, "mia"), (3, "adam")] {
        for scope in ["read", "sessions", "admin"] {
            let asked = json!({"name": format!("{owner} {scope}"), "scopes": [scope]});
            let made = callers[at].browser.post("/api/me/tokens", &asked).expect(201);
            let token = made["token"].as_str().expect("a token").to_owned();
            callers.push(Caller { browser: gateway.browser(), token: Some(token) });
        }
    }
    assert_eq!(callers.len(), CALLERS.len());
    callers
}

/// What an answer means, as the tables have it.
#[track_caller]
fn mark(what: &str, answer: &Answer) -> char {
    let (status, code) = answer.outcome();
    let line = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    match (status, code.as_str()) {
        (401, "LOGIN_REQUIRED") => '-',
        (403, "FORBIDDEN") => 'x',
        (404, "NOT_FOUND") if line == "there is no such session" => 'o',
        (403, _) | (500.., _) | (405, _) => panic!("{what}: {answer:?}"),
        _ => '+',
    }
}

/// Every route of the gateway's own document, as the tables write it.
fn documented(browser: &mut Browser) -> BTreeSet<String> {
    let document = browser.get("/api/openapi.json").expect(200);
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            routes.insert(format!("{} {path}", method.to_ascii_uppercase()));
        }
    }
    for route in ELSEWHERE {
        routes.remove(route);
    }
    routes
}

/// A line of a table as a request, which is let through and then fails where it would change much.
fn request(route: &str, session: &str) -> Ask {
    let (method, path) = route.split_once(' ').expect("a method and a path");
    let id = if path.starts_with("/api/sessions/") { session } else { NO_ID };
    let path = path.replace("{id}", id).replace("{name}", "dora").replace("{request_id}", NO_ID);
    match method {
        "GET" => Ask::new(method, &path),
        _ if path.ends_with("/extend") && path.starts_with("/api/sessions/") => {
            Ask::new(method, &path).json(&json!({"seconds": 60, "why": "a walk"}))
        }
        _ => Ask::new(method, &path).json(&json!({})),
    }
}

#[test]
fn every_route_is_open_to_whom_the_table_says() {
    let Some(gateway) = house() else { return };
    let mut callers = callers(&gateway);
    let written: BTreeSet<String> = GENERAL
        .iter()
        .map(|(route, _)| (*route).to_owned())
        .chain(SESSIONS.iter().map(|(route, _)| (*route).to_owned()))
        .chain(["GET /api/sessions/{id}/attach".to_owned()])
        .collect();
    let there = documented(&mut callers[0].browser);
    let unwritten: Vec<&String> = there.difference(&written).collect();
    assert!(unwritten.is_empty(), "not in the table: {unwritten:?}");
    let gone: Vec<&String> = written.difference(&there).collect();
    assert!(gone.is_empty(), "in the table alone: {gone:?}");

    let mut wrong = Vec::new();
    for (route, marks) in GENERAL {
        for ((caller, name), expected) in callers.iter_mut().zip(CALLERS).zip(marks.chars()) {
            let ask = caller.ask(request(route, NO_ID));
            let got = mark(route, &caller.browser.send(&ask));
            if got != expected {
                wrong.push(format!("{route} by {name}: {got}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_route_of_a_session_is_open_to_whom_the_table_says() {
    let Some(gateway) = house() else { return };
    let visit = gateway.client(gateway.honeypot(0), "root").passwords(&["toor"]).run("true");
    assert_eq!(visit.code, 0, "{}", visit.err);
    for name in ["mia", "adam"] {
        let run = gateway.client(gateway.port, name).run("true");
        assert_eq!(run.code, 0, "{}", run.err);
    }
    let mut callers = callers(&gateway);
    let over = until("three sessions that are over", PATIENCE, || {
        let listed = callers[3].browser.get("/api/sessions").expect(200)["items"].clone();
        let all = listed.as_array().expect("a list").clone();
        (all.len() == 3 && all.iter().all(|session| session["status"] == "ended")).then_some(all)
    });
    let of = |user: Value| {
        let found = over.iter().find(|session| session["user"] == user).expect("a session");
        found["id"].as_str().expect("an id").to_owned()
    };
    let (mias, adams, nobodys) = (of(json!("mia")), of(json!("adam")), of(Value::Null));
    let mut wrong = Vec::new();
    for (route, by_owner) in SESSIONS {
        for (owner, marks) in ["own", "another's", "nobody's"].iter().zip(by_owner) {
            for (at, (expected, name)) in marks.chars().zip(CALLERS).enumerate() {
                if expected == '.' {
                    continue;
                }
                let is_mia = matches!(at, 1 | 4..=6);
                let session = match (*owner, is_mia) {
                    ("own", true) | ("another's", false) => &mias,
                    ("own", false) | ("another's", true) => &adams,
                    _ => &nobodys,
                };
                let caller = &mut callers[at];
                let ask = caller.ask(request(route, session));
                let got = mark(route, &caller.browser.send(&ask));
                if got != expected {
                    wrong.push(format!("{route}, {owner}, by {name}: {got}, not {expected}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A session of this user's that runs.
fn running(gateway: &Gateway, visitor: bool, name: &str) -> Running {
    let client = match visitor {
        true => gateway.client(gateway.honeypot(0), name).passwords(&["toor"]),
        false => gateway.client(gateway.port, name),
    };
    let running = client.with("-tt").start(&[]);
    running.expect("# ");
    running
}

#[test]
fn the_terminals_socket_is_open_to_whom_the_table_says() {
    let Some(gateway) = house() else { return };
    let _held = [
        running(&gateway, false, "mia"),
        running(&gateway, false, "adam"),
        running(&gateway, true, "root"),
    ];
    let mut callers = callers(&gateway);
    let listed = callers[3].browser.get("/api/sessions").expect(200)["items"].clone();
    let of = |user: Value| {
        let all = listed.as_array().expect("a list");
        let found = all.iter().find(|session| session["user"] == user).expect("a session");
        found["id"].as_str().expect("an id").to_owned()
    };
    let (mias, adams, nobodys) = (of(json!("mia")), of(json!("adam")), of(Value::Null));
    let mut wrong = Vec::new();
    for (mode, by_owner) in SOCKET {
        for (owner, marks) in ["own", "another's", "nobody's"].iter().zip(by_owner) {
            for (at, (expected, name)) in marks.chars().zip(CALLERS).enumerate() {
                if expected == '.' {
                    continue;
                }
                let is_mia = matches!(at, 1 | 4..=6);
                let session = match (*owner, is_mia) {
                    ("own", true) | ("another's", false) => &mias,
                    ("own", false) | ("another's", true) => &adams,
                    _ => &nobodys,
                };
                let path = format!("/api/sessions/{session}/attach?mode={mode}");
                let caller = &callers[at];
                let got = match caller.browser.try_socket(&caller.ask(Ask::new("GET", &path))) {
                    Ok(mut socket) => opened(&mut socket),
                    Err(answer) => mark(&path, &answer),
                };
                if got != expected {
                    wrong.push(format!("{mode}, {owner}, by {name}: {got}, not {expected}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An open socket may still be closed with "not allowed". It answers when that is settled.
fn opened(socket: &mut Socket) -> char {
    let _closed = socket.json(&json!({"type": "ping"}));
    loop {
        match socket.next() {
            Frame::Closed(4403, _) => return 'x',
            Frame::Text(told) if told["type"] == "pong" => return '+',
            Frame::Closed(code, why) => panic!("closed: {code} {why}"),
            Frame::Text(_) | Frame::Output(..) => {}
        }
    }
}
