//! What a program's token may be used for.
//!
//! A scope narrows what the token's user may do, and never widens it: who may do what is decided for
//! the user, and then the token must cover it as well.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// One use of a token. Each covers those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Looking: lists, sessions, recordings, files.
    Read,
    /// Starting, driving and ending sessions.
    Sessions,
    /// What admins and auditors do.
    Admin,
}

impl Scope {
    /// All there are, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Sessions, Self::Admin];

    /// The name in commands, the API and the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Sessions => "sessions",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Sessions => 2,
            Self::Admin => 4,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope {0:?}; scopes are read, sessions and admin")]
pub struct UnknownScope(pub String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, UnknownScope> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == name);
        found.ok_or_else(|| UnknownScope(name.to_owned()))
    }
}

/// The scopes of a token, as they were asked for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// None: the token is for something else than requests of a user.
    pub const NONE: Self = Self(0);

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a request that needs `scope` is covered: by it, or by a wider one.
    #[must_use]
    pub fn cover(self, scope: Scope) -> bool {
        self.iter().any(|held| held >= scope)
    }

    /// Each that was asked for, the narrowest first.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Display for Scopes {
    /// With spaces between, as the store has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            let before = if index == 0 { "" } else { " " };
            write!(f, "{before}{scope}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        text.split_whitespace().map(str::parse).collect()
    }
}

impl Serialize for Scopes {
    /// A list of names.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Scope::name))
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let scopes = names.iter().map(|name| name.parse()).collect::<Result<_, _>>();
        scopes.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wider_scope_covers_the_narrower_ones_and_no_scope_covers_nothing() {
        // held, then whether it covers read, sessions, admin
        let table = [
            ("", [false, false, false]),
            ("read", [true, false, false]),
            ("sessions", [true, true, false]),
            ("admin", [true, true, true]),
            ("read admin", [true, true, true]),
            ("read sessions", [true, true, false]),
        ];
        for (held, covered) in table {
            let held: Scopes = held.parse().unwrap();
            assert_eq!(Scope::ALL.map(|scope| held.cover(scope)), covered, "{held:?}");
        }
    }

    proptest! {
        #[test]
        fn scopes_survive_the_store_and_the_api(bits in 0_u8..8) {
            let scopes: Scopes =
                Scope::ALL.into_iter().filter(|scope| bits & scope.bit() != 0).collect();
            prop_assert_eq!(scopes.to_string().parse::<Scopes>().unwrap(), scopes);
            let json = serde_json::to_string(&scopes).unwrap();
            prop_assert_eq!(serde_json::from_str::<Scopes>(&json).unwrap(), scopes);
            prop_assert_eq!(scopes.is_empty(), bits == 0);
        }

        #[test]
        fn nothing_else_is_a_scope(name in "\\PC{0,12}") {
            prop_assume!(!Scope::ALL.iter().any(|scope| scope.name() == name));
            prop_assert!(name.parse::<Scope>().is_err());
        }
    }
}
