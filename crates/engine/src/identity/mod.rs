//! Who somebody is: the one place that checks passwords, keys and certificates, for every door.
//!
//! It never tells whether a name exists: unknown, wrong, closed and throttled names get the same
//! answer after the same work. Only passwords are throttled; a valid key gets in at once from any
//! address. Each attempt goes on record, and an accepted one does so before it counts.

mod accounts;
mod again;
mod claim;
mod current;
mod factors;
mod first;
mod hash;
mod keys;
mod links;
mod policy;
mod rules;
mod seal;
mod sign_in;
mod signed_in;
mod ssh_door;
mod throttle;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Role;
use sojourn_core::authz::is_user_name;
use sojourn_core::ids::LoginId;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;
use sojourn_store::Store;
use sojourn_store::StoreError;
pub use sojourn_store::User;
pub use sojourn_store::UserKey;

pub use accounts::AccountError;
pub use accounts::Accounts;
pub use again::Again;
pub(crate) use current::Current;
pub(crate) use current::NotTaken;
pub use factors::Enrolment;
pub use factors::FactorError;
pub use factors::RECOVERY_CODES;
pub use factors::SecondFactor;
pub use first::FILE as FIRST_ADMIN_FILE;
pub use first::FirstAdmin;
pub use first::ensure_first_admin;
pub(crate) use first::forget_after;
pub use hash::Cost;
pub use hash::HashError;
pub use hash::MAX_BYTES as MAX_PASSWORD_BYTES;
pub use keys::BadKey;
pub use keys::SshKey;
pub use links::LINK_LIFETIME;
pub use links::ResetError;
pub use links::ResetLink;
pub use policy::Advice;
pub use policy::BadPassword;
pub use policy::MAX_CHARACTERS;
pub use policy::MIN_CHARACTERS;
pub use policy::MIN_CHARACTERS_WITH_FACTOR;
pub use policy::Policy;
pub use policy::check as check_password;
pub use seal::SealError;
pub use sign_in::CEREMONY_LIFETIME;
pub use sign_in::SignIn;
pub use signed_in::Client;
pub use signed_in::Method;
pub use signed_in::Methods;
pub use signed_in::SignedIn;
pub use signed_in::UnknownMethod;

use crate::audit::AuditHandle;
use crate::clock::Clock;
use hash::Hasher;
use rules::Rules;
use seal::Seal;

/// The longest text of a certificate that goes on record, in characters.
const LONGEST_TEXT: usize = 256;

/// Where an attempt comes from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// The client's own name, as it sent it.
    pub client: String,
    /// What tells an SSH client's software from others'.
    pub hassh: Option<String>,
}

/// How somebody was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// By their password.
    Password,
    /// By a key of theirs.
    Key,
    /// By a certificate of the authority the gateway trusts.
    Certificate,
    /// By their login at the web door.
    Login,
    /// By a token of theirs.
    Token,
}

impl How {
    /// The name in the audit log and the sidecar.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Key => "publickey",
            Self::Certificate => "certificate",
            Self::Login => "login",
            Self::Token => "token",
        }
    }

    /// The way that is called so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Password, Self::Key, Self::Certificate, Self::Login, Self::Token];
        all.into_iter().find(|how| how.name() == name)
    }

    /// Whether it is over when the account's password changes, or the account is closed.
    #[must_use]
    pub const fn ends_with_epoch(self) -> bool {
        matches!(self, Self::Password | Self::Login)
    }
}

/// Somebody who was authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Their account.
    pub id: UserId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How they were authenticated.
    pub how: How,
    /// The fingerprint of their key.
    pub fingerprint: Option<String>,
    /// The account's epoch: when it moves on, what a password opened is over.
    pub epoch: i64,
    /// Their login at the web door, where they came by one.
    pub login: Option<LoginId>,
}

impl Principal {
    /// As the one who asks, for the table of who may what.
    #[must_use]
    pub const fn asker(&self) -> Asker {
        Asker::User(self.id, self.role)
    }
}

/// What comes of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is them.
    Accepted(Principal),
    /// So far it is them, and a code of their authenticator is asked for.
    CodeNeeded(Half),
    /// No; the peer gets no reason.
    Refused,
    /// Not even tried. To the peer it looks refused, except where a door may say to come later.
    Throttled {
        /// When a try may count again.
        retry_after: Duration,
    },
    /// It cannot be told just now, which is a no.
    Unavailable(Unavailable),
}

/// Why nobody can be let in just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The store does not answer.
    #[error("the store does not answer")]
    Store,
    /// The audit log cannot be written, so nobody gets in unrecorded.
    #[error("the audit log cannot be written")]
    Audit,
    /// Too many passwords are being checked.
    #[error("too many sign-ins at the same time")]
    Busy,
}

/// A certificate whose signature, times and options the door has checked.
#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    /// For which names it is good.
    pub principals: &'a [String],
    /// What its authority calls it.
    pub key_id: &'a str,
    /// Its number.
    pub serial: u64,
    /// The fingerprint of the certified key.
    pub fingerprint: &'a str,
}

/// Somebody at the SSH door who has proved who they are but for the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    user: User,
    how: How,
    fingerprint: Option<String>,
    bucket: String,
    begun: Wall,
    tries: u32,
}

impl Half {
    /// Whom they claim to be, and have all but shown.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.user.name
    }
}

/// What the configuration says about proving who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What a password's hash costs.
    pub cost: Cost,
    /// Which passwords are good enough.
    pub policy: Policy,
    /// Whether a key at the SSH door is not enough for a user with a second factor.
    pub ssh_key_needs_totp: bool,
}

/// Checks who somebody is. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    store: Store,
    audit: AuditHandle,
    clock: Arc<dyn Clock>,
    hasher: Hasher,
    seal: Seal,
    rules: Rules,
    data_dir: Option<PathBuf>,
    /// How many were counted by this process.
    failures: Arc<AtomicU32>,
}

/// An attempt, as it goes on record.
struct Attempt<'a> {
    name: &'a str,
    peer: &'a Peer,
    event: Event,
}

impl Identity {
    /// Checks against the accounts in `store`, on the record of `audit`, with the keys in a data
    /// directory.
    ///
    /// # Errors
    /// When the key there cannot be read or made.
    pub fn open(
        store: Store,
        audit: AuditHandle,
        clock: Arc<dyn Clock>,
        data_dir: &Path,
        settings: Settings,
    ) -> Result<Self, SealError> {
        let seal = Seal::load_or_make(data_dir)?;
        let mut identity = Self::with_seal(store, audit, clock, seal, settings);
        identity.data_dir = Some(data_dir.to_owned());
        Ok(identity)
    }

    /// The same with a key that is gone with it, and without configuration.
    ///
    /// # Panics
    /// When the system has no random bytes.
    #[must_use]
    pub fn new(store: Store, audit: AuditHandle, clock: Arc<dyn Clock>) -> Self {
        let seal = Seal::passing().expect("random bytes");
        Self::with_seal(store, audit, clock, seal, Settings::default())
    }

    fn with_seal(
        store: Store,
        audit: AuditHandle,
        clock: Arc<dyn Clock>,
        seal: Seal,
        settings: Settings,
    ) -> Self {
        Self {
            store,
            audit,
            clock,
            hasher: Hasher::new(settings.cost),
            seal,
            rules: Rules::new(&settings),
            data_dir: None,
            failures: Arc::default(),
        }
    }

    /// The accounts, by the same rules for passwords, hashed in the same turns.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        Accounts {
            store: self.store.clone(),
            clock: self.clock.clone(),
            data_dir: self.data_dir.clone().unwrap_or_default(),
            hasher: self.hasher.clone(),
            rules: self.rules.clone(),
        }
    }

    /// Other settings from now on. What a hash costs stays: whoever does not exist has to take as long
    /// as those who do.
    pub fn set_settings(&self, settings: &Settings) {
        self.rules.set(settings);
    }

    /// Whether a key is worth a signature: it is one of `name`'s. Not an attempt yet.
    ///
    /// # Errors
    /// Why it is not, for the record alone.
    pub async fn knows_key(&self, name: &str, fingerprint: &str) -> Result<(), &'static str> {
        match self.user_with_key(name, fingerprint).await {
            Ok(known) => known.map(drop),
            Err(_) => Err("the store does not answer"),
        }
    }

    /// Somebody has proved that they hold this key, and claims to be `name`. Also for a key that was
    /// only offered and is none of theirs, so that it goes on record.
    pub async fn public_key(&self, name: &str, fingerprint: &str, peer: &Peer) -> Verdict {
        let mut attempt = self.attempt(name, How::Key.name(), peer);
        attempt.event = attempt.event.detail("fingerprint", cut(fingerprint));
        match self.user_with_key(name, fingerprint).await {
            Err(_) => self.unavailable(attempt, Unavailable::Store),
            Ok(Err(why)) => self.refused(attempt, why),
            Ok(Ok(user)) => self.by_key(attempt, user, How::Key, fingerprint).await,
        }
    }

    /// Somebody has proved that they hold the key of this certificate, and claims to be `name`.
    pub async fn certificate(
        &self,
        name: &str,
        certificate: &Certificate<'_>,
        peer: &Peer,
    ) -> Verdict {
        let mut attempt = self.attempt(name, How::Certificate.name(), peer);
        attempt.event = attempt
            .event
            .detail("fingerprint", cut(certificate.fingerprint))
            .detail("key_id", cut(certificate.key_id))
            .detail("serial", certificate.serial);
        // A certificate for nobody in particular is for nobody, as in OpenSSH.
        if !certificate.principals.iter().any(|principal| principal == name) {
            return self.refused(attempt, "not for this user");
        }
        match self.find(name).await {
            Err(_) => self.unavailable(attempt, Unavailable::Store),
            Ok(Some(user)) if is_open(&user) => {
                self.by_key(attempt, user, How::Certificate, certificate.fingerprint).await
            }
            Ok(Some(_)) => self.refused(attempt, "disabled"),
            Ok(None) => self.refused(attempt, "unknown user"),
        }
    }

    /// Whether this principal may begin something new now: their account is open, and the password they
    /// came by is still theirs.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn may_begin(&self, principal: &Principal) -> Result<bool, StoreError> {
        let user = self.store.user_by_id(principal.id).await?;
        Ok(user.is_some_and(|user| {
            is_open(&user) && (!principal.how.ends_with_epoch() || user.epoch == principal.epoch)
        }))
    }

    /// Whether what this principal opened may go on: false when they came by a password that has
    /// been changed since, or their account was closed. Ask again whenever
    /// [`Identity::accounts_version`] moves.
    ///
    /// # Errors
    /// When the store does not answer, which is no reason to end anything.
    pub async fn still_stands(&self, principal: &Principal) -> Result<bool, StoreError> {
        let user = self.store.user_by_id(principal.id).await?;
        let ends = principal.how.ends_with_epoch();
        Ok(user.is_some_and(|user| !ends || user.epoch == principal.epoch))
    }

    /// A number that moves with every change of an account, by whichever process.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn accounts_version(&self) -> Result<i64, StoreError> {
        self.store.accounts_version().await
    }

    /// The account of this name, if there can be one.
    async fn find(&self, name: &str) -> Result<Option<User>, StoreError> {
        if !is_user_name(name) {
            return Ok(None);
        }
        let user = self.store.user_by_name(name).await;
        user.inspect_err(|error| tracing::error!(%error, "accounts cannot be read"))
    }

    async fn user_with_key(
        &self,
        name: &str,
        fingerprint: &str,
    ) -> Result<Result<User, &'static str>, StoreError> {
        let Some(user) = self.find(name).await? else {
            return Ok(Err("unknown user"));
        };
        if !is_open(&user) {
            return Ok(Err("disabled"));
        }
        let key = self.store.key_of(user.id, fingerprint).await?;
        Ok(key.map(|_| user).ok_or("unknown key"))
    }

    fn attempt<'a>(&self, name: &'a str, method: &str, peer: &'a Peer) -> Attempt<'a> {
        let actor = Actor::ssh(name, peer.address).with_user_agent(&peer.client);
        let event = Event::new(self.clock.wall(), Action::AuthAttempt, actor)
            .detail("method", method)
            .detail("user", cut(name));
        let event = match &peer.hassh {
            Some(hassh) => event.detail("hassh", hassh.as_str()),
            None => event,
        };
        Attempt { name, peer, event }
    }

    async fn accepted(
        &self,
        attempt: Attempt<'_>,
        user: User,
        how: How,
        fingerprint: Option<String>,
    ) -> Verdict {
        let event = attempt.event.detail("outcome", "accepted");
        if self.audit.record(event).await.is_err() {
            return Verdict::Unavailable(Unavailable::Audit);
        }
        let User { id, name, role, epoch, .. } = user;
        Verdict::Accepted(Principal { id, name, role, how, fingerprint, epoch, login: None })
    }

    fn refused(&self, attempt: Attempt<'_>, why: &'static str) -> Verdict {
        self.audit.record_soon(attempt.event.detail("outcome", "refused").detail("reason", why));
        Verdict::Refused
    }

    fn throttled(&self, attempt: Attempt<'_>, retry_after: Duration) -> Verdict {
        let seconds = retry_after.as_secs();
        let event = attempt.event.detail("outcome", "throttled").detail("retry_after", seconds);
        self.audit.record_soon(event);
        Verdict::Throttled { retry_after }
    }

    fn unavailable(&self, attempt: Attempt<'_>, why: Unavailable) -> Verdict {
        let event =
            attempt.event.detail("outcome", "unavailable").detail("reason", why.to_string());
        self.audit.record_soon(event);
        Verdict::Unavailable(why)
    }
}

const fn is_open(user: &User) -> bool {
    user.disabled_at.is_none()
}

/// A text from outside, short enough to keep.
fn cut(text: &str) -> &str {
    text.char_indices().nth(LONGEST_TEXT).map_or(text, |(end, _)| &text[..end])
}
