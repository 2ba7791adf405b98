//! Tokens of programs and runners: made once, shown once, looked up for each request, gone at once
//! when they are revoked.
//!
//! A lookup is kept in memory together with how the accounts stood. Every change of an account or
//! token through this process makes what is kept out of date before it is answered; a change by
//! another process is heard of within [`LOOK`].

mod cache;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde_json::json;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Role;
use sojourn_core::ids::TokenId;
use sojourn_core::ids::UserId;
use sojourn_core::scope::Scope;
use sojourn_core::scope::Scopes;
use sojourn_core::time::Wall;
use sojourn_store::NewToken;
use sojourn_store::Store;
use sojourn_store::StoreError;
use sojourn_store::Token;

use crate::audit::AuditHandle;
use crate::audit::AuditUnavailable;
use crate::clock::Clock;
use crate::identity::Client;
use crate::identity::Unavailable;
use crate::secret;
use crate::secret::NoRandomness;
use crate::secret::Secret;
use crate::view::rfc3339;
use cache::Cache;

/// How a program's token begins.
pub const PREFIX: &str = "sjt1_";
/// How a runner's token begins.
pub const RUNNER_PREFIX: &str = "sjrunner1_";

/// How soon a change by another process is heard of.
const LOOK: Duration = Duration::from_millis(250);
/// A use is noted no more often than this.
const BETWEEN_TOUCHES: Duration = Duration::from_secs(60);
/// The longest name of a token, in bytes.
const LONGEST_NAME: usize = 64;
/// The longest name of a runner, in bytes.
const LONGEST_RUNNER: usize = 32;
/// The longest time a token is good for.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Who a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// What requests it may be used for; none of a runner's.
    pub scopes: Scopes,
    /// For which of their runners it is; none: for requests to the API.
    pub runner: Option<String>,
}

/// Why a token is none whose time is over.
const EXPIRED: &str = "token_expired";

impl ApiToken {
    /// Whether a request that needs this scope is covered.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.runner.is_none() && self.scopes.cover(scope)
    }

    /// As the one who asks, for the table of who may what.
    #[must_use]
    pub const fn asker(&self) -> Asker {
        Asker::User(self.user, self.role)
    }
}

/// A token as its owner and admins see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub user: String,
    /// What they call it.
    pub name: String,
    /// For which of their runners it is.
    pub runner: Option<String>,
    /// What requests it may be used for.
    pub scopes: Scopes,
    /// Whether it can be used.
    pub status: TokenStatus,
    /// When it was made.
    #[serde(with = "rfc3339")]
    pub created_at: Wall,
    /// It is good until then.
    #[serde(with = "rfc3339::option")]
    pub expires_at: Option<Wall>,
    /// When it was last used, give or take a minute.
    #[serde(with = "rfc3339::option")]
    pub last_used_at: Option<Wall>,
    /// When it was revoked.
    #[serde(with = "rfc3339::option")]
    pub revoked_at: Option<Wall>,
}

/// Whether a token can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenStatus {
    /// It can.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// Its user's account is closed.
    Disabled,
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No such account.
    #[error("there is no such user")]
    NoUser,
    /// The account is closed.
    #[error("the account {0} is disabled; enable it first")]
    Disabled(String),
    /// Not a name a token can have.
    #[error("a token's name has 1 to 64 characters, none of them a control character")]
    Name,
    /// Not a name a runner can have.
    #[error(
        "{0:?} cannot be a runner's name: a lower-case letter or digit, then up to 31 of a-z 0-9 _ . -"
    )]
    Runner(String),
    /// A token for requests needs a scope.
    #[error("name at least one scope: read, sessions or admin")]
    NoScope,
    /// A runner's token is for nothing else.
    #[error("a runner's token has no scopes")]
    RunnerScopes,
    /// It would never be good.
    #[error("the time at which the token expires must lie ahead, within 100 years")]
    Expiry,
    /// No such token, or another's.
    #[error("there is no such token")]
    NoToken,
    /// Nothing new is made that would not be on record.
    #[error(transparent)]
    Audit(#[from] AuditUnavailable),
    /// The system has no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The store refused, or does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    store: Store,
    audit: AuditHandle,
    clock: Arc<dyn Clock>,
    cache: Arc<Cache>,
}

impl Tokens {
    /// The tokens in `store`, on the record of `audit`.
    #[must_use]
    pub fn new(store: Store, audit: AuditHandle, clock: Arc<dyn Clock>) -> Self {
        Self { store, audit, clock, cache: Arc::default() }
    }

    /// Makes a token for a user; the secret is shown this once. With `runner` it is for a runner of
    /// theirs, and for no request.
    ///
    /// # Errors
    /// When it would not be good for anything, could not be put on record, or there are too many.
    pub async fn create(
        &self,
        user: UserId,
        wanted: Wanted,
        by: &Actor,
    ) -> Result<(Secret, TokenView), TokenError> {
        let now = self.clock.wall();
        wanted.check(now)?;
        if !self.audit.is_writable() {
            return Err(AuditUnavailable.into());
        }
        let account = self.store.user_by_id(user).await?.ok_or(TokenError::NoUser)?;
        if account.disabled_at.is_some() {
            return Err(TokenError::Disabled(account.name));
        }
        let prefix = if wanted.runner.is_some() { RUNNER_PREFIX } else { PREFIX };
        let secret = Secret::random(prefix)?;
        let Wanted { name, scopes, expires_at, runner } = wanted;
        let new = NewToken {
            id: TokenId::new(),
            hash: secret.hash(),
            user,
            name,
            runner,
            scopes,
            created_at: now,
            expires_at,
        };
        let event = Event::new(now, Action::TokenCreated, by.clone())
            .detail("user", account.name.as_str())
            .detail("token", new.id.to_string())
            .detail("name", new.name.as_str())
            .detail("scopes", json!(new.scopes))
            .detail("runner", json!(new.runner))
            .detail("expires_at", json!(new.expires_at.map(Wall::to_rfc3339)));
        self.store.add_token(&new, &event).await?;
        if let Err(unavailable) = self.audit.settled().await {
            // Nobody has seen it yet, and nobody will.
            let event = self.revocation(new.id, &account.name, by).detail("reason", "audit");
            if let Err(error) = self.store.revoke_token(new.id, &event).await {
                tracing::error!(token = %new.id, %error, "an unused token stays; revoke it");
            }
            return Err(unavailable.into());
        }
        let view = TokenView {
            id: new.id,
            user: account.name,
            name: new.name,
            runner: new.runner,
            scopes,
            status: TokenStatus::Active,
            created_at: now,
            expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        Ok((secret, view))
    }

    /// Who a secret stands for just now; none: nobody, for whatever reason.
    ///
    /// # Errors
    /// When the store does not answer: then it cannot be told whether the token was revoked.
    pub async fn resolve(&self, secret: &str) -> Result<Option<Arc<ApiToken>>, Unavailable> {
        self.resolve_from(secret, None).await
    }

    /// The same of somebody who may hold a token that is none any more: its use is on record.
    ///
    /// # Errors
    /// When the store does not answer: then it cannot be told whether the token was revoked.
    pub async fn resolve_from(
        &self,
        secret: &str,
        client: Option<&Client>,
    ) -> Result<Option<Arc<ApiToken>>, Unavailable> {
        if ![PREFIX, RUNNER_PREFIX].iter().any(|prefix| secret::is_formed(secret, prefix)) {
            return Ok(None);
        }
        let hash = secret::hash_of(secret);
        let standing = self.cache.standing(&self.store).await.map_err(unanswered)?;
        let now = self.clock.wall();
        let token = match self.cache.get(&hash, standing) {
            Some(token) => token,
            None => {
                let found = self.store.token_by_hash(&hash).await.map_err(unanswered)?;
                let Some(found) = found else { return Ok(None) };
                if !found.is_good(now) {
                    let code = match () {
                        () if found.revoked_at.is_some() => "token_revoked",
                        () if found.user_disabled_at.is_some() => "account_disabled",
                        () => EXPIRED,
                    };
                    self.dead(found.id, &found.user_name, code, client);
                    return Ok(None);
                }
                self.cache.keep(hash.clone(), standing, found)
            }
        };
        if token.expires_at.is_some_and(|end| end <= now) {
            self.dead(token.who.id, &token.who.name, EXPIRED, client);
            return Ok(None);
        }
        if self.cache.is_to_touch(&hash, now) {
            let touched = self.store.touch_token(token.who.id, now).await;
            if let Err(error) = touched {
                tracing::warn!(token = %token.who.id, %error, "the use of a token is not noted");
            }
        }
        Ok(Some(token.who))
    }

    /// Puts on record that somebody still uses a token that stands for nobody.
    fn dead(&self, id: TokenId, user: &str, code: &'static str, client: Option<&Client>) {
        let Some(client) = client else { return };
        let actor = Actor {
            user: Some(user.to_owned()),
            ip_address: Some(client.address()),
            ..Actor::new(ActorKind::Token)
        };
        let actor = actor.with_user_agent(client.user_agent());
        let event = Event::new(self.clock.wall(), Action::AccessRefused, actor)
            .detail("code", code)
            .detail("token", id.to_string());
        self.audit.record_few(event, self.clock.mono());
    }

    /// Whether what was begun with this token may go on: it was not revoked, its time is not over,
    /// and its user's account is open.
    ///
    /// # Errors
    /// When the store does not answer, which is no reason to end anything.
    pub async fn still_stands(&self, id: TokenId) -> Result<bool, StoreError> {
        let found = self.store.token(id).await?;
        Ok(found.is_some_and(|token| token.is_good(self.clock.wall())))
    }

    /// Tokens, the newest first: of one user or of all, older than `before`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(
        &self,
        of: Option<UserId>,
        before: Option<TokenId>,
        limit: u32,
    ) -> Result<Vec<TokenView>, StoreError> {
        let now = self.clock.wall();
        let tokens = self.store.tokens(of, before, limit).await?;
        Ok(tokens.into_iter().map(|token| view(token, now)).collect())
    }

    /// Tokens that an id or an ending of one, as somebody typed it, can mean: of one user or of all.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn named(
        &self,
        typed: &str,
        of: Option<UserId>,
    ) -> Result<Vec<TokenView>, StoreError> {
        let now = self.clock.wall();
        let tokens = self.store.tokens_ending_in(typed, 100).await?;
        let theirs = tokens.into_iter().filter(|token| of.is_none_or(|user| token.user == user));
        Ok(theirs.map(|token| view(token, now)).collect())
    }

    /// Revokes a token, of one user or whosever it is: from now on it stands for nobody. Works also
    /// while nothing can be put on record; that is done later. False when it was revoked before.
    ///
    /// # Errors
    /// When there is none, or the store does not answer.
    pub async fn revoke(
        &self,
        id: TokenId,
        of: Option<UserId>,
        by: &Actor,
    ) -> Result<bool, TokenError> {
        let found = self.store.token(id).await?;
        let theirs = found.filter(|token| of.is_none_or(|user| token.user == user));
        let token = theirs.ok_or(TokenError::NoToken)?;
        let event = self.revocation(id, &token.user_name, by).detail("name", token.name);
        Ok(self.store.revoke_token(id, &event).await?)
    }

    fn revocation(&self, id: TokenId, user: &str, by: &Actor) -> Event {
        Event::new(self.clock.wall(), Action::TokenRevoked, by.clone())
            .detail("user", user)
            .detail("token", id.to_string())
    }
}

/// What a token is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What its user calls it.
    pub name: String,
    /// What requests it may be used for.
    pub scopes: Scopes,
    /// It is good until then; none: until it is revoked.
    pub expires_at: Option<Wall>,
    /// For which runner it is.
    pub runner: Option<String>,
}

impl Wanted {
    fn check(&self, now: Wall) -> Result<(), TokenError> {
        let name = self.name.trim();
        if name.is_empty() || self.name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(TokenError::Name);
        }
        match &self.runner {
            Some(runner) if !is_runner_name(runner) => {
                return Err(TokenError::Runner(runner.chars().take(LONGEST_RUNNER).collect()));
            }
            Some(_) if !self.scopes.is_empty() => return Err(TokenError::RunnerScopes),
            None if self.scopes.is_empty() => return Err(TokenError::NoScope),
            _ => {}
        }
        let lies_ahead = |end: Wall| end > now && end <= now.after(LONGEST_LIFE);
        if self.expires_at.is_some_and(|end| !lies_ahead(end)) {
            return Err(TokenError::Expiry);
        }
        Ok(())
    }
}

/// Whether a runner can be called so. It stands in `alice+laptop:` at the SSH door.
#[must_use]
pub fn is_runner_name(name: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_later = |byte: u8| is_first(byte) || matches!(byte, b'_' | b'.' | b'-');
    name.len() <= LONGEST_RUNNER
        && name.bytes().next().is_some_and(is_first)
        && name.bytes().all(is_later)
}

fn unanswered(error: StoreError) -> Unavailable {
    tracing::error!(%error, "tokens cannot be read");
    Unavailable::Store
}

fn view(token: Token, now: Wall) -> TokenView {
    let status = match &token {
        token if token.revoked_at.is_some() => TokenStatus::Revoked,
        token if token.expires_at.is_some_and(|end| end <= now) => TokenStatus::Expired,
        token if token.user_disabled_at.is_some() => TokenStatus::Disabled,
        _ => TokenStatus::Active,
    };
    TokenView {
        id: token.id,
        user: token.user_name,
        name: token.name,
        runner: token.runner,
        scopes: token.scopes,
        status,
        created_at: token.created_at,
        expires_at: token.expires_at,
        last_used_at: token.last_used_at,
        revoked_at: token.revoked_at,
    }
}
