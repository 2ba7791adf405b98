//! Conversations with a runner that is the test: what a person and a runner see of each other.

mod desk;
mod peer;

use sojourn_core::end::EndReason;
use sojourn_core::end::Limit;
use sojourn_core::limits::Lower;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::Answer;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Decision;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::MessageState;
use sojourn_core::wire::relay::Outcome;
use sojourn_core::wire::relay::Person as By;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::relay::ToRunner;
use sojourn_core::wire::relay::Usage;

use super::*;
use crate::door::Refusal;
use crate::ending::EndedBy;
use desk::Desk;
use desk::ended;
use desk::prompt;
use desk::started;
use desk::update;

/// Reads on until this session's log is read up to there; the numbers that came.
async fn numbers(attending: &mut Attending, to: Seq) -> Vec<Seq> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| *last < to) {
        match desk::soon(attending.next()).await.unwrap().unwrap() {
            Seen::Event(event) => seen.push(event.seq),
            Seen::TruncatedBefore(seq) => panic!("nothing is gone before {seq}"),
            _ => {}
        }
    }
    seen
}

/// Reads on to something.
async fn see<T>(attending: &mut Attending, mut wanted: impl FnMut(Seen) -> Option<T>) -> T {
    loop {
        let seen = desk::soon(attending.next()).await.unwrap().expect("more to see");
        if let Some(found) = wanted(seen) {
            return found;
        }
    }
}

#[tokio::test]
async fn a_session_is_started_asks_is_answered_and_ends() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    let launch = peer.launched().await;
    assert_eq!((launch.harness.as_str(), launch.epoch), ("claude", 1));
    assert_eq!(launch.prompt.as_deref(), Some("hello"));
    let mut attending = desk.agents().attend(id, 0).await.unwrap().unwrap();

    peer.say(id, started()).await;
    let (request, event) = prompt("make", false);
    peer.say(id, event).await;
    let asked = see(&mut attending, |seen| match seen {
        Seen::Asked(request, what) => Some((request, what.input_hash().to_owned())),
        Seen::Now(now) => now.asks.first().map(|(it, what)| (*it, what.input_hash().to_owned())),
        _ => None,
    });
    let (seen, hash) = asked.await;
    assert_eq!(seen, request);
    assert_eq!(desk.view(id).await.status, Status::Waiting, "it waits for a person");
    desk.answer(id, request, &hash, true).await.unwrap();
    let Command::Answer(answer) = peer.asked(id).await else { panic!("no answer") };
    assert_eq!((answer.request, answer.decision), (request, Decision::Allow));
    assert_eq!(answer.by.user, "alice");
    assert_eq!(desk.view(id).await.status, Status::Running);

    peer.say(id, ended(EndReason::Exited)).await;
    let over = see(&mut attending, |seen| match seen {
        Seen::Told(Told::Ended { reason, .. }) => Some(reason),
        _ => None,
    });
    assert_eq!(over.await, EndReason::Exited);
    let view = desk.view(id).await;
    assert_eq!((view.status, view.runner.as_str()), (Status::Ended, "laptop"));
    assert!(desk.agents().live().is_empty());
    let told = desk.told(id).await;
    assert_eq!(
        told,
        ["session_started", "permission_requested", "permission_granted", "session_ended"]
    );
    assert_eq!(desk.recorded(id, 0).len(), 3, "each event is a line of the recording");
}

#[tokio::test]
async fn flaw_16_case_01_everybody_who_joins_sees_each_event_once_and_in_order() {
    const EVENTS: Seq = 2000;
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    let mut joiners = Vec::new();
    for n in 2..=EVENTS {
        peer.send(id, n, update(&n.to_string())).await;
        if n % 97 == 0 {
            let mut attending = desk.agents().attend(id, n % 50).await.unwrap().unwrap();
            let from = (n % 50).max(1);
            joiners
                .push((from, tokio::spawn(async move { numbers(&mut attending, EVENTS).await })));
        }
    }
    for (from, joiner) in joiners {
        let seen = desk::soon(joiner).await.unwrap();
        assert_eq!(seen, (from..=EVENTS).collect::<Vec<_>>());
    }
    let kept = desk.agents().events(id, 1, 1000).await.unwrap();
    assert_eq!(kept.len(), 1000);
}

#[tokio::test]
async fn case_02_what_comes_twice_is_dropped_and_what_is_missing_is_asked_for() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.send(id, 1, started()).await;
    peer.send(id, 2, update("a")).await;
    assert_eq!(peer.acked(id).await, 2);
    peer.send(id, 1, started()).await;
    peer.send(id, 2, update("another")).await;
    peer.send(id, 3, update("b")).await;
    assert_eq!(peer.acked(id).await, 3);
    peer.send(id, 5, update("d")).await;
    let from = peer
        .hear(|message| match message {
            ToRunner::Resend { session, from } if session == id => Some(from),
            _ => None,
        })
        .await;
    assert_eq!(from, 4);
    peer.send(id, 4, update("c")).await;
    peer.send(id, 5, update("d")).await;
    assert_eq!(peer.acked(id).await, 5);
    let kept = desk.agents().events(id, 1, 100).await.unwrap();
    let said: Vec<_> = kept.iter().map(|event| event.event.contains("another")).collect();
    assert_eq!(said, [false; 5], "the first is what counts");
    assert_eq!(desk.recorded(id, 0).len(), 5);
}

#[tokio::test]
async fn case_04_of_a_hundred_answers_one_reaches_the_agent() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    let (request, event) = prompt("rm -rf /", false);
    peer.say(id, event).await;
    desk.until(async || desk.view(id).await.status == Status::Waiting).await;
    let mut tries = Vec::new();
    for n in 0..100 {
        let desk = desk.clone();
        tries.push(tokio::spawn(async move {
            desk.answer(id, request, &desk::hash("rm -rf /"), n % 2 == 0).await
        }));
    }
    let mut won = 0;
    for one in tries {
        match desk::soon(one).await.unwrap() {
            Ok(()) => won += 1,
            Err(AnswerError::Answered { by, .. }) => assert_eq!(by, "alice"),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
    assert!(matches!(peer.asked(id).await, Command::Answer(_)));
    desk.interrupt(id);
    assert!(matches!(peer.asked(id).await, Command::Interrupt { .. }), "and no other answer");
    let decided = desk.told(id).await;
    let decided =
        decided.iter().filter(|it| it.starts_with("permission_") && *it != "permission_requested");
    assert_eq!(decided.count(), 1);
}

#[tokio::test]
async fn case_04_three_prompts_are_answered_each_for_itself_in_any_order() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    let mut asked = Vec::new();
    for what in ["a", "b", "c"] {
        let (request, event) = prompt(what, true);
        peer.say(id, event).await;
        asked.push((request, what));
    }
    desk.until(async || desk.agents().snapshot(id).unwrap().asks.len() == 3).await;
    // Flaw 8: for what was shown, and nothing else.
    let swapped = desk.answer(id, asked[0].0, &desk::hash("b"), true).await;
    assert!(matches!(swapped, Err(AnswerError::Invalid("input_hash", _))), "{swapped:?}");
    for (request, what) in asked.iter().rev() {
        desk.answer(id, *request, &desk::hash(what), true).await.unwrap();
        let Command::Answer(answer) = peer.asked(id).await else { panic!("no answer") };
        let Answer { request: of, input_hash, .. } = *answer;
        assert_eq!((of, input_hash), (*request, desk::hash(what)));
    }
    let unknown = desk.answer(id, RequestId::new(), "x", true).await;
    assert_eq!(unknown, Err(AnswerError::NoPrompt), "flaw 9");
}

#[tokio::test]
async fn case_05_what_a_lost_agent_asked_is_never_answered() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    let (request, event) = prompt("make", false);
    peer.say(id, event).await;
    peer.say(id, ended(EndReason::RunnerLost)).await;
    desk.until(async || desk.view(id).await.status == Status::Disconnected).await;
    let late = desk.answer(id, request, &desk::hash("make"), true).await;
    assert_eq!(late, Err(AnswerError::Gone("lost")));
    let view = desk.view(id).await;
    assert!(view.recovery.unwrap().can_resume);

    desk.resume(id).await.unwrap();
    let Command::Resume(launch) = peer.asked(id).await else { panic!("no resumption") };
    assert_eq!((launch.epoch, launch.head), (2, 3));
    assert_eq!(launch.resume.as_deref(), Some("a-1"));
    let again = desk.resume(id).await;
    assert!(matches!(again, Err(Refusal::Resume(_))), "flaw 20: {again:?}");
    peer.epoch = 2;
    peer.say(id, started()).await;
    desk.until(async || desk.view(id).await.status == Status::Running).await;
    let late = desk.answer(id, request, &desk::hash("make"), true).await;
    assert_eq!(late, Err(AnswerError::Gone("lost")), "also when it goes on");
    let told = desk.told(id).await;
    assert!(told.contains(&"session_resumed".to_owned()), "{told:?}");
    assert!(!told.iter().any(|it| it == "permission_granted"), "{told:?}");
}

#[tokio::test]
async fn flaw_10_a_resumed_session_keeps_its_mode() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let wish = AgentWish {
        permission_mode: sojourn_core::wire::relay::PermissionMode::Deny,
        ..desk.wish()
    };
    let id = desk.start(wish).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    peer.say(id, ended(EndReason::EndedBy)).await;
    desk.until(async || desk.view(id).await.status == Status::Ended).await;
    desk.resume(id).await.unwrap();
    let Command::Resume(launch) = peer.asked(id).await else { panic!("no resumption") };
    assert_eq!(launch.permission_mode, sojourn_core::wire::relay::PermissionMode::Deny);
    peer.epoch = 2;
    peer.say(id, started()).await;
    desk.until(async || desk.view(id).await.status == Status::Running).await;
    assert_eq!(desk.recorded(id, 0).len(), 2, "what was sealed is not written again");
    assert_eq!(desk.recorded(id, 1).len(), 1);
}

#[tokio::test]
async fn flaw_03_a_runner_speaks_of_its_own_sessions_alone() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let mut other = desk.runner("desktop").await;
    let wish = AgentWish { runner: Some("laptop".to_owned()), ..desk.wish() };
    let id = desk.start(wish).await.unwrap();
    peer.launched().await;
    other.send(id, 1, ended(EndReason::Failed)).await;
    peer.say(id, started()).await;
    desk.until(async || desk.view(id).await.status == Status::Running).await;
}

#[tokio::test]
async fn flaw_15_the_fourth_session_finds_no_place_whoever_comes_first() {
    let desk = Desk::new().await;
    let _peer = desk.runner("laptop").await;
    let mut starts = Vec::new();
    for _ in 0..20 {
        let desk = desk.clone();
        starts.push(tokio::spawn(async move { desk.start(desk.wish()).await }));
    }
    let (mut started, mut full) = (0, 0);
    for start in starts {
        match desk::soon(start).await.unwrap() {
            Ok(_) => started += 1,
            Err(Refusal::RunnerFull { max: 3, .. }) => full += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((started, full), (3, 17));
}

#[tokio::test]
async fn a_message_is_said_once_in_order_and_counted() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    desk.until(async || desk.view(id).await.status == Status::Running).await;
    for n in [1, 1, 2] {
        assert_eq!(desk.say(id, &format!("m{n}"), "hi").await.unwrap(), MessageState::Queued);
    }
    for wanted in ["m1", "m2"] {
        let Command::Message { client_msg_id, by, .. } = peer.asked(id).await else { panic!() };
        assert_eq!((client_msg_id.as_str(), by.user.as_str()), (wanted, "alice"), "flaw 5");
    }
    let by = By { user: "alice".to_owned(), address: None };
    let said = Event::UserMessage { client_msg_id: "m1".to_owned(), content: "hi".to_owned(), by };
    peer.say(id, said).await;
    desk.until(async || desk.agents().snapshot(id).unwrap().inputs.len() == 1).await;
    assert_eq!(desk.say(id, "m1", "hi").await.unwrap(), MessageState::Sent);
    desk.engine.rates().set(crate::rates::RateLimits {
        messages_per_minute: 3,
        ..crate::rates::RateLimits::default()
    });
    desk.say(id, "m3", "hi").await.unwrap();
    let refused = desk.say(id, "m4", "hi").await.unwrap_err();
    assert_eq!(refused.code(), "RATE_LIMITED");
    let told = desk.told(id).await;
    assert_eq!(told.iter().filter(|it| *it == "input_sent").count(), 3);
}

#[tokio::test]
async fn messages_wait_for_a_runner_that_is_away() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    desk.until(async || desk.view(id).await.status == Status::Running).await;
    let (request, event) = prompt("make", false);
    peer.say(id, event).await;
    desk.until(async || desk.view(id).await.status == Status::Waiting).await;
    let peer = peer.gone();
    desk.until(async || desk.view(id).await.status == Status::Disconnected).await;
    desk.say(id, "m1", "one").await.unwrap();
    desk.say(id, "m2", "two").await.unwrap();
    desk.agents().edit(&desk.person(), id, desk::words("m1", "first")).await.unwrap();
    desk.agents().cancel(&desk.person(), id, "m2").await.unwrap();
    desk.answer(id, request, &desk::hash("make"), false).await.unwrap();
    let mut peer = peer.back(&desk, &[(id, 2, Status::Running, vec![request])]).await;
    assert_eq!(peer.have, [(id, 2)]);
    let (mut answered, mut said) = (0, Vec::new());
    while answered == 0 || said.is_empty() {
        match peer.asked(id).await {
            Command::Answer(answer) => {
                assert_eq!(answer.decision, Decision::Deny);
                answered += 1;
            }
            Command::Message { content, .. } => said.push(content),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(said, ["first"]);
}

#[tokio::test]
async fn case_05_a_gateway_that_was_lost_knows_what_it_knew() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    let (request, event) = prompt("make", false);
    peer.say(id, event).await;
    assert_eq!(peer.acked(id).await, 2);
    let peer = peer.gone();
    let desk = desk.again().await;
    let view = desk.view(id).await;
    assert_eq!(view.status, Status::Disconnected);
    let mut peer = peer.back(&desk, &[(id, 2, Status::Running, vec![request])]).await;
    assert_eq!(peer.have, [(id, 2)]);
    assert_eq!(desk.view(id).await.status, Status::Waiting);
    let mut attending = desk.agents().attend(id, 1).await.unwrap().unwrap();
    assert_eq!(numbers(&mut attending, 2).await, [1, 2]);
    let open = see(&mut attending, |seen| match seen {
        Seen::Now(now) => Some(now.asks.iter().map(|(request, _)| *request).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(open.await, [request]);
    desk.answer(id, request, &desk::hash("make"), true).await.unwrap();
    assert!(matches!(peer.asked(id).await, Command::Answer(_)));
    peer.say(id, update("done")).await;
    assert_eq!(numbers(&mut attending, 3).await, [3]);
    peer.say(id, ended(EndReason::Exited)).await;
    desk.until(async || desk.view(id).await.status == Status::Ended).await;
    assert_eq!(desk.recorded(id, 0).len(), 4, "each event once, whoever wrote it");
}

#[tokio::test]
async fn an_end_asked_for_while_its_runner_was_away_outlives_the_gateway() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    assert_eq!(peer.acked(id).await, 1);
    let peer = peer.gone();
    desk.until(async || desk.view(id).await.status == Status::Disconnected).await;
    let by = EndedBy::new("alice", Some("enough"));
    desk.agents().end(id, EndReason::EndedBy, Some(by)).unwrap().await.unwrap();
    let desk = desk.again().await;
    let mut peer = peer.back(&desk, &[(id, 1, Status::Running, vec![])]).await;
    let Command::End { reason, by, why } = peer.asked(id).await else { panic!("no end") };
    assert_eq!((reason, by.unwrap().user), (EndReason::EndedBy, "alice".to_owned()));
    assert_eq!(why.as_deref(), Some("enough"));
    peer.say(id, ended(EndReason::EndedBy)).await;
    desk.until(async || desk.view(id).await.status == Status::Ended).await;
    assert_eq!(desk.view(id).await.ended_by.as_deref(), Some("alice"));
}

#[tokio::test]
async fn events_that_were_kept_and_not_answered_for_hold_up_no_runner() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    assert_eq!(peer.acked(id).await, 1);
    // A server commits, and its answer is lost.
    let store = desk.engine.inner.records.store();
    let (before, state) = store.agent(id).await.unwrap().unwrap();
    let (request, prompt) = prompt("make", false);
    let event = serde_json::to_string(&prompt).unwrap();
    let asked =
        sojourn_store::AgentChange::Asked { request: request.0.to_string(), seq: 2, epoch: 1 };
    let events = vec![sojourn_store::AgentEvent {
        seq: 2,
        epoch: 1,
        at: sojourn_core::time::Wall(1),
        event,
    }];
    let batch =
        sojourn_store::AgentBatch { session: id, before, events, state, changes: vec![asked] };
    store.keep_events(&[batch]).await.unwrap();
    peer.say(id, prompt).await;
    desk.until(async || desk.view(id).await.status == Status::Disconnected).await;
    let mut peer = peer.gone().back(&desk, &[(id, 2, Status::Running, vec![request])]).await;
    assert_eq!(peer.have, [(id, 2)]);
    desk.answer(id, request, &desk::hash("make"), true).await.unwrap();
    assert!(matches!(peer.asked(id).await, Command::Answer(_)));
    peer.say(id, update("goes on")).await;
    assert_eq!(peer.acked(id).await, 3);
}

#[tokio::test]
async fn what_a_rule_settles_is_on_record_as_that() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    let (request, event) = prompt("make", true);
    peer.say(id, event).await;
    let outcome = Outcome::Settled { decision: Decision::Allow, rule: None };
    peer.say(id, Event::Resolved { request, outcome }).await;
    desk.until(async || desk.told(id).await.len() == 3).await;
    let late = desk.answer(id, request, &desk::hash("make"), false).await;
    let by = "mode".to_owned();
    assert_eq!(late, Err(AnswerError::Answered { by, decision: "allow".to_owned() }));
}

#[tokio::test]
async fn flaw_13_a_silent_agent_ends_also_when_its_runner_does_not_end_it() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    desk.until(async || desk.view(id).await.status == Status::Running).await;
    let (_, event) = prompt("make", false);
    peer.say(id, event).await;
    desk.until(async || desk.view(id).await.status == Status::Waiting).await;
    desk.pass(45 * 60, &mut peer).await;
    assert_eq!(desk.view(id).await.status, Status::Waiting, "waiting for a person is not idle");
    desk.pass(20 * 60, &mut peer).await;
    let Command::End { reason, .. } = peer.asked(id).await else { panic!("no end") };
    assert_eq!(reason, EndReason::MaxRuntime);
    let told = desk.told(id).await;
    assert_eq!(told.iter().filter(|it| *it == "limit_exceeded").count(), 1);
}

#[tokio::test]
async fn a_limit_is_told_once_with_what_it_is() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let id = desk.start(desk.wish()).await.unwrap();
    peer.launched().await;
    let mut attending = desk.agents().attend(id, 1).await.unwrap().unwrap();
    peer.say(id, started()).await;
    let (limit, configured) = (Limit::IdleTimeout, 1800);
    peer.say(id, Event::LimitExceeded { limit, configured, reached: 1800 }).await;
    let line = see(&mut attending, |seen| match seen {
        Seen::Told(Told::Exceeded { message, .. }) => Some(message),
        _ => None,
    });
    assert_eq!(line.await, "Session ended due to inactivity (30 minutes)");
    assert_eq!(desk.view(id).await.status, Status::Ending);
}

#[tokio::test]
async fn a_start_that_its_runner_refuses_is_a_failed_session_and_gives_its_place_back() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    peer.refuses = Some("/etc is not allowed; see allow_dirs".to_owned());
    for _ in 0..4 {
        let id = desk.start(desk.wish()).await.unwrap();
        peer.refused().await;
        desk.until(async || desk.view(id).await.status == Status::Failed).await;
    }
    let nobody = AgentWish { runner: Some("nowhere".to_owned()), ..desk.wish() };
    assert!(matches!(desk.start(nobody).await, Err(Refusal::Runner(_))));
    let other = AgentWish { harness: "codex".to_owned(), ..desk.wish() };
    assert!(matches!(desk.start(other).await, Err(Refusal::Runner(_))), "none has it");
}

#[tokio::test]
async fn what_an_agent_spends_is_looked_at_from_here_as_well() {
    let desk = Desk::new().await;
    let mut peer = desk.runner("laptop").await;
    let lower = Lower { max_cost: Some(100), ..Lower::default() };
    let id = desk.start(AgentWish { lower, ..desk.wish() }).await.unwrap();
    peer.launched().await;
    peer.say(id, started()).await;
    let usage = |cost| Event::Usage(Usage { cost_micros: Some(cost), ..Usage::default() });
    let shown = |cost| {
        let agents = desk.agents();
        let cost = Some(cost);
        async move || agents.snapshot(id).and_then(|it| it.usage?.cost_micros) == cost
    };
    peer.say(id, usage(99)).await;
    desk.until(shown(99)).await;
    desk.pass(60, &mut peer).await;
    assert_eq!(desk.view(id).await.status, Status::Running);
    // It began to count anew: this is one more.
    peer.say(id, usage(1)).await;
    desk.until(shown(1)).await;
    desk.pass(20, &mut peer).await;
    let Command::End { reason, .. } = peer.asked(id).await else { panic!("no end") };
    assert_eq!(reason, EndReason::MaxCost);
    let told = desk.told(id).await;
    assert_eq!(told.iter().filter(|it| *it == "limit_exceeded").count(), 1);
}
