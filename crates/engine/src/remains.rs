//! What is kept of sessions that are over: put on record when the runner tells of it, and read.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::runner::Event as RunnerEvent;
use sojourn_core::wire::runner::LeftForm;
use sojourn_core::wire::runner::Removed;
use sojourn_core::wire::runner::Reply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::runner::Told;
use sojourn_store::Gone;
use sojourn_store::KeptFiles;
use sojourn_store::StoreError;

use crate::engine::Engine;
use crate::engine::Inner;
use crate::listing::StoreUnavailable;
use crate::records::Records;

/// How long somebody waits for the end of a session that is ending, and of one that does not know it
/// yet.
const ENDING: Duration = Duration::from_secs(5);
const JUST_ENDED: Duration = Duration::from_millis(500);

/// What a session left, to be read.
#[derive(Debug)]
pub struct Left {
    /// The name it is kept under.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// It.
    pub file: File,
}

/// Why there is nothing to read of what a session left.
#[derive(Debug, thiserror::Error)]
pub enum NothingLeft {
    /// It may still change it.
    #[error("the session still runs; what it changes is kept at its end")]
    Runs,
    /// It is not there, and never was.
    #[error("the session left nothing: it changed no file of its sandbox")]
    Nothing,
    /// It is not there any more, or could not be kept.
    #[error("what the session left is not there: {} ({})", why, at.to_rfc3339())]
    Gone {
        /// Since when.
        at: Wall,
        /// Why.
        why: String,
    },
    /// The runner cannot give it now.
    #[error("{0}")]
    Runner(String),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl Engine {
    /// What a session left in its sandbox, to be read.
    ///
    /// # Errors
    /// Why there is nothing to read.
    pub async fn left(&self, id: SessionId, form: LeftForm) -> Result<Left, NothingLeft> {
        if let Some(session) = self.session(id) {
            // Whoever asks has just seen it end.
            let ending = session.shared.progress.borrow().ending.is_some();
            let patience = if ending { ENDING } else { JUST_ENDED };
            if tokio::time::timeout(patience, session.over()).await.is_err() {
                return Err(NothingLeft::Runs);
            }
        }
        let asked = self.inner.runner.ask(Request::Left { session: id, form }).await;
        match asked.map_err(|error| NothingLeft::Runner(error.to_string()))? {
            (Reply::Left { name, bytes }, Some(file)) => {
                Ok(Left { name, bytes, file: File::from(file) })
            }
            (Reply::Failed { message, .. }, _) => Err(NothingLeft::Runner(message)),
            (Reply::Unknown, _) => {
                let known = self.inner.records.store().remains(id).await;
                let known = known.map_err(StoreUnavailable::from)?;
                Err(match known.files_gone {
                    Some(Gone { at, why }) => NothingLeft::Gone { at, why },
                    None => NothingLeft::Nothing,
                })
            }
            _ => Err(NothingLeft::Runner("the runner did not answer as it should".to_owned())),
        }
    }
}

impl Inner {
    /// Puts on record what the runner tells of a session's remains, and says that it is.
    pub(crate) async fn remains(self: Arc<Self>, event: RunnerEvent) {
        let now = self.clock.wall();
        let (session, what, known) = match event {
            RunnerEvent::Kept { session, name, files, bytes, truncated } => {
                let kept = KeptFiles { name, entries: files, bytes, truncated, at: now };
                (session, Told::FilesKept, self.records.files_kept(session, &kept).await)
            }
            RunnerEvent::Removed { session, what: Removed::Files, why } => {
                let gone = Gone { at: now, why };
                (session, Told::FilesRemoved, self.records.files_removed(session, &gone).await)
            }
            RunnerEvent::Removed { session, what: Removed::Recording, why } => {
                let gone = Gone { at: now, why };
                let known = self.records.recording_removed(session, &gone).await;
                (session, Told::RecordingRemoved, known)
            }
            RunnerEvent::Released { .. } | RunnerEvent::Pool(_) => return,
        };
        if known {
            // A runner that does not hear it tells it again.
            let _gone = self.runner.ask(Request::Noted { session, what }).await;
        }
    }
}

impl Records {
    /// What a session left is kept. False when that is not durable.
    async fn files_kept(&self, id: SessionId, kept: &KeptFiles) -> bool {
        tracing::info!(
            session = %id, name = kept.name, entries = kept.entries, bytes = kept.bytes,
            truncated = kept.truncated, event = "files_kept", "what the session left is kept",
        );
        let event = Event::new(kept.at, Action::FilesKept, Actor::new(ActorKind::Runner))
            .session(id)
            .detail("name", kept.name.clone())
            .detail("files", kept.entries)
            .detail("bytes", kept.bytes)
            .detail("truncated", kept.truncated);
        let kept = self.store().keep_files(id, kept, &event).await;
        self.is_durable("what a session left", kept).await
    }

    /// What a session left is removed, or could not be kept. False when that is not durable.
    async fn files_removed(&self, id: SessionId, gone: &Gone) -> bool {
        tracing::info!(
            session = %id, why = gone.why, event = "files_removed", "what a session left is removed"
        );
        let event = removal(Action::FilesRemoved, id, gone);
        let removed = self.store().remove_files(id, gone, &event).await;
        self.is_durable("a removal", removed).await
    }

    /// A session's recordings are removed. False when that is not durable.
    async fn recording_removed(&self, id: SessionId, gone: &Gone) -> bool {
        tracing::info!(
            session = %id, why = gone.why, event = "recording_removed", "a recording is removed"
        );
        let event = removal(Action::RecordingRemoved, id, gone);
        let removed = self.store().remove_recording(id, gone, &event).await;
        self.is_durable("a removal", removed).await
    }

    /// Whether a change, new or not, is in the audit log.
    async fn is_durable(&self, what: &str, changed: Result<bool, StoreError>) -> bool {
        match changed {
            Ok(_) => self.audit().settled().await.is_ok(),
            Err(error) => {
                tracing::error!(%error, "the store did not keep {what}");
                false
            }
        }
    }
}

fn removal(action: Action, id: SessionId, gone: &Gone) -> Event {
    Event::new(gone.at, action, Actor::new(ActorKind::Runner))
        .session(id)
        .detail("why", json!(gone.why))
}
