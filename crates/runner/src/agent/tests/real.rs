//! The real agents, where somebody installed them: `make test-agents`. Their model is a script.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// How an agent is started, as `scripts/test-agents` wrote it.
#[derive(serde::Deserialize)]
struct Real {
    command: Vec<String>,
    env: BTreeMap<String, String>,
}

async fn begin(harness: &str, cwd: &Path, state: &Path, resume: Option<String>) -> Option<House> {
    let Some(dir) = std::env::var_os("SOJOURN_REAL_AGENTS") else {
        eprintln!("SKIPPED: {harness}: `make test-agents` installs and runs it");
        return None;
    };
    let spec = fs::read(Path::new(&dir).join(format!("{harness}.json"))).unwrap();
    let real: Real = serde_json::from_slice(&spec).unwrap();
    let mut command = tokio::process::Command::new(&real.command[0]);
    command.args(&real.command[1..]).env_clear().envs(&real.env).current_dir(cwd);
    let (program, pid) = piped(command);
    let mut setup = Setup::new("");
    setup.harness = Box::leak(harness.to_owned().into_boxed_str());
    setup.resume = resume;
    let told = Told::new();
    let prepared =
        Prepared { cwd: cwd.to_owned(), state_dir: state.to_owned(), ..setup.prepared() };
    let agent = match start(prepared, program, Arc::clone(&told) as Arc<dyn Sink>).await {
        Ok(agent) => agent,
        Err(error) => panic!("{harness}: {error}; told: {:#?}", told.events()),
    };
    let (cwd, _state) = (Arc::clone(&setup.cwd), Arc::clone(&setup.state));
    Some(House { agent, told, log: setup.log(), pid, cwd, _state })
}

/// Prompt, streamed answer, permission denied and allowed, interrupt, kill, resume.
async fn drive(harness: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (cwd, state) = (dir.path().join("work"), dir.path().join("state"));
    fs::create_dir_all(&cwd).unwrap();
    fs::create_dir_all(&state).unwrap();
    let Some(house) = begin(harness, &cwd, &state, None).await else { return };
    let report = |what: &str| eprintln!("{harness}: {what}");
    let started = house.told.events().iter().find_map(|event| match event {
        Event::Started { agent, .. } => agent.clone(),
        _ => None,
    });
    report(&format!("started: {started:?}"));

    assert_eq!(house.say("1", "Say hello.").await, Receipt::Accepted);
    house.told.turns(1).await;
    assert!(house.told.said().contains("the scripted model answers"), "{:#?}", house.told.events());
    report("prompt and streamed answer");

    let ran = || cwd.join("tool-ran.txt").exists();
    house.say("2", "RUNTOOL please").await;
    let prompt = house.told.prompts(1).await.remove(0);
    report(&format!(
        "asks for {} {}: {:?}",
        prompt.kind,
        prompt.tool,
        prompt.details.get("command")
    ));
    assert_eq!(house.answer(&prompt, Decision::Deny).await, Receipt::Accepted);
    house.told.turns(2).await;
    assert!(!ran(), "denied, and it ran");
    report("denied: nothing ran");

    house.say("3", "RUNTOOL again").await;
    let prompt = house.told.prompts(2).await.remove(1);
    assert_eq!(house.answer(&prompt, Decision::Allow).await, Receipt::Accepted);
    house.told.turns(3).await;
    assert!(ran(), "allowed, and it did not run: {:#?}", house.told.events());
    report("allowed: it ran");

    let before = house.told.said().len();
    house.say("4", "SLOW now").await;
    house.told.until("a piece", |_| (house.told.said().len() > before).then_some(())).await;
    assert_eq!(house.interrupt().await, Receipt::Accepted);
    house.told.turns(4).await;
    assert!(house.told.events().contains(&Event::TurnCut { why: "interrupted".to_owned() }));
    report("interrupted: the turn ended, the session goes on");

    house.kill();
    house.over().await;
    if harness == "gemini" {
        // 0.61 names its files after the minute, and begins one anew that it is to load within the
        // minute in which it began it.
        let minute = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60;
        let first = minute();
        while minute() == first {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let recovery = house.agent.recovery().clone();
    let again = begin(harness, &cwd, &state, Some(recovery.agent_session_id)).await.unwrap();
    assert_eq!(again.told.said(), "", "the history is not told again");
    again.say("5", "Say hello again.").await;
    again.told.turns(1).await;
    assert!(again.told.said().contains("answers"), "{:#?}", again.told.events());
    report("killed and taken up again");
    again.close().await;
}

#[tokio::test]
async fn claude_is_driven() {
    drive("claude").await;
}

#[tokio::test]
async fn codex_is_driven() {
    drive("codex").await;
}

#[tokio::test]
async fn gemini_is_driven() {
    drive("gemini").await;
}

#[tokio::test]
async fn opencode_is_driven() {
    drive("opencode").await;
}
