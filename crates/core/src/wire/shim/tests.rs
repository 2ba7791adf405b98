//! Every frame comes back as it went, and no bytes are too odd.

use proptest::prelude::*;

use super::*;

#[test]
fn frames_come_back_as_they_went() {
    let spec = ChannelSpec {
        program: Program::Exec(Text(b"echo \xff".to_vec())),
        pty: Some(Pty {
            term: "xterm".into(),
            size: WindowSize { cols: 101, rows: 33, width: 0, height: 0 },
            modes: vec![(53, 1)],
        }),
        env: vec![("LANG".into(), "C.UTF-8".into())],
        credit: OUTPUT_WINDOW,
    };
    let mut buf = Vec::new();
    for frame in [
        ToShim::Hello { version: 1 },
        ToShim::Start(7, Box::new(spec)),
        ToShim::Input(7, b"\x00\xff"),
        ToShim::InputEof(7),
        ToShim::Credit(7, 1 << 20),
        ToShim::Resize(7, WindowSize { cols: 1, rows: 2, width: 3, height: 4 }),
        ToShim::Signal(7, "TERM".to_owned()),
        ToShim::Close(7),
        ToShim::MoveDeadline(Duration::from_millis(1500)),
        ToShim::End(EndRequest { reason: EndReason::EndedBy }),
        ToShim::Query,
        ToShim::Listen(1, Endpoint::Tcp { host: "localhost".into(), port: 0 }),
        ToShim::Listen(2, Endpoint::Display(Cookie::parse("00ff41").unwrap())),
        ToShim::Unlisten(1),
        ToShim::Attach(7, OUTPUT_WINDOW),
        ToShim::Detach(7),
        ToShim::Locate(7),
    ] {
        frame.encode(&mut buf);
        assert_eq!(ToShim::decode(&buf).unwrap(), frame);
        assert!(FromShim::decode(&buf).is_err(), "{frame:?} is not a shim's to send");
    }
    for frame in [
        FromShim::Started(7),
        FromShim::StartFailed(7, "no such file".to_owned()),
        FromShim::Output(7, Stream::Out, b"x"),
        FromShim::Output(7, Stream::Err, b"y"),
        FromShim::OutputEof(7, Stream::Err),
        FromShim::InputCredit(7, 1),
        FromShim::InputClosed(7),
        FromShim::Exit(7, Exit::Signal("TERM".to_owned())),
        FromShim::Warned { limit: Limit::IdleTimeout, left: Duration::from_secs(60) },
        FromShim::Expired { reason: EndReason::MaxOutput, reached: 9, configured: 8 },
        FromShim::Listening(1, 8080),
        FromShim::ListenFailed(1, "in use".to_owned()),
        FromShim::Attached(
            7,
            Box::new(Attached {
                file: "2026/11/22/x.cast".to_owned(),
                offset: 4711,
                size: WindowSize::default(),
                printed: 815,
            }),
        ),
        FromShim::NotAttached(7),
        FromShim::Located(7, None),
    ] {
        frame.encode(&mut buf);
        assert_eq!(FromShim::decode(&buf).unwrap(), frame);
    }
}

#[test]
fn a_cookie_is_pairs_of_digits_and_never_shown() {
    let cookie = Cookie::parse("00ffAB").unwrap();
    assert_eq!(cookie.as_bytes(), [0, 255, 0xab]);
    assert_eq!(format!("{:?}", Endpoint::Display(cookie)), "Display(Cookie)");
    assert!(Cookie::parse(&"0f".repeat(Cookie::LONGEST)).is_some());
    for bad in ["", "0", "0g", "0x00", " 00", "é0", "00\0", &"00".repeat(Cookie::LONGEST + 1)] {
        assert_eq!(Cookie::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn a_greeting_is_one_short_line() {
    let peer = Some(("127.0.0.1".to_owned(), 40_000));
    assert_eq!(Greeting::parse(b"ok").unwrap(), Greeting::Open { peer: None });
    assert_eq!(Greeting::parse(b"ok 127.0.0.1 40000").unwrap(), Greeting::Open { peer });
    let refused = Greeting::Failed("connection refused".to_owned());
    assert_eq!(Greeting::parse(b"error connection refused").unwrap(), refused);
    for bad in [&b""[..], b"okay", b"ok x", b"ok x y", b"ok a 1 b", b"\xff", &[b'o'; 300]] {
        assert!(Greeting::parse(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ToShim::decode(&bytes);
        let _ = FromShim::decode(&bytes);
    }
}
