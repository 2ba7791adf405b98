//! Permissions, questions and rules.

use serde_json::json;
use sojourn_core::wire::relay::MAX_PROMPTS;
use sojourn_core::wire::relay::Outcome;
use sojourn_core::wire::relay::Question;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Rule;

use super::*;

const FLAVOURS: [(&str, &str, &str); 4] = [
    ("claude", "allow-once", "reject"),
    ("codex", "allow_once", "cancel"),
    ("gemini", "proceed_once", "cancel"),
    ("opencode", "once", "reject"),
];

async fn resolved(house: &House, request: RequestId) -> Outcome {
    house
        .told
        .until("the outcome", |events| {
            events.iter().find_map(|event| match event {
                Event::Resolved { request: of, outcome } if *of == request => Some(outcome.clone()),
                _ => None,
            })
        })
        .await
}

#[tokio::test]
async fn a_permission_is_given_and_denied_by_kind_with_every_agent() {
    for (flavour, once, reject) in FLAVOURS {
        let mut setup = Setup::new("perm make all").with(&["--flavour", flavour]);
        setup.harness = flavour;
        let house = setup.start().await;
        let prompt = house.told.prompts(1).await.remove(0);
        assert_eq!((prompt.tool.as_str(), prompt.kind.as_str()), ("Bash", "execute"));
        assert_eq!(prompt.details["command"], "make all");
        assert_eq!(house.agent.asks(), [prompt.request]);
        assert_eq!(house.answer(&prompt, Decision::Allow).await, Receipt::Accepted);
        house.told.turns(1).await;
        assert!(house.agent.asks().is_empty());
        house.say("m", "perm rm x").await;
        let prompt = house.told.prompts(2).await.remove(1);
        assert_eq!(house.answer(&prompt, Decision::Deny).await, Receipt::Accepted);
        house.told.turns(2).await;
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(house.options_got(), [pair("make all", once), pair("rm x", reject)]);
        assert_eq!(house.told.said(), "ran make all\ndenied rm x\n");
    }
}

#[tokio::test]
async fn flaw_08_parallel_prompts_stay_apart_in_whatever_order_they_are_answered() {
    let house = Setup::new("perm x3").start().await;
    let mut prompts = house.told.prompts(3).await;
    prompts.sort_by_key(|prompt| prompt.details["command"].to_string());
    // An answer to what one was not shown is none.
    let mut mixed = answer(&prompts[0], Decision::Allow);
    mixed.input_hash.clone_from(&prompts[1].input_hash);
    let mixed = house.agent.command(Command::Answer(Box::new(mixed))).await;
    assert_eq!(code(&mixed), "CONFLICT");
    for (prompt, decision) in
        prompts.iter().zip([Decision::Allow, Decision::Deny, Decision::Allow]).rev()
    {
        assert_eq!(house.answer(prompt, decision).await, Receipt::Accepted);
    }
    house.told.turns(1).await;
    let mut options = house.options_got();
    options.sort();
    let expected =
        [("make part1", "allow-once"), ("make part2", "reject"), ("make part3", "allow-once")];
    assert_eq!(options, expected.map(|(what, option)| (what.to_owned(), option.to_owned())));
}

#[tokio::test]
async fn case_04_of_a_hundred_answers_one_reaches_the_agent() {
    let house = Setup::new("perm").start().await;
    let prompt = house.told.prompts(1).await.remove(0);
    let answers = (0..100).map(|n| {
        let decision = if n % 2 == 0 { Decision::Allow } else { Decision::Deny };
        house.answer(&prompt, decision)
    });
    let receipts = futures_util::future::join_all(answers).await;
    let taken = receipts.iter().filter(|receipt| **receipt == Receipt::Accepted).count();
    assert_eq!(taken, 1, "{receipts:?}");
    house.told.turns(1).await;
    assert_eq!(house.options_got().len(), 1);
    let is_resolved = |event: &&Event| matches!(event, Event::Resolved { .. });
    assert_eq!(house.told.events().iter().filter(is_resolved).count(), 1);
    let mut unknown = answer(&prompt, Decision::Allow);
    unknown.request = RequestId::new();
    let unknown = house.agent.command(Command::Answer(Box::new(unknown))).await;
    assert_eq!(code(&unknown), "GONE");
}

#[tokio::test]
async fn what_the_agent_withdraws_is_withdrawn_for_everybody() {
    let house = Setup::new("perm withdraw").start().await;
    let prompt = house.told.prompts(1).await.remove(0);
    assert_eq!(resolved(&house, prompt.request).await, Outcome::Withdrawn);
    assert_eq!(code(&house.answer(&prompt, Decision::Allow).await), "CONFLICT");
    house.told.turns(1).await;
    assert_eq!(house.options_got(), [("later".to_owned(), "cancelled".to_owned())]);
}

#[tokio::test]
async fn an_interrupt_withdraws_what_is_asked() {
    let house = Setup::new("perm").start().await;
    let prompt = house.told.prompts(1).await.remove(0);
    assert_eq!(house.interrupt().await, Receipt::Accepted);
    assert_eq!(resolved(&house, prompt.request).await, Outcome::Withdrawn);
    house.told.turns(1).await;
    assert_eq!(code(&house.answer(&prompt, Decision::Allow).await), "CONFLICT");
    assert!(house.options_got().iter().all(|(_, option)| option == "cancelled"));
}

#[tokio::test]
async fn the_reason_of_a_denial_reaches_the_agent_before_anything_else() {
    let house = Setup::new("perm rm x").start().await;
    let prompt = house.told.prompts(1).await.remove(0);
    house.say("m", "say 1").await;
    let mut denied = answer(&prompt, Decision::Deny);
    denied.reason = Some("use git clean".to_owned());
    house.agent.command(Command::Answer(Box::new(denied))).await;
    house.told.turns(3).await;
    let told = "I did not allow Bash: use git clean";
    assert_eq!(house.prompts_got(), ["perm rm x", told, "say 1"]);
}

#[tokio::test]
async fn a_rule_allows_the_same_again_and_is_ours_alone() {
    for (flavour, once, _) in FLAVOURS {
        let mut setup = Setup::new("perm make all").with(&["--flavour", flavour]);
        setup.harness = flavour;
        let house = setup.start().await;
        let prompt = house.told.prompts(1).await.remove(0);
        let rule = prompt.rule.clone().unwrap();
        let mut wider = answer(&prompt, Decision::Allow);
        let kind = "execute".to_owned();
        wider.rule = Some(Rule::Below { kind, directory: "/".to_owned() });
        let wider = house.agent.command(Command::Answer(Box::new(wider))).await;
        assert_eq!(code(&wider), "INVALID", "only what was offered");
        let mut allowed = answer(&prompt, Decision::Allow);
        allowed.rule = Some(rule.clone());
        let allowed = house.agent.command(Command::Answer(Box::new(allowed))).await;
        assert_eq!(allowed, Receipt::Accepted);
        house.say("m", "perm make all").await;
        let again = house.told.prompts(2).await.remove(1);
        let by_rule = Outcome::Settled { decision: Decision::Allow, rule: Some(rule) };
        assert_eq!(resolved(&house, again.request).await, by_rule);
        house.told.turns(2).await;
        house.say("n", "perm make all; rm x").await;
        let other = house.told.prompts(3).await.remove(2);
        assert_eq!(house.agent.asks(), [other.request], "{flavour}: another command is asked");
        let options: Vec<String> =
            house.options_got().into_iter().map(|(_, option)| option).collect();
        assert_eq!(options, [once, once]);
    }
}

#[tokio::test]
async fn a_rule_for_files_holds_below_the_directory() {
    let setup = Setup::new("perm edit a.txt one");
    let cwd = Arc::clone(&setup.cwd);
    let path = |name: &str| cwd.path().canonicalize().unwrap().join(name).display().to_string();
    let mut setup = setup;
    setup.prompt = None;
    let house = setup.start().await;
    house.say("1", &format!("perm edit {} one", path("a.txt"))).await;
    let prompt = house.told.prompts(1).await.remove(0);
    assert!(prompt.diff.as_ref().unwrap().contains("+one"), "{prompt:?}");
    let Some(Rule::Below { directory, .. }) = &prompt.rule else { panic!("{prompt:?}") };
    assert_eq!(*directory, path("").trim_end_matches('/'));
    let mut allowed = answer(&prompt, Decision::Allow);
    allowed.rule.clone_from(&prompt.rule);
    house.agent.command(Command::Answer(Box::new(allowed))).await;
    house.told.turns(1).await;
    house.say("2", &format!("perm edit {} two", path("b.txt"))).await;
    house.told.turns(2).await;
    assert_eq!(fs::read_to_string(path("b.txt")).unwrap(), "two\n");
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().join("c.txt").display().to_string();
    house.say("3", &format!("perm edit {outside} three")).await;
    let asked = house.told.prompts(3).await.remove(2);
    assert_eq!(house.agent.asks(), [asked.request]);
    assert!(matches!(asked.rule, Some(Rule::Exact { .. })));
}

#[tokio::test]
async fn flaw_10_auto_allows_and_deny_denies_and_both_are_told() {
    for (mode, decision, option) in [
        (PermissionMode::Auto, Decision::Allow, "allow-once"),
        (PermissionMode::Deny, Decision::Deny, "reject"),
    ] {
        let mut setup = Setup::new("perm make");
        setup.permission_mode = mode;
        let house = setup.start().await;
        house.told.turns(1).await;
        let prompt = house.told.prompts(1).await.remove(0);
        let settled = Outcome::Settled { decision, rule: None };
        assert_eq!(resolved(&house, prompt.request).await, settled);
        assert_eq!(house.options_got(), [("make".to_owned(), option.to_owned())]);
    }
}

async fn question(house: &House) -> Question {
    house
        .told
        .until("a question", |events| {
            events.iter().find_map(|event| match event {
                Event::Question(question) => Some((**question).clone()),
                _ => None,
            })
        })
        .await
}

#[tokio::test]
async fn flaw_23_a_question_is_a_form_and_its_answer_reaches_the_agent() {
    for (decision, fields, expected) in [
        (
            Decision::Allow,
            Some(json!({"which": "red"})),
            json!({"action": "accept", "content": {"which": "red"}}),
        ),
        (Decision::Deny, None, json!({"action": "decline"})),
    ] {
        let house = Setup::new("ask").start().await;
        let question = question(&house).await;
        assert_eq!(question.question, "Which colour?");
        assert_eq!(question.schema["properties"]["which"]["enum"], json!(["red", "green"]));
        let answer = |fields: Option<Value>| {
            let fields = fields.and_then(|fields| fields.as_object().cloned());
            Command::Answer(Box::new(Answer {
                request: question.request,
                input_hash: question.input_hash.clone(),
                decision,
                rule: None,
                reason: None,
                fields,
                by: person(),
            }))
        };
        if decision == Decision::Allow {
            let wrong = house.agent.command(answer(Some(json!({"what": 1})))).await;
            assert_eq!(code(&wrong), "INVALID");
        }
        assert_eq!(house.agent.command(answer(fields)).await, Receipt::Accepted);
        house.told.turns(1).await;
        assert_eq!(house.got("answer")[0]["answer"], expected);
    }
}

#[tokio::test]
async fn what_nobody_answers_in_time_is_denied() {
    let mut setup = Setup::new("perm");
    setup.times.answer = Duration::from_millis(50);
    let house = setup.start().await;
    let prompt = house.told.prompts(1).await.remove(0);
    assert_eq!(resolved(&house, prompt.request).await, Outcome::Expired);
    house.told.turns(1).await;
    assert_eq!(house.options_got(), [("make all".to_owned(), "reject".to_owned())]);
}

#[tokio::test]
async fn there_is_an_end_to_what_can_be_asked_at_once() {
    let house = Setup::new("perm x40").start().await;
    house.told.notice("too_many_prompts").await;
    house.told.prompts(MAX_PROMPTS).await;
    assert_eq!(house.agent.asks().len(), MAX_PROMPTS);
    assert_eq!(house.interrupt().await, Receipt::Accepted);
    house.told.turns(1).await;
    assert!(house.agent.asks().is_empty());
}
