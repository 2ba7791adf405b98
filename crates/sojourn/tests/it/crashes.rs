//! Each part of the program is killed in the middle of sessions: what people see, what is on record,
//! what is left.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Output;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;
use crate::kill;
use crate::leaving::cgroup_parent;
use crate::leaving::traces;

/// A gateway with a session on a terminal and one without.
struct Scene {
    gateway: Gateway,
    parent: String,
    terminal: Running,
    exec: Running,
    /// The names of their programs, unlike any other test's.
    names: [String; 2],
}

/// How a session ended: what `session show` says, and the sidecar, and the audit log.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    shown: String,
    sidecar: String,
    audit: Vec<String>,
}

impl Scene {
    fn set(limits: &str) -> Self {
        let limits = limits.to_owned();
        Self::with(&Options { limits, ..Options::default() })
    }

    fn with(options: &Options) -> Self {
        let limits = format!("grace = \"1s\"\n{}\n", options.limits);
        let gateway = gateway(&Options { limits, ..options.clone() });
        let own = format!("{}-{}", std::process::id(), gateway.port);
        let names = [format!("on-a-terminal-{own}"), format!("without-one-{own}")];
        let line = |name: &str| format!("echo up; exec -a {name} sleep 999");
        let terminal = gateway.alice().with("-tt").start(&[&line(&names[0])]);
        terminal.expect("up");
        let exec = gateway.alice().start(&[&line(&names[1])]);
        exec.expect("up");
        let parent = cgroup_parent(&gateway);
        Self { gateway, parent, terminal, exec, names }
    }

    /// The program of a session.
    fn program(&self, which: usize) -> u32 {
        crate::the_process(&self.names[which])
    }
}

/// What is on record of the ends of all sessions, by the kind of their first channel.
fn told(gateway: &Gateway) -> HashMap<String, Told> {
    until("all sessions to be over and on record", PATIENCE, || {
        let sessions = gateway.sessions();
        let ends = gateway.audit();
        sessions
            .iter()
            .map(|session| {
                let id = session["id"].as_str()?;
                let over = ["ended", "failed"].contains(&session["status"].as_str()?);
                let sidecar = crate::files_below(&gateway.data().join("recordings"))
                    .into_iter()
                    .find(|path| path.ends_with(format!("{id}.json")))?;
                let sidecar: Value = serde_json::from_slice(&fs::read(sidecar).ok()?).ok()?;
                let of_it =
                    |line: &&Value| line["session_id"] == id && line["action"] == "session_ended";
                let audit: Vec<String> = ends
                    .iter()
                    .filter(of_it)
                    .map(|line| text(&line["details"]["reason"]))
                    .collect();
                let channel = &sidecar["channels"][0];
                let kind = if channel["tty"] == true { "terminal" } else { "exec" };
                let shown = text(&session["end_reason"]);
                let all = Told { shown, sidecar: text(&sidecar["end_reason"]), audit };
                (over && !all.audit.is_empty()).then(|| (kind.to_owned(), all))
            })
            .collect()
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("none").to_owned()
}

fn everywhere(reason: &str) -> Told {
    Told { shown: reason.to_owned(), sidecar: reason.to_owned(), audit: vec![reason.to_owned()] }
}

/// The next session works, the records are whole, and after a stop nothing is left.
fn all_is_well(mut gateway: Gateway, parent: &str) {
    until("the next session", PATIENCE, || (gateway.alice().run("exit 3").code == 3).then_some(()));
    told(&gateway);
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success() && out.is_empty(), "{out}{err}");
    gateway.stop();
    until(
        &format!("nothing to be left: {:#?}", traces(&gateway, parent)),
        Duration::from_secs(60),
        || traces(&gateway, parent).is_empty().then_some(()),
    );
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success() && out.is_empty(), "{out}{err}");
}

fn is_told(output: &Output, code: i32, line: &str, terminal: bool) {
    assert_eq!(output.code, code, "{} {}", output.text(), output.err);
    let (on, off) = if terminal {
        (output.text(), output.err.clone())
    } else {
        (output.err.clone(), output.text())
    };
    assert!(on.contains(line), "{on:?} says {line:?}");
    assert!(!off.contains(line), "{off:?}");
}

#[test]
fn a_killed_shim_ends_its_session_and_says_so() {
    if !can_make_sandboxes() {
        return;
    }
    let scene = Scene::set("");
    for which in [0, 1] {
        kill(crate::parent_of(crate::parent_of(scene.program(which))));
    }
    is_told(&scene.terminal.finish(PATIENCE), 143, "Session ended: its sandbox was lost", true);
    is_told(&scene.exec.finish(PATIENCE), 143, "Session ended: its sandbox was lost", false);
    let told = told(&scene.gateway);
    assert_eq!(told["terminal"], everywhere("runner_lost"));
    assert_eq!(told["exec"], everywhere("runner_lost"));
    all_is_well(scene.gateway, &scene.parent);
}

#[test]
fn a_killed_process_1_ends_its_session_and_says_so() {
    if !can_make_sandboxes() {
        return;
    }
    let scene = Scene::set("");
    for which in [0, 1] {
        kill(crate::parent_of(scene.program(which)));
    }
    is_told(&scene.terminal.finish(PATIENCE), 143, "Session ended: its sandbox was lost", true);
    is_told(&scene.exec.finish(PATIENCE), 143, "Session ended: its sandbox was lost", false);
    let told = told(&scene.gateway);
    assert_eq!(told["terminal"], everywhere("runner_lost"));
    assert_eq!(told["exec"], everywhere("runner_lost"));
    all_is_well(scene.gateway, &scene.parent);
}

#[test]
fn a_killed_runner_is_nobodys_end() {
    if !can_make_sandboxes() {
        return;
    }
    let mut scene = Scene::set("");
    kill(child_named(&scene.gateway, "sojourn-runner"));
    let next = until("a new runner", PATIENCE, || {
        let next = scene.gateway.alice().run("exit 3");
        (next.code == 3).then_some(next)
    });
    assert_eq!(next.code, 3);
    assert!(!scene.terminal.is_over() && !scene.exec.is_over());
    for which in [0, 1] {
        kill(scene.program(which));
    }
    assert_eq!(scene.terminal.finish(PATIENCE).code, 255, "killed by a signal");
    assert_eq!(scene.exec.finish(PATIENCE).code, 255);
    let told = told(&scene.gateway);
    assert_eq!(told["terminal"], everywhere("signalled"));
    all_is_well(scene.gateway, &scene.parent);
}

#[test]
fn a_killed_zygote_stops_the_gateway_and_leaves_the_sessions() {
    if !can_make_sandboxes() {
        return;
    }
    let mut scene = Scene::set("");
    kill(child_named(&scene.gateway, "sojourn-zygote"));
    let status = scene.gateway.wait();
    assert_eq!(status.code(), Some(1));
    scene.gateway.wait_for_log("why it stops", |line| {
        line["event"] == "stopping"
            && line["failure"].as_str().is_some_and(|why| why.starts_with("the zygote is gone"))
    });
    assert_eq!(scene.terminal.finish(PATIENCE).code, 255, "the connection is closed");
    assert_eq!(scene.exec.finish(PATIENCE).code, 255);
    assert!(crate::processes_with(&scene.names[0]).len() == 1, "the terminal's program runs on");
    scene.gateway.launch();
    end_all(&scene.gateway);
    all_is_well(scene.gateway, &scene.parent);
}

#[test]
fn a_killed_zygote_takes_its_runner_along_and_the_next_gateway_has_both() {
    if !can_make_sandboxes() {
        return;
    }
    let mut scene = Scene::set("");
    let [runner, zygote] =
        ["sojourn-runner", "sojourn-zygote"].map(|name| child_named(&scene.gateway, name));
    scene.gateway.kill();
    kill(zygote);
    until("the runner's end", PATIENCE, || (!crate::pids().any(|pid| pid == runner)).then_some(()));
    scene.gateway.launch();
    assert_eq!(scene.gateway.alice().run("exit 3").code, 3, "it makes sandboxes");
    let sessions = scene.gateway.sessions();
    assert!(sessions.iter().any(|session| session["status"] == "running"), "{sessions:#?}");
    end_all(&scene.gateway);
    all_is_well(scene.gateway, &scene.parent);
}

#[test]
fn a_killed_gateway_is_followed_by_one_that_knows_what_ran() {
    if can_make_sandboxes() {
        a_killed_gateway_is_followed(&Options::default());
    }
}

/// The gateway is killed; the next one takes its sessions up, and ends them when it is told to.
pub(crate) fn a_killed_gateway_is_followed(options: &Options) {
    let mut scene = Scene::with(options);
    scene.gateway.kill();
    assert_eq!(scene.terminal.finish(PATIENCE).code, 255);
    assert_eq!(scene.exec.finish(PATIENCE).code, 255);
    scene.gateway.launch();
    let sessions = scene.gateway.sessions();
    assert!(sessions.iter().any(|session| session["status"] == "running"), "{sessions:#?}");
    end_all(&scene.gateway);
    all_is_well(scene.gateway, &scene.parent);
}

#[test]
fn an_end_that_nobody_was_there_to_hear_is_on_record_as_it_was() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    let mut shell = gateway.alice().with("-tt").start(&["echo up; read -r word; exit 7"]);
    shell.expect("up");
    let parent = cgroup_parent(&gateway);
    let id = gateway.sessions()[0]["id"].as_str().expect("an id").to_owned();
    // A runner that stands still puts no end on record, and takes no shim's leave.
    let [runner, zygote] =
        ["sojourn-runner", "sojourn-zygote"].map(|name| child_named(&gateway, name));
    let pid = i32::try_from(runner).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::STOP)
        .expect("a living runner");
    shell.write(b"now\n");
    assert_eq!(shell.finish(PATIENCE).code, 7);
    let state = gateway.data().join("sessions").join(&id).join("state");
    until("its shim's last word", PATIENCE, || {
        let state: Value = serde_json::from_slice(&fs::read(&state).ok()?).ok()?;
        (!state["summary"].is_null()).then_some(())
    });
    gateway.kill();
    kill(runner);
    kill(zygote);
    gateway.launch();
    assert_eq!(told(&gateway)["terminal"], everywhere("exited"));
    assert_eq!(gateway.sessions()[0]["exit"]["code"], 7);
    all_is_well(gateway, &parent);
}

/// Ends what a gateway took up, as an operator does.
fn end_all(gateway: &Gateway) {
    gateway.cli(&["session", "end-all", "--all"]);
    let told = told(gateway);
    assert_eq!(told["terminal"], everywhere("ended_by"));
}

fn child_named(gateway: &Gateway, name: &str) -> u32 {
    let children = crate::descendants(gateway.pid());
    children.into_iter().find(|pid| crate::name_of(*pid) == name).expect("such a process")
}
