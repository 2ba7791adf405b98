//! What no client says, to the real door: it answers as RFC 4253 and 4254 want, or hangs up, and nobody
//! else notices.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::edges::CLIENTS;
use crate::gateway;
use crate::memory_of;

/// Each deed of `clients/misuse.py`, and how it may end. `100`, `92` and `3` are the refusals of a
/// channel's request, of a channel and of a message.
const ENDS: &[(&str, &[&str])] = &[
    ("a channel before signing in", &["signs in", "closed"]),
    ("a request of a channel before signing in", &["signs in", "closed"]),
    // Whoever believed this one let everybody in (CVE-2018-10933).
    ("says itself that it is signed in", &["signs in", "closed"]),
    ("signs in without asking for the service", &["signs in", "closed"]),
    ("answers that nobody asked for", &["refused"]),
    ("a service that is none", &["signs in", "closed"]),
    ("names and methods without an end", &["refused"]),
    ("new keys that nobody agreed on", &["signs in", "closed"]),
    ("packets in the clear that cannot be", &["closed"]),
    ("a request of a channel that is not there", &["closed", "alive"]),
    ("data, windows and ends of channels that are not there", &["closed", "alive"]),
    ("answers to channels that nobody opened", &["closed", "alive"]),
    ("a window that overflows", &["closed", "alive"]),
    ("packets of no bytes", &["closed", "alive"]),
    ("a window of no bytes", &["alive"]),
    ("more data than the window has", &["closed", "alive"]),
    ("a packet of the longest kind", &["closed", "alive"]),
    ("data after the end, and ends twice", &["closed", "alive"]),
    ("programs twice, terminals late", &["alive 100"]),
    ("requests that nobody knows, or that are not whole", &["closed", "alive 100"]),
    ("requests that are cut short", &["closed", "alive"]),
    ("channels without number", &["alive 92", "closed"]),
    ("channels of a kind that is none", &["alive 92"]),
    ("global requests that are not whole", &["closed", "alive"]),
    ("new keys without rest", &["alive"]),
    ("the beginning of an exchange, again and again", &["closed", "alive"]),
    ("messages that nobody implements", &["closed", "alive"]),
    ("signs in again", &["closed", "alive"]),
    ("says goodbye and stays", &["closed"]),
];

/// Sequences of nonsense in an ordinary run, and in a long one.
const ROUNDS: (usize, usize) = (25, 500);

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn misuse(gateway: &Gateway, variables: &str) -> Vec<String> {
    let recipe = format!("{variables} /usr/bin/python3 -B {CLIENTS}/misuse.py 2>/dev/null");
    let output = gateway.peer().run(&recipe, Duration::from_secs(280));
    assert_eq!(output.code, 0, "{}", output.text());
    output.text().lines().map(str::to_owned).collect()
}

/// Everybody else is as they were, and nothing is left of those who came.
fn nobody_noticed(gateway: &Gateway, pid: u32, before: usize) {
    assert_eq!(gateway.pid(), pid);
    let log = gateway.log();
    assert!(!log.contains("panicked"), "{log}");
    until("all sessions but one to be over", PATIENCE, || {
        let over = |s: &Value| s["status"] == "ended" || s["status"] == "failed";
        let alive = gateway.sessions().iter().filter(|session| !over(session)).count();
        (alive == 1).then_some(())
    });
    until("every connection to be gone", PATIENCE, || {
        (descriptors(pid) <= before + 6).then_some(())
    });
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

#[test]
fn whatever_a_client_says_the_door_goes_on() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        limits: "detach_grace = \"0\"\n".to_owned(),
        ssh: "connects_per_minute = 0\nmax_auth_tries = 50\n".to_owned(),
        ..Options::default()
    });
    assert_eq!(gateway.alice().run("true").code, 0);
    let mut neighbour = gateway.alice().with("-tt").start(&["echo up; cat"]);
    neighbour.expect("up");
    let (pid, before) = (gateway.pid(), descriptors(gateway.pid()));
    let memory = memory_of(pid);

    let told = misuse(&gateway, "");
    let mut wrong = Vec::new();
    for (line, (deed, ends)) in told.iter().zip(ENDS) {
        let end = line.strip_prefix(&format!("{deed}: "));
        let fits = |end: &str| {
            ends.iter().any(|wanted| end == *wanted || end.starts_with(&format!("{wanted} ")))
        };
        if !end.is_some_and(fits) {
            wrong.push(format!("{line}; one of {ends:?} is wanted of {deed:?}"));
        }
    }
    assert!(wrong.is_empty() && told.len() == ENDS.len(), "{wrong:#?}\n{told:#?}");
    nobody_noticed(&gateway, pid, before);

    let rounds = if crate::is_long_run() { ROUNDS.1 } else { ROUNDS.0 };
    let told = misuse(&gateway, &format!("ONLY=nothing SEED=1 ROUNDS={rounds}"));
    assert_eq!(told.len(), rounds);
    let late: Vec<_> = told.iter().filter(|line| !line.ends_with(": judged")).collect();
    assert!(late.is_empty(), "{late:?}");
    nobody_noticed(&gateway, pid, before);
    let grown = memory_of(pid).saturating_sub(memory);
    assert!(grown < 64 << 20, "the gateway grew by {grown} bytes");

    neighbour.write(b"still here\n");
    neighbour.expect("still here\r\nstill here");
    assert_eq!(gateway.alice().run("exit 3").code, 3);
    neighbour.kill();
}
