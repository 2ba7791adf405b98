//! What a gateway may ask of the runner, and the answers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::wire::runner::Event;
use sojourn_core::wire::runner::LeftForm;
use sojourn_core::wire::runner::Note;
use sojourn_core::wire::runner::Open;
use sojourn_core::wire::runner::Reply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::runner::Stage;
use sojourn_core::wire::runner::WEB_DOOR;
use sojourn_sandbox::pool::Pool;
use sojourn_sandbox::pool::Shared;
use sojourn_sandbox::pool::Taken;
use sojourn_sandbox::prepared::Failure;
use sojourn_sandbox::prepared::Prepared;
use sojourn_sandbox::profile::Profile;
use sojourn_sandbox::shared::SharedSandbox;
use sojourn_shim::clock;
use sojourn_shim::control::Assign;
use sojourn_shim::control::AssignFds;
use sojourn_shim::control::InputPolicy;
use tokio::sync::Notify;
use tokio::sync::broadcast;

use crate::closing::Closing;
use crate::directories::Directories;
use crate::directories::connect;
use crate::kept::Kept;
use crate::record;
use crate::retention::Retention;
use crate::sessions::Entry;
use crate::sessions::Sessions;
use crate::tellings::Tellings;

/// How long somebody waits for what a session left that has just ended.
const LEFT: Duration = Duration::from_secs(10);

/// How long the sidecar may take a note.
const NOTE: Duration = Duration::from_secs(2);

/// A sandbox that a user's sessions share, while any of them does.
type Room = Arc<tokio::sync::Mutex<Weak<SharedSandbox>>>;

/// An answer and the descriptor that goes along.
type Answer = (Reply, Option<OwnedFd>);

/// What there is to be had.
pub(crate) struct Offer {
    pub(crate) profiles: BTreeMap<String, Arc<Profile>>,
    /// Profiles that cannot be had here, and what is told to whoever wants one.
    pub(crate) missing: BTreeMap<String, String>,
}

/// Which build this runner is, and where its sandboxes are counted.
pub(crate) struct Identity {
    pub(crate) build: String,
    pub(crate) cgroup: String,
}

/// All a request needs.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) profiles: BTreeMap<String, Arc<Profile>>,
    missing: BTreeMap<String, String>,
    pub(crate) shared: Shared,
    pub(crate) dirs: Arc<Directories>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) build: String,
    pub(crate) epoch: u64,
    pub(crate) cgroup: String,
    pub(crate) kept: Arc<Kept>,
    pub(crate) closing: Closing,
    pub(crate) tellings: Tellings,
    pub(crate) retention: Retention,
    /// Somebody is there again who keeps the record, or there is more to keep.
    pub(crate) gateway_came: Notify,
    /// Sessions on other machines whose recordings are being written.
    written: Mutex<BTreeSet<SessionId>>,
    pools: Mutex<BTreeMap<String, Arc<Pool>>>,
    /// Sandboxes that a user's sessions share, by profile and user.
    rooms: Mutex<BTreeMap<(String, String), Room>>,
}

impl Requests {
    pub(crate) fn new(
        Offer { profiles, missing }: Offer,
        shared: Shared,
        dirs: Arc<Directories>,
        Identity { build, cgroup }: Identity,
        retention: Retention,
    ) -> io::Result<Self> {
        let (events, _) = broadcast::channel(1024);
        let epoch = clock::mono().0;
        let sessions = Arc::new(Sessions::new());
        Ok(Self {
            profiles,
            missing,
            shared,
            sessions,
            build,
            epoch,
            cgroup,
            kept: Arc::new(Kept::new(dirs.kept()?)),
            dirs,
            closing: Closing::new(),
            tellings: Tellings::new(events.clone()),
            retention,
            gateway_came: Notify::new(),
            events,
            written: Mutex::default(),
            pools: Mutex::default(),
            rooms: Mutex::default(),
        })
    }

    pub(crate) fn build(&self) -> &str {
        &self.build
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether it may have sandboxes to make, or to clean up after.
    pub(crate) fn makes_sandboxes(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether nothing of a session may go: it is not over.
    pub(crate) fn holds(&self, session: SessionId) -> bool {
        self.sessions.holds(session) || self.written().contains(&session)
    }

    fn written(&self) -> std::sync::MutexGuard<'_, BTreeSet<SessionId>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts filling the pools: somebody is there who may want a sandbox.
    pub(crate) fn fill_pools(&self) {
        let mut pools = self.lock();
        for (name, profile) in &self.profiles {
            pools.entry(name.clone()).or_insert_with(|| {
                let pool = Arc::new(Pool::start(profile.clone(), self.shared.clone()));
                tokio::spawn(announce(pool.clone(), self.events.clone()));
                pool
            });
        }
    }

    /// Lets go of what waits in the pools.
    pub(crate) fn drain_pools(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request) -> Answer {
        match request {
            Request::Open(open) => match self.open(*open).await {
                Ok(answer) => answer,
                Err(Failure { stage, message }) => (Reply::Failed { stage, message }, None),
            },
            Request::Attach { session } => self.attach(session),
            Request::Note { session, note } => self.note(session, note).await,
            Request::Kill { session } => {
                let shim = self.sessions.with(session, |entry| entry.shim.clone());
                match shim.map(|shim| shim.iter().for_each(|shim| shim.kill())) {
                    Some(()) => (Reply::Done, None),
                    None => (Reply::Unknown, None),
                }
            }
            Request::List { after } => {
                let (items, more) = self.sessions.page(after);
                (Reply::Sessions { items, more }, None)
            }
            Request::Forget { session } => self.forget(session),
            Request::Evidence { session } => self.evidence(session).await,
            Request::Record { session, channel, created } => {
                self.written().insert(session);
                self.record(session, move |dirs| {
                    let opened = record::open(dirs, session, channel, created)?;
                    let record::Opened { file, fd, events, last_us, is_new } = opened;
                    Ok((Reply::Recording { file, events, last_us, is_new }, Some(fd)))
                })
                .await
            }
            Request::Seal(sealing) => {
                let session = sealing.session;
                let sealed = self
                    .record(session, move |dirs| {
                        Ok(match record::seal(dirs, &sealing)? {
                            Some(recording) => (Reply::Sealed { recording }, None),
                            None => (Reply::Unknown, None),
                        })
                    })
                    .await;
                self.written().remove(&session);
                // There may be more now than there is room for.
                self.gateway_came.notify_one();
                sealed
            }
            Request::Left { session, form } => self.read_left(session, form).await,
            Request::Noted { session, what } => match self.tellings.noted(session, what) {
                true => (Reply::Done, None),
                false => (Reply::Unknown, None),
            },
            Request::Pools => {
                let pools = self.lock();
                let items = pools.values().map(|pool| pool.state().borrow().clone()).collect();
                (Reply::Pools { items }, None)
            }
            // Both are the connection's own affair.
            Request::Hello { .. } | Request::Shutdown { .. } => (Reply::Unknown, None),
        }
    }

    async fn open(self: &Arc<Self>, open: Open) -> Result<Answer, Failure> {
        let Open { session, profile: name, lower, about, honeypot } = open;
        if let Some(why) = self.missing.get(&name) {
            return Err(Failure::new(Stage::Profile, why.clone()));
        }
        let unknown = || Failure::new(Stage::Profile, format!("no profile {name:?} here"));
        let profile = self.profiles.get(&name).cloned().ok_or_else(unknown)?;
        let pool = self.lock().get(&name).cloned();
        let pool = pool.ok_or_else(|| Failure::new(Stage::Runner, "the runner is leaving"))?;
        let (mut sandbox, warm, shared) = match profile.shared && !honeypot {
            true => self.place(&pool, &name, &about.user).await?,
            false => {
                let Taken { sandbox, warm } = pool.take().await?;
                (sandbox, warm, None)
            }
        };
        drop(pool);
        let failed = |what: &'static str| {
            move |error: std::io::Error| Failure::new(Stage::Recording, format!("{what}: {error}"))
        };
        let made = self
            .dirs
            .day(clock::wall())
            .map_err(failed("the recordings' directory"))
            .and_then(|day| {
                let own = self.dirs.create(session).map_err(failed("the session's directory"))?;
                Ok((day, own))
            });
        let ((day_dir, day), (directory, listener, comeback)) = match made {
            Ok(made) => made,
            Err(failure) => {
                sandbox.discard();
                return Err(failure);
            }
        };
        let mut limits = profile.limits.clone();
        if about.door == WEB_DOOR {
            limits.max_runtime = profile.web_runtime;
        }
        let mut limits = limits.lowered(&lower);
        let mut recording = profile.recording.clone();
        if honeypot {
            // What is typed there is what it is for; and nobody comes back.
            recording.input = InputPolicy::All;
            limits.detach_grace = Duration::ZERO;
        }
        let assign = Assign {
            session,
            honeypot,
            profile: name.clone(),
            about: about.clone(),
            limits,
            recording,
            day: day.clone(),
            command: profile.command.clone(),
            // What comes later wins.
            env: sandbox.env.iter().chain(&profile.env).cloned().collect(),
            account: profile.account(),
        };
        let kept = rustix::io::dup(&directory)
            .map_err(|error| failed("the session's directory")(error.into()))?;
        let fds =
            AssignFds { session: directory, day: day_dir, listener, comeback: Some(comeback) };
        let (id, shim) = (sandbox.id.clone(), sandbox.shim.clone());
        let layers = sandbox.layers.take().map(Arc::new);
        let container = sandbox.container.take();
        let assigned = sandbox.assign(assign, &fds).await;
        drop(fds);
        let opened = match assigned {
            Ok(tether) => connect(&kept)
                .map(|socket| (tether, socket))
                .map_err(|error| Failure::new(Stage::Init, format!("its shim: {error}"))),
            Err(failure) => Err(failure),
        };
        let (tether, socket) = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                shim.kill();
                tokio::spawn(self.clone().discard(session, id, shim, shared));
                return Err(failure);
            }
        };
        let entry = Entry {
            profile: name,
            sandbox: id.clone(),
            about,
            directory: Arc::new(kept),
            shim: Some(shim),
            tether: Some(Arc::new(tether)),
            layers,
            honeypot,
            shared,
            ended: None,
            on_record: false,
            closed: false,
        };
        self.sessions.insert(session, entry);
        self.watch(session);
        if let (Some(docker), Some(container)) = (&self.shared.docker, container) {
            docker.name_after(container, session.to_string());
        }
        let recording = format!("{day}/{session}.cast");
        Ok((Reply::Opened { sandbox: id, warm, recording }, Some(socket)))
    }

    /// A place in the sandbox that the user's sessions share; the first makes it one.
    async fn place(
        &self,
        pool: &Pool,
        profile: &str,
        user: &str,
    ) -> Result<(Prepared, bool, Option<Arc<SharedSandbox>>), Failure> {
        let shared = &self.shared;
        let room = {
            let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.retain(|_, room| {
                Arc::strong_count(room) > 1
                    || room.try_lock().is_ok_and(|room| room.strong_count() > 0)
            });
            rooms.entry((profile.to_owned(), user.to_owned())).or_default().clone()
        };
        // Held to the end: two who come at once share one.
        let mut known = room.lock().await;
        if let Some(room) = known.upgrade() {
            match room.place(&shared.forge, shared.spawn_timeout).await {
                Ok(sandbox) => return Ok((sandbox, true, Some(room))),
                // It is ending with its sessions: the next one begins.
                Err(failure) => tracing::warn!(sandbox = room.id(), %failure, "no place"),
            }
        }
        let Taken { sandbox, warm } = pool.take().await?;
        let room = Arc::new(SharedSandbox::new(sandbox, self.cgroup.clone()));
        let sandbox = room.place(&shared.forge, shared.spawn_timeout).await?;
        *known = Arc::downgrade(&room);
        Ok((sandbox, warm, Some(room)))
    }

    /// Removes what a sandbox left that never had its session.
    async fn discard(
        self: Arc<Self>,
        session: SessionId,
        sandbox: String,
        shim: Arc<sojourn_sandbox::prepared::ShimProcess>,
        shared: Option<Arc<SharedSandbox>>,
    ) {
        shim.gone().await;
        self.clean_up(&sandbox, shared).await;
        if let Err(error) = self.dirs.remove(session) {
            tracing::error!(%session, %error, "a session's directory cannot be removed");
        }
    }

    fn attach(&self, session: SessionId) -> Answer {
        let directory = self
            .sessions
            .with(session, |entry| entry.ended.is_none().then(|| entry.directory.clone()));
        match directory.flatten().map(connect) {
            Some(Ok(socket)) => (Reply::Attached, Some(socket)),
            Some(Err(error)) => {
                (Reply::Failed { stage: Stage::Init, message: error.to_string() }, None)
            }
            None => (Reply::Unknown, None),
        }
    }

    async fn note(&self, session: SessionId, note: Note) -> Answer {
        let tether = self.sessions.with(session, |entry| entry.tether.clone()).flatten();
        let Some(tether) = tether else { return (Reply::Unknown, None) };
        match tokio::time::timeout(NOTE, tether.tell(note)).await {
            Ok(Ok(())) => (Reply::Done, None),
            _ => (Reply::Unknown, None),
        }
    }

    /// Something to append an upload to, as evidence; at honeypots only.
    async fn evidence(&self, session: SessionId) -> Answer {
        let of = self.sessions.with(session, |entry| {
            let takes = entry.honeypot && entry.ended.is_none();
            takes.then(|| entry.profile.clone())
        });
        let profile = of.flatten().and_then(|name| self.profiles.get(&name).cloned());
        let Some(profile) = profile else { return (Reply::Unknown, None) };
        let kept = self.kept.clone();
        let made = tokio::task::spawn_blocking(move || kept.evidence(session, profile.disk_size));
        match made.await.map_err(io::Error::other) {
            Ok(Ok(Some((file, fd, most)))) => (Reply::Evidence { file, most }, Some(fd)),
            Ok(Ok(None)) => {
                let message = "this session has uploaded as much as is kept".to_owned();
                (Reply::Failed { stage: Stage::Capacity, message }, None)
            }
            Ok(Err(error)) | Err(error) => {
                (Reply::Failed { stage: Stage::Recording, message: error.to_string() }, None)
            }
        }
    }

    /// Does something with the recording of a session that is on another machine: none of those here,
    /// which have shims that write.
    async fn record(
        &self,
        session: SessionId,
        work: impl FnOnce(&Directories) -> io::Result<Answer> + Send + 'static,
    ) -> Answer {
        if self.sessions.with(session, |_| ()).is_some() {
            return (Reply::Unknown, None);
        }
        let dirs = self.dirs.clone();
        let done = tokio::task::spawn_blocking(move || work(&dirs)).await;
        done.map_err(io::Error::other).flatten().unwrap_or_else(|error| {
            (Reply::Failed { stage: Stage::Recording, message: error.to_string() }, None)
        })
    }

    /// What a session left. Of one that has just ended it is waited for.
    async fn read_left(&self, session: SessionId, form: LeftForm) -> Answer {
        let failed = |message: String| (Reply::Failed { stage: Stage::Runner, message }, None);
        let closed = self.sessions.until_closed(session);
        if tokio::time::timeout(LEFT, closed).await.is_err() {
            return failed("what it left is being read; try again in a moment".to_owned());
        }
        let kept = self.kept.clone();
        let opened = tokio::task::spawn_blocking(move || kept.open(session, form));
        match opened.await.map_err(io::Error::other) {
            Ok(Ok(Some((name, fd, bytes)))) => (Reply::Left { name, bytes }, Some(fd)),
            Ok(Ok(None)) => (Reply::Unknown, None),
            Ok(Err(error)) | Err(error) => failed(error.to_string()),
        }
    }

    fn forget(&self, session: SessionId) -> Answer {
        match self.sessions.forget(session) {
            Some(true) => self.remove(session),
            // Its directory goes when it is closed.
            Some(false) => {}
            None => return (Reply::Unknown, None),
        }
        (Reply::Done, None)
    }

    pub(crate) fn remove(&self, session: SessionId) {
        if let Err(error) = self.dirs.remove(session) {
            tracing::error!(%session, %error, "a session's directory cannot be removed");
        }
    }
}

/// Tells how a pool stands, whenever it changes.
async fn announce(pool: Arc<Pool>, events: broadcast::Sender<Event>) {
    let mut state = pool.state();
    // The pool goes when nobody else holds it.
    drop(pool);
    while state.changed().await.is_ok() {
        let now = state.borrow_and_update().clone();
        let _nobody = events.send(Event::Pool(now));
    }
}
