//! A runner that does what a test says.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Ask;
use sojourn_testkit::Browser;
use sojourn_testkit::Frame;
use sojourn_testkit::Gateway;
use sojourn_testkit::Socket;

/// One.
pub(super) struct Runner {
    socket: Socket,
    token: String,
    /// The number of each session's next event.
    next: HashMap<String, u64>,
    /// Every event that was sent, in case it has to be sent again.
    sent: Vec<Value>,
    /// Commands that were done.
    done: Vec<String>,
    waiting: Vec<Value>,
    pub(super) epoch: u32,
}

impl Runner {
    /// Enrols a runner and connects it.
    #[track_caller]
    pub(super) fn enrol(gateway: &Gateway, browser: &mut Browser, name: &str) -> Self {
        let made = browser.post("/api/runners", &json!({"name": name})).expect(201);
        let token = made["token"].as_str().expect("a token").to_owned();
        let socket = connect(gateway, &token, &json!([])).0;
        Self {
            socket,
            token,
            next: HashMap::new(),
            sent: Vec::new(),
            done: Vec::new(),
            waiting: Vec::new(),
            epoch: 1,
        }
    }

    /// Connects again, with what it holds, and sends what the gateway does not have.
    #[track_caller]
    pub(super) fn again(&mut self, gateway: &Gateway, status: &str, asks: &[String]) -> Value {
        let sessions: Vec<Value> = self
            .next
            .iter()
            .map(|(id, next)| {
                json!({"session": id, "epoch": self.epoch, "head": next - 1, "offset": 0,
                    "status": status, "asks": asks})
            })
            .collect();
        let (socket, welcome) = connect(gateway, &self.token, &json!(sessions));
        self.socket = socket;
        self.waiting.clear();
        for stored in welcome["have"].as_array().expect("a list") {
            let have = stored["seq"].as_u64().expect("a number");
            let missing = self.sent.iter().filter(|event| {
                event["session"] == stored["session"]
                    && event["seq"].as_u64().is_some_and(|seq| seq > have)
            });
            for event in missing {
                self.socket.json(event).expect("an event");
            }
        }
        welcome
    }

    /// Its connection is gone.
    pub(super) fn away(self) {}

    /// The next command of this kind, which is accepted; what comes twice is done once.
    #[track_caller]
    pub(super) fn command(&mut self, kind: &str) -> Value {
        let (id, body) = self.next_command(kind);
        self.receipt(&id, &json!({"is": "accepted"}));
        body
    }

    /// The next command of this kind, which is not done.
    #[track_caller]
    pub(super) fn refuse(&mut self, kind: &str, code: &str, message: &str) {
        let (id, _) = self.next_command(kind);
        self.receipt(&id, &json!({"is": "rejected", "code": code, "message": message}));
    }

    #[track_caller]
    fn next_command(&mut self, kind: &str) -> (String, Value) {
        loop {
            let at = self.waiting.iter().position(|frame| frame["body"]["do"] == kind);
            if let Some(at) = at {
                let frame = self.waiting.remove(at);
                let id = frame["command"].as_str().expect("an id").to_owned();
                self.done.push(id.clone());
                return (id, frame["body"].clone());
            }
            match self.socket.next() {
                Frame::Text(frame) if frame["type"] == "command" => {
                    let id = frame["command"].as_str().expect("an id").to_owned();
                    match self.done.contains(&id) {
                        true => self.receipt(&id, &json!({"is": "duplicate"})),
                        false => self.waiting.push(frame),
                    }
                }
                Frame::Text(_) | Frame::Output(..) => {}
                Frame::Closed(code, why) => panic!("closed before {kind}: {code} {why}"),
            }
        }
    }

    fn receipt(&mut self, id: &str, outcome: &Value) {
        let receipt = json!({"type": "receipt", "command": id, "outcome": outcome});
        // Where it does not arrive, the command comes again.
        let _gone = self.socket.json(&receipt);
    }

    /// Something happens; gives the id of what is asked.
    pub(super) fn event(&mut self, session: &str, event: Value) -> String {
        let next = self.next.entry(session.to_owned()).or_insert(1);
        let request = event["request"].as_str().unwrap_or_default().to_owned();
        let sequenced = json!({"type": "event", "session": session, "epoch": self.epoch,
            "seq": *next, "at": 1_795_345_331_532_000_i64, "event": event});
        *next += 1;
        // Where it does not arrive, it is sent again.
        let _gone = self.socket.json(&sequenced);
        self.sent.push(sequenced);
        request
    }

    /// Its agent is live.
    pub(super) fn started(&mut self, session: &str) {
        let recovery =
            json!({"agent_session_id": "a-1", "cwd": "/home/mia/src", "can_resume": true});
        self.event(session, json!({"type": "started", "agent": "fake", "recovery": recovery}));
    }

    /// Its agent is gone.
    pub(super) fn ended(&mut self, session: &str, reason: &str) {
        let exit = if reason == "exited" { json!({"code": 0}) } else { Value::Null };
        let recovery =
            json!({"agent_session_id": "a-1", "cwd": "/home/mia/src", "can_resume": true});
        self.event(
            session,
            json!({"type": "ended", "reason": reason, "exit": exit,
            "output_bytes": 9, "recovery": recovery}),
        );
    }
}

#[track_caller]
fn connect(gateway: &Gateway, token: &str, sessions: &Value) -> (Socket, Value) {
    let ask = Ask::new("GET", "/api/runners/connect").bearer(token);
    let mut socket = gateway.browser().try_socket(&ask).expect("a WebSocket");
    let hello = json!({
        "type": "hello", "version": 1, "build": "a test",
        "machine": {"host": "box", "os": "linux", "arch": "x86_64"},
        "harnesses": [
            {"name": "claude", "available": true},
            {"name": "codex", "available": false, "note": "codex-acp: not found on PATH"},
        ],
        "directories": ["/home/mia/src"], "sessions": sessions,
    });
    socket.json(&hello).expect("hello");
    let welcome = socket.wait_for("welcome");
    (socket, welcome)
}

/// Something that an agent says.
pub(super) fn update(text: &str) -> Value {
    json!({"type": "update", "update": {"sessionUpdate": "agent_message_chunk",
        "content": {"type": "text", "text": text}}})
}

/// Something that an agent wants to do.
pub(super) fn prompt(command: &str) -> Value {
    // An id like any other; a version 7 one as runners make them.
    let request = sojourn_core::ids::EventId::new().to_string();
    json!({"type": "prompt", "request": request, "tool": "Bash", "kind": "execute",
        "description": command, "details": {"command": command},
        "input_hash": format!("hash of {command}")})
}
