//! Many sessions at once: none fails, and what they took is given back.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::descendants;
use crate::edges::CLIENTS;
use crate::gateway;
use crate::long_run;
use crate::memory_of;
use crate::name_of;

/// Sandboxes the pool keeps ready.
const POOL: usize = 3;

/// What a process holds; threads come and go with work that blocks.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    descriptors: usize,
    threads: usize,
    memory: u64,
}

fn holdings(pid: u32) -> Holdings {
    let entries =
        |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    Holdings { descriptors: entries("fd"), threads: entries("task"), memory: memory_of(pid) }
}

/// The processes of a gateway by name, when it is at rest: nothing but what is made ahead.
fn at_rest(gateway: &Gateway) -> Vec<u32> {
    until("the gateway to be at rest", PATIENCE, || {
        let over = |s: &Value| s["status"] == "ended" || s["status"] == "failed";
        gateway.sessions().iter().all(over).then_some(())?;
        let all = descendants(gateway.pid());
        let shims = all.iter().filter(|pid| name_of(**pid) == "sojourn-shim").count();
        (shims == POOL).then_some(all)
    })
}

fn named(all: &[u32], name: &str) -> u32 {
    *all.iter().find(|pid| name_of(**pid) == name).expect("such a process")
}

fn storm(gateway: &Gateway, sessions: usize, at_a_time: usize) -> Value {
    let recipe = format!("/usr/bin/python3 -W ignore {CLIENTS}/storm.py {sessions} {at_a_time}");
    let output = gateway.peer().run(&recipe, Duration::from_secs(60 + sessions as u64));
    serde_json::from_slice(&output.out)
        .unwrap_or_else(|_| panic!("{}{}", output.text(), output.err))
}

#[test]
fn many_sessions_come_and_go_and_leave_nothing_behind() {
    if !can_make_sandboxes() {
        return;
    }
    let sessions = long_run().unwrap_or(24);
    let gateway = gateway(&Options::default());
    // What is made once is made now.
    storm(&gateway, 8, 8);
    let all = at_rest(&gateway);
    let runner = named(&all, "sojourn-runner");
    let before = [holdings(gateway.pid()), holdings(runner)];
    let told = storm(&gateway, sessions, 8);
    let cold = gateway.log_lines();
    let cold = cold.iter().filter(|l| l["event"] == "session_opened" && l["warm"] == false).count();
    println!(
        "{sessions} sessions, 8 at a time, a pool of {POOL}: to the prompt p50 {} ms, p95 {} ms; {} s in all; \
         the pool was empty {cold} times",
        told["p50_ms"], told["p95_ms"], told["seconds"]
    );
    assert_eq!(told["failed"].as_array().map(Vec::len), Some(0), "{told}\n{}", gateway.log());
    let all = at_rest(&gateway);
    assert_eq!(named(&all, "sojourn-runner"), runner, "it is the same runner");
    // What was just released may still be on its way out.
    for (pid, before) in [gateway.pid(), runner].into_iter().zip(before) {
        until(&format!("{before:?} again, of {:?}", holdings(pid)), PATIENCE, || {
            let now = holdings(pid);
            let flat = now.descriptors <= before.descriptors + 4
                && now.threads <= before.threads + 16
                && now.memory <= before.memory + (8 << 20);
            flat.then_some(())
        });
    }
    let dead = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
    };
    until("no dead process to be left uncollected", PATIENCE, || {
        (!descendants(gateway.pid()).iter().any(dead)).then_some(())
    });
    let ended = gateway.audit_with(sessions + 8, "session_ended");
    let count = |action: &str| ended.iter().filter(|line| line["action"] == action).count();
    assert_eq!((count("session_started"), count("session_ended")), (sessions + 8, sessions + 8));
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success() && out.is_empty(), "{out}{err}");
}
