//! Ending logins: by their person, by an admin, and by what becomes of their account.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::ids::LoginId;
use sojourn_core::ids::UserId;
use sojourn_core::login::LoginEnd;
use sojourn_core::time::Wall;
use sojourn_store::LoginOver;
use sojourn_store::StoreError;
use sojourn_store::User;

use super::Inner;
use super::Logins;
use super::login::Login;
use super::login::Person;
use super::login::Standing;
use crate::engine::lock;
use crate::identity::Unavailable;

/// How long the store may take to say whether an account has changed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a login was not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// It cannot be done just now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Logins {
    /// Ends a login. When this returns it is on disk, and good for nothing. False when it had ended.
    ///
    /// # Errors
    /// When it cannot be done just now: then it has not ended.
    pub async fn end(&self, id: LoginId, why: LoginEnd, by: &Actor) -> Result<bool, EndError> {
        let Some(login) = self.inner.shelf.by_id(id) else { return Ok(false) };
        let (inner, by) = (self.inner.clone(), by.clone());
        let work = async move { inner.end(&login, why, by).await };
        self.to_its_end(work).await.unwrap_or(Err(Unavailable::Store.into()))
    }

    /// Ends the logins of a user, all but one. How many those were.
    ///
    /// # Errors
    /// When it cannot be done just now: then none has ended.
    pub async fn end_all_of(
        &self,
        user: UserId,
        but: Option<LoginId>,
        why: LoginEnd,
        by: &Actor,
    ) -> Result<usize, EndError> {
        let Some(person) = self.inner.shelf.person_by_id(user) else { return Ok(0) };
        let (inner, by) = (self.inner.clone(), by.clone());
        let work = async move { inner.end_all_of(&person, but, why, by).await };
        self.to_its_end(work).await.unwrap_or(Err(Unavailable::Store.into()))
    }

    /// Looks what has become of the accounts, by whichever process: what is not good any more ends.
    ///
    /// # Errors
    /// When the store does not answer. Then nobody is found signed in until it does.
    pub async fn recheck(&self) -> Result<(), StoreError> {
        let inner = self.inner.clone();
        self.to_its_end(async move { inner.recheck().await }).await.unwrap_or(Ok(()))
    }

    /// A number that moves with every change of an account, by whichever process. While it cannot be
    /// had, nobody is found signed in: a change may go unseen.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn accounts_version(&self) -> Result<i64, StoreError> {
        let asked = tokio::time::timeout(PATIENCE, self.inner.store.accounts_version()).await;
        let version = asked.unwrap_or(Err(StoreError::Locked));
        let was = self.inner.blind.swap(version.is_err(), Ordering::Relaxed);
        match &version {
            Err(error) if !was => tracing::error!(%error, "logins cannot be checked"),
            Ok(_) if was => tracing::info!("logins can be checked again"),
            _ => {}
        }
        version
    }
}

impl Inner {
    pub(super) async fn end(
        &self,
        login: &Login,
        why: LoginEnd,
        by: Actor,
    ) -> Result<bool, EndError> {
        let _turn = login.person.turn.lock().await;
        let over = LoginOver { at: self.now.get(), why };
        let event = self.ended(login, why, by);
        let ended = self.store.end_login(login.id(), over, &event).await;
        let ended = ended.map_err(|error| self.store_failed(&error))?;
        self.gone(login.id(), why);
        Ok(ended)
    }

    async fn end_all_of(
        &self,
        person: &Person,
        but: Option<LoginId>,
        why: LoginEnd,
        by: Actor,
    ) -> Result<usize, EndError> {
        let _turn = person.turn.lock().await;
        let over = LoginOver { at: self.now.get(), why };
        let event = |id: LoginId| self.told(id, &person.name, why, by.clone());
        let ended = self.store.end_logins_of(person.id, but, over, &event).await;
        let ended = ended.map_err(|error| self.store_failed(&error))?;
        for id in &ended {
            self.gone(*id, why);
        }
        Ok(ended.len())
    }

    async fn recheck(&self) -> Result<(), StoreError> {
        // Whoever changes something from here on is looked at once more.
        let changes = self.store.account_changes();
        for user in self.store.users().await? {
            let person = self.shelf.person(&user);
            if person.standing() != Standing::from(&user) {
                self.recheck_person(&person).await?;
            }
        }
        self.rechecked.fetch_max(changes, Ordering::AcqRel);
        self.moved.notify_one();
        Ok(())
    }

    /// Whether this process has changed an account since it was looked.
    pub(super) fn is_stale(&self) -> bool {
        self.rechecked.load(Ordering::Acquire) != self.store.account_changes()
    }

    /// Makes memory tell of an account what the store does.
    async fn recheck_person(&self, person: &Person) -> Result<(), StoreError> {
        let _turn = person.turn.lock().await;
        // Once more, now that nothing of ours changes it.
        let Some(user) = self.store.user_by_id(person.id).await? else { return Ok(()) };
        let live: Vec<LoginId> =
            self.store.logins_of(person.id).await?.iter().map(|kept| kept.id).collect();
        for login in self.shelf.of(person.id) {
            if live.contains(&login.id()) {
                continue;
            }
            let kept = self.store.login(login.id()).await?;
            let over = kept.and_then(|kept| kept.over);
            self.gone(login.id(), over.map_or(LoginEnd::Revoked, |over| over.why));
        }
        self.stands(person, &user);
        Ok(())
    }

    /// The account stands so now. Logins that are live in the store and do not fit any more are ended
    /// by the timer, as those are whose time is over.
    fn stands(&self, person: &Person, user: &User) {
        *lock(&person.standing) = Standing::from(user);
        for login in self.shelf.of(person.id) {
            self.timer.hurry(login.id());
        }
    }

    /// A login that the store knows to have ended is good for nothing from now on.
    pub(super) fn gone(&self, id: LoginId, why: LoginEnd) {
        let Some(login) = self.shelf.by_id(id) else { return };
        login.finish(why);
        self.shelf.remove(&login);
        self.moved.notify_one();
        tracing::info!(
            user = login.name(), login = %id, reason = why.name(), event = "login_over", "login over",
        );
    }

    /// What goes on record of a login's end.
    pub(super) fn ended(&self, login: &Login, why: LoginEnd, by: Actor) -> Event {
        self.told(login.id(), login.name(), why, by)
            .detail("started", login.created_at().to_rfc3339())
            .detail("last_seen", login.last_seen().to_rfc3339())
    }

    fn told(&self, id: LoginId, name: &str, why: LoginEnd, by: Actor) -> Event {
        Event::new(self.wall(), why.action(), by)
            .detail("login", id.to_string())
            .detail("user", name)
            .detail("reason", why.name())
    }

    /// The time that goes on record.
    pub(super) fn wall(&self) -> Wall {
        self.now.get()
    }

    /// A login's time is over, or its ground is gone: memory says so at once, the store when it can.
    /// False when that has to be tried again.
    pub(super) async fn expire(&self, login: &Arc<Login>, why: LoginEnd) -> bool {
        login.finish(why);
        let why = login.is_over().unwrap_or(why);
        let over = LoginOver { at: self.now.get(), why };
        let actor = Actor { user: Some(login.name().to_owned()), ..Actor::SYSTEM };
        let actor = Actor { ip_address: Some(login.begun_from().address()), ..actor };
        let event = self.ended(login, why, actor);
        let ended = match why.is_expiry() {
            true => self.store.expire_login(login.id(), login.last_seen(), over, &event).await,
            false => self.store.end_login(login.id(), over, &event).await,
        };
        match ended {
            Ok(_) => {
                self.gone(login.id(), why);
                true
            }
            Err(error) => {
                tracing::error!(%error, login = %login.id(), "the end of a login was not kept");
                false
            }
        }
    }
}
