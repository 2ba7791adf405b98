//! What the gateway has to put on record before the runner goes on: told as an event, and answered by
//! a request.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::wire::runner::Event;
use sojourn_core::wire::runner::Removed;
use sojourn_core::wire::runner::Told;
use tokio::sync::broadcast;
use tokio::sync::oneshot;

/// How long a gateway may take: it waits for its disk.
const PATIENCE: Duration = Duration::from_secs(30);

type Key = (SessionId, Told);

/// Those that wait for their answer.
#[derive(Debug)]
pub(crate) struct Tellings {
    events: broadcast::Sender<Event>,
    waiting: Mutex<BTreeMap<Key, Vec<oneshot::Sender<()>>>>,
}

impl Tellings {
    pub(crate) fn new(events: broadcast::Sender<Event>) -> Self {
        Self { events, waiting: Mutex::default() }
    }

    /// Whether there is anybody to tell.
    pub(crate) fn has_listener(&self) -> bool {
        self.events.receiver_count() > 0
    }

    /// Tells an event that is to be on record. Returns whether it is; else it may or may not be.
    pub(crate) async fn tell(&self, event: Event) -> bool {
        let Some(key) = key(&event) else { return false };
        let (noted, wait) = oneshot::channel();
        self.lock().entry(key).or_default().push(noted);
        if self.events.send(event).is_err() {
            drop(wait);
            self.forget(key);
            return false;
        }
        let noted = tokio::time::timeout(PATIENCE, wait).await;
        self.forget(key);
        matches!(noted, Ok(Ok(())))
    }

    /// It is on record.
    pub(crate) fn noted(&self, session: SessionId, what: Told) -> bool {
        let waiting = self.lock().remove(&(session, what));
        let anybody = waiting.is_some();
        for noted in waiting.into_iter().flatten() {
            let _gave_up = noted.send(());
        }
        anybody
    }

    /// Drops those that nobody waits for any more.
    fn forget(&self, key: Key) {
        let mut waiting = self.lock();
        if let Some(list) = waiting.get_mut(&key) {
            list.retain(|noted| !noted.is_closed());
            if list.is_empty() {
                waiting.remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(event: &Event) -> Option<Key> {
    match event {
        Event::Kept { session, .. } => Some((*session, Told::FilesKept)),
        Event::Removed { session, what: Removed::Files, .. } => {
            Some((*session, Told::FilesRemoved))
        }
        Event::Removed { session, what: Removed::Recording, .. } => {
            Some((*session, Told::RecordingRemoved))
        }
        Event::Released { .. } | Event::Pool(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(session: SessionId) -> Event {
        Event::Removed { session, what: Removed::Recording, why: "old".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_is_on_record_when_the_gateway_says_so_and_not_before() {
        let (events, mut heard) = broadcast::channel(4);
        let tellings = Tellings::new(events);
        let session = SessionId::new();
        let gateway = async {
            assert_eq!(heard.recv().await.unwrap(), removed(session));
            assert!(!tellings.noted(session, Told::FilesRemoved), "another matter");
            assert!(tellings.noted(session, Told::RecordingRemoved));
        };
        let (noted, ()) = tokio::join!(tellings.tell(removed(session)), gateway);
        assert!(noted);
        assert!(!tellings.tell(removed(session)).await, "a gateway that does not answer");
        drop(heard);
        assert!(!tellings.tell(removed(session)).await, "no gateway");
        assert!(tellings.lock().is_empty());
    }
}
