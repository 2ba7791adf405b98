//! Sandboxes in containers of an engine on this machine.
//!
//! ```text
//!   engine   creates and starts a container: init, one socket, the profile's limits, no network
//!   init     connects to the socket, which only process 1 of that very container may; its path goes
//!   shim     takes the container over: its own root file system, pidfd, control groups
//!            … from here on a sandbox like any other: taking it is a message …
//!   engine   removes the container when the shim is gone
//! ```
//!
//! What an engine is slow at (half a second for each container) happens ahead of time, and nothing a
//! session does waits for it. It may be restarted, or die, while sessions run: see `docs/docker.md`.
//!
//! - [`engine`]: the way to it.
//! - [`container`]: what it is asked for.
//! - `entrance`: the socket that `init` comes in by.
//! - `sweep`: what is removed, and when.

pub mod container;
pub mod engine;

mod entrance;
mod sweep;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use sojourn_core::wire::Text;
use sojourn_core::wire::runner::Stage;
use sojourn_shim::container::ContainerProfile;
use sojourn_shim::control::Blueprint;
use sojourn_shim::init_link::InitImage;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::forge::Forge;
use crate::prepared::Failure;
use crate::prepared::Prepared;
use crate::prepared::ShimProcess;
use crate::profile::Kind;
use crate::profile::Profile;
use crate::slots::Slot;
use container::Plan;
use engine::Address;
use engine::Engine;
use entrance::Entrance;

/// Containers of all profiles that are made at the same time.
pub const PARALLEL: usize = 4;

/// The program that is process 1 of every container, in the directory of [`Docker`].
const INIT: &str = "init";

/// All that a runner has to do with containers.
#[derive(Debug)]
pub struct Docker {
    engine: Engine,
    /// Which of the engine's containers are ours: a name that no other data directory has.
    instance: String,
    /// Where `init` and the sockets are; only root passes.
    directory: PathBuf,
    permits: Semaphore,
    /// Sandboxes whose containers are not to be removed, or are just being.
    known: Mutex<BTreeSet<String>>,
    /// Told when the runner leaves: what waits for its next try is tried at once.
    leaving: Notify,
}

impl Docker {
    /// Prepares a directory, below one that is root's alone, for an engine to take `init` from.
    ///
    /// # Errors
    /// The file system's.
    pub fn new(address: Address, instance: String, directory: &Path) -> io::Result<Arc<Self>> {
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // The engine is told its path, and works elsewhere.
        let directory = directory.canonicalize()?;
        for entry in fs::read_dir(&directory)? {
            // Sockets of a runner that died. `init` may be in use, and is replaced by another file.
            fs::remove_file(entry?.path())?;
        }
        let new = directory.join("init.new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o555).open(&new)?;
        io::Write::write_all(&mut file, InitImage::PROGRAM)?;
        drop(file);
        fs::rename(new, directory.join(INIT))?;
        Ok(Arc::new(Self {
            engine: Engine::new(address),
            instance,
            directory,
            permits: Semaphore::new(PARALLEL),
            known: Mutex::default(),
            leaving: Notify::new(),
        }))
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a container, and has a shim take it over. It is removed when its shim is gone.
    pub(crate) async fn make(
        self: &Arc<Self>,
        forge: &Forge,
        profile: &Profile,
        id: String,
        slot: Slot,
        timeout: Duration,
    ) -> Result<Prepared, Failure> {
        // The permit bounds work, not waiting: closed is not a state it can have.
        let _permit = self.permits.acquire().await;
        let slot = Arc::new(slot);
        self.known().insert(id.clone());
        let asked = AtomicBool::new(false);
        let made = self.build(forge, profile, &id, &slot, timeout, &asked).await;
        match &made {
            Ok(prepared) => self.clone().remove_after(id, prepared.shim.clone()),
            Err(_) if asked.into_inner() => self.clone().remove_failed(id, slot),
            Err(_) => {
                self.known().remove(&id);
            }
        }
        made
    }

    /// Looks after a container that the runner before this one had made, too.
    pub fn take_over(self: &Arc<Self>, id: String, shim: Arc<ShimProcess>) {
        self.known().insert(id.clone());
        self.clone().remove_after(id, shim);
    }

    async fn build(
        &self,
        forge: &Forge,
        profile: &Profile,
        id: &str,
        slot: &Arc<Slot>,
        timeout: Duration,
        asked: &AtomicBool,
    ) -> Result<Prepared, Failure> {
        let deadline = Instant::now() + timeout;
        let Kind::Docker { image: name } = &profile.kind else {
            return Err(Failure::new(Stage::Profile, "not a profile of containers"));
        };
        let image = self.engine.image(name, deadline).await?;
        let nat = match &profile.egress {
            Some(egress) => Some(egress.plan().await?),
            None => None,
        };
        let entrance = Entrance::open(&self.directory, id)?;
        let hostname = profile.hostname(id);
        let plan = Plan {
            profile,
            image: &image.id,
            sandbox: id,
            instance: &self.instance,
            hostname: &hostname,
            init: &self.directory.join(INIT),
            socket: entrance.path(),
        };
        let body = container::describe(&plan);
        let name = container::name(&self.instance, id);
        // From here on there may be something to remove, whatever the engine answers.
        asked.store(true, Ordering::Relaxed);
        let container = self.engine.create(&name, body, deadline).await?;
        self.engine.start(&container, deadline).await?;
        let pid = self.engine.process_of(&container, deadline).await?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let held = raw.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        let gone = || Failure::new(Stage::Init, "the container ended before init had connected");
        let pidfd = held.ok_or_else(gone)?;
        let link = entrance.welcome(pid, &pidfd, deadline).await?;
        let blueprint = Blueprint::Container(ContainerProfile {
            id: id.to_owned(),
            container: container.clone(),
            pid,
            hostname,
            disk_size: profile.disk_size,
            overlay: profile.overlay.directory(),
            nat,
        });
        let mut fds: Vec<BorrowedFd<'_>> = vec![link.as_fd(), pidfd.as_fd()];
        fds.extend(profile.disk.iter().flat_map(|disk| disk.parts()));
        let left = deadline.saturating_duration_since(Instant::now());
        let id = id.to_owned();
        let made = Prepared::by(forge, id, blueprint, &fds, Some(slot.clone()), left).await?;
        Ok(Prepared { env: image.env, container: Some(container), ..made })
    }

    /// The runner leaves: containers that could not be removed are tried again now.
    pub fn hurry(&self) {
        self.leaving.notify_waiters();
    }

    /// Removes what engines took, when every container is gone: who finds it knows that some may be
    /// left.
    pub fn close(&self) {
        if self.known().is_empty() {
            // Nobody can be using it, and the next one makes it anew.
            let _left = fs::remove_dir_all(&self.directory);
        }
    }

    /// Has the engine show which session a container is for.
    pub fn name_after(self: &Arc<Self>, container: String, session: String) {
        let own = self.clone();
        tokio::spawn(async move {
            // It only helps people who look at a list.
            if let Err(failure) = own.engine.rename(&container, &format!("sojourn-{session}")).await
            {
                tracing::debug!(%failure, container, "a container keeps its name");
            }
        });
    }
}

/// An image, as far as it matters here.
#[derive(Debug)]
pub(crate) struct Image {
    /// The engine's name for this very image.
    pub(crate) id: String,
    /// What it sets for programs.
    pub(crate) env: Vec<(Text, Text)>,
}
