//! What a remote runner is told at its start.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::limits::Lower;
use sojourn_core::wire::relay::DEAD_SECONDS;
use sojourn_core::wire::relay::PING_SECONDS;

use super::address::Address;
use super::clock::Clock;
use crate::process::Warden;

/// A runner's configuration.
#[derive(Clone)]
pub struct Options {
    /// Where its gateway is.
    pub gateway: Address,
    /// What shows the gateway which runner it is.
    pub token: Token,
    /// What its user calls it.
    pub name: String,
    /// Where it keeps what has to outlive it.
    pub state_dir: PathBuf,
    /// The home directory, for `~`.
    pub home: PathBuf,
    /// Directories in which sessions may work, as they were written.
    pub allow: Vec<String>,
    /// What it can run, by name.
    pub harnesses: BTreeMap<String, Harness>,
    /// The environment programs get a part of.
    pub environment: Vec<(String, String)>,
    /// Which variables of it they get beside the usual ones; `*` stands for any letters.
    pub pass_env: Vec<String>,
    /// What the desktop is told of a session that was started from elsewhere.
    pub notify: Notify,
    /// Its own limits: what a gateway asks for never exceeds them.
    pub limits: Lower,
    /// The most bytes of a session that wait for the gateway.
    pub spool: u64,
    /// How the process beside each session is started.
    pub warden: Warden,
    /// The profiles that a shell may ask for.
    pub chambers: Chambers,
    /// The build, as the gateway is told.
    pub build: String,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// The pace of its connection.
    pub pace: Pace,
}

/// Where a shell may run that asks for a profile.
#[derive(Clone, Debug)]
pub struct Chambers {
    /// What each profile is here, by its name.
    pub profiles: BTreeMap<String, Isolation>,
    /// How the process is started that makes a sandbox: it comes to [`crate::chamber::run`].
    pub maker: Warden,
}

/// What keeps a shell apart from the machine it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: it is the user's own, as without a profile.
    None,
    /// A sandbox.
    Sandbox,
    /// A sandbox that cannot be made here, and why.
    Missing(String),
}

/// How patient a connection is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often the gateway is asked whether it is there.
    pub ping: Duration,
    /// How long nothing at all may be heard of it.
    pub dead: Duration,
    /// The pause before the second try to reach it; each further one is twice as long, up to thirty
    /// times this.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(PING_SECONDS),
            dead: Duration::from_secs(DEAD_SECONDS),
            pause: Duration::from_secs(1),
        }
    }
}

/// What a desktop is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// Nothing.
    Off,
    /// Who, from where, and in which directory.
    Start,
    /// And how the first message begins.
    Prompt,
}

/// A secret that is in no log.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes what stands in a token file; none when that is no token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let token = text.trim();
        let is_word = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        (is_word && token.len() <= 512).then(|| Self(token.to_owned()))
    }

    /// The secret.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Something a runner can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harness {
    /// How it is spoken to.
    pub kind: Kind,
    /// The program and its arguments; empty for a shell: the user's own.
    pub command: Vec<String>,
    /// Variables it gets in any case.
    pub env: BTreeMap<String, String>,
    /// The mode its agent is put in; none: what suits the session.
    pub mode: Option<String>,
    /// Whether its agent may be in a mode in which it asks nothing.
    pub allow_bypass: bool,
}

/// How a program is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A terminal.
    Terminal,
    /// The Agent Client Protocol on its standard input and output.
    Agent,
}
