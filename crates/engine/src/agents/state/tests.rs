//! The table of states, and what holds for any events whatever.

use proptest::prelude::*;
use serde_json::json;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Decision;

use super::*;

fn recovery(can_resume: bool) -> Option<Recovery> {
    Some(Recovery { agent_session_id: "a".to_owned(), cwd: "/".to_owned(), can_resume })
}

fn ended(reason: EndReason, exit: Option<Exit>, can_resume: bool) -> Event {
    let recovery = recovery(can_resume);
    Event::Ended { reason, exit, output_bytes: 7, message: None, recovery }
}

fn started() -> Event {
    Event::Started { agent: Some("fake".to_owned()), recovery: recovery(true) }
}

fn status(status: Status) -> Event {
    Event::Status { status }
}

/// What is made of these events of the first epoch, and what followed.
fn made_of(events: &[Event]) -> (Standing, Vec<Effect>) {
    let mut standing = Standing::new();
    let mut effects = Vec::new();
    let session = SessionId::new();
    for (seq, event) in (1..).zip(events) {
        let next = Sequenced { session, epoch: 1, seq, at: Wall(0), event: event.clone() };
        standing.take(&next, 10, &mut effects);
    }
    (standing, effects)
}

#[test]
fn a_session_moves_as_the_table_says() {
    let (running, waiting, ending) = (Status::Running, Status::Waiting, Status::Ending);
    let exited = |code| ended(EndReason::Exited, Some(Exit::Code(code)), true);
    let lost = |resumes| ended(EndReason::RunnerLost, None, resumes);
    let failed = || ended(EndReason::Failed, None, false);
    let limit = || Event::LimitExceeded { limit: Limit::MaxRuntime, configured: 1, reached: 1 };
    for (events, phase) in [
        (vec![], Phase::Starting),
        (vec![status(running)], Phase::Starting),
        (vec![status(waiting)], Phase::Starting),
        (vec![failed()], Phase::Failed),
        (vec![started()], Phase::Running),
        (vec![started(), status(waiting)], Phase::Waiting),
        (vec![started(), status(waiting), status(running)], Phase::Running),
        (vec![started(), status(Status::Starting)], Phase::Running),
        (vec![started(), status(Status::Ended)], Phase::Running),
        (vec![started(), status(ending)], Phase::Ending),
        (vec![started(), status(ending), status(running)], Phase::Ending),
        (vec![started(), limit()], Phase::Ending),
        (vec![started(), limit(), ended(EndReason::MaxRuntime, None, true)], Phase::Ended),
        (vec![started(), exited(0)], Phase::Ended),
        (vec![started(), exited(1)], Phase::Gone),
        (vec![started(), ended(EndReason::Signalled, None, true)], Phase::Gone),
        (vec![started(), ended(EndReason::EndedBy, None, true)], Phase::Ended),
        (vec![started(), lost(true)], Phase::Gone),
        (vec![started(), lost(false)], Phase::Ended),
        (vec![started(), exited(0), started()], Phase::Ended),
        (vec![started(), exited(0), status(running)], Phase::Ended),
    ] {
        assert_eq!(made_of(&events).0.phase, phase, "{events:?}");
    }
}

#[test]
fn as_it_is_shown_depends_on_its_runner_and_on_what_is_asked() {
    let standing = |phase| Standing { phase, ..Standing::new() };
    for (phase, linked, asks, ending, shown) in [
        (Phase::Starting, true, false, false, Status::Starting),
        (Phase::Running, true, false, false, Status::Running),
        (Phase::Running, true, true, false, Status::Waiting),
        (Phase::Running, true, true, true, Status::Ending),
        (Phase::Running, false, true, true, Status::Disconnected),
        (Phase::Waiting, true, false, false, Status::Waiting),
        (Phase::Ending, true, false, false, Status::Ending),
        (Phase::Gone, true, false, false, Status::Disconnected),
        (Phase::Ended, false, false, false, Status::Ended),
        (Phase::Failed, false, false, false, Status::Failed),
    ] {
        assert_eq!(standing(phase).shown(linked, asks, ending), shown, "{phase:?}");
    }
}

#[test]
fn flaw_12_what_was_printed_is_counted_over_all_turns_and_resumptions() {
    let update = || Event::Update { update: json!({}) };
    let (mut standing, _) = made_of(&[started(), update(), update()]);
    assert_eq!(standing.output, 20);
    let mut effects = Vec::new();
    standing.begin(2, 3, &mut effects);
    let session = SessionId::new();
    let next = Sequenced { session, epoch: 2, seq: 4, at: Wall(0), event: update() };
    standing.take(&next, 10, &mut effects);
    assert_eq!((standing.output, standing.phase), (30, Phase::Starting));
}

#[test]
fn the_lease_begins_once() {
    let (mut standing, mut effects) = made_of(&[started(), started()]);
    standing.begin(2, 2, &mut effects);
    let next =
        Sequenced { session: SessionId::new(), epoch: 2, seq: 3, at: Wall(0), event: started() };
    standing.take(&next, 1, &mut effects);
    assert_eq!(standing.phase, Phase::Running);
    assert_eq!(effects.iter().filter(|effect| **effect == Effect::Live).count(), 1);
}

#[test]
fn a_sealed_recording_is_followed_by_another() {
    let mut effects = Vec::new();
    let (mut gone, _) = made_of(&[started(), ended(EndReason::RunnerLost, None, true)]);
    gone.begin(2, 2, &mut effects);
    assert_eq!((gone.channel, gone.channel_after), (0, 0), "it was never sealed");
    let (mut over, _) = made_of(&[started(), ended(EndReason::EndedBy, None, true)]);
    over.begin(2, 2, &mut effects);
    assert_eq!((over.channel, over.channel_after), (1, 2));
}

fn any_event() -> impl Strategy<Value = Event> {
    let request = RequestId::new();
    let statuses = prop::sample::select(Status::ALL.to_vec());
    let reasons = prop::sample::select(vec![
        EndReason::Exited,
        EndReason::Signalled,
        EndReason::RunnerLost,
        EndReason::EndedBy,
        EndReason::MaxOutput,
        EndReason::Failed,
    ]);
    prop_oneof![
        Just(started()),
        statuses.prop_map(status),
        (reasons, any::<bool>()).prop_map(|(reason, resumes)| ended(reason, None, resumes)),
        Just(Event::Resolved {
            request,
            outcome: Outcome::Settled { decision: Decision::Allow, rule: None },
        }),
        Just(Event::TurnEnded { stop_reason: "end_turn".to_owned() }),
        Just(Event::LimitExceeded { limit: Limit::IdleTimeout, configured: 1, reached: 1 }),
        Just(Event::Stderr { text: "x".to_owned() }),
    ]
}

proptest! {
    /// Whatever a runner says: an end is the end of its epoch and is told once; output and head only
    /// grow; and what is kept is read back as it was.
    #[test]
    fn whatever_comes_an_end_is_an_end(
        events in prop::collection::vec((any_event(), 0u32..3), 0..60),
    ) {
        let mut standing = Standing::new();
        let session = SessionId::new();
        let mut epoch = 1;
        for (seq, (event, jump)) in (1..).zip(events) {
            // Now and then an older or a newer one.
            let of = match jump { 0 => epoch, 1 => epoch.max(2) - 1, _ => epoch + u32::from(seq % 7 == 0) };
            epoch = epoch.max(of);
            let before = standing.clone();
            let mut effects = Vec::new();
            let next = Sequenced { session, epoch: of, seq, at: Wall(0), event };
            standing.take(&next, 3, &mut effects);
            prop_assert_eq!(standing.head, seq);
            prop_assert!(standing.output >= before.output && standing.epoch >= before.epoch);
            prop_assert!(standing.was_live || !before.was_live);
            let ends = effects
                .iter()
                .filter(|it| matches!(it, Effect::Over { .. } | Effect::Died(_)))
                .count();
            prop_assert!(ends <= 1);
            if before.phase.is_at_rest() && standing.epoch == before.epoch {
                prop_assert_eq!(standing.phase, before.phase);
                prop_assert_eq!(ends, 0);
            }
            if of < before.epoch {
                prop_assert_eq!(standing.phase, before.phase);
                prop_assert!(effects.is_empty());
            }
            let kept = serde_json::to_string(&standing).unwrap();
            prop_assert_eq!(serde_json::from_str::<Standing>(&kept).unwrap(), standing.clone());
        }
    }
}
