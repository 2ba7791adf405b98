//! Sessions of agents are started, and taken up again. A place is taken here and on the runner before
//! anything is sent; it is given back whatever goes wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::authz::General;
use sojourn_core::authz::may_in_general;
use sojourn_core::end::EndReason;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::limits::Lower;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::relay::PermissionMode;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Recovery;
use sojourn_core::wire::relay::Used;
use sojourn_store::NewSession;
use sojourn_store::OnRunner;
use sojourn_store::Session as Kept;

use super::Agents;
use super::answering::by;
use super::records;
use super::saying::LONGEST;
use super::session::Agent;
use super::session::Ending;
use super::session::Held;
use super::session::Slots;
use super::state::Phase;
use super::state::Standing;
use super::storing::Work;
use crate::door::Door;
use crate::door::Refusal;
use crate::door::Who;
use crate::engine::Engine;
use crate::identity::Principal;
use crate::metrics::Meter;
use crate::profiles::DEFAULT;
use crate::profiles::HOST;
use crate::remote::NoSlot;
use crate::remote::RunnerView;
use crate::repeats;
use crate::view::LimitsView;
use crate::visiting::Person;

/// The longest name of a model, and the longest directory, in bytes.
const LONGEST_MODEL: usize = 200;
const LONGEST_CWD: usize = 4096;

/// An agent's session that somebody wants.
#[derive(Clone, Debug, Default)]
pub struct AgentWish {
    /// What is to run.
    pub harness: String,
    /// On which of their runners; none: the only one that can.
    pub runner: Option<String>,
    /// A profile of the runner's own.
    pub profile: Option<String>,
    /// Where it works.
    pub cwd: Option<String>,
    /// The first message.
    pub prompt: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// What becomes of requests for permission.
    pub permission_mode: PermissionMode,
    /// Limits lower than the policy's.
    pub lower: Lower,
    /// The reason they give.
    pub why: Option<String>,
    /// Words to put on the session.
    pub labels: BTreeMap<String, String>,
}

impl Engine {
    /// Starts an agent's session on a runner of the person's own. What comes of it are its events.
    ///
    /// # Errors
    /// A [`Refusal`], which is audited.
    pub async fn start_agent(
        &self,
        person: &Person,
        wish: AgentWish,
    ) -> Result<SessionId, Refusal> {
        let harness = wish.harness.clone();
        let started = self.try_start_agent(person, wish).await;
        if let Err(refusal) = &started {
            self.inner.metrics.session_refused(Door::Web.name(), refusal);
            tracing::warn!(
                user = person.who.name(), source = %person.address, code = refusal.code(),
                reason = %refusal, event = "session_refused", "session refused",
            );
            let event =
                Event::new(self.clock().wall(), Action::SessionRefused, person.actor.clone())
                    .detail("code", refusal.code())
                    .detail("reason", refusal.to_string())
                    .detail("harness", harness.chars().take(64).collect::<String>());
            self.audit().record_few(event, self.clock().mono());
        }
        started
    }

    async fn try_start_agent(
        &self,
        person: &Person,
        wish: AgentWish,
    ) -> Result<SessionId, Refusal> {
        let inner = &self.inner;
        if inner.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        if !inner.audit.is_writable() {
            return Err(Refusal::Audit);
        }
        let principal = self.owner(person).await?;
        check(&wish)?;
        let policy = inner.profiles.get(DEFAULT);
        let policy = policy.ok_or_else(Refusal::no_default_profile)?;
        if policy.require_why && wish.why.as_deref().is_none_or(|why| why.trim().is_empty()) {
            return Err(Refusal::WhyRequired);
        }
        let limits = policy.limits_at(Door::Web).lowered(&wish.lower);
        let runner = inner.agents.runner_for(&principal, &wish).await?;
        let here = inner.admission.take(Some(principal.id));
        let here = here.map_err(|full| self.naming(full, &principal))?;
        let id = repeats::session_id();
        let there = inner.remote.take_slot(runner.id, id).map_err(no_slot)?;
        let slots = Slots { _here: here, _there: there };
        let agent = inner.agents.begin(person, &principal, wish, (id, limits, runner), slots);
        agent.await?;
        // Their right to stay may have gone meanwhile.
        if let Ok(false) = self.identity().still_stands(&principal).await {
            let _kept_later = inner.agents.end(id, EndReason::LoginEnded, None);
            return Err(Refusal::Account);
        }
        Ok(id)
    }

    /// Takes up an agent's conversation again, on the runner it was on.
    ///
    /// # Errors
    /// A [`Refusal`]: it goes on, cannot be, or there is no place.
    pub async fn resume_agent(&self, person: &Person, id: SessionId) -> Result<(), Refusal> {
        let inner = &self.inner;
        if inner.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        if !inner.audit.is_writable() {
            return Err(Refusal::Audit);
        }
        let principal = self.owner(person).await?;
        let store = inner.records.store();
        let kept = store.session(id).await.map_err(|_| Refusal::Store)?.ok_or(Refusal::Over)?;
        let agent = match inner.agents.held(id) {
            Some(agent) => agent,
            None => inner
                .agents
                .read(kept.clone())
                .await
                .map_err(|_| Refusal::Store)?
                .ok_or_else(|| CannotResume::NoAgent.into_refusal())?,
        };
        inner.agents.resume(person, &principal, &kept, agent).await
    }

    /// Who starts something on their own machine: somebody with an account.
    async fn owner(&self, person: &Person) -> Result<Principal, Refusal> {
        let Who::User(principal) = &person.who else { return Err(Refusal::NobodysRunner) };
        if !may_in_general(principal.asker(), General::StartSession).is_allowed() {
            return Err(Refusal::Account);
        }
        match self.identity().may_begin(principal).await {
            Ok(true) => Ok(principal.clone()),
            Ok(false) => Err(Refusal::Account),
            Err(_) => Err(Refusal::Store),
        }
    }
}

/// Why a conversation is not taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotResume {
    /// It is no agent's.
    #[error("this session has no conversation to take up again; start a new one")]
    NoAgent,
    /// It goes on.
    #[error("the session goes on; attach to it")]
    GoesOn,
    /// Its agent cannot.
    #[error("its agent cannot take it up again; start a new session")]
    No,
    /// A limit was reached.
    #[error("its limits are used up; start a new session")]
    UsedUp,
}

impl CannotResume {
    pub(super) fn into_refusal(self) -> Refusal {
        Refusal::Resume(self.to_string())
    }
}

impl Agents {
    /// The runner that is meant: of this name, or the only one that can.
    async fn runner_for(
        &self,
        principal: &Principal,
        wish: &AgentWish,
    ) -> Result<RunnerView, Refusal> {
        let all = self.kit.remote.list(Some(principal.id)).await.map_err(|_| Refusal::Store)?;
        let harness = wish.harness.as_str();
        if let Some(name) = &wish.runner {
            let unknown = || {
                Refusal::Runner(format!("you have no runner {name:?}; see \"sojourn runners ls\""))
            };
            let found = all.into_iter().find(|runner| runner.name == *name).ok_or_else(unknown)?;
            return match (found.connected, found.has(harness)) {
                (false, _) => Err(no_slot(NoSlot::Away)),
                (true, true) => Ok(found),
                (true, false) => Err(Refusal::Harness(lacks(&found, harness))),
            };
        }
        super::heard_of(harness, &all)?;
        let can: Vec<_> = all.into_iter().filter(|it| it.connected && it.has(harness)).collect();
        let names: Vec<_> = can.iter().map(|runner| runner.name.clone()).collect();
        match <[RunnerView; 1]>::try_from(can) {
            Ok([runner]) => Ok(runner),
            Err(none) if none.is_empty() => Err(Refusal::Runner(format!(
                "no runner of yours is connected and has {harness:?}; start \"sojourn runner\" where \
                 it is to run"
            ))),
            Err(_) => Err(Refusal::Runner(format!(
                "more than one of your runners has {harness:?}; name one of {}",
                names.join(", ")
            ))),
        }
    }

    /// Puts a session on record and has its runner start it.
    async fn begin(
        &self,
        person: &Person,
        principal: &Principal,
        wish: AgentWish,
        (id, limits, runner): (SessionId, Limits, RunnerView),
        slots: Slots,
    ) -> Result<(), Refusal> {
        let now = self.kit.clock.wall();
        let new = NewSession {
            id,
            user: Some(principal.id),
            user_name: Some(principal.name.clone()),
            door: Door::Web.name().to_owned(),
            harness: wish.harness.clone(),
            profile: wish.profile.clone().unwrap_or_else(|| HOST.to_owned()),
            cwd: wish.cwd.clone(),
            why: wish.why,
            labels: wish.labels,
            limits: limits.clone(),
            peer: Some(std::net::SocketAddr::new(person.address, 0).to_string()),
            client: Some(person.client.chars().take(256).collect()),
            auth_method: Some(principal.how.name().to_owned()),
            auth_key: principal.fingerprint.clone(),
            auth_epoch: Some(principal.epoch),
            login: principal.login.map(|login| login.to_string()),
            token: person.token.clone(),
            created_at: now,
            remote: Some(OnRunner {
                runner: runner.id.to_string(),
                name: runner.name.clone(),
                model: wish.model.clone(),
                permission_mode: Some(mode(wish.permission_mode).to_owned()),
            }),
        };
        let event = Event::new(now, Action::SessionStarted, person.actor.clone())
            .session(id)
            .detail("harness", new.harness.clone())
            .detail("runner", runner.name.clone())
            .detail("runner_id", runner.id.to_string())
            .detail("cwd", json!(new.cwd))
            .detail("model", json!(wish.model))
            .detail("permission_mode", mode(wish.permission_mode))
            .detail("prompt", json!(wish.prompt.as_deref().map(records::digest)))
            .detail("why", json!(new.why))
            .detail("limits", json!(LimitsView::from(&limits)));
        let standing = Standing::new();
        let state = serde_json::to_string(&standing).map_err(|_| Refusal::Store)?;
        let launch = Launch {
            harness: wish.harness,
            profile: wish.profile,
            cwd: wish.cwd,
            model: wish.model,
            permission_mode: wish.permission_mode,
            prompt: wish.prompt,
            limits,
            used: Used::default(),
            size: None,
            resume: None,
            epoch: standing.epoch,
            head: 0,
            by: by(person),
        };
        let meter = Meter::new(&self.kit.metrics, &new.door, &new.harness);
        let held = Held {
            new: new.clone(),
            runner: runner.id,
            principal: Some(principal.clone()),
            standing,
            started_at: None,
            asks: BTreeMap::new(),
            inputs: Vec::new(),
            ended: None,
            slots: Some(slots),
            meter: Some(meter),
            linked: true,
        };
        let agent = Agent::new(held, (self.kit.clock.mono(), now));
        agent.shown().launching = true;
        // A recording there is before anything runs.
        let recorder = self.recorder(&new, 0, 0).await.map_err(|error| {
            tracing::error!(session = %id, %error, "an agent's recording cannot be made");
            Refusal::Sandbox { stage: "recording", message: error.to_string() }
        })?;
        agent.book.lock().await.recorder = Some(recorder);
        let kept = self.kit.records.store().add_agent(&new, &state, &event).await;
        kept.map_err(|error| {
            tracing::error!(%error, "a session's start is not kept");
            Refusal::Store
        })?;
        tracing::info!(
            session = %id, user = principal.name, source = %person.address,
            runner = runner.name, harness = new.harness, event = "session_opened", "session opened",
        );
        self.hold(&agent);
        if self.kit.audit.settled().await.is_err() {
            let failed = Ending { reason: EndReason::Failed, by: None };
            let message = "the audit log cannot be written".to_owned();
            self.give_up(&agent, failed, Some(message)).await;
            return Err(Refusal::Audit);
        }
        let agents = self.clone();
        let command = Command::Start(Box::new(launch));
        self.kit.tasks.spawn(async move { agents.launch(&agent, command).await });
        Ok(())
    }

    /// Has the runner start a session's agent; where that cannot be, the session is over.
    async fn launch(&self, agent: &Arc<Agent>, command: Command) {
        let receipt = self.kit.remote.command(agent.runner, agent.id, command).await;
        agent.shown().launching = false;
        let message = match receipt {
            Ok(Receipt::Accepted | Receipt::Duplicate) => return,
            Ok(Receipt::Rejected { code: _, message }) => message,
            Err(error) => {
                // It may have been started, and must not go on unseen.
                let (agents, agent) = (self.clone(), agent.clone());
                let failed = Ending { reason: EndReason::Failed, by: None };
                self.kit.tasks.spawn(async move { agents.send_end(&agent, failed).await });
                error.to_string()
            }
        };
        if agent.shown().standing.phase == Phase::Starting {
            self.not_started(agent, message).await;
        }
    }

    /// An agent was not started. If it was to be taken up again, it still can be.
    async fn not_started(&self, agent: &Arc<Agent>, message: String) {
        tracing::warn!(session = %agent.id, message, "an agent was not started");
        let failed = Ending { reason: EndReason::Failed, by: None };
        let mut work = Work::on(agent.clone()).await;
        if work.is_closed() {
            return;
        }
        let (standing, effects) = work.standing();
        if standing.phase != Phase::Starting {
            return;
        }
        match standing.can_resume() && standing.epoch > 1 {
            true => standing.phase = Phase::Gone,
            false => effects.extend(standing.give_up(EndReason::Failed, Some(message))),
        }
        work.ending = Some(failed);
        if let Err(error) = self.keep(vec![work]).await {
            tracing::error!(session = %agent.id, %error, "a failed start is not kept");
        }
    }

    /// Its runner is there and knows nothing of a session that should run there.
    pub(super) async fn missing(&self, agent: &Arc<Agent>) {
        let (phase, launching, ending) = {
            let shown = agent.shown();
            (shown.standing.phase, shown.launching, shown.ending.clone())
        };
        if launching || phase.is_at_rest() {
            return;
        }
        if phase == Phase::Starting && ending.is_none() {
            let message = "it was cut off while it was being started; start it again";
            return self.not_started(agent, message.to_owned()).await;
        }
        let lost = Ending { reason: EndReason::RunnerLost, by: None };
        let message = "its runner knows nothing of it any more".to_owned();
        self.give_up(agent, ending.unwrap_or(lost), Some(message)).await;
    }

    async fn resume(
        &self,
        person: &Person,
        principal: &Principal,
        kept: &Kept,
        agent: Arc<Agent>,
    ) -> Result<(), Refusal> {
        let mut work = Work::on(agent.clone()).await;
        let (phase, recovery, epoch, head) = {
            let (standing, _) = work.standing();
            let recovery = standing.recovery.clone().filter(|it| it.can_resume);
            (standing.phase, recovery, standing.epoch + 1, standing.head)
        };
        let recovery = match (phase, recovery) {
            (Phase::Gone | Phase::Ended, Some(recovery)) => recovery,
            (phase, _) if !phase.is_at_rest() => return Err(CannotResume::GoesOn.into_refusal()),
            _ => return Err(CannotResume::No.into_refusal()),
        };
        let now = self.kit.clock.wall();
        let (limits, used) = self.left(&agent, &mut work, now)?;
        let here = self.kit.admission.take(kept.new.user)?;
        let there = self.kit.remote.take_slot(agent.runner, agent.id).map_err(no_slot)?;
        let slots = Slots { _here: here, _there: there };
        let was_over = work.is_closed();
        let (standing, effects) = work.standing();
        standing.begin(epoch, head, effects);
        if was_over {
            work.reopen();
        }
        work.tell(
            Event::new(now, Action::SessionResumed, person.actor.clone())
                .session(agent.id)
                .detail("epoch", epoch)
                .detail("agent_session_id", recovery.agent_session_id.clone()),
        );
        work.standing().0.wished = None;
        let launch = self.again(&kept.new, person, (limits, used, epoch, head), recovery);
        {
            let mut shown = agent.shown();
            (shown.launching, shown.ending) = (true, None);
            shown.slots = Some(slots);
            shown.linked = true;
            if was_over {
                let meter = Meter::new(&self.kit.metrics, &kept.new.door, &kept.new.harness);
                shown.meter = Some(meter);
            }
        }
        self.keep(vec![work]).await.map_err(|error| {
            tracing::error!(session = %agent.id, %error, "a resumption is not kept");
            let mut shown = agent.shown();
            (shown.launching, shown.slots) = (false, None);
            Refusal::Store
        })?;
        if was_over {
            self.hold(&agent);
        }
        tracing::info!(
            session = %agent.id, user = principal.name, source = %person.address, epoch,
            event = "session_resumed", "session resumed",
        );
        let agents = self.clone();
        let command = Command::Resume(Box::new(launch));
        self.kit.tasks.spawn(async move { agents.launch(&agent, command).await });
        Ok(())
    }

    /// A session's limits over its whole life, and what it has used of them.
    fn left(&self, agent: &Agent, work: &mut Work, now: Wall) -> Result<(Limits, Used), Refusal> {
        let (standing, _) = work.standing();
        let limits = &agent.new.limits;
        let started = agent.shown().started_at;
        let elapsed = started.map_or(0, |at| u64::try_from(now.0 - at.0).unwrap_or(0));
        let (output, cost) = (standing.output, standing.spend.total());
        let used = Used { runtime: Duration::from_micros(elapsed), output, cost };
        let more = Duration::from_micros(standing.extended);
        let runtime = limits.max_runtime.map(|most| most.saturating_add(more));
        let too_long = runtime.is_some_and(|most| used.runtime >= most);
        let too_dear = limits.max_cost.is_some_and(|most| used.cost >= most);
        let too_much = limits.max_output.is_some_and(|most| used.output >= most);
        if too_long || too_much || too_dear {
            return Err(CannotResume::UsedUp.into_refusal());
        }
        Ok((Limits { max_runtime: runtime, ..limits.clone() }, used))
    }

    /// The same agent, started again: with the mode it had.
    fn again(
        &self,
        new: &NewSession,
        person: &Person,
        (limits, used, epoch, head): (Limits, Used, u32, u64),
        recovery: Recovery,
    ) -> Launch {
        let remote = new.remote.as_ref();
        let permission_mode = remote.and_then(|remote| remote.permission_mode.as_deref());
        Launch {
            harness: new.harness.clone(),
            profile: Some(new.profile.clone())
                .filter(|profile| ![HOST, DEFAULT].contains(&profile.as_str())),
            cwd: Some(recovery.cwd),
            model: remote.and_then(|remote| remote.model.clone()),
            permission_mode: permission_mode.map_or(PermissionMode::Relay, read_mode),
            prompt: None,
            limits,
            used,
            size: None,
            resume: Some(recovery.agent_session_id),
            epoch,
            head,
            by: by(person),
        }
    }
}

fn check(wish: &AgentWish) -> Result<(), Refusal> {
    let invalid = |field, why: &str| Err(Refusal::Invalid(field, why.to_owned()));
    let is_name = |name: &str| {
        (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !is_name(&wish.harness) {
        return invalid("harness", "a name of 1 to 32 letters, digits, \"-\", \"_\" and \".\"");
    }
    match &wish.prompt {
        Some(prompt) if prompt.trim().is_empty() => return invalid("prompt", "say something"),
        Some(prompt) if prompt.len() > LONGEST => {
            return invalid("prompt", "longer than 100000 bytes");
        }
        _ => {}
    }
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    let fits = |text: &Option<String>, most: usize| {
        text.as_ref().is_none_or(|text| !text.is_empty() && text.len() <= most && is_plain(text))
    };
    if !fits(&wish.cwd, LONGEST_CWD) {
        return invalid("cwd", "not a directory's name");
    }
    if !fits(&wish.model, LONGEST_MODEL) {
        return invalid("model", "not a model's name");
    }
    match wish.profile.as_deref().is_none_or(is_name) {
        true => Ok(()),
        false => invalid("profile", "not a profile's name"),
    }
}

/// What a runner lacks, and what to do about it.
fn lacks(runner: &RunnerView, harness: &str) -> String {
    let known = runner.hello.iter().flat_map(|hello| &hello.harnesses);
    let found = known.clone().find(|known| known.name == harness);
    match found.and_then(|found| found.note.as_ref()) {
        Some(note) => format!("the runner {:?} cannot run {harness:?}: {note}", runner.name),
        None => {
            let there = known.filter(|known| known.available).map(|known| known.name.as_str());
            let there: Vec<_> = there.collect();
            format!("the runner {:?} has no {harness:?}; it has {}", runner.name, there.join(", "))
        }
    }
}

pub(crate) fn no_slot(no: NoSlot) -> Refusal {
    match no {
        NoSlot::Full { max } => Refusal::RunnerFull { max, line: no.to_string() },
        NoSlot::Paused | NoSlot::Away => Refusal::RunnerAway(no.to_string()),
    }
}

/// A mode by its name in the API and the store.
pub(super) const fn mode(mode: PermissionMode) -> &'static str {
    match mode {
        PermissionMode::Relay => "relay",
        PermissionMode::Auto => "auto",
        PermissionMode::Deny => "deny",
    }
}

fn read_mode(name: &str) -> PermissionMode {
    match name {
        "auto" => PermissionMode::Auto,
        "deny" => PermissionMode::Deny,
        // Whatever it is: a person is asked.
        _ => PermissionMode::Relay,
    }
}
