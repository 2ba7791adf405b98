//! L-14 to L-21: how long a login lasts, to the millisecond, and who is told beforehand.

use sojourn_testkit::Ask;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::until;

use super::*;

fn expired(browser: &mut Browser) -> String {
    let told = browser.get("/api/me").refused(401, "SESSION_EXPIRED");
    told["reason"].as_str().unwrap_or_default().to_owned()
}

fn deadlines(browser: &mut Browser) -> (String, String, String) {
    let told = browser.get("/api/me/login").expect(200);
    let text = |name: &str| told[name].as_str().expect("a time").to_owned();
    (text("now"), text("idle_expires_at"), text("lifetime_expires_at"))
}

#[test]
fn l_14_idle_ends_at_thirty_minutes() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    clock.advance("29m59s999ms");
    assert!(is_in(&mut browser), "a millisecond is left");
    clock.advance("1ms");
    assert_eq!(expired(&mut browser), "inactivity");
}

#[test]
fn l_14_activity_moves_the_idle_end() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    clock.advance("29m59s999ms");
    browser.get("/api/me/logins").expect(200);
    clock.advance("29m59s999ms");
    assert!(is_in(&mut browser));
    clock.advance("1ms");
    assert_eq!(expired(&mut browser), "inactivity");
}

#[test]
fn l_15_nothing_moves_the_end_after_seven_days() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    for (name, password) in [("bob", PASSWORD), ("carol", ADMINS)] {
        let mut browser = gateway.signed_in(name, password);
        // 7 d = 504 × 20 min; the last step ends a millisecond early.
        for _ in 0..503 {
            clock.advance("20m");
            browser.get("/api/me/logins").expect(200);
        }
        clock.advance("19m59s999ms");
        browser.get("/api/me/logins").expect(200);
        clock.advance("1ms");
        assert_eq!(expired(&mut browser), "lifetime", "{name}");
    }
}

#[test]
fn l_15_presets_are_shorter() {
    for (preset, idle, lifetime) in [("aal2", "30m", "23h"), ("aal3", "15m", "11h")] {
        let more = format!("[login]\npreset = \"{preset}\"\n");
        let Some(gateway) = house_with(Options { more, ..Options::default() }) else { return };
        let clock = gateway.clock();
        clock.hold();
        let mut browser = bob(&gateway);
        let (now, idle_end, lifetime_end) = deadlines(&mut browser);
        assert!(now < idle_end && idle_end < lifetime_end);
        clock.advance(idle);
        assert_eq!(expired(&mut browser), "inactivity", "{preset}");
        let mut browser = bob(&gateway);
        let hours: u32 = lifetime.trim_end_matches('h').parse().expect("hours");
        for _ in 0..hours * 6 {
            clock.advance("10m");
            browser.get("/api/me/logins").expect(200);
        }
        for _ in 0..6 {
            clock.advance("9m59s");
            assert!(browser.get("/api/me/logins").status == 200, "{preset}");
        }
        clock.advance("6s");
        assert_eq!(expired(&mut browser), "lifetime", "{preset}");
    }
}

#[test]
fn l_16_what_a_page_asks_by_itself_is_no_activity() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    for minute in 0..30 {
        assert!(is_in(&mut browser), "minute {minute}");
        browser.get("/api/health").expect(200);
        assert!(browser.get("/").status < 500);
        clock.advance("1m");
    }
    assert_eq!(expired(&mut browser), "inactivity");
}

#[test]
fn l_17_a_clock_that_is_set_back_moves_no_deadline() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    let before = deadlines(&mut browser);
    clock.back("1h");
    assert_eq!(deadlines(&mut browser), before);
    clock.advance("29m59s999ms");
    assert!(is_in(&mut browser));
    clock.advance("1ms");
    assert_eq!(expired(&mut browser), "inactivity");
}

#[test]
fn l_18_the_last_use_is_written_seldom_and_a_crash_only_shortens() {
    let Some(mut gateway) = house() else { return };
    gateway.clock().hold();
    let mut browser = bob(&gateway);
    let last_seen = |gateway: &Gateway| tables(gateway)["logins"][0].clone();
    let mut written = vec![last_seen(&gateway)];
    let requests = if crate::is_long_run() { 10_000 } else { 1_000 };
    for request in 0..requests {
        gateway.clock().advance(if request % 100 == 99 { "500ms" } else { "5ms" });
        browser.get("/api/me/logins").expect(200);
        if request % 250 == 0 {
            let row = last_seen(&gateway);
            if written.last() != Some(&row) {
                written.push(row);
            }
        }
    }
    assert!(written.len() <= 3, "{} writes", written.len() - 1);
    let (_, before, _) = deadlines(&mut browser);
    gateway.kill();
    gateway.launch();
    browser.follow(gateway.web_port());
    let (_, after, _) = deadlines(&mut browser);
    assert!(after <= before, "{after} is later than {before}");
    let seconds = |time: &str| time[17..19].parse::<i64>().expect("seconds");
    let minutes = |time: &str| time[14..16].parse::<i64>().expect("minutes");
    let lost = (minutes(&before) - minutes(&after)).rem_euclid(60) * 60 + seconds(&before)
        - seconds(&after);
    assert!(lost <= 60, "{lost} s");
}

#[test]
fn l_19_a_login_that_nobody_asks_for_is_ended_and_forgotten_in_time() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    let browser = bob(&gateway);
    clock.advance("31m");
    let line = gateway.wait_for_audit("its end", |line| {
        line["action"] == "session_expired_inactivity" && line["actor"]["user"] == "bob"
    });
    assert_eq!(line["actor"]["type"], "system", "{line}");
    assert_eq!(tables(&gateway)["logins"].len(), 1, "a late use is still known");
    browser.copy().get("/api/me").refused(401, "SESSION_EXPIRED");
    clock.advance("31d");
    until("the row's end", PATIENCE, || tables(&gateway)["logins"].is_empty().then_some(()));
    browser.copy().get("/api/me").refused(401, "LOGIN_REQUIRED");
}

#[test]
fn l_20_a_dead_cookie_never_stands_in_the_way() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    clock.advance("31m");
    assert_eq!(expired(&mut browser), "inactivity");
    browser.get("/api/health").expect(200);
    browser.get("/api/openapi.json").expect(200);
    let with_it = browser.get("/");
    assert_eq!(with_it.status, gateway.browser().get("/").status);
    browser.csrf = None;
    browser.sign_in("bob", PASSWORD).expect(200);
    assert!(is_in(&mut browser));
}

#[test]
fn l_21_the_end_can_be_asked_for_and_put_off() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    let (now, idle, lifetime) = deadlines(&mut browser);
    assert!(now.ends_with('Z') && idle.ends_with('Z') && lifetime.ends_with('Z'));
    clock.advance("10m");
    let (later, same_idle, same_lifetime) = deadlines(&mut browser);
    assert!(later > now);
    assert_eq!((&same_idle, &same_lifetime), (&idle, &lifetime), "asking moves nothing");
    let extended = browser.post("/api/me/login/extend", &json!({})).expect(200);
    assert!(extended["idle_expires_at"].as_str() > Some(idle.as_str()));
    assert_eq!(extended["lifetime_expires_at"], lifetime.as_str());
    let (_, moved, _) = deadlines(&mut browser);
    assert_eq!(extended["idle_expires_at"], moved.as_str());
    browser.prove("/api/auth/reauth", &json!({"password": PASSWORD})).expect(200);
    let (_, idle, new_lifetime) = deadlines(&mut browser);
    assert!(new_lifetime > lifetime, "a proof moves both");
    assert!(idle >= moved);
    let ask = Ask::new("POST", "/api/me/login/extend").without("X-CSRF-Token");
    browser.send(&ask).refused(403, "CSRF_TOKEN");
}
