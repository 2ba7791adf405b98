//! L-56 to L-58: what goes on record, what never does, and what happens without a store.

use std::process::Child;
use std::process::Stdio;

use sojourn_testkit::Ask;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::until;

use super::*;

#[test]
fn l_56_each_deed_has_its_event_with_who_where_and_which_login() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    let id = browser.get("/api/me").expect(200)["login"]["id"].clone();
    let mut other = bob(&gateway);
    browser.prove("/api/auth/reauth", &json!({"password": PASSWORD})).expect(200);
    browser.post("/api/auth/change-password", &change("not what it is now", OTHER));
    browser.post("/api/me/logins/revoke-others", &json!({})).expect(200);
    let mut late = other.copy();
    late.get("/api/me").refused(401, "SESSION_REVOKED");
    gateway.browser().sign_in("bob", "not the password of bob");
    browser.post("/api/auth/change-password", &change(PASSWORD, OTHER)).expect(200);
    let mut last = gateway.signed_in("bob", OTHER);
    last.post("/api/auth/logout", &json!({})).expect(204);
    other.csrf = None;

    for action in [
        "login_succeeded",
        "login_reauthenticated",
        "invalid_current_password",
        "login_revoked",
        "login_used_after_end",
        "login_failed",
        "password_changed_all_sessions_invalidated",
        "login_ended",
    ] {
        let line = gateway.wait_for_audit(action, |line| line["action"] == action);
        let actor = &line["actor"];
        assert_eq!(actor["type"], "browser", "{line}");
        assert_eq!(actor["user"], "bob", "{line}");
        assert_eq!(actor["ip_address"], "127.0.0.1", "{line}");
        assert!(
            actor["user_agent"].as_str().is_some_and(|agent| agent.contains("Firefox")),
            "{line}"
        );
        let at = line["timestamp"].as_str().expect("a time");
        assert!(at.ends_with('Z') && at.contains('.'), "milliseconds in UTC: {at}");
        if !matches!(action, "login_failed" | "password_changed_all_sessions_invalidated") {
            assert!(line["details"]["login"].is_string(), "{line}");
        }
    }
    let begun = recorded(&gateway, "login_succeeded", 1);
    assert_eq!(begun[0]["details"]["login"], id);
}

#[test]
fn l_57_no_secret_is_kept_anywhere_and_strange_names_are_harmless() {
    let Some(mut gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let mut secrets = vec![PASSWORD.to_owned(), OTHER.to_owned(), ADMINS.to_owned()];
    secrets.extend(browser.token().map(str::to_owned));
    secrets.extend(browser.csrf.clone());
    browser.prove("/api/auth/reauth", &json!({"password": PASSWORD})).expect(200);
    secrets.extend(browser.token().map(str::to_owned));
    let token = browser.post("/api/me/tokens", &json!({"name": "ci", "scopes": ["read"]}));
    secrets.extend(token.expect(201)["token"].as_str().map(str::to_owned));
    let link = carol(&gateway).post("/api/users/bob/reset", &json!({})).expect(200);
    secrets.extend(link["token"].as_str().map(str::to_owned));
    let wrong = "a wrong guess nobody may read 8";
    gateway.browser().sign_in("bob", wrong);
    browser.post("/api/auth/change-password", &change(wrong, OTHER));
    secrets.push(wrong.to_owned());
    let spiteful = "bob\r\nadmin\u{1b}[31m\u{202e}\u{0}";
    gateway.browser().sign_in(spiteful, wrong).refused(401, "INVALID_CREDENTIALS");
    let agent = Ask::new("GET", "/api/me").with("User-Agent", "x\u{1b}]0;y\u{7}");
    assert!(browser.send(&agent).status < 500);
    browser.post("/api/auth/change-password", &change(PASSWORD, OTHER)).expect(200);
    gateway.stop();
    let kept = everything_kept(&gateway);
    assert!(kept.len() > 5 && secrets.len() == 9, "{secrets:?}");
    for secret in &secrets {
        assert_eq!(found_in(&kept, secret), Vec::<String>::new());
    }
    assert!(!found_in(&kept, "login_failed").is_empty(), "it looks where things are kept");
    let (_, log) = kept.last().expect("the log");
    assert!(!log.contains(&0x1b) && !log.contains(&0), "no control character in the log");
    let audit = gateway.cli(&["audit", "export"]);
    assert!(!audit.contains('\u{1b}') && !audit.contains('\0'), "JSON has no control characters");
    let shown = gateway.cli(&["audit", "search", "--action", "login_failed"]);
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "people see them escaped");
}

/// Holds the write lock of the store until it is killed.
struct Locked(Child);

impl Locked {
    fn of(gateway: &Gateway) -> Self {
        const SCRIPT: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
db.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()
";
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .arg(gateway.data().join("sojourn.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut held = [0; 4];
        std::io::Read::read_exact(child.stdout.as_mut().expect("its output"), &mut held)
            .expect("the lock");
        Self(child)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _gone = self.0.wait();
    }
}

#[test]
fn l_58_without_a_store_nobody_is_let_in_and_nobody_is_taken_for_nobody() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    {
        let _locked = Locked::of(&gateway);
        let mut another = gateway.browser();
        let answer = another.sign_in("bob", PASSWORD);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(another.token(), None);
        let answer = browser.post("/api/auth/logout", &json!({}));
        assert_eq!(
            answer.status, 503,
            "a login that is not ended on disk is not ended: {answer:?}"
        );
    }
    until("the store's return", PATIENCE, || is_in(&mut browser).then_some(()));
    gateway.browser().sign_in("bob", PASSWORD).expect(200);
}
