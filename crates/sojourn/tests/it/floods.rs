//! Agents that say too much: what they say is bounded, the memory of runner and gateway is, and nobody
//! else is disturbed. And agents that spend too much.

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Options;
use sojourn_testkit::Runner;
use sojourn_testkit::until;

use crate::is_long_run;
use crate::memory_of;
use crate::runner_breaks::count;
use crate::runner_lives::connected;
use crate::runner_lives::house;
use crate::runner_lives::said;
use crate::runner_lives::stands;
use crate::runner_lives::start;
use crate::runner_lives::transcript;

/// Longer than a flood takes on a busy machine.
const LONG: std::time::Duration = std::time::Duration::from_secs(240);

/// What memory may grow by: the most that waits anywhere, and what an allocator keeps.
const GROWTH: u64 = 64 << 20;

/// The memory of two processes, at its highest.
struct Peak {
    pids: [u32; 2],
    first: [u64; 2],
    most: [u64; 2],
}

impl Peak {
    fn new(pids: [u32; 2]) -> Self {
        let first = pids.map(memory_of);
        Self { pids, first, most: first }
    }

    fn look(&mut self) {
        for (most, pid) in self.most.iter_mut().zip(self.pids) {
            *most = (*most).max(memory_of(pid));
        }
    }

    fn grew(&self) -> [u64; 2] {
        [self.most[0].saturating_sub(self.first[0]), self.most[1].saturating_sub(self.first[1])]
    }
}

#[track_caller]
fn until_status(
    mia: &mut Browser,
    runner: &Runner,
    id: &str,
    status: &str,
    peak: &mut Peak,
) -> Value {
    until(&format!("{status}; {}", runner.log()), LONG, || {
        peak.look();
        let session = mia.get(&format!("/api/sessions/{id}")).expect(200);
        (session["status"] == status).then_some(session)
    })
}

#[test]
fn case_06_flaw_24_memory_stays_flat_in_a_flood_and_nobody_else_is_disturbed() {
    let (gateway, mut mia, mut runner) = house(&Options::default());
    runner.launch();
    connected(&mut mia, &runner);
    let calm = start(&mut mia, &runner, "say 1");
    stands(&mut mia, &runner, &calm, "waiting");
    let mut peak = Peak::new([gateway.pid(), runner.id()]);
    let line = start(&mut mia, &runner, "big-line 64M");
    until_status(&mut mia, &runner, &line, "waiting", &mut peak);
    let told = transcript(&mut mia, &line);
    assert_eq!(said(&told), "after it\n");
    let cut = told.iter().find(|event| event["type"] == "cut").expect("a mark");
    assert_eq!((&cut["what"], &cut["bytes"]), (&json!("long_line"), &json!(64_000_000)));
    mia.delete(&format!("/api/sessions/{line}")).expect(202);
    let most: u64 = if is_long_run() { 100 << 20 } else { 12 << 20 };
    let body = json!({"harness": "fake", "cwd": runner.work(), "prompt": "stream 200MB",
        "limits": {"max_output_bytes": most}});
    let started = mia.post("/api/sessions", &body).expect(201);
    let flood = started["session_id"].as_str().expect("an id").to_owned();
    stands(&mut mia, &runner, &flood, "running");
    // In the midst of it another one is spoken to.
    let mut page = mia.socket(&format!("/api/sessions/{calm}/attach"));
    page.json(&json!({"type": "user_message", "content": "say 2", "client_msg_id": "m"}))
        .expect("a message");
    until("an answer", LONG, || {
        peak.look();
        said(&transcript(&mut mia, &calm)).ends_with("word 1\nword 2\n").then_some(())
    });
    let ended = until_status(&mut mia, &runner, &flood, "ended", &mut peak);
    assert_eq!(ended["end_reason"], "max_output");
    let is_it =
        |line: &&Value| line["action"] == "limit_exceeded" && line["session_id"] == flood.as_str();
    assert_eq!(gateway.audit().iter().filter(is_it).count(), 1);
    let grew = peak.grew();
    eprintln!("memory grew by {grew:?} bytes: gateway, runner");
    assert!(grew.iter().all(|grown| *grown < GROWTH), "{grew:?}");
}

#[test]
fn an_agent_that_spends_too_much_is_stopped_and_cannot_be_taken_up() {
    let options = Options { limits: "max_cost = 5\n".to_owned(), ..Options::default() };
    let (gateway, mut mia, mut runner) = house(&options);
    runner.launch();
    connected(&mut mia, &runner);
    let id = start(&mut mia, &runner, "usage 3.5");
    stands(&mut mia, &runner, &id, "waiting");
    let path = format!("/api/sessions/{id}");
    assert_eq!(mia.get(&path).expect(200)["limits"]["max_cost_micros"], 5_000_000);
    let mut page = mia.socket(&format!("{path}/attach"));
    let say = json!({"type": "user_message", "content": "usage 5.25", "client_msg_id": "m"});
    page.json(&say).expect("a message");
    let told = page.wait_for("limit_exceeded");
    assert_eq!((&told["limit"], &told["configured"]), (&json!("max_cost"), &json!(5_000_000)));
    assert_eq!(told["message"], "Session ended: maximum cost exceeded (5.00)");
    assert_eq!(page.wait_for("ended")["reason"], "max_cost");
    let ended = stands(&mut mia, &runner, &id, "ended");
    assert_eq!(ended["end_reason"], "max_cost");
    let line = gateway.wait_for_audit("the limit", |line| {
        line["action"] == "limit_exceeded" && line["session_id"] == id.as_str()
    });
    let details = (&line["details"]["limit"], &line["details"]["reached"]);
    assert_eq!(details, (&json!("max_cost"), &json!(5_250_000)));
    mia.post(&format!("{path}/resume"), &json!({})).refused(409, "CONFLICT");
    let told = transcript(&mut mia, &id);
    assert_eq!(count(&told, "limit_exceeded"), 1);
    // One's own limit is only ever lower.
    let body = json!({"harness": "fake", "cwd": runner.work(), "prompt": "usage 2",
        "limits": {"max_cost_micros": 2_000_000}});
    let started = mia.post("/api/sessions", &body).expect(201);
    let id = started["session_id"].as_str().expect("an id").to_owned();
    let ended = stands(&mut mia, &runner, &id, "ended");
    assert_eq!(ended["end_reason"], "max_cost");
}
