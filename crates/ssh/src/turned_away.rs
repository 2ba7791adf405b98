//! Connections that were not let in for what they did before signing in: counted all, told of now and
//! then, so that a flood fills neither log nor audit.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event;
use sojourn_engine::door::Door;
use tokio::time::Instant;

use crate::gate::Gate;
use crate::gate::HONEYPOT;

/// At most one line, and one audit event, of a kind in this time.
const EVERY: Duration = Duration::from_secs(10);

/// How many reasons there are.
const KINDS: usize = 4;

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too many were signing in; this one had done so for the longest.
    Crowded,
    /// Signing in took too long.
    Slow,
    /// Too many of this address had ended without a sign-in.
    Often,
    /// A load balancer did not say whose connection it was.
    Unannounced,
}

impl Why {
    const ALL: [Self; KINDS] = [Self::Crowded, Self::Slow, Self::Often, Self::Unannounced];

    const fn index(self) -> usize {
        match self {
            Self::Crowded => 0,
            Self::Slow => 1,
            Self::Often => 2,
            Self::Unannounced => 3,
        }
    }

    /// A stable word for the audit log and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crowded => "too_many_unauthenticated",
            Self::Slow => "login_grace",
            Self::Often => "connects_per_minute",
            Self::Unannounced => "proxy_protocol",
        }
    }
}

/// The counts, and what of them is still to be told.
#[derive(Debug)]
pub(crate) struct TurnedAway {
    /// Through what those came who were.
    door: ActorKind,
    counts: [AtomicU64; KINDS],
    untold: Mutex<[Untold; KINDS]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Untold {
    count: u64,
    last: Option<IpAddr>,
    told_at: Option<Instant>,
}

impl TurnedAway {
    pub(crate) fn new(door: ActorKind) -> Self {
        Self { door, counts: Default::default(), untold: Mutex::default() }
    }

    pub(crate) fn count(&self, why: Why) -> u64 {
        self.counts.get(why.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// One more was turned away.
    pub(crate) fn note(&self, why: Why, from: IpAddr, gate: &impl Gate) {
        if let Some(count) = self.counts.get(why.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let door = if self.door == ActorKind::Honeypot { HONEYPOT } else { Door::Ssh.name() };
        gate.refused(door, why.name());
        {
            let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(untold) = untold.get_mut(why.index()) {
                untold.count += 1;
                untold.last = Some(from);
            }
        }
        self.tell(gate);
    }

    /// Tells what is due.
    pub(crate) fn tell(&self, gate: &impl Gate) {
        for why in Why::ALL {
            let Some((count, last)) = self.due(why) else { continue };
            tracing::warn!(
                event = "connection_refused", code = why.name(), count, source = %last,
                "connections were turned away before they signed in"
            );
            // The last one's address stands for all of them.
            let actor = Actor { ip_address: Some(last), ..Actor::new(self.door) };
            let event = Event::new(gate.now(), Action::ConnectionRefused, actor);
            gate.record(event.detail("code", why.name()).detail("count", count));
        }
    }

    fn due(&self, why: Why) -> Option<(u64, IpAddr)> {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = untold.get_mut(why.index())?;
        if untold.told_at.is_some_and(|told_at| told_at.elapsed() < EVERY) {
            return None;
        }
        let due = (std::mem::take(&mut untold.count), untold.last?);
        untold.told_at = Some(Instant::now());
        (due.0 > 0).then_some(due)
    }
}
