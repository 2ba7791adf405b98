//! The limits a session's lease is made from, and how a person may lower them.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

/// What keeps a session from being idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleCounts {
    /// Input and output.
    #[default]
    Any,
    /// Input alone: a program that prints on and on does not keep a forgotten session open.
    Input,
}

/// Limits of one session. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From when the first program starts.
    pub max_runtime: Option<Duration>,
    /// Since something last happened.
    pub idle_timeout: Option<Duration>,
    /// What counts as something happening.
    pub idle_counts: IdleCounts,
    /// Bytes that PTYs or an agent print, over the whole session.
    pub max_output: Option<u64>,
    /// What an agent may spend over the whole session, in millionths of whatever it counts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<u64>,
    /// How long before a time limit the warning comes; zero: no warning.
    pub warn_before: Duration,
    /// How long programs have to end themselves after HUP and TERM.
    pub grace: Duration,
    /// How long a PTY session waits for its person to come back.
    pub detach_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_runtime: Some(Duration::from_secs(3600)),
            idle_timeout: Some(Duration::from_secs(1800)),
            idle_counts: IdleCounts::Any,
            max_output: Some(100 << 20),
            max_cost: None,
            warn_before: Duration::from_secs(60),
            grace: Duration::from_secs(10),
            detach_grace: Duration::from_secs(300),
        }
    }
}

/// What somebody asks for at the start of a session. It only ever lowers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lower {
    /// A shorter runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime: Option<Duration>,
    /// A shorter idle timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// Less output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// Less money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<u64>,
}

impl Limits {
    /// These limits, lowered by `wish`. A wish for more changes nothing.
    #[must_use]
    pub fn lowered(mut self, wish: &Lower) -> Self {
        self.max_runtime = least(self.max_runtime, wish.max_runtime);
        self.idle_timeout = least(self.idle_timeout, wish.idle_timeout);
        self.max_output = least(self.max_output, wish.max_output);
        self.max_cost = least(self.max_cost, wish.max_cost);
        self
    }
}

fn least<T: Ord>(limit: Option<T>, wish: Option<T>) -> Option<T> {
    match (limit, wish) {
        (Some(limit), Some(wish)) => Some(limit.min(wish)),
        (limit, wish) => limit.or(wish),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_only_lowers() {
        let limits = Limits { max_output: None, ..Limits::default() };
        let lowered = limits.lowered(&Lower {
            max_runtime: Some(Duration::from_secs(600)),
            idle_timeout: Some(Duration::from_secs(7200)),
            max_output: Some(1000),
            max_cost: Some(5),
        });
        assert_eq!(lowered.max_runtime, Some(Duration::from_secs(600)));
        assert_eq!(lowered.idle_timeout, Some(Duration::from_secs(1800)), "more is not granted");
        assert_eq!((lowered.max_output, lowered.max_cost), (Some(1000), Some(5)));
    }
}
