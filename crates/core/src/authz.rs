//! Who may what: one table that every door asks.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::ids::UserId;

/// What an account is allowed in general.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything but typing into another person's machine.
    Admin,
    /// Their own sessions.
    Member,
    /// Reads everything, touches nothing.
    Auditor,
}

impl Role {
    /// The name in commands, the API and the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Auditor => "auditor",
        }
    }

    /// Whether it allows something that `other` does not. Only from an admin is every way down: an
    /// auditor may not start what a member may, and a member not read what an auditor may.
    #[must_use]
    pub fn exceeds(self, other: Self) -> bool {
        self != other && other != Self::Admin
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role {0:?}; roles are admin, member and auditor")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        let roles = [Self::Admin, Self::Member, Self::Auditor];
        let found = roles.into_iter().find(|role| role.name() == name);
        found.ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// An account.
    User(UserId, Role),
    /// Root, or the gateway's user, on the gateway's own machine.
    Local,
}

/// What a session is, as far as rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Whose it is. A honeypot's session, and one started locally without a token, is nobody's.
    pub owner: Option<UserId>,
    /// Whether it runs on a runner that is somebody's own machine.
    pub remote: bool,
}

/// What can be done with one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// List it, show it, read its recording and files.
    Read,
    /// Look on while it runs.
    Watch,
    /// Type, answer prompts, resume.
    Drive,
    /// Interrupt what runs in front.
    Interrupt,
    /// Take the keyboard from whoever has it.
    TakeOver,
    /// Move its deadline, as far as the policy goes.
    Extend,
    /// Move its deadline further than that.
    ExtendBeyondPolicy,
    /// End it.
    End,
}

/// What is asked for that concerns no single session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum General {
    /// Start a session.
    StartSession,
    /// List everybody's sessions, not only one's own.
    ListAll,
    /// Read the audit log and the metrics.
    ReadAudit,
    /// Accounts, other people's keys, tokens and logins.
    ManageUsers,
    /// End many sessions at once.
    KillSwitch,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Allowed,
    /// No, and the asker may know that the thing is there.
    Forbidden,
    /// No, and the answer is the same as for a thing that never was.
    Hidden,
}

impl Answer {
    /// Whether it is yes.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed)
    }
}

/// Whether `asker` may do `deed` to a session.
#[must_use]
pub fn may(asker: Asker, deed: Deed, session: Ownership) -> Answer {
    let (id, role) = match asker {
        Asker::Local => (None, Role::Admin),
        Asker::User(id, role) => (Some(id), role),
    };
    let own = id.is_some() && session.owner == id;
    let allowed = match (role, deed) {
        (Role::Admin, Deed::ExtendBeyondPolicy | Deed::End | Deed::Extend) => true,
        (Role::Admin, Deed::TakeOver) => own || !session.remote,
        // It does less than to end it.
        (_, Deed::Interrupt) => own || asker == Asker::Local,
        (_, Deed::ExtendBeyondPolicy) => false,
        (Role::Admin | Role::Auditor, Deed::Read | Deed::Watch) => true,
        _ => own,
    };
    match (allowed, role) {
        (true, _) => Answer::Allowed,
        (false, Role::Member) if !own => Answer::Hidden,
        (false, _) => Answer::Forbidden,
    }
}

/// Whether `asker` may do what concerns no single session.
#[must_use]
pub fn may_in_general(asker: Asker, deed: General) -> Answer {
    let role = match asker {
        Asker::Local => Role::Admin,
        Asker::User(_, role) => role,
    };
    let allowed = match deed {
        General::StartSession => role != Role::Auditor,
        General::ListAll | General::ReadAudit => role != Role::Member,
        General::ManageUsers | General::KillSwitch => role == Role::Admin,
    };
    if allowed { Answer::Allowed } else { Answer::Forbidden }
}

/// One entry of a profile's `allow`: `*`, `role:member` or `user:alice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Everybody.
    Everybody,
    /// Everybody with this role.
    Role(Role),
    /// The account of this name.
    User(String),
}

impl Allow {
    /// Whether this entry lets the account in.
    #[must_use]
    pub fn admits(&self, name: &str, role: Role) -> bool {
        match self {
            Self::Everybody => true,
            Self::Role(allowed) => *allowed == role,
            Self::User(allowed) => allowed == name,
        }
    }
}

/// Not an entry of `allow`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not \"*\", \"role:ROLE\" or \"user:NAME\"")]
pub struct BadAllow(pub String);

impl FromStr for Allow {
    type Err = BadAllow;

    fn from_str(text: &str) -> Result<Self, BadAllow> {
        let bad = || BadAllow(text.to_owned());
        if text == "*" {
            return Ok(Self::Everybody);
        }
        match text.split_once(':') {
            Some(("role", role)) => role.parse().map(Self::Role).map_err(|_| bad()),
            Some(("user", name)) if is_user_name(name) => Ok(Self::User(name.to_owned())),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::User(name) => write!(f, "user:{name}"),
        }
    }
}

impl Serialize for Allow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether a name can be an account's: `[a-z_][a-z0-9_.-]{0,31}`.
#[must_use]
pub fn is_user_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && name.len() <= 32
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEEDS: [Deed; 8] = [
        Deed::Read,
        Deed::Watch,
        Deed::Drive,
        Deed::Interrupt,
        Deed::TakeOver,
        Deed::Extend,
        Deed::ExtendBeyondPolicy,
        Deed::End,
    ];

    fn allowed(asker: Asker, session: Ownership) -> Vec<Deed> {
        DEEDS.into_iter().filter(|deed| may(asker, *deed, session).is_allowed()).collect()
    }

    #[test]
    fn the_table_is_that_of_the_contract() {
        use Deed::*;
        let me = UserId::new();
        let mine = Ownership { owner: Some(me), remote: false };
        let theirs = Ownership { owner: Some(UserId::new()), remote: false };
        let their_machine = Ownership { remote: true, ..theirs };
        let nobodys = Ownership { owner: None, remote: false };
        let own = [Read, Watch, Drive, Interrupt, TakeOver, Extend, End];

        let member = Asker::User(me, Role::Member);
        assert_eq!(allowed(member, mine), own);
        for session in [theirs, their_machine, nobodys] {
            assert!(DEEDS.iter().all(|deed| may(member, *deed, session) == Answer::Hidden));
        }

        let admin = Asker::User(me, Role::Admin);
        let administered = [Read, Watch, TakeOver, Extend, ExtendBeyondPolicy, End];
        assert_eq!(allowed(admin, mine), DEEDS);
        for asker in [admin, Asker::Local] {
            // Root on the gateway's machine could as well end it.
            let allowed = |session| {
                let mut deeds = allowed(asker, session);
                let before = deeds.len();
                deeds.retain(|deed| *deed != Interrupt);
                assert_eq!(deeds.len() < before, asker == Asker::Local);
                deeds
            };
            assert_eq!(allowed(theirs), administered);
            assert_eq!(allowed(nobodys), administered);
            let far = [Read, Watch, Extend, ExtendBeyondPolicy, End];
            assert_eq!(allowed(their_machine), far, "nobody types on another's machine");
            assert_eq!(may(asker, Drive, theirs), Answer::Forbidden);
        }

        let auditor = Asker::User(me, Role::Auditor);
        for session in [theirs, their_machine, nobodys] {
            assert_eq!(allowed(auditor, session), [Read, Watch]);
            assert_eq!(may(auditor, End, session), Answer::Forbidden);
        }
    }

    #[test]
    fn roles_bound_what_concerns_no_session() {
        let can = |role, deed| may_in_general(Asker::User(UserId::new(), role), deed).is_allowed();
        assert!(can(Role::Member, General::StartSession));
        assert!(!can(Role::Auditor, General::StartSession), "an auditor touches nothing");
        assert!(can(Role::Auditor, General::ReadAudit));
        assert!(!can(Role::Member, General::ReadAudit));
        assert!(!can(Role::Auditor, General::ManageUsers));
        assert!(may_in_general(Asker::Local, General::KillSwitch).is_allowed());
    }

    #[test]
    fn allow_lists_read_as_they_are_written() {
        for text in ["*", "role:member", "user:alice"] {
            assert_eq!(text.parse::<Allow>().unwrap().to_string(), text);
        }
        for text in ["", "alice", "role:king", "user:", "user:A", "group:x"] {
            assert!(text.parse::<Allow>().is_err(), "{text:?}");
        }
        assert!(Allow::Role(Role::Member).admits("alice", Role::Member));
        assert!(!Allow::User("alice".to_owned()).admits("bob", Role::Admin));
    }

    #[test]
    fn user_names_are_those_of_a_unix_system() {
        for name in ["a", "_x", "alice", "j.doe-2", &"a".repeat(32)] {
            assert!(is_user_name(name), "{name:?}");
        }
        for name in ["", "1a", "-a", ".a", "Alice", "a b", "a+b", "ä", "a\n", &"a".repeat(33)] {
            assert!(!is_user_name(name), "{name:?}");
        }
    }
}
