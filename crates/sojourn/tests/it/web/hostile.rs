//! Requests that nobody sends by mistake: each gets a clear answer or is hung up on, and the door
//! stands as before.

use super::raw::Raw;
use super::raw::ask;
use super::raw::ask_with;
use crate::memory_of;

/// What memory may grow by, whatever is sent.
const FLAT: u64 = 24 << 20;

/// Raw requests, and the statuses that are right for them; none: it may hang up without a word.
fn list(port: u16) -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let host = format!("Host: localhost:{port}\r\n");
    let get =
        |headers: &str| format!("GET /api/health HTTP/1.1\r\n{host}{headers}\r\n").into_bytes();
    let post = |headers: &str, body: &str| {
        let line = "POST /api/auth/login HTTP/1.1\r\n";
        format!("{line}{host}Content-Type: application/json\r\n{headers}\r\n{body}").into_bytes()
    };
    let json = |body: &[u8]| {
        let mut request = post(&format!("Content-Length: {}\r\n", body.len()), "");
        request.extend_from_slice(body);
        request
    };
    let many: String = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let some: String = (0..150).map(|n| format!("X-{n}: y\r\n")).collect();
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n)).into_bytes();
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        ("garbage", b"\x16\x03\x01\x02\x00garbage\r\n\r\n".to_vec(), &[400]),
        ("no version", b"GET /\r\n\r\n".to_vec(), &[400]),
        ("another version", format!("GET / HTTP/3.7\r\n{host}\r\n").into_bytes(), &[400]),
        ("no host", b"GET /api/health HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        ("two hosts", get(&host), &[400]),
        ("10 000 headers", get(&many), &[431]),
        ("150 headers", get(&some), &[431]),
        ("a header of 40 KB", get(&format!("X: {}\r\n", "y".repeat(40_000))), &[431]),
        ("a header of 1 MB", get(&format!("X: {}\r\n", "y".repeat(1 << 20))), &[431]),
        ("a header name with a space", get("X y: z\r\n"), &[400]),
        ("a folded header", get("X: y\r\n z\r\n"), &[400]),
        ("a NUL in a header", get("X: \0\r\n"), &[400]),
        (
            "a path of 100 KB",
            format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(100_000)).into_bytes(),
            &[431],
        ),
        (
            "a path of 10 KB",
            format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(10_000)).into_bytes(),
            &[431],
        ),
        (
            "a path that climbs",
            format!("GET /assets/../../etc/passwd HTTP/1.1\r\n{host}\r\n").into_bytes(),
            &[404],
        ),
        (
            "a path in disguise",
            format!("GET /assets/%2e%2e%2fetc%2fpasswd HTTP/1.1\r\n{host}\r\n").into_bytes(),
            &[404],
        ),
        (
            "a path that is no text",
            format!("GET /api/sessions/%ff%fe HTTP/1.1\r\n{host}\r\n").into_bytes(),
            &[400, 401, 404],
        ),
        (
            "a file that is no text",
            format!("GET /assets/%ff%fe HTTP/1.1\r\n{host}\r\n").into_bytes(),
            &[404],
        ),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"), &[400]),
        (
            "a length and chunks",
            post(&format!("Content-Length: 4\r\n{chunked}"), "0\r\n\r\n"),
            &[400, 422],
        ),
        ("a length below zero", post("Content-Length: -1\r\n", ""), &[400]),
        ("a length beyond all", post("Content-Length: 99999999999999999999\r\n", ""), &[400, 413]),
        ("a length of 10 GB", post("Content-Length: 10737418240\r\n", "{"), &[413]),
        ("chunks that are none", post(chunked, "zz\r\n{}\r\n"), &[400]),
        ("a chunk beyond all", post(chunked, "ffffffffffffffffff\r\n"), &[400]),
        (
            "chunks that add up",
            post(chunked, &format!("5000\r\n{}\r\n0\r\n\r\n", " ".repeat(0x5000))),
            &[413],
        ),
        ("an odd encoding", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[400, 422]),
        ("an encoding in disguise", post("Transfer-Encoding: xchunked\r\n", ""), &[400, 501]),
        ("no JSON", json(b"username=x"), &[400]),
        ("half of JSON", json(b"{\"username\": \"x\""), &[400]),
        ("JSON of another shape", json(b"[]"), &[400]),
        ("fields of other types", json(b"{\"username\": 7, \"password\": {}}"), &[400, 422]),
        (
            "fields twice",
            json(b"{\"username\": \"a\", \"username\": \"b\", \"password\": \"c\"}"),
            &[400, 401, 422],
        ),
        ("fields unknown", json(b"{\"name\": \"a\"}"), &[400, 422]),
        ("no UTF-8", json(b"{\"username\": \"\xff\xfe\", \"password\": \"x\"}"), &[400]),
        ("half a surrogate", json(b"{\"username\": \"\\ud800\", \"password\": \"x\"}"), &[400]),
        ("deep JSON", json(&deep(7_000)), &[400]),
        ("numbers beyond all", json(b"{\"username\": 1e999999, \"password\": \"x\"}"), &[400, 422]),
        (
            "17 KB of JSON",
            json(format!("{{\"username\": \"{}\"}}", "a".repeat(17_000)).as_bytes()),
            &[413],
        ),
        (
            "CONNECT",
            format!("CONNECT evil.example.org:443 HTTP/1.1\r\n{host}\r\n").into_bytes(),
            &[400, 404, 405, 421],
        ),
        ("TRACE", format!("TRACE /api/health HTTP/1.1\r\n{host}\r\n").into_bytes(), &[405]),
        (
            "a method of its own",
            format!("MAKE /api/health HTTP/1.1\r\n{host}\r\n").into_bytes(),
            &[405],
        ),
        ("an upgrade by nobody", get("Connection: Upgrade\r\nUpgrade: h2c\r\n"), &[200, 400]),
    ]
}

#[test]
fn hostile_requests_get_a_clear_answer_and_cost_nothing() {
    let gateway = super::gateway();
    let port = gateway.web_port();
    // The first rounds are for what is made once and kept, the memory that hashes are computed in above
    // all: some twenty megabytes each, until there is room for all.
    for round in 0..8 {
        all(port, round);
    }
    let before = memory_of(gateway.pid());
    for round in 8..11 {
        all(port, round);
    }
    let grown = memory_of(gateway.pid()).saturating_sub(before);
    assert!(grown < FLAT, "memory grew by {grown}");
    assert_eq!(ask(port, "GET", "/api/health", &[]).status, 200);
}

fn all(port: u16, round: u32) {
    for (what, request, right) in list(port) {
        let mut raw = Raw::connect(port);
        // Every other time behind a request that was in order.
        if round % 2 == 1 {
            let host = format!("Host: localhost:{port}\r\n");
            raw.send(format!("GET /api/health HTTP/1.1\r\n{host}\r\n").as_bytes());
            assert_eq!(raw.answer().expect("an answer").status, 200, "before {what}");
        }
        raw.send(&request);
        let Some(answer) = raw.answer() else {
            panic!("{what}: hung up without a word (round {round})")
        };
        assert!(right.contains(&answer.status), "{what}: {answer:?}");
        if answer.status >= 400 {
            assert!(answer.header("content-security-policy").is_some(), "{what}: {answer:?}");
            assert!(!answer.code().is_empty(), "{what}");
        }
    }
}

#[test]
fn a_smuggled_request_is_no_request() {
    let gateway = super::gateway();
    let port = gateway.web_port();
    let hidden = format!("GET /api/openapi.json HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    let outer = format!(
        "POST /api/auth/login HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        5 + hidden.len()
    );
    let mut raw = Raw::connect(port);
    raw.send(outer.as_bytes());
    let first = raw.answer().expect("an answer");
    // The chunks count, and are none; what follows them is never read.
    assert_eq!((first.status, first.header("connection")), (422, Some("close")), "{first:?}");
    assert!(raw.answer().is_none(), "and no second one");
    // What a handler has left unread is not taken for the next request either.
    let body = format!("{{}}{}", " ".repeat(20_000));
    let answer = ask_with(port, "POST", "/api/sessions/end-all", &[], &body);
    assert_eq!(answer.status, 401);
}

#[test]
fn whoever_sends_nothing_is_hung_up_on_and_stands_in_nobodys_way() {
    let web = "max_connections = 40\nmax_connections_per_address = 20".to_owned();
    let options = sojourn_testkit::Options { web, ..sojourn_testkit::Options::default() };
    let gateway = sojourn_testkit::Gateway::start(env!("CARGO_BIN_EXE_sojourn"), &options);
    let port = gateway.web_port();
    let mut idle: Vec<Raw> = (0..20).map(|_| Raw::connect(port)).collect();
    for raw in &mut idle {
        raw.send(b"GET /api/health HTTP/1.1\r\n");
    }
    let mut late = Raw::connect(port);
    let answer = late.answer().expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (503, "OVERLOADED"));
    let told = gateway.wait_for_audit("a refusal", |line| line["action"] == "connection_refused");
    assert_eq!(told["details"]["code"], "too_many_connections");
    drop(idle.pop());
    sojourn_testkit::until("a place", sojourn_testkit::PATIENCE, || {
        (ask(port, "GET", "/api/health", &[]).status == 200).then_some(())
    });
    for mut raw in idle {
        assert!(raw.is_closed(), "after half a minute");
    }
}
