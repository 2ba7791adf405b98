//! One login: whose it is, until when it is good, and how whoever depends on it hears of its end.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::audit::Actor;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Role;
use sojourn_core::ids::LoginId;
use sojourn_core::ids::UserId;
use sojourn_core::login::LoginEnd;
use sojourn_core::time::Wall;
use sojourn_store::Login as Kept;
use sojourn_store::User;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::reminders::Reminder;
use super::reminders::Reminders;
use super::token::TokenHash;
use super::wrong::WrongPasswords;
use crate::engine::lock;
use crate::identity::Client;
use crate::identity::How;
use crate::identity::Methods;
use crate::identity::Principal;

/// So long somebody counts as having just proved who they are.
pub const FRESH: Duration = Duration::from_secs(600);

/// Until when a login is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// By the clock that decides.
    pub now: Wall,
    /// When it ends if nothing is done with it.
    pub idle_expires_at: Wall,
    /// When it ends in any case.
    pub lifetime_expires_at: Wall,
}

/// An account, as all its logins see it.
pub(super) struct Person {
    pub(super) id: UserId,
    pub(super) name: String,
    /// Held while any of the account's logins is begun, rotated or ended by somebody, so that store
    /// and memory tell the same story.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) standing: Mutex<Standing>,
}

/// What the store says of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) role: Role,
    pub(super) must_change: bool,
    pub(super) epoch: i64,
    pub(super) is_open: bool,
}

impl From<&User> for Standing {
    fn from(user: &User) -> Self {
        Self {
            role: user.role,
            must_change: user.must_change,
            epoch: user.epoch,
            is_open: user.disabled_at.is_none(),
        }
    }
}

impl Person {
    pub(super) fn new(user: &User) -> Self {
        Self {
            id: user.id,
            name: user.name.clone(),
            turn: tokio::sync::Mutex::new(()),
            standing: Mutex::new(user.into()),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        *lock(&self.standing)
    }
}

/// What a rotation changes.
#[derive(Clone)]
pub(super) struct Proof {
    pub(super) token: TokenHash,
    pub(super) csrf: String,
    pub(super) methods: Methods,
    pub(super) authenticated_at: Wall,
    pub(super) idle_timeout: Duration,
    pub(super) lifetime_ends_at: Wall,
}

/// Until when a login is good, and what being seen moves. In one line of the processor's cache, and
/// without a lock: there may be a million, and each request is one that was seen.
#[repr(align(64))]
pub(super) struct Lease {
    last_seen: AtomicI64,
    /// In microseconds.
    idle_timeout: AtomicI64,
    ends_at: AtomicI64,
    /// Whether it is among those of whom it is to be written when they were seen.
    dirty: AtomicBool,
}

impl Lease {
    fn new(last_seen: Wall, proof: &Proof) -> Self {
        let lease = Self {
            last_seen: AtomicI64::new(last_seen.0),
            idle_timeout: AtomicI64::default(),
            ends_at: AtomicI64::default(),
            dirty: AtomicBool::new(false),
        };
        lease.renew(proof);
        lease
    }

    fn renew(&self, proof: &Proof) {
        let idle = i64::try_from(proof.idle_timeout.as_micros()).unwrap_or(i64::MAX);
        self.idle_timeout.store(idle, Ordering::Release);
        self.ends_at.store(proof.lifetime_ends_at.0, Ordering::Release);
    }

    fn last_seen(&self) -> Wall {
        Wall(self.last_seen.load(Ordering::Acquire))
    }

    fn idle_ends_at(&self) -> Wall {
        let idle = self.idle_timeout.load(Ordering::Acquire);
        Wall(self.last_seen().0.saturating_add(idle))
    }

    fn ends_at(&self) -> Wall {
        Wall(self.ends_at.load(Ordering::Acquire))
    }
}

/// Somebody's being signed in.
pub struct Login {
    id: LoginId,
    pub(super) person: Arc<Person>,
    epoch: i64,
    created_at: Wall,
    from: Client,
    proof: Mutex<Proof>,
    lease: Lease,
    /// When `last_seen` was last written.
    pub(super) written_at: AtomicI64,
    /// The moment for which the timer has an entry of it.
    pub(super) scheduled: AtomicI64,
    over: watch::Sender<Option<LoginEnd>>,
    pub(super) reminder: watch::Sender<Option<Reminder>>,
    /// Up to when it has been looked whether a reminder is due.
    pub(super) reminded: AtomicI64,
    pub(super) wrong: Mutex<WrongPasswords>,
}

impl std::fmt::Debug for Login {
    /// Shows nothing that opens anything.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("id", &self.id)
            .field("user", &self.person.name)
            .field("over", &self.is_over())
            .finish_non_exhaustive()
    }
}

impl Login {
    pub(super) fn new(kept: &Kept, person: Arc<Person>, from: Client, proof: Proof) -> Self {
        Self {
            id: kept.id,
            person,
            epoch: kept.epoch,
            created_at: kept.created_at,
            from,
            lease: Lease::new(kept.last_seen_at, &proof),
            proof: Mutex::new(proof),
            written_at: AtomicI64::new(kept.last_seen_at.0),
            scheduled: AtomicI64::new(i64::MIN),
            over: watch::Sender::new(None),
            reminder: watch::Sender::new(None),
            reminded: AtomicI64::new(kept.last_seen_at.0),
            wrong: Mutex::default(),
        }
    }

    /// Its public id, which opens nothing.
    #[must_use]
    pub const fn id(&self) -> LoginId {
        self.id
    }

    /// The account's epoch that it was begun under.
    pub(super) const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Whose it is.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.person.id
    }

    /// Their name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.person.name
    }

    /// What their account may do, as of now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.person.standing().role
    }

    /// Whether their password was made by the program and is to be changed.
    #[must_use]
    pub fn must_change(&self) -> bool {
        self.person.standing().must_change
    }

    /// As the one who asks, for the table of who may what.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker::User(self.user(), self.role())
    }

    /// As the one who acts, for the audit log.
    #[must_use]
    pub fn actor(&self, client: &Client) -> Actor {
        client.actor(&self.person.name)
    }

    /// As the one who starts a session.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal {
            id: self.user(),
            name: self.person.name.clone(),
            role: self.role(),
            how: How::Login,
            fingerprint: None,
            epoch: self.epoch,
            login: Some(self.id),
        }
    }

    /// How they proved who they are.
    #[must_use]
    pub fn methods(&self) -> Methods {
        lock(&self.proof).methods
    }

    /// Where it was begun.
    #[must_use]
    pub const fn begun_from(&self) -> &Client {
        &self.from
    }

    /// When it was begun.
    #[must_use]
    pub const fn created_at(&self) -> Wall {
        self.created_at
    }

    /// When they last proved who they are.
    #[must_use]
    pub fn authenticated_at(&self) -> Wall {
        lock(&self.proof).authenticated_at
    }

    /// When something was last done with it.
    #[must_use]
    pub fn last_seen(&self) -> Wall {
        self.lease.last_seen()
    }

    /// What its pages send along with every change they ask for.
    #[must_use]
    pub fn csrf_token(&self) -> String {
        lock(&self.proof).csrf.clone()
    }

    /// Whether this is that token. How long it takes tells nothing.
    #[must_use]
    pub fn is_csrf_token(&self, sent: &str) -> bool {
        let proof = lock(&self.proof);
        !proof.csrf.is_empty() && bool::from(proof.csrf.as_bytes().ct_eq(sent.as_bytes()))
    }

    /// Until when it is good, seen from `now`.
    #[must_use]
    pub fn deadlines(&self, now: Wall) -> Deadlines {
        let (idle, lifetime) = (self.lease.idle_ends_at(), self.lease.ends_at());
        Deadlines { now, idle_expires_at: idle, lifetime_expires_at: lifetime }
    }

    /// Whether they have proved who they are within the last ten minutes.
    #[must_use]
    pub fn is_fresh(&self, now: Wall) -> bool {
        now <= self.authenticated_at().after(FRESH)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn is_over(&self) -> Option<LoginEnd> {
        *self.over.borrow()
    }

    /// Resolves when it ends, within a second of that.
    pub async fn ended(&self) -> LoginEnd {
        let mut over = self.over.subscribe();
        match over.wait_for(Option::is_some).await.map(|over| *over) {
            Ok(Some(end)) => end,
            // The sender is this login's own.
            _ => std::future::pending().await,
        }
    }

    /// Tells when its end comes near, from now on.
    #[must_use]
    pub fn reminders(&self) -> Reminders {
        Reminders::new(self.reminder.subscribe())
    }

    /// How it has ended by `now`, whether or not anybody has noticed: the rule of what is good.
    pub(super) fn judge(&self, now: Wall) -> Option<LoginEnd> {
        if let Some(end) = self.is_over() {
            return Some(end);
        }
        let standing = self.person.standing();
        if !standing.is_open {
            return Some(LoginEnd::Disabled);
        }
        if standing.epoch != self.epoch {
            return Some(LoginEnd::PasswordChange);
        }
        let deadlines = self.deadlines(now);
        let (idle, lifetime) = (deadlines.idle_expires_at, deadlines.lifetime_expires_at);
        // Whichever came first; a request may ask only when both are long past.
        if now >= lifetime && lifetime <= idle {
            return Some(LoginEnd::Lifetime);
        }
        (now >= idle).then_some(LoginEnd::Inactivity)
    }

    /// Something was done with it. False when it was too late for that.
    pub(super) fn seen(&self, now: Wall) -> bool {
        if now >= self.lease.ends_at() || now >= self.lease.idle_ends_at() {
            return false;
        }
        // Of two at the same time either may stand: they are the same moment.
        if now > self.lease.last_seen() {
            self.lease.last_seen.store(now.0, Ordering::Release);
        }
        true
    }

    /// It is to be written when it was seen. False when that was known, or was until this moment: what
    /// is not written then is a moment, and a login's are written a minute apart.
    pub(super) fn mark_dirty(&self) -> bool {
        !self.lease.dirty.load(Ordering::Acquire) && !self.lease.dirty.swap(true, Ordering::AcqRel)
    }

    /// It is written now when it was seen.
    pub(super) fn mark_clean(&self) {
        self.lease.dirty.store(false, Ordering::Release);
    }

    /// It has ended. False when it had before: the first reason stands.
    pub(super) fn finish(&self, end: LoginEnd) -> bool {
        self.over.send_if_modified(|over| match over {
            Some(_) => false,
            None => {
                *over = Some(end);
                true
            }
        })
    }

    pub(super) fn proof(&self) -> Proof {
        lock(&self.proof).clone()
    }

    pub(super) fn prove(&self, proof: Proof) {
        self.lease.renew(&proof);
        *lock(&self.proof) = proof;
    }
}
