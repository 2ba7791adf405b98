//! Messages between our own processes and machines.

use std::time::Duration;

use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::limits::Lower;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_core::wire::Text;
use sojourn_core::wire::files;
use sojourn_core::wire::relay;
use sojourn_core::wire::runner;
use sojourn_core::wire::shim;
use sojourn_shim::control;
use sojourn_shim::state;

use super::Seeds;

const NOW: Wall = Wall(1_795_345_331_000_000);

fn session() -> SessionId {
    SessionId(uuid())
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(0x0193_2b5e_7c1a_7f00_8000_0000_3f2a_91c0)
}

macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        vec![$((
            $name,
            include_bytes!(concat!("../../../core/src/wire/relay/golden/", $name, ".json")).to_vec(),
        )),*]
    };
}

/// Those that are held against their encoders in `core`.
#[must_use]
pub fn from_runner() -> Seeds {
    golden!(
        "from-runner-hello",
        "from-runner-event_prompt",
        "from-runner-event_question",
        "from-runner-event_update",
        "from-runner-event_diff",
        "from-runner-event_ended",
        "from-runner-event_resolved_by_rule",
        "from-runner-event_usage",
        "from-runner-event_limit_exceeded",
        "from-runner-receipt_rejected",
    )
}

/// The same.
#[must_use]
pub fn to_runner() -> Seeds {
    golden!(
        "to-runner-welcome",
        "to-runner-command_start",
        "to-runner-command_answer",
        "to-runner-command_message",
        "to-runner-command_extend",
        "to-runner-command_resize",
        "to-runner-ack",
        "to-runner-resend",
        "to-runner-refused",
    )
}

/// A terminal's bytes.
#[must_use]
pub fn relay_bytes() -> Seeds {
    let frame = relay::Bytes { session: session(), offset: 4711, bytes: b"hello\r\n" };
    vec![("output", frame.encode())]
}

/// Frames of both sides.
#[must_use]
pub fn shim_frames() -> Seeds {
    use shim::FromShim;
    use shim::ToShim;
    let spec = shim::ChannelSpec {
        program: shim::Program::Exec(Text(b"echo \xff".to_vec())),
        pty: Some(shim::Pty {
            term: "xterm".into(),
            size: shim::WindowSize { cols: 101, rows: 33, width: 0, height: 0 },
            modes: vec![(53, 1)],
        }),
        env: vec![("LANG".into(), "C.UTF-8".into())],
        credit: shim::OUTPUT_WINDOW,
    };
    let summary = shim::Summary {
        session: session(),
        reason: EndReason::MaxRuntime,
        exit: Some(Exit::Signal("KILL".to_owned())),
        output_bytes: 9,
        started_at: Some(NOW),
        ended_at: NOW,
        recordings: vec![shim::RecordingFacts {
            channel: 0,
            file: "2026/11/22/x.cast".to_owned(),
            bytes: 9,
            sha256: "ab".repeat(32),
        }],
        reached: Some(3600),
    };
    let hello = shim::ShimHello {
        version: shim::VERSION,
        session: session(),
        channels: vec![0],
        terminals: vec![0],
        next_channel: 1,
        lease: None,
        ending: None,
    };
    let listen = shim::Endpoint::Tcp { host: "localhost".into(), port: 0 };
    let size = shim::WindowSize { cols: 1, rows: 2, width: 3, height: 4 };
    let end = shim::EndRequest { reason: EndReason::EndedBy };
    let left = Duration::from_secs(60);
    let expired = FromShim::Expired { reason: EndReason::MaxOutput, reached: 9, configured: 8 };
    let mut seeds = Vec::new();
    for (name, frame) in [
        ("hello", ToShim::Hello { version: shim::VERSION }),
        ("start", ToShim::Start(7, Box::new(spec))),
        ("resize", ToShim::Resize(7, size)),
        ("signal", ToShim::Signal(7, "TERM".to_owned())),
        ("deadline", ToShim::MoveDeadline(Duration::from_millis(1500))),
        ("end", ToShim::End(end)),
        ("listen", ToShim::Listen(1, listen)),
        ("attach", ToShim::Attach(7, shim::OUTPUT_WINDOW)),
    ] {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        seeds.push((name, bytes));
    }
    if let Some(cookie) = shim::Cookie::parse("00ff41") {
        let mut bytes = Vec::new();
        ToShim::Listen(2, shim::Endpoint::Display(cookie)).encode(&mut bytes);
        seeds.push(("display", bytes));
    }
    for (name, frame) in [
        ("shim_hello", FromShim::Hello(Box::new(hello))),
        ("output", FromShim::Output(7, shim::Stream::Err, b"x")),
        ("exit", FromShim::Exit(7, Exit::Signal("TERM".to_owned()))),
        ("warned", FromShim::Warned { limit: Limit::IdleTimeout, left }),
        ("expired", expired),
        ("failed", FromShim::StartFailed(7, "no such file".to_owned())),
        ("ended", FromShim::Ended(Box::new(summary))),
    ] {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        seeds.push((name, bytes));
    }
    seeds.push(("greeting", b"ok 127.0.0.1 40000".to_vec()));
    seeds
}

fn about() -> runner::About {
    let attempt = runner::Attempt {
        at: NOW,
        method: "publickey".to_owned(),
        user: "alice".to_owned(),
        accepted: true,
        fingerprint: Some("SHA256:x".to_owned()),
        password: None,
    };
    runner::About {
        user: "alice".to_owned(),
        door: "ssh".to_owned(),
        peer: "192.0.2.7:4711".to_owned(),
        client: "SSH-2.0-OpenSSH_9.2".to_owned(),
        attempts: vec![attempt],
        connected_at: NOW,
        hassh: None,
    }
}

/// Requests to the built-in runner, and what it says.
#[must_use]
pub fn runner_messages() -> Seeds {
    let open = runner::Request::Open(Box::new(runner::Open {
        session: session(),
        profile: "default".to_owned(),
        lower: Lower { max_runtime: Some(Duration::from_secs(600)), ..Lower::default() },
        about: about(),
        honeypot: false,
    }));
    let hello =
        runner::Request::Hello { version: runner::VERSION, build: "0.1.0 0123456789".to_owned() };
    let note = runner::Note::EndedBy { by: "alice".to_owned(), why: Some("late".to_owned()) };
    let note = runner::Request::Note { session: session(), note };
    let list = runner::Request::List { after: Some(session()) };
    let unknown = runner::Reply::Unknown;
    let released = runner::Event::Released { session: session(), summary: None };
    let encode = |request| runner::encode(&runner::Numbered { id: 3, body: request });
    let reply = runner::FromRunner::Reply(runner::Numbered { id: 3, body: unknown });
    let event = runner::FromRunner::Event { event: released };
    let all = [
        ("hello", encode(hello)),
        ("open", encode(open)),
        ("note", encode(note)),
        ("list", encode(list)),
        ("reply", runner::encode(&reply)),
        ("event", runner::encode(&event)),
    ];
    all.into_iter().filter_map(|(name, bytes)| Some((name, bytes.ok()?))).collect()
}

/// Orders and reports of a shim, and its state.
#[must_use]
pub fn shim_control() -> Seeds {
    let assign = control::Order::Assign(Box::new(control::Assign {
        session: session(),
        honeypot: false,
        profile: "default".to_owned(),
        about: about(),
        limits: Limits::default(),
        recording: control::RecordingPolicy {
            input: control::InputPolicy::Masked,
            exec_bytes: 1 << 20,
            on_failure: control::OnFailure::End,
        },
        day: "2026/11/22".to_owned(),
        command: vec!["/bin/bash".into(), Text(b"\xff".to_vec())],
        env: vec![("LANG".into(), "C.UTF-8".into())],
        account: control::Account::default(),
    }));
    let process = state::Process { pid: 7, start: 8 };
    let state = state::State {
        version: 1,
        phase: state::Phase::Running,
        session: session(),
        sandbox: "n-1".to_owned(),
        profile: "default".to_owned(),
        about: about(),
        limits: Limits::default(),
        recording: "2026/11/22/x.cast".to_owned(),
        passwords: false,
        boot: "b".to_owned(),
        shim: process,
        init: process,
        assigned_at: NOW,
        started_at: Some(NOW),
        deadline: Some(Mono(1)),
        honeypot: false,
        reason: None,
        summary: None,
    };
    let failed = control::Report::Failed {
        stage: runner::Stage::Capacity,
        message: "no more fit".to_owned(),
    };
    let all = [
        ("assign", serde_json::to_vec(&assign)),
        ("share", serde_json::to_vec(&control::Order::Share)),
        ("failed", serde_json::to_vec(&failed)),
        ("ready", serde_json::to_vec(&control::Report::Ready { init: 7 })),
        ("state", serde_json::to_vec(&state)),
    ];
    all.into_iter().filter_map(|(name, bytes)| Some((name, bytes.ok()?))).collect()
}

/// Answers of the file helper, which has no encoder on this side: data, a list, a refusal.
#[must_use]
pub fn helper_answers() -> Seeds {
    let frame = |id: u32, code: u8, payload: &[u8]| {
        let length = u32::try_from(5 + payload.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], &id.to_be_bytes(), &[code], payload].concat()
    };
    let entry = [&3_u32.to_be_bytes()[..], b"a b", &[0; 36]].concat();
    let refused = frame(9, 1, &2_u32.to_be_bytes());
    vec![
        ("data", frame(9, 0, b"hello")),
        ("entries", frame(9, 0, &[entry.clone(), entry].concat())),
        ("several", [frame(1, 0, &[0; 36]), refused, frame(2, 0, b"")].concat()),
    ]
}

/// Requests for it: code and payload.
#[must_use]
pub fn helper_requests() -> Seeds {
    use files::Request;
    let change =
        files::Change { size: Some(1), mode: Some(0o600), owner: Some((1, 2)), times: None };
    let all = [
        ("open", Request::Open { flags: 0o1101, mode: 0o644, path: b"/tmp/a" }),
        ("write", Request::Write { handle: 1, offset: 2, bytes: b"hello" }),
        ("setstat", Request::Setstat(b"/tmp/a", change)),
        ("rename", Request::Rename { replace: true, from: b"/a", to: b"/b" }),
        ("copy", Request::Copy { from: 1, offset: 0, length: 0, to: 2, at: 9 }),
    ];
    let mut seeds: Seeds = all
        .into_iter()
        .map(|(name, request)| {
            let mut frame = Vec::new();
            request.encode(7, &mut frame);
            (name, frame.split_off(files::HEADER - 1))
        })
        .collect();
    seeds.push(("tcp", b"\x01\x1f\x90\x00\x0alocalhost\x00".to_vec()));
    seeds.push(("unix", b"\x02\x00\x08/tmp/so\x00".to_vec()));
    seeds.push(("display", b"\x03\x00\x00\x00\x04\x00\xff\x41\x00".to_vec()));
    seeds
}

/// What process 1 says, each with its length: ready, listening, not listening, nonsense.
#[must_use]
pub fn init_events() -> Seeds {
    let ready = [2, 1, 3];
    let listening = [5, 5, 0, 1, 0x1f, 0x90];
    let refused = [7, 6, 0, 2, 0, 0, 0, 98];
    let exited = [7, 4, 0, 0, 0, 0, 0, 0];
    vec![
        ("listening", [&ready[..], &listening, &refused].concat()),
        ("out_of_turn", [&ready[..], &exited].concat()),
        ("twice", [ready, ready].concat()),
    ]
}

/// A name, and a name server's answer with an alias and an address.
#[must_use]
pub fn name_answers() -> Seeds {
    // Its length counts itself, and is a letter: the name is "!aaa…".
    let name = [&b"\x0c"[..], b"example.org"].concat();
    let header = [1, 2, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
    let question = b"\x07example\x03org\x00\x00\x01\x00\x01";
    let alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x0c";
    let address = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07";
    let message = [&header[..], question, alias, address].concat();
    vec![("address", [name, message].concat())]
}

/// A segment of events.
#[must_use]
pub fn spool() -> Seeds {
    let event = |seq, what| {
        let event = relay::Sequenced { session: session(), epoch: 1, seq, at: NOW, event: what };
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        line
    };
    let cut = relay::Event::Cut { what: relay::Held::LongLine, bytes: 7 };
    let started = relay::Event::Started { agent: Some("fake 1.0".to_owned()), recovery: None };
    let resized = relay::Event::Resized { cols: 80, rows: 24 };
    let whole = [event(1, started), event(2, cut), event(3, resized.clone())].concat();
    let torn = [&whole[..], &event(4, resized)[..20]].concat();
    vec![("whole", whole), ("torn", torn)]
}
