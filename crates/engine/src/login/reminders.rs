//! Reminders that a login's end comes near: at four points, for whoever listens then.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::time::Wall;
use tokio::sync::watch;

use super::login::Login;

/// The second reminder before the idle timeout is over.
const SOON: Duration = Duration::from_secs(60);
/// The reminders before the lifetime is over.
const LIFETIME: [Duration; 2] = [Duration::from_secs(86_400), Duration::from_secs(900)];

/// A login's end comes near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reminder {
    /// How long it still has.
    pub left: Duration,
    /// Whether doing something moves that end.
    pub can_extend: bool,
}

/// Waits for reminders.
#[derive(Debug)]
pub struct Reminders(watch::Receiver<Option<Reminder>>);

impl Reminders {
    pub(super) const fn new(receiver: watch::Receiver<Option<Reminder>>) -> Self {
        Self(receiver)
    }

    /// The next reminder. Of several at the same time only the last is told.
    pub async fn next(&mut self) -> Reminder {
        while self.0.changed().await.is_ok() {
            if let Some(reminder) = *self.0.borrow_and_update() {
                return reminder;
            }
        }
        // The login is gone: its end is told elsewhere.
        std::future::pending().await
    }
}

impl Login {
    /// Sends the reminder that is due by `now`, and says when something is to be done next.
    pub(super) fn remind(&self, now: Wall, remind_before: Duration) -> Wall {
        let deadlines = self.deadlines(now);
        let (idle, lifetime) = (deadlines.idle_expires_at, deadlines.lifetime_expires_at);
        let looked = Wall(self.reminded.swap(now.0, Ordering::AcqRel));
        let soon = [remind_before, SOON].map(|before| (before_end(idle, before), idle));
        let late = LIFETIME.map(|before| (before_end(lifetime, before), lifetime));
        // What would be told at once is no reminder.
        let soon = soon.into_iter().filter(|(point, _)| *point > self.last_seen());
        let late = late.into_iter().filter(|(point, _)| *point > self.authenticated_at());
        let points = soon.chain(late).filter(|(point, end)| point < end);
        let mut next = idle.min(lifetime);
        let mut due = None;
        for (point, end) in points {
            if point > now {
                next = next.min(point);
            } else if point > looked && due.is_none_or(|due| end < due) {
                due = Some(end);
            }
        }
        if let Some(end) = due {
            let left = u64::try_from(end.0.saturating_sub(now.0)).unwrap_or(0);
            let left = Duration::from_micros(left);
            self.reminder.send_replace(Some(Reminder { left, can_extend: end != lifetime }));
        }
        next
    }
}

fn before_end(end: Wall, before: Duration) -> Wall {
    Wall(end.0.saturating_sub(i64::try_from(before.as_micros()).unwrap_or(i64::MAX)))
}
