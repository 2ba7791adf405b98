//! What people were promised and what they saw, to be held against what is on record; and every breach.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What one terminal or command was to print, and what of it reached anybody.
#[derive(Clone, Debug)]
pub(super) struct Printed {
    /// Begins every line of it.
    pub(super) tag: String,
    /// Its session, where it is known.
    pub(super) session: Option<String>,
    /// What comes before the counted lines.
    pub(super) before: String,
    /// How many lines it prints; none: it goes on until it is ended.
    pub(super) lines: Option<u64>,
    /// What reached the person, of the program's.
    pub(super) seen: Vec<u8>,
    /// Whether the person was told that it came to its own end.
    pub(super) told_end: bool,
}

/// A conversation with an agent.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    pub(super) session: String,
    /// What it says when nothing stops it.
    pub(super) text: String,
    /// How many events were seen at most.
    pub(super) events: usize,
    /// Whether the turn was seen to its end.
    pub(super) whole: bool,
    /// Whether an answer of ours was taken.
    pub(super) granted: bool,
}

/// How often something was asked for, and how often it was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) asked: usize,
    pub(super) answered: usize,
}

pub(super) struct Ledger {
    began: Instant,
    ticks: AtomicU64,
    breaches: Mutex<Vec<String>>,
    pub(super) printed: Mutex<Vec<Printed>>,
    pub(super) conversations: Mutex<Vec<Conversation>>,
    /// By audit action and user.
    pub(super) asked: Mutex<BTreeMap<(&'static str, String), Asked>>,
    /// Digests of files that got there and back.
    pub(super) transfers: Mutex<Vec<String>>,
    /// Sessions of which people were told that they began.
    pub(super) begun: Mutex<Vec<String>>,
    /// What was going on, for those who read about a breach.
    story: Mutex<Vec<String>>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            ticks: AtomicU64::new(0),
            breaches: Mutex::default(),
            printed: Mutex::default(),
            conversations: Mutex::default(),
            asked: Mutex::default(),
            transfers: Mutex::default(),
            begun: Mutex::default(),
            story: Mutex::default(),
        }
    }

    /// Something moved on.
    pub(super) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// What must not be, was.
    pub(super) fn breach(&self, what: impl Into<String>) {
        let what = what.into();
        self.tell(format!("BREACH {what}"));
        self.breaches.lock().unwrap().push(what);
    }

    /// What happened, in order.
    pub(super) fn tell(&self, what: impl Into<String>) {
        let at = self.began.elapsed().as_secs_f64();
        self.story.lock().unwrap().push(format!("{at:6.2} {}", what.into()));
    }

    pub(super) fn breaches(&self) -> Vec<String> {
        self.breaches.lock().unwrap().clone()
    }

    pub(super) fn story(&self) -> Vec<String> {
        self.story.lock().unwrap().clone()
    }

    pub(super) fn asks(&self, action: &'static str, user: &str) {
        self.asked.lock().unwrap().entry((action, user.to_owned())).or_default().asked += 1;
    }

    pub(super) fn is_answered(&self, action: &'static str, user: &str) {
        self.asked.lock().unwrap().entry((action, user.to_owned())).or_default().answered += 1;
    }
}
