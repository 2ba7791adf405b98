//! The limits, looked at from here as well. The runner keeps them, also while nobody can reach it; what
//! it should have ended and has not, is ended from here a moment later. What no runner can end, because
//! nothing of it runs, is ended here at once.

use std::sync::Arc;
use std::time::Duration;

use sojourn_core::end::EndReason;
use sojourn_core::end::Limit;
use sojourn_core::lease::Effect;
use sojourn_core::time::Mono;

use super::Agents;
use super::ending::REMOVED;
use super::session::Agent;
use super::session::Ending;
use super::state::Phase;

/// How much later than the runner this looks: its word counts, when it comes.
const SLACK: Duration = Duration::from_secs(15);

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);

/// The longest start: the sum of what its steps may take.
const START: Duration = Duration::from_secs(300);

/// What an agent may have printed beyond its limit when it is ended, as it is counted here: with what
/// the relay adds to each event.
const OUTPUT_SLACK: u64 = 8 << 20;

impl Agents {
    /// Keeps the limits until the gateway goes down.
    pub(crate) async fn keep_limits(self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut moves = self.kit.clock.moves();
        loop {
            tokio::select! {
                () = self.kit.shutdown.cancelled() => return,
                _ = look.tick() => {}
                () = async {
                    match &mut moves {
                        Some(moves) => drop(moves.changed().await),
                        None => std::future::pending().await,
                    }
                } => {}
            }
            self.look_at_limits();
        }
    }

    fn look_at_limits(&self) {
        let now = self.kit.clock.mono();
        for agent in self.all() {
            self.end_again(&agent);
            let removed = self.kit.remote.is_removed(agent.runner);
            let due = {
                let mut shown = agent.shown();
                let (phase, linked) = (shown.standing.phase, shown.linked);
                let away = !linked && !phase.is_at_rest();
                let since = if away { *shown.away_since.get_or_insert(now) } else { now };
                shown.away_since = away.then_some(since);
                match phase {
                    _ if shown.ended.is_some() => None,
                    // Its runner will not come back, or has been away for so long that nobody waits.
                    _ if removed || (away && self.kit.remote.is_lost(since, now)) => {
                        Some(EndReason::RunnerLost)
                    }
                    _ if shown.ending.is_some() => None,
                    Phase::Starting => {
                        let since = *shown.starting_since.get_or_insert(now);
                        (linked && now >= since.after(START)).then_some(EndReason::Failed)
                    }
                    // Nobody else is there to end it.
                    Phase::Gone => (now >= shown.lease.deadline()).then_some(EndReason::MaxRuntime),
                    Phase::Running | Phase::Waiting if linked => {
                        shown.starting_since = None;
                        let late = now.before(SLACK);
                        let over = shown.lease.limits().max_output.is_some_and(|most| {
                            shown.lease.output()
                                > most.saturating_mul(2).saturating_add(OUTPUT_SLACK)
                        });
                        let spent = shown.spent_since.is_some_and(|since| since <= late);
                        match (over, spent) {
                            (true, _) => Some(EndReason::MaxOutput),
                            (false, true) => Some(EndReason::MaxCost),
                            (false, false) => expired(&mut shown.lease.clone(), late),
                        }
                    }
                    _ => None,
                }
            };
            let Some(reason) = due else { continue };
            tracing::warn!(
                session = %agent.id, reason = reason.name(),
                "a runner did not end what should have ended",
            );
            if let Some(limit) = Limit::of(reason) {
                self.kit.metrics.limit_hit(reason.name());
                let (configured, reached) = {
                    let shown = agent.shown();
                    let limits = shown.lease.limits();
                    let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs();
                    let ran = now.since(shown.lease.started()).as_secs();
                    match limit {
                        Limit::MaxRuntime => (seconds(limits.max_runtime), ran),
                        Limit::IdleTimeout => {
                            let idle = now.since(shown.lease.last_activity()).as_secs();
                            (seconds(limits.idle_timeout), idle)
                        }
                        Limit::MaxOutput => {
                            (limits.max_output.unwrap_or_default(), shown.lease.output())
                        }
                        Limit::MaxCost => (limits.max_cost.unwrap_or_default(), shown.lease.cost()),
                    }
                };
                let event = self.exceeded(&agent, limit, configured, reached);
                self.kit.audit.record_soon(event);
            }
            if reason == EndReason::RunnerLost {
                let away = "its runner did not come back";
                self.lose(&agent, if removed { REMOVED } else { away });
            } else if reason == EndReason::Failed {
                let (agents, agent) = (self.clone(), agent.clone());
                let failed = Ending { reason, by: None };
                self.kit.tasks.spawn(async move {
                    agents.send_end(&agent, failed.clone()).await;
                    let message = "it did not start in time; look at the runner's log".to_owned();
                    agents.give_up(&agent, failed, Some(message)).await;
                });
            } else {
                let _kept_later = self.end(agent.id, reason, None);
            }
        }
    }
}

impl Agents {
    /// Does once more what a wished end needs here and the store did not keep.
    fn end_again(&self, agent: &Arc<Agent>) {
        let wished = {
            let shown = agent.shown();
            let is_owed = shown.standing.phase.is_at_rest() || shown.standing.wished.is_none();
            shown.ending.clone().filter(|_| shown.ended.is_none() && is_owed)
        };
        if let Some(ending) = wished {
            let (agents, agent) = (self.clone(), agent.clone());
            self.kit.tasks.spawn(async move { agents.keep_wish(&agent, ending).await });
        }
    }
}

/// The time limit that was reached by then. What is due only later is left for later.
fn expired(lease: &mut sojourn_core::lease::Lease, at: Mono) -> Option<EndReason> {
    while let Some(effect) = lease.poll(at) {
        if let Effect::Expire(reason) = effect {
            let is_time = !matches!(reason, EndReason::MaxOutput | EndReason::MaxCost);
            return is_time.then_some(reason);
        }
    }
    None
}
