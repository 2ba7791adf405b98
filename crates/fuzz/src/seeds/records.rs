//! The audit log, recordings, and what terminals show.

use std::sync::OnceLock;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ChainWriter;
use sojourn_core::audit::Checkpoint;
use sojourn_core::audit::CheckpointKey;
use sojourn_core::audit::Event;
use sojourn_core::audit::Head;
use sojourn_core::ids::EventId;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_term::cast::Header;
use sojourn_term::cast::Stream;
use sojourn_term::cast::Writer;
use sojourn_term::sidecar::Sidecar;

use super::Seeds;

/// Lines of the log.
pub(crate) const LINES: usize = 5;

const SECOND: u64 = 1_000_000;

/// The key that signs its checkpoints.
pub(crate) fn checkpoint_key() -> CheckpointKey {
    CheckpointKey::from_seed(&[7; 32])
}

/// The log, and a checkpoint of its end that was kept elsewhere.
pub(crate) fn log() -> (&'static [u8], Checkpoint) {
    static LOG: OnceLock<(Vec<u8>, Checkpoint)> = OnceLock::new();
    let (log, kept) = LOG.get_or_init(write_log);
    (log, kept.clone())
}

fn write_log() -> (Vec<u8>, Checkpoint) {
    let key = checkpoint_key();
    let mut writer = ChainWriter::new(Head::START);
    let mut log = Vec::new();
    let session = SessionId(uuid::Uuid::from_u128(0x0193_2b5e_7c1a_7f00_8000_0000_3f2a_91c0));
    let mut write = |number: u128, action, details: &[(&str, serde_json::Value)]| {
        let at = Wall(1_795_345_331_000_000 + i64::try_from(number).unwrap_or(0));
        let actor = Actor::ssh("alice", [192, 0, 2, 7].into());
        let mut event = Event::new(at, action, actor).session(session);
        event.event_id = EventId(uuid::Uuid::from_u128((7 << 76) | (2 << 62) | number));
        for (name, value) in details {
            event = event.detail(name, value.clone());
        }
        let line = writer.line(&event).unwrap_or_default();
        log.extend_from_slice(line.as_bytes());
        log.push(b'\n');
        writer.head()
    };
    write(1, Action::AuthAttempt, &[("method", "publickey".into()), ("user", "alice".into())]);
    write(2, Action::SessionStarted, &[("profile", "d\u{e9}fault\u{202e}".into())]);
    let head = write(3, Action::SessionEnded, &[("reason", "exited".into()), ("bytes", 9.into())]);
    let signed: Vec<_> = key.sign(head).details().into_iter().collect();
    let signed: Vec<_> =
        signed.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    write(4, Action::Checkpoint, &signed);
    let head = write(5, Action::LoginEnded, &[]);
    (log, key.sign(head))
}

/// The log whole, and torn.
#[must_use]
pub fn audit_log() -> Seeds {
    let (whole, kept) = log();
    let torn = whole.get(..whole.len() - 70).unwrap_or_default().to_vec();
    let kept = serde_json::to_vec(&kept).unwrap_or_default();
    vec![("whole", whole.to_vec()), ("torn", torn), ("kept", kept)]
}

/// Recordings of terminals: everything there is in one, one of a full screen, one that was torn.
#[must_use]
pub fn recording() -> Seeds {
    let header =
        Header { width: 80, height: 24, timestamp: Some(1_700_000_000), ..Header::default() };
    let header = header.with_env("TERM", Some("xterm-256color"));
    let record = |fill: &dyn Fn(&mut Writer<&mut Vec<u8>>) -> std::io::Result<()>| {
        let mut file = Vec::new();
        if let Ok(mut writer) = Writer::start(&mut file, &header, SECOND) {
            let filled = fill(&mut writer).and_then(|()| writer.seal(9 * SECOND).map(drop));
            assert!(filled.is_ok(), "memory takes what is written");
        }
        file
    };
    let all = record(&|writer| {
        writer.data(SECOND, Stream::Output, "\x1b[1m\"hi\\\" \u{1f980}\r\n\0$ ".as_bytes())?;
        writer.data(2 * SECOND, Stream::Input, b"ls\r")?;
        writer.data(2 * SECOND, Stream::Errors, b"\xc3")?;
        writer.resize(3 * SECOND, 100, 40)?;
        writer.hidden_input(4 * SECOND, 7)?;
        writer.agent_event(5 * SECOND, r#"{"type":"relay","seq":1,"printed":2}"#)
    });
    let screen = record(&|writer| {
        writer.data(
            SECOND,
            Stream::Output,
            b"\x1b[?1049h\x1b[2J\x1b[5;5Hvi\x1b[3;20r\x1b[7mbar",
        )?;
        writer.data(SECOND, Stream::Output, b"\x1b[?25l\x1b(0qqq\x1b(B\x1b[10L\x1bM\x1b[?2004h")
    });
    let torn = all.get(..all.len() - 9).unwrap_or_default().to_vec();
    vec![("all", all), ("screen", screen), ("torn", torn)]
}

/// Sidecars: a full one and one with nothing in it.
#[must_use]
pub fn sidecar() -> Seeds {
    let mut full = Sidecar::new("01932b5e-7c1a-7f00-8000-00003f2a91c0");
    full.user = Some("alice".to_owned());
    full.command(b"ls -l\x1b[31m");
    full.duration_ms = Some(9000);
    let json = |sidecar: &Sidecar| sidecar.to_json().unwrap_or_default();
    vec![("full", json(&full)), ("empty", json(&Sidecar::default()))]
}

/// What terminals show and people type.
#[must_use]
pub fn terminal() -> Seeds {
    let editing = "ls\x7f\x7fecho h\u{e9}llo\x1b[D\x1b[D\x0bx\r\x1b[Acd /\x01\x1bf\x17\x19\r";
    let hostile = "\x1b]0;title\x07\x1b]52;c;aGk=\x1b\\\x1b[6n\x1bP+q\x1b\\\x1b[21t\u{9d}x\u{9c}ok";
    let drawn = "\x1b[1;31mred\x1b[0m\r\n\x1b[?1049h\x1b[2J\x1b[Hfull\x1b[?1049l$ ";
    vec![
        ("editing", editing.as_bytes().to_vec()),
        ("hostile", hostile.as_bytes().to_vec()),
        ("drawn", drawn.as_bytes().to_vec()),
        ("cut", b"\xf0\x9f\xa6 \xe2\x82\xac \xff \xc3".to_vec()),
    ]
}
