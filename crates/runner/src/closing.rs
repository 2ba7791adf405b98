//! What follows the end of a session: its end is told, what it left is kept, its shim is sent home.
//!
//! ```text
//!   its shim says Over, or is gone ─▶ Released ─▶ what it left is read and kept ─▶ shim leaves ─▶ closed
//! ```
//!
//! Nobody waits for the keeping: the session has ended before. A shim stays until its sandbox's files
//! are read, so that this runner may die in between.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::runner::Event;
use sojourn_core::wire::runner::Removed;
use sojourn_core::wire::shim::Summary;
use sojourn_sandbox::left::Bounds;
use sojourn_sandbox::left::Marks;
use sojourn_sandbox::left::Order;
use sojourn_sandbox::left::Report;
use sojourn_sandbox::left::Totals;
use sojourn_sandbox::left::errand;
use sojourn_sandbox::prepared::ShimProcess;
use sojourn_sandbox::profile::ids_of;
use sojourn_sandbox::profile::is_host;
use sojourn_sandbox::shared::SharedSandbox;
use sojourn_sandbox::tether::Tether;
use sojourn_shim::cgroup;
use sojourn_shim::clock;
use sojourn_shim::files;
use sojourn_shim::files::Durability;
use sojourn_shim::joined;
use sojourn_shim::layers::Layers;
use sojourn_shim::native::IdRange;
use sojourn_shim::state::State;
use tokio::sync::Semaphore;

use crate::directories::come_back;
use crate::kept::Name;
use crate::kept::Reading;
use crate::recovery;
use crate::requests::Requests;
use crate::sessions::brief;

/// Keepers at the same time: reading is work for a disk.
const KEEPERS: usize = 2;

/// Sessions that may wait for a keeper. Each pins what its sandbox wrote.
const WAITING: usize = 256;

/// How long a shim that was sent home may take.
const HOME: Duration = Duration::from_secs(10);

/// Of a profile that is not there any more, so much is read.
const UNKNOWN_DISK: u64 = 256 << 20;

/// Between two tries to meet a shim that has much to do.
const MEET_AGAIN: Duration = Duration::from_secs(1);

/// The most characters of why something could not be kept.
const LONGEST_WHY: usize = 1000;

/// Why what a session left is lost: its shim went before there was a runner to hold it, or its sandbox
/// was shared, of which the runner alone holds the layers.
const UNHELD: &str = "nobody was left to read it when the session was over";
const UNSHARED: &str = "the runner that held the sandbox its sessions shared was killed";

/// The file in a session's directory that says that what it left has been read.
pub(crate) const READ: &str = "read";

/// How many sessions are being closed.
#[derive(Debug)]
pub(crate) struct Closing {
    keepers: Semaphore,
    waiting: AtomicUsize,
}

impl Closing {
    pub(crate) fn new() -> Self {
        Self { keepers: Semaphore::new(KEEPERS), waiting: AtomicUsize::new(0) }
    }
}

/// What there is to read of one session.
struct Left {
    profile: String,
    held: Held,
    ids: IdRange,
    marks: Marks,
}

/// What is held of a sandbox, and since when it was a session's.
pub(crate) struct Held {
    layers: Arc<Layers>,
    since: Wall,
}

/// What became of a sandbox when one of its sessions was over.
pub(crate) struct Cleaned {
    /// Whether that was the last one in it.
    is_last: bool,
    /// What is held of one that was shared.
    held: Option<Held>,
}

impl Requests {
    /// Waits for a session's end, tells it, and closes the session.
    pub(crate) fn watch(self: &Arc<Self>, session: SessionId) {
        tokio::spawn(self.clone().follow(session));
    }

    async fn follow(self: Arc<Self>, session: SessionId) {
        let seen = self.sessions.with(session, |entry| {
            let shim = entry.shim.clone()?;
            Some((shim, entry.directory.clone(), entry.sandbox.clone()))
        });
        let Some((shim, directory, sandbox)) = seen.flatten() else { return };
        let (tether, is_over) = self.tether(session, &shim).await.unzip();
        if is_over != Some(true) {
            until_over(&shim, tether.as_deref()).await;
        }
        let dirs = self.dirs.clone();
        let state_of = directory.clone();
        let found =
            tokio::task::spawn_blocking(move || recovery::after_shim(&dirs, &state_of)).await;
        let shared = self.sessions.with(session, |entry| entry.shared.take()).flatten();
        let was_placed = shared.is_some();
        let cleaned = self.clean_up(&sandbox, shared).await;
        let summary = match found {
            Ok(Ok(summary)) => summary,
            Ok(Err(error)) => {
                tracing::error!(%session, %error, "a session left no readable state");
                recovery::unknown(session)
            }
            Err(error) => {
                tracing::error!(%session, %error, "a bug while a session was closed");
                recovery::unknown(session)
            }
        };
        self.released(session, summary);
        let why = match joined::parts(&sandbox).1 {
            Some(_) if !was_placed && cleaned.is_last => Some(UNSHARED),
            None if tether.is_none() => Some(UNHELD),
            _ => None,
        };
        if let Some(left) = self.left(session, &sandbox, &directory, cleaned.held) {
            self.keep(session, left).await;
        } else if let Some(why) = why
            && !is_host(&sandbox)
            && recovery::is_unread(&directory)
        {
            self.lose_unless_kept(session, why).await;
        }
        mark_read(&directory);
        if let Some(tether) = tether {
            tether.dismiss().await;
        }
        if tokio::time::timeout(HOME, shim.gone()).await.is_err() {
            tracing::error!(%session, "a shim does not leave: killing it");
            shim.kill();
            shim.gone().await;
        }
        drop(shim);
        if self.sessions.closed(session) {
            self.remove(session);
        }
    }

    fn released(&self, session: SessionId, summary: Summary) {
        self.sessions.ended(session, summary.clone());
        // Nobody may be listening; then it stands in the next list.
        let summary = Some(brief(summary));
        let _nobody = self.events.send(Event::Released { session, summary });
    }

    /// The way to a session's shim, and whether its session is known to be over. A shim of the runner
    /// before this one is met first, and gives what it holds of its sandbox; none when it went before it
    /// could be met.
    async fn tether(&self, session: SessionId, shim: &ShimProcess) -> Option<(Arc<Tether>, bool)> {
        let (known, directory) =
            self.sessions.with(session, |entry| (entry.tether.clone(), entry.directory.clone()))?;
        if let Some(known) = known {
            return Some((known, false));
        }
        let mut is_told = false;
        loop {
            let met = match come_back(&*directory) {
                Ok(socket) => Tether::meet(socket).await,
                Err(error) => Err(error),
            };
            let error = match met {
                Ok(found) => {
                    let tether = Arc::new(found.tether);
                    let layers = found.layers.map(Arc::new);
                    self.sessions.with(session, |entry| {
                        entry.tether = Some(tether.clone());
                        entry.layers = layers;
                    });
                    return Some((tether, found.is_over));
                }
                Err(error) => error,
            };
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(%session, %error, "a shim cannot be met yet");
            }
            tokio::select! {
                () = shim.gone() => return None,
                () = tokio::time::sleep(MEET_AGAIN) => {}
            }
        }
    }

    /// Reads what a session left, and keeps it.
    async fn keep(self: &Arc<Self>, session: SessionId, left: Left) {
        let place = self.closing.waiting.fetch_add(1, Ordering::Relaxed);
        let kept = if place < WAITING {
            // Closed is not a state this semaphore has.
            let _permit = self.closing.keepers.acquire().await;
            self.keep_left(session, left).await
        } else {
            Err("more sessions ended at once than can be read".to_owned())
        };
        self.closing.waiting.fetch_sub(1, Ordering::Relaxed);
        match kept {
            Ok(None) => {}
            Ok(Some((name, totals))) => {
                tracing::info!(
                    %session, name = name.write(), entries = totals.entries, bytes = totals.bytes,
                    truncated = ?totals.truncated, event = "files_kept", "what a session left is kept",
                );
                let own = self.clone();
                tokio::spawn(async move { own.tell_kept(name, totals).await });
            }
            Err(error) => {
                self.lose(session, error).await;
            }
        }
    }

    /// The same of sessions that ended while nobody was there who could read what they left. Of those
    /// that shared a sandbox the last one tells, if none goes on in it.
    pub(crate) async fn lose_unheld(self: &Arc<Self>, sessions: &[SessionId]) {
        let mut told = BTreeSet::new();
        for session in sessions.iter().rev() {
            let seen = self
                .sessions
                .with(*session, |entry| (entry.sandbox.clone(), entry.directory.clone()));
            let Some((sandbox, directory)) = seen else { continue };
            let (whole, place) = joined::parts(&sandbox);
            let is_the_last = place.is_none()
                || (self.sessions.in_sandbox(whole) == 0 && told.insert(whole.to_owned()));
            if !is_the_last || is_host(&sandbox) {
                mark_read(&directory);
                continue;
            }
            let why = if place.is_none() { UNHELD } else { UNSHARED };
            let (own, session) = (self.clone(), *session);
            // A keeper of the runner before this one may be at it for minutes.
            tokio::spawn(async move {
                if own.lose_unless_kept(session, why).await {
                    mark_read(&directory);
                }
            });
        }
    }

    /// What a session left is lost, unless a keeper of the runner before this one had it or still reads
    /// it. False when that could not be noted.
    async fn lose_unless_kept(self: &Arc<Self>, session: SessionId, why: &str) -> bool {
        let patience = Bounds::of_disk(UNKNOWN_DISK).time * 2;
        let begun = tokio::time::Instant::now();
        let mut was_read = false;
        loop {
            let kept = self.kept.clone();
            let found = tokio::task::spawn_blocking(move || kept.reading(session)).await;
            match found.map_err(io::Error::other).flatten() {
                Ok(Reading::Whole(name, about)) => {
                    self.tell_kept(name, about.totals).await;
                    return true;
                }
                Ok(Reading::Going) if begun.elapsed() < patience => was_read = true,
                // It was read to its end, and there was nothing.
                Ok(Reading::Nobody) if was_read => return true,
                Ok(_) | Err(_) => return self.lose(session, why.to_owned()).await,
            }
            tokio::time::sleep(MEET_AGAIN).await;
        }
    }

    /// What a session left cannot be kept: that is to be on record, whoever dies meanwhile.
    /// False when it could not be noted: then it is told now, or not at all.
    async fn lose(self: &Arc<Self>, session: SessionId, error: String) -> bool {
        tracing::error!(%session, error, "what a session left cannot be kept");
        let why: String = format!("could not be kept: {error}").chars().take(LONGEST_WHY).collect();
        let (kept, noted) = (self.kept.clone(), why.clone());
        let marked = tokio::task::spawn_blocking(move || {
            let name = kept.name_for(session)?;
            kept.lost(&name, &noted).map(|()| name)
        });
        let marked = marked.await.map_err(io::Error::other).flatten();
        if let Err(error) = &marked {
            tracing::error!(%session, %error, "that it cannot be kept cannot be noted");
        }
        let is_noted = marked.is_ok();
        let name = marked.unwrap_or_else(|_| Name { at: clock::wall(), session });
        let own = self.clone();
        tokio::spawn(async move { own.tell_lost(name, why).await });
        is_noted
    }

    /// Has it put on record that what a session left could not be kept.
    async fn tell_lost(&self, name: Name, why: String) {
        let event = Event::Removed { session: name.session, what: Removed::Files, why };
        if self.tellings.tell(event).await
            && let Err(error) = self.kept.told(&name.write())
        {
            tracing::error!(name = name.write(), %error, "what was told is told again");
        }
    }

    /// What there is to read of a session that is over; none where that cannot be had. `room`: what is
    /// held of a sandbox that it was the last one in.
    fn left(
        &self,
        session: SessionId,
        sandbox: &str,
        directory: &OwnedFd,
        room: Option<Held>,
    ) -> Option<Left> {
        let (profile, own) =
            self.sessions.with(session, |entry| (entry.profile.clone(), entry.layers.clone()))?;
        let held = room.or_else(|| {
            let state = State::read(directory.as_fd()).ok();
            let since = state.map_or(Wall(0), |state| state.assigned_at);
            own.map(|layers| Held { layers, since })
        })?;
        let ids = ids_of(joined::parts(sandbox).0, &self.shared.slots)?;
        Some(Left { profile, held, ids, marks: Marks::Trusted })
    }

    async fn keep_left(
        &self,
        session: SessionId,
        left: Left,
    ) -> Result<Option<(Name, Totals)>, String> {
        let Left { profile, held: Held { layers, since }, ids, marks } = left;
        let known = self.profiles.get(&profile);
        let disk = known.map_or(UNKNOWN_DISK, |profile| profile.disk_size);
        let keep_for = known.and_then(|profile| profile.keep_for);
        let kept = self.kept.clone();
        let name = tokio::task::spawn_blocking(move || kept.name_for(session)).await;
        let name = name.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let order = Order {
            name: name.write(),
            session,
            profile,
            keep_for: keep_for.map_or(0, |time| time.as_secs().max(1)),
            since,
            ids,
            marks,
            bounds: Bounds::of_disk(disk),
        };
        let kept = self.kept.directory();
        match errand::keep(&self.shared.forge, kept, &order, &layers).await {
            Ok(Report::Kept(totals)) => Ok(Some((name, totals))),
            Ok(Report::Nothing) => Ok(None),
            Ok(Report::Failed { message }) => Err(message),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has it put on record that a session's files are kept.
    pub(crate) async fn tell_kept(&self, name: Name, totals: Totals) {
        let event = Event::Kept {
            session: name.session,
            name: name.write(),
            files: totals.entries,
            bytes: totals.bytes,
            truncated: !totals.truncated.is_empty(),
        };
        if self.tellings.tell(event).await
            && let Err(error) = self.kept.told(&name.write())
        {
            tracing::error!(name = name.write(), %error, "what was told is told again");
        }
    }

    /// Tells a gateway that has just come what the one before it may not have put on record.
    pub(crate) async fn tell_again(self: Arc<Self>) {
        self.gateway_came.notify_one();
        let names = match self.kept.untold() {
            Ok(names) => names,
            Err(error) => return tracing::error!(%error, "what is kept cannot be listed"),
        };
        for name in names {
            if let Some(why) = self.kept.why_lost(&name) {
                self.tell_lost(name, why).await;
            } else if let Some(about) = self.kept.about(&name) {
                // Without it its keeper is still at it.
                self.tell_kept(name, about.totals).await;
            }
        }
    }

    /// Sends the shims home of sessions that are over, though what these left may not be read yet:
    /// keepers that are at it go on alone.
    pub(crate) async fn give_up_keeping(&self) {
        for tether in self.sessions.tethers() {
            tether.dismiss().await;
        }
    }

    /// Removes what the shim of a session could not: its sandbox, or its place in one that others
    /// share, which goes with its last session. Then what is held of that sandbox comes back.
    pub(crate) async fn clean_up(
        &self,
        sandbox: &str,
        shared: Option<Arc<SharedSandbox>>,
    ) -> Cleaned {
        let (whole, place) = joined::parts(sandbox);
        if let Some(place) = place {
            self.clean_cgroup(&format!("{}/{whole}", self.cgroup), place).await;
        }
        let (is_last, held) = match shared.map(Arc::into_inner) {
            Some(Some(room)) => {
                let held = room.layers().map(|layers| Held { layers, since: room.since() });
                room.end().await;
                (true, held)
            }
            Some(None) => (false, None),
            // Its own; or shared since the runner before this one, and nobody joins it any more.
            None => (self.sessions.in_sandbox(whole) <= 1, None),
        };
        if is_last {
            self.clean_cgroup(&self.cgroup, whole).await;
        }
        Cleaned { is_last, held }
    }

    async fn clean_cgroup(&self, parent: &str, sandbox: &str) {
        let (parent, own) = (parent.to_owned(), sandbox.to_owned());
        let cleaned =
            tokio::task::spawn_blocking(move || cgroup::clean_orphans(&parent, |id| id != own));
        if let Ok(Err(error)) = cleaned.await {
            tracing::warn!(sandbox, %error, "a control group cannot be removed");
        }
    }
}

/// Notes in a session's directory that what it left has been read. Not for a loss of power, after which
/// it is not asked for.
fn mark_read(directory: &OwnedFd) {
    let marked = files::replace(directory.as_fd(), READ, &[], Durability::Process);
    // It may be forgotten already.
    if let Err(error) = marked
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "that a session's files were read cannot be noted");
    }
}

/// Waits until every process of a session is gone: as its shim says, or with its shim.
async fn until_over(shim: &ShimProcess, tether: Option<&Tether>) {
    let said = async {
        match tether {
            Some(tether) => tether.over().await,
            None => false,
        }
    };
    let is_said = tokio::select! {
        () = shim.gone() => true,
        said = said => said,
    };
    if !is_said {
        shim.gone().await;
    }
}
