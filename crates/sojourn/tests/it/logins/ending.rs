//! L-12, L-22 to L-26, L-29: logins end when somebody says so, at once and on disk.

use sojourn_testkit::Ask;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::until;

use super::*;

fn logins(browser: &mut Browser) -> Vec<Value> {
    let listed = browser.get("/api/me/logins").expect(200);
    listed["items"].as_array().expect("a list").clone()
}

fn id_of(browser: &mut Browser) -> String {
    browser.get("/api/me").expect(200)["login"]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn l_12_a_password_change_ends_every_login_the_callers_too() {
    let Some(gateway) = house() else { return };
    let mut browsers: Vec<Browser> = (0..5).map(|_| bob(&gateway)).collect();
    let mut other = carol(&gateway);
    let answer = browsers[0].post("/api/auth/change-password", &change(PASSWORD, OTHER));
    let told = answer.expect(200);
    let message = "Password changed. All logins ended; please sign in.";
    assert_eq!(told, json!({"success": true, "message": message}));
    assert_eq!(browsers[0].token(), None, "the removal cookie");
    for browser in &mut browsers[1..] {
        let told = browser.get("/api/me").refused(401, "SESSION_REVOKED");
        assert_eq!(told["reason"], "password_change");
    }
    assert!(is_in(&mut other), "nobody else's");
    gateway.browser().sign_in("bob", PASSWORD).refused(401, "INVALID_CREDENTIALS");
    gateway.browser().sign_in("bob", OTHER).expect(200);
}

#[test]
fn l_22_signing_out_ends_the_login_and_can_be_said_twice() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let mut thief = browser.copy();
    let answer = browser.post("/api/auth/logout", &json!({}));
    answer.expect(204);
    assert_eq!(answer.header("clear-site-data"), Some("\"cache\",\"storage\""));
    assert_eq!(browser.token(), None);
    let told = thief.get("/api/me").refused(401, "SESSION_REVOKED");
    assert_eq!(told["reason"], "logout");
    // Once more, with the dead cookie and with none.
    thief.post("/api/auth/logout", &json!({})).expect(204);
    browser.csrf = None;
    browser.post("/api/auth/logout", &json!({})).expect(204);
    assert_eq!(recorded(&gateway, "login_ended", 1).len(), 1);
}

#[test]
fn l_23_a_login_that_was_ended_stays_so_after_a_crash() {
    let Some(mut gateway) = house() else { return };
    let rounds = if crate::is_long_run() { 100 } else { 5 };
    for round in 0..rounds {
        let mut browser = bob(&gateway);
        let mut thief = browser.copy();
        browser.post("/api/auth/logout", &json!({})).expect(204);
        gateway.kill();
        gateway.launch();
        thief.follow(gateway.web_port());
        assert!(!is_in(&mut thief), "round {round}");
    }
}

#[test]
fn a_login_outlives_the_gateway() {
    let Some(mut gateway) = house() else { return };
    let mut browser = bob(&gateway);
    gateway.kill();
    gateway.launch();
    browser.follow(gateway.web_port());
    assert!(is_in(&mut browser));
    browser.post("/api/me/login/extend", &json!({})).expect(200);
}

#[test]
fn l_24_people_see_their_own_logins_and_no_secret() {
    let Some(gateway) = house() else { return };
    let mut phone = gateway.browser().called("Mozilla/5.0 (iPhone) Version/17.5 Safari/604.1");
    phone.sign_in("bob", PASSWORD).expect(200);
    let mut browser = bob(&gateway);
    carol(&gateway);
    let listed = logins(&mut browser);
    assert_eq!(listed.len(), 2);
    let current: Vec<&Value> = listed.iter().filter(|login| login["current"] == true).collect();
    assert_eq!(current.len(), 1);
    assert_eq!(current[0]["id"], id_of(&mut browser).as_str());
    for login in &listed {
        let mut names: Vec<&str> = login.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected = [
            "address",
            "authenticated_at",
            "created_at",
            "current",
            "device",
            "id",
            "idle_expires_at",
            "last_seen_at",
            "lifetime_expires_at",
            "methods",
        ];
        assert_eq!(names, expected);
        assert_eq!(login["address"], "127.0.0.1");
        assert_eq!(login["methods"], json!(["password"]));
    }
    let devices: Vec<&str> = listed.iter().filter_map(|login| login["device"].as_str()).collect();
    assert!(devices.contains(&"Firefox on Linux") && devices.contains(&"Safari on iPhone"));
}

#[test]
fn l_25_people_end_one_login_or_all_others() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let mut others: Vec<Browser> = (0..3).map(|_| bob(&gateway)).collect();
    let mut stranger = carol(&gateway);

    let one = id_of(&mut others[0]);
    browser.delete(&format!("/api/me/logins/{one}")).expect(204);
    let told = others[0].get("/api/me").refused(401, "SESSION_REVOKED");
    assert_eq!(told["reason"], "revoked");
    assert!(is_in(&mut others[1]));

    let foreign = id_of(&mut stranger);
    for id in [foreign.as_str(), one.as_str(), "nonsense", "01932b5e-7c1a-7f00-8000-00003f2a91c0"] {
        browser.delete(&format!("/api/me/logins/{id}")).refused(404, "NOT_FOUND");
    }
    assert!(is_in(&mut stranger));

    let ended = browser.post("/api/me/logins/revoke-others", &json!({})).expect(200);
    assert_eq!(ended["ended"], 2);
    assert!(others.iter_mut().all(|other| !is_in(other)));
    assert!(is_in(&mut browser) && is_in(&mut stranger));

    // One's own, which is signing out.
    let own = id_of(&mut browser);
    browser.delete(&format!("/api/me/logins/{own}")).expect(204);
    assert!(!is_in(&mut browser));
    until("all four on record", PATIENCE, || {
        (on_record(&gateway, "login_revoked").len() == 4).then_some(())
    });
}

#[test]
fn l_26_admins_end_other_peoples_logins_and_close_accounts() {
    let Some(gateway) = house() else { return };
    let mut admin = carol(&gateway);
    let mut browsers = [bob(&gateway), bob(&gateway)];
    let listed = admin.get("/api/users/bob/logins").expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(admin.delete("/api/users/bob/logins").expect(200)["ended"], 2);
    for browser in &mut browsers {
        browser.get("/api/me").refused(401, "SESSION_REVOKED");
    }
    assert!(is_in(&mut admin));

    let mut browser = bob(&gateway);
    admin.patch("/api/users/bob", &json!({"disabled": true})).expect(200);
    let told = browser.get("/api/me").refused(401, "SESSION_REVOKED");
    assert_eq!(told["reason"], "disabled");
    gateway.browser().sign_in("bob", PASSWORD).refused(401, "INVALID_CREDENTIALS");
    admin.patch("/api/users/bob", &json!({"disabled": false})).expect(200);
    assert!(!is_in(&mut browser), "what has ended stays so");
    bob(&gateway);

    admin.delete("/api/users/nobody/logins").refused(404, "NOT_FOUND");
    let mut member = bob(&gateway);
    for path in ["/api/users/carol/logins", "/api/users/nobody/logins"] {
        member.get(path).refused(403, "FORBIDDEN");
        member.delete(path).refused(403, "FORBIDDEN");
    }
}

#[test]
fn l_26_an_account_that_is_closed_on_the_machine_itself_is_out_within_a_moment() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    gateway.cli(&["user", "disable", "bob"]);
    until("the end", PATIENCE, || (!is_in(&mut browser)).then_some(()));
    assert_eq!(browser.get("/api/me").outcome().1, "SESSION_REVOKED");
}

#[test]
fn l_29_the_eleventh_login_ends_the_one_that_was_away_longest() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browsers: Vec<Browser> = (0..10)
        .map(|_| {
            clock.advance("1s");
            bob(&gateway)
        })
        .collect();
    clock.advance("1s");
    // The oldest has just been used: the second oldest goes.
    browsers[0].get("/api/me/logins").expect(200);
    clock.advance("1s");
    let mut eleventh = bob(&gateway);
    let told = browsers[1].get("/api/me").refused(401, "SESSION_REVOKED");
    assert_eq!(told["reason"], "evicted");
    assert!(is_in(&mut eleventh) && is_in(&mut browsers[0]) && is_in(&mut browsers[2]));
    assert_eq!(recorded(&gateway, "login_evicted", 1).len(), 1);
}

#[test]
fn l_29_one_login_a_user_is_what_the_original_had() {
    let more = "[login]\nmax_per_user = 1\n".to_owned();
    let Some(gateway) = house_with(Options { more, ..Options::default() }) else { return };
    let mut former = bob(&gateway);
    let mut latter = bob(&gateway);
    former.get("/api/me").refused(401, "SESSION_REVOKED");
    assert!(is_in(&mut latter));
}

/// L-32: what somebody who finds an open browser should not be able to do.
#[test]
fn l_32_what_matters_needs_a_proof_of_the_last_ten_minutes() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    let mut admin = carol(&gateway);
    let id = id_of(&mut browser);
    let delete = |path: &str| Ask::new("DELETE", path);
    let post = |path: &str, body: Value| Ask::new("POST", path).json(&body);
    let own = [
        delete(&format!("/api/me/logins/{id}x")),
        post("/api/me/logins/revoke-others", json!({})),
        post("/api/me/keys", json!({"key": "not a key"})),
        delete("/api/me/keys/01932b5e-7c1a-7f00-8000-00003f2a91c0"),
        post("/api/me/totp", json!({})),
        delete("/api/me/totp"),
        post("/api/me/tokens", json!({"name": "x", "scopes": ["nonsense"]})),
        delete("/api/me/tokens/01932b5e-7c1a-7f00-8000-00003f2a91c0"),
    ];
    let others = [
        post("/api/users", json!({"name": "NOT A NAME"})),
        Ask::new("PATCH", "/api/users/nobody").json(&json!({"role": "admin"})),
        Ask::new("PATCH", "/api/users/nobody").json(&json!({"disabled": true})),
        post("/api/users/nobody/reset", json!({})),
        delete("/api/users/nobody/logins"),
    ];
    clock.advance("9m59s");
    for ask in &own {
        assert_ne!(browser.send(ask).outcome().1, "REAUTH_REQUIRED", "{ask:?}");
    }
    for ask in &others {
        assert_ne!(admin.send(ask).outcome().1, "REAUTH_REQUIRED", "{ask:?}");
    }
    clock.advance("2s");
    for ask in &own {
        browser.send(ask).refused(403, "REAUTH_REQUIRED");
    }
    for ask in &others {
        admin.send(ask).refused(403, "REAUTH_REQUIRED");
    }
    browser.prove("/api/auth/reauth", &json!({"password": PASSWORD})).expect(200);
    for ask in &own {
        assert_ne!(browser.send(ask).outcome().1, "REAUTH_REQUIRED", "{ask:?}");
    }
}
