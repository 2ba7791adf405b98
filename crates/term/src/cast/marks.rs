//! Marks along a recording: by them a change is found in its line, with nothing to compare it to.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

/// The most marks that are held; when the next line comes, every second one goes.
const MOST: usize = 1024;

/// What a recording was at the ends of its lines.
///
/// Each mark is of everything from the file's first byte, so all marks behind a change differ from
/// what they were, and none before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Lines of the file, the header's among them.
    lines: u64,
    /// The distance of marks, in lines: 1, then twice as much each time there are too many.
    every: u64,
    /// The first 8 bytes of the SHA-256 up to the end of line `every`, of line `2 * every`, …
    #[serde(with = "digits")]
    sha256: Vec<u64>,
}

impl Default for Marks {
    fn default() -> Self {
        Self { lines: 0, every: 1, sha256: Vec::new() }
    }
}

impl Marks {
    /// A line has ended; `digest` is that of the file so far.
    pub(crate) fn line(&mut self, digest: &Sha256) {
        if self.sha256.len() >= MOST {
            self.halve();
        }
        self.lines += 1;
        if self.lines.is_multiple_of(self.every) {
            let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(digest.clone().finalize());
            self.sha256.push(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        }
    }

    /// How many marks there are.
    pub(crate) fn len(&self) -> usize {
        self.sha256.len()
    }

    /// Keeps no more marks than `most`, and no memory for more.
    pub(crate) fn thin(&mut self, most: usize) {
        while self.len() > most {
            self.halve();
        }
        self.sha256.shrink_to_fit();
    }

    /// The first lines that are not what they were when these marks were made, by the marks of what
    /// is there now. One line, unless marks had to be thinned. Asked of a file known to differ.
    #[must_use]
    pub fn changed(&self, now: &Self) -> RangeInclusive<u64> {
        let every = self.every.max(now.every);
        let fits = |line| self.at(line).is_some_and(|mark| now.at(line) == Some(mark));
        let mut last = every;
        while fits(last) {
            last = last.saturating_add(every);
        }
        let first = last - every + 1;
        first..=last.min(self.lines.max(now.lines)).max(first)
    }

    /// The mark at the end of a line, if there is one.
    fn at(&self, line: u64) -> Option<u64> {
        let number = line.checked_div(self.every).filter(|_| line.is_multiple_of(self.every))?;
        self.sha256.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    fn halve(&mut self) {
        let mut keep = true;
        self.sha256.retain(|_| {
            keep = !keep;
            keep
        });
        self.every = self.every.saturating_mul(2);
    }
}

/// Marks as one text of 16 digits each: as a list, they would be most lines of a sidecar.
mod digits {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(marks: &[u64], to: S) -> Result<S::Ok, S::Error> {
        let digits: Vec<String> = marks.iter().map(|mark| format!("{mark:016x}")).collect();
        to.serialize_str(&digits.join(" "))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
        let parse = |digits: &str| match u64::from_str_radix(digits, 16) {
            Ok(mark) if digits.len() == 16 => Ok(mark),
            _ => Err(D::Error::custom("not marks of 16 hexadecimal digits")),
        };
        String::deserialize(from)?.split_ascii_whitespace().map(parse).collect()
    }
}
