//! A sandbox that several sessions share: one shim holds it, each session has a place in it.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::time::Wall;
use sojourn_core::wire::Text;
use sojourn_core::wire::runner::Stage;
use sojourn_shim::clock;
use sojourn_shim::control;
use sojourn_shim::control::Blueprint;
use sojourn_shim::control::Order;
use sojourn_shim::control::Report;
use sojourn_shim::joined;
use sojourn_shim::joined::Place;
use sojourn_shim::layers::Layers;

use crate::forge::Forge;
use crate::packets::Packets;
use crate::prepared::Failure;
use crate::prepared::Prepared;
use crate::prepared::ShimProcess;
use crate::prepared::abandon;

/// How long the holder may take to give a place.
const GIVE: Duration = Duration::from_secs(5);

/// How long the holder may take to end its sandbox, before it is killed.
const END: Duration = Duration::from_secs(10);

/// The sandbox. Its holder ends it when this is dropped.
#[derive(Debug)]
pub struct SharedSandbox {
    id: String,
    cgroup: String,
    holder: Arc<ShimProcess>,
    /// One place is given at a time.
    control: tokio::sync::Mutex<Packets>,
    places: AtomicU32,
    layers: Option<Arc<Layers>>,
    /// What its image sets for programs.
    env: Vec<(Text, Text)>,
    since: Wall,
}

impl SharedSandbox {
    /// Makes a sandbox that waited one to be shared. `cgroup` holds those of all sandboxes.
    #[must_use]
    pub fn new(sandbox: Prepared, cgroup: String) -> Self {
        let id = sandbox.id.clone();
        let env = sandbox.env.clone();
        let (holder, control, layers) = sandbox.into_parts();
        Self {
            id,
            cgroup,
            holder,
            control: tokio::sync::Mutex::new(control),
            places: AtomicU32::new(0),
            layers: layers.map(Arc::new),
            env,
            since: clock::wall(),
        }
    }

    /// The sandbox's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it writes, readable when it is dead.
    #[must_use]
    pub fn layers(&self) -> Option<Arc<Layers>> {
        self.layers.clone()
    }

    /// When it was made one to be shared: what is older in it is nobody's doing.
    #[must_use]
    pub fn since(&self) -> Wall {
        self.since
    }

    /// A place in it, for one session, with a shim of its own.
    ///
    /// # Errors
    /// When the holder or its sandbox is gone, or the place is not ready in time.
    pub async fn place(&self, forge: &Forge, timeout: Duration) -> Result<Prepared, Failure> {
        let gone = |what: &str| Failure::new(Stage::Init, format!("the shared sandbox {what}"));
        let (ours, theirs) = joined::socket().map_err(|error| gone(&error.to_string()))?;
        let given = tokio::time::timeout(GIVE, self.give(theirs)).await;
        let ptmx = given.ok().flatten().ok_or_else(|| gone("does not answer"))?;
        let place = Place {
            sandbox: self.id.clone(),
            cgroup_parent: self.cgroup.clone(),
            number: self.places.fetch_add(1, Ordering::Relaxed),
        };
        let (id, fds) = (place.id(), [ours.as_fd(), ptmx.as_fd()]);
        let made = Prepared::by(forge, id, Blueprint::Joined(place), &fds, None, timeout).await?;
        Ok(Prepared { env: self.env.clone(), ..made })
    }

    /// Ends it, and waits until its holder is gone.
    pub async fn end(self) {
        let holder = self.holder.clone();
        drop(self);
        if tokio::time::timeout(END, holder.gone()).await.is_err() {
            holder.kill();
            holder.gone().await;
        }
    }

    /// Has the holder pass the socket on, and gives the sandbox's `ptmx`.
    async fn give(&self, place: OwnedFd) -> Option<OwnedFd> {
        let control = self.control.lock().await;
        let order = |socket: std::os::fd::BorrowedFd<'_>| {
            control::send(socket, &Order::Share, &[place.as_fd()])
        };
        control.write(order).await.ok()?;
        match control.read(|socket| control::recv::<Report>(socket)).await.ok()?? {
            (Report::Shared, mut fds) => fds.pop(),
            _ => None,
        }
    }
}

impl Drop for SharedSandbox {
    fn drop(&mut self) {
        // Its ids are its own until it is gone.
        abandon(self.holder.clone());
    }
}
