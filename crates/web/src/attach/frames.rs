//! The frames of an attach socket: what a browser may say, and what it is told.
//!
//! Text is JSON with a `type`. Binary from the browser is what was typed; binary to it is output, after
//! eight bytes that say how much the terminal had printed before.

use std::net::IpAddr;

use axum::extract::ws::Message;
use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::status::Status;
use sojourn_engine::presence::Present;
use sojourn_engine::view::LeaseView;
use utoipa::ToSchema;

use super::shapes::LimitShape;
use crate::shapes::EndReasonShape;
use crate::shapes::ExitShape;
use crate::shapes::LeaseShape;
use crate::shapes::StatusShape;

/// The longest message that a browser may send, in bytes.
pub(super) const LONGEST: usize = 128 << 10;

/// The largest side of a terminal, in characters.
const LARGEST_SIDE: u16 = 1000;

/// What a browser says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = TerminalSaid)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    /// The terminal has this size. Only whoever drives says it.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// Interrupt what runs in front.
    Interrupt {},
    /// End the session.
    End {
        /// What its people are told.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Give me the keyboard.
    TakeOver {},
    /// Are you there?
    Ping {},
    /// So much of the output has been shown. Whoever says it is sent only so much more than that.
    Seen {
        /// How much.
        seq: u64,
    },
    /// For an agent, which a terminal is not.
    UserMessage {},
    /// The same.
    MessageEdit {},
    /// The same.
    MessageCancel {},
    /// The same.
    PermissionResponse {},
    /// The same.
    QuestionResponse {},
}

/// Why a message is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It is no message of ours.
    #[error("not a message of this protocol")]
    Malformed,
    /// A terminal cannot have this size.
    #[error("a terminal has 1 to {LARGEST_SIDE} columns and rows")]
    Size,
    /// It is for an agent.
    #[error("this session is a terminal: type into it")]
    NoAgent,
}

impl Fault {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED",
            Self::Size | Self::NoAgent => "INVALID",
        }
    }
}

impl Said {
    /// Reads a message.
    pub(super) fn read(text: &str) -> Result<Self, Fault> {
        match serde_json::from_str(text).map_err(|_| Fault::Malformed)? {
            Self::Resize { cols, rows } if !(is_side(cols) && is_side(rows)) => Err(Fault::Size),
            Self::UserMessage {}
            | Self::MessageEdit {}
            | Self::MessageCancel {}
            | Self::PermissionResponse {}
            | Self::QuestionResponse {} => Err(Fault::NoAgent),
            said => Ok(said),
        }
    }
}

fn is_side(cells: u16) -> bool {
    (1..=LARGEST_SIDE).contains(&cells)
}

/// What a browser is told.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = TerminalTold)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Tell {
    /// How the session stands.
    Status {
        /// So.
        #[schema(value_type = StatusShape, inline = false)]
        status: Status,
    },
    /// The terminal's size, after somebody else changed it.
    Size {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// The screen when so much had been printed; output goes on from there.
    Snapshot {
        /// How much.
        seq: u64,
        /// Its columns.
        cols: u16,
        /// Its rows.
        rows: u16,
        /// Bytes that draw it.
        data: String,
    },
    /// Who types; nobody when both are null.
    Driver {
        /// Their name.
        #[schema(required)]
        user: Option<String>,
        /// Where they are.
        #[schema(required, value_type = Option<String>)]
        address: Option<IpAddr>,
        /// Whether it is this socket.
        you: bool,
    },
    /// Who is here, at the web door.
    Here {
        /// They.
        people: Vec<Neighbour>,
    },
    /// How the lease stands.
    #[schema(value_type = LeaseShape)]
    Lease(LeaseView),
    /// A limit comes near.
    LimitWarned {
        /// Which.
        #[schema(value_type = LimitShape, inline = false)]
        limit: Limit,
        /// What is left.
        seconds: u64,
    },
    /// A limit was reached.
    LimitExceeded {
        /// Which.
        #[schema(value_type = LimitShape, inline = false)]
        limit: Limit,
        /// What it was set to: seconds or bytes.
        configured: u64,
        /// The line about it.
        message: String,
    },
    /// The runner it is on is out of reach.
    RunnerDisconnected,
    /// It is there again.
    RunnerReconnected,
    /// The login ends soon.
    LoginExpiring {
        /// In so long.
        seconds: u64,
    },
    /// The login has ended.
    LoginEnded {
        /// By what.
        reason: &'static str,
    },
    /// The session is over.
    Ended {
        /// Why.
        #[schema(value_type = EndReasonShape, inline = false)]
        reason: EndReason,
        /// How its program ended, if it did by itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<ExitShape>)]
        exit: Option<Exit>,
    },
    /// Something that was said cannot be done.
    Error {
        /// For programs.
        code: &'static str,
        /// For people.
        message: String,
    },
    /// We are.
    Pong,
}

/// Somebody who is at the same session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Neighbour {
    /// Their name.
    user: String,
    /// Whether they drive, and not only look on.
    drives: bool,
    /// Whether it is this socket.
    you: bool,
}

impl Tell {
    /// Who is here, to the one in this seat.
    pub(super) fn here(people: &[Present], seat: u64) -> Self {
        let neighbour = |one: &Present| Neighbour {
            user: one.user.clone(),
            drives: one.drives,
            you: one.seat == seat,
        };
        Self::Here { people: people.iter().map(neighbour).collect() }
    }

    /// As a frame.
    pub(super) fn message(&self) -> Message {
        // None of these has anything that JSON cannot say.
        Message::Text(serde_json::to_string(self).unwrap_or_default().into())
    }
}

/// A frame of output that was printed after `seq` bytes.
pub(super) fn output(seq: u64, parts: &[Bytes]) -> Message {
    let length: usize = parts.iter().map(Bytes::len).sum();
    let mut frame = Vec::with_capacity(size_of::<u64>() + length);
    frame.extend_from_slice(&seq.to_be_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    Message::Binary(frame.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_browser_says_is_read_strictly() {
        assert_eq!(
            Said::read(r#"{"type":"resize","cols":80,"rows":24}"#),
            Ok(Said::Resize { cols: 80, rows: 24 })
        );
        assert_eq!(Said::read(r#"{"type":"seen","seq":7}"#), Ok(Said::Seen { seq: 7 }));
        for kind in ["interrupt", "take_over", "ping", "end"] {
            assert!(Said::read(&format!(r#"{{"type":"{kind}"}}"#)).is_ok(), "{kind}");
        }
        for (text, fault) in [
            (r#"{"type":"resize","cols":0,"rows":24}"#, Fault::Size),
            (r#"{"type":"resize","cols":80,"rows":1001}"#, Fault::Size),
            (r#"{"type":"resize","cols":80}"#, Fault::Malformed),
            (r#"{"type":"resize","cols":"80","rows":24}"#, Fault::Malformed),
            (r#"{"type":"resize","cols":70000,"rows":24}"#, Fault::Malformed),
            (r#"{"type":"user_message","content":"hi"}"#, Fault::NoAgent),
            (r#"{"type":"permission_response"}"#, Fault::NoAgent),
            (r#"{"type":"exec"}"#, Fault::Malformed),
            (r#"{"type":null}"#, Fault::Malformed),
            ("{}", Fault::Malformed),
            ("[]", Fault::Malformed),
            ("ping", Fault::Malformed),
            ("", Fault::Malformed),
            (&"[".repeat(100_000), Fault::Malformed),
        ] {
            assert_eq!(Said::read(text), Err(fault), "{text:.60}");
        }
    }

    #[test]
    fn what_a_browser_is_told_has_the_shapes_of_the_contract() {
        let json = |tell: Tell| match tell.message() {
            Message::Text(text) => serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(json(Tell::Pong), serde_json::json!({"type": "pong"}));
        let ended = Tell::Ended { reason: EndReason::Exited, exit: Some(Exit::Code(7)) };
        assert_eq!(
            json(ended),
            serde_json::json!({"type": "ended", "reason": "exited", "exit": {"code": 7}})
        );
        let warned = Tell::LimitWarned { limit: Limit::MaxRuntime, seconds: 60 };
        assert_eq!(
            json(warned),
            serde_json::json!({"type": "limit_warned", "limit": "max_runtime", "seconds": 60})
        );
        let present = |seat, user: &str| Present { seat, user: user.to_owned(), drives: seat == 1 };
        assert_eq!(
            json(Tell::here(&[present(1, "ana"), present(4, "bo")], 4)),
            serde_json::json!({"type": "here", "people": [
                {"user": "ana", "drives": true, "you": false},
                {"user": "bo", "drives": false, "you": true},
            ]})
        );
        let lease = json(Tell::Lease(LeaseView::default()));
        assert_eq!((&lease["type"], &lease["output_bytes"]), (&"lease".into(), &0.into()));
        let frame = output(0x0102, &[Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        assert_eq!(frame, Message::Binary(Bytes::from_static(b"\0\0\0\0\0\0\x01\x02abc")));
    }

    proptest! {
        #[test]
        fn any_text_is_answered_without_a_panic(text in ".{0,300}") {
            let _ = Said::read(&text);
        }

        #[test]
        fn any_json_is_answered_without_a_panic(
            kind in prop::sample::select(vec!["resize", "end", "ping", "user_message", "x"]),
            (cols, rows) in (any::<i64>(), any::<f64>()),
            reason in ".{0,40}",
        ) {
            let said = serde_json::json!(
                {"type": kind, "cols": cols, "rows": rows, "reason": reason}
            );
            let _ = Said::read(&said.to_string());
        }
    }
}
