//! What the operator may decide otherwise while the gateway runs. It holds for what comes next;
//! sessions that are there keep what they were given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::Ordering;

use crate::door::Who;
use crate::engine::Engine;
use crate::identity::Principal;
use crate::profiles::ProfilePolicy;
use crate::profiles::Profiles;

/// The profiles as they are just now.
#[derive(Debug, Default)]
pub(crate) struct ProfilesInEffect(RwLock<Arc<Profiles>>);

impl ProfilesInEffect {
    pub(crate) fn new(profiles: Profiles) -> Self {
        Self(RwLock::new(Arc::new(profiles)))
    }

    fn now(&self) -> Arc<Profiles> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The profile, if there is one.
    pub(crate) fn get(&self, name: &str) -> Option<ProfilePolicy> {
        self.now().0.get(name).cloned()
    }

    /// The profile, if there is one and this user may use it: both are answered alike.
    pub(crate) fn usable(&self, name: &str, by: &Principal) -> Option<ProfilePolicy> {
        self.now().usable(name, by).cloned()
    }

    /// The same for root on the gateway's own machine.
    pub(crate) fn usable_locally(&self, name: &str) -> Option<ProfilePolicy> {
        self.now().usable_locally(name).cloned()
    }

    /// Takes over who may use a profile and what it lets through. Which profiles there are, and their
    /// limits, is the runner's to know, and it is not asked to forget.
    fn take_over(&self, new: &Profiles) {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let merged = place.0.iter().map(|(name, old)| {
            let policy = new.0.get(name).map_or_else(
                || old.clone(),
                |new| ProfilePolicy {
                    limits: old.limits.clone(),
                    web_runtime: old.web_runtime,
                    sandbox: old.sandbox.clone(),
                    ..new.clone()
                },
            );
            (name.clone(), policy)
        });
        let merged: BTreeMap<_, _> = merged.collect();
        *place = Arc::new(Profiles(merged));
    }
}

impl Engine {
    /// Who may use which profile, and what it lets through, from the next session on. New profiles, and
    /// new limits, wait for the next start.
    pub fn set_policies(&self, profiles: &Profiles) {
        self.inner.profiles.take_over(profiles);
    }

    /// The profiles that somebody may use, by name.
    #[must_use]
    pub fn profiles_for(&self, who: &Who) -> Vec<(String, ProfilePolicy)> {
        let now = self.inner.profiles.now();
        let usable = now.0.keys().filter_map(|name| {
            let policy = match who {
                Who::User(principal) => now.usable(name, principal),
                Who::Visitor(_) => None,
                Who::Local => now.usable_locally(name),
            };
            Some((name.clone(), policy?.clone()))
        });
        usable.collect()
    }

    /// How many sessions there may be from now on; those that are there stay.
    pub fn set_max_sessions(&self, all: usize, of_one_user: usize) {
        self.inner.admission().set_max(all, of_one_user);
    }

    /// How many people may look on at one session from now on; who does goes on.
    pub fn set_max_watchers(&self, most: usize) {
        self.inner.max_watchers.store(most, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(why: bool, sandbox: &str) -> ProfilePolicy {
        ProfilePolicy {
            allow: Vec::new(),
            accept_env: Vec::new(),
            forward: Vec::new(),
            require_why: why,
            sandbox: sandbox.to_owned(),
            limits: sojourn_core::limits::Limits::default(),
            web_runtime: None,
        }
    }

    #[test]
    fn policies_change_and_profiles_stay() {
        let all = |why, names: &[&str], sandbox: &str| {
            Profiles(names.iter().map(|name| ((*name).to_owned(), policy(why, sandbox))).collect())
        };
        let current = ProfilesInEffect::new(all(false, &["default", "tools"], "native"));
        current.take_over(&all(true, &["default", "new"], "docker"));
        let default = current.get("default").unwrap();
        assert_eq!((default.require_why, default.sandbox.as_str()), (true, "native"));
        assert!(!current.get("tools").unwrap().require_why, "it is still the runner's");
        assert!(current.get("new").is_none(), "the runner does not know it");
    }
}
