//! Tokens that were looked up, each with how the accounts stood then. What is out of date is never
//! given out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use sojourn_core::time::Wall;
use sojourn_store::Store;
use sojourn_store::StoreError;
use sojourn_store::Token;
use tokio::time::Instant;

use super::ApiToken;
use super::BETWEEN_TOUCHES;
use super::LOOK;

/// So many are kept; then all are looked up anew.
const MOST: usize = 4096;

/// How the accounts stand: this process's changes of them, and everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    changes: u64,
    version: i64,
}

/// A token that was good when it was looked up.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) who: Arc<ApiToken>,
    pub(super) expires_at: Option<Wall>,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By digest.
    tokens: HashMap<String, Kept>,
    /// Everybody's changes, and when that was asked.
    version: Option<(Instant, i64)>,
}

#[derive(Debug)]
struct Kept {
    standing: Standing,
    known: Known,
    touched_at: Option<Wall>,
}

impl Cache {
    /// How the accounts stand now, as far as this process is concerned, and stood [`LOOK`] ago at
    /// most as far as others are. To be asked for before the store is asked for a token.
    pub(super) async fn standing(&self, store: &Store) -> Result<Standing, StoreError> {
        let changes = store.account_changes();
        let asked_at = Instant::now();
        let recent = self.state().version.filter(|(at, _)| asked_at.duration_since(*at) < LOOK);
        if let Some((_, version)) = recent {
            return Ok(Standing { changes, version });
        }
        let version = store.accounts_version().await?;
        let mut state = self.state();
        // Of two that asked at the same time, the later answer stands.
        let latest = state.version.map_or(version, |(_, known)| known.max(version));
        state.version = Some((asked_at, latest));
        Ok(Standing { changes, version: latest })
    }

    /// The token with this digest, if it was looked up while the accounts stood so.
    pub(super) fn get(&self, hash: &str, standing: Standing) -> Option<Known> {
        let state = self.state();
        let kept = state.tokens.get(hash)?;
        (kept.standing == standing).then(|| kept.known.clone())
    }

    /// Keeps what was looked up while the accounts stood so.
    pub(super) fn keep(&self, hash: String, standing: Standing, found: Token) -> Known {
        let touched_at = found.last_used_at;
        let expires_at = found.expires_at;
        let who = ApiToken {
            id: found.id,
            user: found.user,
            name: found.user_name,
            role: found.user_role,
            scopes: found.scopes,
            runner: found.runner,
        };
        let known = Known { who: Arc::new(who), expires_at };
        let mut state = self.state();
        if state.tokens.len() >= MOST && !state.tokens.contains_key(&hash) {
            state.tokens.clear();
        }
        state.tokens.insert(hash, Kept { standing, known: known.clone(), touched_at });
        known
    }

    /// Whether this use is to be noted: true once a minute.
    pub(super) fn is_to_touch(&self, hash: &str, now: Wall) -> bool {
        let mut state = self.state();
        let Some(kept) = state.tokens.get_mut(hash) else { return false };
        let is_due = kept.touched_at.is_none_or(|at| at <= now.before(BETWEEN_TOUCHES));
        if is_due {
            kept.touched_at = Some(now);
        }
        is_due
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is consistent after each of its steps, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
