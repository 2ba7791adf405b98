//! What the gate knows of profiles: who may use one, and what of a client's environment passes. How a
//! sandbox is made is the runner's to know.

use std::collections::BTreeMap;
use std::time::Duration;

use sojourn_core::authz::Allow;
use sojourn_core::authz::Role;
use sojourn_core::limits::Limits;
use sojourn_core::wire::Text;

use crate::door::Door;
use crate::identity::Principal;

/// The profile of a session that names none.
pub const DEFAULT: &str = "default";

/// The profile on record of a session on a runner elsewhere that names none: it runs on that machine
/// itself, in no sandbox.
pub const HOST: &str = "host";

/// The most variables a client may set.
const MAX_VARIABLES: usize = 128;

/// The longest value of one.
const MAX_VALUE: usize = 4096;

/// A kind of forwarding that a profile may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Connections that the client asks for, made from inside (`-L`, `-D`).
    Local,
    /// Connections that are made inside, passed on to the client (`-R`).
    Remote,
    /// The client's key agent, reached from inside (`-A`).
    Agent,
    /// The client's X server, reached from inside (`-X`, `-Y`).
    X11,
}

/// One profile, as far as the gate is concerned.
#[derive(Clone, Debug)]
pub struct ProfilePolicy {
    /// Who may use it.
    pub allow: Vec<Allow>,
    /// Names of variables that pass; `*` stands for any letters, `?` for one.
    pub accept_env: Vec<String>,
    /// Which forwards are allowed.
    pub forward: Vec<Forward>,
    /// Whether a reason must be given.
    pub require_why: bool,
    /// The sandbox's kind, for lists.
    pub sandbox: String,
    /// The limits of a session that came by SSH. The runner holds the same and goes by its own.
    pub limits: Limits,
    /// The longest that a session started at the web door runs; the other limits are the same.
    pub web_runtime: Option<Duration>,
}

/// All profiles by name.
#[derive(Clone, Debug, Default)]
pub struct Profiles(pub BTreeMap<String, ProfilePolicy>);

impl Profiles {
    /// The profile, if there is one and this user may use it: both are answered alike.
    #[must_use]
    pub fn usable(&self, name: &str, by: &Principal) -> Option<&ProfilePolicy> {
        let profile = self.0.get(name)?;
        profile.allow.iter().any(|entry| entry.admits(&by.name, by.role)).then_some(profile)
    }

    /// The same for root on the gateway's own machine: what an admin of no name may use.
    #[must_use]
    pub fn usable_locally(&self, name: &str) -> Option<&ProfilePolicy> {
        let profile = self.0.get(name)?;
        profile.allow.iter().any(|entry| entry.admits("", Role::Admin)).then_some(profile)
    }
}

impl ProfilePolicy {
    /// The limits of a session that came by this door.
    #[must_use]
    pub fn limits_at(&self, door: Door) -> Limits {
        let limits = self.limits.clone();
        match door {
            Door::Ssh => limits,
            Door::Web => Limits { max_runtime: self.web_runtime, ..limits },
        }
    }

    /// What of `env` passes: allowed names, the last value of each, nothing the kernel would refuse.
    #[must_use]
    pub fn passing(&self, env: &[(Text, Text)]) -> Vec<(Text, Text)> {
        let mut passing: BTreeMap<&Text, &Text> = BTreeMap::new();
        for (name, value) in env {
            let fits = value.0.len() <= MAX_VALUE && !value.0.contains(&0);
            if fits && passing.len() < MAX_VARIABLES && self.accepts(&name.0) {
                passing.insert(name, value);
            }
        }
        passing.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn accepts(&self, name: &[u8]) -> bool {
        let is_name = (1..=128).contains(&name.len())
            && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
            && !name[0].is_ascii_digit();
        is_name && self.accept_env.iter().any(|pattern| fits(pattern.as_bytes(), name))
    }
}

/// Whether a name fits a pattern, in which `*` stands for any letters and `?` for one.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            fits(rest, name) || name.split_first().is_some_and(|(_, later)| fits(pattern, later))
        }
        ([b'?', rest @ ..], [_, later @ ..]) => fits(rest, later),
        ([letter, rest @ ..], [first, later @ ..]) => letter == first && fits(rest, later),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_names_pass_and_the_last_value_wins() {
        let policy = ProfilePolicy {
            allow: vec![Allow::Everybody],
            accept_env: vec!["LANG".to_owned(), "LC_*".to_owned()],
            forward: Vec::new(),
            require_why: false,
            sandbox: "native".to_owned(),
            limits: Limits::default(),
            web_runtime: None,
        };
        let set = |name: &str, value: &str| (Text::from(name), Text::from(value));
        let env = [
            set("LANG", "C"),
            set("LD_PRELOAD", "x"),
            set("LC_ALL", "C"),
            set("LANG", "C.UTF-8"),
            set("LC_=X", "y"),
            set("LC_NUL", "a\0b"),
        ];
        assert_eq!(policy.passing(&env), [set("LANG", "C.UTF-8"), set("LC_ALL", "C")]);
    }
}
