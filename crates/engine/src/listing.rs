//! Sessions as people ask for them: lists, one whole, an ending of an id.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;

use serde::Serialize;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::end::EndReason;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::status::Status;
use sojourn_core::time::Wall;
use sojourn_core::wire::shim::LeaseState;
use sojourn_store::Session as Kept;
use sojourn_store::SessionEnd;
use sojourn_store::SessionFilter;
use sojourn_store::StoreError;

use crate::ending::EndedBy;
use crate::engine::BEGINNING;
use crate::engine::Engine;
use crate::records::SHELL;
use crate::session::Session;
use crate::view::BUILT_IN_RUNNER;
use crate::view::ExtensionView;
use crate::view::FilesView;
use crate::view::GoneView;
use crate::view::LeaseView;
use crate::view::LimitsView;
use crate::view::RecoveryView;
use crate::view::Seconds;
use crate::view::SessionView;
use crate::words::around;

/// The most sessions of one page.
pub const MAX_PAGE: u32 = 200;

/// How many kept sessions one page looks through for a text or a label.
const LOOKED_THROUGH: u32 = 1000;

/// How many conversations that go on one page reads for a text.
const READ_YET: usize = 20;

/// Which sessions somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct SessionQuery {
    /// Those of this status.
    pub status: Option<Status>,
    /// Those of this user.
    pub user: Option<String>,
    /// Those with this harness.
    pub harness: Option<String>,
    /// Those with this in their user's name, profile, reason, address or id; or in their words: a
    /// terminal's once it is over.
    pub text: Option<String>,
    /// Those with this label, `name` or `name=value`.
    pub label: Option<String>,
    /// Those older than this one.
    pub after: Option<SessionId>,
    /// At most so many; at most [`MAX_PAGE`].
    pub limit: u32,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; none: this is the last.
    pub next: Option<SessionId>,
}

/// The store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store does not answer; see the gateway's log")]
pub struct StoreUnavailable;

impl From<StoreError> for StoreUnavailable {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store does not answer");
        Self
    }
}

/// Whose sessions the kill switch ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndAll {
    /// Everybody's.
    All,
    /// Those of one user.
    User(String),
    /// Those on one runner that dials in.
    Runner(RunnerId),
}

impl Engine {
    /// Sessions, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sessions(
        &self,
        query: &SessionQuery,
    ) -> Result<Page<SessionView>, StoreUnavailable> {
        let limit = query.limit.clamp(1, MAX_PAGE);
        let filter = SessionFilter {
            status: query.status,
            user: query.user.clone(),
            harness: query.harness.clone(),
            before: query.after,
            only_live: false,
        };
        let narrow = query.text.is_some() || query.label.is_some();
        let look = if narrow { LOOKED_THROUGH } else { limit + 1 };
        let kept = self.inner.records.store().sessions(&filter, look).await?;
        let exhausted = u32::try_from(kept.len()).unwrap_or(u32::MAX) < look;
        let last = kept.last().map(|session| session.new.id);
        let yet = self.found_yet(&kept, query).await?;
        let mut words = self.found_by_words(&kept, query).await?;
        words.extend(yet.keys());
        let mut fitting = kept.into_iter().filter(|session| matches(session, query, &words));
        let page: Vec<Kept> = fitting.by_ref().take(limit as usize).collect();
        let next = match (fitting.next(), exhausted) {
            (Some(_), _) => page.last().map(|session| session.new.id),
            (None, true) => None,
            (None, false) => last,
        };
        let mut items = Vec::with_capacity(page.len());
        for session in page {
            let id = session.new.id;
            let found = match &query.text {
                Some(text) if words.contains(&id) && !says(&session, text) => {
                    let words = match yet.get(&id) {
                        Some(words) => Some(words.clone()),
                        None => self.inner.records.store().words(id).await?,
                    };
                    words.and_then(|words| around(&words, &text.to_lowercase()))
                }
                _ => None,
            };
            items.push(SessionView { found, ..self.view(session).await });
        }
        Ok(Page { items, next })
    }

    /// Those of these sessions whose words have what is looked for.
    async fn found_by_words(
        &self,
        kept: &[Kept],
        query: &SessionQuery,
    ) -> Result<HashSet<SessionId>, StoreUnavailable> {
        let (Some(text), Some(newest), Some(oldest)) = (&query.text, kept.first(), kept.last())
        else {
            return Ok(HashSet::new());
        };
        let (oldest, newest, text) = (oldest.new.id, newest.new.id, text.to_lowercase());
        Ok(self.inner.records.store().sessions_with_words(oldest, newest, &text).await?)
    }

    /// The words of those of these conversations that go on and have what is looked for.
    async fn found_yet(
        &self,
        kept: &[Kept],
        query: &SessionQuery,
    ) -> Result<HashMap<SessionId, String>, StoreUnavailable> {
        let mut found = HashMap::new();
        let Some(text) = query.text.as_ref().map(|text| text.to_lowercase()) else {
            return Ok(found);
        };
        let going = kept.iter().filter(|one| one.end.is_none() && one.new.harness != SHELL);
        for session in going.take(READ_YET) {
            let words = self.inner.said_yet(session.new.id).await?;
            if words.contains(&text) {
                found.insert(session.new.id, words);
            }
        }
        Ok(found)
    }

    /// One session, in motion or not.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn session_view(
        &self,
        id: SessionId,
    ) -> Result<Option<SessionView>, StoreUnavailable> {
        match self.inner.records.store().session(id).await? {
            Some(kept) => Ok(Some(self.view(kept).await)),
            None => Ok(None),
        }
    }

    /// The same with how it was extended.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn with_extensions(
        &self,
        view: SessionView,
    ) -> Result<SessionView, StoreUnavailable> {
        let kept = self.inner.records.store().extensions(view.id).await?;
        Ok(SessionView { extensions: kept.into_iter().map(ExtensionView::from).collect(), ..view })
    }

    /// The sessions that somebody names by an ending of the id, or the whole of it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(&self, typed: &str) -> Result<Vec<SessionId>, StoreUnavailable> {
        let found = self.inner.records.store().sessions_ending_in(typed, 20).await?;
        Ok(found.into_iter().map(|session| session.new.id).collect())
    }

    /// Ends many sessions at once, on record. Returns how many were in motion.
    ///
    /// # Errors
    /// When the store does not answer; then only [`EndAll::All`] is sure to have ended anything.
    pub async fn end_all(
        &self,
        whose: &EndAll,
        by: &EndedBy,
        actor: &Actor,
    ) -> Result<usize, StoreUnavailable> {
        let mut chosen = self.live();
        chosen.extend(self.agents().live());
        match whose {
            EndAll::All => {}
            EndAll::User(name) => {
                let filter = SessionFilter {
                    user: Some(name.clone()),
                    only_live: true,
                    ..SessionFilter::default()
                };
                let theirs = self.inner.records.store().sessions(&filter, LOOKED_THROUGH).await?;
                chosen.retain(|id| theirs.iter().any(|session| session.new.id == *id));
            }
            EndAll::Runner(runner) => {
                let there = self.agents().on(*runner);
                let is_there = |id| {
                    self.session(id).is_some_and(|session| session.shared.remote == Some(*runner))
                };
                chosen.retain(|id| there.contains(id) || is_there(*id));
            }
        }
        let begun = chosen.into_iter().filter_map(|id| self.begin_end(id, by.clone(), actor));
        // All at once; on record before any is waited for.
        let begun: Vec<_> = begun.collect();
        let ended = begun.len();
        let event = Event::new(self.clock().wall(), Action::KillSwitch, actor.clone())
            .detail(
                "whose",
                match whose {
                    EndAll::All => "all".to_owned(),
                    EndAll::User(name) => format!("user:{name}"),
                    EndAll::Runner(runner) => format!("runner:{runner}"),
                },
            )
            .detail("why", serde_json::json!(by.why))
            .detail("ended", ended);
        if let Err(error) = self.inner.records.store().tell(&event).await {
            tracing::error!(%error, "the store did not keep that many sessions were ended");
            self.audit().record_soon(event);
        }
        let all = async {
            for begun in begun {
                let _begun = begun.await;
            }
        };
        let _late = tokio::time::timeout(BEGINNING, all).await;
        Ok(ended)
    }

    pub(crate) async fn view(&self, kept: Kept) -> SessionView {
        let session = self.session(kept.new.id);
        let attached = session.as_ref().is_some_and(Session::is_attached);
        let lease = match &session {
            Some(session) => session.lease().await,
            None => None,
        };
        let ending = session
            .as_ref()
            .is_some_and(|session| session.shared.progress.borrow().ending.is_some());
        let runner = session.as_ref().and_then(|session| session.shared.remote);
        let is_away = runner.is_some_and(|runner| !self.inner.remote.is_connected(runner));
        let agents = self.agents();
        let (agent, agent_lease) = (agents.snapshot(kept.new.id), agents.lease(kept.new.id));
        let recovery = match (&agent, &kept.new.remote) {
            (Some(agent), _) => agent.recovery.clone(),
            (None, Some(_)) => agents.recovery_of(kept.new.id).await,
            (None, None) => None,
        };
        let recovery = recovery.map(|it| RecoveryView {
            agent_session_id: it.agent_session_id,
            cwd: it.cwd,
            can_resume: it.can_resume,
        });
        let now = self.clock().wall();
        // A list does not fail because of this.
        let remains = self.inner.records.store().remains(kept.new.id).await.unwrap_or_default();
        let Kept { new, status, started_at, end } = kept;
        SessionView {
            id: new.id,
            user: new.user_name,
            door: new.door,
            harness: new.harness,
            profile: new.profile,
            runner: match new.remote {
                Some(remote) => remote.name,
                None => BUILT_IN_RUNNER.to_owned(),
            },
            cwd: new.cwd,
            status: match &agent {
                Some(agent) => agent.status,
                None if ending && !status.is_over() => Status::Ending,
                None if is_away && !status.is_over() => Status::Disconnected,
                None => status,
            },
            attached: attached || agent.as_ref().is_some_and(|agent| agent.attached),
            why: new.why,
            labels: new.labels,
            created_at: new.created_at,
            started_at,
            ended_at: end.as_ref().map(|end| end.at),
            exit: end.as_ref().and_then(|end| end.exit.clone()),
            end_reason: end.as_ref().map(|end| end.reason),
            output_bytes: end.as_ref().and_then(printed),
            ended_by: end.as_ref().and_then(|end| end.by.clone()),
            end_detail: end.and_then(|end| end.detail),
            limits: LimitsView::from(&new.limits),
            lease: lease.map(|lease| lease_view(&lease, now)).or(agent_lease),
            recovery,
            files: remains.files.map(|files| FilesView {
                entries: files.entries,
                bytes: files.bytes,
                truncated: files.truncated,
                removed: remains.files_gone.map(GoneView::from),
            }),
            recording_removed: remains.recording_gone.map(GoneView::from),
            extensions: Vec::new(),
            watched_by: self.presence().onlookers(new.id),
            found: None,
        }
    }
}

impl Engine {
    /// How a session's lease stands, as its shim says now; none where it does not.
    pub async fn lease_of(&self, session: &Session) -> Option<LeaseView> {
        session.lease().await.map(|lease| lease_view(&lease, self.clock().wall()))
    }

    /// How a session's lease stood when its shim last said it.
    #[must_use]
    pub fn lease_told(&self, session: &Session) -> Option<LeaseView> {
        let lease = session.shared.progress.borrow().lease.clone();
        lease.map(|lease| lease_view(&lease, self.clock().wall()))
    }
}

fn lease_view(lease: &LeaseState, now: Wall) -> LeaseView {
    LeaseView {
        deadline: lease.remaining.map(|left| now.after(left)),
        idle_deadline: lease.idle_remaining.map(|left| now.after(left)),
        remaining_seconds: lease.remaining.map(Seconds),
        idle_seconds: Seconds(lease.idle),
        output_bytes: lease.output_bytes,
    }
}

/// What a session's terminals printed; of one that was lost nobody may know.
fn printed(end: &SessionEnd) -> Option<u64> {
    let is_known = end.output_bytes > 0 || end.reason != EndReason::RunnerLost;
    is_known.then_some(end.output_bytes)
}

fn matches(session: &Kept, query: &SessionQuery, words: &HashSet<SessionId>) -> bool {
    let new = &session.new;
    let text =
        query.text.as_ref().is_none_or(|text| says(session, text) || words.contains(&new.id));
    let label = query.label.as_ref().is_none_or(|label| has_label(&new.labels, label));
    text && label
}

/// Whether what a session was asked for as has this text in it.
fn says(session: &Kept, text: &str) -> bool {
    let new = &session.new;
    let text = text.to_lowercase();
    let peer = new.peer.as_ref().and_then(|peer| peer.parse::<std::net::SocketAddr>().ok());
    let address = peer.map(|peer| IpAddr::to_string(&peer.ip()));
    let runner = new.remote.as_ref().map(|remote| &remote.name);
    [new.user_name.as_ref(), Some(&new.profile), new.why.as_ref(), address.as_ref(), runner]
        .into_iter()
        .chain([Some(&new.harness), new.cwd.as_ref()])
        .collect::<Vec<_>>()
        .into_iter()
        .flatten()
        .chain([&new.id.to_string()])
        .any(|field| field.to_lowercase().contains(&text))
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}
