//! What the fuzz targets of all crates share: pieces of an input, and a place for files.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// The input in pieces, as a stream might bring it. Where it is cut is told by its bytes alone, so
/// that an input that fails fails again.
#[must_use]
pub fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut state = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut pieces = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let longest = [3, 64, 4096][(state >> 61) as usize % 3];
        let length = (1 + (state >> 32) as usize % longest).min(rest.len());
        let (piece, after) = rest.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The input as its parts, of which each but the last has its length (two bytes) before it.
#[must_use]
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = [&[][..]; N];
    let mut rest = data;
    if let Some((last, first)) = parts.split_last_mut() {
        for part in first {
            let Some((length, after)) = rest.split_first_chunk::<2>() else { break };
            let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
            (*part, rest) = after.split_at(length);
        }
        *last = rest;
    }
    parts
}

/// Puts parts together as [`parts`] takes them apart.
#[must_use]
pub fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    if let Some((last, first)) = parts.split_last() {
        for part in first {
            data.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            data.extend_from_slice(part);
        }
        data.extend_from_slice(last);
    }
    data
}

/// A directory for one run of a target; it goes when this does.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each call makes another one")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("sojourn-fuzz-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a directory for one run");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of a run that was killed is named after its process.
        let _left = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_apart_as_they_were_put_together() {
        let data = joined(&[b"one", b"", b"the rest"]);
        assert_eq!(parts::<3>(&data), [&b"one"[..], b"", b"the rest"]);
        assert_eq!(parts::<2>(b"\x00"), [&b""[..], b"\x00"]);
        assert_eq!(pieces(&data).concat(), data);
    }
}
