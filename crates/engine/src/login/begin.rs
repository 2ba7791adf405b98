//! Signing in: a login begins, or gets a new token after its person proved again who they are.

use std::net::IpAddr;
use std::sync::Arc;

use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::ids::LoginId;
use sojourn_core::login::LoginEnd;
use sojourn_store::Beginning;
use sojourn_store::Login as Kept;
use sojourn_store::LoginOver;
use sojourn_store::Rotated;
use sojourn_store::StoreError;

use super::Inner;
use super::Logins;
use super::login::Login;
use super::login::Person;
use super::login::Proof;
use super::login::Standing;
use super::token;
use super::token::TokenHash;
use crate::engine::lock;
use crate::identity::Client;
use crate::identity::SignedIn;
use crate::identity::Unavailable;
use crate::secret::Secret;

/// Logins taken up at a time.
const PAGE: u32 = 1000;

/// Why nobody was signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// The password was changed, or the account closed, since it was checked; or the login has ended.
    /// To whoever asked it looks as if the password were wrong.
    #[error("the proof does not hold any more")]
    Stale,
    /// It cannot be done just now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a login gets another token.
#[derive(Clone, Debug)]
pub enum Rotation {
    /// Its person proved again who they are: both deadlines start anew.
    Reauthenticated(SignedIn),
    /// What it may do has changed: the deadlines stand.
    Changed,
}

impl Logins {
    /// Begins a login for somebody who has just proved who they are, and ends the one that their
    /// browser had. The secret is the token, for its cookie.
    ///
    /// # Errors
    /// When the proof does not hold any more, or it cannot be done just now.
    pub async fn begin(
        &self,
        who: &SignedIn,
        from: &Client,
        replacing: Option<&Login>,
    ) -> Result<(Secret, Arc<Login>), SignInError> {
        let (inner, who, from) = (self.inner.clone(), who.clone(), from.clone());
        let replacing = replacing.map(Login::id);
        let work = async move { inner.begin(&who, &from, replacing).await };
        self.to_its_end(work).await.unwrap_or(Err(Unavailable::Store.into()))
    }

    /// Gives a login another token; the one before is good for nothing from then on. What depends on
    /// the login goes on.
    ///
    /// # Errors
    /// When the proof does not hold, is somebody else's, or the login has ended.
    pub async fn rotate(
        &self,
        login: &Login,
        why: Rotation,
        from: &Client,
    ) -> Result<(Secret, Arc<Login>), SignInError> {
        let Some(login) = self.inner.shelf.by_id(login.id()) else {
            return Err(SignInError::Stale);
        };
        let (inner, from) = (self.inner.clone(), from.clone());
        let work = async move { inner.rotate(&login, why, &from).await };
        self.to_its_end(work).await.unwrap_or(Err(Unavailable::Store.into()))
    }
}

impl Inner {
    /// Takes up the logins that have not ended.
    pub(super) async fn load(&self) -> Result<(), StoreError> {
        for user in self.store.users().await? {
            self.shelf.person(&user);
        }
        let mut after = None;
        loop {
            let kept = self.store.live_logins(after, PAGE).await?;
            for kept in &kept {
                self.take_up(kept);
            }
            after = kept.last().map(|kept| kept.id);
            if kept.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
    }

    fn take_up(&self, kept: &Kept) {
        let (Some(token), Some(person)) =
            (TokenHash::from_hex(&kept.token_hash), self.shelf.person_by_id(kept.user))
        else {
            tracing::error!(login = %kept.id, "the store holds an impossible login");
            return;
        };
        // A clock that was set back while no gateway ran gives nobody more than the rules do.
        let now = self.now.get();
        let mut kept = kept.clone();
        kept.last_seen_at = kept.last_seen_at.min(now);
        let proof = Proof {
            token,
            csrf: self.csrf.token(&token),
            methods: kept.methods.parse().unwrap_or_default(),
            authenticated_at: kept.authenticated_at.min(now),
            idle_timeout: kept.idle_timeout,
            lifetime_ends_at: kept.lifetime_ends_at,
        };
        let address = kept.address.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let from = Client::new(address, &kept.device);
        self.put(&Arc::new(Login::new(&kept, person, from, proof)));
    }

    fn put(&self, login: &Arc<Login>) {
        self.shelf.insert(login);
        self.timer.hurry(login.id());
    }

    async fn person(&self, who: &SignedIn) -> Result<Arc<Person>, SignInError> {
        if let Some(person) = self.shelf.person_by_id(who.user()) {
            return Ok(person);
        }
        let user =
            self.store.user_by_id(who.user()).await.map_err(|error| self.store_failed(&error))?;
        user.map(|user| self.shelf.person(&user)).ok_or(SignInError::Stale)
    }

    async fn begin(
        &self,
        who: &SignedIn,
        from: &Client,
        replacing: Option<LoginId>,
    ) -> Result<(Secret, Arc<Login>), SignInError> {
        let (secret, token) = token::mint().map_err(|_| Unavailable::Store)?;
        let person = self.person(who).await?;
        let _turn = person.turn.lock().await;
        let (now, rules) = (self.now.get(), self.rules());
        let proof = Proof {
            token,
            csrf: self.csrf.token(&token),
            methods: who.methods(),
            authenticated_at: now,
            idle_timeout: rules.idle_timeout,
            lifetime_ends_at: now.after(rules.max_lifetime),
        };
        let kept = Kept {
            id: LoginId::new(),
            token_hash: token.to_hex(),
            user: who.user(),
            epoch: who.epoch(),
            created_at: now,
            authenticated_at: now,
            last_seen_at: now,
            idle_timeout: proof.idle_timeout,
            lifetime_ends_at: proof.lifetime_ends_at,
            methods: proof.methods.to_string(),
            address: from.address().to_string(),
            device: from.user_agent().to_owned(),
            over: None,
        };
        let event = |action: Action, id: LoginId| {
            Event::new(self.wall(), action, from.actor(&person.name))
                .detail("login", id.to_string())
                .detail("user", person.name.as_str())
        };
        let ended =
            |end: LoginEnd, id: LoginId| event(end.action(), id).detail("reason", end.name());
        let succeeded =
            event(Action::LoginSucceeded, kept.id).detail("methods", proof.methods.to_string());
        let replaced = replacing.map(|id| (id, ended(LoginEnd::Replaced, id)));
        let seen: Vec<_> =
            self.shelf.of(who.user()).iter().map(|login| (login.id(), login.last_seen())).collect();
        let evicted = |id| ended(LoginEnd::Evicted, id).detail("by", kept.id.to_string());
        let beginning = Beginning {
            login: &kept,
            event: &succeeded,
            replacing: replaced.as_ref().map(|(id, event)| (*id, event)),
            max: rules.max_per_user,
            seen: &seen,
            evicted: &evicted,
        };
        let begun =
            self.store.begin_login(&beginning).await.map_err(|error| self.store_failed(&error))?;
        let begun = begun.ok_or(SignInError::Stale)?;
        *lock(&person.standing) = Standing::from(&begun.user);
        for id in begun.evicted {
            self.gone(id, LoginEnd::Evicted);
        }
        if let Some(id) = replacing {
            self.gone(id, LoginEnd::Replaced);
        }
        if self.audit.settled().await.is_err() {
            // Nobody gets in off the record.
            let over = LoginOver { at: now, why: LoginEnd::Revoked };
            let _late = self.store.end_login(kept.id, over, &ended(over.why, kept.id)).await;
            return Err(Unavailable::Audit.into());
        }
        let login = Arc::new(Login::new(&kept, person.clone(), from.clone(), proof));
        self.put(&login);
        tracing::info!(
            user = person.name, login = %kept.id, source = %from.address(),
            event = "login_succeeded", "signed in",
        );
        Ok((secret, login))
    }

    async fn rotate(
        &self,
        login: &Arc<Login>,
        why: Rotation,
        from: &Client,
    ) -> Result<(Secret, Arc<Login>), SignInError> {
        let (secret, token) = token::mint().map_err(|_| Unavailable::Store)?;
        let _turn = login.person.turn.lock().await;
        // Being asked for it counts as activity, so that its time is not over meanwhile.
        let now = self.now.get();
        if !login.seen(now) {
            return Err(SignInError::Stale);
        }
        let (rules, before) = (self.rules(), login.proof());
        let (action, epoch, proof) = match why {
            Rotation::Reauthenticated(who) => {
                if who.user() != login.user() {
                    return Err(SignInError::Stale);
                }
                let proof = Proof {
                    token,
                    csrf: self.csrf.token(&token),
                    methods: who.methods(),
                    authenticated_at: now,
                    idle_timeout: rules.idle_timeout,
                    lifetime_ends_at: now.after(rules.max_lifetime),
                };
                (Action::LoginReauthenticated, who.epoch(), proof)
            }
            Rotation::Changed => {
                let proof = Proof { token, csrf: self.csrf.token(&token), ..before };
                (Action::LoginRotated, login.epoch(), proof)
            }
        };
        let event = Event::new(self.wall(), action, login.actor(from))
            .detail("login", login.id().to_string())
            .detail("methods", proof.methods.to_string());
        let rotated = Rotated {
            id: login.id(),
            epoch,
            token_hash: &proof.token.to_hex(),
            authenticated_at: proof.authenticated_at,
            last_seen_at: now,
            idle_timeout: proof.idle_timeout,
            lifetime_ends_at: proof.lifetime_ends_at,
            methods: &proof.methods.to_string(),
        };
        let done = self.store.rotate_login(login.user(), &rotated, &event).await;
        if !done.map_err(|error| self.store_failed(&error))? {
            return Err(SignInError::Stale);
        }
        if !self.shelf.rotate(login, proof) {
            // It ended in between, and has no token that anybody knows.
            let over = LoginOver { at: now, why: login.is_over().unwrap_or(LoginEnd::Revoked) };
            let event = self.ended(login, over.why, login.actor(from));
            let _late = self.store.end_login(login.id(), over, &event).await;
            return Err(SignInError::Stale);
        }
        Ok((secret, login.clone()))
    }

    pub(super) fn store_failed(&self, error: &StoreError) -> Unavailable {
        tracing::error!(%error, "a login was not kept");
        Unavailable::Store
    }
}
