//! SIGHUP: the configuration is read again, all or nothing.

use std::fs;

use serde_json::json;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::until;

#[test]
fn what_can_change_does_and_what_cannot_is_named() {
    let gateway = super::gateway();
    let file = gateway.scratch().path().join("sojourn.toml");
    let before = fs::read_to_string(&file).expect("the configuration");
    let reloads = || {
        let lines = gateway.audit().into_iter();
        lines.filter(|line| line["action"] == "config_reloaded").collect::<Vec<_>>()
    };
    let reload = |text: &str| {
        let had = reloads().len();
        fs::write(&file, text).expect("the configuration");
        super::hang_up(&gateway);
        until("a reload", PATIENCE, || reloads().into_iter().nth(had))["details"].clone()
    };

    let changed = before
        .replace("max_sessions_per_user = 64", "max_sessions_per_user = 1")
        .replace("level = \"info\"", "level = \"debug\"")
        .replace("[limits]", "[limits]\ngrace = \"9s\"");
    let told = reload(&changed);
    assert_eq!(told["applied"], json!(["limits.max_sessions_per_user", "log.level"]), "{told}");
    assert_eq!(told["waiting"], json!(["limits.grace"]), "{told}");
    let line = gateway.wait_for_log("a reload", |line| line["event"] == "config_reloaded");
    let message = line["message"].as_str().unwrap_or_default();
    assert!(message.contains("needs a restart: limits.grace"), "{line}");

    let mut first = gateway.alice().start(&["cat"]);
    until("a session", PATIENCE, || (!gateway.sessions().is_empty()).then_some(()));
    let refused = gateway.alice().run("true");
    assert_eq!(refused.code, 75, "{refused:?}");

    let told = reload(&changed.replace("grace = \"9s\"", "grace = \"soon\""));
    assert_eq!(told["refused"], true, "{told}");
    assert!(told["why"].as_str().is_some_and(|why| why.contains("limits.grace")), "{told}");
    let keys = ["login.least_password_score", "login.ssh_key_needs_totp"];
    let more = "\n[login]\nleast_password_score = 3\nssh_key_needs_totp = true\n";
    let told = reload(&format!("{before}{more}"));
    for key in keys {
        let applied = told["applied"].as_array().expect("a list");
        assert!(applied.contains(&json!(key)), "{told}");
    }
    let told = reload(&before);
    assert_eq!(told["waiting"], json!([]), "{told}");
    first.kill();
    assert_eq!(gateway.alice().run("true").code, 0);
}
