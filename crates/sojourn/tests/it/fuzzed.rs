//! The API as a fuzzer finds it that reads our own document: every answer is one of those the document
//! names, with a body of the shape it gives, whoever asks.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Running;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

/// Where `scripts/packages` puts it.
const SCHEMATHESIS: &str = "/opt/sojourn-test/bin/schemathesis";
/// What it may find.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml");
const PASSWORD: &str = "a fuzzer has no patience";
/// A run is over by then, also a long one.
const PATIENCE: Duration = Duration::from_secs(1500);

/// Runs it as somebody who proves who they are by `auth`, lines of its configuration, with these
/// headers besides.
fn fuzz(gateway: &Gateway, who: &str, auth: &str, headers: &[String], leave_out: &[&str]) {
    let port = gateway.web_port();
    let config = fs::read_to_string(CONFIG).expect("its configuration");
    let config = gateway.scratch().file("schemathesis.toml", format!("{config}\n{auth}"));
    let examples = if std::env::var_os("SOJOURN_TEST_LONG").is_some() { "400" } else { "12" };
    let mut fuzz = Command::new(SCHEMATHESIS);
    fuzz.arg("--config-file")
        .arg(config)
        .arg("run")
        .arg(format!("http://localhost:{port}/api/openapi.json"))
        .args(["--checks", "all", "--max-examples", examples, "--seed", "1", "--no-color"])
        .args(["--suppress-health-check", "all", "--generation-database", "none"])
        .env("HOME", std::env::temp_dir())
        // It leaves notes for its next run where it is.
        .current_dir(gateway.scratch().path());
    for header in headers {
        fuzz.args(["--header", header]);
    }
    for path in leave_out {
        fuzz.args(["--exclude-path", path]);
    }
    let output = Running::new(fuzz).finish(PATIENCE);
    assert_eq!(output.code, 0, "{who}:\n{}{}", output.text(), output.err);
    assert!(output.text().contains("Fuzzing"), "{}", output.text());
}

#[test]
fn every_answer_is_in_the_document() {
    if !can_make_sandboxes() {
        return;
    }
    if !Path::new(SCHEMATHESIS).exists() {
        eprintln!("SKIPPED: no {SCHEMATHESIS}; scripts/packages test installs it");
        return;
    }
    let gateway = gateway(&Options {
        // It is to meet more than the first refusals of somebody too quick.
        limits: "starts_per_minute = 1000\nmax_concurrent_sessions = 4\n\
                 unknown_tokens_per_minute = 100000\nsign_ins_per_minute = 100000\n\
                 requests_per_minute = 100000"
            .to_owned(),
        ..Options::default()
    });
    gateway.add_user("root-of-all", "admin", PASSWORD);
    // A login first: tokens of this user do not outlive everything that is tried.
    let mut browser = gateway.signed_in("root-of-all", PASSWORD);
    let csrf = browser.get("/api/me").expect(200)["csrf_token"].clone();
    let token = browser.token().expect("a login").to_owned();
    let login = format!("[auth.openapi.login]\napi_key = \"{token}\"");
    let headers = [
        format!("X-CSRF-Token: {}", csrf.as_str().unwrap_or_default()),
        "Sec-Fetch-Site: same-origin".to_owned(),
    ];
    // What ends the login that is being used would leave the rest untried.
    let farewells = ["/api/auth/logout", "/api/auth/reauth", "/api/auth/login"];
    fuzz(&gateway, "an admin in a browser", &login, &headers, &farewells);
    let arguments = ["token", "create", "--user", "root-of-all", "--scope", "admin"];
    let token = gateway.cli(&arguments).trim().to_owned();
    let bearer = format!("[auth.openapi.token]\nbearer = \"{token}\"");
    fuzz(&gateway, "a program of an admin's", &bearer, &[], &[]);
    fuzz(&gateway, "nobody", "", &[], &[]);
    gateway.browser().get("/api/health").expect(200);
}
