//! A terminal whose connection is gone waits for its person, and is as it was when they come back.

use std::process::Command;

use serde_json::Value;
use sojourn_testkit::Client;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::descendants;
use crate::gateway;
use crate::kill;
use crate::name_of;

/// The real `ssh` in a terminal of this size, the way a person has it.
pub(crate) fn at_terminal(client: &Client, user: &str, (cols, rows): (u16, u16)) -> Running {
    let words = client.arguments();
    let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!(
        "stty rows {rows} cols {cols}; TERM=xterm-256color exec ssh -t {} {user}@127.0.0.1",
        words.join(" ")
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("SHELL", "/bin/sh").env_remove("SSH_AUTH_SOCK");
    Running::new(script)
}

/// Kills a client as a crash would: it says nothing to anybody.
pub(crate) fn drop_client(client: &Running) {
    let ssh = until("the client", PATIENCE, || {
        descendants(client.pid()).into_iter().find(|pid| name_of(*pid) == "ssh")
    });
    kill(ssh);
}

/// The newest session, once it is so.
fn newest(gateway: &Gateway, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, PATIENCE, || gateway.sessions().into_iter().next().filter(|session| is_so(session)))
}

pub(crate) fn detached(gateway: &Gateway) -> String {
    let session = newest(gateway, "a detached session", |session| {
        session["status"] == "running" && session["attached"] == false
    });
    session["id"].as_str().unwrap().to_owned()
}

fn ending(id: &str) -> &str {
    &id[id.len() - 8..]
}

#[test]
fn a_dropped_terminal_waits_and_is_as_it_was() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        limits: "max_sessions_per_user = 1\nmax_concurrent_sessions = 9\n".to_owned(),
        ..Options::default()
    });
    let mut first = at_terminal(&gateway.alice(), "alice", (80, 24));
    first.expect("# ");
    first.write(b"name=half; cd /tmp; echo unfin");
    first.expect("echo unfin");
    drop_client(&first);
    let id = detached(&gateway);
    assert!(gateway.cli(&["session", "ls"]).contains("detached"));
    let left = gateway.wait_for_audit("the drop", |line| line["action"] == "session_detached");
    assert_eq!(
        (&left["details"]["terminals"], &left["session_id"]),
        (&1.into(), &id.as_str().into())
    );
    assert_eq!(left["details"]["grace_seconds"], 300);
    let full = gateway.alice().run("true");
    assert_eq!(full.code, 75);
    let named = format!("come back with \"ssh -t alice+@{}@", ending(&id));
    assert!(full.err.contains(&named), "{}", full.err);
    let mut back = at_terminal(&gateway.alice(), "alice+@", (100, 30));
    back.expect("echo unfin");
    back.write(b"ished-$name $PWD $(stty size)\n");
    back.expect("unfinished-half /tmp 30 100");
    let back_again = gateway.wait_for_audit("it", |line| line["action"] == "session_attached");
    assert_eq!(back_again["session_id"], id.as_str());
    newest(&gateway, "it to be attached", |session| session["attached"] == true);
    back.write(b"exit 7\n");
    assert_eq!(back.finish(PATIENCE).code, 7);
    let session = newest(&gateway, "its end", |session| session["status"] == "ended");
    assert_eq!((&session["end_reason"], &session["exit"]["code"]), (&"exited".into(), &7.into()));
    let none = gateway.alice().user("alice+@").run("true");
    assert_eq!(none.code, 75);
    assert!(none.err.contains("you have no running session to come back to"), "{}", none.err);
}

#[test]
fn a_second_attach_takes_over_and_other_programs_are_channels() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let mut first = at_terminal(&gateway.alice(), "alice", (80, 24));
    first.expect("# ");
    first.write(b"echo mine >/tmp/mark; echo first-$((1))\n");
    first.expect("first-1");
    let id = gateway.sessions()[0]["id"].as_str().unwrap().to_owned();
    let name = format!("alice+@{}", ending(&id));
    let exec = gateway.alice().user(&name).run("cat /tmp/mark; exit 4");
    assert_eq!((exec.code, exec.text().as_str()), (4, "mine\n"), "the same sandbox");
    assert!(!first.is_over(), "an exec takes nothing over");
    let mut second = at_terminal(&gateway.alice(), &name, (80, 24));
    second.expect("first-1");
    let over = first.finish(PATIENCE);
    assert_eq!(over.code, 143);
    let line = "\r\nSession taken over by alice from 127.0.0.1\r\n";
    assert!(over.text().contains(line), "{}", over.text());
    let taken = gateway.wait_for_audit("it", |line| line["action"] == "session_taken_over");
    assert_eq!(taken["details"]["from"], "127.0.0.1");
    second.write(b"echo sec$((2))nd; exit 3\n");
    second.expect("sec2nd");
    assert_eq!(second.finish(PATIENCE).code, 3);
}

#[test]
fn sessions_of_others_are_not_there_and_several_are_listed() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    gateway.cli(&["user", "add", "bob", "--no-password"]);
    let key = gateway.scratch().path().join("key.pub");
    gateway.cli(&["user", "key", "add", "bob", key.to_str().unwrap()]);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let shell = at_terminal(&gateway.alice(), "alice", (80, 24));
        shell.expect("# ");
        drop_client(&shell);
        ids.push(detached(&gateway));
    }
    let refused = |user: &str| {
        let output = gateway.alice().user(user).run("true");
        assert_eq!(output.code, 75, "{user}");
        output.err
    };
    let several = refused("alice+@");
    assert!(several.contains("you have 2 running sessions; name one: "), "{several}");
    for id in &ids {
        assert!(several.contains(&format!("{} (detached)", ending(id))), "{several}");
    }
    let theirs = refused(&format!("bob+@{}", ending(&ids[0])));
    let nobodys = refused("bob+@00000000");
    assert_eq!(theirs.replace(ending(&ids[0]), "00000000"), nobodys);
    assert!(refused("alice+@0").contains("at least the last 4 characters"));
    for id in &ids {
        gateway.cli(&["session", "end", id, "--reason", "enough"]);
    }
    until("their end", PATIENCE, || {
        gateway.sessions().iter().all(|session| session["end_reason"] == "ended_by").then_some(())
    });
}

#[test]
fn who_does_not_come_back_in_time_finds_nothing() {
    if !can_make_sandboxes() {
        return;
    }
    for (grace, waits) in [("1s", true), ("0", false)] {
        let gateway = gateway(&Options {
            limits: format!("detach_grace = \"{grace}\"\ngrace = \"1s\"\n"),
            ..Options::default()
        });
        let shell = at_terminal(&gateway.alice(), "alice", (80, 24));
        shell.expect("# ");
        drop_client(&shell);
        let session = newest(&gateway, "its end", |session| session["status"] == "ended");
        assert_eq!(session["end_reason"], "closed");
        let audit = gateway.audit_with(1, "session_ended");
        let detached = audit.iter().any(|line| line["action"] == "session_detached");
        assert_eq!(detached, waits);
    }
}

#[test]
fn what_has_no_terminal_ends_with_its_connection() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let mut master = gateway.alice().with("-M").command();
    let socket = gateway.scratch().path().join("master");
    let socket = socket.to_str().unwrap();
    master.args(["-S", socket, "-N"]);
    let mut master = Running::new(master);
    let words = ["-S", socket, "-F", "/dev/null", "x"];
    let through = |more: &[&str]| {
        let mut ssh = Command::new("ssh");
        ssh.args(words).args(more);
        Running::new(ssh)
    };
    until("the master", PATIENCE, || (through(&["true"]).finish(PATIENCE).code == 0).then_some(()));
    let exec = through(&["echo up; exec -a no-terminal sleep 999"]);
    exec.expect("up");
    let shell = through(&["-tt", "echo up; exec -a a-terminal sleep 999"]);
    shell.expect("up");
    let hupped = "trap \"trap '' HUP; exec -a a-closed-one sleep 999\" HUP; echo up; \
                  while :; do sleep 0.1; done";
    let mut closed = through(&["-tt", hupped]);
    closed.expect("up");
    closed.kill();
    until("its channel to be closed", PATIENCE, || {
        (crate::processes_with("a-closed-one").len() == 1).then_some(())
    });
    master.kill();
    let id = detached(&gateway);
    until("the exec's end", PATIENCE, || {
        crate::processes_with("no-terminal").is_empty().then_some(())
    });
    crate::the_process("a-terminal");
    let back = at_terminal(&gateway.alice(), &format!("alice+@{}", ending(&id)), (80, 24));
    back.expect("up");
    let second = at_terminal(&gateway.alice(), &format!("alice+@{}", ending(&id)), (80, 24));
    assert_eq!(back.finish(PATIENCE).code, 143, "not the one whose client closed it");
    drop_client(&second);
    gateway.cli(&["session", "end", &id]);
    newest(&gateway, "its end", |session| session["status"] == "ended");
    assert!(crate::processes_with("a-closed-one").is_empty());
}

#[test]
fn a_killed_gateway_leaves_a_terminal_to_come_back_to() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    let mut first = at_terminal(&gateway.alice(), "alice", (80, 24));
    first.expect("# ");
    first.write(b"echo before-$((6*7)); echo unfin");
    first.expect("echo unfin");
    let exec = gateway.alice().start(&["echo up; exec -a an-exec sleep 999"]);
    exec.expect("up");
    gateway.kill();
    first.finish(PATIENCE);
    until("the exec's end without a gateway", PATIENCE, || {
        crate::processes_with("an-exec").is_empty().then_some(())
    });
    gateway.launch();
    let left = gateway.wait_for_audit("it", |line| line["action"] == "session_detached");
    assert_eq!(left["details"]["found_at_start"], true);
    let mut back = at_terminal(&gateway.alice(), "alice+@", (80, 24));
    back.expect("unfin");
    back.write(b"ished; exit 9\n");
    back.expect("unfinished");
    assert_eq!(back.finish(PATIENCE).code, 9);
    until("both ends", PATIENCE, || {
        gateway.sessions().iter().all(|session| session["status"] == "ended").then_some(())
    });
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}
