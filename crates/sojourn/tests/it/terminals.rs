//! Sessions that are started, watched and driven from a browser: a real WebSocket against the real
//! program.

mod api;
mod onlookers;

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Frame;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Socket;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::detach::at_terminal;
use crate::gateway;

const PASSWORD: &str = "seventeen brass kettles";

/// A gateway whose alice has a password as well.
fn house(options: &Options) -> Option<Gateway> {
    if !can_make_sandboxes() {
        return None;
    }
    let gateway = gateway(options);
    let line = format!("{PASSWORD}\n");
    let (status, _, err) = gateway.try_cli(&["user", "passwd", "alice", "--password-stdin"], &line);
    assert!(status.success(), "{err}");
    Some(gateway)
}

/// Starts a shell.
fn start(browser: &mut Browser, more: &Value) -> String {
    let mut body = json!({"harness": "shell"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let started = browser.post("/api/sessions", &body).expect(201);
    assert_eq!((&started["status"], &started["harness"]), (&"starting".into(), &"shell".into()));
    started["session_id"].as_str().unwrap().to_owned()
}

fn attach(browser: &Browser, id: &str, query: &str) -> Socket {
    browser.socket(&format!("/api/sessions/{id}/attach{query}"))
}

fn show(browser: &mut Browser, id: &str) -> Value {
    browser.get(&format!("/api/sessions/{id}")).expect(200)
}

/// The output of one terminal as its numbers put it together.
#[derive(Default)]
struct Seen {
    /// The number of the first byte.
    start: Option<u64>,
    bytes: Vec<u8>,
    /// The frames that were no output.
    told: Vec<Value>,
}

impl Seen {
    fn next(&self) -> u64 {
        self.start.unwrap_or(0) + self.bytes.len() as u64
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Output(seq, bytes) => {
                let start = *self.start.get_or_insert(seq);
                assert_eq!(seq, start + self.bytes.len() as u64, "the number of what follows");
                self.bytes.extend(bytes);
            }
            Frame::Text(value) => self.told.push(value),
            Frame::Closed(code, why) => panic!("closed: {code} {why}; told {:?}", self.told),
        }
    }

    /// Reads until this was printed.
    #[track_caller]
    fn until(&mut self, socket: &mut Socket, text: &str) {
        let began = Instant::now();
        while !String::from_utf8_lossy(&self.bytes).contains(text) {
            assert!(began.elapsed() < PATIENCE, "no {text:?}");
            self.take(socket.next());
        }
    }

    #[track_caller]
    fn told(&self, kind: &str) -> &Value {
        let found = self.told.iter().rev().find(|frame| frame["type"] == kind);
        found.unwrap_or_else(|| panic!("nothing told of {kind}: {:?}", self.told))
    }
}

/// What a session's terminal printed, by its recording.
fn recorded(browser: &mut Browser, id: &str) -> Vec<u8> {
    let text = browser.get(&format!("/api/sessions/{id}/recording")).text();
    let lines = text.lines().skip(1).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let output = lines.filter(|event| event[1] == "o");
    output.flat_map(|event| event[2].as_str().unwrap().as_bytes().to_vec()).collect()
}

#[test]
fn a_terminal_is_started_typed_into_resized_and_left_from_a_browser() {
    let Some(gateway) = house(&Options::default()) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut alice, &json!({"cols": 100, "rows": 30, "labels": {"ticket": "42"}}));
    let session = show(&mut alice, &id);
    assert_eq!(session["status"], "running");
    assert_eq!((&session["door"], &session["attached"]), (&"web".into(), &false.into()));
    assert_eq!(session["limits"]["max_runtime_seconds"], 4 * 3600, "agent_timeout, not SSH's");
    assert_eq!(session["labels"], json!({"ticket": "42"}));
    let mut seen = Seen::default();
    let mut socket = attach(&alice, &id, "?from=0");
    seen.until(&mut socket, "# ");
    assert_eq!(seen.start, Some(0), "all that was printed before anybody came");
    socket.input(b"stty size; echo a-$((40+2)) $TERM\n").unwrap();
    seen.until(&mut socket, "a-42 xterm-256color");
    assert!(String::from_utf8_lossy(&seen.bytes).contains("30 100"));
    assert_eq!(seen.told("status")["status"], "running");
    let driver = seen.told("driver");
    assert_eq!((&driver["user"], &driver["you"]), (&"alice".into(), &true.into()));
    assert!(seen.told("lease")["remaining_seconds"].as_f64().unwrap() > 14_000.0);
    until("attached", PATIENCE, || (show(&mut alice, &id)["attached"] == true).then_some(()));

    let mut watcher = attach(&alice, &id, "?mode=watch");
    let screen = watcher.wait_for("snapshot");
    assert!(screen["data"].as_str().unwrap().contains("a-42"));
    assert_eq!((&screen["cols"], &screen["rows"]), (&100.into(), &30.into()));
    socket.json(&json!({"type": "resize", "cols": 90, "rows": 20})).unwrap();
    let size = watcher.wait_for("size");
    assert_eq!((&size["cols"], &size["rows"]), (&90.into(), &20.into()));
    socket.input(b"stty size\n").unwrap();
    seen.until(&mut socket, "20 90");
    watcher.wait_for_output("20 90");
    watcher.input(b"echo not-me\n").unwrap();
    assert_eq!(watcher.wait_for("error")["code"], "FORBIDDEN");
    watcher.json(&json!({"type": "resize", "cols": 10, "rows": 10})).unwrap();
    assert_eq!(watcher.wait_for("error")["code"], "FORBIDDEN");
    socket.json(&json!({"type": "nonsense"})).unwrap();
    socket.json(&json!({"type": "user_message", "content": "hi", "client_msg_id": "1"})).unwrap();
    socket.json(&json!({"type": "ping"})).unwrap();
    while seen.told.last().is_none_or(|told| told["type"] != "pong") {
        seen.take(socket.next());
    }
    let errors: Vec<_> = seen.told.iter().filter(|told| told["type"] == "error").collect();
    assert_eq!((&errors[0]["code"], &errors[1]["code"]), (&"MALFORMED".into(), &"INVALID".into()));

    socket.input(b"sleep 6007\n").unwrap();
    until("the sleep", PATIENCE, || {
        (!crate::processes_with("sleep 6007").is_empty()).then_some(())
    });
    socket.json(&json!({"type": "interrupt"})).unwrap();
    socket.input(b"echo status-$?\n").unwrap();
    seen.until(&mut socket, "status-130");
    socket.input(b"exit 7\n").unwrap();
    let ended = loop {
        match socket.next() {
            Frame::Text(value) if value["type"] == "ended" => break value,
            frame => seen.take(frame),
        }
    };
    assert_eq!(ended, json!({"type": "ended", "reason": "exited", "exit": {"code": 7}}));
    assert_eq!(socket.wait_for_close().0, 1000);
    assert_eq!(watcher.wait_for("ended")["reason"], "exited");
    assert_eq!(watcher.wait_for_close().0, 1000);
    let text = String::from_utf8_lossy(&seen.bytes).into_owned();
    assert!(!text.contains("not-me"), "{text}");
    assert_eq!(String::from_utf8_lossy(&recorded(&mut alice, &id)), text);
    let started = gateway.wait_for_audit("the start", |line| line["action"] == "session_started");
    assert_eq!(
        (&started["actor"]["type"], &started["actor"]["user"]),
        (&"browser".into(), &"alice".into())
    );
    gateway.wait_for_audit("the attach", |line| line["action"] == "session_attached");
    gateway.wait_for_audit("the interrupt", |line| line["action"] == "interrupt_sent");
    assert!(!gateway.audit().iter().any(|line| line["action"] == "session_watched"), "their own");
    let mut late = attach(&alice, &id, "");
    assert_eq!(late.wait_for("ended")["exit"], json!({"code": 7}));
    assert_eq!(late.wait_for_close().0, 1000);
    // Who was here before, and comes back when it is over, gets what they missed first.
    let missed = seen.bytes.len() - 9;
    let mut back = attach(&alice, &id, &format!("?from={missed}"));
    match back.next() {
        Frame::Output(seq, bytes) => {
            assert_eq!((seq, &*bytes), (missed as u64, &seen.bytes[missed..]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(back.wait_for("ended")["exit"], json!({"code": 7}));
    let mut whole = attach(&alice, &id, &format!("?from={}", seen.bytes.len()));
    assert!(matches!(whole.next(), Frame::Text(told) if told["type"] == "ended"));
}

#[test]
fn what_was_missed_follows_and_what_is_too_old_is_drawn() {
    let Some(gateway) = house(&Options::default()) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut alice, &json!({}));
    let mut seen = Seen::default();
    let mut socket = attach(&alice, &id, "?from=0");
    seen.until(&mut socket, "# ");
    socket.input(b"for i in $(seq 3000); do echo line-$i; done; echo al''l\n").unwrap();
    seen.until(&mut socket, "line-7\r");
    drop(socket);
    gateway.wait_for_audit("the drop", |line| line["action"] == "session_detached");
    let mut socket = attach(&alice, &id, &format!("?from={}", seen.next()));
    seen.until(&mut socket, "all\r");
    assert!(recorded(&mut alice, &id).starts_with(&seen.bytes), "without a gap, nothing twice");
    // While somebody is there it is told from memory.
    let halfway = seen.next() - 1000;
    let mut watcher = attach(&alice, &id, &format!("?mode=watch&from={halfway}"));
    let mut again = Seen::default();
    again.until(&mut watcher, "all\r");
    assert_eq!(again.start, Some(halfway));
    assert!(seen.bytes.ends_with(&again.bytes) || again.bytes.len() > 1000);
    socket.input(b"head -c 3000000 /dev/zero | tr '\\0' x; echo; echo fa''r\n").unwrap();
    seen.until(&mut socket, "far\r");
    // The screen is drawn behind what is sent, and a moment later.
    let (mut late, screen) = until("a screen of now", PATIENCE, || {
        let mut late = attach(&alice, &id, "?mode=watch&from=10");
        let screen = late.wait_for("snapshot");
        (screen["seq"].as_u64()? > 3_000_000).then_some((late, screen))
    });
    assert!(screen["data"].as_str().unwrap().contains("far"));
    socket.input(b"echo ne''xt\n").unwrap();
    let after = late.wait_for_output("next");
    assert!(after.len() < 10_000, "only what came after the screen");
    let mut beyond = attach(&alice, &id, "?mode=watch&from=99999999999");
    assert!(beyond.wait_for("snapshot")["seq"].as_u64().unwrap() < 99_999_999_999);
}

#[test]
fn a_killed_gateway_leaves_no_gap_in_a_browser() {
    let Some(mut gateway) = house(&Options::default()) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut alice, &json!({}));
    let mut seen = Seen::default();
    let mut socket = attach(&alice, &id, "?from=0");
    seen.until(&mut socket, "# ");
    socket
        .input(b"for i in $(seq 150); do echo ti\xc3\xa4ck-$i; sleep 0.02; done; echo al''l\n")
        .unwrap();
    seen.until(&mut socket, "ck-20\r");
    gateway.kill();
    drop(socket);
    gateway.launch();
    alice.follow(gateway.web_port());
    let mut socket = attach(&alice, &id, &format!("?from={}", seen.next()));
    seen.until(&mut socket, "all\r");
    let text = String::from_utf8_lossy(&seen.bytes).into_owned();
    for tick in 1..=150 {
        assert_eq!(text.matches(&format!("ti\u{e4}ck-{tick}\r")).count(), 1, "{tick}");
    }
    assert!(recorded(&mut alice, &id).starts_with(&seen.bytes));
    socket.input(b"exit\n").unwrap();
    assert_eq!(socket.wait_for("ended")["reason"], "exited");
}

#[test]
fn an_upgrade_drops_nobody() {
    let server = "on_stop = \"leave\"\n".to_owned();
    let Some(mut gateway) = house(&Options { server, ..Options::default() }) else { return };
    let mut browser = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut browser, &json!({}));
    let mut seen = Seen::default();
    let mut socket = attach(&browser, &id, "?from=0");
    seen.until(&mut socket, "# ");
    socket.input(b"for i in $(seq 100); do echo tick-$i; sleep 0.02; done; echo al''l\n").unwrap();
    seen.until(&mut socket, "tick-5\r");
    let mut person = at_terminal(&gateway.alice(), "alice", (80, 24));
    person.expect("# ");
    person.write(b"echo before-$((6*7)); echo unfin");
    person.expect("echo unfin");

    // As `systemctl restart` does it, with another program in the same place.
    assert!(gateway.stop().success());
    person.finish(PATIENCE);
    drop(socket);
    gateway.launch();

    browser.follow(gateway.web_port());
    let mut socket = attach(&browser, &id, &format!("?from={}", seen.next()));
    seen.until(&mut socket, "all\r");
    let text = String::from_utf8_lossy(&seen.bytes).into_owned();
    for tick in 1..=100 {
        assert_eq!(text.matches(&format!("tick-{tick}\r")).count(), 1, "{tick}");
    }
    let waiting = until("the person's session", PATIENCE, || {
        let all = gateway.sessions();
        let other = all.iter().find(|session| session["id"] != id.as_str())?;
        Some(other["id"].as_str()?.to_owned())
    });
    let name = format!("alice+@{}", &waiting[waiting.len() - 8..]);
    let mut back = at_terminal(&gateway.alice(), &name, (80, 24));
    back.expect("unfin");
    back.write(b"ished; exit 9\n");
    back.expect("unfinished");
    assert_eq!(back.finish(PATIENCE).code, 9);
    socket.input(b"exit\n").unwrap();
    assert_eq!(socket.wait_for("ended")["reason"], "exited");
    let started = gateway.audit();
    let started = started.iter().filter(|line| line["action"] == "session_started").count();
    assert_eq!(started, 2, "nothing was started anew");
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

#[test]
fn the_end_of_a_login_closes_its_sockets_and_leaves_the_session() {
    let limits = "detach_grace = \"1s\"\n".to_owned();
    let Some(gateway) = house(&Options { limits, ..Options::default() }) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut alice, &json!({}));
    let mut socket = attach(&alice, &id, "?from=0");
    socket.wait_for_output("# ");
    let mut watcher = attach(&alice, &id, "?mode=watch");
    watcher.wait_for("snapshot");
    alice.post("/api/auth/logout", &json!({})).expect(204);
    for socket in [&mut socket, &mut watcher] {
        let began = Instant::now();
        let (code, told) = socket.wait_for_close();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(code, 4401);
        assert_eq!(told.last().unwrap(), &json!({"type": "login_ended", "reason": "logout"}));
    }
    let mut again = gateway.signed_in("alice", PASSWORD);
    until("detached", PATIENCE, || (show(&mut again, &id)["attached"] == false).then_some(()));
    // Longer than the grace: it goes on under its lease alone.
    gateway.clock().advance("60s");
    let mut socket = attach(&again, &id, "");
    socket.wait_for("snapshot");
    socket.input(b"echo still-$((1+1))\n").unwrap();
    socket.wait_for_output("still-2");
    // One that is lost is waited for, and not longer than that.
    drop(socket);
    let session = until("its end", PATIENCE, || {
        let session = show(&mut again, &id);
        (session["status"] == "ended").then_some(session)
    });
    assert_eq!(session["end_reason"], "closed");
}

#[test]
fn too_long_a_message_closes_its_socket_with_a_code_and_leaves_the_session() {
    let Some(gateway) = house(&Options::default()) else { return };
    let mut browser = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut browser, &json!({}));
    let mut typing = attach(&browser, &id, "");
    typing.input(b"echo be-$((40+2))\n").unwrap();
    typing.wait_for_output("be-42");
    typing.input(&[b'#'; (128 << 10) + 1]).unwrap();
    assert_eq!(typing.wait_for_close().0, 1009);
    let mut saying = attach(&browser, &id, "");
    saying.input(b"echo on-$((40+3))\n").unwrap();
    saying.wait_for_output("on-43");
    saying.json(&json!({"type": "end", "reason": "x".repeat(128 << 10)})).unwrap();
    assert_eq!(saying.wait_for_close().0, 1009);
    assert_eq!(show(&mut browser, &id)["status"], "running");
}

#[test]
fn limits_are_told_before_and_when_they_are_reached() {
    let Some(gateway) = house(&Options::default()) else { return };
    let mut alice = gateway.signed_in("alice", PASSWORD);
    let id = start(&mut alice, &json!({"limits": {"max_runtime_seconds": 4}}));
    let mut socket = attach(&alice, &id, "");
    let (code, told) = socket.wait_for_close();
    assert_eq!(code, 1000);
    let kinds: Vec<&str> = told.iter().filter_map(|frame| frame["type"].as_str()).collect();
    let of = |kind: &str| {
        let found = told.iter().find(|frame| frame["type"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}: {kinds:?}"))
    };
    assert_eq!(of("limit_warned")["limit"], "max_runtime");
    let exceeded = of("limit_exceeded");
    assert_eq!((&exceeded["limit"], &exceeded["configured"]), (&"max_runtime".into(), &4.into()));
    assert!(exceeded["message"].as_str().unwrap().starts_with("Session timeout"), "{exceeded}");
    assert_eq!(of("ended")["reason"], "max_runtime");
    assert_eq!(kinds.last(), Some(&"ended"));
}
