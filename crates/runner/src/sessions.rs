//! The sessions a runner holds: those that run, and those that ended and that no gateway has put on
//! record yet.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use sojourn_core::ids::SessionId;
use sojourn_core::wire::MAX_MESSAGE;
use sojourn_core::wire::runner::About;
use sojourn_core::wire::runner::Held;
use sojourn_core::wire::runner::PAGE;
use sojourn_core::wire::shim::Summary;
use sojourn_sandbox::prepared::Notes;
use sojourn_sandbox::prepared::ShimProcess;
use sojourn_sandbox::shared::SharedSandbox;
use sojourn_shim::joined;
use tokio::sync::watch;

/// The most bytes of sessions in one page.
const PAGE_BYTES: usize = MAX_MESSAGE / 2;

/// The most recordings a summary names on its way; the sidecar names all.
const MAX_NAMED: usize = 64;

/// A summary that fits in a message.
pub(crate) fn brief(mut summary: Summary) -> Summary {
    summary.recordings.truncate(MAX_NAMED);
    summary
}

/// One session.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The profile's name.
    pub(crate) profile: String,
    /// The sandbox's id.
    pub(crate) sandbox: String,
    /// Who it is for.
    pub(crate) about: About,
    /// Its directory.
    pub(crate) directory: Arc<OwnedFd>,
    /// Its shim.
    pub(crate) shim: Arc<ShimProcess>,
    /// The way to its sidecar; none for a session of the runner before this one.
    pub(crate) notes: Option<Arc<Notes>>,
    /// The sandbox, where it shares one and the runner gave it its place.
    pub(crate) shared: Option<Arc<SharedSandbox>>,
    /// What it was, once its shim is gone.
    pub(crate) ended: Option<Summary>,
    /// Whether its end is on record already: it may go when its shim has.
    pub(crate) on_record: bool,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Sessions {
    entries: Mutex<BTreeMap<SessionId, Entry>>,
    running: watch::Sender<usize>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::default(), running: watch::Sender::new(0) }
    }

    pub(crate) fn insert(&self, id: SessionId, entry: Entry) {
        let running = entry.ended.is_none();
        self.lock().insert(id, entry);
        self.running.send_modify(|count| *count += usize::from(running));
    }

    /// Looks at one session.
    pub(crate) fn with<T>(&self, id: SessionId, see: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.lock().get_mut(&id).map(see)
    }

    /// It is over: `summary` is kept until somebody has it on record. Returns whether that is so
    /// already: then the session is forgotten.
    pub(crate) fn ended(&self, id: SessionId, summary: Summary) -> bool {
        let seen = self.with(id, |entry| (entry.ended.replace(summary).is_none(), entry.on_record));
        let (was_running, on_record) = seen.unwrap_or_default();
        self.running.send_modify(|count| *count -= usize::from(was_running));
        on_record && self.lock().remove(&id).is_some()
    }

    /// The end of a session is on record. Returns whether it is forgotten now; a session whose shim is
    /// not gone yet is when it is.
    pub(crate) fn forget(&self, id: SessionId) -> Option<bool> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&id)?;
        entry.on_record = true;
        let over = entry.ended.is_some();
        Some(over && entries.remove(&id).is_some())
    }

    /// A page of them, oldest first, and whether there are more.
    pub(crate) fn page(&self, after: Option<SessionId>) -> (Vec<Held>, bool) {
        let entries = self.lock();
        let mut rest = entries.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        let mut items = Vec::new();
        let mut bytes = 0;
        for (id, entry) in rest.by_ref() {
            let held = Held {
                session: *id,
                profile: entry.profile.clone(),
                about: entry.about.clone(),
                ended: entry.ended.clone().map(brief),
            };
            bytes += serde_json::to_vec(&held).map_or(0, |json| json.len());
            // One always fits; a page is a message, which has a longest.
            if !items.is_empty() && (items.len() >= PAGE || bytes > PAGE_BYTES) {
                return (items, true);
            }
            items.push(held);
        }
        (items, false)
    }

    /// Whether a sandbox is a running session's.
    pub(crate) fn has_sandbox(&self, sandbox: &str) -> bool {
        self.in_sandbox(sandbox) > 0
    }

    /// How many running sessions a sandbox has.
    pub(crate) fn in_sandbox(&self, sandbox: &str) -> usize {
        let entries = self.lock();
        let inside = |entry: &&Entry| joined::parts(&entry.sandbox).0 == sandbox;
        entries.values().filter(|entry| entry.ended.is_none()).filter(inside).count()
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Resolves when none runs.
    pub(crate) async fn none_running(&self) {
        // An error means that this is gone, and so are they.
        let mut running = self.running.subscribe();
        let _gone = running.wait_for(|count| *count == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
