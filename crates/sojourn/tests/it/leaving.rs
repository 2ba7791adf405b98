//! Nothing is left: after sessions that ended in every way, after a stop, after a crash.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::descendants;
use crate::files_below;
use crate::gateway;
use crate::kill;

/// What this gateway has left on the machine: control groups, processes in them, loop devices, mounts,
/// sessions' directories, and files that are not to be kept.
pub(crate) fn traces(gateway: &Gateway, parent: &str) -> Vec<String> {
    let data = gateway.data();
    let mut left = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(Result::ok) {
        let group = hierarchy.path().join(parent);
        left.extend(group.exists().then(|| group.display().to_string()));
    }
    // With version 2 there is one hierarchy.
    let group = Path::new("/sys/fs/cgroup").join(parent);
    left.extend(group.exists().then(|| group.display().to_string()));
    for pid in crate::pids() {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        left.extend(groups.contains(parent).then(|| format!("{pid} {}", crate::name_of(pid))));
    }
    for device in fs::read_dir("/sys/block").unwrap().filter_map(Result::ok) {
        let backing = fs::read_to_string(device.path().join("loop/backing_file"));
        left.extend(backing.ok().filter(|file| file.contains(data.to_str().unwrap())));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(data.to_str().unwrap()));
    left.extend(mounts.map(str::to_owned));
    let sessions = fs::read_dir(data.join("sessions")).into_iter().flatten().filter_map(Result::ok);
    let sessions = sessions.map(|entry| entry.path()).filter(|path| path.is_dir());
    left.extend(sessions.map(|path| path.display().to_string()));
    let kept =
        ["audit/", "keys/", "kept/", "recordings/", "sojourn.db", "gateway.lock", "first-admin"];
    for file in files_below(&data) {
        let name = file.strip_prefix(&data).unwrap().to_str().unwrap();
        let is_kept = kept.iter().any(|kept| name.starts_with(kept)) && !name.contains("/.");
        left.extend((!is_kept && name != "sessions/runner.lock").then(|| name.to_owned()));
    }
    left
}

/// The control group of this gateway's sandboxes, as one of them shows it.
pub(crate) fn cgroup_parent(gateway: &Gateway) -> String {
    let children = descendants(gateway.pid());
    let groups = children.iter().find_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let line = text.lines().find(|line| line.contains("/sojourn-"))?.to_owned();
        let path = line.rsplit(':').next()?.trim_start_matches('/').to_owned();
        path.split('/').next().map(str::to_owned)
    });
    groups.expect("a sandbox in a control group")
}

#[test]
fn sessions_that_ended_in_every_way_leave_nothing() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options {
        limits: "session_timeout = \"5s\"\nwarn_before = \"0\"\ngrace = \"1s\"\n".to_owned(),
        ..Options::default()
    });
    gateway.alice().run("true");
    let parent = cgroup_parent(&gateway);
    let rounds = if std::env::var_os("SOJOURN_TEST_LONG").is_some() { 25 } else { 2 };
    let mut wanted = 1;
    for _ in 0..rounds {
        let ssh = gateway.alice();
        let mut clients = vec![
            ssh.start(&["exit 3"]),
            ssh.start(&["kill -9 $$"]),
            ssh.start(&["sleep 999"]),
            ssh.clone().with("-tt").start(&["trap '' HUP TERM; while :; do sleep 1; done"]),
            ssh.clone().with("-tt").start(&["(setsid sleep 998 &); exec sleep 999"]),
            ssh.start(&["head -c 1000000 /dev/zero"]),
        ];
        let mut cut = ssh.clone().with("-tt").start(&[]);
        cut.expect("# ");
        cut.kill();
        let ended = ssh.clone().with("-tt").start(&[]);
        ended.expect("# ");
        clients.push(cut);
        clients.push(ended);
        wanted += clients.len();
        let newest = gateway.sessions();
        let running = newest.iter().find(|session| session["status"] == "running");
        if let Some(id) = running.and_then(|session| session["id"].as_str()) {
            let _it_may_have_ended = gateway.try_cli(&["session", "end", id], "");
        }
        for client in clients {
            client.finish(PATIENCE);
        }
    }
    until("all sessions to be over", PATIENCE, || {
        let over = |s: &serde_json::Value| s["status"] == "ended" || s["status"] == "failed";
        let listed = gateway.sessions();
        (listed.len() >= wanted.min(50) && listed.iter().all(over)).then_some(())
    });
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
    assert!(!traces(&gateway, &parent).is_empty(), "while it runs there is something to see");
    gateway.stop();
    // The kernel takes a loop device back when its last mount is gone, a moment later.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let mut left = traces(&gateway, &parent);
    while !left.is_empty() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
        left = traces(&gateway, &parent);
    }
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(gateway.leftovers(), Vec::<String>::new());
    let audit = gateway.audit();
    let count = |action: &str| audit.iter().filter(|line| line["action"] == action).count();
    assert_eq!(count("session_started"), wanted);
    assert_eq!(count("session_ended"), wanted);
}

#[test]
fn a_stop_tells_and_ends_what_runs() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    let shell = gateway.alice().with("-tt").start(&["echo up; sleep 999"]);
    shell.expect("up");
    let status = gateway.stop();
    assert!(status.success(), "{status}\n{}", gateway.log());
    let output = shell.finish(PATIENCE);
    assert_eq!(output.code, 143, "{}", output.text());
    assert!(output.text().contains("shutting down"), "{}", output.text());
    assert_eq!(gateway.leftovers(), Vec::<String>::new());
}

#[test]
fn on_request_sessions_outlive_the_gateway_and_are_taken_up() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway =
        gateway(&Options { server: "on_stop = \"leave\"\n".to_owned(), ..Options::default() });
    // A name that no other run of the tests looks for.
    let mark = format!("left-one-{}", std::process::id());
    let line = format!("echo up; exec -a {mark} sleep 999");
    let shell = gateway.alice().with("-tt").start(&[&line]);
    shell.expect("up");
    let id = gateway.sessions()[0]["id"].as_str().unwrap().to_owned();
    gateway.stop();
    crate::the_process(&mark);
    gateway.launch();
    let taken_up = gateway.sessions();
    assert_eq!(taken_up[0]["id"], id.as_str());
    assert_eq!(taken_up[0]["status"], "running");
    gateway.cli(&["session", "end", &id]);
    until("its end", PATIENCE, || {
        (gateway.sessions()[0]["end_reason"] == "ended_by").then_some(())
    });
    crate::end_of(&mark);
}

#[test]
fn a_session_that_was_taken_up_ends_with_its_program() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    let shell = gateway.alice().with("-tt").start(&["echo up; sleep 4; exit 9"]);
    shell.expect("up");
    gateway.kill();
    gateway.launch();
    let session = until("its end", PATIENCE, || {
        gateway.sessions().into_iter().next().filter(|session| session["status"] == "ended")
    });
    assert_eq!(session["end_reason"], "exited");
    assert_eq!(session["exit"]["code"], 9);
}

#[test]
fn a_killed_shim_takes_its_sandbox_along_and_nothing_else() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let socket = format!("-oControlPath={}", gateway.scratch().path().join("master").display());
    let alice = gateway.alice().with(&socket);
    let first = alice.clone().with("-oControlMaster=yes");
    // A name that no other run of the tests looks for.
    let mark = format!("doomed-one-{}", std::process::id());
    let line = format!("echo up; exec -a {mark} sleep 999");
    let doomed = first.with("-tt").start(&[&line]);
    doomed.expect("up");
    // Its recording is one that the sidecar does not know yet.
    alice.with("-tt").start(&["echo second; exec sleep 999"]).expect("second");
    let sleeper = crate::the_process(&mark);
    let init = crate::parent_of(sleeper);
    let shim = crate::parent_of(init);
    kill(shim);
    let output = doomed.finish(PATIENCE);
    assert_eq!(output.code, 143, "{}", output.text());
    crate::end_of(&mark);
    until("the loss to be on record", PATIENCE, || {
        (gateway.sessions()[0]["end_reason"] == "runner_lost").then_some(())
    });
    assert_eq!(gateway.alice().run("exit 3").code, 3);
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

#[test]
fn a_killed_runner_is_replaced_and_sessions_go_on() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let mut shell = gateway.alice().with("-tt").start(&[]);
    shell.expect("# ");
    let runner = descendants(gateway.pid())
        .into_iter()
        .find(|pid| crate::name_of(*pid) == "sojourn-runner")
        .expect("a runner");
    kill(runner);
    shell.write(b"echo $((40+2))\n");
    shell.expect("42");
    until("a new runner", PATIENCE, || (gateway.alice().run("exit 3").code == 3).then_some(()));
    shell.write(b"exit 6\n");
    assert_eq!(shell.finish(PATIENCE).code, 6);
}
