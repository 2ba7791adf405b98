//! More time for a session: on record, told, and held to, whatever becomes of the gateway.

use std::time::Duration;
use std::time::Instant;

use serde_json::json;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;

fn refused(gateway: &Gateway, arguments: &[&str]) -> String {
    let (status, out, err) = gateway.try_cli(&[&["session", "extend"], arguments].concat(), "");
    assert_eq!(status.code(), Some(1), "{arguments:?}: {out}{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    err
}

#[test]
fn a_session_runs_past_its_old_deadline_and_no_further() {
    if !can_make_sandboxes() {
        return;
    }
    let limits = "session_timeout = \"4s\"\nwarn_before = \"1s\"\ngrace = \"1s\"\n".to_owned();
    let mut gateway = gateway(&Options { limits, ..Options::default() });
    let started = Instant::now();
    let program =
        "echo up; while [ $SECONDS -lt 6 ]; do sleep 0.1; done; echo past-$((1)); sleep 99";
    let client = gateway.alice().with("-tt").start(&[program]);
    let orphan = gateway.alice().with("-tt").start(&[program]);
    for running in [&client, &orphan] {
        running.expect("up");
    }
    let before = gateway.sessions();
    for session in &before {
        let id = session["id"].as_str().unwrap();
        let said = gateway.cli(&["session", "extend", &id[28..], "5s", "--why", "nearly there"]);
        assert!(said.contains("ends in "), "{said}");
    }
    for running in [&client, &orphan] {
        running.expect("\r\nSession extended by root: ends in ");
    }
    let line = gateway.wait_for_audit("it", |line| line["action"] == "session_extended");
    let details = &line["details"];
    assert_eq!((&details["seconds"], &details["why"]), (&5.into(), &"nearly there".into()));
    assert_eq!((&details["by"], &line["actor"]["type"]), (&"root".into(), &"local".into()));
    let deadline = |gateway: &Gateway, id: &str| {
        let session = gateway.sessions().into_iter().find(|session| session["id"] == id).unwrap();
        session["lease"]["remaining_seconds"].as_f64().unwrap()
    };
    let id = before[0]["id"].as_str().unwrap();
    assert!(deadline(&gateway, id) > 4.0, "the new one is shown");
    let shown = gateway.cli(&["session", "show", id, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let extensions = &shown["extensions"];
    assert_eq!(extensions.as_array().map(Vec::len), Some(1), "{shown}");
    let first = &extensions[0];
    assert_eq!((&first["by"], &first["seconds"]), (&"root".into(), &5.into()));
    assert_eq!((&first["why"], &first["deadline"]), (&details["why"], &details["deadline"]));
    let shown = gateway.cli(&["session", "show", id]);
    assert!(shown.contains("by root, 5s longer, to "), "{shown}");
    client.expect("past-1");
    assert!(started.elapsed() > Duration::from_secs(4), "past the old one");
    // Without a gateway, and under the next, it is the same.
    gateway.kill();
    gateway.launch();
    let ended = until("both ends", PATIENCE, || {
        let sessions = gateway.sessions();
        sessions.iter().all(|session| session["status"] == "ended").then_some(sessions)
    });
    assert!(ended.iter().all(|session| session["end_reason"] == "max_runtime"), "{ended:?}");
    let ran = started.elapsed();
    assert!(ran >= Duration::from_secs(9) && ran < Duration::from_secs(14), "{ran:?}");
    let over = refused(&gateway, &[id, "1h"]);
    assert!(over.contains("the session has ended"), "{over}");
}

#[test]
fn what_cannot_be_extended_says_why() {
    if !can_make_sandboxes() {
        return;
    }
    let limits = "session_timeout = \"0\"\n".to_owned();
    let gateway = gateway(&Options { limits, ..Options::default() });
    let free = gateway.alice().with("-tt").start(&["echo up; sleep 99"]);
    free.expect("up");
    let free = gateway.sessions()[0]["id"].as_str().unwrap().to_owned();
    assert!(refused(&gateway, &[&free, "1h"]).contains("the session has no deadline"));
    let limited = gateway.alice().with("-tt").with("-oSetEnv=SOJOURN_TIMEOUT=600");
    let limited = limited.start(&["echo up; sleep 99"]);
    limited.expect("up");
    let id = gateway.sessions()[0]["id"].as_str().unwrap().to_owned();
    assert!(refused(&gateway, &[&id, "0"]).contains("longer than nothing"));
    assert!(refused(&gateway, &[&id, "36500d"]).contains("100 years"));
    assert!(refused(&gateway, &["00000000", "1h"]).contains("there is no such session"));
    gateway.cli(&["session", "extend", &id, "110m"]);
    limited.expect("\r\nSession extended by root: ends in 2 h\r\n");
    gateway.cli(&["session", "end", &id, "--reason", "enough"]);
    assert_eq!(limited.finish(PATIENCE).code, 143);
    until("its end", PATIENCE, || {
        let session = gateway.sessions().into_iter().find(|session| session["id"] == id.as_str());
        (session?["status"] == "ended").then_some(())
    });
    assert!(refused(&gateway, &[&id, "1h"]).contains("has ended"));
    let files = crate::files_below(&gateway.data().join("recordings"));
    let sidecar = files.iter().find(|file| file.ends_with(format!("{id}.json"))).unwrap();
    let sidecar: serde_json::Value =
        serde_json::from_slice(&std::fs::read(sidecar).unwrap()).unwrap();
    assert_eq!(sidecar["ended_by"], serde_json::json!({"name": "root", "why": "enough"}));
}

#[test]
fn a_session_of_the_web_door_is_extended_as_far_as_that_door_lets_it_run() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    gateway.add_user("mia", "member", "seven wet ropes around 31 bollards");
    let mut mia = gateway.signed_in("mia", "seven wet ropes around 31 bollards");
    let wish = json!({"harness": "shell", "limits": {"max_runtime_seconds": 600}});
    let made = mia.post("/api/sessions", &wish).expect(201);
    let path = format!("/api/sessions/{}/extend", made["session_id"].as_str().expect("an id"));
    // An hour is what sessions that came by SSH have, and four are what this one has.
    mia.post(&path, &json!({"seconds": 7200})).expect(202);
    let refused = mia.post(&path, &json!({"seconds": 14_400})).refused(422, "INVALID");
    assert!(refused["error"].as_str().is_some_and(|line| line.contains("run 4 h")), "{refused}");
}
