//! What is left when an agent dies, or is told to go.

use sojourn_core::wire::relay::Outcome;

use super::*;

#[tokio::test]
async fn case_05_an_agent_that_dies_while_it_asks_leaves_nothing_that_can_be_answered() {
    let house = Setup::new("die 137 mid-perm").start().await;
    let prompt = house.told.prompts(1).await.remove(0);
    house.say("m", "say 1").await;
    house.over().await;
    let events = house.told.events();
    let lost = Event::Resolved { request: prompt.request, outcome: Outcome::Lost };
    assert!(events.contains(&lost), "{events:#?}");
    assert!(events.contains(&Event::TurnCut { why: "agent_died".to_owned() }));
    assert!(!events.iter().any(|event| matches!(event, Event::TurnEnded { .. })));
    assert_eq!(code(&house.answer(&prompt, Decision::Allow).await), "GONE");
    assert!(house.agent.asks().is_empty());
    assert!(house.options_got().is_empty(), "nothing was allowed");
}

#[tokio::test]
async fn case_05_after_a_kill_the_conversation_is_taken_up_and_nothing_is_asked_again() {
    let setup = Setup::new("perm");
    let state = Arc::clone(&setup.state);
    let house = setup.start().await;
    let prompt = house.told.prompts(1).await.remove(0);
    house.kill();
    house.over().await;
    let mut again = Setup::new("perm");
    again.state = Arc::clone(&state);
    again.resume = Some(house.agent.recovery().agent_session_id.clone());
    let again = again.start().await;
    let next = again.told.prompts(1).await.remove(0);
    assert_ne!(next.request, prompt.request, "the agent's numbers begin again, ours do not");
    assert_eq!(next.input_hash, prompt.input_hash, "and it is the same question");
    assert_eq!(code(&again.answer(&prompt, Decision::Allow).await), "GONE");
    assert_eq!(again.answer(&next, Decision::Deny).await, Receipt::Accepted);
    again.told.turns(1).await;
    assert_eq!(again.told.said(), "denied make all\n");
}

#[tokio::test]
async fn what_waited_in_the_queue_of_an_agent_that_died_is_refused() {
    let house = Setup::new("hang").start().await;
    house.say("m", "say 1").await;
    house.reached(1).await;
    house.kill();
    house.over().await;
    house.told.nth("refused", 1, |event| is_message(event, "m", MessageState::Refused)).await;
    assert_eq!(house.prompts_got(), ["hang"]);
    assert_eq!(code(&house.say("n", "say 1").await), "GONE");
}

#[tokio::test]
async fn case_10_the_end_is_seen_although_something_holds_the_output_open() {
    let house = Setup::new("fork-setsid").start().await;
    house.told.turns(1).await;
    house.kill();
    house.over().await;
    // Ours to clean up: the tree is somebody else's in the product.
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let log = format!("FAKE_AGENT_LOG={}", house.log.display());
        let ours = fs::read(entry.path().join("environ"))
            .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == log.as_bytes()));
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid.filter(|_| ours).and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[tokio::test]
async fn an_agent_is_left_politely() {
    let house = Setup::new("perm").start().await;
    let prompt = house.told.prompts(1).await.remove(0);
    house.close().await;
    let lost = Event::Resolved { request: prompt.request, outcome: Outcome::Lost };
    assert!(house.told.events().contains(&lost));
    assert!(house.told.events().contains(&Event::TurnCut { why: "ended".to_owned() }));
    assert_eq!((house.got("cancel").len(), house.got("session/close").len()), (1, 1));
    let eof = async {
        while house.got("eof").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, eof).await.expect("its input ends");
    assert!(house.options_got().iter().all(|(_, option)| option == "cancelled"));
}

#[tokio::test]
async fn a_full_spool_keeps_no_session_from_its_end() {
    let mut setup = Setup::new("say 1");
    setup.times.close = Duration::from_millis(100);
    let house = setup.start().await;
    house.told.turns(1).await;
    house.told.full.send_replace(true);
    let stuck = house.say("m", "say 1");
    let closing = async {
        // Until the message waits for room.
        while house.told.full.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        house.close().await;
    };
    let (receipt, ()) = tokio::join!(stuck, closing);
    assert_eq!(code(&receipt), "GONE");
    assert_eq!(house.prompts_got(), ["say 1"]);
}
