//! Chance that is the same again for the same seed.

/// A sequence of numbers that look like chance (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Another sequence, which what is thrown here later does not change.
    pub(super) fn apart(&self, number: u64) -> Self {
        Self(self.0 ^ Self::new(number + 1).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of these.
    pub(super) fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        let len = u64::try_from(all.len()).ok().filter(|len| *len > 0)?;
        all.get(usize::try_from(self.below(len)).ok()?).cloned()
    }
}
