//! How it does with very many: sessions, logins, people who look on. At length only; the numbers are
//! printed.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Frame;
use sojourn_testkit::Options;
use sojourn_testkit::Socket;
use sojourn_testkit::can_make_sandboxes;

use crate::edges::CLIENTS;
use crate::gateway;
use crate::is_long_run;
use crate::memory_of;

const PASSWORD: &str = "four grey whales past 17 piers";

/// Sessions that do nothing, and those that print all the time.
const IDLE: u32 = 1000;
const BUSY: u32 = 200;

/// People who look on at one session.
const WATCHERS: usize = 1000;

/// How long each of them may last, in seconds: longer than it takes to let everybody in.
const LIMIT: u32 = 240;

/// Logins that are there at the same time: so many of one user, and users who sign in side by side.
const LOGINS: usize = 1000;
const USERS: [&str; 5] = ["mona", "nils", "olga", "paul", "rosa"];

#[test]
fn very_many_sessions_end_on_time() {
    if !is_long_run() || !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        limits: format!(
            "max_concurrent_sessions = {0}\nmax_sessions_per_user = {0}\nwarn_before = \"0\"\n\
             grace = \"1s\"\nmax_output = 0\n",
            IDLE + BUSY + 10
        ),
        ..Options::default()
    });
    let recipe = format!(
        "ulimit -n 20000; exec /usr/bin/python3 -W ignore {CLIENTS}/load.py {IDLE} {BUSY} {LIMIT} {}",
        gateway.pid()
    );
    let output = gateway.peer().run(&recipe, Duration::from_secs(1800));
    let told: Value = serde_json::from_slice(&output.out)
        .unwrap_or_else(|_| panic!("{}{}", output.text(), output.err));
    println!("{told:#}");
    assert_eq!(told["errors"], json!([]), "{}", gateway.log());
    assert_eq!(told["sessions"], IDLE + BUSY);
}

#[test]
fn very_many_look_on_at_one_terminal() {
    if !is_long_run() || !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        limits: format!("max_watchers = {}\n", WATCHERS + 1),
        web: format!("max_connections = {0}\nmax_connections_per_address = {0}\n", WATCHERS + 100),
        ..Options::default()
    });
    gateway.add_user("mona", "member", PASSWORD);
    let mut mona = gateway.signed_in("mona", PASSWORD);
    let started = mona.post("/api/sessions", &json!({"harness": "shell"})).expect(201);
    let path = format!("/api/sessions/{}/attach", started["session_id"].as_str().unwrap());
    let attach = |query: &str| mona.socket(&format!("{path}{query}"));
    let mut driver = attach("");
    driver.wait_for("snapshot");
    let before = memory_of(gateway.pid());
    let mut watchers: Vec<Socket> = (0..WATCHERS)
        .map(|_| {
            let mut watcher = attach("?mode=watch");
            watcher.wait_for("snapshot");
            watcher
        })
        .collect();
    let grown = memory_of(gateway.pid()).saturating_sub(before);
    let lines = "seq 1 2000; echo all-so''on-over\n";
    let began = Instant::now();
    driver.input(lines.as_bytes()).unwrap();
    driver.wait_for_output("all-soon-over");
    let drove = began.elapsed();
    for watcher in &mut watchers {
        let mut seen = String::new();
        while !seen.contains("all-soon-over") {
            // Who cannot keep up gets the screen anew.
            match watcher.next() {
                Frame::Output(_, bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
                Frame::Text(told) => seen = told["data"].as_str().unwrap_or_default().to_owned(),
                closed @ Frame::Closed(..) => panic!("{closed:?}"),
            }
        }
    }
    let all = began.elapsed();
    println!(
        "{WATCHERS} watchers, {} bytes each; 2000 lines took their driver {drove:?}, the last \
         watcher had its end after {all:?}",
        grown / WATCHERS as u64
    );
}

#[test]
fn very_many_logins_cost_their_memory_and_no_time() {
    if !is_long_run() {
        return;
    }
    let gateway = gateway(&Options {
        // All come from one address.
        limits: "sign_ins_per_minute = 0\n".to_owned(),
        more: format!("[login]\nmax_per_user = {LOGINS}\n[profiles.default]\npool = 0\n"),
        ..Options::default()
    });
    for user in USERS {
        gateway.add_user(user, "member", PASSWORD);
    }
    let ask = |browser: &mut Browser| {
        let began = Instant::now();
        browser.get("/api/me/login").expect(200);
        began.elapsed()
    };
    let mut first = gateway.signed_in("mona", PASSWORD);
    // What is made once is made now.
    let alone: Duration = (0..200).map(|_| ask(&mut first)).min().unwrap();
    let before = memory_of(gateway.pid());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for user in USERS {
            let gateway = &gateway;
            scope.spawn(move || {
                for _ in 0..LOGINS {
                    drop(gateway.signed_in(user, PASSWORD));
                }
            });
        }
    });
    let took = began.elapsed();
    let grown = memory_of(gateway.pid()).saturating_sub(before);
    let mut last = gateway.signed_in("mona", PASSWORD);
    let among: Duration = (0..200).map(|_| ask(&mut last)).min().unwrap();
    let logins = LOGINS * USERS.len();
    println!(
        "{logins} logins in {took:?}, {} bytes each; a request {alone:?} before, {among:?} after",
        grown / logins as u64
    );
}
