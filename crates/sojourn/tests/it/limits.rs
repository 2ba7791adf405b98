//! Sessions end on time, say so, and leave nothing, whatever runs in them.

use std::time::Duration;
use std::time::Instant;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::files_below;
use crate::gateway;
use crate::processes_with;

const SHORT: &str = "session_timeout = \"4s\"\nwarn_before = \"2s\"\ngrace = \"2s\"\n";
const MESSAGE: &str = "Session timeout - connection closed";

fn short() -> Options {
    Options { limits: SHORT.to_owned(), ..Options::default() }
}

#[test]
fn a_session_is_warned_and_cut_off_whatever_it_does() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&short());
    // Each leaves a process with a name of its own, to be looked for afterwards.
    let programs = [
        ("quiet", "exec -a quiet-one sleep 999"),
        ("busy", "yes"),
        (
            "stubborn",
            "trap '' HUP TERM; exec -a stubborn-one sh -c \"trap '' HUP TERM; while :; do sleep 1; done\"",
        ),
        ("forking", "(setsid bash -c 'exec -a forked-one sleep 998' &) ; exec sleep 997"),
    ];
    let running: Vec<_> = programs
        .iter()
        .map(|(name, program)| {
            (*name, gateway.alice().with("-tt").start(&[program]), Instant::now())
        })
        .collect();
    for (name, client, started) in running {
        let output = client.finish(PATIENCE);
        let took = started.elapsed();
        assert_eq!(output.code, 124, "{name}: {} {}", output.text(), output.err);
        let text = output.text();
        assert!(text.contains("\r\nSession ends in 2 s\r\n"), "{name} was not warned");
        assert!(text.contains(&format!("\r\n{MESSAGE}\r\n")), "{name} was not told");
        assert!(took >= Duration::from_secs(4), "{name} was cut after {took:?}");
        assert!(took < Duration::from_secs(7), "{name} was cut after {took:?}");
    }
    until("every tree to be gone", Duration::from_secs(6), || {
        ["quiet-one", "stubborn-one", "forked-one", "sleep 997", "sleep 998"]
            .iter()
            .all(|name| processes_with(name).is_empty())
            .then_some(())
    });
    until("all to be on record", PATIENCE, || {
        let sessions = gateway.sessions();
        let ended =
            sessions.iter().filter(|session| session["end_reason"] == "max_runtime").count();
        (ended == programs.len()).then_some(())
    });
    let sidecars = files_below(&gateway.data().join("recordings"));
    let sidecars = sidecars.iter().filter(|path| path.extension().is_some_and(|e| e == "json"));
    let reasons: Vec<String> = sidecars
        .map(|path| std::fs::read(path).unwrap())
        .map(|json| serde_json::from_slice::<serde_json::Value>(&json).unwrap())
        .map(|sidecar| sidecar["end_reason"].as_str().unwrap_or("none").to_owned())
        .collect();
    assert_eq!(reasons, vec!["max_runtime"; programs.len()]);
    let exceeded = gateway.audit_with(programs.len(), "limit_exceeded");
    let exceeded = exceeded.iter().filter(|line| line["action"] == "limit_exceeded").count();
    assert_eq!(exceeded, programs.len());
}

#[test]
fn an_exec_without_a_terminal_is_told_on_standard_error() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&short());
    let output = gateway.alice().run("echo out; exec sleep 999");
    assert_eq!(output.code, 124);
    assert_eq!(output.text(), "out\n", "nothing of ours on standard output");
    assert!(output.err.contains(MESSAGE), "{}", output.err);
}

#[test]
fn an_idle_terminal_is_shown_out() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        limits: "idle_timeout = \"3s\"\nwarn_before = \"0\"\ngrace = \"1s\"\n".to_owned(),
        ..Options::default()
    });
    let shell = gateway.alice().with("-tt").with("-oServerAliveInterval=1").start(&[]);
    shell.expect("# ");
    let started = Instant::now();
    let output = shell.finish(PATIENCE);
    assert_eq!(output.code, 124);
    assert!(output.text().contains("Session idle timeout (3 s) - connection closed"));
    assert!(started.elapsed() < Duration::from_secs(6));
    // A program without a terminal is not idle while it runs.
    assert_eq!(gateway.alice().run("sleep 5; echo done").text(), "done\n");
    shell_is_free(&gateway);
}

fn shell_is_free(gateway: &Gateway) {
    assert_eq!(gateway.alice().run("exit 4").code, 4);
}

#[test]
fn too_much_output_ends_a_terminal() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        limits: "max_output = \"1MB\"\ngrace = \"1s\"\n".to_owned(),
        ..Options::default()
    });
    let output = gateway.alice().with("-tt").run("yes");
    assert_eq!(output.code, 124);
    assert!(output.text().contains("Session output limit (1 MB) reached - connection closed"));
    let exec = gateway.alice().run("head -c 3000000 /dev/zero | wc -c");
    assert_eq!(exec.text().trim(), "3000000", "an exec's output is not a terminal's");
}

#[test]
fn limits_hold_while_the_gateway_is_dead() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&short());
    let mut client = gateway
        .alice()
        .with("-tt")
        .start(&["trap '' HUP TERM; echo up; exec -a orphan-one sh -c \"trap '' HUP TERM; while :; do sleep 1; done\""]);
    client.expect("up");
    gateway.kill();
    client.kill();
    until("the tree to be gone without a gateway", Duration::from_secs(12), || {
        processes_with("orphan-one").is_empty().then_some(())
    });
    gateway.launch();
    until("the end to be on record", PATIENCE, || {
        gateway.sessions().iter().any(|s| s["end_reason"] == "max_runtime").then_some(())
    });
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

#[test]
fn a_wish_for_less_is_granted() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        limits: "warn_before = \"0\"\ngrace = \"1s\"\n".to_owned(),
        ..Options::default()
    });
    let started = Instant::now();
    let output = gateway.alice().with("-oSetEnv=SOJOURN_TIMEOUT=2").run("sleep 999");
    assert_eq!(output.code, 124, "{}", output.err);
    assert!(started.elapsed() < Duration::from_secs(6));
}
