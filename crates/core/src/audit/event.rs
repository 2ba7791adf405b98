//! An audit event: what happened, who did it, in which session.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::ids::EventId;
use crate::ids::SessionId;
use crate::time::Wall;

/// The longest text of an actor, in characters; what is longer is cut.
const LONGEST_TEXT: usize = 256;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What happened. The names are those of the audit log's lines.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Action {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Action {
            /// Every action there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in the audit log.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

actions! {
    /// A session's first program started.
    SessionStarted = "session_started",
    /// A session is over and its process tree gone: `{reason, exit, bytes, recording_sha256}`.
    SessionEnded = "session_ended",
    /// A session was asked for and not given.
    SessionRefused = "session_refused",
    /// A person came back to a detached session.
    SessionAttached = "session_attached",
    /// A session went on without its person.
    SessionDetached = "session_detached",
    /// Another person took the keyboard.
    SessionTakenOver = "session_taken_over",
    /// Somebody other than the owner looked on.
    SessionWatched = "session_watched",
    /// A session's deadline was moved.
    SessionExtended = "session_extended",
    /// An ended agent's conversation was taken up again.
    SessionResumed = "session_resumed",
    /// A message went to an agent: its length and SHA-256.
    InputSent = "input_sent",
    /// An agent was interrupted.
    InterruptSent = "interrupt_sent",
    /// An agent asked for permission.
    PermissionRequested = "permission_requested",
    /// A person allowed what an agent asked for.
    PermissionGranted = "permission_granted",
    /// A person refused what an agent asked for.
    PermissionDenied = "permission_denied",
    /// The warning before a limit was given.
    LimitWarned = "limit_warned",
    /// A limit was reached: `{limit, configured, reached}`.
    LimitExceeded = "limit_exceeded",
    /// A file went in or out of a sandbox.
    FileTransferred = "file_transferred",
    /// A forwarded connection was opened.
    ForwardOpened = "forward_opened",
    /// A forwarded connection was closed.
    ForwardClosed = "forward_closed",
    /// Somebody read a recording.
    RecordingRead = "recording_read",
    /// Somebody read what a sandbox left.
    FilesRead = "files_read",
    /// Many sessions were ended at once.
    KillSwitch = "kill_switch",
    /// A runner came.
    RunnerConnected = "runner_connected",
    /// A runner went.
    RunnerDisconnected = "runner_disconnected",
    /// Somebody tried to authenticate: `{method, user, outcome, fingerprint?}`.
    AuthAttempt = "auth_attempt",
    /// An account was made.
    UserAdded = "user_added",
    /// An account got another role.
    UserRoleChanged = "user_role_changed",
    /// An account was closed for now.
    UserDisabled = "user_disabled",
    /// A closed account was opened again.
    UserEnabled = "user_enabled",
    /// An account got another password.
    UserPasswordChanged = "user_password_changed",
    /// A one-time link for a new password was made.
    UserResetIssued = "user_reset_issued",
    /// A one-time link was used.
    UserResetUsed = "user_reset_used",
    /// An account got a second factor.
    UserTotpAdded = "user_totp_added",
    /// An account's second factor was taken away.
    UserTotpRemoved = "user_totp_removed",
    /// A code of the moment was used a second time, which is refused.
    UserTotpReplayed = "user_totp_replayed",
    /// An account got new recovery codes; the earlier ones are void.
    UserRecoveryCodesMade = "user_recovery_codes_made",
    /// A recovery code was used.
    UserRecoveryCodeUsed = "user_recovery_code_used",
    /// An account's password opens nothing any more, after too many failures in a row.
    UserPasswordDisabled = "user_password_disabled",
    /// A token was made.
    TokenCreated = "token_created",
    /// A token was revoked.
    TokenRevoked = "token_revoked",
    /// An SSH key was added to an account.
    KeyAdded = "key_added",
    /// An SSH key was taken from an account.
    KeyRemoved = "key_removed",
    /// A browser is told from now on when something waits for its person.
    PushAdded = "push_added",
    /// It is told no more.
    PushRemoved = "push_removed",
    /// A sign-in at the web door.
    LoginSucceeded = "login_succeeded",
    /// A refused sign-in at the web door.
    LoginFailed = "login_failed",
    /// A sign-in that was not even tried, after too many refused ones.
    LoginThrottled = "login_throttled",
    /// A signed-in person proved again who they are.
    LoginReauthenticated = "login_reauthenticated",
    /// A login got a new token.
    LoginRotated = "login_rotated",
    /// A person signed out.
    LoginEnded = "login_ended",
    /// A login was ended by somebody.
    LoginRevoked = "login_revoked",
    /// A login made room for a newer one.
    LoginEvicted = "login_evicted",
    /// A login reached its longest lifetime.
    LoginExpiredLifetime = "login_expired_lifetime",
    /// The token of an ended login was used.
    LoginUsedAfterEnd = "login_used_after_end",
    /// A login was idle for too long.
    SessionExpiredInactivity = "session_expired_inactivity",
    /// A password was changed, and all logins of its user ended.
    PasswordChangedAllSessionsInvalidated = "password_changed_all_sessions_invalidated",
    /// The current password given for a change was wrong.
    InvalidCurrentPassword = "invalid_current_password",
    /// The chain up to here, signed.
    Checkpoint = "checkpoint",
    /// Events were lost while the log could not be written: `{since, until, lost}`.
    AuditGap = "audit_gap",
    /// The log's end was torn by a crash and was cut to its last whole line.
    AuditRepaired = "audit_repaired",
    /// The gateway started.
    GatewayStarted = "gateway_started",
    /// The gateway stopped.
    GatewayStopped = "gateway_stopped",
    /// The configuration was read again.
    ConfigReloaded = "config_reloaded",
    /// A recording without a shim was sealed at start.
    RecordingRecovered = "recording_recovered",
    /// A channel was closed because its program took no input.
    ChannelClosed = "channel_closed",
    /// A forward was asked for that the profile does not allow.
    ForwardRefused = "forward_refused",
    /// A connection was turned away before anybody signed in: `{code}`.
    ConnectionRefused = "connection_refused",
    /// A browser was sent here by another site's page, and refused: `{code, count}`.
    CrossOriginRefused = "cross_origin_refused",
    /// A request with a login did not prove that our own page sent it: `{code, count}`.
    CsrfRefused = "csrf_refused",
    /// A request carried two login cookies, which counted as none: `{code, count}`.
    CookieRefused = "cookie_refused",
    /// Somebody known asked for what is not theirs, and was told so or that there is none:
    /// `{code, method, route, count}`; of a token that is good no more `{code, token}`.
    AccessRefused = "access_refused",
    /// What a session left in its sandbox is kept: `{name, files, bytes, truncated}`.
    FilesKept = "files_kept",
    /// What a session left was removed, its time or room being over.
    FilesRemoved = "files_removed",
    /// A session's recordings were removed, their time or room being over.
    RecordingRemoved = "recording_removed",
}

/// Not the name of an action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no action {0:?}")]
pub struct UnknownAction(pub String);

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(name: &str) -> Result<Self, UnknownAction> {
        let found = Self::ALL.iter().find(|action| action.name() == name);
        found.copied().ok_or_else(|| UnknownAction(name.to_owned()))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Through what somebody acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// A browser with a login.
    Browser,
    /// A program with an API token.
    Cli,
    /// The SSH door.
    Ssh,
    /// A honeypot's visitor.
    Honeypot,
    /// A runner.
    Runner,
    /// The local socket, or a command that opened the data directory.
    Local,
    /// An API token used by something other than our command.
    Token,
    /// The gateway itself.
    System,
}

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Through what.
    #[serde(rename = "type")]
    pub kind: ActorKind,
    /// The user's name, or the one that was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// From which address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<IpAddr>,
    /// The browser's or SSH client's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The kernel's user id of a local peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

impl Actor {
    /// The gateway itself.
    pub const SYSTEM: Self = Self::new(ActorKind::System);

    /// Somebody of whom only this is known.
    #[must_use]
    pub const fn new(kind: ActorKind) -> Self {
        Self { kind, user: None, ip_address: None, user_agent: None, uid: None }
    }

    /// Whoever came by the local socket or ran a command on this machine.
    #[must_use]
    pub fn local(uid: u32) -> Self {
        Self { uid: Some(uid), ..Self::new(ActorKind::Local) }
    }

    /// Somebody at the SSH door; `user` is the name they claim.
    #[must_use]
    pub fn ssh(user: &str, address: IpAddr) -> Self {
        let mut actor = Self::new(ActorKind::Ssh);
        actor.user = Some(cut(user));
        actor.ip_address = Some(address);
        actor
    }

    /// Somebody at a honeypot; `user` is the name they gave.
    #[must_use]
    pub fn honeypot(user: &str, address: IpAddr) -> Self {
        Self { kind: ActorKind::Honeypot, ..Self::ssh(user, address) }
    }

    /// The same actor with its program's own name.
    #[must_use]
    pub fn with_user_agent(mut self, name: &str) -> Self {
        self.user_agent = Some(cut(name));
        self
    }

    /// The same actor, its texts no longer than a line can bear.
    pub(super) fn bounded(&self) -> Self {
        Self {
            user: self.user.as_deref().map(cut),
            user_agent: self.user_agent.as_deref().map(cut),
            ..self.clone()
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Written exactly once under this id.
    pub event_id: EventId,
    /// When it happened, which may be a little before it was written.
    pub timestamp: Wall,
    /// What happened.
    pub action: Action,
    /// Who did it.
    pub actor: Actor,
    /// In which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// More about it, by the action's own names. Never a secret.
    #[serde(default)]
    pub details: Map<String, Value>,
}

impl Event {
    /// An event without a session and without details.
    #[must_use]
    pub fn new(timestamp: Wall, action: Action, actor: Actor) -> Self {
        let event_id = EventId::new();
        Self { event_id, timestamp, action, actor, session_id: None, details: Map::new() }
    }

    /// The same event, in this session.
    #[must_use]
    pub fn session(mut self, id: SessionId) -> Self {
        self.session_id = Some(id);
        self
    }

    /// The same event with one more detail.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}
