//! Audit events on their way from a change to the log.

use std::collections::HashSet;
use std::sync::Arc;

use sojourn_core::audit::Event;
use sojourn_core::ids::EventId;
use tokio::sync::Notify;

use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::sql;

/// Events on their way to the log.
#[derive(Debug)]
pub struct Untold {
    /// The oldest first.
    pub events: Vec<Event>,
    /// Whether there may be more than were asked for.
    pub more: bool,
}

impl Store {
    /// Puts an event on the record that belongs to no change here: whichever process holds the log
    /// writes it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tell(&self, event: &Event) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// The oldest events that are not forgotten yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn untold(&self, limit: u32) -> Result<Vec<Event>, StoreError> {
        Ok(self.untold_but(limit, &HashSet::new()).await?.events)
    }

    /// The same, less those that the log is known to have.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn untold_but(
        &self,
        limit: u32,
        known: &HashSet<EventId>,
    ) -> Result<Untold, StoreError> {
        let rows = self.read().all(sql::OUTBOX, args![i64::from(limit)]).await?;
        let rows = rows.iter().map(|row| Ok((row.text("event_id")?, row.text("payload")?)));
        let rows = rows.collect::<Result<Vec<(String, String)>, StoreError>>()?;
        let more = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let is_new = |id: &str| id.parse().is_ok_and(|id| !known.contains(&id));
        let new = rows.into_iter().filter(|(id, _)| is_new(id));
        let events = new.filter_map(|(id, payload)| {
            let event = serde_json::from_str(&payload);
            // Kept for a version that can read it; only ever seen after a downgrade.
            event
                .inspect_err(|error| tracing::error!(id, %error, "audit event not understood"))
                .ok()
        });
        Ok(Untold { events: events.collect(), more })
    }

    /// The ids of all events that are not forgotten yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn untold_ids(&self) -> Result<Vec<EventId>, StoreError> {
        let rows = self.read().all(sql::OUTBOX_IDS, args![]).await?;
        rows.iter().map(|row| row.parsed("event_id")).collect()
    }

    /// Forgets events that the log has.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_told(&self, ids: &[EventId]) -> Result<(), StoreError> {
        // In one order everywhere: two that forget the same events do not wait for each other.
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let mut change = self.change().await?;
        for id in ids {
            change.tx.run(sql::FORGET, args![id.to_string()]).await?;
        }
        change.commit().await
    }

    /// Is notified when a change of this process has an event for the log. Changes of others are
    /// found by asking.
    #[must_use]
    pub fn told(&self) -> Arc<Notify> {
        Arc::clone(&self.told)
    }
}
