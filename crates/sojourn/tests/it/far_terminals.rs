//! Terminals on runners that dial in, as people have them: attached to, recorded, ended, found again
//! after a crash. The runner is the test.

use std::fs;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Ask;
use sojourn_testkit::Browser;
use sojourn_testkit::Frame;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Socket;
use sojourn_testkit::until;

use crate::detach::at_terminal;
use crate::detach::detached;
use crate::detach::drop_client;
use crate::gateway;

const PASSWORD: &str = "seven wet ropes around 31 bollards";

/// A runner, which is the test.
struct Far {
    token: String,
    socket: Socket,
    welcome: Value,
}

/// A session on it, with what it has said of it so far.
struct Session {
    id: String,
    seq: u64,
    printed: Vec<u8>,
}

fn house() -> (Gateway, Browser, Far) {
    house_with("")
}

fn house_with(limits: &str) -> (Gateway, Browser, Far) {
    let gateway = gateway(&Options { limits: limits.to_owned(), ..Options::default() });
    for (name, role) in [("mia", "member"), ("adam", "admin")] {
        gateway.add_user(name, role, PASSWORD);
    }
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let made = mia.post("/api/runners", &json!({"name": "laptop"})).expect(201);
    let token = made["token"].as_str().expect("a token").to_owned();
    let far = Far::connect(&gateway, &token, None);
    (gateway, mia, far)
}

impl Far {
    fn connect(gateway: &Gateway, token: &str, session: Option<&Session>) -> Self {
        let ask = Ask::new("GET", "/api/runners/connect").bearer(token);
        let mut socket = gateway.browser().try_socket(&ask).expect("a WebSocket");
        let running = session.map(|session| {
            json!({"session": session.id, "epoch": 1, "head": session.seq,
                "offset": session.printed.len(), "status": "running", "asks": []})
        });
        let hello = json!({
            "type": "hello", "version": 1, "build": "a test",
            "machine": {"host": "box", "os": "linux", "arch": "x86_64"},
            "harnesses": [{"name": "shell", "available": true}],
            "directories": ["/home/mia"], "sessions": Vec::from_iter(running),
        });
        socket.json(&hello).expect("hello");
        let welcome = socket.wait_for("welcome");
        Self { token: token.to_owned(), socket, welcome }
    }

    /// Waits for a command, and says that it is done.
    #[track_caller]
    fn command(&mut self, what: &str) -> Value {
        loop {
            let told = self.socket.wait_for("command");
            let outcome = json!({"is": "accepted"});
            let receipt =
                json!({"type": "receipt", "command": told["command"], "outcome": outcome});
            self.socket.json(&receipt).expect("a receipt");
            if told["body"]["do"] == what {
                return told;
            }
        }
    }

    /// What somebody typed, as far as this.
    #[track_caller]
    fn typed(&mut self, text: &str) {
        let mut typed = Vec::new();
        while !String::from_utf8_lossy(&typed).contains(text) {
            // 16 bytes of id, 8 of offset: the first 8 are read as a number.
            if let Frame::Output(_, rest) = self.socket.next() {
                typed.extend(&rest[16..]);
            }
        }
    }

    fn tell(&mut self, session: &mut Session, event: &Value) {
        session.seq += 1;
        self.tell_again(session, session.seq, event);
    }

    fn tell_again(&mut self, session: &Session, seq: u64, event: &Value) {
        let told = json!({"type": "event", "session": session.id, "epoch": 1, "seq": seq,
            "at": 1_795_345_331_532_000_i64, "event": event});
        self.socket.json(&told).expect("an event");
    }

    fn print(&mut self, session: &mut Session, bytes: &[u8]) {
        let offset = session.printed.len();
        session.printed.extend(bytes);
        self.print_from(session, offset, session.printed.len());
    }

    /// Prints a part of what was printed, once more.
    fn print_from(&mut self, session: &Session, from: usize, to: usize) {
        let id = session.id.replace('-', "");
        let mut frame: Vec<u8> = (0..16)
            .map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).expect("a digit"))
            .collect();
        frame.extend((from as u64).to_be_bytes());
        frame.extend(&session.printed[from..to]);
        self.socket.input(&frame).expect("bytes");
    }

    /// Waits until the gateway has all of this.
    #[track_caller]
    fn wait_for_ack(&mut self, session: &Session, seq: u64) {
        loop {
            let ack = self.socket.wait_for("ack");
            if ack["seq"] == seq && ack["offset"] == session.printed.len() {
                return;
            }
        }
    }

    /// A session that runs here.
    fn start(&mut self, gateway: &Gateway, browser: &mut Browser) -> Session {
        let body = json!({"harness": "shell", "runner": "laptop", "cwd": "~/src",
            "cols": 100, "rows": 30});
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| browser.post("/api/sessions", &body));
            let told = self.command("start");
            assert_eq!(
                (&told["body"]["harness"], &told["body"]["cwd"]),
                (&json!("shell"), &json!("~/src"))
            );
            assert_eq!(told["body"]["size"]["cols"], 100);
            let session = self.run(&told);
            let answer = asked.join().expect("an answer");
            let made = answer.expect(201);
            assert_eq!(made["session_id"], session.id.as_str(), "{}", gateway.log());
            self.wait_for_ack(&session, 3);
            session
        })
    }

    /// Says that what it was told to start runs.
    fn run(&mut self, told: &Value) -> Session {
        let id = told["session"].as_str().expect("an id").to_owned();
        let mut session = Session { id, seq: 0, printed: Vec::new() };
        for state in ["begun", "done"] {
            let step = json!({"type": "step", "step": "program", "state": state});
            self.tell(&mut session, &step);
        }
        self.tell(&mut session, &json!({"type": "started"}));
        session
    }

    fn end(&mut self, session: &mut Session) {
        let output = session.printed.len();
        let ended = json!({"type": "ended", "reason": "exited", "exit": {"code": 7},
            "output_bytes": output});
        self.tell(session, &ended);
        self.wait_for_ack(session, session.seq);
    }
}

fn attach(session: &Session) -> String {
    format!("/api/sessions/{}/attach", session.id)
}

#[test]
fn a_terminal_on_a_runner_is_typed_into_and_watched_like_any_other() {
    let (gateway, mut mia, mut far) = house();
    let mut session = far.start(&gateway, &mut mia);
    let shown = mia.get(&format!("/api/sessions/{}", session.id)).expect(200);
    assert_eq!((&shown["runner"], &shown["harness"]), (&json!("laptop"), &json!("shell")));
    assert_eq!((&shown["status"], &shown["cwd"]), (&json!("running"), &json!("~/src")));
    let mut page = mia.socket(&attach(&session));
    page.wait_for("lease");
    far.print(&mut session, b"box $ ");
    page.wait_for_output("box $ ");
    page.input(b"make\r").expect("typing");
    far.typed("make\r");
    page.json(&json!({"type": "resize", "cols": 120, "rows": 40})).expect("a size");
    let resize = far.command("resize");
    assert_eq!(resize["body"]["size"]["cols"], 120);
    far.tell(&mut session, &json!({"type": "resized", "cols": 120, "rows": 40}));
    page.json(&json!({"type": "interrupt"})).expect("an interrupt");
    far.typed("\u{3}");
    // An admin looks on, and does not type on somebody's own machine.
    let adam = gateway.signed_in("adam", PASSWORD);
    let mut onlooker = adam.socket(&format!("{}?mode=watch", attach(&session)));
    onlooker.wait_for_output("box $ ");
    let mut driver = adam.socket(&format!("{}?mode=drive", attach(&session)));
    assert_eq!(driver.wait_for_close().0, 4403);
    let flood = "x".repeat(300_000);
    for part in flood.as_bytes().chunks(50_000) {
        far.print(&mut session, part);
    }
    far.print(&mut session, b"the end\r\n");
    page.wait_for_output("the end");
    onlooker.wait_for_output("the end");
    far.end(&mut session);
    let ended = page.wait_for("ended");
    assert_eq!((&ended["reason"], &ended["exit"]["code"]), (&json!("exited"), &json!(7)));
    let shown = mia.get(&format!("/api/sessions/{}", session.id)).expect(200);
    assert_eq!((&shown["status"], &shown["exit"]["code"]), (&json!("ended"), &json!(7)));
    let line = gateway.wait_for_audit("its end", |line| {
        line["action"] == "session_ended" && line["session_id"] == session.id.as_str()
    });
    assert_eq!(line["details"]["bytes"], session.printed.len());
    let extend = format!("/api/sessions/{}/extend", session.id);
    let extended = mia.post(&extend, &json!({"seconds": 60})).expect(202);
    assert_eq!(extended["remaining_seconds"], 0, "nothing happens");
    let runners = mia.get("/api/runners").expect(200);
    assert_eq!(runners["items"][0]["sessions"], 0, "its slot is back");
    gateway.cli(&["verify", &session.id]);
}

#[test]
fn a_terminal_on_a_runner_is_had_by_ssh_too() {
    let gateway = gateway(&Options::default());
    let made = gateway.cli(&["token", "create", "--runner", "laptop", "--owner", "alice"]);
    let mut far = Far::connect(&gateway, made.trim(), None);
    let exec = gateway.alice().user("alice+laptop:").run("true");
    assert_eq!(exec.code, 75);
    assert!(exec.err.contains("ssh -t alice+laptop:@"), "{}", exec.err);
    let other = at_terminal(&gateway.alice(), "alice+desktop:", (80, 24));
    other.expect("you have no runner \"desktop\"");
    assert_eq!(other.finish(PATIENCE).code, 75);
    let mut ssh = at_terminal(&gateway.alice(), "alice+laptop:", (100, 30));
    let told = far.command("start");
    assert_eq!(
        (&told["body"]["harness"], &told["body"]["size"]["cols"]),
        (&json!("shell"), &json!(100))
    );
    let mut session = far.run(&told);
    far.print(&mut session, b"box $ ");
    ssh.expect("box $ ");
    ssh.write(b"make\r");
    far.typed("make\r");
    drop_client(&ssh);
    assert_eq!(detached(&gateway), session.id, "it waits, as a terminal here does");
    let back = at_terminal(&gateway.alice(), "alice+@", (100, 30));
    back.expect("box $ ");
    far.end(&mut session);
    assert_eq!(back.finish(PATIENCE).code, 7);
    let line = gateway.wait_for_audit("its start", |line| {
        line["action"] == "session_started" && line["session_id"] == session.id.as_str()
    });
    assert_eq!(
        (&line["actor"]["type"], &line["details"]["runner"]),
        (&json!("ssh"), &json!("laptop"))
    );
    gateway.cli(&["verify", &session.id]);
}

#[test]
fn case_02_what_a_terminal_prints_over_breaks_is_recorded_once_and_whole() {
    let (mut gateway, mut mia, mut far) = house();
    let mut session = far.start(&gateway, &mut mia);
    let mut page = mia.socket(&attach(&session));
    page.wait_for("lease");
    for round in 0..6_usize {
        let line = format!("line {round} \u{1f6a2}\r\n");
        far.print(&mut session, line.as_bytes());
        if round != 3 {
            far.wait_for_ack(&session, session.seq);
        }
        if round == 3 {
            // The gateway dies, with or without the line.
            gateway.kill();
            gateway.launch();
            mia = gateway.signed_in("mia", PASSWORD);
        }
        let token = far.token.clone();
        far = Far::connect(&gateway, &token, Some(&session));
        let have = far.welcome["have"][0].clone();
        assert_eq!(have["session"], session.id.as_str(), "{}\n{}", far.welcome, gateway.log());
        let stored = usize::try_from(have["offset"].as_u64().expect("an offset")).expect("it");
        assert!(stored <= session.printed.len());
        if round != 3 {
            assert_eq!((stored, &have["seq"]), (session.printed.len(), &json!(session.seq)));
        }
        // What is stored comes once more as well, as when its word was lost.
        far.print_from(&session, stored.saturating_sub(3), session.printed.len());
        far.tell_again(&session, 1, &json!({"type": "started"}));
    }
    page = mia.socket(&attach(&session));
    page.wait_for_output("line 5");
    far.end(&mut session);
    page.wait_for("ended");
    gateway.cli(&["verify", &session.id]);
    let recordings = gateway.data().join("recordings");
    let listed = std::process::Command::new("find").arg(&recordings).output().expect("find");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let cast = listed.lines().find(|path| path.ends_with(&format!("{}.cast", session.id)));
    let cast = fs::read_to_string(cast.expect("a recording")).expect("it");
    let lines = cast.lines().filter(|line| line.contains("\"o\""));
    let output: String = lines
        .map(|line| {
            let event: Value = serde_json::from_str(line).expect("JSON");
            event[2].as_str().expect("text").to_owned()
        })
        .collect();
    assert_eq!(output.as_bytes(), session.printed, "byte for byte, and nothing twice");
}

#[test]
fn a_terminal_whose_runner_is_away_waits_for_it_and_is_ended_when_it_comes() {
    let (gateway, mut mia, mut far) = house();
    let mut session = far.start(&gateway, &mut mia);
    let path = format!("/api/sessions/{}", session.id);
    let token = far.token.clone();
    let mut page = mia.socket(&attach(&session));
    page.wait_for("lease");
    drop(far);
    page.wait_for("runner_disconnected");
    assert_eq!(page.wait_for("status")["status"], "disconnected");
    until("it is out of reach", PATIENCE, || {
        (mia.get(&path).expect(200)["status"] == "disconnected").then_some(())
    });
    mia.delete(&path).expect(202);
    let mut far = Far::connect(&gateway, &token, Some(&session));
    page.wait_for("runner_reconnected");
    let end = far.command("end");
    assert_eq!(end["body"]["reason"], "ended_by");
    let ended = json!({"type": "ended", "reason": "ended_by", "output_bytes": 0});
    far.tell(&mut session, &ended);
    far.wait_for_ack(&session, session.seq);
    let shown = mia.get(&path).expect(200);
    assert_eq!((&shown["status"], &shown["end_reason"]), (&json!("ended"), &json!("ended_by")));
    // One whose machine has forgotten it is lost.
    let session = far.start(&gateway, &mut mia);
    let _far = Far::connect(&gateway, &token, None);
    let path = format!("/api/sessions/{}", session.id);
    let lost = until("it is lost", PATIENCE, || {
        let shown = mia.get(&path).expect(200);
        (shown["status"] == "ended").then_some(shown)
    });
    assert_eq!(lost["end_reason"], "runner_lost");
}

#[test]
fn a_shell_that_a_runner_will_not_start_is_refused_with_its_reason() {
    let (gateway, mut mia, mut far) = house();
    let wish = json!({"harness": "shell", "runner": "laptop", "cwd": "/etc"});
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| mia.post("/api/sessions", &wish));
        let told = far.socket.wait_for("command");
        let why = "/etc is not allowed here; see [runner] allow_dirs";
        let outcome = json!({"is": "rejected", "code": "not_allowed", "message": why});
        let receipt = json!({"type": "receipt", "command": told["command"], "outcome": outcome});
        far.socket.json(&receipt).expect("a receipt");
        asked.join().expect("an answer")
    });
    let refused = answer.refused(503, "RUNNER_UNAVAILABLE");
    assert!(refused["error"].as_str().expect("a line").contains("allow_dirs"), "{refused}");
    let other = json!({"harness": "shell", "runner": "desktop"});
    let refused = mia.post("/api/sessions", &other).refused(422, "INVALID");
    assert_eq!(refused["field"], "runner");
    let mut adam = gateway.signed_in("adam", PASSWORD);
    let refused = adam.post("/api/sessions", &wish).refused(422, "INVALID");
    assert_eq!(refused["field"], "runner", "flaw 4: nobody starts on somebody else's machine");
    until("its place to be free", PATIENCE, || {
        (mia.get("/api/runners").expect(200)["items"][0]["sessions"] == 0).then_some(())
    });
}

#[test]
fn of_twenty_who_start_at_once_on_a_runner_with_three_slots_three_run() {
    let limits = "starts_per_minute = 100\nmax_concurrent_sessions = 64\n\
                  max_sessions_per_user = 64\n";
    let (gateway, mut mia, far) = house_with(limits);
    let Far { socket: mut far, .. } = far;
    let csrf = mia.csrf.clone();
    let body = json!({"harness": "shell", "runner": "laptop"});
    let outcomes: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..20)
            .map(|_| {
                let mut page = mia.copy();
                page.csrf.clone_from(&csrf);
                let body = &body;
                scope.spawn(move || {
                    let answer = page.post("/api/sessions", body);
                    (answer.status, answer.json())
                })
            })
            .collect();
        for _ in 0..3 {
            let told = far.wait_for("command");
            assert_eq!(told["body"]["do"], "start");
            let outcome = json!({"is": "accepted"});
            let receipt =
                json!({"type": "receipt", "command": told["command"], "outcome": outcome});
            far.json(&receipt).expect("a receipt");
            let started = json!({"type": "event", "session": told["session"], "epoch": 1,
                "seq": 1, "at": 1_795_345_331_532_000_i64, "event": {"type": "started"}});
            far.json(&started).expect("an event");
        }
        asked.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let started = outcomes.iter().filter(|(status, _)| *status == 201).count();
    let full = outcomes.iter().filter(|(status, answer)| {
        *status == 429
            && answer["code"] == "LIMIT_REACHED"
            && answer["limit"] == "max_sessions_per_runner"
            && answer["max_sessions"] == 3
    });
    assert_eq!((started, full.count()), (3, 17), "{outcomes:?}\n{}", gateway.log());
    assert_eq!(mia.get("/api/runners").expect(200)["items"][0]["sessions"], 3);
}

/// The real `sojourn runner`, ended when this is dropped.
struct RealRunner(std::process::Child);

impl Drop for RealRunner {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _status = self.0.wait();
    }
}

#[test]
fn a_shell_on_a_real_runner_survives_its_gateway_and_ends_with_its_status() {
    let mut gateway = gateway(&Options::default());
    gateway.add_user("mia", "member", PASSWORD);
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let made = mia.post("/api/runners", &json!({"name": "laptop"})).expect(201);
    let token = gateway.scratch().file("runner.token", made["token"].as_str().expect("a token"));
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("its mode");
    let work = gateway.scratch().path().join("work");
    fs::create_dir(&work).expect("a directory");
    // There it is after it was killed, as well.
    let port = gateway.web_port();
    let config = gateway.scratch().path().join("sojourn.toml");
    let written = fs::read_to_string(&config).expect("a configuration");
    let any = "[web]\nlisten = \"127.0.0.1:0\"";
    assert!(written.contains(any));
    let this = format!("[web]\nlisten = \"127.0.0.1:{port}\"");
    fs::write(&config, written.replace(any, &this)).expect("a configuration");
    let log = fs::File::create(gateway.scratch().path().join("runner.log")).expect("its log");
    let runner = std::process::Command::new(env!("CARGO_BIN_EXE_sojourn"))
        .args(["runner", "--gateway", &format!("http://127.0.0.1:{port}"), "--name", "laptop"])
        .arg("--token-file")
        .arg(&token)
        .arg("--allow")
        .arg(&work)
        .env("HOME", gateway.scratch().path())
        .env("XDG_STATE_HOME", gateway.scratch().path().join("state"))
        .env("SHELL", "/bin/sh")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the runner");
    let _runner = RealRunner(runner);
    let said = gateway.scratch().path().join("runner.log");
    let said = || fs::read_to_string(&said);
    until("the runner is there", PATIENCE, || {
        let runners = mia.get("/api/runners").expect(200);
        (runners["items"][0]["connected"] == true).then_some(())
    });
    let cwd = work.to_str().expect("a path in UTF-8");
    let wish = json!({"harness": "shell", "runner": "laptop", "cwd": cwd});
    let answer = mia.post("/api/sessions", &wish);
    assert_eq!(answer.status, 201, "{}\n{:?}\n{}", answer.text(), said(), gateway.log());
    let id = answer.json()["session_id"].as_str().expect("an id").to_owned();
    let path = format!("/api/sessions/{id}/attach");
    let mut page = mia.socket(&path);
    page.wait_for("lease");
    page.input(b"pwd; echo one-$((40 + 2))\n").expect("typing");
    let shown = page.wait_for_output("one-42");
    assert!(shown.contains(cwd), "{shown:?}");
    gateway.kill();
    gateway.launch();
    let mut mia = gateway.signed_in("mia", PASSWORD);
    until("the runner is back", PATIENCE, || {
        let runners = mia.get("/api/runners").expect(200);
        (runners["items"][0]["connected"] == true).then_some(())
    });
    let mut page = mia.socket(&path);
    page.wait_for_output("one-42");
    page.input(b"echo two-$((40 + 2)); exit 9\n").expect("typing");
    page.wait_for_output("two-42");
    let ended = page.wait_for("ended");
    assert_eq!((&ended["reason"], &ended["exit"]["code"]), (&json!("exited"), &json!(9)));
    gateway.cli(&["verify", &id]);
    let refused =
        mia.post("/api/sessions", &json!({"harness": "shell", "runner": "laptop", "cwd": "/etc"}));
    refused.refused(503, "RUNNER_UNAVAILABLE");
}
