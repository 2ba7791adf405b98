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
use tokio::time::Instant;

use crate::gate::Gate;

/// At most one line, and one audit event, of a kind in this time.
const EVERY: Duration = Duration::from_secs(10);

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too many were signing in; this one had done so for the longest.
    Crowded,
    /// Signing in took too long.
    Slow,
}

impl Why {
    const ALL: [Self; 2] = [Self::Crowded, Self::Slow];

    const fn index(self) -> usize {
        match self {
            Self::Crowded => 0,
            Self::Slow => 1,
        }
    }

    /// A stable word for the audit log and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crowded => "too_many_unauthenticated",
            Self::Slow => "login_grace",
        }
    }
}

/// The counts, and what of them is still to be told.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway {
    counts: [AtomicU64; 2],
    untold: Mutex<[Untold; 2]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Untold {
    count: u64,
    last: Option<IpAddr>,
    told_at: Option<Instant>,
}

impl TurnedAway {
    pub(crate) fn count(&self, why: Why) -> u64 {
        self.counts.get(why.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// One more was turned away.
    pub(crate) fn note(&self, why: Why, from: IpAddr, gate: &impl Gate) {
        if let Some(count) = self.counts.get(why.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
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
                event = "connection_refused", reason = why.name(), count, source = %last,
                "connections were turned away before they signed in"
            );
            let actor = Actor { ip_address: Some(last), ..Actor::new(ActorKind::Ssh) };
            let event = Event::new(gate.now(), Action::AuthAttempt, actor);
            gate.record(
                event
                    .detail("method", "none")
                    .detail("outcome", "refused")
                    .detail("reason", why.name())
                    .detail("count", count),
            );
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
