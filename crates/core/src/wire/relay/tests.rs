//! Each message as it travels, held against a file; and what is not a message.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::end::EndReason;
use crate::end::Exit;
use crate::end::Limit;
use crate::limits::Limits;
use crate::status::Status;
use crate::time::Wall;
use crate::wire::shim::WindowSize;

fn session() -> SessionId {
    "01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().unwrap()
}

fn uuid(last: u8) -> Uuid {
    let mut bytes = *session().0.as_bytes();
    bytes[15] = last;
    Uuid::from_bytes(bytes)
}

fn person() -> Person {
    Person { user: "alice".to_owned(), address: Some("192.0.2.7".to_owned()) }
}

fn hash() -> String {
    "ab".repeat(32)
}

fn rule() -> Rule {
    Rule::Exact { kind: "execute".to_owned(), input_hash: hash() }
}

fn recovery() -> Recovery {
    Recovery { agent_session_id: "a-1".to_owned(), cwd: "/src".to_owned(), can_resume: true }
}

fn events() -> Vec<(&'static str, Event)> {
    let request = RequestId(uuid(7));
    let text = str::to_owned;
    vec![
        (
            "step",
            Event::Step {
                step: Step::Program,
                state: StepState::Failed,
                message: Some(text("not found")),
            },
        ),
        ("started", Event::Started { agent: Some(text("fake 1.0")), recovery: Some(recovery()) }),
        ("status", Event::Status { status: Status::Waiting }),
        (
            "user_message",
            Event::UserMessage { client_msg_id: text("m1"), content: text("hi"), by: person() },
        ),
        (
            "message",
            Event::Message {
                client_msg_id: text("m1"),
                state: MessageState::Queued,
                content: Some(text("hi")),
                code: None,
            },
        ),
        ("update", Event::Update { update: json!({"sessionUpdate": "agent_message_chunk"}) }),
        ("cut", Event::Cut { what: Held::LongLine, bytes: 64 << 20 }),
        ("mode", Event::Mode { mode: text("ask"), by_agent: true }),
        (
            "prompt",
            Event::Prompt(Box::new(Prompt {
                request,
                tool: text("Bash"),
                kind: text("execute"),
                description: text("Run make"),
                details: json!({"command": "make"}).as_object().cloned().unwrap_or_default(),
                diff: None,
                input_hash: hash(),
                rule: Some(rule()),
            })),
        ),
        (
            "question",
            Event::Question(Box::new(Question {
                request,
                question: text("Which?"),
                schema: json!({"type": "object"}),
                input_hash: hash(),
            })),
        ),
        (
            "resolved",
            Event::Resolved {
                request,
                outcome: Outcome::Answered { decision: Decision::Allow, by: person() },
            },
        ),
        (
            "resolved_by_rule",
            Event::Resolved {
                request,
                outcome: Outcome::Settled { decision: Decision::Allow, rule: Some(rule()) },
            },
        ),
        ("resolved_lost", Event::Resolved { request, outcome: Outcome::Lost }),
        (
            "usage",
            Event::Usage(Usage {
                input_tokens: Some(1000),
                cost_micros: Some(12),
                ..Usage::default()
            }),
        ),
        (
            "diff",
            Event::Diff { files: vec![text("a.rs")], patch: text("--- a\n"), truncated: false },
        ),
        ("stderr", Event::Stderr { text: text("warning") }),
        (
            "notice",
            Event::Notice {
                code: text("interrupt_ignored"),
                message: text("the agent goes on; end the session if it has to stop"),
            },
        ),
        ("turn_cut", Event::TurnCut { why: text("agent_died") }),
        ("turn_ended", Event::TurnEnded { stop_reason: text("end_turn") }),
        ("limit_warned", Event::LimitWarned { limit: Limit::MaxRuntime, seconds: 60 }),
        (
            "limit_exceeded",
            Event::LimitExceeded { limit: Limit::MaxOutput, configured: 100, reached: 101 },
        ),
        ("resized", Event::Resized { cols: 80, rows: 24 }),
        (
            "ended",
            Event::Ended {
                reason: EndReason::Exited,
                exit: Some(Exit::Code(0)),
                output_bytes: 9,
                message: None,
                recovery: Some(recovery()),
            },
        ),
    ]
}

fn launch() -> Launch {
    Launch {
        harness: "claude".to_owned(),
        profile: None,
        cwd: Some("~/src".to_owned()),
        model: Some("m".to_owned()),
        permission_mode: PermissionMode::Relay,
        prompt: Some("hello".to_owned()),
        limits: Limits::default(),
        used: Used::default(),
        size: None,
        resume: None,
        epoch: 1,
        head: 0,
        by: person(),
    }
}

fn commands() -> Vec<(&'static str, Command)> {
    let text = str::to_owned;
    let size = WindowSize { cols: 80, rows: 24, ..WindowSize::default() };
    vec![
        ("start", Command::Start(Box::new(launch()))),
        (
            "resume",
            Command::Resume(Box::new(Launch {
                resume: Some(text("a-1")),
                epoch: 2,
                head: 42,
                used: Used { runtime: Duration::from_secs(90), output: 9, cost: 0 },
                ..launch()
            })),
        ),
        (
            "message",
            Command::Message { client_msg_id: text("m1"), content: text("hi"), by: person() },
        ),
        ("edit_message", Command::EditMessage { client_msg_id: text("m1"), content: text("ho") }),
        ("cancel_message", Command::CancelMessage { client_msg_id: text("m1") }),
        (
            "answer",
            Command::Answer(Box::new(Answer {
                request: RequestId(uuid(7)),
                input_hash: hash(),
                decision: Decision::Deny,
                rule: None,
                reason: Some(text("not now")),
                fields: None,
                by: person(),
            })),
        ),
        ("interrupt", Command::Interrupt { by: person() }),
        (
            "end",
            Command::End {
                reason: EndReason::EndedBy,
                by: Some(person()),
                why: Some(text("done")),
            },
        ),
        ("extend", Command::Extend { by: Duration::from_secs(600) }),
        ("resize", Command::Resize { size }),
        ("forget", Command::Forget { session: session() }),
    ]
}

fn from_runner() -> Vec<(String, FromRunner)> {
    let hello = Hello {
        version: VERSION,
        build: "0.1.0".to_owned(),
        machine: Machine {
            host: "laptop".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
        },
        harnesses: vec![Harness {
            name: "claude".to_owned(),
            available: false,
            version: None,
            note: Some("claude-agent-acp is not on the PATH".to_owned()),
        }],
        directories: vec!["/home/alice/src".to_owned()],
        sessions: vec![Running {
            session: session(),
            epoch: 1,
            head: 42,
            offset: 0,
            status: Status::Waiting,
            asks: vec![RequestId(uuid(7))],
        }],
    };
    let rejected = Receipt::Rejected { code: "no_slot".to_owned(), message: "full".to_owned() };
    let command = CommandId(uuid(9));
    let receipt = |outcome| FromRunner::Receipt { command, outcome };
    let mut all = vec![
        ("hello".to_owned(), FromRunner::Hello(Box::new(hello))),
        ("receipt_accepted".to_owned(), receipt(Receipt::Accepted)),
        ("receipt_duplicate".to_owned(), receipt(Receipt::Duplicate)),
        ("receipt_rejected".to_owned(), receipt(rejected)),
        ("ping".to_owned(), FromRunner::Ping),
        ("pong".to_owned(), FromRunner::Pong),
    ];
    for (name, event) in events() {
        let event = Sequenced { session: session(), epoch: 1, seq: 42, at: Wall(1000), event };
        all.push((format!("event_{name}"), FromRunner::Event(Box::new(event))));
    }
    all
}

fn to_runner() -> Vec<(String, ToRunner)> {
    let stored = Stored { session: session(), seq: 41, offset: 0 };
    let refused = ToRunner::Refused {
        code: "replaced".to_owned(),
        message: "this runner came from elsewhere".to_owned(),
        for_good: false,
    };
    let welcome = ToRunner::Welcome {
        version: VERSION,
        generation: 3,
        max_sessions: 3,
        have: vec![stored],
        paused: false,
    };
    let mut all = vec![
        ("welcome".to_owned(), welcome),
        ("ack".to_owned(), ToRunner::Ack(stored)),
        ("resend".to_owned(), ToRunner::Resend { session: session(), from: 40 }),
        ("pause".to_owned(), ToRunner::Pause { paused: true }),
        ("ping".to_owned(), ToRunner::Ping),
        ("pong".to_owned(), ToRunner::Pong),
        ("refused".to_owned(), refused),
    ];
    for (name, body) in commands() {
        let body = Box::new(body);
        let command = ToRunner::Command { command: CommandId(uuid(9)), session: session(), body };
        all.push((format!("command_{name}"), command));
    }
    all
}

/// Holds a message against its file; with `SOJOURN_BLESS=1` writes the file.
fn golden(direction: &str, name: &str, encoded: &str) {
    let value: serde_json::Value = serde_json::from_str(encoded).unwrap();
    let pretty = format!("{}\n", serde_json::to_string_pretty(&value).unwrap());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/wire/relay/golden");
    let path = path.join(format!("{direction}-{name}.json"));
    if std::env::var_os("SOJOURN_BLESS").is_some() {
        fs::write(&path, &pretty).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // The order of members is nothing.
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept, value, "{} is another one: a new version?", path.display());
}

#[test]
fn messages_travel_as_their_files_say() {
    for (name, message) in from_runner() {
        let encoded = message.encode();
        golden("from-runner", &name, &encoded);
        assert_eq!(FromRunner::decode(&encoded).unwrap(), message, "{name}");
    }
    for (name, message) in to_runner() {
        let encoded = message.encode();
        golden("to-runner", &name, &encoded);
        assert_eq!(ToRunner::decode(&encoded).unwrap(), message, "{name}");
    }
}

#[test]
fn what_is_too_much_is_refused() {
    let (_, hello) = from_runner().swap_remove(0);
    let FromRunner::Hello(mut hello) = hello else { unreachable!("the first") };
    let running = hello.sessions[0].clone();
    hello.sessions = vec![running; MAX_SESSIONS + 1];
    assert!(FromRunner::decode(&FromRunner::Hello(hello).encode()).is_err());
    let long = format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "x".repeat(MAX_FRAME));
    assert!(matches!(FromRunner::decode(&long), Err(WireError::Long(_))));
    let nothing = Event::Stderr { text: "x".repeat(MAX_EVENT) };
    assert!(!nothing.fits());
}

#[test]
fn bytes_travel_with_their_place() {
    let bytes = Bytes { session: session(), offset: 7, bytes: b"hello" };
    assert_eq!(Bytes::decode(&bytes.encode()), Ok(bytes));
    let most = vec![0; MAX_BYTES + 1];
    let long = Bytes { session: session(), offset: 0, bytes: &most }.encode();
    assert!(Bytes::decode(&long).is_err());
    for cut in 0..HEADER {
        assert!(Bytes::decode(&bytes.encode()[..cut]).is_err(), "{cut}");
    }
}

proptest! {
    #[test]
    fn nothing_from_outside_panics(text in ".{0,400}", bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = FromRunner::decode(&text);
        let _ = ToRunner::decode(&text);
        let _ = Bytes::decode(&bytes);
    }

    /// A message with some of its bytes changed is another message or none.
    #[test]
    fn what_was_changed_on_the_way_does_no_harm(which in 0usize..64, at in 0usize..4096, byte in 32u8..127) {
        let all = from_runner();
        let mut text = all[which % all.len()].1.encode().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        if let Ok(text) = String::from_utf8(text) && let Ok(message) = FromRunner::decode(&text) {
            prop_assert_eq!(FromRunner::decode(&message.encode()).unwrap(), message);
        }
    }
}
