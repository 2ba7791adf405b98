//! A sandbox that waits for a session, and the shim that holds it.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Signal;
use sojourn_core::wire::Text;
use sojourn_core::wire::runner::Stage;
use sojourn_shim::control;
use sojourn_shim::control::Assign;
use sojourn_shim::control::AssignFds;
use sojourn_shim::control::Blueprint;
use sojourn_shim::control::Order;
use sojourn_shim::control::Report;
use sojourn_shim::layers::Layers;
use sojourn_shim::seqpacket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::forge::Forge;
use crate::packets::Packets;
use crate::pool::Shared;
use crate::profile::Kind;
use crate::profile::Profile;
use crate::profile::sandbox_id;
use crate::slots::Slot;
use crate::tether::Tether;

/// How long a shim may take to take a session: it writes one small file durably.
const ASSIGN: Duration = Duration::from_secs(10);

/// More than the sandbox's own timeout, for a shim that says nothing at all.
const SLACK: Duration = Duration::from_secs(5);

/// Why there is no sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", stage.name())]
pub struct Failure {
    /// Where it failed.
    pub stage: Stage,
    /// What went wrong, in a line.
    pub message: String,
}

impl Failure {
    /// At this stage, for this reason.
    pub fn new(stage: Stage, message: impl Into<String>) -> Self {
        Self { stage, message: message.into() }
    }
}

/// A shim's process. Its ids are free when it is gone.
#[derive(Debug)]
pub struct ShimProcess {
    pidfd: AsyncFd<OwnedFd>,
    _slot: Option<Arc<Slot>>,
}

impl ShimProcess {
    /// A shim by its pidfd, with the ids of its sandbox.
    ///
    /// # Errors
    /// The system's.
    pub fn new(pidfd: OwnedFd, slot: Option<Arc<Slot>>) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
        )]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Self { pidfd, _slot: slot })
    }

    /// Resolves when it has ended.
    pub async fn gone(&self) {
        // An error can only mean that the runtime goes down.
        let _ready = self.pidfd.readable().await;
    }

    /// Whether it has not ended, now.
    fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&at_once)) == Ok(0)
    }

    /// Has it end its session as the gateway's end does, with the time that its programs are given.
    pub fn end(&self) {
        // The one error there is: it is gone already.
        let _gone = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::TERM);
    }

    /// Kills it, and so its sandbox: process 1 of it ends with its socket.
    pub fn kill(&self) {
        // The one error there is: it is gone already.
        let _gone = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }
}

/// A sandbox that waits.
#[derive(Debug)]
pub struct Prepared {
    /// Its id.
    pub id: String,
    /// When it was ready.
    pub ready_at: Instant,
    /// Its shim.
    pub shim: Arc<ShimProcess>,
    /// What it writes, readable when it is dead; none where that cannot be held.
    pub layers: Option<Layers>,
    /// What its image sets for programs.
    pub env: Vec<(Text, Text)>,
    /// The engine's id of it, where it is a container.
    pub container: Option<String>,
    pub(crate) control: Packets,
}

impl Prepared {
    /// Has a shim forked and its sandbox built.
    pub(crate) async fn make(
        shared: &Shared,
        profile: &Profile,
        slot: Slot,
        unique: u32,
    ) -> Result<Self, Failure> {
        let (forge, timeout) = (&shared.forge, shared.spawn_timeout);
        let id = sandbox_id(&profile.kind, slot.number(), unique);
        let mut env = Vec::new();
        let blueprint = match (&profile.kind, &shared.docker) {
            (Kind::Native, _) => {
                let nat = match &profile.egress {
                    Some(egress) => Some(egress.plan().await?),
                    None => None,
                };
                let (rootfs, variables) = shared.files(profile).await?;
                env = variables;
                Blueprint::Native(profile.native(&id, &slot, rootfs, nat))
            }
            (Kind::Host(user), _) => Blueprint::Host(profile.host(&id, user)),
            (Kind::Docker { .. }, Some(docker)) => {
                return docker.make(forge, profile, id, slot, timeout).await;
            }
            (Kind::Docker { .. }, None) => {
                return Err(Failure::new(Stage::Engine, "no container engine is configured"));
            }
        };
        // The permit bounds work, not waiting: closed is not a state it can have.
        let _permit = shared.permits.acquire().await;
        let disk = profile.disk.as_ref().filter(|_| profile.kind == Kind::Native);
        let disk = disk.map(|disk| disk.parts());
        let fds = disk.as_ref().map_or(&[][..], |parts| parts);
        let made = Self::by(forge, id, blueprint, fds, Some(Arc::new(slot)), timeout).await?;
        Ok(Self { env, ..made })
    }

    /// Has a shim forked that holds what the blueprint says.
    pub(crate) async fn by(
        forge: &Forge,
        id: String,
        blueprint: Blueprint,
        fds: &[BorrowedFd<'_>],
        slot: Option<Arc<Slot>>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let system = |error: io::Error| Failure::new(Stage::Container, format!("no shim: {error}"));
        let make = Order::Make { blueprint: Box::new(blueprint), timeout };
        let (ours, theirs) = seqpacket::pair().map_err(system)?;
        let born = forge.fork_shim(theirs.as_fd()).await.map_err(system)?;
        drop(theirs);
        let shim = ShimProcess::new(born.pidfd, slot).map_err(system)?;
        let shim = Arc::new(shim);
        let control = Packets::new(ours).map_err(system)?;
        let built = async {
            control.write(|socket| control::send(socket, &make, fds)).await.map_err(system)?;
            match report(&control).await {
                Some((Report::Ready { .. }, fds)) => Ok(Layers::from_received(fds)),
                Some((Report::Failed { stage, message }, _)) => Err(Failure { stage, message }),
                _ => Err(Failure::new(Stage::Container, "its shim left without a word")),
            }
        };
        match tokio::time::timeout(timeout + SLACK, built).await {
            Ok(Ok(layers)) => Ok(Self {
                id,
                ready_at: Instant::now(),
                shim,
                layers,
                env: Vec::new(),
                container: None,
                control,
            }),
            Ok(Err(failure)) => {
                abandon(shim);
                Err(failure)
            }
            Err(_) => {
                shim.kill();
                abandon(shim);
                Err(Failure::new(Stage::Timeout, "its shim did not answer"))
            }
        }
    }

    /// Gives it a session.
    ///
    /// # Errors
    /// When its shim does not take it; the sandbox is gone then.
    pub async fn assign(self, assign: Assign, fds: &AssignFds) -> Result<Tether, Failure> {
        let order = Order::Assign(Box::new(assign));
        let taken = async {
            let sent =
                |socket: std::os::fd::BorrowedFd<'_>| control::send(socket, &order, &fds.parts());
            self.control
                .write(sent)
                .await
                .map_err(|error| Failure::new(Stage::Init, format!("its shim is gone: {error}")))?;
            match report(&self.control).await {
                Some((Report::Assigned, _)) => Ok(()),
                Some((Report::Failed { stage, message }, _)) => Err(Failure { stage, message }),
                _ => Err(Failure::new(Stage::Init, "its shim left without a word")),
            }
        };
        match tokio::time::timeout(ASSIGN, taken).await {
            Ok(Ok(())) => Ok(Tether::new(self.control)),
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                self.shim.kill();
                Err(Failure::new(Stage::Timeout, "its shim did not take the session"))
            }
        }
    }

    /// Its shim, the way to it and what it writes, for who shares it.
    pub(crate) fn into_parts(self) -> (Arc<ShimProcess>, Packets, Option<Layers>) {
        (self.shim, self.control, self.layers)
    }

    /// Whether its shim still holds it. One that died in the pool is nobody's any more.
    pub(crate) fn is_alive(&self) -> bool {
        self.shim.is_alive()
    }

    /// Lets go of a sandbox nobody took; its ids are free when its shim has cleaned up.
    pub fn discard(self) {
        drop(self.control);
        abandon(self.shim);
    }
}

/// The next thing a shim says, and what comes along; none when it is gone or says what it must not.
async fn report(control: &Packets) -> Option<(Report, Vec<OwnedFd>)> {
    control.read(|socket| control::recv::<Report>(socket)).await.ok()?
}

/// Keeps the ids of a shim's sandbox until it is gone.
pub(crate) fn abandon(shim: Arc<ShimProcess>) {
    tokio::spawn(async move { shim.gone().await });
}
