//! What a sandbox writes and what it writes over, as descriptors: its files can be read through them
//! when every process of it is dead and its mounts are gone.
//!
//! They pin memory or a loop device, so whoever holds them lets go within a bounded time.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// The most lower layers: with the upper one and one more descriptor they fit a message.
pub const MOST_LOWERS: usize = 6;

/// The layers of one sandbox's root file system.
#[derive(Debug)]
pub struct Layers {
    /// Where all that it changed is, as an overlay keeps it.
    pub upper: OwnedFd,
    /// What was there before, the topmost first.
    pub lowers: Vec<OwnedFd>,
}

impl Layers {
    /// Layers that came over a socket; none where no descriptor did.
    #[must_use]
    pub fn from_received(fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let upper = fds.next()?;
        Some(Self { upper, lowers: fds.take(MOST_LOWERS).collect() })
    }

    /// They, as they are sent.
    #[must_use]
    pub fn parts(&self) -> Vec<BorrowedFd<'_>> {
        let lowers = self.lowers.iter().take(MOST_LOWERS).map(AsFd::as_fd);
        std::iter::once(self.upper.as_fd()).chain(lowers).collect()
    }
}
