//! Agents' sessions on record: each step in the audit log's words, and the sidecar. What was said and
//! shown is told by its length and its SHA-256, never by itself.

use std::io;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event;
use sojourn_core::end::Configured;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::end::agent_limit_message;
use sojourn_core::time::Wall;
use sojourn_core::units::Size;
use sojourn_core::wire::relay::Decision;
use sojourn_core::wire::relay::Outcome;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::runner::About;
use sojourn_core::wire::runner::Sealing;
use sojourn_core::wire::shim::RecordingFacts;
use sojourn_store::AgentEvent;
use sojourn_store::NewSession;
use sojourn_store::SessionEnd;
use sojourn_term::cast::hex;

use super::Agents;
use super::recording::Recorder;
use super::session::Agent;
use super::session::Ask;
use super::storing::Work;
use crate::ending::EndedBy;

/// An event as pages, the recording and the API have it: one JSON object.
///
/// # Errors
/// When what is kept is no JSON.
pub(crate) fn line(event: &AgentEvent) -> serde_json::Result<String> {
    view(event).map(|view| view.to_string())
}

/// The same, not yet as text.
///
/// # Errors
/// When what is kept is no JSON.
pub fn view(event: &AgentEvent) -> serde_json::Result<Value> {
    let what: Value = serde_json::from_str(&event.event)?;
    Ok(json!({
        "seq": event.seq, "epoch": event.epoch, "at": event.at.to_rfc3339(), "event": what,
    }))
}

/// The line about a limit that an agent's session reached.
pub(crate) fn limit_line(limit: Limit, configured: u64) -> String {
    let configured = match limit {
        Limit::MaxOutput => Configured::Bytes(Size(configured)),
        Limit::MaxCost => Configured::Cost(configured),
        Limit::MaxRuntime | Limit::IdleTimeout => Configured::Time(Duration::from_secs(configured)),
    };
    agent_limit_message(limit, configured)
}

/// A text on record: how long it is and its digest.
pub(crate) fn digest(text: &str) -> Value {
    json!({"bytes": text.len(), "sha256": hex(&Sha256::digest(text.as_bytes()))})
}

impl Agents {
    fn event(&self, agent: &Agent, action: Action, actor: Actor) -> Event {
        Event::new(self.kit.clock.wall(), action, actor).session(agent.id)
    }

    /// A runner acts in its owner's name.
    fn of_runner(&self, agent: &Agent, action: Action) -> Event {
        let user = agent.new.user_name.clone();
        self.event(agent, action, Actor { user, ..Actor::new(ActorKind::Runner) })
    }

    /// An agent asks.
    pub(super) fn asked(&self, agent: &Agent, ask: &Ask) -> Event {
        about(self.of_runner(agent, Action::PermissionRequested), ask)
    }

    /// Something else than a person here settled what an agent asked. Nothing where nothing was
    /// decided.
    pub(super) fn settled(&self, agent: &Agent, ask: &Ask, outcome: &Outcome) -> Option<Event> {
        let event = match outcome {
            Outcome::Answered { decision, by } => {
                let event = self.of_runner(agent, granted(*decision)).detail("by", &*by.user);
                event.detail("address", json!(by.address))
            }
            Outcome::Settled { decision, rule } => {
                let by = if rule.is_some() { "rule" } else { "mode" };
                let event = self.of_runner(agent, granted(*decision)).detail("by", by);
                event.detail("rule", json!(rule))
            }
            Outcome::Expired => {
                self.of_runner(agent, Action::PermissionDenied).detail("by", "nobody in time")
            }
            Outcome::Withdrawn | Outcome::Lost => return None,
        };
        Some(about(event, ask))
    }

    /// A person answers.
    pub(super) fn decided(
        &self,
        agent: &Agent,
        ask: &Ask,
        decision: Decision,
        rule: bool,
        actor: &Actor,
    ) -> Event {
        let event = about(self.event(agent, granted(decision), actor.clone()), ask);
        match &ask.what {
            super::session::Asked::Permission(prompt) if rule => {
                event.detail("rule", json!(prompt.rule))
            }
            _ => event,
        }
    }

    /// A limit comes near.
    pub(super) fn warned(&self, agent: &Agent, limit: Limit, seconds: u64) -> Event {
        let event = self.event(agent, Action::LimitWarned, Actor::SYSTEM);
        event.detail("limit", json!(limit)).detail("seconds", seconds)
    }

    /// A limit was reached.
    pub(super) fn exceeded(
        &self,
        agent: &Agent,
        limit: Limit,
        configured: u64,
        reached: u64,
    ) -> Event {
        tracing::info!(
            session = %agent.id, ?limit, configured, reached, event = "limit_exceeded",
            "limit exceeded",
        );
        let event = self.event(agent, Action::LimitExceeded, Actor::SYSTEM);
        event
            .detail("limit", json!(limit))
            .detail("configured", configured)
            .detail("reached", reached)
    }

    /// A session is over.
    pub(super) fn ended(&self, agent: &Agent, end: &SessionEnd) -> Event {
        let recording = end.recording.as_ref();
        let recordings: Vec<Value> = recording
            .iter()
            .map(|it| json!({"file": it.path, "bytes": it.bytes, "sha256": it.sha256}))
            .collect();
        self.event(agent, Action::SessionEnded, Actor::SYSTEM)
            .detail("reason", end.reason.name())
            .detail("exit", json!(end.exit))
            .detail("by", json!(end.by))
            .detail("why", json!(end.detail))
            .detail("bytes", end.output_bytes)
            .detail("recording", json!(recording.map(|it| &it.path)))
            .detail("recording_bytes", json!(recording.map(|it| it.bytes)))
            .detail("recording_sha256", json!(recording.map(|it| &it.sha256)))
            .detail("recordings", recordings)
    }

    /// The recording that is to be written.
    pub(super) async fn recorder(
        &self,
        new: &NewSession,
        channel: u16,
        after: Seq,
    ) -> io::Result<Recorder> {
        let opened = self.kit.recordings.open(new.id, channel, new.created_at).await?;
        Recorder::new(opened, (new.id, channel), new.created_at, &new.harness, after)
    }

    /// Has the recording sealed, with a sidecar beside it.
    pub(super) async fn seal(
        &self,
        work: &mut Work,
        (reason, exit, output_bytes, ended_at): (EndReason, Option<&Exit>, u64, Wall),
        by: Option<&EndedBy>,
    ) -> io::Result<Option<RecordingFacts>> {
        let channel = work.standing().0.channel;
        let (new, started_at) = (&work.agent.new, work.agent.shown().started_at);
        let about = About {
            user: new.user_name.clone().unwrap_or_default(),
            door: new.door.clone(),
            peer: new.peer.clone().unwrap_or_default(),
            client: new.client.clone().unwrap_or_default(),
            connected_at: new.created_at,
            ..About::default()
        };
        let sealing = Sealing {
            session: new.id,
            channel,
            created: new.created_at,
            about,
            harness: new.harness.clone(),
            profile: new.profile.clone(),
            limits: new.limits.clone(),
            started_at,
            ended_at,
            reason,
            exit: exit.cloned(),
            by: by.map(|by| by.name.clone()),
            why: by.and_then(|by| by.why.clone()),
            output_bytes,
        };
        self.kit.recordings.seal(sealing).await
    }
}

fn granted(decision: Decision) -> Action {
    match decision {
        Decision::Allow => Action::PermissionGranted,
        Decision::Deny => Action::PermissionDenied,
    }
}

fn about(event: Event, ask: &Ask) -> Event {
    let event = event
        .detail("tool", ask.what.tool())
        .detail("input_hash", ask.what.input_hash())
        .detail("request_id", ask.request.0.to_string())
        .detail("epoch", ask.epoch);
    match &ask.what {
        super::session::Asked::Permission(prompt) => event.detail("kind", &*prompt.kind),
        super::session::Asked::Question(_) => event,
    }
}
