//! Ranges of user ids: each sandbox has its own, so that the kernel tells any two apart.

use std::collections::BTreeSet;
use std::sync::Arc;

use sojourn_shim::native::IdRange;
use tokio::sync::watch;

/// Ids of one sandbox.
pub const IDS: u32 = 65_536;

/// The ranges there are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Slots {
    taken: Arc<watch::Sender<BTreeSet<u32>>>,
    base: u32,
    count: u32,
}

/// One range, given back when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    number: u32,
}

/// Sets the last range of those that are configured aside, for files that are no sandbox's: it, and how
/// many are left; none where there is but one.
#[must_use]
pub fn set_aside(base: u32, count: u32) -> Option<(IdRange, u32)> {
    let rest = fitting(base, count).checked_sub(1).filter(|rest| *rest > 0)?;
    Some((IdRange { start: base + rest * IDS, count: IDS }, rest))
}

/// How many ranges there really are, where ids end.
fn fitting(base: u32, count: u32) -> u32 {
    count.min((u32::MAX - base) / IDS)
}

impl Slots {
    /// `count` ranges from `base` on; less where ids end.
    #[must_use]
    pub fn new(base: u32, count: u32) -> Self {
        let taken = Arc::new(watch::Sender::new(BTreeSet::new()));
        Self { taken, base, count: fitting(base, count) }
    }

    /// A free range; none when all are taken.
    #[must_use]
    pub fn take(&self) -> Option<Slot> {
        let mut found = None;
        self.taken.send_modify(|taken| {
            found = (0..self.count).find(|number| !taken.contains(number));
            taken.extend(found);
        });
        found.map(|number| Slot { slots: self.clone(), number })
    }

    /// The range of a sandbox that is there already, by its number.
    #[must_use]
    pub fn take_over(&self, number: u32) -> Option<Slot> {
        let mut new = false;
        self.taken.send_modify(|taken| new = taken.insert(number));
        new.then(|| Slot { slots: self.clone(), number })
    }

    /// The ids of the range with this number.
    #[must_use]
    pub fn ids(&self, number: u32) -> IdRange {
        let start = self.base.saturating_add(number.saturating_mul(IDS));
        IdRange { start, count: IDS }
    }

    /// Resolves when no more than `rest` are taken.
    pub async fn at_most(&self, rest: usize) {
        // An error means that nobody is left to take any.
        let mut taken = self.taken.subscribe();
        let _gone = taken.wait_for(|taken| taken.len() <= rest).await;
    }
}

impl Slot {
    /// Its number, which a sandbox's id holds.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its ids.
    #[must_use]
    pub fn ids(&self) -> IdRange {
        self.slots.ids(self.number)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.send_modify(|taken| {
            taken.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sandboxes_share_an_id() {
        let slots = Slots::new(1_879_048_192, 2);
        let first = slots.take().unwrap();
        let second = slots.take().unwrap();
        assert!(slots.take().is_none());
        assert_eq!(first.ids().start + IDS, second.ids().start);
        drop(first);
        assert_eq!(slots.take_over(0).map(|slot| slot.number()), Some(0));
        assert!(slots.take_over(1).is_none());
    }

    #[test]
    fn the_range_set_aside_is_no_sandboxes() {
        let (aside, rest) = set_aside(1_879_048_192, 3).unwrap();
        let slots = Slots::new(1_879_048_192, rest);
        let all: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert!(all.len() == 2 && all.iter().all(|slot| slot.ids().start < aside.start));
        assert_eq!(set_aside(1_879_048_192, 1), None);
    }

    #[test]
    fn ranges_end_where_ids_end() {
        let slots = Slots::new(u32::MAX - IDS - 1, 4096);
        assert_eq!(slots.take().into_iter().chain(slots.take()).count(), 1);
    }
}
