//! Logins: people signed in at the web door. (What runs is a session; the two are kept apart.)
//!
//! A login is a row of the store with two deadlines: one moves with activity, the other with proof of
//! identity alone. The browser holds a random token, the store its digest. Every login that is live is
//! in memory as well, written through, so that a request costs no question to the store; an ended one
//! is known by its row for a while, so that a late use can be named.
//!
//! Who changes something does so in this order: the store, with its audit event in the same
//! transaction; then memory; then those who wait for [`Login::ended`]; then the answer. One account's
//! changes are made one after the other, and go on when whoever asked for them has left.
//!
//! - [`token`]: the secret; [`login`]: one login and the rule of what is good; [`shelf`]: all of them.
//! - [`resolve`]: from a token to a login; [`begin`]: signing in, and new tokens; [`end`]: ending.
//! - [`timer`]: what happens when its time has come, without anybody asking.

mod begin;
mod csrf;
mod device;
mod end;
mod listing;
#[expect(clippy::module_inception, reason = "a login is a login")]
mod login;
mod password;
mod reminders;
mod resolve;
mod shelf;
mod timer;
mod token;
mod wrong;

#[cfg(all(test, feature = "bench"))]
mod bench;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::time::Wall;
use sojourn_store::Store;
use sojourn_store::StoreError;
use tokio::sync::Notify;

pub use begin::Rotation;
pub use begin::SignInError;
pub use csrf::KeyError;
pub use device::device;
pub use end::EndError;
pub use listing::LoginView;
pub use login::Deadlines;
pub use login::FRESH;
pub use login::Login;
pub use password::ChangeError;
pub use password::Changed;
pub use reminders::Reminder;
pub use reminders::Reminders;
pub use resolve::Found;
pub use sojourn_core::login::LoginEnd;

use crate::Engine;
use crate::audit::AuditHandle;
use crate::clock::Clock;
pub use crate::identity::Client;
pub use crate::identity::Method;
pub use crate::identity::Methods;
pub use crate::identity::SignedIn;
pub use crate::secret::Secret;

use crate::identity::Identity;
use csrf::CsrfKey;
use shelf::Shelf;
use timer::Timer;

/// How long logins last, and how many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The longest a login lasts.
    pub max_lifetime: Duration,
    /// It ends after so long without activity.
    pub idle_timeout: Duration,
    /// How long before that its person is told; zero: a minute before alone.
    pub remind_before: Duration,
    /// Logins of one user; the least recently seen makes room.
    pub max_per_user: usize,
    /// Whether the sessions that were started through a login end with it.
    pub end_sessions: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_lifetime: Duration::from_secs(7 * 86_400),
            idle_timeout: Duration::from_secs(1800),
            remind_before: Duration::from_secs(300),
            max_per_user: 10,
            end_sessions: false,
        }
    }
}

/// Why there are no logins to be had at the start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// All logins. Cheap to clone.
#[derive(Clone)]
pub struct Logins {
    inner: Arc<Inner>,
}

/// What all handles share.
struct Inner {
    data_dir: PathBuf,
    store: Store,
    audit: AuditHandle,
    identity: Identity,
    now: Now,
    rules: RwLock<Rules>,
    csrf: CsrfKey,
    shelf: Shelf,
    timer: Timer,
    /// Set while it cannot be seen whether another process changed something: then nobody is let in.
    blind: AtomicBool,
    /// The store's count of changes of accounts when it was last looked what they are.
    rechecked: AtomicU64,
    /// Notified when sessions may have lost their ground.
    moved: Notify,
    /// When late uses were last put on record, by login.
    late_uses: Mutex<resolve::LateUses>,
}

impl Logins {
    /// The logins of a data directory, those that have not ended in memory.
    ///
    /// # Errors
    /// When the store does not answer, or there is no key.
    pub async fn open(
        data_dir: &Path,
        rules: Rules,
        store: Store,
        identity: Identity,
        audit: AuditHandle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let inner = Inner {
            data_dir: data_dir.to_owned(),
            csrf: CsrfKey::load_or_make(data_dir)?,
            audit,
            identity,
            now: Now::new(clock),
            rules: RwLock::new(rules),
            shelf: Shelf::default(),
            timer: Timer::default(),
            blind: AtomicBool::new(false),
            rechecked: AtomicU64::new(store.account_changes()),
            moved: Notify::new(),
            late_uses: Mutex::default(),
            store,
        };
        inner.load().await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Other rules from now on. Logins that have begun keep their deadlines.
    pub fn set_rules(&self, rules: Rules) {
        *self.inner.rules.write().unwrap_or_else(std::sync::PoisonError::into_inner) = rules;
    }

    /// The time that decides about logins. It never runs backwards.
    #[must_use]
    pub fn now(&self) -> Wall {
        self.inner.now.get()
    }

    /// Something was done with a login. Costs nothing; it is written within a minute.
    pub fn touch(&self, login: &Login) {
        self.inner.touch(login);
    }

    /// The same, and until when it is good now. The lifetime is not moved by that.
    #[must_use]
    pub fn extend(&self, login: &Login) -> Deadlines {
        self.touch(login);
        login.deadlines(self.now())
    }

    /// Whether a login is live.
    #[must_use]
    pub fn is_live(&self, id: sojourn_core::ids::LoginId) -> bool {
        let now = self.now();
        self.inner.shelf.by_id(id).is_some_and(|login| login.judge(now).is_none())
    }

    /// How many have not ended.
    pub(crate) fn count(&self) -> usize {
        self.inner.shelf.count()
    }

    /// Whether it cannot be seen just now what other processes change.
    fn is_blind(&self) -> bool {
        self.inner.blind.load(Ordering::Relaxed)
    }

    /// Resolves when sessions may have lost their ground.
    pub(crate) async fn moved(&self) {
        self.inner.moved.notified().await;
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.inner.rules()
    }

    /// Does `work` to its end, whether or not whoever asked for it waits that long: what is changed in
    /// the store has to be changed in memory.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        match tokio::spawn(work).await {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::error!(%error, "a change of a login broke off");
                None
            }
        }
    }
}

impl Inner {
    fn rules(&self) -> Rules {
        *self.rules.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Engine {
    /// People signed in at the web door.
    #[must_use]
    pub fn logins(&self) -> &Logins {
        &self.inner.logins
    }
}

/// The time of day that never runs backwards: it goes on with the monotonic clock, and follows the
/// other one forward only. A clock that was set back moves no deadline.
struct Now {
    clock: Arc<dyn Clock>,
    /// The most that the time of day was ever ahead of the monotonic one.
    ahead: AtomicI64,
}

impl Now {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ahead: AtomicI64::new(i64::MIN) }
    }

    fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    fn get(&self) -> Wall {
        // In this order: what passes between the two is then missing from what the one is ahead, and
        // not kept in it for good.
        let wall = self.clock.wall().0;
        let mono = i64::try_from(self.clock.mono().0).unwrap_or(i64::MAX);
        let ahead = wall.saturating_sub(mono);
        let mut most = self.ahead.load(Ordering::Acquire);
        // Hardly ever, so all processors keep what they know of it.
        if ahead > most {
            most = self.ahead.fetch_max(ahead, Ordering::AcqRel).max(ahead);
        }
        Wall(mono.saturating_add(most))
    }

    /// The same by one look at a clock, so without what the other one was set ahead since the last whole
    /// look: that is no longer ago than the timer's. Good for when somebody was seen, not for whether they
    /// may still be.
    fn roughly(&self) -> Wall {
        match self.ahead.load(Ordering::Acquire) {
            i64::MIN => self.get(),
            ahead => {
                let mono = i64::try_from(self.clock.mono().0).unwrap_or(i64::MAX);
                Wall(mono.saturating_add(ahead))
            }
        }
    }
}
