//! Browsers that want to be told when an agent asks something: who they are, and what there is to tell.
//! How they are told is the web door's.

use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::ids::PushId;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::RequestId;
use sojourn_store::PushDevice;
use tokio::sync::broadcast;

use crate::agents::Asked;
use crate::engine::Engine;
use crate::listing::StoreUnavailable;
use crate::login::Login;

pub use sojourn_store::LONGEST_ENDPOINT;

/// What was asked and is not told yet; the oldest is left untold when there is more.
pub(crate) const WAITING: usize = 256;

/// A browser that nobody has signed in with for so long is told nothing any more.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// An agent asks something, and waits.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Where.
    pub session: SessionId,
    /// Whose session it is.
    pub user: UserId,
    /// The agent.
    pub harness: String,
    /// Tells it from others.
    pub request: RequestId,
    /// What it asks.
    pub what: Asked,
}

/// A browser, as it says itself.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// Where messages for it go.
    pub endpoint: String,
    /// Its public key.
    pub p256dh: String,
    /// The secret it shares with us.
    pub auth: String,
    /// What it is, for people.
    pub device: String,
}

/// A browser that is told.
pub type Device = PushDevice;

impl Engine {
    /// What agents ask, from now on.
    #[must_use]
    pub fn opened(&self) -> broadcast::Receiver<Opened> {
        self.agents().opened()
    }

    /// Whether something that was asked still waits for its answer.
    #[must_use]
    pub fn still_waits(&self, opened: &Opened) -> bool {
        let snapshot = self.agents().snapshot(opened.session);
        snapshot.is_some_and(|all| all.asks.iter().any(|(request, _)| *request == opened.request))
    }

    /// A browser of somebody's wants to be told.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn add_device(
        &self,
        login: &Login,
        new: NewDevice,
        actor: Actor,
    ) -> Result<Device, StoreUnavailable> {
        let now = self.clock().wall();
        let device = Device {
            id: PushId::new(),
            user: login.user(),
            login: login.id(),
            endpoint: new.endpoint,
            p256dh: new.p256dh,
            auth: new.auth,
            device: new.device,
            added_at: now,
            signed_in: true,
        };
        let event = Event::new(now, Action::PushAdded, actor)
            .detail("push_id", device.id.to_string())
            .detail("device", device.device.clone());
        self.inner.records.store().add_push_device(&device, &event).await?;
        Ok(device)
    }

    /// Somebody's browsers that are told, the oldest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn devices(&self, user: UserId) -> Result<Vec<Device>, StoreUnavailable> {
        let now: Wall = self.clock().wall();
        let store = self.inner.records.store();
        Ok(store.push_devices(user, now, now.before(KEPT_FOR)).await?)
    }

    /// A browser is told no more: its person wants that, or its push service does not know it. False
    /// when it was not.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn remove_device(
        &self,
        user: UserId,
        id: PushId,
        actor: Actor,
        why: &'static str,
    ) -> Result<bool, StoreUnavailable> {
        let event = Event::new(self.clock().wall(), Action::PushRemoved, actor)
            .detail("push_id", id.to_string())
            .detail("why", why);
        Ok(self.inner.records.store().remove_push_device(user, id, &event).await?)
    }
}
