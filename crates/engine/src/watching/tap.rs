//! One terminal as those see it who look on: the last of its output, its size, who drives it.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::WindowSize;
use tokio::sync::watch;

use super::Drawn;
use super::ring::Read;
use super::ring::Ring;
use super::small::Kept;

/// Who types into a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// Their name.
    pub user: String,
    /// Where they are.
    pub address: IpAddr,
}

/// What the session's task and those who look on share.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) number: u16,
    ring: Mutex<Ring>,
    /// How much was printed: what those wait for who have read it all.
    printed: watch::Sender<u64>,
    driver: watch::Sender<Option<Driver>>,
    size: watch::Sender<Option<WindowSize>>,
    /// Where it stood when it was attached last.
    place: Mutex<Option<Attached>>,
    watchers: AtomicUsize,
    /// The screen as it was drawn last, for all who need one about then; held while it is drawn.
    pub(super) drawn: tokio::sync::Mutex<Option<Drawn>>,
    /// The same, small.
    pub(super) small: tokio::sync::Mutex<Option<Kept>>,
}

impl Tap {
    pub(crate) fn new(number: u16) -> Self {
        Self {
            number,
            ring: Mutex::default(),
            printed: watch::Sender::new(0),
            driver: watch::Sender::new(None),
            size: watch::Sender::new(None),
            place: Mutex::default(),
            watchers: AtomicUsize::new(0),
            drawn: tokio::sync::Mutex::default(),
            small: tokio::sync::Mutex::default(),
        }
    }

    /// The terminal printed these bytes after `at` others.
    pub(crate) fn push(&self, at: u64, bytes: Bytes) {
        let end = {
            let mut ring = self.ring();
            ring.push(at, bytes);
            ring.end()
        };
        self.printed.send_replace(end);
    }

    /// The terminal's output goes on from here.
    pub(crate) fn resume(&self, at: u64) {
        let end = {
            let mut ring = self.ring();
            ring.resume(at);
            ring.end()
        };
        self.printed.send_replace(end);
    }

    /// The shim has answered an attach: this is where it stands, and where its output goes on.
    pub(crate) fn attached(&self, place: &Attached) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place.clone());
        self.resume(place.printed);
        self.resized(place.size);
    }

    /// Where it stood when it was attached last.
    pub(super) fn place(&self) -> Option<Attached> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn driven_by(&self, driver: Option<Driver>) {
        self.driver.send_if_modified(|now| {
            let other = *now != driver;
            *now = driver;
            other
        });
    }

    pub(crate) fn resized(&self, size: WindowSize) {
        self.size.send_if_modified(|now| now.replace(size) != Some(size));
    }

    /// One more who looks on.
    pub(crate) fn enter(&self) {
        self.watchers.fetch_add(1, Ordering::AcqRel);
    }

    /// One less. Whether it was the last.
    pub(crate) fn leave(&self) -> bool {
        self.watchers.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Acquire)
    }

    pub(super) fn read(&self, at: u64, most: usize) -> Read {
        self.ring().read(at, most)
    }

    pub(super) fn holds(&self, at: u64) -> bool {
        self.ring().holds(at)
    }

    pub(super) fn printed(&self) -> watch::Receiver<u64> {
        self.printed.subscribe()
    }

    pub(super) fn driver(&self) -> watch::Receiver<Option<Driver>> {
        self.driver.subscribe()
    }

    pub(super) fn size(&self) -> watch::Receiver<Option<WindowSize>> {
        self.size.subscribe()
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
