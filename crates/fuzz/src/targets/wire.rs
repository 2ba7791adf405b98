//! The messages between our own processes and machines: what is read is written as it was.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sojourn_core::fuzz::pieces;
use sojourn_core::wire::files::Answer;
use sojourn_core::wire::files::Fields;
use sojourn_core::wire::files::MAX_FRAME;
use sojourn_core::wire::relay;
use sojourn_core::wire::runner;
use sojourn_core::wire::runner::Numbered;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::Greeting;
use sojourn_core::wire::shim::ToShim;
use sojourn_shim::control::Order;
use sojourn_shim::control::Report;
use sojourn_shim::state::State;

use super::steady;

/// The longest text that a shim writes to say why something failed.
const LONGEST_WHY: usize = 4096;

/// Text frames of a runner on another machine.
pub fn relay_from_runner(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(message) = relay::FromRunner::decode(text) else { return };
    let again = relay::FromRunner::decode(&message.encode()).expect("what was read can be sent");
    assert_eq!(steady(&again), steady(&message));
}

/// Text frames for one.
pub fn relay_to_runner(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(message) = relay::ToRunner::decode(text) else { return };
    let again = relay::ToRunner::decode(&message.encode()).expect("what was read can be sent");
    assert_eq!(steady(&again), steady(&message));
}

/// Binary frames, either way.
pub fn relay_bytes(data: &[u8]) {
    if let Ok(frame) = relay::Bytes::decode(data) {
        assert_eq!(frame.encode(), data);
    }
}

/// Frames between gateway and shim, either way; no frame is one of both.
pub fn shim_frames(data: &[u8]) {
    let mut written = Vec::new();
    let to = ToShim::decode(data);
    if let Ok(frame) = &to {
        frame.encode(&mut written);
        assert_eq!(ToShim::decode(&written).as_ref(), Ok(frame));
    }
    let from = FromShim::decode(data);
    assert!(to.is_err() || from.is_err());
    match &from {
        Ok(FromShim::StartFailed(_, why) | FromShim::ListenFailed(_, why))
            if why.len() > LONGEST_WHY => {}
        Ok(frame) => {
            frame.encode(&mut written);
            assert_eq!(FromShim::decode(&written).as_ref(), Ok(frame));
        }
        Err(_) => {}
    }
    if let Ok(Greeting::Open { peer: Some((address, port)) }) = Greeting::parse(data) {
        let line = format!("ok {address} {port}");
        assert!(Greeting::parse(line.as_bytes()).is_ok());
    }
}

fn round_trip<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(message) = runner::decode::<T>(data) else { return };
    let Ok(written) = runner::encode(&message) else { return };
    let again = runner::decode::<T>(&written).expect("what was read can be sent");
    assert_eq!(steady(&again), steady(&message));
}

/// Messages between gateway and the built-in runner.
pub fn runner_messages(data: &[u8]) {
    round_trip::<Numbered<runner::Request>>(data);
    round_trip::<runner::FromRunner>(data);
}

/// Messages between runner and shim, and the file that tells of a session.
pub fn shim_control(data: &[u8]) {
    round_trip::<Order>(data);
    round_trip::<Report>(data);
    round_trip::<State>(data);
}

/// What the file helper in a sandbox answers: taken when it is whole, the same in any pieces.
pub fn helper_answers(data: &[u8]) {
    let mut whole = Vec::new();
    let mut rest = data;
    let went_well = loop {
        match Answer::decode(rest) {
            Ok(Some((answer, length))) => {
                for end in 0..length.min(64) {
                    assert_eq!(Answer::decode(&rest[..end]), Ok(None), "cut at {end}");
                }
                whole.push((answer.id, answer.result.map(<[u8]>::to_vec)));
                rest = &rest[length..];
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let mut buffer = Vec::new();
    let mut answers = Vec::new();
    let mut goes_on = true;
    for piece in pieces(data) {
        buffer.extend_from_slice(piece);
        while goes_on {
            match Answer::decode(&buffer) {
                Ok(Some((answer, length))) => {
                    answers.push((answer.id, answer.result.map(<[u8]>::to_vec)));
                    buffer.drain(..length);
                }
                Ok(None) => break,
                Err(_) => goes_on = false,
            }
        }
        assert!(!goes_on || buffer.len() <= MAX_FRAME + 4, "more is kept than a frame");
    }
    assert_eq!((&answers, goes_on), (&whole, went_well));
    for (_, result) in whole {
        let payload = result.unwrap_or_default();
        let mut fields = Fields(&payload);
        // A list of a directory, as SFTP reads it.
        while let Ok(name) = fields.string() {
            assert!(name.len() < payload.len());
            if fields.attributes().is_err() {
                break;
            }
        }
    }
}
