//! Leases: what is due comes once, in order and on time.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;

fn limits(runtime: u64, idle: u64, output: u64) -> Limits {
    Limits {
        max_runtime: (runtime > 0).then(|| Duration::from_secs(runtime)),
        idle_timeout: (idle > 0).then(|| Duration::from_secs(idle)),
        max_output: (output > 0).then_some(output),
        ..Limits::default()
    }
}

fn at(seconds: u64) -> Mono {
    Mono(seconds * SECOND)
}

#[test]
fn the_runtime_warns_then_expires_then_kills() {
    let mut lease = Lease::start(limits(600, 0, 0), at(0));
    assert_eq!(lease.next_wake(), at(540));
    assert_eq!(lease.poll(at(539)), None);
    let left = Duration::from_secs(60);
    assert_eq!(lease.poll(at(540)), Some(Effect::Warn { limit: Limit::MaxRuntime, left }));
    assert_eq!(lease.poll(at(540)), None);
    assert_eq!(lease.next_wake(), at(600));
    assert_eq!(lease.poll(at(600)), Some(Effect::Expire(EndReason::MaxRuntime)));
    assert_eq!(lease.next_wake(), at(610));
    assert_eq!(lease.poll(at(609)), None);
    assert_eq!(lease.poll(at(610)), Some(Effect::Kill));
    assert_eq!(lease.next_wake(), Mono::NEVER);
    assert_eq!(lease.emptied(EndReason::Exited), EndReason::MaxRuntime);
}

#[test]
fn a_limit_shorter_than_the_warning_warns_at_half_time() {
    let mut lease = Lease::start(limits(5, 0, 0), at(0));
    assert_eq!(lease.next_wake(), Mono(2_500_000));
    let left = Duration::from_millis(2500);
    assert_eq!(lease.poll(Mono(2_500_000)), Some(Effect::Warn { limit: Limit::MaxRuntime, left }));
}

#[test]
fn output_past_the_limit_expires_at_once() {
    let mut lease = Lease::start(limits(600, 0, 100), at(0));
    lease.count_output(100, at(1));
    assert_eq!(lease.poll(at(1)), None, "exactly the limit is allowed");
    lease.count_output(1, at(1));
    assert_eq!(lease.poll(at(1)), Some(Effect::Expire(EndReason::MaxOutput)));
}

#[test]
fn activity_moves_the_idle_deadline_and_its_warning() {
    let mut lease = Lease::start(limits(0, 100, 0), at(0));
    assert!(matches!(lease.poll(at(40)), Some(Effect::Warn { limit: Limit::IdleTimeout, .. })));
    lease.touch_input(at(50));
    assert_eq!(lease.next_wake(), at(90), "it warns anew");
    assert!(matches!(lease.poll(at(90)), Some(Effect::Warn { .. })));
    assert_eq!(lease.poll(at(150)), Some(Effect::Expire(EndReason::IdleTimeout)));
}

#[test]
fn output_is_no_activity_when_only_input_counts() {
    let policy = Limits { idle_counts: IdleCounts::Input, ..limits(0, 100, 0) };
    let mut lease = Lease::start(policy, at(0));
    lease.count_output(1, at(99));
    assert_eq!(lease.poll(at(100)), Some(Effect::Expire(EndReason::IdleTimeout)));
}

#[test]
fn a_busy_session_is_not_idle() {
    let mut lease = Lease::start(limits(0, 100, 0), at(0));
    lease.set_busy(true, at(10));
    assert_eq!(lease.poll(at(5000)), None);
    lease.set_busy(false, at(5000));
    assert_eq!(lease.idle_deadline(), at(5100));
}

#[test]
fn the_first_reason_wins() {
    let mut lease = Lease::start(limits(600, 0, 0), at(0));
    assert!(lease.end(EndReason::EndedBy, at(1)));
    assert!(!lease.end(EndReason::Shutdown, at(2)));
    lease.move_deadline(at(9000));
    assert_eq!(lease.poll(at(11)), Some(Effect::Kill));
    assert_eq!(lease.reason(), Some(EndReason::EndedBy));
}

#[test]
fn a_longer_deadline_warns_anew() {
    let mut lease = Lease::start(limits(600, 0, 0), at(0));
    assert!(lease.poll(at(550)).is_some());
    lease.move_deadline(at(1200));
    assert_eq!(lease.next_wake(), at(1140));
    assert_eq!(lease.poll(at(600)), None);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Input,
    Output(u64),
    Busy(bool),
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..200).prop_map(Step::Wait),
        Just(Step::Input),
        (0u64..50).prop_map(Step::Output),
        any::<bool>().prop_map(Step::Busy),
        Just(Step::End),
    ]
}

proptest! {
    /// Whatever happens, a lease expires once at most, kills once at most and only after that, never
    /// before its grace, and a sleeper who trusts `next_wake` misses nothing.
    #[test]
    fn ends_happen_once_and_on_time(
        runtime in 0u64..300,
        idle in 0u64..300,
        output in 0u64..200,
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut lease = Lease::start(limits(runtime, idle, output), at(0));
        let (mut now, mut expired, mut killed) = (0, None, None);
        for step in steps {
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Input => lease.touch_input(at(now)),
                Step::Output(bytes) => lease.count_output(bytes, at(now)),
                Step::Busy(busy) => lease.set_busy(busy, at(now)),
                Step::End => if lease.end(EndReason::EndedBy, at(now)) {
                    prop_assert!(expired.replace(now).is_none());
                },
            }
            let due = lease.next_wake() <= at(now)
                || lease.limits().max_output.is_some_and(|max| lease.output() > max);
            let mut acted = false;
            while let Some(effect) = lease.poll(at(now)) {
                acted = true;
                match effect {
                    Effect::Warn { .. } => prop_assert!(expired.is_none()),
                    Effect::Expire(_) => prop_assert!(expired.replace(now).is_none()),
                    Effect::Kill => {
                        prop_assert!(killed.replace(now).is_none());
                        prop_assert!(now >= expired.unwrap() + 10);
                    }
                }
            }
            prop_assert!(!acted || due, "something was done that no wake-up announced");
            if runtime > 0 {
                prop_assert!(now < runtime || expired.is_some());
            }
        }
    }
}
