//! The link is cut after every k-th frame, for every k; gateway, runner and agent are killed wherever
//! chance has it. What people see is what it would have been, and what was cut is marked.
//!
//! `SOJOURN_TEST_LONG=1` makes a hundred rounds of it; `SOJOURN_TEST_SEED=N` repeats some.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Cutter;
use sojourn_testkit::Frame;
use sojourn_testkit::Gateway;
use sojourn_testkit::Runner;
use sojourn_testkit::until;

use crate::is_long_run;
use crate::kill;
use crate::runner_breaks::allow;
use crate::runner_breaks::count;
use crate::runner_breaks::house_with_a_cutter;
use crate::runner_lives::again;
use crate::runner_lives::connected;
use crate::runner_lives::prompts;
use crate::runner_lives::said;
use crate::runner_lives::stands;
use crate::runner_lives::start;
use crate::runner_lives::transcript;

/// What the agent is to do: say something, ask, and do it, three times over.
const WORK: &str = "work 3";

/// What it says then.
const SAID: &str = "part 1\nran make part1\npart 2\nran make part2\npart 3\nran make part3\n";

/// Longer than a session takes whose link breaks all the time: each break costs a second or more.
const LONG: Duration = Duration::from_secs(240);

/// Numbers that can be had again.
struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    fn new() -> Self {
        let given = std::env::var("SOJOURN_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = given.unwrap_or_else(|| clock.map_or(1, |now| now.subsec_nanos().into()));
        eprintln!("SOJOURN_TEST_SEED={seed} repeats this");
        Self { seed, state: seed ^ 0x9e37_79b9_7f4a_7c15 }
    }

    /// One from `from` on, below `to`.
    fn between(&mut self, from: usize, to: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        from + usize::try_from(self.state >> 33).expect("it fits") % (to - from).max(1)
    }
}

fn rounds(few: usize) -> usize {
    if is_long_run() { 100 } else { few }
}

/// A transcript without what is different each time: ids, and where the words of an answer are cut.
fn plain(events: &[Value]) -> Vec<Value> {
    let mut names: Vec<String> = Vec::new();
    let mut plain: Vec<Value> = Vec::new();
    for event in events {
        let mut event = event.clone();
        // Whether an agent that is to end goes by itself or is told to is a matter of a moment.
        if let Some(ended) = event.as_object_mut().filter(|event| event["type"] == "ended") {
            ended.remove("exit");
            ended.remove("output_bytes");
        }
        for place in ["/request", "/recovery/agent_session_id"] {
            if let Some(id) = event.pointer_mut(place) {
                let name = id.as_str().unwrap_or_default().to_owned();
                let at = names.iter().position(|known| *known == name).unwrap_or(names.len());
                names.extend((at == names.len()).then_some(name));
                *id = json!(at);
            }
        }
        let words = |event: &Value| event["update"]["content"]["text"].as_str().map(str::to_owned);
        match (plain.last_mut(), words(&event)) {
            (Some(last), Some(more)) if words(last).is_some() => {
                let whole = words(last).unwrap_or_default() + &more;
                last["update"]["content"]["text"] = whole.into();
            }
            _ => plain.push(event),
        }
    }
    plain
}

/// Answers whatever is asked, until there are so many events or the turn is over. Gives them.
#[track_caller]
fn drive(mia: &mut Browser, runner: &Runner, id: &str, events: usize) -> Vec<Value> {
    until(&format!("{events} events; {}", runner.log()), LONG, || {
        let told = transcript(mia, id);
        if told.len() >= events || count(&told, "turn_ended") > 0 {
            return Some(told);
        }
        let settled = |prompt: &Value| {
            told.iter().any(|it| it["type"] == "resolved" && it["request"] == *prompt)
        };
        for prompt in told.iter().filter(|event| event["type"] == "prompt") {
            if !settled(&prompt["request"]) {
                // 409: it was answered, and the agent has not heard of it yet.
                let status = allow(mia, id, prompt);
                assert!([200, 409, 410].contains(&status), "{status}");
            }
        }
        None
    })
}

/// Plays it whole, and ends it. Gives what happened.
#[track_caller]
fn play(mia: &mut Browser, runner: &Runner) -> Vec<Value> {
    let id = start(mia, runner, WORK);
    drive(mia, runner, &id, usize::MAX);
    end(mia, runner, &id)
}

#[track_caller]
fn end(mia: &mut Browser, runner: &Runner, id: &str) -> Vec<Value> {
    until(&format!("its last turn; {}", runner.log()), LONG, || {
        let session = mia.get(&format!("/api/sessions/{id}")).expect(200);
        (session["status"] == "waiting").then_some(())
    });
    mia.delete(&format!("/api/sessions/{id}")).expect(202);
    until(&format!("its end; {}", runner.log()), LONG, || {
        let session = mia.get(&format!("/api/sessions/{id}")).expect(200);
        (session["status"] == "ended").then_some(())
    });
    transcript(mia, id)
}

/// A house, and how it goes when nothing breaks.
fn undisturbed() -> (Gateway, Browser, Runner, Cutter, Vec<Value>) {
    let (gateway, mut mia, mut runner, cutter) = house_with_a_cutter();
    runner.launch();
    connected(&mut mia, &runner);
    let whole = play(&mut mia, &runner);
    assert_eq!((said(&whole).as_str(), count(&whole, "prompt")), (SAID, 3));
    (gateway, mia, runner, cutter, whole)
}

#[test]
fn flaw_16_case_02_a_link_that_is_cut_after_every_kth_frame_changes_nothing_for_any_k() {
    let (_gateway, mut mia, runner, cutter, whole) = undisturbed();
    let ks: Vec<usize> = if is_long_run() { (1..=64).collect() } else { vec![3, 8] };
    let mut asked = 1;
    for k in ks {
        let before = cutter.cuts();
        let id = start(&mut mia, &runner, WORK);
        let mut page = mia.socket(&format!("/api/sessions/{id}/attach?from=1"));
        cutter.cut_after(k);
        drive(&mut mia, &runner, &id, usize::MAX);
        let told = end(&mut mia, &runner, &id);
        let cuts = cutter.cuts() - before;
        cutter.cut_after(0);
        assert_eq!(plain(&told), plain(&whole), "k={k}");
        asked += 1;
        assert_eq!(prompts(&runner).len(), asked, "k={k}: a message reaches an agent once");
        let mut seen = Vec::new();
        loop {
            match page.next() {
                Frame::Text(frame) if frame["type"] == "event" => {
                    assert_eq!(frame["seq"], seen.len() + 1, "k={k}");
                    seen.push(frame["event"].clone());
                }
                Frame::Closed(..) => break,
                Frame::Text(_) | Frame::Output(..) => {}
            }
        }
        assert_eq!(seen, told, "k={k}: who looked on has seen the same");
        eprintln!("k={k}: {cuts} cuts");
        until("the runner is there", LONG, || {
            (mia.get("/api/runners").expect(200)["items"][0]["connected"] == true).then_some(())
        });
        if cuts == 0 {
            break;
        }
    }
    assert!(cutter.cuts() > 0);
}

#[test]
fn case_02_a_gateway_that_is_killed_at_random_changes_nothing_that_is_shown() {
    let (mut gateway, mut mia, runner, cutter, whole) = undisturbed();
    let mut chance = Chance::new();
    for round in 0..rounds(2) {
        let at = chance.between(1, whole.len());
        let id = start(&mut mia, &runner, WORK);
        let shown = drive(&mut mia, &runner, &id, at);
        gateway.kill();
        gateway.launch();
        cutter.follow(gateway.web_port());
        mia = again(&gateway);
        connected(&mut mia, &runner);
        drive(&mut mia, &runner, &id, usize::MAX);
        let told = end(&mut mia, &runner, &id);
        let where_ = format!("seed {}, round {round}, after {at} events", chance.seed);
        assert_eq!(told.get(..shown.len()), Some(shown.as_slice()), "{where_}");
        assert_eq!(plain(&told), plain(&whole), "{where_}");
        assert_eq!(prompts(&runner).len(), round + 2, "{where_}: a message reaches an agent once");
    }
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

/// The events until the agent is there: before that there is nothing to take up again.
fn beginning(whole: &[Value]) -> usize {
    whole.iter().position(|event| event["type"] == "started").expect("a start") + 1
}

/// What was told after something died, and that the session goes on.
#[track_caller]
fn is_taken_up(
    mia: &mut Browser,
    runner: &Runner,
    id: &str,
    shown: &[Value],
    (why, reason, place): (&str, &str, &str),
) {
    let told = until(&format!("its end; {}", runner.log()), LONG, || {
        let told = transcript(mia, id);
        (count(&told, "ended") == 1).then_some(told)
    });
    assert_eq!(told.get(..shown.len()), Some(shown), "{place}: nothing lost, nothing twice");
    assert_eq!(told.last().expect("an end")["reason"], reason, "{place}");
    let cuts: Vec<_> = told.iter().filter(|event| event["type"] == "turn_cut").collect();
    match count(&told, "turn_ended") {
        0 if count(&told, "user_message") > 0 => {
            assert_eq!((cuts.len(), &cuts[0]["why"]), (1, &json!(why)), "{place}");
        }
        _ => assert!(cuts.len() <= 1, "{place}"),
    }
    for prompt in told.iter().filter(|event| event["type"] == "prompt") {
        let settled: Vec<_> = told
            .iter()
            .filter(|it| it["type"] == "resolved" && it["request"] == prompt["request"])
            .collect();
        assert_eq!(settled.len(), 1, "{place}: {told:?}");
        if settled[0]["outcome"]["is"] == "lost" {
            assert!([409, 410].contains(&allow(mia, id, prompt)), "{place}: a late answer");
        }
    }
    mia.post(&format!("/api/sessions/{id}/resume"), &json!({})).expect(202);
    let over = end(mia, runner, id);
    assert_eq!(over.get(..told.len()), Some(told.as_slice()), "{place}");
}

#[test]
fn case_05_a_runner_that_is_killed_at_random_loses_nothing_and_its_sessions_are_taken_up() {
    let (gateway, mut mia, mut runner, _cutter, whole) = undisturbed();
    let mut chance = Chance::new();
    for round in 0..rounds(2) {
        let at = chance.between(beginning(&whole), whole.len());
        let place = format!("seed {}, round {round}, after {at} events", chance.seed);
        let id = start(&mut mia, &runner, WORK);
        let shown = drive(&mut mia, &runner, &id, at);
        runner.kill();
        runner.launch();
        connected(&mut mia, &runner);
        is_taken_up(&mut mia, &runner, &id, &shown, ("runner_died", "runner_lost", &place));
        assert!(prompts(&runner).len() <= round + 2, "{place}: a message reaches an agent once");
    }
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

/// The agent of a session: the process of its that is called so.
fn agent_of(id: &str) -> Option<u32> {
    let tag = format!("SOJOURN_SESSION={id}");
    crate::pids().find(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        crate::name_of(*pid) == "fake-agent"
            && environment.split(|byte| *byte == 0).any(|variable| variable == tag.as_bytes())
    })
}

#[test]
fn case_05_an_agent_that_is_killed_at_random_loses_nothing_and_is_taken_up() {
    let (gateway, mut mia, runner, _cutter, whole) = undisturbed();
    let mut chance = Chance::new();
    for round in 0..rounds(2) {
        let at = chance.between(beginning(&whole), whole.len());
        let place = format!("seed {}, round {round}, after {at} events", chance.seed);
        let id = start(&mut mia, &runner, WORK);
        let shown = drive(&mut mia, &runner, &id, at);
        kill(agent_of(&id).expect("an agent"));
        is_taken_up(&mut mia, &runner, &id, &shown, ("agent_died", "signalled", &place));
        assert!(prompts(&runner).len() <= round + 2, "{place}: a message reaches an agent once");
    }
    stands_empty(&mut mia, &runner);
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

/// After all of it a session still starts: no place was kept by one that is over.
#[track_caller]
fn stands_empty(mia: &mut Browser, runner: &Runner) {
    let id = start(mia, runner, "say 1");
    stands(mia, runner, &id, "waiting");
    let runners = mia.get("/api/runners").expect(200);
    assert_eq!(runners["items"][0]["sessions"], 1);
}
