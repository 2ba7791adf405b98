//! Starts, their steps and their errors; resuming.

use sojourn_core::wire::relay::Step;
use sojourn_core::wire::relay::StepState;

use super::*;

/// The step that failed.
fn failed(events: &[Event]) -> (Step, String) {
    let last = events.iter().rev().find_map(|event| match event {
        Event::Step { step, state: StepState::Failed, message } => {
            Some((*step, message.clone().unwrap_or_default()))
        }
        _ => None,
    });
    last.unwrap_or_else(|| panic!("{events:#?}"))
}

#[tokio::test]
async fn an_agent_that_ends_at_once_says_why() {
    let (error, events) = Setup::new("say 1").with(&["--die-at-start", "3"]).fail().await;
    let (step, message) = failed(&events);
    assert_eq!((step, message.as_str()), (Step::Initialize, error.0.as_str()));
    assert!(message.contains("exit status 3"), "{message}");
    let told = events
        .iter()
        .any(|event| matches!(event, Event::Stderr { text } if text.contains("model")));
    assert!(told, "{events:#?}");
}

#[tokio::test]
async fn flaw_12_an_agent_that_says_nothing_has_so_much_time() {
    let mut setup = Setup::new("say 1").with(&["--silent"]);
    setup.times.initialize = Duration::from_millis(100);
    let (error, events) = setup.fail().await;
    assert_eq!(failed(&events).0, Step::Initialize);
    assert!(error.0.contains("did not answer"), "{error}");
}

#[tokio::test]
async fn an_agent_that_takes_its_time_is_waited_for() {
    let house = Setup::new("say 1").with(&["--slow-start", "0.5"]).start().await;
    house.told.turns(1).await;
}

#[tokio::test]
async fn who_is_not_signed_in_is_told_to() {
    let (error, events) = Setup::new("say 1").with(&["--sign-in"]).fail().await;
    assert_eq!(failed(&events).0, Step::Conversation);
    assert!(error.0.contains("sign in"), "{error}");
}

#[tokio::test]
async fn the_mode_is_set_by_name_with_every_agent() {
    for (flavour, mode) in [
        ("claude", "default"),
        ("codex", "read-only"),
        ("gemini", "default"),
        ("opencode", "build"),
    ] {
        let mut setup = Setup::new("say 1").with(&["--flavour", flavour]);
        setup.harness = flavour;
        let house = setup.start().await;
        assert_eq!(house.got("session/set_mode")[0]["params"]["modeId"], mode);
        let set = Event::Mode { mode: mode.to_owned(), by_agent: false };
        assert!(house.told.events().contains(&set));
    }
    let house = Setup::new("say 1").with(&["--config-modes"]).start().await;
    let set = house.got("session/set_config_option");
    assert_eq!(
        (&set[0]["params"]["configId"], &set[0]["params"]["value"]),
        (&"mode".into(), &"default".into())
    );
    let mut setup = Setup::new("say 1");
    setup.mode = Some("bypassPermissions");
    let (error, events) = setup.fail().await;
    assert_eq!(failed(&events).0, Step::Mode);
    assert!(error.0.contains("never asks"), "{error}");
}

#[tokio::test]
async fn we_offer_no_files_and_no_terminals_and_fill_in_forms() {
    let house = Setup::new("say 1").start().await;
    let can = house.got("initialize")[0]["capabilities"].clone();
    for offered in ["/fs/readTextFile", "/fs/writeTextFile", "/terminal"] {
        assert_ne!(can.pointer(offered), Some(&true.into()), "{offered}");
    }
    assert!(can["elicitation"]["form"].is_object(), "{can}");
    let cwd = house.cwd.path().canonicalize().unwrap();
    assert_eq!(house.got("session/new")[0]["params"]["cwd"], cwd.to_str().unwrap());
}

#[tokio::test]
async fn a_conversation_is_taken_up_the_way_the_agent_can() {
    for (arguments, method) in [
        (&[][..], "session/resume"),
        (&["--null-results"], "session/resume"),
        (&["--no-resume"], "session/load"),
        (&["--no-resume", "--null-results", "--replay"], "session/load"),
    ] {
        let mut setup = Setup::new("say 1").with(arguments);
        setup.resume = Some("old-1".to_owned());
        let house = setup.start().await;
        house.told.turns(1).await;
        assert_eq!(house.got(method)[0]["params"]["sessionId"], "old-1");
        assert!(house.got("session/new").is_empty());
        // What was said before is on our record: told again, it is dropped.
        assert_eq!(house.told.said(), "word 1\n", "{arguments:?}");
        assert_eq!(house.agent.recovery().agent_session_id, "old-1");
    }
}

#[tokio::test]
async fn a_history_that_is_told_after_it_was_loaded_is_dropped_too() {
    let mut setup = Setup::new("").with(&["--no-resume", "--replay-late"]);
    setup.resume = Some("old-1".to_owned());
    let house = setup.start().await;
    // What is about now is told, and comes after it.
    house.told.nth("what follows it", 1, |event| matches!(event, Event::Update { .. })).await;
    house.say("m", "say 1").await;
    house.told.turns(1).await;
    assert_eq!(house.told.said(), "word 1\n");
}

#[tokio::test]
async fn a_conversation_that_cannot_be_taken_up_is_an_error_that_says_so() {
    let mut setup = Setup::new("say 1").with(&["--no-resume", "--no-load"]);
    setup.resume = Some("old-1".to_owned());
    let (error, _) = setup.fail().await;
    assert!(error.0.contains("cannot take up a conversation"), "{error}");
    let mut setup = Setup::new("say 1");
    setup.resume = Some("unknown".to_owned());
    let (error, events) = setup.fail().await;
    assert_eq!(failed(&events).0, Step::Conversation);
    assert!(error.0.contains("start a new session"), "{error}");
}

#[tokio::test]
async fn flaw_20_one_conversation_has_one_agent_and_nothing_empty_is_said() {
    let mut setup = Setup::new("");
    setup.resume = Some("old-1".to_owned());
    let state = Arc::clone(&setup.state);
    let house = setup.start().await;
    house
        .told
        .nth("waiting", 1, |event| matches!(event, Event::Status { status: Status::Waiting }))
        .await;
    assert!(house.prompts_got().is_empty(), "an empty prompt is none");
    let second = || {
        let mut second = Setup::new("say 1");
        second.resume = Some("old-1".to_owned());
        second.state = Arc::clone(&state);
        second
    };
    let (error, events) = second().fail().await;
    assert_eq!(failed(&events).0, Step::Conversation);
    assert!(error.0.contains("in use"), "{error}");
    house.close().await;
    second().start().await.told.turns(1).await;
}
