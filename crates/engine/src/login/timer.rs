//! What becomes of logins when their time has come, without anybody asking: one task for all of them.
//!
//! Each login has one entry, for the next moment at which something may have to be done for it.
//! Activity moves that moment and not the entry: the entry comes up, and is put back for later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::ids::LoginId;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::Logins;
use super::login::Login;
use crate::clock;
use crate::engine::lock;

/// How often it is looked at the clock at least: it may be set, or the machine may have slept.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is written when logins were last seen.
const FLUSH: Duration = Duration::from_secs(5);
/// So long one login's is not written again; with the wait for the next flush that is a minute.
const SPACING: Duration = Duration::from_secs(55);
/// Logins written in one transaction.
const BATCH: usize = 1000;
/// How long it is known how a login ended.
const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// How often those that ended before that are forgotten.
const PURGE: Duration = Duration::from_secs(3600);
/// When an end that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Who is to be looked at when.
#[derive(Default)]
pub(super) struct Timer {
    due: Mutex<BinaryHeap<Reverse<(Wall, LoginId)>>>,
    hurry: Notify,
    dirty: Mutex<Vec<Arc<Login>>>,
    /// Held by whoever looks.
    turn: tokio::sync::Mutex<Chores>,
}

/// When the next of each is due.
#[derive(Default)]
struct Chores {
    flush: Wall,
    purge: Wall,
}

impl Timer {
    /// Has a login looked at now.
    pub(super) fn hurry(&self, id: LoginId) {
        self.put(Wall(0), id);
        self.hurry.notify_one();
    }

    fn put(&self, at: Wall, id: LoginId) {
        lock(&self.due).push(Reverse((at, id)));
    }

    fn next(&self) -> Option<Wall> {
        lock(&self.due).peek().map(|Reverse((at, _))| *at)
    }

    /// Nothing is written of those that were seen.
    #[cfg(all(test, feature = "bench"))]
    pub(super) fn forget_dirty(&self) {
        lock(&self.dirty).clear();
    }

    /// Those whose moment has come, each once.
    fn take(&self, now: Wall) -> Vec<LoginId> {
        let mut due = lock(&self.due);
        let mut ids = Vec::new();
        while due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            ids.extend(due.pop().map(|Reverse((_, id))| id));
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

impl Logins {
    /// Looks after logins until `stop`, then writes what is not written yet.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            self.look().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.inner.timer.hurry.notified() => {}
                () = self.inner.nap() => {}
            }
        }
        self.flush().await;
    }

    /// Does what is due by now.
    pub(crate) async fn look(&self) {
        let inner = &self.inner;
        let mut chores = inner.timer.turn.lock().await;
        let now = inner.now.get();
        for id in inner.timer.take(now) {
            inner.look_at(id).await;
        }
        if now >= chores.flush {
            chores.flush = now.after(FLUSH);
            inner.flush(now, SPACING).await;
        }
        if now >= chores.purge {
            chores.purge = now.after(PURGE);
            inner.purge(now).await;
        }
    }

    /// Writes when logins were last seen, without a wait.
    pub async fn flush(&self) {
        let _turn = self.inner.timer.turn.lock().await;
        self.inner.flush(self.now(), Duration::ZERO).await;
    }
}

impl Inner {
    pub(super) fn touch(&self, login: &Login) {
        if !login.seen(self.now.roughly()) || !login.mark_dirty() {
            return;
        }
        if let Some(login) = self.shelf.by_id(login.id()) {
            lock(&self.timer.dirty).push(login);
        }
    }

    /// Until the next moment, or the clock is moved.
    async fn nap(&self) {
        let now = self.now.get();
        let left = self.timer.next().map_or(LOOK, |at| {
            Duration::from_micros(u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0))
        });
        let clock = self.now.clock();
        let until: Mono = clock.mono().after(left.min(LOOK));
        clock::until(clock, until).await;
    }

    async fn look_at(&self, id: LoginId) {
        let Some(login) = self.shelf.by_id(id) else { return };
        let now = self.now.get();
        let next = match login.judge(now) {
            None => login.remind(now, self.rules().remind_before),
            Some(why) if self.expire(&login, why).await => return,
            Some(_) => now.after(AGAIN),
        };
        // One that was hurried has an entry already, which comes up in time.
        let scheduled = Wall(login.scheduled.load(Ordering::Acquire));
        if scheduled <= now || next < scheduled {
            login.scheduled.store(next.0, Ordering::Release);
            self.timer.put(next, id);
        }
    }

    async fn flush(&self, now: Wall, spacing: Duration) {
        let dirty = std::mem::take(&mut *lock(&self.timer.dirty));
        let (due, later): (Vec<_>, Vec<_>) =
            (dirty.into_iter()).filter(|login| login.is_over().is_none()).partition(|login| {
                Wall(login.written_at.load(Ordering::Acquire)).after(spacing) <= now
            });
        lock(&self.timer.dirty).extend(later);
        for batch in due.chunks(BATCH) {
            for login in batch {
                // Before it is read: what comes after that is dirty again.
                login.mark_clean();
            }
            let seen: Vec<_> = batch.iter().map(|login| (login.id(), login.last_seen())).collect();
            match self.store.touch_logins(&seen).await {
                Ok(()) => {
                    for login in batch {
                        login.written_at.store(now.0, Ordering::Release);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "it was not kept when logins were last seen");
                    let again = batch.iter().filter(|login| login.mark_dirty());
                    lock(&self.timer.dirty).extend(again.cloned());
                }
            }
        }
    }

    async fn purge(&self, now: Wall) {
        let before =
            Wall(now.0.saturating_sub(i64::try_from(KEEP.as_micros()).unwrap_or(i64::MAX)));
        match self.store.forget_logins(before).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!(forgotten, "ended logins forgotten"),
            Err(error) => tracing::error!(%error, "ended logins were not forgotten"),
        }
    }
}
