//! Ids: UUIDv7 in full, or an ending of one as people type it.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

/// The fewest characters of an ending that may stand for an id.
pub const SHORTEST_ENDING: usize = 4;

/// How many last characters tables and messages show.
pub const SHOWN: usize = 8;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new id; ids made later sort later.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "each call gives another id")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The last 8 characters, as tables and messages show it.
            #[must_use]
            pub fn short(&self) -> String {
                let full = self.0.simple().to_string();
                full[full.len() - SHOWN..].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }
    };
}

id!(
    /// One governed stay.
    SessionId
);
id!(
    /// An account.
    UserId
);
id!(
    /// An SSH key of a user.
    KeyId
);
id!(
    /// A program's token.
    TokenId
);
id!(
    /// A runner on another machine. It is the id of the token that the runner comes with.
    RunnerId
);
id!(
    /// Somebody's being signed in at the web door.
    LoginId
);
id!(
    /// A browser that wants to be told when something waits.
    PushId
);
id!(
    /// One event of the audit log, written exactly once.
    EventId
);

impl From<TokenId> for RunnerId {
    fn from(token: TokenId) -> Self {
        Self(token.0)
    }
}

impl From<RunnerId> for TokenId {
    fn from(runner: RunnerId) -> Self {
        Self(runner.0)
    }
}

/// Whether `typed` names `id`: the full id, or an ending of 4 characters or more, with or without
/// its hyphens.
#[must_use]
pub fn is_named_by(id: &Uuid, typed: &str) -> bool {
    let typed: String = typed.chars().filter(|c| *c != '-').collect();
    typed.len() >= SHORTEST_ENDING && id.simple().to_string().ends_with(&typed.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_of_four_names_an_id() {
        let id = SessionId::from_str("01932b5e-7c1a-7f00-8000-00003f2a91c0").unwrap();
        assert!(is_named_by(&id.0, "91c0"));
        assert!(is_named_by(&id.0, "3F2A91C0"));
        assert!(is_named_by(&id.0, "01932b5e-7c1a-7f00-8000-00003f2a91c0"));
        assert!(!is_named_by(&id.0, "1c0"), "three characters are too few");
        assert!(!is_named_by(&id.0, "0193"), "a beginning is not an ending");
        assert_eq!(id.short(), "3f2a91c0");
    }
}
