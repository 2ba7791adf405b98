//! What is kept goes when its time or its room is over, on record.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::files_below;
use crate::gateway;
use crate::left::is_kept;
use crate::left::kept;
use crate::left::newest;
use crate::runner_lives::connected;
use crate::runner_lives::house;
use crate::runner_lives::said;
use crate::runner_lives::stands;
use crate::runner_lives::start;
use crate::runner_lives::transcript;

/// The recordings and sidecars there are.
fn recordings(gateway: &Gateway) -> Vec<PathBuf> {
    let mut files = files_below(&gateway.data().join("recordings"));
    files.sort();
    files
}

/// Waits for the audit line of a removal.
fn is_removed(gateway: &Gateway, action: &str, id: &str) -> Value {
    gateway.wait_for_audit(action, |line| line["action"] == action && line["session_id"] == id)
}

fn verify(gateway: &Gateway) -> (bool, String) {
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    (status.success(), format!("{out}{err}"))
}

#[test]
fn what_is_too_old_goes_and_that_is_on_record() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options {
        more: "[recording]\nkeep_for = \"1d\"\n[profiles.default]\nkeep_for = \"1d\"\n".to_owned(),
        ..Options::default()
    });
    gateway.alice().run("echo old > /root/note");
    let old = newest(&gateway);
    is_kept(&gateway, &old);
    gateway.alice().run("echo new > /root/note");
    let new = newest(&gateway);
    is_kept(&gateway, &new);
    gateway.stop();
    // The first one was two days ago.
    let found = kept(&gateway).into_iter().find(|path| path.to_str().unwrap().contains(&old));
    let found = found.unwrap();
    let then = found.to_str().unwrap().rsplit_once('-').unwrap().0.to_owned() + "-20200101T000000Z";
    fs::rename(&found, then).unwrap();
    let day = recordings(&gateway)[0].parent().unwrap().to_owned();
    let long_ago = gateway.data().join("recordings/2020/01/01");
    fs::create_dir_all(&long_ago).unwrap();
    for file in recordings(&gateway) {
        let name = file.file_name().unwrap();
        if name.to_str().unwrap().starts_with(&old) {
            fs::rename(day.join(name), long_ago.join(name)).unwrap();
        }
    }
    let sidecar = long_ago.join(format!("{old}.json"));
    let mut json: Value = serde_json::from_slice(&fs::read(&sidecar).unwrap()).unwrap();
    json["ended_at"] = "2020-01-01T12:00:00.000Z".into();
    fs::write(&sidecar, json.to_string()).unwrap();
    gateway.launch();
    let line = is_removed(&gateway, "files_removed", &old);
    assert_eq!(line["details"]["why"], "older than 1d");
    assert_eq!(line["actor"]["type"], "runner");
    is_removed(&gateway, "recording_removed", &old);
    until("they are gone", PATIENCE, || {
        let recordings = recordings(&gateway);
        let gone = !recordings.iter().any(|path| path.to_str().unwrap().contains(&old));
        let empty = gateway.data().join("recordings/2020").exists();
        (gone && kept(&gateway).len() == 1 && !empty).then_some(())
    });
    assert!(recordings(&gateway).iter().any(|path| path.to_str().unwrap().contains(&new)));

    let (is_whole, said) = verify(&gateway);
    assert!(is_whole && said.is_empty(), "{said}");
    let (status, _, err) = gateway.try_cli(&["session", "replay", &old], "");
    assert!(status.code() == Some(1) && err.contains("the recording was removed"), "{err}");
    let (status, _, err) = gateway.try_cli(&["session", "files", &old], "");
    assert!(status.code() == Some(1) && err.contains("older than 1d"), "{err}");
    let shown = gateway.cli(&["session", "show", &old]);
    assert_eq!(shown.matches("removed ").count(), 2, "{shown}");
    let (_, _, err) = gateway.try_cli(&["session", "ls"], "");
    assert!(err.contains("the recording of 1 of these was removed"), "{err}");

    // One that somebody else took away is missing.
    for file in recordings(&gateway) {
        if file.to_str().unwrap().contains(&new) {
            fs::remove_file(file).unwrap();
        }
    }
    let (is_whole, said) = verify(&gateway);
    assert!(!is_whole && said.contains("missing") && said.contains(&new), "{said}");
    assert!(!said.contains(&old), "{said}");
}

#[test]
fn what_there_is_no_room_for_goes_the_oldest_first() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        more: "[recording]\nmax_total = \"40KB\"\nexec_bytes = \"20KB\"\n\
               [sandbox]\nkept_total = \"600KB\"\n"
            .to_owned(),
        ..Options::default()
    });
    let shell = gateway.alice().with("-tt").start(&["echo up; sleep 999"]);
    shell.expect("up");
    let live = newest(&gateway);
    let mut ids = Vec::new();
    for _ in 0..4 {
        let line = "head -c 250000 /dev/urandom > /root/data; head -c 15000 /dev/zero | tr '\\0' x";
        gateway.alice().run(line);
        ids.push(newest(&gateway));
        is_kept(&gateway, ids.last().unwrap());
    }
    for id in &ids[..2] {
        assert_eq!(
            is_removed(&gateway, "files_removed", id)["details"]["why"],
            "more than 600KB in all"
        );
        is_removed(&gateway, "recording_removed", id);
    }
    until("they are gone", PATIENCE, || {
        let recordings = recordings(&gateway);
        let has = |id: &String| recordings.iter().any(|path| path.to_str().unwrap().contains(id));
        let gone = !has(&ids[0]) && !has(&ids[1]) && has(&ids[2]) && has(&ids[3]) && has(&live);
        (gone && kept(&gateway).len() == 2).then_some(())
    });
    let (is_whole, said) = verify(&gateway);
    assert!(is_whole && said.is_empty(), "{said}");
    gateway.cli(&["session", "end", &live]);
    shell.finish(PATIENCE);
}

#[test]
fn what_an_agent_said_goes_with_its_recording_and_not_while_it_is_live() {
    let more = "[recording]\nmax_total = \"40KB\"\n".to_owned();
    let (gateway, mut mia, mut runner) = house(&Options { more, ..Options::default() });
    runner.launch();
    connected(&mut mia, &runner);
    let live = start(&mut mia, &runner, "stream 15k");
    stands(&mut mia, &runner, &live, "waiting");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = start(&mut mia, &runner, "stream 20k");
        stands(&mut mia, &runner, &id, "waiting");
        mia.delete(&format!("/api/sessions/{id}")).expect(202);
        stands(&mut mia, &runner, &id, "ended");
        ids.push(id);
    }
    is_removed(&gateway, "recording_removed", &ids[0]);
    mia.get(&format!("/api/sessions/{}/events", ids[0])).refused(410, "GONE");
    let mut page = mia.socket(&format!("/api/sessions/{}/attach?from=1", ids[0]));
    assert_eq!(page.wait_for("event")["event"]["type"], "truncated_before");
    assert_eq!(said(&transcript(&mut mia, &live)).len(), 15_000, "it is the oldest, and lives");
    until("its files are gone", PATIENCE, || {
        let recordings = recordings(&gateway);
        let has = |id: &String| recordings.iter().any(|path| path.to_str().unwrap().contains(id));
        (!has(&ids[0]) && has(&live)).then_some(())
    });
    let (is_whole, said) = verify(&gateway);
    assert!(is_whole, "{said}");
}
