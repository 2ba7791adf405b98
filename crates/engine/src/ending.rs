//! What people read when a session ends, or is about to; and what is put on record then.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::end::Configured;
use sojourn_core::end::EndReason;
use sojourn_core::end::Limit;
use sojourn_core::end::limit_message;
use sojourn_core::ids::SessionId;
use sojourn_core::units::Size;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::shim::Summary;

use crate::door::Cut;
use crate::engine::Inner;
use crate::engine::lock;
use crate::session::Shared;

/// How soon the end of a session is put on record again that could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// The longest reason a person may give for ending a session, in characters.
const LONGEST_WHY: usize = 200;

/// Who ended a session, and why they said they did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBy {
    /// Their name.
    pub name: String,
    /// Their reason.
    pub why: Option<String>,
}

impl EndedBy {
    /// A person with the reason they gave, cut to a line.
    #[must_use]
    pub fn new(name: &str, why: Option<&str>) -> Self {
        let one_line = |text: &str| -> String {
            text.chars().filter(|c| !c.is_control()).take(LONGEST_WHY).collect()
        };
        let why = why.map(one_line).filter(|why| !why.trim().is_empty());
        Self { name: one_line(name), why }
    }
}

/// What a session's channels say at its end; nothing when its own programs, or its client, ended it.
pub(crate) fn cut(reason: EndReason, configured: u64, by: Option<&EndedBy>) -> Option<Cut> {
    let status = reason.exit_status()?;
    let message = match (Limit::of(reason), reason) {
        (Some(limit @ Limit::MaxOutput), _) => {
            limit_message(limit, Configured::Bytes(Size(configured)))
        }
        (Some(limit @ Limit::MaxCost), _) => limit_message(limit, Configured::Cost(configured)),
        (Some(limit), _) => limit_message(limit, Configured::Time(Duration::from_secs(configured))),
        (None, EndReason::EndedBy) => match by {
            Some(EndedBy { name, why: Some(why) }) => format!("Session ended by {name}: {why}"),
            Some(EndedBy { name, why: None }) => format!("Session ended by {name}"),
            None => "Session ended".to_owned(),
        },
        (None, EndReason::LoginEnded) => "Session ended: your login has ended".to_owned(),
        (None, EndReason::Shutdown) => "Session ended: the gateway is shutting down".to_owned(),
        (None, EndReason::Failed) => "Session ended: it cannot be recorded".to_owned(),
        (None, _) => "Session ended: its sandbox was lost".to_owned(),
    };
    Some(Cut { message, status })
}

impl Inner {
    /// Puts a session's end on record, then lets the runner forget it.
    pub(crate) async fn finish(self: &Arc<Self>, shared: &Shared, summary: Summary) {
        let id = shared.id;
        // Its start goes on record before its end, however quick it was.
        let mut recorded = shared.recorded.clone();
        // An error means that nobody keeps it any more: then there is no start to wait for.
        let _gone = recorded.wait_for(Option::is_some).await.map(drop);
        let by = lock(&shared.ended_by).clone();
        let kept = self.records.ended(&summary, by.as_ref()).await;
        if !kept {
            lock(&self.finishing).insert(id);
        }
        self.part(shared);
        if kept {
            let _gone = self.runner.ask(Request::Forget { session: id }).await;
        } else {
            let later = Arc::clone(self).finish_later(summary, by);
            self.tasks.spawn(later);
        }
    }

    /// Puts an end on record that could not be, as soon as it can be. When the gateway goes down before
    /// that, the runner still knows of it, and the next gateway hears.
    async fn finish_later(self: Arc<Self>, summary: Summary, by: Option<EndedBy>) {
        while !self.records.keep_end(&summary, by.as_ref()).await {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
        let _gone = self.runner.ask(Request::Forget { session: summary.session }).await;
        lock(&self.finishing).remove(&summary.session);
    }

    /// A session is in motion no more.
    fn part(&self, shared: &Shared) {
        let mut live = lock(&self.live);
        let gone = live.remove(&shared.id);
        let is_to_be_told = shared.remote.is_none() && gone.is_some_and(|it| it.released.is_some());
        if is_to_be_told {
            lock(&self.parting).insert(shared.id);
        }
    }

    /// The runner says what became of a session. False: of one that nobody here knows.
    pub(crate) fn released(&self, session: SessionId, summary: Option<Summary>) -> bool {
        let mut live = lock(&self.live);
        let Some(known) = live.get_mut(&session) else {
            return lock(&self.parting).remove(&session);
        };
        if let Some(waiting) = known.released.take() {
            let _gone = waiting.send(summary);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_line_and_status() {
        let bob = EndedBy::new("bob", Some("lunch\r\n\x1b[2J"));
        let line =
            |reason, configured, by| cut(reason, configured, by).map(|c| (c.message, c.status));
        assert_eq!(
            line(EndReason::EndedBy, 0, Some(&bob)),
            Some(("Session ended by bob: lunch[2J".to_owned(), 143))
        );
        assert_eq!(
            line(EndReason::IdleTimeout, 1800, None),
            Some(("Session idle timeout (30 min) - connection closed".to_owned(), 124))
        );
        assert_eq!(line(EndReason::Closed, 0, None), None);
    }
}
