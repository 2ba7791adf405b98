//! L-08 to L-11: every proof of who one is gives a new token, and the old one is dead.

use sojourn_testkit::Ask;

use super::*;

#[test]
fn l_08_a_sign_in_ends_the_login_it_was_sent_with() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let mut elsewhere = bob(&gateway);
    let mut thief = browser.copy();
    browser.sign_in("bob", PASSWORD).expect(200);
    assert_ne!(browser.token(), thief.token());
    let told = thief.get("/api/me").refused(401, "SESSION_REVOKED");
    assert_eq!(told["reason"], "replaced");
    assert!(is_in(&mut browser));
    assert!(is_in(&mut elsewhere), "other devices stay signed in");
    // Also when somebody else signs in there.
    let mut thief = browser.copy();
    browser.sign_in("carol", ADMINS).expect(200);
    thief.get("/api/me").refused(401, "SESSION_REVOKED");
    assert_eq!(browser.get("/api/me").expect(200)["user"], "carol");
}

#[test]
fn l_08_a_sign_in_that_is_refused_ends_nothing() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    browser.sign_in("bob", "not the password of bob").refused(401, "INVALID_CREDENTIALS");
    assert!(is_in(&mut browser));
}

#[test]
fn l_10_a_new_proof_gives_a_new_token_and_kills_the_old_one() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let mut thief = browser.copy();
    let id = browser.get("/api/me").expect(200)["login"]["id"].clone();
    browser.prove("/api/auth/reauth", &json!({"password": PASSWORD})).expect(200);
    assert_ne!(browser.token(), thief.token());
    assert!(!is_in(&mut thief), "the old one");
    assert!(is_in(&mut browser), "the new one");
    let me = browser.get("/api/me").expect(200);
    assert_eq!(me["login"]["id"], id, "it is the same login");
    assert_eq!(
        browser.get("/api/me/logins").expect(200)["items"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(tables(&gateway)["logins"].len(), 1, "one row");
    // The CSRF token goes with the token.
    assert_eq!(me["csrf_token"].as_str(), browser.csrf.as_deref());
    assert_ne!(browser.csrf, thief.csrf);
    let ask = Ask::new("POST", "/api/me/login/extend").with("X-CSRF-Token", &thief.csrf.unwrap());
    browser.send(&ask).refused(403, "CSRF_TOKEN");
}

#[test]
fn l_10_a_wrong_proof_changes_nothing() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let token = browser.token().map(str::to_owned);
    let answer = browser.prove("/api/auth/reauth", &json!({"password": "some other password"}));
    answer.refused(401, "INVALID_CREDENTIALS");
    assert_eq!(browser.token().map(str::to_owned), token);
    assert!(is_in(&mut browser));
}

#[test]
fn l_11_more_rights_end_logins_and_fewer_count_at_once() {
    let Some(gateway) = house() else { return };
    let mut admin = carol(&gateway);
    let mut browser = bob(&gateway);
    assert_eq!(browser.get("/api/users").status, 403);
    admin.patch("/api/users/bob", &json!({"role": "admin"})).expect(200);
    let told = browser.get("/api/me").refused(401, "SESSION_REVOKED");
    assert_eq!(told["reason"], "role_change");

    let mut browser = bob(&gateway);
    browser.get("/api/users").expect(200);
    admin.patch("/api/users/bob", &json!({"role": "member"})).expect(200);
    browser.get("/api/users").refused(403, "FORBIDDEN");
    assert_eq!(browser.get("/api/me").expect(200)["role"], "member", "it is still signed in");
    assert_eq!(recorded(&gateway, "user_role_changed", 2).len(), 2);
}
