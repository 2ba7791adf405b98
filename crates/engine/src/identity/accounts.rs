//! Making and changing accounts: what `sojourn user` and the API do, with the gateway running or not.

use std::path::PathBuf;
use std::sync::Arc;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::authz::Role;
use sojourn_core::authz::is_user_name;
use sojourn_core::ids::KeyId;
use sojourn_core::ids::UserId;
use sojourn_core::ids::is_named_by;
use sojourn_store::NewUser;
use sojourn_store::Store;
use sojourn_store::StoreError;
use sojourn_store::User;
use sojourn_store::UserKey;

use super::first;
use super::hash::Cost;
use super::hash::HashError;
use super::hash::Hasher;
use super::keys::BadKey;
use super::keys::SshKey;
use super::policy::BadPassword;
use super::rules::Rules;
use super::seal::Seal;
use crate::clock::Clock;

/// Why an account was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Not a name an account can have.
    #[error(
        "{0:?} cannot be a user's name: a lower-case letter or _, then up to 31 of a-z 0-9 _ . -"
    )]
    Name(String),
    /// No account of this name.
    #[error("there is no user {0:?}")]
    NoUser(String),
    /// The account has no such key.
    #[error("{user} has no key {key:?}; \"sojourn user key ls {user}\" lists them")]
    NoKey {
        /// Whose.
        user: String,
        /// As it was typed.
        key: String,
    },
    /// More than one key is meant.
    #[error("{0:?} is the end of more than one key's id; type more of it")]
    Ambiguous(String),
    /// The account is closed.
    #[error("the account {0:?} is disabled; enable it first")]
    Closed(String),
    /// The password is not good enough.
    #[error(transparent)]
    Password(#[from] BadPassword),
    /// The key is not taken.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// No hash could be computed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Accounts, as those who may change them see them. Every change goes on record with its actor.
#[derive(Clone)]
pub struct Accounts {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) data_dir: PathBuf,
    pub(super) hasher: Hasher,
    pub(super) rules: Rules,
}

impl Accounts {
    /// The accounts of a data directory.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, data_dir: PathBuf) -> Self {
        let (hasher, rules) = (Hasher::new(Cost::default()), Rules::default());
        Self { store, clock, data_dir, hasher, rules }
    }

    /// All accounts, by name.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self) -> Result<Vec<User>, AccountError> {
        Ok(self.store.users().await?)
    }

    /// One account.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn get(&self, name: &str) -> Result<User, AccountError> {
        let user = self.store.user_by_name(name).await?;
        user.ok_or_else(|| AccountError::NoUser(name.to_owned()))
    }

    /// Makes an account. Without a password it has only its keys.
    ///
    /// # Errors
    /// When the name or the password is not good, or the name is taken.
    pub async fn add(
        &self,
        name: &str,
        role: Role,
        password: Option<&str>,
        actor: Actor,
    ) -> Result<UserId, AccountError> {
        if !is_user_name(name) {
            return Err(AccountError::Name(name.to_owned()));
        }
        let password = self.hashed(name, password, false).await?;
        let event = self
            .event(Action::UserAdded, name, actor)
            .detail("role", role.name())
            .detail("password", password.is_some());
        let id = UserId::new();
        let at = event.timestamp;
        let new = NewUser { id, name: name.to_owned(), role, password, must_change: false, at };
        self.store.add_user(&new, &event).await?;
        Ok(id)
    }

    /// Sets an account's password, or takes it away. What the old one opened ends.
    ///
    /// # Errors
    /// When the password is not good enough.
    pub async fn set_password(
        &self,
        name: &str,
        password: Option<&str>,
        actor: Actor,
    ) -> Result<(), AccountError> {
        let user = self.get(name).await?;
        let totp = self.store.totp(user.id).await?;
        let has_second_factor = totp.is_some_and(|totp| totp.confirmed_at.is_some());
        let hash = self.hashed(name, password, has_second_factor).await?;
        let event =
            self.event(Action::UserPasswordChanged, name, actor).detail("password", hash.is_some());
        self.store.set_password(user.id, hash.as_deref(), false, &event).await?;
        // Whoever gets a new password is not to wait for what was tried at the old one.
        match Seal::load_or_make(&self.data_dir) {
            Ok(seal) => self.store.clear_failures(&seal.hide(&["name", name])).await?,
            Err(error) => tracing::warn!(%error, "failures of before still count"),
        }
        if user.must_change && name == first::NAME {
            first::forget(&self.data_dir);
        }
        Ok(())
    }

    /// Gives an account another role.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn set_role(&self, name: &str, role: Role, actor: Actor) -> Result<(), AccountError> {
        let user = self.get(name).await?;
        let event = self
            .event(Action::UserRoleChanged, name, actor)
            .detail("from", user.role.name())
            .detail("role", role.name());
        Ok(self.store.set_role(user.id, role, &event).await?)
    }

    /// Closes an account. What its password opened ends.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn disable(&self, name: &str, actor: Actor) -> Result<(), AccountError> {
        let user = self.get(name).await?;
        let event = self.event(Action::UserDisabled, name, actor);
        Ok(self.store.disable_user(user.id, &event).await?)
    }

    /// Opens a closed account.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn enable(&self, name: &str, actor: Actor) -> Result<(), AccountError> {
        let user = self.get(name).await?;
        let event = self.event(Action::UserEnabled, name, actor);
        Ok(self.store.enable_user(user.id, &event).await?)
    }

    /// An account's keys, the oldest first.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn keys(&self, name: &str) -> Result<Vec<UserKey>, AccountError> {
        let user = self.get(name).await?;
        Ok(self.store.keys_of(user.id).await?)
    }

    /// Adds a key, given as the text of a `.pub` file.
    ///
    /// # Errors
    /// When it is not a good key, or the account has it.
    pub async fn add_key(
        &self,
        name: &str,
        text: &str,
        actor: Actor,
    ) -> Result<UserKey, AccountError> {
        let user = self.get(name).await?;
        let key: SshKey = text.parse()?;
        let fingerprint = key.fingerprint();
        let event =
            self.event(Action::KeyAdded, name, actor).detail("fingerprint", fingerprint.as_str());
        let new = UserKey {
            id: KeyId::new(),
            user: user.id,
            openssh: key.to_string(),
            fingerprint,
            comment: key.comment().to_owned(),
            added_at: event.timestamp,
        };
        self.store.add_key(&new, &event).await?;
        Ok(new)
    }

    /// Takes a key away, named by its id, an ending of that, or its fingerprint.
    ///
    /// # Errors
    /// When there is none, or more than one is meant.
    pub async fn remove_key(
        &self,
        name: &str,
        typed: &str,
        actor: Actor,
    ) -> Result<UserKey, AccountError> {
        let keys = self.keys(name).await?;
        let is_meant = |key: &UserKey| key.fingerprint == typed || is_named_by(&key.id.0, typed);
        let mut meant = keys.into_iter().filter(is_meant);
        let none = || AccountError::NoKey { user: name.to_owned(), key: typed.to_owned() };
        let key = meant.next().ok_or_else(none)?;
        if meant.next().is_some() {
            return Err(AccountError::Ambiguous(typed.to_owned()));
        }
        let event = self
            .event(Action::KeyRemoved, name, actor)
            .detail("fingerprint", key.fingerprint.as_str());
        self.store.remove_key(key.user, key.id, &event).await?;
        Ok(key)
    }

    async fn hashed(
        &self,
        name: &str,
        password: Option<&str>,
        has_second_factor: bool,
    ) -> Result<Option<String>, AccountError> {
        let Some(password) = password else { return Ok(None) };
        self.rules.policy().check(password, name, has_second_factor).await?;
        Ok(Some(self.hasher.hash(password).await?))
    }

    pub(super) fn event(&self, action: Action, name: &str, actor: Actor) -> Event {
        Event::new(self.clock.wall(), action, actor).detail("user", name)
    }
}
