//! The last of what a terminal printed, by how much it had printed before: for any number of readers,
//! each at its own pace. Nobody waits for a reader, so one that is slow finds that what it wants is
//! gone.

use std::collections::VecDeque;

use bytes::Bytes;

/// How much of a terminal's output is held: whoever comes back with less than that missed gets it.
pub const HELD: usize = 1 << 20;

/// Parts that are held at most, however small they are.
const PARTS: usize = 16 << 10;

/// Parts of a terminal's output, in order and without a gap.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    start: u64,
    end: u64,
    parts: VecDeque<Bytes>,
}

/// What there is for somebody who wants to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// These bytes come next.
    Bytes(Vec<Bytes>),
    /// Nothing was printed since.
    Nothing,
    /// What comes next is not held any more, or not yet.
    Gone,
}

impl Ring {
    /// Takes bytes that the terminal printed after `at` others. What is held already is passed over;
    /// where some are missing, what was held is of no use any more.
    pub(crate) fn push(&mut self, at: u64, mut bytes: Bytes) {
        if at > self.end || self.parts.is_empty() {
            (self.start, self.end) = (at, at);
            self.parts.clear();
        }
        let known = usize::try_from(self.end - at).unwrap_or(usize::MAX);
        if known >= bytes.len() {
            return;
        }
        let new = bytes.split_off(known);
        self.end += new.len() as u64;
        self.parts.push_back(new);
        while self.end - self.start > HELD as u64 || self.parts.len() > PARTS {
            let Some(first) = self.parts.pop_front() else { return };
            self.start += first.len() as u64;
        }
    }

    /// The terminal's output goes on from here.
    pub(crate) fn resume(&mut self, at: u64) {
        if at > self.end || self.parts.is_empty() {
            (self.start, self.end) = (at, at);
            self.parts.clear();
        }
    }

    /// How much the terminal had printed after what is held.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Whether somebody may read on from here.
    pub(crate) fn holds(&self, at: u64) -> bool {
        (self.start..=self.end).contains(&at)
    }

    /// What comes after `at` bytes, at most `most` of it, in whole parts but for the first and last.
    pub(crate) fn read(&self, at: u64, most: usize) -> Read {
        if at == self.end {
            return Read::Nothing;
        }
        if !self.holds(at) {
            return Read::Gone;
        }
        let (mut skip, mut left) = (usize::try_from(at - self.start).unwrap_or(0), most);
        let mut read = Vec::new();
        for part in &self.parts {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let upto = part.len().min(skip.saturating_add(left));
            read.push(part.slice(skip..upto));
            left -= upto - skip;
            skip = 0;
            if left == 0 {
                break;
            }
        }
        Read::Bytes(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(read: Read) -> Option<Vec<u8>> {
        match read {
            Read::Bytes(parts) => Some(parts.concat()),
            Read::Nothing => Some(Vec::new()),
            Read::Gone => None,
        }
    }

    #[test]
    fn what_is_missing_makes_the_rest_useless_and_what_is_known_is_passed_over() {
        let mut ring = Ring::default();
        ring.push(7, Bytes::from_static(b"abc"));
        assert_eq!((ring.start, ring.end()), (7, 10));
        ring.push(9, Bytes::from_static(b"cde"));
        assert_eq!(joined(ring.read(7, 99)).unwrap(), b"abcde");
        assert_eq!(joined(ring.read(8, 2)).unwrap(), b"bc");
        assert_eq!(
            (ring.read(12, 9), ring.read(6, 9), ring.read(13, 9)),
            (Read::Nothing, Read::Gone, Read::Gone)
        );
        ring.push(20, Bytes::from_static(b"x"));
        assert_eq!((ring.read(12, 9), joined(ring.read(20, 9))), (Read::Gone, Some(b"x".to_vec())));
        ring.resume(21);
        assert!(ring.holds(20), "nothing was missed");
        ring.resume(30);
        assert!(ring.holds(30) && !ring.holds(20));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn readers_see_what_was_printed(
            start in 0_u64..1_000_000,
            sizes in prop::collection::vec(1_usize..40_000, 1..60),
            (from, most) in (any::<prop::sample::Index>(), 1_usize..100_000),
        ) {
            let (mut ring, mut printed) = (Ring::default(), Vec::new());
            for (n, size) in sizes.iter().enumerate() {
                let part: Vec<u8> = (0..*size).map(|at| (at * 31 + n) as u8).collect();
                ring.push(start + printed.len() as u64, Bytes::from(part.clone()));
                printed.extend(part);
            }
            let held = usize::try_from(ring.end() - ring.start).unwrap();
            prop_assert!(held <= HELD);
            prop_assert!(held == printed.len() || held > HELD - 40_000);
            let from = from.index(printed.len() + 1);
            let read = joined(ring.read(start + from as u64, most));
            let is_held = from >= printed.len() - held;
            prop_assert_eq!(read.is_some(), is_held);
            if let Some(read) = read {
                prop_assert_eq!(&read[..], &printed[from..(from + most).min(printed.len())]);
            }
        }
    }
}
