//! How a session ends: why, with which status, and what the person is told.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::units::Size;
use crate::units::in_full_words;
use crate::units::in_words;

/// Why a session ended. The first reason wins; later ones are nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The last program came to its own end.
    Exited,
    /// The last program was ended by a signal that was not ours.
    Signalled,
    /// The client closed its channels, or its connection went away.
    Closed,
    /// The longest runtime was reached.
    MaxRuntime,
    /// Nothing happened for the idle timeout.
    IdleTimeout,
    /// More was printed than the output limit allows.
    MaxOutput,
    /// An agent spent as much as it may.
    MaxCost,
    /// A person ended it.
    EndedBy,
    /// The login, or the right to sign in, that it came through ended.
    LoginEnded,
    /// The runner, the shim or the sandbox was lost.
    RunnerLost,
    /// The gateway or the machine was shut down.
    Shutdown,
    /// It could not be started, or not be recorded.
    Failed,
}

impl EndReason {
    /// The name in JSON, the audit log and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signalled => "signalled",
            Self::Closed => "closed",
            Self::MaxRuntime => "max_runtime",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxOutput => "max_output",
            Self::MaxCost => "max_cost",
            Self::EndedBy => "ended_by",
            Self::LoginEnded => "login_ended",
            Self::RunnerLost => "runner_lost",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
        }
    }

    /// Reads the name in JSON.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }

    /// The exit status a client gets that was cut off for this reason; none where the program's own
    /// end decides.
    #[must_use]
    pub const fn exit_status(self) -> Option<u32> {
        match self {
            Self::Exited | Self::Signalled | Self::Closed => None,
            Self::MaxRuntime | Self::IdleTimeout | Self::MaxOutput | Self::MaxCost => {
                Some(EXIT_LIMIT)
            }
            Self::EndedBy | Self::LoginEnded | Self::RunnerLost | Self::Shutdown => {
                Some(EXIT_ENDED)
            }
            Self::Failed => Some(EXIT_REFUSED),
        }
    }
}

/// Exit status after a limit, as `timeout(1)` gives it.
pub const EXIT_LIMIT: u32 = 124;
/// Exit status after somebody or something ended the session: 128 + SIGTERM.
pub const EXIT_ENDED: u32 = 143;
/// Exit status when a session was refused for now: `EX_TEMPFAIL`.
pub const EXIT_REFUSED: u32 = 75;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this exit status.
    Code(u32),
    /// By this signal, named without `SIG` as in RFC 4254 section 6.10.
    Signal(String),
}

/// A limit of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// How long a session may run.
    MaxRuntime,
    /// How long it may do nothing.
    IdleTimeout,
    /// How much it may print.
    MaxOutput,
    /// What an agent may spend.
    MaxCost,
}

impl Limit {
    /// The reason a session ends for when this limit is reached.
    #[must_use]
    pub const fn reason(self) -> EndReason {
        match self {
            Self::MaxRuntime => EndReason::MaxRuntime,
            Self::IdleTimeout => EndReason::IdleTimeout,
            Self::MaxOutput => EndReason::MaxOutput,
            Self::MaxCost => EndReason::MaxCost,
        }
    }

    /// The limit behind a reason, if one is.
    #[must_use]
    pub const fn of(reason: EndReason) -> Option<Self> {
        match reason {
            EndReason::MaxRuntime => Some(Self::MaxRuntime),
            EndReason::IdleTimeout => Some(Self::IdleTimeout),
            EndReason::MaxOutput => Some(Self::MaxOutput),
            EndReason::MaxCost => Some(Self::MaxCost),
            _ => None,
        }
    }
}

/// What is left, in the seconds that everybody is told: rounded up, for nobody should be told less than
/// what is left, nor "0 s".
#[must_use]
pub fn seconds_left(left: Duration) -> u64 {
    (left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(1)
}

/// The line a person in a terminal reads beforehand.
#[must_use]
pub fn warning(left: Duration) -> String {
    format!("Session ends in {} s", seconds_left(left))
}

/// The line a person in a terminal reads when a limit ended the session. `configured` is in seconds
/// or bytes, as the limit counts.
#[must_use]
pub fn limit_message(limit: Limit, configured: Configured) -> String {
    match (limit, configured) {
        (Limit::IdleTimeout, Configured::Time(idle)) => {
            format!("Session idle timeout ({}) - connection closed", in_words(idle))
        }
        (Limit::MaxOutput, Configured::Bytes(size)) => {
            format!("Session output limit ({}) reached - connection closed", size.in_words())
        }
        _ => "Session timeout - connection closed".to_owned(),
    }
}

/// The line a person reads when a limit ended an agent's session.
#[must_use]
pub fn agent_limit_message(limit: Limit, configured: Configured) -> String {
    let words = match configured {
        Configured::Time(time) => in_full_words(time),
        Configured::Bytes(size) => size.in_words(),
        Configured::Cost(micros) => money(micros),
    };
    match limit {
        Limit::MaxRuntime => format!("Session ended: maximum runtime exceeded ({words})"),
        Limit::MaxOutput => format!("Session ended: maximum output size exceeded ({words})"),
        Limit::IdleTimeout => format!("Session ended due to inactivity ({words})"),
        Limit::MaxCost => format!("Session ended: maximum cost exceeded ({words})"),
    }
}

/// An amount in millionths, in full and hundredths, and further where there is more to it.
#[must_use]
pub fn money(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let rest = format!("{rest:06}");
    let digits = rest.trim_end_matches('0').len().max(2);
    format!("{whole}.{}", rest.get(..digits).unwrap_or_default())
}

/// What a limit was set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configured {
    /// A time.
    Time(Duration),
    /// A number of bytes.
    Bytes(Size),
    /// An amount of money, in millionths of whatever the agent counts in.
    Cost(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_contract() {
        let half_an_hour = Configured::Time(Duration::from_secs(1800));
        assert_eq!(
            limit_message(Limit::MaxRuntime, half_an_hour),
            "Session timeout - connection closed"
        );
        assert_eq!(
            limit_message(Limit::IdleTimeout, half_an_hour),
            "Session idle timeout (30 min) - connection closed"
        );
        assert_eq!(
            limit_message(Limit::MaxOutput, Configured::Bytes(Size::mib(100))),
            "Session output limit (100 MB) reached - connection closed"
        );
        let agent = [
            agent_limit_message(Limit::MaxRuntime, Configured::Time(Duration::from_secs(4 * 3600))),
            agent_limit_message(Limit::MaxOutput, Configured::Bytes(Size::mib(100))),
            agent_limit_message(Limit::IdleTimeout, half_an_hour),
        ];
        assert_eq!(
            agent,
            [
                "Session ended: maximum runtime exceeded (4 hours)",
                "Session ended: maximum output size exceeded (100 MB)",
                "Session ended due to inactivity (30 minutes)",
            ]
        );
        for (micros, words) in [(5_000_000, "5.00"), (12_500, "0.0125"), (1_230_000, "1.23")] {
            assert_eq!(
                agent_limit_message(Limit::MaxCost, Configured::Cost(micros)),
                format!("Session ended: maximum cost exceeded ({words})")
            );
        }
        assert_eq!(warning(Duration::from_secs(60)), "Session ends in 60 s");
        assert_eq!(warning(Duration::from_millis(2500)), "Session ends in 3 s");
        assert_eq!(warning(Duration::ZERO), "Session ends in 1 s");
    }

    #[test]
    fn reasons_keep_their_names() {
        for reason in [EndReason::Exited, EndReason::MaxRuntime, EndReason::LoginEnded] {
            assert_eq!(EndReason::from_name(reason.name()), Some(reason));
        }
        assert_eq!(EndReason::from_name("bored"), None);
    }
}
