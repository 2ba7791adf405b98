//! What a runner does in a session.

use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Step;
use sojourn_core::wire::relay::StepState;
use sojourn_core::wire::shim::WindowSize;

use super::gateway::order;
use super::*;

fn code(receipt: &Receipt) -> &str {
    match receipt {
        Receipt::Rejected { code, .. } => code,
        Receipt::Accepted => "accepted",
        Receipt::Duplicate => "duplicate",
    }
}

fn reason(event: Option<&Event>) -> Option<EndReason> {
    match event {
        Some(Event::Ended { reason, .. }) => Some(*reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_shell_is_started_typed_into_resized_and_ends_with_its_status() {
    let house = house();
    let mut gateway = Gateway::open().await;
    let runner = Runner::start(options(&gateway, house.path()));
    let mut link = gateway.accept().await;
    let work = std::fs::canonicalize(house.path().join("work")).unwrap();
    assert_eq!(link.hello.directories, [work.to_str().unwrap()]);
    assert!(link.hello.harnesses.iter().any(|found| found.name == "shell" && found.available));
    let session = SessionId::new();
    let size = WindowSize { cols: 100, rows: 30, ..WindowSize::default() };
    let begin = Command::Start(Box::new(Launch { size: Some(size), ..launch("shell") }));
    assert_eq!(gateway.command(&mut link, session, begin).await, Receipt::Accepted);
    link.type_in(session, "pwd; stty size; echo $SOJOURN_USER-$((6*7))\n").await;
    let shows = |gateway: &Gateway| gateway.shows(session, "alice-42");
    gateway.until(&mut link, "its answer", shows).await;
    assert!(gateway.shows(session, work.to_str().unwrap()) && gateway.shows(session, "30 100"));
    let size = WindowSize { cols: 90, rows: 20, ..size };
    let resized = gateway.command(&mut link, session, Command::Resize { size }).await;
    assert_eq!(resized, Receipt::Accepted);
    link.type_in(session, "stty size; exit 7\n").await;
    gateway.until_ended(&mut link, session).await;
    assert!(gateway.shows(session, "20 90"));
    let log = gateway.log(session).unwrap();
    let output_bytes = log.bytes.len() as u64;
    let ended = Event::Ended {
        reason: EndReason::Exited,
        exit: Some(Exit::Code(7)),
        output_bytes,
        message: None,
        recovery: None,
    };
    assert_eq!(log.told().last(), Some(&&ended));
    assert!(log.told().contains(&&Event::Resized { cols: 90, rows: 20 }));
    assert!(log.told().contains(&&Event::Started { agent: None, recovery: None }));
    assert!(is_gone(session));
    runner.stop().await.unwrap();
}

#[tokio::test]
async fn flaw_06_what_is_not_allowed_is_refused_with_what_to_do() {
    let house = house();
    let mut gateway = Gateway::open().await;
    let runner = Runner::start(options(&gateway, house.path()));
    let mut link = gateway.accept().await;
    let session = SessionId::new();
    let elsewhere = Launch { cwd: Some("/etc".to_owned()), ..launch("shell") };
    let begin = Command::Start(Box::new(elsewhere));
    assert_eq!(gateway.command(&mut link, session, begin).await, Receipt::Accepted);
    gateway.until_ended(&mut link, session).await;
    let log = gateway.log(session).unwrap();
    assert_eq!(reason(log.ended()), Some(EndReason::Failed));
    let failed = log.told().into_iter().find_map(|event| match event {
        Event::Step { step: Step::Directory, state: StepState::Failed, message } => message.clone(),
        _ => None,
    });
    assert!(failed.unwrap().starts_with("/etc is not allowed on this runner; allowed is"));
    let none = Command::Start(Box::new(launch("claude")));
    assert_eq!(code(&gateway.command(&mut link, SessionId::new(), none).await), "INVALID");
    runner.stop().await.unwrap();
}

#[tokio::test]
async fn of_twenty_starts_at_once_three_get_a_slot_and_an_end_gives_one_back() {
    let house = house();
    let mut gateway = Gateway::open().await;
    let runner = Runner::start(options(&gateway, house.path()));
    let mut link = gateway.accept().await;
    let orders: Vec<_> = (0..20).map(|_| (CommandId::new(), SessionId::new())).collect();
    for (command, session) in &orders {
        link.say(&order(*command, *session, start("silent"))).await;
    }
    gateway.until(&mut link, "all receipts", |gateway| gateway.receipts.len() == 20).await;
    let accepted: Vec<_> = orders
        .iter()
        .filter(|(command, _)| gateway.receipt(*command) == Some(Receipt::Accepted))
        .map(|(_, session)| *session)
        .collect();
    assert_eq!(accepted.len(), 3);
    let refused = gateway.receipts.iter().filter(|(_, it)| code(it) == "LIMIT_REACHED").count();
    assert_eq!(refused, 17);
    let end = Command::End { reason: EndReason::EndedBy, by: None, why: None };
    assert_eq!(gateway.command(&mut link, accepted[0], end).await, Receipt::Accepted);
    gateway.until_ended(&mut link, accepted[0]).await;
    assert!(is_gone(accepted[0]), "also what ignores every signal in a session of its own");
    let again = gateway.command(&mut link, SessionId::new(), start("silent")).await;
    assert_eq!(again, Receipt::Accepted);
    runner.stop().await.unwrap();
    assert!(accepted.iter().all(|session| is_gone(*session)), "case 10: the runner is stopped");
}

#[tokio::test]
async fn case_06_a_flood_ends_once_at_its_limit() {
    let house = house();
    let mut gateway = Gateway::open().await;
    let runner = Runner::start(options(&gateway, house.path()));
    let mut link = gateway.accept().await;
    let session = SessionId::new();
    let limits = Limits { max_output: Some(3 << 20), ..launch("flood").limits };
    let flood = Command::Start(Box::new(Launch { limits, ..launch("flood") }));
    assert_eq!(gateway.command(&mut link, session, flood).await, Receipt::Accepted);
    gateway.until_ended(&mut link, session).await;
    let log = gateway.log(session).unwrap();
    assert_eq!(reason(log.ended()), Some(EndReason::MaxOutput));
    let exceeded: Vec<_> = log
        .told()
        .into_iter()
        .filter(|event| matches!(event, Event::LimitExceeded { limit: Limit::MaxOutput, .. }))
        .collect();
    assert_eq!(exceeded.len(), 1);
    let most = (3 << 20) + (64 << 10);
    assert!(log.bytes.len() <= most, "{} bytes", log.bytes.len());
    runner.stop().await.unwrap();
}

#[tokio::test]
async fn a_full_spool_makes_the_program_wait_and_nothing_is_missing() {
    let house = house();
    let mut gateway = Gateway::open().await;
    gateway.acknowledges = false;
    let runner = Runner::start(Options { spool: 2 << 20, ..options(&gateway, house.path()) });
    let mut link = gateway.accept().await;
    let session = SessionId::new();
    let limits = Limits { max_output: Some(8 << 20), ..launch("flood").limits };
    let flood = Command::Start(Box::new(Launch { limits, ..launch("flood") }));
    gateway.command(&mut link, session, flood).await;
    let window = 1 << 20;
    let filled =
        |gateway: &Gateway| gateway.log(session).is_some_and(|log| log.bytes.len() >= window);
    gateway.until(&mut link, "a window full", filled).await;
    let kept = house.path().join("state");
    let size = || -> u64 {
        let mut look_at = vec![kept.clone()];
        let mut sum = 0;
        while let Some(directory) = look_at.pop() {
            for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
                match entry.metadata().unwrap() {
                    about if about.is_dir() => look_at.push(entry.path()),
                    about => sum += about.len(),
                }
            }
        }
        sum
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    while size() < (2 << 20) - (64 << 10) {
        assert!(std::time::Instant::now() < deadline, "{} bytes are kept", size());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(size() < (2 << 20) + (256 << 10), "{} bytes are kept", size());
    gateway.acknowledges = true;
    drop(link);
    let mut link = gateway.accept().await;
    gateway.until_ended(&mut link, session).await;
    let log = gateway.log(session).unwrap();
    assert!(log.bytes.len() > 7 << 20, "{}", log.bytes.len());
    let line = b"something to fill it with\r\n";
    let expected = line.iter().cycle().take(log.bytes.len());
    assert!(log.bytes.iter().eq(expected), "nothing is missing and nothing is twice");
    runner.stop().await.unwrap();
}
