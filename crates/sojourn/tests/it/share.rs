//! `share = "user"`: all connections of a user are in one sandbox, and each is still a session.

use std::fs;
use std::path::Path;

use sojourn_testkit::Client;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;
use crate::kill;
use crate::name_of;
use crate::processes_with;

fn team() -> Gateway {
    gateway(&Options {
        more: "[profiles.team]\nshare = \"user\"\npool = 1\n".to_owned(),
        ..Options::default()
    })
}

fn alice(gateway: &Gateway) -> Client {
    gateway.alice().user("alice+team")
}

#[test]
fn connections_of_a_user_share_a_sandbox() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = team();
    gateway.cli(&["user", "add", "bob", "--no-password"]);
    let public = gateway.scratch().path().join("key.pub");
    gateway.cli(&["user", "key", "add", "bob", public.to_str().unwrap()]);

    let first = alice(&gateway)
        .start(&["echo here >/root/note; (exec -a first-one sleep 999) & echo up; read never"]);
    first.expect("up");
    let second = alice(&gateway).run("cat /root/note; pgrep -f '^first-one' >/dev/null; echo $?");
    assert_eq!(second.text(), "here\n0\n", "{}", second.err);
    let other = gateway.alice().user("bob+team").run("cat /root/note; pgrep -f '^first-one'");
    assert!(!other.text().contains("here") && other.code != 0, "bob has a sandbox of his own");

    // Two sessions, two ids, one user; the second's end took nothing of the first's along.
    let sessions = gateway.sessions();
    let of_alice: Vec<_> = sessions.iter().filter(|session| session["user"] == "alice").collect();
    assert_eq!(of_alice.len(), 2, "{sessions:?}");
    assert_ne!(of_alice[0]["id"], of_alice[1]["id"]);
    assert_eq!(processes_with("first-one").len(), 1);
}

#[test]
fn a_session_ends_with_its_own_and_the_sandbox_with_the_last() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = team();
    let mut first = alice(&gateway)
        .start(&["(exec -a of-the-first sleep 999 >/dev/null 2>&1) & echo up; read line; echo got $line; exit 3"]);
    first.expect("up");
    let mut second = alice(&gateway)
        .start(&["(setsid -f bash -c 'exec -a of-the-second sleep 999'); echo up; read never"]);
    second.expect("up");
    until("both to run", PATIENCE, || {
        (processes_with("of-the-first").len() + processes_with("of-the-second").len() == 2)
            .then_some(())
    });
    second.kill();
    until("the second's to be gone", PATIENCE, || {
        processes_with("of-the-second").is_empty().then_some(())
    });
    assert_eq!(processes_with("of-the-first").len(), 1, "the first's goes on");
    first.write(b"hello\n");
    let output = first.finish(PATIENCE);
    assert_eq!((output.text().as_str(), output.code), ("up\ngot hello\n", 3));
    until("the first's to be gone", PATIENCE, || {
        processes_with("of-the-first").is_empty().then_some(())
    });
    let fresh = alice(&gateway).run("ls /root");
    assert_eq!((fresh.text().as_str(), fresh.code), ("", 0), "a new sandbox: {}", fresh.err);
}

#[test]
fn a_killed_shim_ends_its_session_alone() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = team();
    let mut first = alice(&gateway).start(&["echo up; read line; echo got $line"]);
    first.expect("up");
    let second = alice(&gateway).start(&["exec -a to-be-killed sleep 999"]);
    until("it to run", PATIENCE, || (!processes_with("to-be-killed").is_empty()).then_some(()));
    // Its program's parent is its own init; that one's shim has the session's directory open.
    let shims: Vec<u32> = crate::pids()
        .filter(|pid| name_of(*pid) == "sojourn-shim" && holds_session(*pid, &gateway.data()))
        .collect();
    assert_eq!(shims.len(), 2, "{shims:?}");
    kill(*shims.iter().max().unwrap());
    let output = second.finish(PATIENCE);
    assert_eq!(output.code, 143, "{}", output.err);
    until("its program to be gone", PATIENCE, || {
        processes_with("to-be-killed").is_empty().then_some(())
    });
    first.write(b"on\n");
    assert_eq!(first.finish(PATIENCE).text(), "up\ngot on\n");
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

/// Whether a process has a session's directory open.
#[test]
fn what_a_shared_sandbox_held_goes_with_a_killed_runner_and_that_is_said() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = team();
    let mut first = alice(&gateway).start(&["echo here >/root/note; echo up; read line"]);
    first.expect("up");
    let id = crate::left::newest(&gateway);
    kill(crate::left::runner(&gateway));
    until("a new runner", PATIENCE, || (gateway.alice().run("exit 3").code == 3).then_some(()));
    first.write(b"on\n");
    assert_eq!(first.finish(PATIENCE).code, 0, "it went on");
    crate::left::is_lost(&gateway, &id);

    // All who had to do with it, at once: the next start says so.
    let second = alice(&gateway).start(&["echo here >/root/note; echo up; read line"]);
    second.expect("up");
    let id = crate::left::newest(&gateway);
    let runner = crate::left::runner(&gateway);
    let holders: Vec<u32> = crate::pids()
        .filter(|pid| name_of(*pid) == "sojourn-shim" && holds_session(*pid, &gateway.data()))
        .collect();
    gateway.kill();
    kill(runner);
    holders.into_iter().for_each(kill);
    second.finish(PATIENCE);
    gateway.launch();
    crate::left::is_lost(&gateway, &id);
}

fn holds_session(pid: u32, data: &Path) -> bool {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let targets = fds.filter_map(Result::ok).filter_map(|fd| fs::read_link(fd.path()).ok());
    // Unlinked templates of disks lie there, too.
    let own = |target: &Path| target.is_dir() && target.parent() == Some(&data.join("sessions"));
    targets.into_iter().any(|target| own(&target))
}
