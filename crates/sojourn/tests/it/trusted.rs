//! A gateway with a certificate of its own making: who is given it trusts it, and nobody else does.

use std::process::Command;

use serde_json::Value;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Runner;
use sojourn_testkit::until;

use crate::gateway;

const SOJOURN: &str = env!("CARGO_BIN_EXE_sojourn");

#[test]
fn a_runner_and_the_command_trust_a_gateway_by_the_authority_they_are_given() {
    let web = "tls_self_signed = true".to_owned();
    let gateway = gateway(&Options { web, ..Options::default() });
    let port = gateway.web_port();
    let url = format!("https://localhost:{port}");
    let authority = gateway.data().join("keys/web-self-signed.pem");
    let made = gateway.cli(&["token", "create", "--runner", "laptop", "--owner", "alice"]);
    let mut runner = Runner::new(SOJOURN, port, made.trim());
    runner.url = Some(url.clone());
    runner.launch();
    until("a refusal that says what to do", PATIENCE, || {
        let log = runner.log();
        (log.contains("certificate is not trusted") && log.contains("SOJOURN_CA")).then_some(())
    });
    runner.stop();
    runner.authorities = Some(authority.clone());
    runner.launch();
    let listed = || -> Value {
        serde_json::from_str(&gateway.cli(&["runners", "ls", "--json"])).expect("JSON")
    };
    until(&format!("the runner: {}", runner.log()), PATIENCE, || {
        (listed()["items"][0]["connected"] == true).then_some(())
    });

    let token = gateway.cli(&["token", "create", "--user", "alice", "--scope", "sessions"]);
    let sojourn = || {
        let mut command = Command::new(SOJOURN);
        command.env("SOJOURN_URL", &url).env("SOJOURN_TOKEN", token.trim());
        command.args(["session", "ls", "--json"]);
        command
    };
    let trusting = sojourn().env("SOJOURN_CA", &authority).output().expect("the command");
    assert_eq!(trusting.status.code(), Some(0), "{trusting:?}");
    let sessions: Value = serde_json::from_slice(&trusting.stdout).expect("JSON");
    assert_eq!(sessions["items"], Value::Array(Vec::new()));
    let strange = sojourn().env_remove("SOJOURN_CA").output().expect("the command");
    let told = String::from_utf8_lossy(&strange.stderr).into_owned();
    assert_eq!(strange.status.code(), Some(3), "{told}");
    assert!(told.contains("SOJOURN_CA") && told.lines().count() == 1, "{told}");
    let missing = sojourn().env("SOJOURN_CA", "/nowhere.pem").output().expect("the command");
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
}
