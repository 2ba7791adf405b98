//! The lease: the limits one session runs under, and what happens when one is reached.
//!
//! ```text
//!            start            a limit, or end()             grace over, or emptied()
//!   (made) ─────────▶ Running ───────────────────▶ Ending ───────────────────────────▶ Over
//!                        │  ▲                        │
//!                        └──┘ touch, warn            └─ nothing moves the end any more
//! ```
//!
//! It is data and rules: times come in, effects go out. The shim keeps one and acts on its effects,
//! whether or not a gateway is alive; only [`Lease::move_deadline`] makes a runtime longer.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::end::Configured;
use crate::end::EndReason;
use crate::end::Limit;
use crate::limits::IdleCounts;
use crate::limits::Limits;
use crate::time::Mono;
use crate::units::Size;

/// What the keeper of a lease has to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the person how long is left.
    Warn {
        /// The limit that comes near.
        limit: Limit,
        /// What is really left.
        left: Duration,
    },
    /// The session is ending: tell the person, send HUP and TERM to everything in it.
    Expire(EndReason),
    /// The grace is over: kill what still lives.
    Kill,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Ending { reason: EndReason, kill_at: Mono },
    Over { reason: EndReason },
}

/// The lease of one session.
#[derive(Clone, Debug)]
pub struct Lease {
    limits: Limits,
    started: Mono,
    deadline: Mono,
    last_activity: Mono,
    /// Programs that are not idle while they run (an exec without a terminal).
    busy: bool,
    output: u64,
    /// What an agent has spent, in millionths.
    cost: u64,
    warned_deadline: bool,
    warned_idle: bool,
    phase: Phase,
}

impl Lease {
    /// Starts a lease: the first program is being started now.
    #[must_use]
    pub fn start(limits: Limits, now: Mono) -> Self {
        Self {
            deadline: limits.max_runtime.map_or(Mono::NEVER, |max| now.after(max)),
            limits,
            started: now,
            last_activity: now,
            busy: false,
            output: 0,
            cost: 0,
            warned_deadline: false,
            warned_idle: false,
            phase: Phase::Running,
        }
    }

    /// A person typed, or a client sent something that counts.
    pub fn touch_input(&mut self, now: Mono) {
        self.touch(now);
    }

    /// A terminal or an agent printed so many bytes. The limit is found by the next [`Lease::poll`],
    /// which the caller does after each read.
    pub fn count_output(&mut self, bytes: u64, now: Mono) {
        self.output = self.output.saturating_add(bytes);
        if self.limits.idle_counts == IdleCounts::Any {
            self.touch(now);
        }
    }

    /// An agent has spent so much in all, in millionths. The limit is found by the next
    /// [`Lease::poll`].
    pub fn spent(&mut self, cost: u64) {
        self.cost = self.cost.max(cost);
    }

    /// Whether an agent has spent what it may.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.limits.max_cost.is_some_and(|max| self.cost >= max)
    }

    /// A byte moved that is no terminal's: it counts against idleness, not against output.
    pub fn touch_transfer(&mut self, now: Mono) {
        self.touch(now);
    }

    /// Whether something runs that is never idle, such as an exec without a terminal.
    pub fn set_busy(&mut self, busy: bool, now: Mono) {
        if self.busy != busy {
            self.busy = busy;
            self.touch(now);
        }
    }

    fn touch(&mut self, now: Mono) {
        if self.phase == Phase::Running {
            self.last_activity = self.last_activity.max(now);
            self.warned_idle = false;
        }
    }

    /// Moves the deadline to `to`; a warning already given will be given anew if there is time.
    pub fn move_deadline(&mut self, to: Mono) {
        if self.phase == Phase::Running {
            self.deadline = to;
            self.warned_deadline = false;
        }
    }

    /// Ends the session for `reason`, unless something ended it before: then nothing happens.
    /// Returns whether this call ended it.
    pub fn end(&mut self, reason: EndReason, now: Mono) -> bool {
        if self.phase != Phase::Running {
            return false;
        }
        self.phase = Phase::Ending { reason, kill_at: now.after(self.limits.grace) };
        true
    }

    /// Everything of the session is gone. `own` is the reason when nothing had ended it before.
    pub fn emptied(&mut self, own: EndReason) -> EndReason {
        let reason = self.reason().unwrap_or(own);
        self.phase = Phase::Over { reason };
        reason
    }

    /// Why it ended or is ending.
    #[must_use]
    pub fn reason(&self) -> Option<EndReason> {
        match self.phase {
            Phase::Running => None,
            Phase::Ending { reason, .. } | Phase::Over { reason } => Some(reason),
        }
    }

    /// What is due at `now`, one thing at a time; call until it gives nothing.
    pub fn poll(&mut self, now: Mono) -> Option<Effect> {
        match self.phase {
            Phase::Over { .. } => None,
            Phase::Ending { reason, kill_at } => {
                if now < kill_at {
                    return None;
                }
                self.phase = Phase::Over { reason };
                Some(Effect::Kill)
            }
            Phase::Running => self.poll_running(now),
        }
    }

    fn poll_running(&mut self, now: Mono) -> Option<Effect> {
        let reached = if now >= self.deadline {
            Some(Limit::MaxRuntime)
        } else if self.limits.max_output.is_some_and(|max| self.output > max) {
            Some(Limit::MaxOutput)
        } else if self.is_spent() {
            Some(Limit::MaxCost)
        } else if now >= self.idle_deadline() {
            Some(Limit::IdleTimeout)
        } else {
            None
        };
        if let Some(limit) = reached {
            let reason = limit.reason();
            self.end(reason, now);
            return Some(Effect::Expire(reason));
        }
        if !self.warned_deadline && now >= self.warn_at(self.started, self.deadline) {
            self.warned_deadline = true;
            let left = self.deadline.since(now);
            return Some(Effect::Warn { limit: Limit::MaxRuntime, left });
        }
        let idle_deadline = self.idle_deadline();
        if !self.warned_idle && now >= self.warn_at(self.last_activity, idle_deadline) {
            self.warned_idle = true;
            return Some(Effect::Warn {
                limit: Limit::IdleTimeout,
                left: idle_deadline.since(now),
            });
        }
        None
    }

    /// The next time at which [`Lease::poll`] may have something; [`Mono::NEVER`] when only an event
    /// can change that.
    #[must_use]
    pub fn next_wake(&self) -> Mono {
        match self.phase {
            Phase::Over { .. } => Mono::NEVER,
            Phase::Ending { kill_at, .. } => kill_at,
            Phase::Running => {
                let idle_deadline = self.idle_deadline();
                let mut next = self.deadline.min(idle_deadline);
                if !self.warned_deadline {
                    next = next.min(self.warn_at(self.started, self.deadline));
                }
                if !self.warned_idle {
                    next = next.min(self.warn_at(self.last_activity, idle_deadline));
                }
                next
            }
        }
    }

    /// When a limit that began at `from` and falls due at `due` is warned of. A limit not longer than
    /// `warn_before` warns at half its time.
    fn warn_at(&self, from: Mono, due: Mono) -> Mono {
        let before = self.limits.warn_before;
        if before.is_zero() || due == Mono::NEVER {
            return Mono::NEVER;
        }
        let whole = due.since(from);
        if whole <= before { due.before(whole / 2) } else { due.before(before) }
    }

    /// When it will be idle for too long; [`Mono::NEVER`] while it cannot be idle.
    #[must_use]
    pub fn idle_deadline(&self) -> Mono {
        match self.limits.idle_timeout {
            Some(idle) if !self.busy => self.last_activity.after(idle),
            _ => Mono::NEVER,
        }
    }

    /// When its runtime is over.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        self.deadline
    }

    /// When the first program started.
    #[must_use]
    pub fn started(&self) -> Mono {
        self.started
    }

    /// When something last happened.
    #[must_use]
    pub fn last_activity(&self) -> Mono {
        self.last_activity
    }

    /// What it has printed.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.output
    }

    /// What an agent has spent, in millionths.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What a limit was set to; `None` where there is none.
    #[must_use]
    pub fn configured(&self, limit: Limit) -> Option<Configured> {
        match limit {
            Limit::MaxRuntime => self.limits.max_runtime.map(Configured::Time),
            Limit::IdleTimeout => self.limits.idle_timeout.map(Configured::Time),
            Limit::MaxOutput => self.limits.max_output.map(|max| Configured::Bytes(Size(max))),
            Limit::MaxCost => self.limits.max_cost.map(Configured::Cost),
        }
    }
}

/// What an agent has spent over the whole session, made of what it reports. Agents report a sum; one
/// that was started again may begin at nothing again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// What was spent before it began anew.
    before: u64,
    /// The last report.
    last: u64,
}

impl Spend {
    /// What was spent in earlier starts, all in all.
    #[must_use]
    pub const fn of(total: u64) -> Self {
        Self { before: 0, last: total }
    }

    /// The agent reports a sum, in millionths.
    pub fn report(&mut self, cost: u64) {
        if cost < self.last {
            self.before = self.total();
        }
        self.last = cost;
    }

    /// All in all.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.before.saturating_add(self.last)
    }
}

#[cfg(test)]
mod tests;
