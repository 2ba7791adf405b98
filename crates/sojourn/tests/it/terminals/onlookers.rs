//! Many people at one terminal: those who look on slow nothing down, and the keyboard goes from one to
//! the other, also between a browser and SSH.

use super::*;
use crate::memory_of;

/// What is printed by a flood.
const FLOOD: usize = 50_000_000;

/// Has the terminal print a flood, and takes it. How long it took.
fn flood(socket: &mut Socket, name: &str) -> Duration {
    let began = Instant::now();
    let line = format!("yes {} | head -c {FLOOD}; echo {name}-ov''er\n", "y".repeat(120));
    socket.input(line.as_bytes()).unwrap();
    let (mut taken, mut last) = (0, Vec::new());
    loop {
        if let Frame::Output(_, bytes) = socket.next() {
            taken += bytes.len();
            last.extend(bytes);
            last.drain(..last.len().saturating_sub(200));
        }
        if String::from_utf8_lossy(&last).contains(&format!("{name}-over")) {
            assert!(taken >= FLOOD, "{taken}");
            return began.elapsed();
        }
    }
}

#[test]
fn those_who_look_on_slow_nothing_down() {
    let options = Options {
        limits: "max_output = 0\n".to_owned(),
        more: "[profiles.default]\ncpu = 1.0\n".to_owned(),
        ..Options::default()
    };
    let Some(gateway) = house(&options) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut alice, &json!({}));
    let mut socket = attach(&alice, &id, "");
    socket.wait_for("snapshot");
    let alone = flood(&mut socket, "alone");
    let before = memory_of(gateway.pid());
    let stalled: Vec<Socket> = (0..10).map(|_| attach(&alice, &id, "?mode=watch")).collect();
    let readers: Vec<_> = (0..10)
        .map(|_| {
            let mut watcher = attach(&alice, &id, "?mode=watch");
            std::thread::spawn(move || {
                watcher.wait_for_output("watched-over");
                watcher
            })
        })
        .collect();
    // It comes to its end at all: those who take nothing would hold it up for good.
    let watched = flood(&mut socket, "watched");
    let grown = memory_of(gateway.pid()).saturating_sub(before);
    println!("alone {alone:?}, with 20 who look on {watched:?}; {} KiB more", grown / 1024);
    assert!(grown < 64 << 20, "{grown} bytes more");
    for reader in readers {
        reader.join().unwrap();
    }
    drop(stalled);
    socket.input(b"exit\n").unwrap();
    assert_eq!(socket.wait_for("ended")["reason"], "exited");
}

#[test]
fn so_many_may_look_on_and_no_more() {
    let limits = "max_watchers = 3\n".to_owned();
    let Some(gateway) = house(&Options { limits, ..Options::default() }) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut alice, &json!({}));
    let mut watchers: Vec<Socket> = Vec::new();
    for _ in 0..3 {
        let mut watcher = attach(&alice, &id, "?mode=watch");
        watcher.wait_for("status");
        watchers.push(watcher);
    }
    let mut one_more = attach(&alice, &id, "?mode=watch");
    let (code, told) = one_more.wait_for_close();
    assert_eq!((code, &told[0]["code"]), (1013, &"LIMIT_REACHED".into()));
    watchers.pop();
    until("room", PATIENCE, || {
        let mut watcher = attach(&alice, &id, "?mode=watch");
        match watcher.next() {
            Frame::Text(told) if told["type"] == "status" => Some(()),
            _ => None,
        }
    });
}

#[test]
fn the_keyboard_goes_between_ssh_and_browsers() {
    let Some(gateway) = house(&Options::default()) else { return };
    for (name, role) in [("root1", "admin"), ("carol", "auditor"), ("bob", "member")] {
        gateway.add_user(name, role, PASSWORD);
    }
    let mut ssh = at_terminal(&gateway.alice(), "alice", (80, 24));
    ssh.expect("# ");
    ssh.write(b"echo by-$((40+2))\n");
    ssh.expect("by-42");
    let id = gateway.sessions()[0]["id"].as_str().unwrap().to_owned();

    let (mut admin, auditor) =
        (gateway.signed_in("root1", PASSWORD), gateway.signed_in("carol", PASSWORD));
    let mut watching = attach(&auditor, &id, "");
    assert!(watching.wait_for("snapshot")["data"].as_str().unwrap().contains("by-42"));
    let watched = gateway.wait_for_audit("the watch", |line| line["action"] == "session_watched");
    assert_eq!(
        (&watched["actor"]["user"], &watched["session_id"]),
        (&"carol".into(), &id.as_str().into())
    );
    ssh.write(b"echo live-$((40+3))\n");
    watching.wait_for_output("live-43");
    watching.json(&json!({"type": "take_over"})).unwrap();
    assert_eq!(watching.wait_for("error")["code"], "FORBIDDEN");
    watching.json(&json!({"type": "end"})).unwrap();
    assert_eq!(watching.wait_for("error")["code"], "FORBIDDEN");
    let mut insisting = attach(&auditor, &id, "?mode=drive");
    assert_eq!(insisting.wait_for_close().0, 4403);
    let mut bob = gateway.signed_in("bob", PASSWORD);
    bob.get(&format!("/api/sessions/{id}")).refused(404, "NOT_FOUND");
    let stranger = sojourn_testkit::Ask::new("GET", &format!("/api/sessions/{id}/attach"));
    let refused = bob.try_socket(&stranger).unwrap_err();
    assert_eq!(refused.outcome(), (404, "NOT_FOUND".to_owned()));

    // Her own session: the browser has the keyboard at once, and SSH is told.
    let alice = gateway.signed_in("alice", PASSWORD);
    let mut browser = attach(&alice, &id, "");
    browser.wait_for("snapshot");
    ssh.expect("Session taken over by alice from 127.0.0.1");
    browser.input(b"echo web-$((40+4))\n").unwrap();
    browser.wait_for_output("web-44");
    watching.wait_for_output("web-44");
    gateway.wait_for_audit("the first", |line| line["action"] == "session_taken_over");

    // And back, by SSH.
    let mut back = at_terminal(&gateway.alice(), "alice+@", (80, 24));
    back.expect("web-44");
    until("the browser is told", PATIENCE, || {
        (browser.wait_for("driver")["you"] == false).then_some(())
    });
    browser.input(b"echo lost\n").unwrap();
    assert_eq!(browser.wait_for("error")["code"], "FORBIDDEN");
    back.write(b"echo ssh-$((40+5))\n");
    browser.wait_for_output("ssh-45");

    // An admin takes it, which everybody is told.
    let mut taking = attach(&admin, &id, "");
    taking.wait_for("snapshot");
    taking.json(&json!({"type": "take_over"})).unwrap();
    until("the admin drives", PATIENCE, || {
        let driver = taking.wait_for("driver");
        (driver["user"] == "root1" && driver["you"] == true).then_some(())
    });
    back.expect("Session taken over by root1 from 127.0.0.1");
    until("everybody knows", PATIENCE, || {
        (watching.wait_for("driver")["user"] == "root1").then_some(())
    });
    taking.input(b"echo admin-$((40+6))\n").unwrap();
    watching.wait_for_output("admin-46");
    let by_admin = gateway.wait_for_audit("the admin's", |line| {
        line["action"] == "session_taken_over" && line["actor"]["user"] == "root1"
    });
    assert_eq!(by_admin["session_id"], id.as_str());
    admin.delete(&format!("/api/sessions/{id}")).expect(202);
    for socket in [&mut taking, &mut watching, &mut browser] {
        assert_eq!(socket.wait_for("ended")["reason"], "ended_by");
        assert_eq!(socket.wait_for_close().0, 1000);
    }
    let text = String::from_utf8_lossy(&recorded(&mut admin, &id)).into_owned();
    assert!(text.contains("admin-46") && !text.contains("echo lost"), "{text}");
}

#[test]
fn a_driver_that_does_not_read_holds_the_program_and_loses_the_keyboard() {
    let Some(gateway) = house(&Options::default()) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut alice, &json!({}));
    let mut socket = attach(&alice, &id, "");
    socket.wait_for("snapshot");
    let before = memory_of(gateway.pid());
    socket.input(b"yes flood\n").unwrap();
    // It has been sent as much as fits on the way, and no more of it.
    until("the keyboard is free", Duration::from_secs(60), || {
        (show(&mut alice, &id)["attached"] == false).then_some(())
    });
    let grown = memory_of(gateway.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    let (code, _) = socket.wait_for_close();
    assert_eq!(code, 4429);
    alice.delete(&format!("/api/sessions/{id}")).expect(202);
}
