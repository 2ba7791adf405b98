//! What the program that this one follows promised, held to the letter.

use std::sync::Barrier;

use super::*;

#[test]
fn a_login_ends_after_thirty_minutes_and_that_is_recorded_once() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let browser = bob(&gateway);
    clock.advance("30m");
    let barrier = Barrier::new(20);
    let outcomes: Vec<(u16, String)> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let (mut copy, barrier) = (browser.copy(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    copy.get("/api/me").outcome()
                })
            })
            .collect();
        asking.into_iter().map(|asking| asking.join().expect("an answer")).collect()
    });
    assert!(outcomes.iter().all(|outcome| *outcome == (401, "SESSION_EXPIRED".to_owned())));
    gateway.wait_for_audit("its end", |line| line["action"] == "session_expired_inactivity");
    clock.advance("5m");
    browser.copy().get("/api/me").refused(401, "SESSION_EXPIRED");
    assert_eq!(recorded(&gateway, "session_expired_inactivity", 1).len(), 1);
}

#[test]
fn a_password_change_is_on_record_as_the_original_named_it() {
    let Some(gateway) = house() else { return };
    let mut browsers = [bob(&gateway), bob(&gateway), bob(&gateway)];
    browsers[0].post("/api/auth/change-password", &change(PASSWORD, OTHER)).expect(200);
    let lines = recorded(&gateway, "password_changed_all_sessions_invalidated", 1);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["actor"]["user"], "bob");
    assert_eq!(lines[0]["actor"]["ip_address"], "127.0.0.1");
    assert_eq!(lines[0]["details"]["logins_ended"], 3, "{}", lines[0]);
}

#[test]
fn the_log_of_a_day_with_logins_is_whole() {
    let Some(mut gateway) = house() else { return };
    let mut browser = bob(&gateway);
    browser.prove("/api/auth/reauth", &json!({"password": PASSWORD})).expect(200);
    browser.post("/api/auth/logout", &json!({})).expect(204);
    gateway.browser().sign_in("bob", "not the password at all");
    gateway.wait_for_audit("the refusal", |line| line["action"] == "login_failed");
    assert_eq!(
        story(&gateway),
        ["login_succeeded", "login_reauthenticated", "login_ended", "login_failed"]
    );
    gateway.stop();
    assert_eq!(gateway.cli(&["verify"]), "");
}
