//! L-59, L-60: the first admin, one-time links, and that nothing is open by accident.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sojourn_testkit::PATIENCE;
use sojourn_testkit::until;

use super::*;

const NEW: &str = "eleven copper kettles near dock 3";

#[test]
fn l_59_the_first_admin_has_a_random_password_until_it_is_changed() {
    let Some(gateway) = house() else { return };
    let file = gateway.data().join("first-admin");
    let mode = fs::metadata(&file).expect("the file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = fs::read_to_string(&file).expect("the file");
    let password = text.trim().rsplit(' ').next().expect("a password").to_owned();
    assert!(password.len() >= 22, "128 bits: {}", password.len());
    let mut admin = gateway.signed_in("admin", &password);
    assert_eq!(admin.get("/api/me").expect(200)["must_change"], true);
    admin.post("/api/auth/change-password", &change(&password, NEW)).expect(200);
    until("the file's end", PATIENCE, || (!file.exists()).then_some(()));
    gateway.browser().sign_in("admin", &password).refused(401, "INVALID_CREDENTIALS");
    let mut admin = gateway.signed_in("admin", NEW);
    assert_eq!(admin.get("/api/me").expect(200)["must_change"], false);
}

#[test]
fn l_59_an_admins_link_is_good_once_and_for_an_hour() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut admin = carol(&gateway);
    let mut old = bob(&gateway);
    let link = admin.post("/api/users/bob/reset", &json!({})).expect(200);
    let token = link["token"].as_str().expect("a token").to_owned();
    assert!(link["url"].as_str().is_some_and(|url| url.contains(&token)));
    assert!(token.len() >= 22);
    assert!(is_in(&mut old), "nothing has happened yet");
    assert_eq!(found_in(&everything_kept(&gateway), &token), Vec::<String>::new());

    let reset = |token: &str, new: &str, confirm: &str| json!({"token": token, "new_password": new, "confirm_password": confirm});
    let mut browser = gateway.browser();
    const RESET: &str = "/api/auth/reset";
    let told = browser.post(RESET, &reset(&token, NEW, OTHER)).refused(422, "INVALID");
    assert_eq!(told["field"], "confirm_password");
    let told = browser.post(RESET, &reset(&token, "short", "short")).refused(422, "INVALID");
    assert_eq!(told["field"], "new_password");
    browser.post(RESET, &reset(&format!("{token}x"), NEW, NEW)).refused(401, "INVALID_CREDENTIALS");
    let answer = browser.post(RESET, &reset(&token, NEW, NEW));
    answer.expect(200);
    assert_eq!(browser.token(), None, "nobody is signed in by a link");
    assert_eq!(old.get("/api/me").outcome(), (401, "SESSION_REVOKED".to_owned()));
    browser.post(RESET, &reset(&token, OTHER, OTHER)).refused(401, "INVALID_CREDENTIALS");
    gateway.browser().sign_in("bob", NEW).expect(200);

    let link = admin.post("/api/users/bob/reset", &json!({})).expect(200);
    clock.advance("1h");
    let late = reset(link["token"].as_str().expect("a token"), OTHER, OTHER);
    browser.post(RESET, &late).refused(401, "INVALID_CREDENTIALS");
    assert_eq!(recorded(&gateway, "user_reset_issued", 2).len(), 2);
    assert_eq!(recorded(&gateway, "user_reset_used", 1).len(), 1);
}

#[test]
fn l_59_a_new_account_gets_its_password_by_a_link() {
    let Some(gateway) = house() else { return };
    let mut admin = carol(&gateway);
    let made = admin.post("/api/users", &json!({"name": "erin", "role": "auditor"})).expect(201);
    assert_eq!((&made["name"], &made["role"]), (&json!("erin"), &json!("auditor")));
    let token = made["link"]["token"].as_str().expect("a link");
    let body = json!({"token": token, "new_password": NEW, "confirm_password": NEW});
    gateway.browser().post("/api/auth/reset", &body).expect(200);
    let mut erin = gateway.signed_in("erin", NEW);
    assert_eq!(erin.get("/api/me").expect(200)["role"], "auditor");
    let taken = admin.post("/api/users", &json!({"name": "erin", "role": "member"}));
    taken.refused(409, "CONFLICT");
    let listed = admin.get("/api/users").expect(200);
    let names = listed["items"].as_array().expect("a list").iter();
    let names: Vec<&str> = names.filter_map(|user| user["name"].as_str()).collect();
    assert_eq!(names, ["admin", "alice", "bob", "carol", "erin"]);
    assert!(!listed.to_string().contains("$argon2"), "no hash is shown");
}

/// What answers without a login, and nothing else does.
const OPEN: [(&str, &str); 8] = [
    ("get", "/api/health"),
    ("get", "/api/openapi.json"),
    ("post", "/api/auth/login"),
    ("post", "/api/auth/login/totp"),
    ("post", "/api/auth/login/recovery"),
    ("post", "/api/auth/logout"),
    ("post", "/api/auth/reset"),
    ("get", "/"),
];

#[test]
fn l_60_every_route_wants_a_login_unless_it_is_on_the_list() {
    let Some(gateway) = house() else { return };
    let mut stranger = gateway.browser();
    let document = stranger.get("/api/openapi.json").expect(200);
    let mut walked = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            if OPEN.contains(&(method.as_str(), path.as_str())) {
                continue;
            }
            walked += 1;
            let ask = sojourn_testkit::Ask::new(
                &method.to_ascii_uppercase(),
                &super::cross_site::filled(path),
            );
            let answer = stranger.send(&ask.json(&json!({})));
            assert_eq!(answer.outcome(), (401, "LOGIN_REQUIRED".to_owned()), "{method} {path}");
        }
    }
    assert!(walked >= 30, "{walked}");
}
