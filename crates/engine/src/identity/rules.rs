//! What the configuration says about proving who one is, and may say otherwise while the gateway runs.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use super::Policy;
use super::Settings;

/// Shared by all who go by it. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Rules(Arc<RwLock<Ruling>>);

#[derive(Default)]
struct Ruling {
    policy: Policy,
    ssh_key_needs_totp: bool,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Self {
        let rules = Self::default();
        rules.set(settings);
        rules
    }

    pub(super) fn set(&self, settings: &Settings) {
        let Settings { policy, ssh_key_needs_totp, cost: _ } = settings;
        let ruling = Ruling { policy: policy.clone(), ssh_key_needs_totp: *ssh_key_needs_totp };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ruling;
    }

    /// The rules for new passwords.
    pub(super) fn policy(&self) -> Policy {
        self.0.read().unwrap_or_else(PoisonError::into_inner).policy.clone()
    }

    /// Whether a key at the SSH door is not enough for a user with a second factor.
    pub(super) fn ssh_key_needs_totp(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).ssh_key_needs_totp
    }
}
