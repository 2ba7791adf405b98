//! Why somebody's being signed in at the web door ended.

use std::fmt;
use std::str::FromStr;

use crate::audit::Action;

/// Why a login ended. The first reason stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginEnd {
    /// Nothing was done with it for the idle timeout.
    Inactivity,
    /// Its longest lifetime was reached.
    Lifetime,
    /// Its person signed out.
    Logout,
    /// Its person, or an admin, ended it from elsewhere.
    Revoked,
    /// The password was changed.
    PasswordChange,
    /// The account was closed.
    Disabled,
    /// It made room for a newer one.
    Evicted,
    /// The account was given more than it was signed in for.
    RoleChange,
    /// Somebody signed in where it was in use.
    Replaced,
}

impl LoginEnd {
    /// Every reason there is.
    pub const ALL: &[Self] = &[
        Self::Inactivity,
        Self::Lifetime,
        Self::Logout,
        Self::Revoked,
        Self::PasswordChange,
        Self::Disabled,
        Self::Evicted,
        Self::RoleChange,
        Self::Replaced,
    ];

    /// The name in JSON, the audit log and the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inactivity => "inactivity",
            Self::Lifetime => "lifetime",
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::PasswordChange => "password_change",
            Self::Disabled => "disabled",
            Self::Evicted => "evicted",
            Self::RoleChange => "role_change",
            Self::Replaced => "replaced",
        }
    }

    /// Whether its time was over, and nobody ended it.
    #[must_use]
    pub const fn is_expiry(self) -> bool {
        matches!(self, Self::Inactivity | Self::Lifetime)
    }

    /// What goes on record of it.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Inactivity => Action::SessionExpiredInactivity,
            Self::Lifetime => Action::LoginExpiredLifetime,
            Self::Logout | Self::Replaced => Action::LoginEnded,
            Self::Evicted => Action::LoginEvicted,
            Self::Revoked | Self::PasswordChange | Self::Disabled | Self::RoleChange => {
                Action::LoginRevoked
            }
        }
    }
}

impl fmt::Display for LoginEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a login does not end for {0:?}")]
pub struct UnknownEnd(pub String);

impl FromStr for LoginEnd {
    type Err = UnknownEnd;

    fn from_str(name: &str) -> Result<Self, UnknownEnd> {
        let found = Self::ALL.iter().find(|end| end.name() == name);
        found.copied().ok_or_else(|| UnknownEnd(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_names_and_have_their_actions() {
        for end in LoginEnd::ALL {
            assert_eq!(end.name().parse(), Ok(*end));
        }
        assert!("bored".parse::<LoginEnd>().is_err());
        assert_eq!(LoginEnd::Inactivity.action().name(), "session_expired_inactivity");
        assert_eq!(LoginEnd::Lifetime.action().name(), "login_expired_lifetime");
        assert_eq!(LoginEnd::Logout.action().name(), "login_ended");
        assert_eq!(LoginEnd::Evicted.action().name(), "login_evicted");
        assert_eq!(LoginEnd::Disabled.action().name(), "login_revoked");
    }
}
