//! Messages, turns, the queue, interrupts, and what is too much.

use super::*;

#[tokio::test]
async fn a_prompt_is_answered_and_everything_told_in_order() {
    let house = Setup::new("say 3").start().await;
    house.told.turns(1).await;
    assert_eq!(house.told.said(), "word 1\nword 2\nword 3\n");
    let mut order: Vec<&str> = house.told.events().iter().map(name).collect();
    // What is said closely together is told as one.
    order.dedup_by(|next, last| *next == "update" && last == next);
    let expected = [
        "step", "step", "step", "step", "step", "step", "mode", "started", "user", "status",
        "sent", "update", "ended", "status",
    ];
    assert_eq!(order, expected);
    assert_eq!(house.prompts_got(), ["say 3"]);
    let recovery = house.agent.recovery();
    assert!(recovery.can_resume && recovery.agent_session_id.starts_with("fake-"));
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Step { .. } => "step",
        Event::Mode { .. } => "mode",
        Event::Started { .. } => "started",
        Event::UserMessage { .. } => "user",
        Event::Status { .. } => "status",
        Event::Message { .. } => "sent",
        Event::Update { .. } => "update",
        Event::TurnEnded { .. } => "ended",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn messages_wait_in_a_queue_and_can_be_changed_there() {
    let house = Setup::new("hang").start().await;
    for (id, text) in [("a", "say 1"), ("b", "say 2"), ("c", "say 7")] {
        assert_eq!(house.say(id, text).await, Receipt::Accepted);
    }
    let edit = |id: &str| Command::EditMessage {
        client_msg_id: id.to_owned(),
        content: "the other b".to_owned(),
    };
    assert_eq!(house.agent.command(edit("b")).await, Receipt::Accepted);
    let cancel = Command::CancelMessage { client_msg_id: "c".to_owned() };
    assert_eq!(house.agent.command(cancel).await, Receipt::Accepted);
    assert_eq!(code(&house.agent.command(edit("x")).await), "NOT_FOUND");
    assert_eq!(house.interrupt().await, Receipt::Accepted);
    house.told.turns(3).await;
    assert_eq!(house.prompts_got(), ["hang", "say 1", "the other b"]);
    assert_eq!(code(&house.agent.command(edit("b")).await), "CONFLICT");
    for (id, state) in
        [("a", MessageState::Sent), ("b", MessageState::Sent), ("c", MessageState::Cancelled)]
    {
        house.told.nth(id, 1, |event| is_message(event, id, state)).await;
    }
}

#[tokio::test]
async fn case_02_a_message_that_comes_again_reaches_the_agent_once() {
    let house = Setup::new("say 1").start().await;
    house.told.turns(1).await;
    assert_eq!(house.say("m", "say 2").await, Receipt::Accepted);
    assert_eq!(house.say("m", "say 2").await, Receipt::Duplicate);
    house.told.turns(2).await;
    assert_eq!(house.say("m", "say 2").await, Receipt::Duplicate);
    assert_eq!(house.prompts_got(), ["say 1", "say 2"]);
    assert_eq!(code(&house.say("e", "  ").await), "INVALID");
}

#[tokio::test]
async fn flaw_21_an_interrupt_ends_the_turn_and_not_the_session() {
    let house = Setup::new("hang").start().await;
    house.told.nth("sent", 1, |event| is_message(event, "start-1", MessageState::Sent)).await;
    assert_eq!(house.interrupt().await, Receipt::Accepted);
    house.told.turns(1).await;
    let cut = Event::TurnCut { why: "interrupted".to_owned() };
    assert!(house.told.events().contains(&cut));
    assert_eq!(code(&house.interrupt().await), "CONFLICT", "nothing is under way");
    assert_eq!(house.say("m", "say 1").await, Receipt::Accepted);
    house.told.turns(2).await;
    assert_eq!(house.got("cancel").len(), 1);
    assert_eq!(house.told.said(), "word 1\n");
}

#[tokio::test]
async fn an_agent_that_ignores_an_interrupt_is_said_to_and_can_be_ended() {
    let mut setup = Setup::new("ignore-cancel");
    setup.times.interrupt = Duration::from_millis(50);
    setup.times.close = Duration::from_millis(200);
    let house = setup.start().await;
    assert_eq!(house.interrupt().await, Receipt::Accepted);
    house.told.notice("interrupt_ignored").await;
    house.close().await;
    assert!(house.told.events().contains(&Event::TurnCut { why: "ended".to_owned() }));
    assert_eq!(code(&house.say("late", "say 1").await), "GONE");
}

#[tokio::test]
async fn case_06_a_line_that_is_too_long_is_left_out_and_counted() {
    let house = Setup::new("big-line 64M").start().await;
    house.told.turns(1).await;
    let cut = |event: &Event| matches!(event, Event::Cut { .. });
    let cuts: Vec<Event> = house.told.events().into_iter().filter(cut).collect();
    let what = sojourn_core::wire::relay::Held::LongLine;
    assert_eq!(cuts, [Event::Cut { what, bytes: 64_000_000 }]);
    assert_eq!(house.told.said(), "after it\n");
    assert!(house.told.printed.load(Ordering::Relaxed) > 64_000_000);
}

#[tokio::test]
async fn lines_that_are_no_messages_are_marked_and_harmless() {
    let house = Setup::new("nonjson").start().await;
    house.told.turns(1).await;
    let is_cut = |event: &Event| {
        matches!(event, Event::Cut { what: sojourn_core::wire::relay::Held::NotJson, .. })
    };
    house.told.nth("a cut", 1, is_cut).await;
    assert_eq!(house.told.said(), "still here\n");
}

#[tokio::test]
async fn flaw_24_while_nobody_takes_events_the_agent_is_not_read() {
    let house = Setup::new("say 1").start().await;
    house.told.turns(1).await;
    house.told.forgets.store(true, Ordering::Relaxed);
    house.told.full.send_replace(true);
    // The message itself waits for room.
    let asked = house.say("m", "stream 60MB");
    tokio::pin!(asked);
    tokio::select! {
        biased;
        receipt = &mut asked => panic!("{receipt:?}: nothing is sent before it is on record"),
        () = house.told.waits(1) => {}
    }
    let before = house.told.printed.load(Ordering::Relaxed);
    house.told.full.send_replace(false);
    assert_eq!(asked.await, Receipt::Accepted);
    let reach = |bytes: u64| {
        let told = Arc::clone(&house.told);
        async move {
            while told.printed.load(Ordering::Relaxed) < before + bytes {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reach(1_000_000)).await.unwrap();
    house.told.full.send_replace(true);
    house.told.waits(2).await;
    // What is between fills up, and nothing more is read: not while another says all it has to say.
    let other = Setup::new("say 1").start().await;
    other.told.turns(1).await;
    other.told.forgets.store(true, Ordering::Relaxed);
    assert_eq!(other.say("m", "stream 60MB").await, Receipt::Accepted);
    let all = async {
        let mut count = other.told.count.subscribe();
        while other.told.printed.load(Ordering::Relaxed) < 60_000_000 {
            count.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    let stopped = house.told.printed.load(Ordering::Relaxed);
    assert!(stopped < before + 40_000_000, "{stopped}");
    house.told.full.send_replace(false);
    tokio::time::timeout(PATIENCE, reach(60_000_000)).await.unwrap();
    house.told.forgets.store(false, Ordering::Relaxed);
    assert_eq!(house.say("n", "say 1").await, Receipt::Accepted);
}

#[tokio::test]
async fn what_the_program_says_on_standard_error_is_told_escaped() {
    let house = Setup::new("stderr \u{1b}[31mred").start().await;
    // It comes in pieces, as the program writes it.
    let said = |events: &[Event]| -> String {
        let text = events.iter().filter_map(|event| match event {
            Event::Stderr { text } => Some(text.as_str()),
            _ => None,
        });
        text.collect()
    };
    let red = |events: &[Event]| (said(events) == "\\x1b[31mred\n").then_some(());
    house.told.until("standard error", red).await;
}

#[tokio::test]
async fn tokens_and_money_are_told_as_the_agent_reports_them() {
    let house = Setup::new("usage").start().await;
    house.told.turns(1).await;
    let usage = house.told.events().into_iter().find_map(|event| match event {
        Event::Usage(usage) => Some(usage),
        _ => None,
    });
    let usage = usage.unwrap();
    assert_eq!(usage.cost_micros, Some(12_300));
    assert_eq!((usage.context_used, usage.context_size), (Some(1000), Some(200_000)));
}
