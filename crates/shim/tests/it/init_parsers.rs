//! What `init` reads, compiled once more for this side: it holds against anything, and agrees with
//! those who write it.

#[expect(dead_code, reason = "how long an answer may be is for whoever receives it")]
#[path = "../../init/dns.rs"]
mod dns;
#[expect(dead_code, reason = "the rest is for messages of the shim")]
#[path = "../../init/input.rs"]
mod input;
#[path = "../../init/request.rs"]
mod request;

use std::net::IpAddr;

use proptest::prelude::*;
use sojourn_core::wire::files;

use dns::Kind;
use dns::Question;
use request::Request;

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..50);
    let change = (
        any::<Option<u64>>(),
        any::<Option<u32>>(),
        any::<Option<(u32, u32)>>(),
        any::<Option<(u64, u64)>>(),
    );
    let numbers = (1..=22_u8, any::<u32>(), any::<u32>(), any::<u64>());
    (numbers, bytes(), bytes(), change).prop_map(|((kind, a, b, c), one, other, change)| {
        let (size, mode, owner, times) = change;
        let change = files::Change { size, mode, owner, times };
        let (one, other) = (&one[..], &other[..]);
        let request = match kind {
            1 => files::Request::Open { flags: a, mode: b, path: one },
            2 => files::Request::Close(a),
            3 => files::Request::Read { handle: a, offset: c, length: b },
            4 => files::Request::Write { handle: a, offset: c, bytes: one },
            5 => files::Request::Stat(one),
            6 => files::Request::Lstat(one),
            7 => files::Request::Fstat(a),
            8 => files::Request::Setstat(one, change),
            9 => files::Request::Fsetstat(a, change),
            10 => files::Request::Opendir(one),
            11 => files::Request::Readdir(a),
            12 => files::Request::Remove(one),
            13 => files::Request::Mkdir { mode: a, path: one },
            14 => files::Request::Rmdir(one),
            15 => files::Request::Rename { replace: a % 2 == 0, from: one, to: other },
            16 => files::Request::Readlink(one),
            17 => files::Request::Symlink { target: one, path: other },
            18 => files::Request::Link { from: one, to: other },
            19 => files::Request::Realpath(one),
            20 => files::Request::Statvfs(one),
            21 => files::Request::Fsync(a),
            _ => files::Request::Copy { from: a, offset: c, length: !c, to: b, at: c / 3 },
        };
        let mut frame = Vec::new();
        request.encode(a, &mut frame);
        let (header, payload) = frame.split_at(files::HEADER);
        // Both name their parts alike.
        let read = Request::parse(header[8], payload).map(|read| format!("{read:?}"));
        assert_eq!(read, Some(format!("{request:?}")));
        frame
    })
}

proptest! {
    #[test]
    fn every_request_is_read_as_it_was_written(frame in any_request(), more in any::<u8>()) {
        let (header, payload) = frame.split_at(files::HEADER);
        let longer = [payload, &[more]].concat();
        prop_assert_eq!(Request::parse(header[8], &longer), None);
        if let Some((_, shorter)) = payload.split_last() {
            prop_assert_eq!(Request::parse(header[8], shorter), None);
        }
    }

    #[test]
    fn any_bytes_are_a_request_or_none(code: u8, payload in prop::collection::vec(any::<u8>(), 0..80)) {
        let read = Request::parse(code, &payload);
        prop_assert!(read.is_none() || (1..=22).contains(&code));
    }

    #[test]
    fn any_bytes_are_an_answer_or_none(
        tail in prop::collection::vec(any::<u8>(), 0..200),
        head in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let question = Question::new([1, 2], b"a.example", Kind::A).unwrap();
        let mut count = 0;
        question.addresses(&head, |_| count += 1);
        question.is_answered_by(&head);
        let mut message = question.as_bytes().to_vec();
        message[2] = 0x81;
        message[3] = 0x80;
        message[7] = 200;
        message.extend(&tail);
        prop_assert!(question.is_answered_by(&message));
        prop_assert!(question.addresses(&message, |_| count += 1));
        prop_assert!(count <= tail.len() / 15, "{} of {} bytes", count, tail.len());
    }
}

fn answered(question: &Question, flags: u16, counts: u16, records: &[u8]) -> Vec<u8> {
    let mut message = question.as_bytes().to_vec();
    message[2..4].copy_from_slice(&flags.to_be_bytes());
    message[6..8].copy_from_slice(&counts.to_be_bytes());
    message.extend(records);
    message
}

fn addresses(question: &Question, message: &[u8]) -> Option<Vec<IpAddr>> {
    let mut found = Vec::new();
    question.addresses(message, |address| found.push(address)).then_some(found)
}

#[test]
fn a_question_is_asked_as_every_name_server_knows_it() {
    let question = Question::new([0xab, 0xcd], b"Db.example.", Kind::Aaaa).unwrap();
    let wanted = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x02Db\x07example\0\0\x1c\0\x01";
    assert_eq!(question.as_bytes(), wanted);
    let long = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(61)].join(".");
    assert!(Question::new([0; 2], long.as_bytes(), Kind::A).is_some());
    let (longer, label) = (format!("{long}w"), "x".repeat(64));
    for name in
        [&b""[..], b".", b"a..b", b".a", b"a b", b"a\0b", longer.as_bytes(), label.as_bytes()]
    {
        assert!(Question::new([0; 2], name, Kind::A).is_none(), "{name:?}");
    }
}

#[test]
fn the_addresses_of_an_answer_are_taken_past_aliases() {
    let question = Question::new([1, 2], b"db.example", Kind::A).unwrap();
    let records = [
        // An alias, by a pointer; an address of the alias; another's class; a wrong length.
        &b"\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x04\x01x\xc0\x0f"[..],
        b"\x01x\xc0\x0f\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\0\x01",
        b"\0\0\x01\0\x03\0\0\0\x09\0\x04\x0a\0\0\x02",
        b"\0\0\x01\0\x01\0\0\0\x09\0\x03\x0a\0\0",
        b"\0\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\0\x04",
    ]
    .concat();
    let found = addresses(&question, &answered(&question, 0x8180, 5, &records)).unwrap();
    assert_eq!(found, ["10.0.0.1", "10.0.0.4"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    let cut = addresses(&question, &answered(&question, 0x8380, 5, &records[..40])).unwrap();
    assert_eq!(cut.len(), 1, "as far as it is whole");
    assert_eq!(addresses(&question, &answered(&question, 0x8183, 0, b"")), Some(Vec::new()));
    for refused in [0x8182, 0x8185, 0x9180, 0x0100] {
        assert_eq!(addresses(&question, &answered(&question, refused, 5, &records)), None);
    }
    let mut shouted = answered(&question, 0x8180, 0, b"");
    shouted.make_ascii_uppercase();
    assert!(question.is_answered_by(&shouted));
    for (place, byte) in [(0, 9), (2, 1), (5, 2), (13, b'x'), (25, 28)] {
        let mut other = answered(&question, 0x8180, 0, b"");
        other[place] = byte;
        assert!(!question.is_answered_by(&other), "{place}");
    }
    assert!(!question.is_answered_by(&question.as_bytes()[..20]));
}
