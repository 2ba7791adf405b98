//! The lease of a session here, and its one timer: it holds whether or not a gateway is there.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::end::Configured;
use sojourn_core::end::EndReason;
use sojourn_core::end::Limit;
use sojourn_core::lease::Effect;
use sojourn_core::lease::Lease;
use sojourn_core::lease::Spend;
use sojourn_core::limits::Limits;
use sojourn_core::time::Mono;
use tokio::sync::Notify;

use super::clock::Clock;

/// A session's lease, once its program was started.
pub(super) struct Leash {
    clock: Arc<dyn Clock>,
    lease: Mutex<Option<Lease>>,
    changed: Notify,
    /// What a deadline is never moved beyond, counted from the first start.
    longest: Option<Duration>,
    /// For how long the session ran before this start, in milliseconds.
    before_ms: AtomicU64,
    /// What its agent says that it spent.
    spend: Mutex<Spend>,
}

/// What a session took so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// For how long it ran.
    pub(super) runtime: Duration,
    /// Bytes that its programs printed.
    pub(super) output: u64,
    /// What its agent spent, in millionths.
    pub(super) cost: u64,
}

impl Leash {
    /// Before the start. `longest` is this runner's own limit.
    pub(super) fn new(clock: Arc<dyn Clock>, longest: Option<Duration>) -> Self {
        Self {
            clock,
            lease: Mutex::new(None),
            changed: Notify::new(),
            longest,
            before_ms: AtomicU64::new(0),
            spend: Mutex::default(),
        }
    }

    fn lease(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program is being started. What the session took before, in earlier starts, counts.
    pub(super) fn begin(&self, limits: Limits, taken: Taken) {
        let now = self.clock.mono();
        let before = u64::try_from(taken.runtime.as_millis()).unwrap_or(u64::MAX);
        self.before_ms.store(before, Ordering::Relaxed);
        let deadline = limits.max_runtime.map(|max| now.after(max.saturating_sub(taken.runtime)));
        let mut lease = Lease::start(limits, now);
        lease.count_output(taken.output, now);
        lease.spent(taken.cost);
        *self.spend() = Spend::of(taken.cost);
        // Not by a start further back: a machine may run for less long than a session did.
        if let Some(deadline) = deadline {
            lease.move_deadline(deadline);
        }
        *self.lease() = Some(lease);
        self.changed.notify_one();
    }

    fn before(&self) -> Duration {
        Duration::from_millis(self.before_ms.load(Ordering::Relaxed))
    }

    /// The program printed something. False: it is more than it may, and the end is due.
    pub(super) fn printed(&self, bytes: u64) -> bool {
        let mut lease = self.lease();
        let Some(lease) = lease.as_mut() else { return true };
        lease.count_output(bytes, self.clock.mono());
        let within = lease.limits().max_output.is_none_or(|max| lease.output() <= max);
        if !within {
            self.changed.notify_one();
        }
        within
    }

    fn spend(&self) -> MutexGuard<'_, Spend> {
        self.spend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent reports what it spent.
    pub(super) fn spent(&self, cost: u64) {
        let total = {
            let mut spend = self.spend();
            spend.report(cost);
            spend.total()
        };
        if let Some(lease) = self.lease().as_mut() {
            lease.spent(total);
            if lease.is_spent() {
                self.changed.notify_one();
            }
        }
    }

    /// A person did something.
    pub(super) fn touch(&self) {
        if let Some(lease) = self.lease().as_mut() {
            lease.touch_input(self.clock.mono());
        }
    }

    /// Whether a person is waited for: that is not being idle.
    pub(super) fn waits_for_person(&self, waits: bool) {
        if let Some(lease) = self.lease().as_mut() {
            lease.set_busy(waits, self.clock.mono());
            self.changed.notify_one();
        }
    }

    /// Moves the deadline, never beyond this runner's own limit. False: nothing moved.
    pub(super) fn extend(&self, by: Duration) -> bool {
        let before = self.before();
        let mut lease = self.lease();
        let Some(lease) = lease.as_mut() else { return false };
        let left = |longest: Duration| lease.started().after(longest.saturating_sub(before));
        let most = self.longest.map_or(Mono::NEVER, left);
        let to = lease.deadline().after(by).min(most);
        let moved = to > lease.deadline() && lease.reason().is_none();
        if moved {
            lease.move_deadline(to);
            self.changed.notify_one();
        }
        moved
    }

    /// Ends the lease. False: something else ended it before.
    pub(super) fn end(&self, reason: EndReason) -> bool {
        let now = self.clock.mono();
        let ended = self.lease().as_mut().is_none_or(|lease| lease.end(reason, now));
        self.changed.notify_one();
        ended
    }

    /// Waits for what is due next: a warning or the end.
    pub(super) async fn next(&self) -> Effect {
        loop {
            let (effect, wake) = match self.lease().as_mut() {
                Some(lease) => (lease.poll(self.clock.mono()), lease.next_wake()),
                None => (None, Mono::NEVER),
            };
            if let Some(effect) = effect {
                return effect;
            }
            tokio::select! {
                () = self.clock.nap(wake) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// How long programs have to end themselves.
    pub(super) fn grace(&self) -> Duration {
        self.lease().as_ref().map_or(Duration::ZERO, |lease| lease.limits().grace)
    }

    /// What the session took so far, over all its starts.
    pub(super) fn taken(&self) -> Taken {
        let now = self.clock.mono();
        let lease = self.lease();
        lease.as_ref().map_or(Taken::default(), |lease| Taken {
            runtime: self.before() + now.since(lease.started()),
            output: lease.output(),
            cost: lease.cost(),
        })
    }

    /// What a limit was set to and what was reached, as they are told: in seconds, or in bytes.
    pub(super) fn reached(&self, limit: Limit) -> (u64, u64) {
        let now = self.clock.mono();
        let lease = self.lease();
        let Some(lease) = lease.as_ref() else { return (0, 0) };
        let configured = match lease.configured(limit) {
            Some(Configured::Time(time)) => time.as_secs(),
            Some(Configured::Bytes(size)) => size.0,
            Some(Configured::Cost(micros)) => micros,
            None => 0,
        };
        let reached = match limit {
            Limit::MaxRuntime => (self.before() + now.since(lease.started())).as_secs(),
            Limit::IdleTimeout => now.since(lease.last_activity()).as_secs(),
            Limit::MaxOutput => lease.output(),
            Limit::MaxCost => lease.cost(),
        };
        (configured, reached)
    }
}

#[cfg(test)]
mod tests {
    use sojourn_core::time::Wall;

    use super::*;

    /// Time as the paused runtime has it, and a sleep of the machine on top.
    struct Paused {
        begun: tokio::time::Instant,
        slept: AtomicU64,
    }

    impl Clock for Paused {
        fn mono(&self) -> Mono {
            let slept = Duration::from_secs(self.slept.load(Ordering::Relaxed));
            Mono(1_000_000).after(self.begun.elapsed()).after(slept)
        }

        fn wall(&self) -> Wall {
            Wall(0)
        }
    }

    fn leash(limits: Limits, longest: Option<Duration>) -> (Arc<Paused>, Arc<Leash>) {
        let begun = tokio::time::Instant::now();
        let clock = Arc::new(Paused { begun, slept: AtomicU64::new(0) });
        let leash = Arc::new(Leash::new(clock.clone(), longest));
        leash.begin(limits, Taken::default());
        (clock, leash)
    }

    fn hours(n: u64) -> Duration {
        Duration::from_secs(n * 3600)
    }

    fn quiet() -> Limits {
        Limits { max_runtime: Some(hours(4)), warn_before: Duration::ZERO, ..Limits::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn flaw_13_a_silent_session_ends_at_its_time() {
        let (clock, leash) = leash(Limits { idle_timeout: None, ..quiet() }, None);
        let begun = clock.mono();
        assert_eq!(leash.next().await, Effect::Expire(EndReason::MaxRuntime));
        assert!(clock.mono().since(begun) < hours(4) + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn flaw_13_one_that_waits_for_a_person_is_not_idle_but_not_for_ever_either() {
        let (clock, leash) = leash(quiet(), None);
        let begun = clock.mono();
        leash.waits_for_person(true);
        assert_eq!(leash.next().await, Effect::Expire(EndReason::MaxRuntime));
        assert!(clock.mono().since(begun) >= hours(4));
    }

    #[tokio::test(start_paused = true)]
    async fn flaw_12_what_was_taken_in_earlier_starts_counts() {
        let (clock, leash) = leash(quiet(), None);
        let begun = clock.mono();
        let taken = Taken { runtime: hours(3), output: 100 << 20, cost: 0 };
        leash.begin(Limits { idle_timeout: None, ..quiet() }, taken);
        assert!(!leash.printed(1), "one byte beyond its hundred megabytes");
        assert_eq!(leash.next().await, Effect::Expire(EndReason::MaxOutput));
        leash.begin(Limits { idle_timeout: None, ..quiet() }, Taken { output: 0, ..taken });
        assert_eq!(leash.next().await, Effect::Expire(EndReason::MaxRuntime));
        assert!(clock.mono().since(begun) < hours(2), "an hour was left");
        assert_eq!(leash.reached(Limit::MaxRuntime), (4 * 3600, 4 * 3600));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_counts_over_all_starts_whether_or_not_the_agent_counts_anew() {
        let limits = Limits { max_cost: Some(100), idle_timeout: None, ..quiet() };
        let (_clock, leash) = leash(limits.clone(), None);
        leash.spent(40);
        leash.spent(60);
        assert_eq!(leash.taken().cost, 60);
        leash.begin(limits.clone(), leash.taken());
        leash.spent(15);
        leash.spent(39);
        assert_eq!(leash.taken().cost, 99, "it began anew");
        leash.begin(limits.clone(), leash.taken());
        leash.spent(99);
        assert_eq!(leash.taken().cost, 99, "it went on counting");
        leash.spent(100);
        assert_eq!(leash.next().await, Effect::Expire(EndReason::MaxCost));
        assert_eq!(leash.reached(Limit::MaxCost), (100, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn case_08_the_sleep_of_a_machine_is_noticed_within_seconds() {
        let (clock, leash) = leash(Limits { idle_timeout: None, ..quiet() }, None);
        let waiting = tokio::spawn({
            let leash = leash.clone();
            async move { leash.next().await }
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        clock.slept.store(5 * 3600, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(waiting.is_finished());
        assert_eq!(waiting.await.unwrap(), Effect::Expire(EndReason::MaxRuntime));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_extends_beyond_the_runners_own_limit() {
        let (clock, leash) = leash(quiet(), Some(hours(5)));
        let begun = clock.mono();
        assert!(leash.extend(hours(3)), "by one hour, which is what there is");
        assert!(!leash.extend(hours(1)));
        leash.waits_for_person(true);
        assert_eq!(leash.next().await, Effect::Expire(EndReason::MaxRuntime));
        assert!(clock.mono().since(begun) < hours(5) + Duration::from_secs(6));
        assert!(!leash.end(EndReason::EndedBy), "the first reason is the reason");
    }
}
