//! Where an agent's session stands: made of its runner's events by one function, and by nothing else.
//!
//! ```text
//!              started            status              status, limit
//!   Starting ──────────▶ Running ◀──────▶ Waiting ──────────────▶ Ending
//!      │                    │                │                      │
//!      └────────────────────┴───── ended ────┴──────────────────────┘
//!                                    │
//!              ┌─────────────────────┼──────────────────┐
//!              ▼                     ▼                  ▼
//!            Gone ── resumed ──▶  Ended (resumed too)  Failed
//!         (Starting again)
//! ```
//!
//! *Gone*: the agent died and its conversation can be taken up again. Events of an agent that was
//! started again have a higher epoch; those of an earlier one change nothing any more. Whether the
//! runner can be reached, and what the agent has asked, is known beside this and shown with it
//! ([`Standing::shown`]).

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::lease::Spend;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::Epoch;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::MessageState;
use sojourn_core::wire::relay::Outcome;
use sojourn_core::wire::relay::Recovery;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::Usage;

use super::session::Ending;

#[cfg(test)]
mod tests;

/// How far the agent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It is being started.
    #[default]
    Starting,
    /// It works.
    Running,
    /// Its turn is over.
    Waiting,
    /// Its end has begun.
    Ending,
    /// It died, and can be taken up again.
    Gone,
    /// It is over.
    Ended,
    /// It is over and never was as it should have been.
    Failed,
}

impl Phase {
    /// Whether nothing of it runs.
    pub(crate) const fn is_at_rest(self) -> bool {
        matches!(self, Self::Gone | Self::Ended | Self::Failed)
    }
}

/// Everything that is made of a session's events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Standing {
    /// The last event.
    pub(crate) head: Seq,
    /// Which start of the agent this is, from 1.
    pub(crate) epoch: Epoch,
    /// How far it is.
    pub(crate) phase: Phase,
    /// Whether it was ever live.
    pub(crate) was_live: bool,
    /// The agent, as it names itself.
    pub(crate) agent: Option<String>,
    /// How its conversation is taken up again.
    pub(crate) recovery: Option<Recovery>,
    /// The agent's mode.
    pub(crate) mode: Option<String>,
    /// Tokens and money.
    pub(crate) usage: Option<Usage>,
    /// What it spent over all its starts.
    pub(crate) spend: Spend,
    /// Bytes that it printed, as far as they are known.
    pub(crate) output: u64,
    /// Microseconds that were added to its runtime.
    pub(crate) extended: u64,
    /// Which of its recordings is written, and the last event before that one.
    pub(crate) channel: u16,
    pub(crate) channel_after: Seq,
    /// An end that was asked for and has not come: it is wished for also after a crash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wished: Option<Ending>,
}

/// Something that follows from an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// It is live for the first time: its lease begins.
    Live,
    /// It asks something.
    Asked(RequestId),
    /// What it asked is settled.
    Settled(RequestId, Outcome),
    /// A message stands elsewhere.
    Message {
        client_msg_id: String,
        state: MessageState,
        content: Option<String>,
        code: Option<String>,
    },
    /// A limit comes near.
    Warned(Limit, u64),
    /// A limit was reached.
    Exceeded { limit: Limit, configured: u64, reached: u64 },
    /// Whatever was asked and is open will never be answered.
    AllLost,
    /// The agent died and can be taken up again.
    Died(EndReason),
    /// It is over.
    Over { reason: EndReason, exit: Option<Exit>, output: u64, message: Option<String> },
}

impl Standing {
    /// A session that is about to be started.
    pub(crate) fn new() -> Self {
        Self { epoch: 1, ..Self::default() }
    }

    /// Takes the next event; `bytes`: how long it is. What follows from it is put into `effects`.
    pub(crate) fn take(&mut self, next: &Sequenced, bytes: u64, effects: &mut Vec<Effect>) {
        self.head = next.seq;
        if next.epoch < self.epoch {
            return;
        }
        if next.epoch > self.epoch {
            self.begin(next.epoch, next.seq.saturating_sub(1), effects);
        }
        match &next.event {
            Event::Started { agent, recovery } => {
                if self.phase == Phase::Starting {
                    self.phase = Phase::Running;
                    if !self.was_live {
                        self.was_live = true;
                        effects.push(Effect::Live);
                    }
                }
                self.agent = agent.clone().or(self.agent.take());
                self.recovery = recovery.clone().or(self.recovery.take());
            }
            Event::Status { status } => self.moves_to(*status),
            Event::Prompt(prompt) => effects.push(Effect::Asked(prompt.request)),
            Event::Question(question) => effects.push(Effect::Asked(question.request)),
            Event::Resolved { request, outcome } => {
                effects.push(Effect::Settled(*request, outcome.clone()));
            }
            Event::Message { client_msg_id, state, content, code } => {
                effects.push(Effect::Message {
                    client_msg_id: client_msg_id.clone(),
                    state: *state,
                    content: content.clone(),
                    code: code.clone(),
                });
            }
            Event::UserMessage { client_msg_id, .. } => effects.push(Effect::Message {
                client_msg_id: client_msg_id.clone(),
                state: MessageState::Sent,
                content: None,
                code: None,
            }),
            Event::Mode { mode, .. } => self.mode = Some(mode.clone()),
            Event::Usage(usage) => {
                self.usage = Some(*usage);
                if let Some(cost) = usage.cost_micros {
                    self.spend.report(cost);
                }
            }
            Event::LimitWarned { limit, seconds } => {
                effects.push(Effect::Warned(*limit, *seconds));
            }
            Event::LimitExceeded { limit, configured, reached } => {
                self.moves_to(Status::Ending);
                let (limit, configured, reached) = (*limit, *configured, *reached);
                effects.push(Effect::Exceeded { limit, configured, reached });
            }
            Event::Ended { reason, exit, output_bytes, message, recovery } => {
                self.recovery = recovery.clone().or(self.recovery.take());
                self.output = self.output.max(*output_bytes);
                self.ended(*reason, exit.as_ref(), message.as_ref(), effects);
            }
            Event::Update { .. } | Event::Stderr { .. } => self.output += bytes,
            Event::Cut { bytes: left_out, .. } => self.output += left_out,
            Event::Step { .. }
            | Event::Diff { .. }
            | Event::Notice { .. }
            | Event::TurnCut { .. }
            | Event::TurnEnded { .. }
            | Event::Resized { .. } => {}
        }
    }

    /// The agent is started again, after this event.
    pub(crate) fn begin(&mut self, epoch: Epoch, after: Seq, effects: &mut Vec<Effect>) {
        effects.push(Effect::AllLost);
        // What was sealed is not written again.
        if matches!(self.phase, Phase::Ended | Phase::Failed) {
            self.channel = self.channel.saturating_add(1);
            self.channel_after = after;
        }
        self.epoch = epoch;
        self.phase = Phase::Starting;
        self.mode = None;
    }

    /// The one table of how an agent that lives moves.
    fn moves_to(&mut self, status: Status) {
        self.phase = match (self.phase, status) {
            (Phase::Running | Phase::Waiting, Status::Running) => Phase::Running,
            (Phase::Running | Phase::Waiting, Status::Waiting) => Phase::Waiting,
            (Phase::Starting | Phase::Running | Phase::Waiting, Status::Ending) => Phase::Ending,
            (phase, _) => phase,
        };
    }

    fn ended(
        &mut self,
        reason: EndReason,
        exit: Option<&Exit>,
        message: Option<&String>,
        effects: &mut Vec<Effect>,
    ) {
        if self.phase.is_at_rest() {
            return;
        }
        effects.push(Effect::AllLost);
        if self.can_resume() && died(reason, exit, self.epoch) {
            self.phase = Phase::Gone;
            effects.push(Effect::Died(reason));
            return;
        }
        self.phase = if reason == EndReason::Failed { Phase::Failed } else { Phase::Ended };
        self.wished = None;
        effects.push(Effect::Over {
            reason,
            exit: exit.cloned(),
            output: self.output,
            message: message.cloned(),
        });
    }

    /// It is ended without a word of its runner: there is nothing of it that could say one.
    pub(crate) fn give_up(&mut self, reason: EndReason, message: Option<String>) -> Vec<Effect> {
        let mut effects = vec![Effect::AllLost];
        self.wished = None;
        self.phase = if reason == EndReason::Failed { Phase::Failed } else { Phase::Ended };
        effects.push(Effect::Over { reason, exit: None, output: self.output, message });
        effects
    }

    /// Whether the agent says that it can be taken up again.
    pub(crate) fn can_resume(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| recovery.can_resume)
    }

    /// As it is shown: `linked`, whether its runner is there; `asks`, whether it waits for an answer;
    /// `ending`, whether its end was asked for.
    pub(crate) const fn shown(&self, linked: bool, asks: bool, ending: bool) -> Status {
        match self.phase {
            Phase::Ended => Status::Ended,
            Phase::Failed => Status::Failed,
            Phase::Gone => Status::Disconnected,
            _ if !linked => Status::Disconnected,
            Phase::Ending => Status::Ending,
            _ if ending => Status::Ending,
            Phase::Starting => Status::Starting,
            Phase::Waiting => Status::Waiting,
            Phase::Running if asks => Status::Waiting,
            Phase::Running => Status::Running,
        }
    }
}

/// Whether an agent that ended so did not mean to: its runner or itself was lost.
fn died(reason: EndReason, exit: Option<&Exit>, epoch: Epoch) -> bool {
    match reason {
        EndReason::RunnerLost | EndReason::Signalled => true,
        EndReason::Exited => !matches!(exit, Some(Exit::Code(0))),
        // It was there before; only taking it up again did not work.
        EndReason::Failed => epoch > 1,
        _ => false,
    }
}
