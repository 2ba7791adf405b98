//! Changes inputs: the same seed makes the same changes, on every machine.

use crate::target::Target;

/// Numbers that decoders trip over.
const NUMBERS: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins one.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `most`; 0 where that is 0.
    pub fn below(&mut self, most: usize) -> usize {
        let most = u64::try_from(most.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % most).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// Makes another input of one from the corpus.
#[must_use]
pub fn mutated(target: &Target, corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = random.pick(corpus).cloned().unwrap_or_default();
    let most = if random.below(4) == 0 { 24 } else { 4 };
    let changes = 1 + random.below(most);
    for _ in 0..changes {
        change(&mut data, target.words, corpus, random);
    }
    data.truncate(target.longest);
    data
}

fn change(data: &mut Vec<u8>, words: &[&str], corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(data.len() + 1);
    let most = if random.below(8) == 0 { 4096 } else { 16 };
    let length = 1 + random.below(most);
    let end = (at + length).min(data.len());
    match random.below(12) {
        0 => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            let new = random.next().to_le_bytes()[0];
            if let Some(byte) = data.get_mut(at) {
                *byte = new;
            }
        }
        2 => {
            data.drain(at..end);
        }
        3 => {
            let again = data.get(at..end).unwrap_or_default().to_vec();
            let to = random.below(data.len() + 1);
            data.splice(to..to, again);
        }
        4 => {
            let byte = *random.pick(b"\0\xff\n \"\\/a0").unwrap_or(&0);
            data.splice(at..at, std::iter::repeat_n(byte, length));
        }
        5 | 6 => {
            let word = random.pick(words).map_or(&b"\0"[..], |word| word.as_bytes());
            let replaced =
                if random.below(2) == 0 { at } else { (at + word.len()).min(data.len()) };
            data.splice(at..replaced, word.iter().copied());
        }
        7 | 8 => number(data, at, random),
        9 => data.truncate(at),
        10 => {
            let other = random.pick(corpus).cloned().unwrap_or_default();
            let from = random.below(other.len() + 1);
            let to = (from + length * 8).min(other.len());
            let piece = other.get(from..to).unwrap_or_default().to_vec();
            data.splice(at..end, piece);
        }
        _ => digits(data, at, random),
    }
}

/// Writes a number over what is there, as protocols write them.
fn number(data: &mut [u8], at: usize, random: &mut Random) {
    let number = random.pick(&NUMBERS).copied().unwrap_or(0);
    let number = number.wrapping_add(random.next() % 5).wrapping_sub(2);
    let width = 1 << random.below(4);
    let bytes = number.to_be_bytes();
    let mut bytes = bytes.get(8 - width..).unwrap_or_default().to_vec();
    if random.below(4) == 0 {
        bytes.reverse();
    }
    for (byte, new) in data.iter_mut().skip(at).zip(bytes) {
        *byte = new;
    }
}

/// Writes another number in place of the digits that come next.
fn digits(data: &mut Vec<u8>, at: usize, random: &mut Random) {
    let rest = data.get(at..).unwrap_or_default();
    let Some(from) = rest.iter().position(u8::is_ascii_digit) else { return };
    let count = rest.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let number = random.pick(&NUMBERS).copied().unwrap_or(0).to_string();
    data.splice(at + from..at + from + count, number.into_bytes());
}
