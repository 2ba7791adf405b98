//! The beginning of a stream that is too long to record, and what the rest was.

use sha2::Digest;
use sha2::Sha256;

use super::hex;

/// Lets the first bytes of a stream through and measures all of it.
///
/// An `exec` without a terminal can carry gigabytes (a backup, a clone): those are not a terminal
/// session to be watched, but which bytes they were should be provable.
#[derive(Clone, Debug)]
pub struct Excerpt {
    limit: u64,
    total: u64,
    digest: Sha256,
}

/// What an [`Excerpt`] left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes recorded, from the first.
    pub recorded: u64,
    /// Bytes of the whole stream.
    pub total: u64,
    /// SHA-256 of the whole stream, lower-case hexadecimal.
    pub sha256: String,
}

impl Excerpt {
    /// An excerpt of the first `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, total: 0, digest: Sha256::new() }
    }

    /// Takes note of the stream's next bytes and returns those of them that are to be recorded.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let left = usize::try_from(self.limit.saturating_sub(self.total)).unwrap_or(usize::MAX);
        self.digest.update(bytes);
        self.total = self.total.saturating_add(bytes.len() as u64);
        bytes.get(..left).unwrap_or(bytes)
    }

    /// What was left out, at the stream's end; `None` when all of it was recorded.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        (self.total > self.limit).then(|| Cut {
            recorded: self.limit,
            total: self.total,
            sha256: hex(&self.digest.clone().finalize()),
        })
    }
}
