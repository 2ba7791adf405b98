//! The labels of the numbers. Each takes few values: nothing that a stranger chooses is one.

use prometheus_client::encoding::EncodeLabelSet;

/// Harnesses that have a series of their own.
pub(crate) const HARNESSES: [&str; 5] = ["shell", "claude", "codex", "gemini", "opencode"];

/// What all others, and whatever else is unknown, are counted as.
pub(crate) const OTHER: &str = "other";

/// The label values of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Stay {
    pub(crate) door: &'static str,
    pub(crate) harness: &'static str,
}

impl Stay {
    pub(crate) fn new(door: &str, harness: &str) -> Self {
        Self {
            door: one_of(door, &["ssh", "web", "honeypot"]),
            harness: one_of(harness, &HARNESSES),
        }
    }
}

/// The word itself, where it is a known one.
pub(crate) fn one_of(word: &str, known: &[&'static str]) -> &'static str {
    known.iter().find(|known| **known == word).copied().unwrap_or(OTHER)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StayState {
    pub(crate) state: &'static str,
    pub(crate) door: &'static str,
    pub(crate) harness: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StayEnd {
    pub(crate) reason: &'static str,
    pub(crate) door: &'static str,
    pub(crate) harness: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Prompt {
    pub(crate) start: &'static str,
    pub(crate) door: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Limit {
    pub(crate) limit: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Refused {
    pub(crate) door: &'static str,
    pub(crate) code: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Holder {
    pub(crate) holder: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Attempt {
    pub(crate) method: &'static str,
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Action {
    pub(crate) action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Pool {
    pub(crate) profile: String,
    pub(crate) state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Profile {
    pub(crate) profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Taken {
    pub(crate) profile: String,
    pub(crate) start: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Queue {
    pub(crate) queue: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Answer {
    pub(crate) route: &'static str,
    pub(crate) method: &'static str,
    pub(crate) status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Route {
    pub(crate) route: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Build {
    pub(crate) version: &'static str,
}
