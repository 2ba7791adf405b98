//! Telling people who do not look that an agent waits for their answer: Web Push.
//!
//! ```text
//!   engine ──opened──▶ notify ──sealed for each browser──▶ its push service ──▶ its service worker
//! ```
//!
//! It is told at once, and not twice. Where the login that a browser was added in is not in force, it is
//! told that something waits, and not what. One that its push service does not know any more is removed.

mod post;
mod seal;
mod vapid;

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use sojourn_core::audit::Actor;
use sojourn_engine::agents::Asked;
use sojourn_engine::push::Device;
use sojourn_engine::push::Opened;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gate::Gate;
use post::Endpoint;
use post::Failed;
use post::Post;
use seal::Reader;
use seal::SealError;
use vapid::Vapid;

pub use vapid::PushError;

/// Messages on their way at the same time; the rest waits.
const AT_ONCE: usize = 16;

/// How long a push service keeps a message for a browser that is away, in seconds.
const KEPT_FOR: u32 = 3600;

/// Letters of what an agent wants to do.
const LONGEST: usize = 200;

/// How browsers are told. Cheap to clone.
#[derive(Clone)]
pub struct Push {
    inner: Arc<Inner>,
}

struct Inner {
    vapid: Vapid,
    post: Post,
    named: Vec<String>,
    contact: String,
}

/// Why a browser is not told anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// Its address.
    #[error("{0}")]
    Endpoint(String),
    /// Its keys.
    #[error("{0}")]
    Keys(String),
}

impl Push {
    /// With the key in this directory, which is made when it is not there. Addresses of `named`
    /// (`host:port`) are written to wherever they are; `contact` is where a push service's people find
    /// ours.
    ///
    /// # Errors
    /// When there is no key.
    pub fn open(keys: &Path, named: Vec<String>, contact: String) -> Result<Self, PushError> {
        let vapid = Vapid::load_or_make(keys)?;
        let post = Post::new().map_err(|_| PushError::Random)?;
        Ok(Self { inner: Arc::new(Inner { vapid, post, named, contact }) })
    }

    /// Our public key, as browsers take it.
    pub(crate) fn key(&self) -> &str {
        self.inner.vapid.public()
    }

    /// Whether a browser that says this of itself can be told anything.
    pub(crate) fn check(&self, endpoint: &str, p256dh: &str, auth: &str) -> Result<(), Unfit> {
        Endpoint::read(endpoint, &self.inner.named)
            .map_err(|error| Unfit::Endpoint(error.to_string()))?;
        Reader::read(p256dh, auth).map_err(|error| Unfit::Keys(error.to_string()))?;
        Ok(())
    }

    /// Tells a browser something. False: its push service does not know it any more.
    async fn tell(&self, gate: &Gate, device: &Device, what: &Value) -> Result<bool, Failed> {
        let Inner { vapid, post, named, contact } = &*self.inner;
        let endpoint = Endpoint::read(&device.endpoint, named)?;
        let sealed = Reader::read(&device.p256dh, &device.auth)
            .and_then(|reader| reader.seal(what.to_string().as_bytes()));
        let body = match sealed {
            Ok(body) => body,
            Err(SealError::Key | SealError::Secret) => return Ok(false),
            Err(error) => return Err(std::io::Error::other(error).into()),
        };
        let now = gate.engine().clock().wall();
        let headers = [
            ("authorization", vapid.header(&endpoint.origin(), contact, now)),
            ("content-encoding", "aes128gcm".to_owned()),
            ("content-type", "application/octet-stream".to_owned()),
            ("ttl", KEPT_FOR.to_string()),
            ("urgency", "high".to_owned()),
        ];
        let status = post.send(&endpoint, &headers, body).await?;
        tracing::debug!(push = %device.id, status, "a browser was told");
        match status {
            200..=299 => Ok(true),
            404 | 410 => Ok(false),
            _ => Err(std::io::Error::other(format!("answered with {status}")).into()),
        }
    }
}

/// Tells people's browsers what their agents ask, until the gateway goes down.
pub async fn notify(gate: Gate, shutdown: CancellationToken) {
    let mut opened = gate.engine().opened();
    let (turns, tasks) = (Arc::new(Semaphore::new(AT_ONCE)), TaskTracker::new());
    loop {
        let asked = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            asked = opened.recv() => asked,
        };
        match asked {
            Ok(asked) => {
                let Ok(turn) = turns.clone().acquire_owned().await else { break };
                let gate = gate.clone();
                tasks.spawn(async move {
                    tell_all(&gate, &asked).await;
                    drop(turn);
                });
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "so much was asked that not all of it was told");
            }
            Err(RecvError::Closed) => break,
        }
    }
}

/// Tells all browsers of somebody what their agent asks.
async fn tell_all(gate: &Gate, asked: &Opened) {
    let Some(push) = gate.push() else { return };
    // An error is in the log; what waits is seen by whoever looks.
    let Ok(devices) = gate.engine().devices(asked.user).await else { return };
    for device in devices {
        // It may have been answered while others were told.
        if !gate.engine().still_waits(asked) {
            return;
        }
        match push.tell(gate, &device, &message(asked, device.signed_in)).await {
            Ok(true) => {}
            Ok(false) => {
                let why = "its push service does not know it";
                let _logged =
                    gate.engine().remove_device(asked.user, device.id, Actor::SYSTEM, why).await;
            }
            Err(error) => {
                tracing::warn!(push = %device.id, %error, "a browser could not be told");
            }
        }
    }
}

/// What a browser is told. Without its login: that something waits.
fn message(asked: &Opened, signed_in: bool) -> Value {
    let (kind, line) = match &asked.what {
        Asked::Permission(prompt) => ("prompt", &prompt.description),
        Asked::Question(question) => ("question", &question.question),
    };
    let mut said = json!({"type": kind, "session": asked.session, "request": asked.request});
    if signed_in {
        said["harness"] = json!(asked.harness.chars().take(64).collect::<String>());
        said["tool"] = json!(asked.what.tool().chars().take(64).collect::<String>());
        said["description"] = json!(line.chars().take(LONGEST).collect::<String>());
    }
    said
}
