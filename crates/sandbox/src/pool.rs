//! The pools: one task a profile keeps its sandboxes ready, refills as soon as one is taken, and
//! replaces those that grow old or die.
//!
//! A failure is told to whoever waits, at once and by its stage; without anybody waiting the next try
//! comes after a pause that doubles, so that a host that cannot make sandboxes is not kept busy by it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::wire::Text;
use sojourn_core::wire::runner::PoolState;
use sojourn_core::wire::runner::Stage;
use sojourn_shim::native::Rootfs;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::docker::Docker;
use crate::forge::Forge;
use crate::image::cache::Images;
use crate::prepared::Failure;
use crate::prepared::Prepared;
use crate::profile::Files;
use crate::profile::Profile;
use crate::slots::Slots;

/// Sandboxes of all profiles that are made at the same time.
pub const PARALLEL: usize = 4;

/// The most sessions that may wait for a sandbox of one profile.
const WAITING: usize = 256;

/// A sandbox that has waited so long is replaced: a machine changes under it.
const OLDEST: Duration = Duration::from_secs(3600);

/// How often ready sandboxes are looked at.
const ROUND: Duration = Duration::from_secs(30);

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What all pools of a runner share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Where shims come from.
    pub forge: Arc<Forge>,
    /// Where ids come from.
    pub slots: Slots,
    /// How long making a sandbox may take.
    pub spawn_timeout: Duration,
    /// Bounds how many are made at the same time; containers have bounds of their own.
    pub permits: Arc<Semaphore>,
    /// The engine of containers, where there are profiles for it.
    pub docker: Option<Arc<Docker>>,
    /// Image archives, where there are profiles with one.
    pub images: Option<Arc<Images>>,
}

impl Shared {
    /// The root file system of a native sandbox, and what an image sets for programs in it.
    pub(crate) async fn files(
        &self,
        profile: &Profile,
    ) -> Result<(Rootfs, Vec<(Text, Text)>), Failure> {
        let archive = match &profile.rootfs {
            Files::Host => return Ok((Rootfs::Host, Vec::new())),
            Files::Directory(path) => return Ok((Rootfs::Directory(path.clone()), Vec::new())),
            Files::Archive(path) => path,
        };
        let none = || Failure::new(Stage::Image, "there is no place for images");
        let images = self.images.as_ref().ok_or_else(none)?;
        let image = images.root(archive).await?;
        Ok((Rootfs::Image(image), images.env(archive)))
    }
}

/// A sandbox, and whether it was ready.
#[derive(Debug)]
pub struct Taken {
    /// The sandbox.
    pub sandbox: Prepared,
    /// Whether it had been made ahead.
    pub warm: bool,
}

type Asker = oneshot::Sender<Result<Taken, Failure>>;

/// One profile's pool. Dropping it lets go of all that waits in it.
#[derive(Debug)]
pub struct Pool {
    asks: mpsc::Sender<Asker>,
    state: watch::Receiver<PoolState>,
    spawn_timeout: Duration,
    /// Where the profile's files come out of an archive.
    images: Option<Arc<Images>>,
}

impl Pool {
    /// Starts filling a pool.
    #[must_use]
    pub fn start(profile: Arc<Profile>, shared: Shared) -> Self {
        let (asks, asked) = mpsc::channel(WAITING);
        let spawn_timeout = shared.spawn_timeout;
        let is_archive = matches!(profile.rootfs, Files::Archive(_));
        let images = shared.images.clone().filter(|_| is_archive);
        let initial = PoolState {
            profile: profile.name.clone(),
            wanted: profile.pool,
            ready: 0,
            making: 0,
            failing: None,
        };
        let (state, watched) = watch::channel(initial);
        let keeper = Keeper {
            profile,
            shared,
            state,
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            making: JoinSet::new(),
            pause: Duration::ZERO,
            not_before: Instant::now(),
        };
        tokio::spawn(keeper.run(asked));
        Self { asks, state: watched, spawn_timeout, images }
    }

    /// Takes a sandbox, waiting for one to be made when none is ready.
    ///
    /// # Errors
    /// Why there is none, by the stage it failed at.
    pub async fn take(&self) -> Result<Taken, Failure> {
        let (asker, answer) = oneshot::channel();
        let full = || Failure::new(Stage::Capacity, "too many sessions wait for a sandbox");
        self.asks.try_send(asker).map_err(|_| full())?;
        match tokio::time::timeout(self.spawn_timeout, answer).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(_)) => Err(Failure::new(Stage::Runner, "the runner is leaving")),
            Err(_) if self.images.as_ref().is_some_and(|images| images.is_busy()) => {
                Err(Failure::new(Stage::Image, "it is still being unpacked: try again soon"))
            }
            Err(_) => {
                let seconds = self.spawn_timeout.as_secs();
                Err(Failure::new(Stage::Timeout, format!("none was ready within {seconds} s")))
            }
        }
    }

    /// How it stands, and whenever that changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<PoolState> {
        self.state.clone()
    }
}

struct Keeper {
    profile: Arc<Profile>,
    shared: Shared,
    state: watch::Sender<PoolState>,
    ready: VecDeque<Prepared>,
    waiting: VecDeque<Asker>,
    making: JoinSet<Result<Prepared, Failure>>,
    pause: Duration,
    /// No sandbox is made ahead before this.
    not_before: Instant,
}

impl Keeper {
    async fn run(mut self, mut asked: mpsc::Receiver<Asker>) {
        let mut round = tokio::time::interval(ROUND);
        loop {
            self.refill();
            self.publish();
            let held_back = self.not_before;
            tokio::select! {
                ask = asked.recv() => match ask {
                    Some(asker) => self.serve(asker),
                    None => break,
                },
                Some(made) = self.making.join_next() => self.made(made.unwrap_or_else(|error| {
                    Err(Failure::new(Stage::Container, format!("a bug in the pool: {error}")))
                })),
                () = tokio::time::sleep_until(held_back), if held_back > Instant::now() => {}
                _ = round.tick() => self.look_round().await,
            }
        }
        for sandbox in self.ready {
            sandbox.discard();
        }
        // What is still being made is finished, so that its shim hears that it is not wanted.
        while let Some(made) = self.making.join_next().await {
            if let Ok(Ok(sandbox)) = made {
                sandbox.discard();
            }
        }
    }

    fn serve(&mut self, asker: Asker) {
        while let Some(sandbox) = self.ready.pop_front() {
            if sandbox.is_alive() {
                return self.give(asker, Taken { sandbox, warm: true });
            }
            tracing::warn!(sandbox = sandbox.id, "a sandbox died before anybody took it");
            sandbox.discard();
        }
        self.waiting.push_back(asker);
    }

    fn give(&mut self, asker: Asker, taken: Taken) {
        // Whoever asked may have given up: then the sandbox is as good as new.
        if let Err(Ok(unwanted)) = asker.send(Ok(taken)) {
            self.ready.push_front(unwanted.sandbox);
        }
    }

    fn made(&mut self, made: Result<Prepared, Failure>) {
        match made {
            Ok(sandbox) => {
                self.pause = Duration::ZERO;
                self.state.send_modify(|state| state.failing = None);
                while self.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                    self.waiting.pop_front();
                }
                match self.waiting.pop_front() {
                    Some(asker) => self.give(asker, Taken { sandbox, warm: false }),
                    None => self.ready.push_back(sandbox),
                }
            }
            Err(failure) => {
                let (profile, reason) = (&self.profile.name, Some(failure.to_string()));
                // Once for each reason: the same one comes back until somebody does something about it.
                if self.state.borrow().failing == reason {
                    tracing::debug!(profile, %failure, "a sandbox could not be made, again");
                } else {
                    tracing::warn!(profile, %failure, "a sandbox could not be made");
                }
                self.pause = (self.pause * 2).clamp(PAUSES.0, PAUSES.1);
                self.not_before = Instant::now() + self.pause;
                self.state.send_modify(|state| state.failing = reason);
                if let Some(asker) = self.waiting.pop_front() {
                    let _gave_up = asker.send(Err(failure));
                }
            }
        }
    }

    /// Starts making what is missing. Whoever waits is served even in the pause after a failure.
    fn refill(&mut self) {
        let ahead = if Instant::now() < self.not_before { 0 } else { self.profile.pool };
        let wanted = ahead.saturating_sub(self.ready.len()) + self.waiting.len();
        while self.making.len() < wanted {
            let Some(slot) = self.shared.slots.take() else {
                self.made(Err(Failure::new(Stage::Capacity, "all ranges of user ids are in use")));
                return;
            };
            let (profile, shared) = (self.profile.clone(), self.shared.clone());
            self.making
                .spawn(async move { Prepared::make(&shared, &profile, slot, unique()).await });
        }
    }

    /// Replaces what has grown old or died.
    async fn look_round(&mut self) {
        let mut kept = VecDeque::with_capacity(self.ready.len());
        for sandbox in self.ready.drain(..) {
            if !sandbox.is_alive() || sandbox.ready_at.elapsed() > OLDEST {
                sandbox.discard();
            } else {
                kept.push_back(sandbox);
            }
        }
        self.ready = kept;
    }

    fn publish(&self) {
        self.state.send_if_modified(|state| {
            let (ready, making) = (self.ready.len(), self.making.len());
            let changed = state.ready != ready || state.making != making;
            (state.ready, state.making) = (ready, making);
            changed
        });
    }
}

/// A number no other sandbox of this machine has for long.
fn unique() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the clock will do: the number only keeps names apart.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(4) => u32::from_ne_bytes(bytes),
        _ => std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos()),
    }
}
