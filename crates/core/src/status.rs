//! Where a session stands between its start and its end.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is admitted, and its first program has not started yet.
    Starting,
    /// A program runs.
    Running,
    /// Its agent waits for a person.
    Waiting,
    /// It runs on without its person, or its runner is out of reach.
    Disconnected,
    /// Its end has begun; its process tree is not gone yet.
    Ending,
    /// It is over.
    Ended,
    /// It is over and never was as it should have been.
    Failed,
}

impl Status {
    /// Every status there is.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::Waiting,
        Self::Disconnected,
        Self::Ending,
        Self::Ended,
        Self::Failed,
    ];

    /// The name in JSON, tables and the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Disconnected => "disconnected",
            Self::Ending => "ending",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing follows it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Failed)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no status {0:?}; there are starting, running, waiting, disconnected, ending, ended \
     and failed"
)]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(name: &str) -> Result<Self, UnknownStatus> {
        let found = Self::ALL.into_iter().find(|status| status.name() == name);
        found.ok_or_else(|| UnknownStatus(name.to_owned()))
    }
}
