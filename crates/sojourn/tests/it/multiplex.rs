//! Many channels of one connection.

use std::time::Duration;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::edges::CLIENTS;
use crate::gateway;
use crate::is_long_run;
use crate::memory_of;

fn said(gateway: &Gateway, recipe: &str) -> Vec<String> {
    let recipe = format!("CLIENTS={CLIENTS}\n{recipe}");
    let output = gateway.peer().run(&recipe, Duration::from_secs(120));
    let lines: Vec<String> = output.text().lines().map(str::to_owned).collect();
    assert!(output.code == 0, "{}: {lines:#?}\n{}", output.code, output.err);
    lines
}

/// The only session there is, when it is over, and its sidecar's channels.
fn over(gateway: &Gateway) -> (Value, usize) {
    let session = until("the end of the session", PATIENCE, || {
        let sessions = gateway.sessions();
        assert_eq!(sessions.len(), 1, "{sessions:#?}");
        sessions.into_iter().next().filter(|session| session["status"] == "ended")
    });
    let files = crate::files_below(&gateway.data().join("recordings"));
    let sidecar = files.iter().find(|path| path.extension().is_some_and(|e| e == "json")).unwrap();
    let sidecar: Value = serde_json::from_slice(&std::fs::read(sidecar).unwrap()).unwrap();
    let channels = sidecar["channels"].as_array().unwrap();
    let ended = channels.iter().all(|channel| channel["exit"].is_object());
    assert!(ended, "each channel's end is on record");
    (session, channels.len())
}

#[test]
fn twenty_commands_at_once_on_one_connection() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let told = said(
        &gateway,
        r#"
        master
        for i in $(seq 20); do (ssh -o ControlMaster=no -S ctl H "sleep 0.5; echo $i; exit $i" >out-$i; echo $? >code-$i) & done
        wait $(jobs -p)
        for i in $(seq 20); do [ "$(cat out-$i code-$i | tr '\n' ' ')" = "$i $i " ] || echo wrong $i; done
        unmaster
        "#,
    );
    assert_eq!(told, Vec::<String>::new());
    let (session, channels) = over(&gateway);
    assert_eq!((session["end_reason"].as_str(), channels), (Some("exited"), 20));
}

#[test]
fn commands_after_one_another_on_one_connection() {
    if !can_make_sandboxes() {
        return;
    }
    let count = if is_long_run() { 1000 } else { 100 };
    let gateway = gateway(&Options::default());
    gateway.alice().run("true");
    let before = memory_of(gateway.pid());
    let told = said(&gateway, &format!("/usr/bin/python3 $CLIENTS/multiplex.py sequence {count}"));
    assert_eq!(told, ["wrong 0"]);
    let grown = memory_of(gateway.pid()).saturating_sub(before);
    assert!(grown < 24 << 20, "grew by {} MiB", grown >> 20);
    until("all to be over", PATIENCE, || {
        gateway.sessions().iter().all(|session| session["status"] == "ended").then_some(())
    });
}

#[test]
fn one_more_than_all_channels_is_refused_properly() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let told = said(&gateway, "/usr/bin/python3 $CLIENTS/multiplex.py full");
    // 4 is SSH's resource shortage.
    assert_eq!(told, ["refused 4 64", "again 5", "others 63"]);
}

#[test]
fn copies_and_a_shell_share_a_connection_and_one_may_die() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let told = said(
        &gateway,
        r#"
        head -c 6000000 /dev/urandom >in; master
        mkfifo keys; ssh -tt -S ctl H <keys >shell & exec 3>keys
        scp -l 16000 -q -o ControlPath=$PWD/ctl in H:one & one=$!
        scp -l 16000 -q -o ControlPath=$PWD/ctl in H:two & two=$!
        arrived() { [ "$(ssh -S ctl H 'cat one two 2>/dev/null | wc -c')" -gt 500000 ]; }
        within 100 arrived; kill -9 $one; wait $two; status
        ssh -S ctl H cat two | cmp - in && echo same
        echo 'echo $((6*7)); exit 3' >&3; wait %1; status; grep -ac '^42' shell
        unmaster
        "#,
    );
    assert_eq!(told, ["yes", "status 0", "same", "status 3", "1"]);
    over(&gateway);
}
