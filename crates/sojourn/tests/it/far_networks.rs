//! Gateway and runners each in a network of its own, with delay and loss in between: all of it works.

use std::fs;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Far;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Runner;
use sojourn_testkit::alone;
use sojourn_testkit::can_lose_packets;
use sojourn_testkit::processes_of;
use sojourn_testkit::until;

use crate::gateway;
use crate::runner_breaks::allow;
use crate::runner_breaks::count;
use crate::runner_lives::again;
use crate::runner_lives::said;
use crate::runner_lives::transcript;

const PASSWORD: &str = "nine tall cranes over 40 harbours";

/// Longer than anything takes that is sent several times over.
const LONG: std::time::Duration = std::time::Duration::from_secs(240);

/// The gateway's port from now on, also after it was killed.
pub(crate) fn stay_at(gateway: &Gateway) -> u16 {
    let port = gateway.web_port();
    let config = gateway.scratch().path().join("sojourn.toml");
    let written = fs::read_to_string(&config).expect("a configuration");
    let any = "[web]\nlisten = \"127.0.0.1:0\"";
    assert!(written.contains(any));
    let this = format!("[web]\nlisten = \"127.0.0.1:{port}\"");
    fs::write(&config, written.replace(any, &this)).expect("a configuration");
    port
}

/// Waits until so many runners are there.
#[track_caller]
fn are_there(mia: &mut Browser, wanted: usize) {
    until(&format!("{wanted} runners"), LONG, || {
        let listed = mia.get("/api/runners").expect(200);
        let items = listed["items"].as_array().expect("a list");
        let there = items.iter().filter(|runner| runner["connected"] == true).count();
        (there == wanted).then_some(())
    });
}

fn start_on(mia: &mut Browser, name: &str, runner: &Runner, prompt: &str) -> String {
    let body = json!({"harness": "fake", "runner": name, "cwd": runner.work(), "prompt": prompt});
    let started = mia.post("/api/sessions", &body).expect(201);
    started["session_id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn stands(mia: &mut Browser, runner: &Runner, id: &str, status: &str) -> Value {
    until(&format!("a session that is {status}; {}", runner.log()), LONG, || {
        let session = mia.get(&format!("/api/sessions/{id}")).expect(200);
        (session["status"] == status).then_some(session)
    })
}

/// The prompt that is open.
#[track_caller]
fn asked(mia: &mut Browser, id: &str, nth: usize) -> Value {
    until("a prompt", LONG, || {
        let events = transcript(mia, id);
        events.into_iter().filter(|event| event["type"] == "prompt").nth(nth)
    })
}

#[test]
fn two_runners_in_networks_of_their_own_behind_delay_and_loss() {
    if !can_lose_packets()
        || !alone("far_networks::two_runners_in_networks_of_their_own_behind_delay_and_loss")
    {
        return;
    }
    let mut gateway = gateway(&Options::default());
    gateway.add_user("mia", "member", PASSWORD);
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let port = stay_at(&gateway);
    let fars = [Far::reaching(port, 1), Far::reaching(port, 2)];
    let mut runners = ["laptop", "tower"].map(|name| {
        let made = mia.post("/api/runners", &json!({"name": name})).expect(201);
        let token = made["token"].as_str().expect("a token").to_owned();
        Runner::new(env!("CARGO_BIN_EXE_sojourn"), port, &token)
    });
    for (far, runner) in fars.iter().zip(&mut runners) {
        far.inside(|| runner.launch());
    }
    are_there(&mut mia, 2);
    let [laptop, tower] = &mut runners;

    // Started, asked, answered: on both at once.
    let on_laptop = start_on(&mut mia, "laptop", laptop, "work 2");
    let on_tower = start_on(&mut mia, "tower", tower, "work 2");
    for nth in 0..2 {
        for id in [&on_laptop, &on_tower] {
            let prompt = asked(&mut mia, id, nth);
            assert_eq!(allow(&mut mia, id, &prompt), 200);
        }
    }
    for (id, runner) in [(&on_laptop, &*laptop), (&on_tower, &*tower)] {
        stands(&mut mia, runner, id, "waiting");
        let told = said(&transcript(&mut mia, id));
        assert_eq!(told, "part 1\nran make part1\npart 2\nran make part2\n");
    }

    // The link is cut, and the gateway killed, while one of them speaks.
    let speaks = start_on(&mut mia, "laptop", laptop, "stream 200k at 100k/s");
    stands(&mut mia, laptop, &speaks, "running");
    fars[0].cut();
    until("some of it", LONG, || {
        (said(&transcript(&mut mia, &speaks)).len() > 20_000).then_some(())
    });
    gateway.kill();
    gateway.launch();
    mia = again(&gateway);
    are_there(&mut mia, 2);
    stands(&mut mia, laptop, &speaks, "waiting");
    assert_eq!(said(&transcript(&mut mia, &speaks)).len(), 200_000, "once, and whole");

    // A runner is killed while its agent asks.
    let asks = start_on(&mut mia, "tower", tower, "perm");
    let prompt = asked(&mut mia, &asks, 0);
    tower.kill();
    until("an empty tree", LONG, || processes_of(&asks).is_empty().then_some(()));
    fars[1].inside(|| tower.launch());
    are_there(&mut mia, 2);
    until("what was cut", LONG, || {
        (count(&transcript(&mut mia, &asks), "ended") == 1).then_some(())
    });
    assert_eq!(allow(&mut mia, &asks, &prompt), 410, "a late answer reaches nobody");
    mia.post(&format!("/api/sessions/{asks}/resume"), &json!({})).expect(202);
    stands(&mut mia, tower, &asks, "waiting");

    for (id, runner) in [(&on_laptop, &*laptop), (&speaks, &*laptop), (&asks, &*tower)] {
        mia.delete(&format!("/api/sessions/{id}")).expect(202);
        stands(&mut mia, runner, id, "ended");
        assert!(processes_of(id).is_empty());
    }
    let lost: Vec<u64> = fars.iter().map(Far::lost).collect();
    assert!(lost.iter().all(|lost| *lost > 0), "packets were lost: {lost:?}");
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}
