//! Slots: how many sessions there may be, on the gateway and for one user. A slot is taken before
//! anything is spent and is given back when everything of the session is gone, whatever happened.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use sojourn_core::ids::UserId;

use crate::door::Detached;
use crate::door::Refusal;
use crate::honeypot::Place;

/// Counts sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    max: usize,
    max_per_user: usize,
    all: usize,
    by_user: HashMap<UserId, usize>,
}

/// The right to one session; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    admission: Admission,
    user: Option<UserId>,
    /// A honeypot's session has a place there as well.
    place: Option<Place>,
}

impl Admission {
    pub(crate) fn new(max: usize, max_per_user: usize) -> Self {
        let counts = Counts { max, max_per_user, ..Counts::default() };
        Self { counts: Arc::new(Mutex::new(counts)) }
    }

    /// How many there may be from now on.
    pub(crate) fn set_max(&self, all: usize, of_one_user: usize) {
        let mut counts = self.lock();
        (counts.max, counts.max_per_user) = (all, of_one_user);
    }

    /// Takes a slot. Nobody's sessions count for the gateway alone.
    pub(crate) fn take(&self, user: Option<UserId>) -> Result<Slot, Refusal> {
        let mut counts = self.lock();
        if counts.all >= counts.max {
            let (active, max) = (counts.all, counts.max);
            return Err(Refusal::GatewayFull { active, max, detached: Detached::default() });
        }
        let active = user.and_then(|user| counts.by_user.get(&user)).copied().unwrap_or(0);
        if user.is_some() && active >= counts.max_per_user {
            let max = counts.max_per_user;
            return Err(Refusal::UserFull { active, max, detached: Detached::default() });
        }
        counts.add(user);
        Ok(Slot { admission: self.clone(), user, place: None })
    }

    /// Takes a slot for a session that is there already, however full it is.
    pub(crate) fn take_over(&self, user: Option<UserId>) -> Slot {
        self.lock().add(user);
        Slot { admission: self.clone(), user, place: None }
    }

    /// Sessions now.
    pub(crate) fn active(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The same slot, with a place in a honeypot.
    pub(crate) fn with(self, place: Option<Place>) -> Self {
        let mut slot = self;
        slot.place = place;
        slot
    }
}

impl Counts {
    fn add(&mut self, user: Option<UserId>) {
        self.all += 1;
        if let Some(user) = user {
            *self.by_user.entry(user).or_default() += 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.all = counts.all.saturating_sub(1);
        if let Some(user) = self.user
            && let Some(count) = counts.by_user.get_mut(&user)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_user.remove(&user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back() {
        let admission = Admission::new(2, 1);
        let (ana, bob) = (Some(UserId::new()), Some(UserId::new()));
        let first = admission.take(ana).unwrap();
        let detached = Detached::default();
        let full = Refusal::UserFull { active: 1, max: 1, detached: detached.clone() };
        assert_eq!(admission.take(ana).unwrap_err(), full);
        let _second = admission.take(bob).unwrap();
        let full = Refusal::GatewayFull { active: 2, max: 2, detached };
        assert_eq!(admission.take(None).unwrap_err(), full);
        drop(first);
        assert!(admission.take(ana).is_ok());
        assert_eq!(admission.active(), 1, "a slot that was not kept is back");
    }
}
