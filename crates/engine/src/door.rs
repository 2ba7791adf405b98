//! What a door sees of the engine: a stay to ask for, a session, its channels.
//!
//! A door authenticates somebody, asks for a [`Stay`], and gets a [`Session`] whose channels carry
//! bytes. It knows nothing of sandboxes, shims or the store.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use sojourn_core::audit::Actor;
use sojourn_core::end::Exit;
use sojourn_core::limits::Lower;
use sojourn_core::time::Wall;
use sojourn_core::wire::Text;
use sojourn_core::wire::runner::About;
use sojourn_core::wire::runner::Attempt;
use sojourn_core::wire::runner::MAX_ATTEMPTS;
use sojourn_core::wire::runner::WEB_DOOR;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::Stream;

use sojourn_store::OnRunner;

use crate::honeypot::Visitor;
use crate::identity::Principal;
use crate::profiles::DEFAULT;

/// How many profiles a refusal names.
const MOST_NAMED: usize = 20;

/// Bytes from elsewhere, safe to be shown and put on record, at most `most` characters long.
#[must_use]
pub fn shown(bytes: &[u8], most: usize) -> String {
    sojourn_term::escape::escape_bytes(bytes, most)
}

/// The door somebody came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The SSH door.
    Ssh,
    /// The web door.
    Web,
}

impl Door {
    /// Its name in JSON, the store and the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Web => WEB_DOOR,
        }
    }
}

/// Who asks for a session, as the gate has let them in.
#[derive(Clone, Debug)]
pub enum Who {
    /// Somebody with an account.
    User(Principal),
    /// Somebody at a honeypot: a member of nothing, whose session is nobody's.
    Visitor(Visitor),
    /// Root, or the gateway's user, on the gateway's own machine; the session is nobody's.
    Local,
}

impl Who {
    /// The account's name, or the one that was given at a honeypot.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::User(principal) => &principal.name,
            Self::Visitor(visitor) => &visitor.name,
            Self::Local => "root",
        }
    }

    /// The account, where there is one.
    #[must_use]
    pub const fn user(&self) -> Option<&Principal> {
        match self {
            Self::User(principal) => Some(principal),
            Self::Visitor(_) | Self::Local => None,
        }
    }
}

/// A session somebody asks for.
#[derive(Clone, Debug)]
pub struct Stay {
    /// Who.
    pub who: Who,
    /// By which door.
    pub door: Door,
    /// From where.
    pub peer: SocketAddr,
    /// The client's version string, as it sent it.
    pub client: String,
    /// The HASSH of an SSH client.
    pub hassh: Option<String>,
    /// The profile's name; none is the default one.
    pub profile: Option<String>,
    /// Limits lower than the profile's.
    pub lower: Lower,
    /// The reason they give.
    pub why: Option<String>,
    /// How they signed in, refused attempts too.
    pub attempts: Vec<Attempt>,
    /// When the connection was made.
    pub connected_at: Wall,
    /// What only the web door knows of it.
    pub web: Option<FromWeb>,
    /// On which runner, where it is not the built-in one. The engine finds it.
    pub on: Option<OnRunner>,
}

/// How somebody asks at the web door.
#[derive(Clone, Debug)]
pub struct FromWeb {
    /// Who it is, for the record.
    pub actor: Actor,
    /// The token it is asked by, as people name it.
    pub token: Option<String>,
    /// Words to put on the session.
    pub labels: BTreeMap<String, String>,
    /// Where it begins.
    pub cwd: Option<String>,
}

impl Stay {
    /// The door, as sessions are counted: honeypots apart.
    pub(crate) fn counted_door(&self) -> &'static str {
        if self.who.user().is_none() { "honeypot" } else { self.door.name() }
    }

    /// Who it is for, as recording and sidecar tell it.
    pub(crate) fn about(&self) -> About {
        let is_visitor = matches!(self.who, Who::Visitor(_));
        let left_out = self.attempts.len().saturating_sub(MAX_ATTEMPTS);
        let attempt = |attempt: &Attempt| Attempt {
            // Whatever a door says: a password goes on record at a honeypot only.
            password: attempt.password.clone().filter(|_| is_visitor),
            ..attempt.clone()
        };
        About {
            user: self.who.user().map(|user| user.name.clone()).unwrap_or_default(),
            door: self.door.name().to_owned(),
            peer: self.peer.to_string(),
            client: self.client.chars().take(256).collect(),
            // The last ones: that is where it says how they came in.
            attempts: self.attempts.iter().skip(left_out).map(attempt).collect(),
            connected_at: self.connected_at,
            hassh: self.hassh.clone(),
        }
    }
}

/// A channel to start in a session.
#[derive(Clone, Debug)]
pub struct ChannelRequest {
    /// What is to run.
    pub program: Program,
    /// The terminal, if one was asked for.
    pub pty: Option<Pty>,
    /// The environment as the client sent it; the profile's allow-list is applied here.
    pub env: Vec<(Text, Text)>,
    /// What the door itself adds to it.
    pub own_env: Vec<(Text, Text)>,
}

impl ChannelRequest {
    /// A program without a terminal and without an environment of its own.
    #[must_use]
    pub const fn new(program: Program) -> Self {
        Self { program, pty: None, env: Vec::new(), own_env: Vec::new() }
    }
}

/// What comes out of a channel, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// Bytes of one of its streams.
    Output(Stream, Bytes),
    /// A stream has ended.
    Eof(Stream),
    /// A line for the person: on a terminal between CR LF, else on standard error.
    Notice(String),
    /// The program takes no more input.
    InputClosed,
    /// Somebody else has the channel now; this is the last thing it says here. Nothing follows.
    TakenOver(Cut),
    /// The program ended. Nothing follows.
    Exit(Exit),
}

/// The session was ended, and not by its program: this is the last thing its channels say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The line for the person.
    pub message: String,
    /// The exit status.
    pub status: u32,
}

/// A file that a honeypot's visitor's upload is kept in.
#[derive(Debug)]
pub struct Evidence {
    /// To append to.
    pub file: std::fs::File,
    /// Its name, for the record.
    pub name: String,
    /// The most bytes it may get.
    pub most: u64,
}

/// A user's sessions that wait for them, for a refusal to name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// The user's name.
    pub user: String,
    /// The sessions, by the endings of their ids.
    pub endings: Vec<String>,
}

impl fmt::Display for Detached {
    /// How they are come back to, or nothing when there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.endings.first() else { return Ok(()) };
        let (user, all) = (&self.user, self.endings.join(", "));
        write!(
            f,
            ". Detached: {all}; come back with \"ssh -t {user}+@{first}@...\" and leave with \"exit\""
        )
    }
}

/// Why a session or a channel is refused. Each is one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No more sessions fit on the gateway.
    #[error(
        "the gateway is full ({active} of {max} sessions); try again later, or end one with \
         \"sojourn session end\"{detached}"
    )]
    GatewayFull {
        /// Sessions now.
        active: usize,
        /// The limit.
        max: usize,
        /// Those of the user that wait for them.
        detached: Detached,
    },
    /// The user has as many sessions as one may have.
    #[error("you have {active} of {max} sessions open; end one and try again{detached}")]
    UserFull {
        /// Sessions now.
        active: usize,
        /// The limit.
        max: usize,
        /// Those of them that wait for the user.
        detached: Detached,
    },
    /// The honeypot has as many sessions as it may have.
    #[error("this honeypot has its {max} sessions, which is the most it may have")]
    PotFull {
        /// The limit.
        max: usize,
    },
    /// No session, or more than one, is what somebody wants to come back to. The line lists theirs.
    #[error("{0}")]
    NoSession(String),
    /// The terminal was taken over while somebody came back to it.
    #[error("{0}")]
    TakenOver(String),
    /// No such profile, or not for this user: the answer is the same.
    #[error("there is no profile {name:?} for you{}", those(there))]
    UnknownProfile {
        /// As it was asked for.
        name: String,
        /// Those there are for them.
        there: Vec<String>,
    },
    /// The account was closed, or its password changed, since they signed in; or its role is one that
    /// only looks on.
    #[error("your account does not let you start a session; if it should, sign in again")]
    Account,
    /// The profile wants a reason.
    #[error("this profile wants a reason: set SOJOURN_WHY (ssh -o SetEnv=SOJOURN_WHY=...)")]
    WhyRequired,
    /// No sandbox could be had.
    #[error("no sandbox could be had (stage: {stage}): {message}")]
    Sandbox {
        /// Where it failed.
        stage: &'static str,
        /// What went wrong.
        message: String,
    },
    /// The program could not be started.
    #[error("{0}")]
    Start(String),
    /// The audit log cannot be written, so nothing new begins.
    #[error("the audit log cannot be written, so no new session starts; tell the operator")]
    Audit,
    /// The store does not answer.
    #[error("the store does not answer, so no new session starts; tell the operator")]
    Store,
    /// The gateway is going down.
    #[error("the gateway is shutting down; try again in a moment")]
    ShuttingDown,
    /// The session is over or ending.
    #[error("the session is over")]
    Over,
    /// Agents run on somebody's own machine, and root at the local socket is nobody.
    #[error(
        "a runner is one user's, and only they start there; set SOJOURN_TOKEN to a token of theirs"
    )]
    NobodysRunner,
    /// No such runner, or it is not clear which is meant.
    #[error("{0}")]
    Runner(String),
    /// The runner is not there, or paused.
    #[error("{0}")]
    RunnerAway(String),
    /// The runner has as many sessions as it may have.
    #[error("{line}")]
    RunnerFull {
        /// The limit.
        max: usize,
        /// What to do.
        line: String,
    },
    /// The runner cannot run this.
    #[error("{0}")]
    Harness(String),
    /// A part of what is asked for cannot be: its name, and why.
    #[error("{1}")]
    Invalid(&'static str, String),
    /// The conversation cannot be taken up again.
    #[error("{0}")]
    Resume(String),
    /// It cannot be listened there, inside.
    #[error("{0}")]
    Listen(String),
    /// They may look on, and no more.
    #[error("you may look on at this session, and not type into it")]
    MayNotType,
    /// There is nothing to look at.
    #[error("the session has no terminal to look at")]
    NoTerminal,
    /// Too many look on.
    #[error("{0} people look on at this session, which is the most it may have")]
    Watchers(usize),
    /// Too many channels at the same time.
    #[error("this session has {0} channels open, which is the most it may have")]
    Channels(usize),
}

/// The profiles somebody may use, for a refusal to name; nothing when there are none.
fn those(there: &[String]) -> String {
    let more = if there.len() > MOST_NAMED { ", …" } else { "" };
    let named: Vec<&str> = there.iter().take(MOST_NAMED).map(String::as_str).collect();
    match named.is_empty() {
        true => String::new(),
        false => format!("; there is {}{more}", named.join(", ")),
    }
}

impl Refusal {
    /// Not even the default profile is there.
    pub(crate) fn no_default_profile() -> Self {
        Self::UnknownProfile { name: DEFAULT.to_owned(), there: Vec::new() }
    }

    /// A stable word for the audit log and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::GatewayFull { .. } => "max_concurrent_sessions",
            Self::UserFull { .. } => "max_sessions_per_user",
            Self::PotFull { .. } => "max_sessions",
            Self::NoSession(_) => "no_session",
            Self::TakenOver(_) => "taken_over",
            Self::UnknownProfile { .. } => "profile",
            Self::Account => "account",
            Self::WhyRequired => "why_required",
            Self::Sandbox { .. } => "sandbox",
            Self::Start(_) => "start",
            Self::Audit => "audit",
            Self::Store => "store",
            Self::ShuttingDown => "shutting_down",
            Self::Over => "over",
            Self::NobodysRunner | Self::Runner(_) => "runner",
            Self::RunnerAway(_) => "runner_unavailable",
            Self::RunnerFull { .. } => "max_sessions_per_runner",
            Self::Harness(_) => "harness",
            Self::Invalid(..) => "invalid",
            Self::Resume(_) => "resume",
            Self::Listen(_) => "listen",
            Self::Channels(_) => "channels",
            Self::MayNotType => "may_not_type",
            Self::NoTerminal => "no_terminal",
            Self::Watchers(_) => "max_watchers",
        }
    }
}
