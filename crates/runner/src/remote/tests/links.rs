//! What becomes of connections, and what they have no influence on.

use sojourn_core::end::EndReason;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::ToRunner;

use super::gateway::Connection;
use super::gateway::order;
use super::*;

#[tokio::test]
async fn case_02_a_link_that_is_cut_after_every_frame_loses_and_doubles_nothing() {
    for k in [1, 2, 3, 5, 8, 13] {
        let house = house();
        let mut gateway = Gateway::open().await;
        let runner = Runner::start(options(&gateway, house.path()));
        let mut link = gateway.accept().await;
        let (session, command) = (SessionId::new(), CommandId::new());
        link.say(&order(command, session, start("lines"))).await;
        let mut frames = 0;
        let mut cuts = 0;
        while gateway.log(session).is_none_or(|log| log.ended().is_none()) {
            if !gateway.take(&mut link).await || frames % k == k - 1 {
                drop(link);
                link = gateway.accept().await;
                cuts += 1;
                // Nobody knows whether it arrived: it comes again.
                link.say(&order(command, session, start("lines"))).await;
            }
            frames += 1;
        }
        let log = gateway.log(session).unwrap();
        let expected: String = (1..=3000).map(|i| format!("line {i}\r\n")).collect();
        assert!(log.text() == expected, "k={k}, {cuts} cuts: {} bytes", log.bytes.len());
        let starts = log.told().iter().filter(|it| matches!(it, Event::Started { .. })).count();
        assert_eq!(starts, 1, "k={k}");
        runner.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_command_that_comes_again_is_told_to_be_a_duplicate() {
    let house = house();
    let mut gateway = Gateway::open().await;
    let runner = Runner::start(options(&gateway, house.path()));
    let mut link = gateway.accept().await;
    let (session, command) = (SessionId::new(), CommandId::new());
    for _ in 0..3 {
        link.say(&order(command, session, start("silent"))).await;
    }
    gateway.until(&mut link, "three receipts", |gateway| gateway.receipts.len() == 3).await;
    let outcomes: Vec<_> = gateway.receipts.iter().map(|(_, outcome)| outcome.clone()).collect();
    assert_eq!(outcomes, [Receipt::Accepted, Receipt::Duplicate, Receipt::Duplicate]);
    runner.stop().await.unwrap();
}

/// Reads nothing and says nothing, and hangs up neither.
async fn next_after_silence(gateway: &mut Gateway, silent: Connection) -> Connection {
    let next = gateway.accept().await;
    drop(silent);
    next
}

#[tokio::test]
async fn case_07_a_gateway_of_which_nothing_is_heard_is_dialled_again() {
    let house = house();
    let mut gateway = Gateway::open().await;
    let runner = Runner::start(options(&gateway, house.path()));
    let silent = gateway.accept().await;
    let link = next_after_silence(&mut gateway, silent).await;
    next_after_silence(&mut gateway, link).await;
    runner.stop().await.unwrap();
}

#[tokio::test]
async fn limits_hold_while_no_gateway_is_there() {
    let house = house();
    let mut gateway = Gateway::open().await;
    let runner = Runner::start(options(&gateway, house.path()));
    let mut link = gateway.accept().await;
    let session = SessionId::new();
    let limits = Limits {
        max_runtime: Some(Duration::from_millis(400)),
        warn_before: Duration::from_millis(100),
        ..launch("silent").limits
    };
    let begin = Command::Start(Box::new(Launch { limits, ..launch("silent") }));
    assert_eq!(gateway.command(&mut link, session, begin).await, Receipt::Accepted);
    let lives = |gateway: &Gateway| {
        gateway.log(session).is_some_and(|log| {
            log.told().iter().any(|event| matches!(event, Event::Started { .. }))
        })
    };
    gateway.until(&mut link, "the start", lives).await;
    drop(link);
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_gone(session) {
        assert!(std::time::Instant::now() < deadline, "it lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut link = gateway.accept().await;
    gateway.until_ended(&mut link, session).await;
    let log = gateway.log(session).unwrap();
    let names: Vec<_> = log
        .told()
        .iter()
        .filter_map(|event| match event {
            Event::LimitWarned { .. } => Some("warned"),
            Event::LimitExceeded { .. } => Some("exceeded"),
            Event::Ended { reason: EndReason::MaxRuntime, .. } => Some("ended"),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["warned", "exceeded", "ended"]);
    runner.stop().await.unwrap();
}

#[tokio::test]
async fn a_session_that_the_gateway_does_not_know_is_ended_and_forgotten() {
    let house = house();
    let mut gateway = Gateway::open().await;
    let runner = Runner::start(options(&gateway, house.path()));
    let mut link = gateway.accept().await;
    let session = SessionId::new();
    gateway.command(&mut link, session, start("silent")).await;
    drop(link);
    gateway.disowned.push(session);
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let link = gateway.accept().await;
        if link.hello.sessions.is_empty() && is_gone(session) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{:?}", link.hello.sessions);
    }
    runner.stop().await.unwrap();
}

#[tokio::test]
async fn who_is_refused_for_good_does_not_come_again_and_ends_its_sessions() {
    let house = house();
    let mut gateway = Gateway::open().await;
    let runner = Runner::start(options(&gateway, house.path()));
    let mut link = gateway.accept().await;
    let session = SessionId::new();
    gateway.command(&mut link, session, start("silent")).await;
    let refused = |for_good| ToRunner::Refused {
        code: "revoked".to_owned(),
        message: "the token was revoked".to_owned(),
        for_good,
    };
    link.say(&refused(false)).await;
    let mut link = gateway.accept().await;
    link.say(&refused(true)).await;
    let error = tokio::time::timeout(PATIENCE, runner.task).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the token was revoked");
    assert!(is_gone(session));
}
