//! From what a browser presents to a login. Nothing is touched, nothing is adopted, and where it is
//! unknown nobody is told more than that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event;
use sojourn_core::ids::LoginId;
use sojourn_core::login::LoginEnd;
use sojourn_core::time::Wall;
use sojourn_store::Login as Kept;
use sojourn_store::StoreError;

use super::Inner;
use super::Logins;
use super::login::Login;
use super::token::TokenHash;
use crate::engine::lock;
use crate::identity::Client;
use crate::identity::Unavailable;

/// How often a late use of one login goes on record.
const EVERY: Duration = Duration::from_secs(60);
/// So many logins are remembered for that.
const MOST: usize = 10_000;

/// When late uses were last put on record, by login.
pub(super) type LateUses = HashMap<LoginId, Wall>;

/// What a token is good for.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing: it is none, or not known any more.
    Nobody,
    /// A login that is good.
    Login(Arc<Login>),
    /// A login that was good once.
    Ended(LoginEnd),
}

impl Logins {
    /// What this token is good for now. A live one is found in memory alone.
    ///
    /// # Errors
    /// When that cannot be told just now, which is a no.
    pub async fn resolve(&self, token: &str) -> Result<Found, Unavailable> {
        self.resolve_from(token, None).await
    }

    /// The same for a token that somebody presents: who uses an ended one is on record.
    ///
    /// # Errors
    /// When that cannot be told just now, which is a no.
    pub async fn resolve_from(
        &self,
        token: &str,
        from: Option<&Client>,
    ) -> Result<Found, Unavailable> {
        let inner = &self.inner;
        let Some(hash) = TokenHash::of(token) else { return Ok(Found::Nobody) };
        if self.is_blind() {
            return Err(Unavailable::Store);
        }
        if inner.is_stale() {
            self.recheck().await.map_err(|error| inner.unreadable(&error))?;
        }
        let now = inner.now.get();
        if let Some(login) = inner.shelf.by_token(&hash) {
            let Some(end) = login.judge(now) else { return Ok(Found::Login(login)) };
            if login.is_over().is_none() {
                // Nobody has noticed yet.
                inner.timer.hurry(login.id());
            }
            inner.used_late(login.id(), login.name(), end, from);
            return Ok(Found::Ended(end));
        }
        let kept = inner.store.login_by_token(&hash.to_hex()).await;
        let kept = kept.map_err(|error| inner.unreadable(&error))?;
        let Some(kept) = kept else { return Ok(Found::Nobody) };
        // One that is live in the store alone was never given to anybody.
        let Some(end) = over(&kept, now) else { return Ok(Found::Nobody) };
        let person = inner.shelf.person_by_id(kept.user);
        let name = person.as_ref().map_or("", |person| person.name.as_str());
        inner.used_late(kept.id, name, end, from);
        Ok(Found::Ended(end))
    }
}

/// How a login has ended by `now`, as far as its row tells.
fn over(kept: &Kept, now: Wall) -> Option<LoginEnd> {
    if let Some(over) = kept.over {
        return Some(over.why);
    }
    let idle = kept.last_seen_at.after(kept.idle_timeout);
    if now >= kept.lifetime_ends_at && kept.lifetime_ends_at <= idle {
        return Some(LoginEnd::Lifetime);
    }
    (now >= idle).then_some(LoginEnd::Inactivity)
}

impl Inner {
    /// Puts the use of an ended login on record, now and then.
    fn used_late(&self, id: LoginId, name: &str, end: LoginEnd, from: Option<&Client>) {
        {
            let now = self.now.get();
            let mut uses = lock(&self.late_uses);
            if uses.get(&id).is_some_and(|last| now < last.after(EVERY)) {
                return;
            }
            if uses.len() >= MOST {
                uses.retain(|_, last| now < last.after(EVERY));
            }
            if uses.len() >= MOST {
                return;
            }
            uses.insert(id, now);
        }
        let actor = match from {
            Some(client) => client.actor(name),
            None => Actor { user: Some(name.to_owned()), ..Actor::new(ActorKind::Browser) },
        };
        let event = Event::new(self.wall(), Action::LoginUsedAfterEnd, actor)
            .detail("login", id.to_string())
            .detail("reason", end.name());
        self.audit.record_soon(event);
    }

    fn unreadable(&self, error: &StoreError) -> Unavailable {
        tracing::error!(%error, "logins cannot be read");
        Unavailable::Store
    }
}
