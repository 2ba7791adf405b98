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
use sojourn_sandbox::prepared::ShimProcess;
use sojourn_sandbox::shared::SharedSandbox;
use sojourn_sandbox::tether::Tether;
use sojourn_shim::joined;
use sojourn_shim::layers::Layers;
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
    /// Its shim; none once the session is closed.
    pub(crate) shim: Option<Arc<ShimProcess>>,
    /// The way to its shim; none until a shim of the runner before this one is met.
    pub(crate) tether: Option<Arc<Tether>>,
    /// What it writes, readable when it is dead.
    pub(crate) layers: Option<Arc<Layers>>,
    /// The sandbox, where it shares one and the runner gave it its place.
    pub(crate) shared: Option<Arc<SharedSandbox>>,
    /// Whether it is a honeypot's.
    pub(crate) honeypot: bool,
    /// What it was, once it is over.
    pub(crate) ended: Option<Summary>,
    /// Whether its end is on record already: it may go when it is closed.
    pub(crate) on_record: bool,
    /// Whether all is done that follows its end: what it left is kept, and its shim is gone.
    pub(crate) closed: bool,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Sessions {
    entries: Mutex<BTreeMap<SessionId, Entry>>,
    running: watch::Sender<usize>,
    /// Those that are not closed.
    busy: watch::Sender<usize>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        let (running, busy) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { entries: Mutex::default(), running, busy }
    }

    pub(crate) fn insert(&self, id: SessionId, entry: Entry) {
        let (running, busy) = (entry.ended.is_none(), !entry.closed);
        self.lock().insert(id, entry);
        self.running.send_modify(|count| *count += usize::from(running));
        self.busy.send_modify(|count| *count += usize::from(busy));
    }

    /// Looks at one session.
    pub(crate) fn with<T>(&self, id: SessionId, see: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.lock().get_mut(&id).map(see)
    }

    /// It is over: `summary` is kept until somebody has it on record.
    pub(crate) fn ended(&self, id: SessionId, summary: Summary) {
        let was_running = self.with(id, |entry| entry.ended.replace(summary).is_none());
        self.running.send_modify(|count| *count -= usize::from(was_running == Some(true)));
    }

    /// All is done that follows its end; its ids are free. Returns whether the end is on record
    /// already: then the session is forgotten.
    pub(crate) fn closed(&self, id: SessionId) -> bool {
        let seen = self.with(id, |entry| {
            (entry.shim, entry.tether, entry.layers) = (None, None, None);
            (!std::mem::replace(&mut entry.closed, true), entry.on_record)
        });
        let (was_busy, on_record) = seen.unwrap_or_default();
        let forgotten = on_record && self.lock().remove(&id).is_some();
        self.busy.send_modify(|count| *count -= usize::from(was_busy));
        forgotten
    }

    /// The end of a session is on record. Returns whether it is forgotten now; a session that is not
    /// closed yet is when it is.
    pub(crate) fn forget(&self, id: SessionId) -> Option<bool> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&id)?;
        entry.on_record = true;
        let over = entry.closed;
        Some(over && entries.remove(&id).is_some())
    }

    /// Resolves when this session is closed, or not known.
    pub(crate) async fn until_closed(&self, id: SessionId) {
        let is_closed = |_: &usize| self.with(id, |entry| entry.closed).unwrap_or(true);
        let mut busy = self.busy.subscribe();
        let _gone = busy.wait_for(is_closed).await;
    }

    /// Changes when a session is opened or closed.
    pub(crate) fn changes(&self) -> watch::Receiver<usize> {
        self.busy.subscribe()
    }

    /// Whether it is held: its files are not to be touched.
    pub(crate) fn holds(&self, id: SessionId) -> bool {
        self.lock().contains_key(&id)
    }

    /// The shims of those that run.
    pub(crate) fn shims(&self) -> Vec<Arc<ShimProcess>> {
        let entries = self.lock();
        entries.values().filter(|e| e.ended.is_none()).filter_map(|e| e.shim.clone()).collect()
    }

    /// The ways to the shims that are still there.
    pub(crate) fn tethers(&self) -> Vec<Arc<Tether>> {
        let entries = self.lock();
        entries.values().filter(|e| e.ended.is_some()).filter_map(|e| e.tether.clone()).collect()
    }

    /// A page of them, oldest first, and whether there are more.
    pub(crate) fn page(&self, after: Option<SessionId>) -> (Vec<Held>, bool) {
        let entries = self.lock();
        let mut rest = entries
            .iter()
            .filter(|(id, entry)| !entry.on_record && after.is_none_or(|after| **id > after));
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

    /// Resolves when none runs and all are closed.
    pub(crate) async fn all_closed(&self) {
        // An error means that this is gone, and so are they.
        let mut busy = self.busy.subscribe();
        let _gone = busy.wait_for(|count| *count == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
