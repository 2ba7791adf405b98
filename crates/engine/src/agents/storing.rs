//! Events as they come from a runner: written to the recording, kept in the store with everything that
//! follows from them, then shown, and only then acknowledged.
//!
//! What is there already is dropped; where something is missing, it is asked for. Whatever goes wrong
//! on the way, nothing was shown, and the runner sends it again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::MessageState;
use sojourn_core::wire::relay::Outcome;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::Stored;
use sojourn_store::AgentBatch;
use sojourn_store::AgentChange;
use sojourn_store::AgentEvent;
use sojourn_store::InputState;
use sojourn_store::PromptState;
use sojourn_store::Recording;
use sojourn_store::SessionEnd;
use tokio::sync::OwnedMutexGuard;

use super::Agents;
use super::records;
use super::session::Agent;
use super::session::Ask;
use super::session::Asked;
use super::session::Book;
use super::session::Ending;
use super::session::Told;
use super::session::decision;
use super::session::lease;
use super::state::Effect;
use super::state::Phase;
use super::state::Standing;
use crate::push::Opened;
use crate::remote::Heard;

/// What is being made of a session's events.
pub(super) struct Work {
    pub(super) agent: Arc<Agent>,
    book: OwnedMutexGuard<Book>,
    standing: Standing,
    before: Seq,
    events: Vec<AgentEvent>,
    effects: Vec<Effect>,
    /// What is asked in these events.
    asked: BTreeMap<Seq, Ask>,
    /// Something is missing before what came next.
    gap: bool,
    /// It was over, and goes on.
    reopened: bool,
    /// Ended by the gateway, not by an event.
    pub(super) ending: Option<Ending>,
    told: Vec<sojourn_core::audit::Event>,
}

/// What follows, as it is kept and as it is shown.
#[derive(Default)]
struct Following {
    changes: Vec<AgentChange>,
    told: Vec<Told>,
    settled: Vec<RequestId>,
    moved: Vec<(String, InputState, Option<String>)>,
    live: Option<Wall>,
    ended: Option<(EndReason, Option<Exit>)>,
    recorded: u64,
}

impl Work {
    pub(super) async fn on(agent: Arc<Agent>) -> Self {
        let book = agent.book.clone().lock_owned().await;
        Self {
            standing: book.standing.clone(),
            before: book.standing.head,
            agent,
            book,
            events: Vec::new(),
            effects: Vec::new(),
            asked: BTreeMap::new(),
            gap: false,
            reopened: false,
            ending: None,
            told: Vec::new(),
        }
    }

    /// Its end is on record.
    pub(super) fn is_closed(&self) -> bool {
        self.book.is_closed
    }

    /// What is made of its events, to be changed by the gateway itself.
    pub(super) fn standing(&mut self) -> (&mut Standing, &mut Vec<Effect>) {
        (&mut self.standing, &mut self.effects)
    }

    /// For the audit log, together with the rest.
    pub(super) fn tell(&mut self, event: sojourn_core::audit::Event) {
        self.told.push(event);
    }

    /// It was over, and goes on.
    pub(super) fn reopen(&mut self) {
        self.reopened = true;
    }

    /// Takes the next event, if it is the next.
    fn take(&mut self, next: Sequenced) -> Result<(), serde_json::Error> {
        if next.seq <= self.standing.head || self.gap {
            return Ok(());
        }
        if next.seq > self.standing.head + 1 {
            self.gap = true;
            return Ok(());
        }
        let json = serde_json::to_string(&next.event)?;
        self.standing.take(&next, json.len() as u64, &mut self.effects);
        let what = match next.event {
            Event::Prompt(prompt) => Some((prompt.request, Asked::Permission(prompt.into()))),
            Event::Question(asked) => Some((asked.request, Asked::Question(asked.into()))),
            _ => None,
        };
        let (seq, epoch) = (next.seq, next.epoch);
        if let Some((request, what)) = what.filter(|_| epoch == self.standing.epoch) {
            self.asked.insert(seq, Ask { request, epoch, what });
        }
        self.events.push(AgentEvent { seq, epoch, at: next.at, event: json });
        Ok(())
    }

    /// Leaves out the events behind this one.
    fn stop_at(&mut self, head: Seq) {
        self.standing = self.book.standing.clone();
        (self.effects, self.asked, self.gap) = (Vec::new(), BTreeMap::new(), false);
        for kept in std::mem::take(&mut self.events) {
            let AgentEvent { seq, epoch, at, event } = kept;
            let event = serde_json::from_str(&event).ok().filter(|_| seq <= head);
            if let Some(event) = event {
                let session = self.agent.id;
                // It was written as JSON before.
                let _written = self.take(Sequenced { session, epoch, seq, at, event });
            }
        }
    }

    /// What is asked under this id: in these events, or before.
    fn ask(&self, request: RequestId) -> Option<(Seq, Ask)> {
        let new = self.asked.iter().find(|(_, ask)| ask.request == request);
        let new = new.map(|(seq, ask)| (*seq, ask.clone()));
        new.or_else(|| {
            let shown = self.agent.shown();
            let found = shown.asks.iter().find(|(_, ask)| ask.request == request);
            found.map(|(seq, ask)| (*seq, ask.clone()))
        })
    }
}

impl Agents {
    /// Takes events of a runner, those of several sessions among them. One answer for each session.
    pub(super) async fn take(&self, runner: RunnerId, events: Vec<Sequenced>) -> Vec<Heard> {
        let mut by_session: BTreeMap<SessionId, Vec<Sequenced>> = BTreeMap::new();
        for event in events {
            by_session.entry(event.session).or_default().push(event);
        }
        let mut answers = Vec::new();
        let mut works = Vec::new();
        // In the order of their ids, so that two who want the same sessions do not wait for each
        // other.
        for (id, events) in by_session {
            let Some(agent) = self.held(id).filter(|agent| agent.runner == runner) else {
                answers.push(Heard::NotTheirs(id));
                continue;
            };
            let mut work = Work::on(agent).await;
            if work.is_closed() {
                answers.push(Heard::NotTheirs(id));
                continue;
            }
            for event in events {
                if work.take(event).is_err() {
                    break;
                }
            }
            works.push(work);
        }
        match self.keep(works).await {
            Ok(heard) => answers.extend(heard),
            Err(error) => {
                tracing::error!(%error, "events of agents cannot be kept");
                answers = vec![Heard::Unavailable];
            }
        }
        answers
    }

    /// Keeps what was made, and shows it.
    pub(super) async fn keep(&self, mut works: Vec<Work>) -> io::Result<Vec<Heard>> {
        let mut batches = Vec::new();
        let mut following = Vec::new();
        for work in &mut works {
            if let Err(error) = self.record(work).await {
                // Opened anew the next time, which cuts off what is half a line.
                work.book.recorder = None;
                return Err(error);
            }
            let mut follow = self.follow(work).await?;
            let state = serde_json::to_string(&work.standing).map_err(io::Error::other)?;
            let nothing = work.events.is_empty() && work.standing == work.book.standing;
            if nothing && follow.changes.is_empty() {
                following.push(None);
                continue;
            }
            batches.push(AgentBatch {
                session: work.agent.id,
                before: work.before,
                events: work.events.clone(),
                state,
                changes: std::mem::take(&mut follow.changes),
            });
            following.push(Some(follow));
        }
        if !batches.is_empty()
            && let Err(error) = self.kit.records.store().keep_events(&batches).await
            && !self.is_kept(&works, &batches).await
        {
            self.take_up_kept(works).await;
            return Err(io::Error::other(error));
        }
        let mut heard = Vec::new();
        for (work, follow) in works.into_iter().zip(following) {
            let (session, seq) = (work.agent.id, work.standing.head);
            heard.push(match work.gap {
                true => Heard::Gap { session, from: seq + 1 },
                false => Heard::Stored(Stored { session, seq, offset: 0 }),
            });
            if let Some(follow) = follow {
                self.publish(work, follow);
            }
        }
        Ok(heard)
    }

    /// Whether what the store did not answer for is there all the same: a server may have lost its
    /// connection behind the commit.
    async fn is_kept(&self, works: &[Work], batches: &[AgentBatch]) -> bool {
        for batch in batches {
            let kept = self.kit.records.store().agent(batch.session).await.ok().flatten();
            let work = works.iter().find(|work| work.agent.id == batch.session);
            let (Some((_, state)), Some(work)) = (kept, work) else { return false };
            // What changes nothing of the state cannot be told from what was not kept.
            if state != batch.state || work.standing == work.book.standing {
                return false;
            }
        }
        true
    }

    /// Takes up what is kept beyond what is known here, as far as these events say what it is: else
    /// nothing of its runner's would ever follow on it.
    async fn take_up_kept(&self, works: Vec<Work>) {
        for mut work in works {
            let id = work.agent.id;
            let Ok(Some((head, _))) = self.kit.records.store().agent(id).await else { continue };
            if head <= work.book.standing.head || head > work.standing.head {
                continue;
            }
            tracing::warn!(session = %id, head, "events were kept unanswered");
            work.stop_at(head);
            match self.follow(&mut work).await {
                Ok(follow) => self.publish(work, follow),
                Err(error) => tracing::error!(session = %id, %error, "what is kept is not shown"),
            }
        }
    }

    /// A session's end is on record: its runner need not keep anything of it. One that does not hear
    /// this learns it when it comes again.
    async fn forget(&self, agent: &Agent) {
        let (runner, session) = (agent.runner, agent.id);
        let forget = Command::Forget { session };
        if let Err(error) = self.kit.remote.command(runner, session, forget).await {
            tracing::debug!(%session, %error, "a runner has not heard that a session is on record");
        }
    }

    /// Writes events to the recording, on the disk when this returns.
    async fn record(&self, work: &mut Work) -> io::Result<()> {
        if work.events.is_empty() {
            return Ok(());
        }
        let Standing { channel, channel_after, .. } = work.standing;
        let new = &work.agent.new;
        let mut recorder = match work.book.recorder.take() {
            Some(recorder) => recorder,
            None => self.recorder(new, channel, channel_after).await?,
        };
        let (id, at) = (work.agent.id, self.kit.clock.wall());
        let lines: io::Result<Vec<_>> = work
            .events
            .iter()
            .map(|event| Ok((event.seq, records::line(event).map_err(io::Error::other)?)))
            .collect();
        let lines = lines?;
        let written = tokio::task::spawn_blocking(move || {
            for (seq, line) in &lines {
                recorder.event(*seq, at, line)?;
            }
            recorder.sync()?;
            Ok::<_, io::Error>(recorder)
        });
        let recorder = written.await.map_err(io::Error::other)?;
        let recorder = recorder.map_err(|error| {
            tracing::error!(session = %id, %error, "an agent's recording cannot be written");
            error
        })?;
        work.book.recorder = Some(recorder);
        Ok(())
    }

    /// What follows from what was taken: for the store, for the record and for those who look on.
    async fn follow(&self, work: &mut Work) -> io::Result<Following> {
        let mut follow = Following::default();
        if work.reopened {
            follow.changes.push(AgentChange::Reopened);
        }
        for effect in std::mem::take(&mut work.effects) {
            self.follow_one(work, effect, &mut follow).await?;
        }
        follow.changes.extend(work.told.drain(..).map(|event| AgentChange::Told(event.into())));
        let (before, after) = {
            let shown = work.agent.shown();
            let open = shown.asks.values().map(|ask| ask.request);
            let open = open.chain(work.asked.values().map(|ask| ask.request));
            let asks = open.into_iter().any(|request| !follow.settled.contains(&request));
            let ending = shown.ending.is_some();
            (shown.status(), work.standing.shown(shown.linked, asks, ending))
        };
        if before != after && !after.is_over() {
            follow.changes.push(AgentChange::Status(after));
        }
        Ok(follow)
    }

    async fn follow_one(
        &self,
        work: &mut Work,
        effect: Effect,
        follow: &mut Following,
    ) -> io::Result<()> {
        let (kit, id) = (&self.kit, work.agent.id);
        let told = |event| AgentChange::Told(Box::new(event));
        match effect {
            Effect::Live => {
                let now = kit.clock.wall();
                follow.live = Some(now);
                follow.changes.push(AgentChange::Started(now));
            }
            Effect::Asked(request) => {
                let Some((seq, ask)) = work.ask(request) else { return Ok(()) };
                let epoch = ask.epoch;
                let asked = AgentChange::Asked { request: request.0.to_string(), seq, epoch };
                follow.changes.push(asked);
                follow.changes.push(told(self.asked(&work.agent, &ask)));
                follow.told.push(Told::Asked(request));
            }
            Effect::Settled(request, outcome) => {
                let ask = work.ask(request).map(|(_, ask)| ask);
                self.settle(work, (request, ask), &outcome, follow);
            }
            Effect::AllLost => {
                let open: Vec<_> = {
                    let shown = work.agent.shown();
                    let open = shown.asks.values().chain(work.asked.values());
                    open.filter(|ask| !follow.settled.contains(&ask.request)).cloned().collect()
                };
                for ask in open {
                    let ask = (ask.request, Some(ask));
                    self.settle(work, ask, &Outcome::Lost, follow);
                }
            }
            Effect::Message { client_msg_id, state, content, code } => {
                let kept = match state {
                    MessageState::Queued => InputState::Queued,
                    MessageState::Sent => InputState::Sent,
                    MessageState::Cancelled => InputState::Cancelled,
                    MessageState::Refused => InputState::Refused,
                };
                follow.changes.push(AgentChange::Input {
                    client_msg_id: client_msg_id.clone(),
                    state: kept,
                    content: content.clone(),
                    code: code.clone(),
                });
                follow.moved.push((client_msg_id.clone(), kept, content.clone()));
                follow.told.push(Told::Message { client_msg_id, state, content, code });
            }
            Effect::Warned(limit, seconds) => {
                follow.changes.push(told(self.warned(&work.agent, limit, seconds)));
                follow.told.push(Told::Warned(limit, seconds));
            }
            Effect::Exceeded { limit, configured, reached } => {
                kit.metrics.limit_hit(limit.reason().name());
                let event = self.exceeded(&work.agent, limit, configured, reached);
                follow.changes.push(told(event));
                let message = records::limit_line(limit, configured);
                follow.told.push(Told::Exceeded { limit, configured, message });
            }
            Effect::Died(reason) => {
                tracing::info!(
                    session = %id, reason = reason.name(), event = "agent_died",
                    "an agent died; its conversation can be taken up again",
                );
            }
            Effect::Over { reason, exit, output, message } => {
                self.finish(work, (reason, exit, output, message), follow).await?;
            }
        }
        Ok(())
    }

    /// What was asked is settled.
    fn settle(
        &self,
        work: &Work,
        (request, ask): (RequestId, Option<Ask>),
        outcome: &Outcome,
        follow: &mut Following,
    ) {
        let (state, by, word) = match outcome {
            Outcome::Answered { decision: how, by } => {
                (PromptState::Answered, Some(by.user.clone()), decision(*how))
            }
            Outcome::Settled { decision: how, rule } => {
                let by = if rule.is_some() { "rule" } else { "mode" };
                (PromptState::Answered, Some(by.to_owned()), decision(*how))
            }
            Outcome::Withdrawn => (PromptState::Withdrawn, None, "withdrawn"),
            Outcome::Lost => (PromptState::Lost, None, "lost"),
            Outcome::Expired => (PromptState::Expired, None, "expired"),
        };
        let is_answer = state == PromptState::Answered;
        follow.changes.push(AgentChange::Settled {
            request: request.0.to_string(),
            state,
            decision: is_answer.then(|| word.to_owned()),
            by: by.clone(),
        });
        // Whoever answered here was told of, and put on record, when they did.
        let is_open = work.asked.values().any(|ask| ask.request == request)
            || work.agent.shown().ask(request).is_some();
        if !is_open || follow.settled.contains(&request) {
            return;
        }
        if let Some(event) = ask.and_then(|ask| self.settled(&work.agent, &ask, outcome)) {
            follow.changes.push(AgentChange::Told(Box::new(event)));
        }
        follow.settled.push(request);
        let by = by.unwrap_or_else(|| "agent".to_owned());
        follow.told.push(Told::Resolved { request, by, decision: word });
    }

    /// It is over: its recording is sealed, and its end goes on record.
    async fn finish(
        &self,
        work: &mut Work,
        (reason, exit, output, message): (EndReason, Option<Exit>, u64, Option<String>),
        follow: &mut Following,
    ) -> io::Result<()> {
        let ending = work.ending.clone().or_else(|| work.agent.shown().ending.clone());
        let by = ending.filter(|ending| ending.reason == reason).and_then(|ending| ending.by);
        let at = self.kit.clock.wall();
        work.book.recorder = None;
        let facts = self.seal(work, (reason, exit.as_ref(), output, at), by.as_ref()).await?;
        follow.recorded = facts.as_ref().map_or(0, |facts| facts.bytes);
        let recording = facts.map(|facts| Recording {
            path: facts.file,
            bytes: facts.bytes,
            sha256: facts.sha256,
        });
        let detail = by.as_ref().and_then(|by| by.why.clone()).or(message);
        let end = SessionEnd {
            at,
            reason,
            exit: exit.clone(),
            by: by.map(|by| by.name),
            detail,
            output_bytes: output,
            recording,
        };
        tracing::info!(
            session = %work.agent.id, reason = reason.name(), bytes = output,
            event = "session_ended", "session ended",
        );
        follow.changes.push(AgentChange::Told(Box::new(self.ended(&work.agent, &end))));
        follow.changes.push(AgentChange::Ended(Box::new(end)));
        follow.told.push(Told::Ended { reason, exit: exit.clone() });
        follow.ended = Some((reason, exit));
        Ok(())
    }

    /// Shows what was kept.
    fn publish(&self, mut work: Work, follow: Following) {
        let (now, wall) = (self.kit.clock.mono(), self.kit.clock.wall());
        let Following { told, settled, moved, live, ended, recorded, changes: _ } = follow;
        let agent = work.agent.clone();
        let is_over = ended.is_some();
        let at_rest = work.standing.phase.is_at_rest();
        let before = work.book.standing.phase;
        work.book.standing = work.standing.clone();
        work.book.is_closed = is_over;
        let (slots, meter) = agent.show(|shown, tell| {
            let printed = work.standing.output.saturating_sub(shown.standing.output);
            let something = !work.events.is_empty();
            let new_epoch = shown.standing.epoch != work.standing.epoch;
            shown.standing = work.standing.clone();
            Agent::add(shown, std::mem::take(&mut work.events));
            shown.asks.append(&mut work.asked);
            shown.asks.retain(|_, ask| !settled.contains(&ask.request));
            for (id, state, content) in &moved {
                shown.move_input(id, *state, content.as_ref());
            }
            if let Some(at) = live {
                shown.started_at = Some(at);
                shown.lease = lease(&agent.new.limits, &shown.standing, Some(at), (now, wall));
                if let Some(meter) = &mut shown.meter {
                    meter.started(now);
                }
            }
            if printed > 0 || something {
                shown.lease.count_output(printed, now);
            }
            shown.spent(now);
            shown.rest(now);
            if new_epoch {
                // What waited on the runner waited for an agent that is gone.
                shown.inputs.iter_mut().for_each(|input| input.is_there = false);
            }
            shown.ended.clone_from(&ended);
            if is_over {
                shown.ending = None;
                shown.inputs.clear();
            }
            for told in &told {
                if let (Told::Asked(request), Some(user)) = (told, agent.new.user)
                    && let Some(ask) = shown.ask(*request)
                {
                    // An error: nobody is told.
                    let _nobody = self.kit.opened.send(Opened {
                        session: agent.id,
                        user,
                        harness: agent.new.harness.clone(),
                        request: *request,
                        what: ask.what.clone(),
                    });
                }
            }
            tell.extend(told);
            match at_rest {
                true => (shown.slots.take(), is_over.then(|| shown.meter.take()).flatten()),
                false => (None, None),
            }
        });
        drop(slots);
        let is_live = matches!(work.standing.phase, Phase::Running | Phase::Waiting);
        if is_live && !matches!(before, Phase::Running | Phase::Waiting) {
            let (agents, agent) = (self.clone(), agent.clone());
            self.kit.tasks.spawn(async move { agents.deliver(&agent).await });
        }
        if let (Some(mut meter), Some((reason, _))) = (meter, ended) {
            meter.ended_agent(reason, recorded);
        }
        let ending = agent.shown().ending.clone();
        if let Some(ending) = ending.filter(|_| at_rest && !is_over) {
            // Its agent died while it was being told to end: nobody is left to do that.
            let (agents, agent) = (self.clone(), agent.clone());
            self.kit.tasks.spawn(async move { agents.give_up(&agent, ending, None).await });
        }
        if is_over {
            self.let_go(&agent);
            let agents = self.clone();
            self.kit.tasks.spawn(async move { agents.forget(&agent).await });
        }
    }
}
