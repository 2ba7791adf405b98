//! Retention: what is kept of sessions that are over goes when its time is over, or when there is more
//! than there is room for, the oldest first.
//!
//! Each removal goes on record before it happens: a recording that is not there and that no line of
//! the audit log says was removed has been taken away by somebody else. Without a gateway, which keeps
//! that record, nothing is removed.

mod recordings;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::runner::Event;
use sojourn_core::wire::runner::Removed;
use sojourn_shim::clock;

use crate::kept::Name;
use crate::requests::Requests;

/// The shortest and the longest time between two looks.
const ROUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// A look is followed by so many times as long without one.
const IDLE: u32 = 20;

/// What is kept for how long, and how much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long recordings are kept; none: for ever.
    pub recordings_for: Option<Duration>,
    /// How much all recordings may take; none: no limit.
    pub recordings_total: Option<u64>,
    /// How much all that sessions left may take, and never more than half of the room there is; none:
    /// no limit. How long it is kept is the profile's.
    pub kept_total: Option<u64>,
}

/// Something that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item<T> {
    what: T,
    /// Since when.
    since: Wall,
    /// For how long; none: for ever.
    keep_for: Option<Duration>,
    bytes: u64,
    /// Whether it may go now: nothing of a session that is held does.
    is_free: bool,
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Time(Duration),
    Room(u64),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) => write!(f, "older than {}", sojourn_core::units::Span(*time)),
            Self::Room(total) => {
                write!(f, "more than {} in all", sojourn_core::units::Size(*total))
            }
        }
    }
}

/// What is to go, and when to look again.
type Due<T> = (Vec<(T, Why)>, Option<Wall>);

/// What is to go of `items`, the oldest first, and when to look again.
fn due<T: Clone>(items: &[Item<T>], total: Option<u64>, now: Wall) -> Due<T> {
    let mut sorted: Vec<&Item<T>> = items.iter().collect();
    sorted.sort_by_key(|item| item.since);
    let mut bytes = items.iter().fold(0_u64, |sum, item| sum.saturating_add(item.bytes));
    let (mut gone, mut next) = (Vec::new(), None::<Wall>);
    for item in sorted {
        let over_at = item.keep_for.map(|time| (time, item.since.after(time)));
        let why = match (over_at, total) {
            (Some((time, at)), _) if at <= now => Some(Why::Time(time)),
            (_, Some(total)) if bytes > total => Some(Why::Room(total)),
            _ => None,
        };
        match (why, over_at) {
            (Some(why), _) if item.is_free => {
                bytes -= item.bytes;
                gone.push((item.what.clone(), why));
            }
            (None, Some((_, at))) => next = Some(next.map_or(at, |next| next.min(at))),
            _ => {}
        }
    }
    (gone, next)
}

/// Looks whenever something is due, as long as the runner lives.
pub(crate) async fn run(requests: Arc<Requests>) {
    let mut changes = requests.sessions.changes();
    loop {
        let begun = clock::mono();
        let next = match requests.tellings.has_listener() {
            true => round(&requests).await,
            false => None,
        };
        let took = clock::mono().since(begun);
        let left = next.map(|next| next.0.saturating_sub(clock::wall().0));
        let wait =
            left.map_or(ROUNDS.1, |left| Duration::from_micros(u64::try_from(left).unwrap_or(0)));
        tokio::select! {
            () = tokio::time::sleep(wait.min(ROUNDS.1)) => {}
            _ = changes.changed() => {}
            () = requests.gateway_came.notified() => {}
        }
        // However much there is to look at, it is little of what the disk does.
        tokio::time::sleep(ROUNDS.0.max(took * IDLE)).await;
    }
}

/// One look at everything. Returns when something is due next.
async fn round(requests: &Arc<Requests>) -> Option<Wall> {
    let own = requests.clone();
    let kept = match blocking(move || kept(&own)).await {
        Ok((gone, next)) => {
            for (name, why) in gone {
                let kept = requests.kept.clone();
                let removal = Removal { session: name.session, what: Removed::Files, why };
                if !removal.go(requests, move || kept.remove(&name)).await {
                    return None;
                }
            }
            next
        }
        Err(error) => {
            tracing::error!(%error, "what is kept of sessions cannot be looked through");
            None
        }
    };
    let own = requests.clone();
    match blocking(move || recordings::look(&own)).await {
        Ok((gone, next)) => {
            for (recording, why) in gone {
                let dirs = requests.dirs.clone();
                let session = recording.session;
                let removal = Removal { session, what: Removed::Recording, why };
                if !removal.go(requests, move || recording.remove(&dirs)).await {
                    return kept;
                }
            }
            sooner(kept, next)
        }
        Err(error) => {
            tracing::error!(%error, "recordings cannot be looked through");
            kept
        }
    }
}

fn sooner(one: Option<Wall>, other: Option<Wall>) -> Option<Wall> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Something that goes.
struct Removal {
    session: SessionId,
    what: Removed,
    why: Why,
}

impl Removal {
    /// Puts it on record and does it. False when it is not on record: then nothing more goes.
    async fn go(
        self,
        requests: &Requests,
        remove: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> bool {
        let Self { session, what, why } = self;
        let event = Event::Removed { session, what, why: why.to_string() };
        if !requests.tellings.tell(event).await {
            tracing::warn!(%session, ?what, "a removal is not on record: it waits");
            return false;
        }
        match blocking(remove).await {
            Ok(()) => tracing::info!(%session, ?what, %why, event = "removed", "removed"),
            Err(error) => {
                tracing::error!(%session, ?what, %error, "what is over cannot be removed")
            }
        }
        true
    }
}

/// What of `kept/` is to go, and when to look again.
fn kept(requests: &Requests) -> io::Result<Due<Name>> {
    let policy: BTreeMap<&String, Option<Duration>> =
        requests.profiles.iter().map(|(name, profile)| (name, profile.keep_for)).collect();
    let mut items = Vec::new();
    for name in requests.kept.names()? {
        let about = requests.kept.about(&name);
        // Of a profile that is gone, what it said then.
        let keep_for = match &about {
            Some(about) => policy.get(&about.profile).copied().unwrap_or_else(|| {
                (about.keep_for > 0).then(|| Duration::from_secs(about.keep_for))
            }),
            // Uploads of a session whose end nobody saw: as long as the shortest.
            None => policy.values().copied().flatten().min(),
        };
        let bytes = match requests.retention.kept_total {
            Some(_) => requests.kept.size(&name).unwrap_or(0),
            None => 0,
        };
        let is_free = !requests.sessions.holds(name.session);
        items.push(Item { since: name.at, what: name, keep_for, bytes, is_free });
    }
    let bytes = items.iter().fold(0_u64, |sum, item| sum.saturating_add(item.bytes));
    let total = requests.retention.kept_total;
    let total = total.map(|total| {
        total.min((requests.kept.free().unwrap_or(u64::MAX).saturating_add(bytes)) / 2)
    });
    Ok(due(&items, total, clock::wall()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn item(what: u32, age: u32, bytes: u64) -> Item<u32> {
        let since = Wall(0).after(DAY * (100 - age));
        Item { what, since, keep_for: Some(DAY * 7), bytes, is_free: true }
    }

    fn now() -> Wall {
        Wall(0).after(DAY * 100)
    }

    #[test]
    fn what_is_too_old_goes_and_the_next_look_is_when_the_next_one_is() {
        let items = [item(1, 3, 0), item(2, 7, 0), item(3, 8, 0), item(4, 6, 0)];
        let (gone, next) = due(&items, None, now());
        assert_eq!(gone, [(3, Why::Time(DAY * 7)), (2, Why::Time(DAY * 7))]);
        assert_eq!(next, Some(now().after(DAY)));
        let (gone, _) = due(&items, None, Wall(now().0 - 1));
        assert_eq!(gone, [(3, Why::Time(DAY * 7))], "not a microsecond too early");
        let for_ever = items.map(|item| Item { keep_for: None, ..item });
        assert_eq!(due(&for_ever, None, now()), (Vec::new(), None));
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let items = [item(1, 1, 40), item(2, 2, 40), item(3, 3, 40), item(4, 9, 40)];
        let (gone, _) = due(&items, Some(100), now());
        assert_eq!(gone, [(4, Why::Time(DAY * 7)), (3, Why::Room(100))]);
        assert_eq!(due(&items, Some(0), now()).0.len(), 4);
    }

    #[test]
    fn nothing_of_a_session_that_is_held_goes() {
        let mut items = [item(1, 9, 40), item(2, 2, 40), item(3, 1, 40)];
        items[0].is_free = false;
        let (gone, next) = due(&items, Some(80), now());
        assert_eq!(gone, [(2, Why::Room(80))], "the oldest that is free");
        assert_eq!(next, Some(now().after(DAY * 6)));
    }
}
