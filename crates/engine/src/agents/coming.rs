//! What was there before this gateway, and runners that come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Hello;
use sojourn_core::wire::relay::Running;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::Stored;
use sojourn_store::PromptState;
use sojourn_store::Session as Kept;
use sojourn_store::StoreError;

use super::Agents;
use super::ending::REMOVED;
use super::session::Agent;
use super::session::Ask;
use super::session::Asked;
use super::session::Held;
use super::session::Input;
use super::session::Slots;
use super::session::Told;
use super::state::Standing;
use crate::adopt::opener;
use crate::metrics::Meter;
use crate::remote::Heard;
use crate::remote::Hears;
use crate::remote::Later;
use crate::remote::RunnerView;

impl Agents {
    /// Takes up what the gateway before this one knew. Until their runners come, these sessions are
    /// out of reach.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn load(&self) -> Result<(), StoreError> {
        for kept in self.kit.records.store().sessions_not_over().await? {
            if let Some(agent) = self.read(kept).await?
                && self.held(agent.id).is_none()
            {
                self.hold(&agent);
                self.kit.remote.look_for(agent.runner).await;
            }
        }
        Ok(())
    }

    /// A session as the store has it; none where it is no agent's.
    pub(super) async fn read(&self, kept: Kept) -> Result<Option<Arc<Agent>>, StoreError> {
        let store = self.kit.records.store();
        let Kept { new, started_at, end, .. } = kept;
        let Some(remote) = &new.remote else { return Ok(None) };
        let Ok(runner) = remote.runner.parse::<RunnerId>() else { return Ok(None) };
        let Some((head, state)) = store.agent(new.id).await? else { return Ok(None) };
        let standing = match serde_json::from_str::<Standing>(&state) {
            Ok(standing) => Standing { head, ..standing },
            Err(error) => {
                tracing::warn!(session = %new.id, %error, "what was made of its events is made anew");
                self.replay(new.id, head).await?
            }
        };
        let asks = self.asks(new.id, &standing).await?;
        let inputs = store.waiting_inputs(new.id).await?.into_iter();
        let inputs = inputs.map(|input| Input {
            client_msg_id: input.client_msg_id,
            content: input.content,
            is_there: input.state == sojourn_store::InputState::Queued,
            by: input.by,
        });
        let at_rest = standing.phase.is_at_rest();
        let slots = (!at_rest).then(|| Slots {
            _here: self.kit.admission.take_over(new.user),
            _there: self.kit.remote.keep_slot(runner, new.id),
        });
        let is_over = end.is_some();
        let meter =
            (!is_over).then(|| Meter::new(&self.kit.metrics, &new.door, &new.harness).found());
        let held = Held {
            principal: opener(&new),
            runner,
            standing,
            started_at,
            asks,
            inputs: inputs.collect(),
            ended: end.map(|end| (end.reason, end.exit)),
            slots,
            meter,
            linked: false,
            new,
        };
        Ok(Some(Agent::new(held, (self.kit.clock.mono(), self.kit.clock.wall()))))
    }

    /// What is made of all events of a session, once more.
    async fn replay(&self, id: SessionId, head: u64) -> Result<Standing, StoreError> {
        let mut standing = Standing::new();
        let mut effects = Vec::new();
        while standing.head < head {
            let from = standing.head + 1;
            let page = self.kit.records.store().agent_events(id, from, 500).await?;
            if page.is_empty() {
                break;
            }
            for event in page {
                let unknown = |_| Event::Stderr { text: String::new() };
                let what = serde_json::from_str(&event.event).unwrap_or_else(unknown);
                let (seq, epoch, at) = (event.seq, event.epoch, event.at);
                let next = Sequenced { session: id, epoch, seq, at, event: what };
                standing.take(&next, event.event.len() as u64, &mut effects);
                effects.clear();
            }
        }
        Ok(standing)
    }

    /// What is asked and open.
    async fn asks(
        &self,
        id: SessionId,
        standing: &Standing,
    ) -> Result<BTreeMap<u64, Ask>, StoreError> {
        let store = self.kit.records.store();
        let mut asks = BTreeMap::new();
        for prompt in store.agent_prompts(id).await? {
            if prompt.state != PromptState::Pending || prompt.epoch != standing.epoch {
                continue;
            }
            let event = store.agent_events(id, prompt.seq, 1).await?.into_iter().next();
            let event = event.and_then(|event| serde_json::from_str::<Event>(&event.event).ok());
            let (request, what) = match event {
                Some(Event::Prompt(prompt)) => (prompt.request, Asked::Permission(prompt.into())),
                Some(Event::Question(asked)) => (asked.request, Asked::Question(asked.into())),
                _ => continue,
            };
            asks.insert(prompt.seq, Ask { request, epoch: prompt.epoch, what });
        }
        Ok(asks)
    }

    /// A runner tells what it holds.
    async fn greet(&self, runner: &RunnerView, hello: &Hello) -> Result<Vec<Stored>, StoreError> {
        let mut have = Vec::new();
        let mut told = Vec::new();
        for running in &hello.sessions {
            let agent = self.held(running.session);
            let Some(agent) = agent.filter(|agent| agent.runner == runner.id) else { continue };
            let seq = agent.book.lock().await.standing.head;
            have.push(Stored { session: agent.id, seq, offset: 0 });
            told.push(agent.id);
            if !agent.shown().standing.phase.is_at_rest() {
                self.link(&agent, true);
            }
            let (agents, running) = (self.clone(), running.clone());
            self.kit.tasks.spawn(async move { agents.catch_up(&agent, &running).await });
        }
        // Whatever else was on this runner is not there any more: its disk was lost, or it never got
        // the word to start it.
        for agent in self.all() {
            if agent.runner == runner.id && !told.contains(&agent.id) {
                let agents = self.clone();
                self.kit.tasks.spawn(async move { agents.missing(&agent).await });
            }
        }
        Ok(have)
    }

    /// Its runner can be reached, or not.
    pub(super) fn link(&self, agent: &Agent, linked: bool) {
        let changed = agent.show(|shown, told| {
            if shown.linked == linked || shown.ended.is_some() {
                return None;
            }
            shown.linked = linked;
            if !shown.standing.phase.is_at_rest() {
                told.push(Told::Runner(linked));
            }
            Some(shown.status())
        });
        let Some(status) = changed.filter(|status| !status.is_over()) else { return };
        let (store, id) = (self.kit.records.store().clone(), agent.id);
        self.kit.tasks.spawn(async move {
            if let Err(error) = store.set_session_status(id, status).await {
                tracing::warn!(session = %id, %error, "a session's status is not kept");
            }
        });
    }

    /// Brings a runner what it does not have: an end that was asked for, answers, messages.
    async fn catch_up(&self, agent: &Arc<Agent>, running: &Running) {
        let ending = agent.shown().ending.clone();
        if let Some(ending) = ending {
            let by = ending.by.as_ref().map(|by| by.name.clone());
            let by = by.map(|user| sojourn_core::wire::relay::Person { user, address: None });
            let why = ending.by.and_then(|by| by.why);
            let end = Command::End { reason: ending.reason, by, why };
            let _later = self.kit.remote.command(agent.runner, agent.id, end).await;
            return;
        }
        self.answer_again(agent, &running.asks).await;
        self.deliver(agent).await;
    }
}

impl Hears for Agents {
    fn hello<'a>(
        &'a self,
        runner: &'a RunnerView,
        hello: &'a Hello,
    ) -> Later<'a, Result<Vec<Stored>, StoreError>> {
        Box::pin(self.greet(runner, hello))
    }

    fn events(&self, runner: RunnerId, events: Vec<Sequenced>) -> Later<'_, Vec<Heard>> {
        Box::pin(self.take(runner, events))
    }

    fn lost(&self, runner: RunnerId) {
        for agent in self.all().into_iter().filter(|agent| agent.runner == runner) {
            self.link(&agent, false);
        }
    }

    fn removed(&self, runner: RunnerId) {
        for agent in self.all().into_iter().filter(|agent| agent.runner == runner) {
            self.lose(&agent, REMOVED);
        }
    }
}
