//! L-30 to L-36, L-38: passwords, and changing them.

use std::time::Instant;

use sojourn_testkit::Ask;

use super::*;

const CHANGE: &str = "/api/auth/change-password";

#[test]
fn l_30_a_change_needs_everything_and_says_what_is_wrong() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let all = change(PASSWORD, OTHER);
    gateway.browser().post(CHANGE, &all).refused(401, "LOGIN_REQUIRED");
    let bare = Ask::new("POST", CHANGE).json(&all).without("X-CSRF-Token");
    browser.send(&bare).refused(403, "CSRF_TOKEN");
    for missing in ["current_password", "new_password", "confirm_password"] {
        let mut less = all.clone();
        less.as_object_mut().unwrap().remove(missing);
        let told = browser.post(CHANGE, &less).refused(422, "INVALID");
        assert_eq!(told["field"], missing);
    }
    let unlike = json!({"current_password": PASSWORD, "new_password": OTHER,
        "confirm_password": "something else entirely 9"});
    let told = browser.post(CHANGE, &unlike).refused(422, "INVALID");
    assert_eq!(told["field"], "confirm_password");
    for weak in ["short", "passwordpassword", PASSWORD, "bob bob bob bob bob"] {
        let told = browser.post(CHANGE, &change(PASSWORD, weak)).refused(422, "INVALID");
        assert_eq!(told["field"], "new_password", "{weak}");
    }
    for wrong in [json!(7), json!(null), json!([PASSWORD]), json!({})] {
        let mut odd = all.clone();
        odd["new_password"] = wrong;
        assert_eq!(browser.post(CHANGE, &odd).status, 422);
    }
    let told = browser.post(CHANGE, &change("not what it is now", OTHER));
    told.refused(422, "CURRENT_PASSWORD_WRONG");
    assert!(is_in(&mut browser), "the login is kept");
    gateway.wait_for_audit("the try", |line| line["action"] == "invalid_current_password");
    assert_eq!(recorded(&gateway, "invalid_current_password", 1).len(), 1);
    browser.post(CHANGE, &all).expect(200);
}

#[test]
fn l_30_guessing_the_current_password_is_slow_and_ends_the_login() {
    let Some(gateway) = house() else { return };
    gateway.clock().hold();
    let mut browser = bob(&gateway);
    let wrong = change("not what it is now", OTHER);
    for _ in 0..5 {
        browser.post(CHANGE, &wrong).refused(422, "CURRENT_PASSWORD_WRONG");
    }
    for _ in 5..9 {
        let answer = browser.post(CHANGE, &wrong);
        let told = answer.refused(429, "RATE_LIMITED");
        assert!(told["retry_after_ms"].as_u64() > Some(0), "{told}");
        assert!(answer.header("retry-after").is_some());
    }
    let last = browser.post(CHANGE, &wrong);
    assert!(matches!(last.status, 401 | 429), "{last:?}");
    browser.get("/api/me").refused(401, "SESSION_REVOKED");
    // It is the login that was stopped, not bob.
    gateway.clock().advance("16m");
    bob(&gateway);
}

#[test]
fn l_31_a_change_touches_nothing_else_of_theirs() {
    let Some(gateway) = house() else { return };
    gateway.alice().run("true");
    let mut browser = bob(&gateway);
    let key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHrdwPNk1LN3NUkE9jYJ2ZoWMbzAm3mM1L2yDYrDWkQ7 bob";
    browser.post("/api/me/keys", &json!({"key": key})).expect(201);
    browser.post("/api/me/tokens", &json!({"name": "ci", "scopes": ["read"]})).expect(201);
    let before = tables(&gateway);
    browser.post(CHANGE, &change(PASSWORD, OTHER)).expect(200);
    let after = tables(&gateway);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let changed: Vec<&String> = after.keys().filter(|name| before[*name] != after[*name]).collect();
    let may = ["users", "logins", "throttle", "meta", "outbox", "devices"];
    assert!(changed.iter().all(|name| may.contains(&name.as_str())), "{changed:?}");
    for table in ["user_keys", "tokens", "sessions"] {
        assert!(!before[table].is_empty(), "{table} was worth comparing");
    }
    let users = |tables: &BTreeMap<String, Vec<Value>>, name: &str| {
        tables["users"].iter().find(|row| row[1] == name).cloned()
    };
    assert_ne!(users(&before, "bob"), users(&after, "bob"));
    for other in ["alice", "carol", "admin"] {
        assert_eq!(users(&before, other), users(&after, other));
    }
}

#[test]
fn l_33_passwords_are_long_or_short_and_nothing_else() {
    let Some(gateway) = house() else { return };
    let mut admin = carol(&gateway);
    let long = "ß-schön 日本語 ".repeat(30);
    let mut number = 0;
    let mut add = |password: &str| {
        number += 1;
        let name = format!("user{number}");
        let asked = json!({"name": name, "role": "member", "password": password});
        (admin.post("/api/users", &asked).status, name)
    };
    for (password, is_fine) in [
        ("hz7 mc2 qp9 vb", false),
        ("hz7 mc2 qp9 vbt", true),
        ("ünïcödé zählt äh", true),
        (&long.chars().take(256).collect::<String>(), true),
        (&"r7 ".repeat(400), false),
    ] {
        assert_eq!(add(password).0 == 201, is_fine, "{password:?}");
    }
    // Nothing is cut: the last of 200 characters counts.
    let many: String = "vq8 "
        .chars()
        .cycle()
        .enumerate()
        .map(|(i, c)| if i % 7 == 0 { char::from(b'a' + (i % 26) as u8) } else { c })
        .take(199)
        .collect();
    let (status, name) = add(&format!("{many}x"));
    assert_eq!(status, 201);
    gateway.browser().sign_in(&name, &format!("{many}y")).refused(401, "INVALID_CREDENTIALS");
    gateway.browser().sign_in(&name, &format!("{many}x")).expect(200);
    // What is typed with two keys is what is typed with one.
    let (_, name) = add("cafe\u{301} am lac le\u{301}man 12");
    gateway.browser().sign_in(&name, "caf\u{e9} am lac l\u{e9}man 12").expect(200);
}

#[test]
fn l_33_a_body_of_a_megabyte_is_refused_unread() {
    let Some(gateway) = house() else { return };
    let mut stranger = gateway.browser();
    let huge = format!("{{\"username\":\"bob\",\"password\":\"{}\"}}", "x".repeat(1 << 20));
    let ask = Ask::new("POST", "/api/auth/login").body("application/json", huge.as_bytes());
    let begun = Instant::now();
    stranger.send(&ask).refused(413, "TOO_LARGE");
    assert!(begun.elapsed().as_millis() < 500, "{:?}: no hash is made of it", begun.elapsed());
}

#[test]
fn l_34_common_passwords_are_refused_with_the_reason() {
    let Some(gateway) = house() else { return };
    let mut admin = carol(&gateway);
    let weak = [
        "passwordpassword",
        "123456789012345",
        "qwertyuiopasdfgh",
        "sojourn sojourn",
        "mallory mallory",
        "aaaaaaaaaaaaaaaa",
    ];
    for password in weak {
        let asked = json!({"name": "mallory", "role": "member", "password": password});
        let told = admin.post("/api/users", &asked).refused(422, "INVALID");
        assert_eq!(told["field"], "password", "{password}");
        let why = told["error"].as_str().unwrap_or_default();
        assert!(why.len() > 12 && !why.contains(password), "{why}");
    }
}

#[test]
fn l_35_advice_on_a_long_password_is_quick() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let long: String = "x9 kq".chars().cycle().take(256).collect();
    let begun = Instant::now();
    browser.post(CHANGE, &change("not what it is now", &long));
    // A hash is in it as well, in a build that is not optimised.
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn l_36_hashes_are_argon2id_of_the_cost_that_is_asked_for() {
    let Some(gateway) = house() else { return };
    let users = &tables(&gateway)["users"];
    let hash_of = |name: &str| {
        let row = users.iter().find(|row| row[1] == name).expect("a user");
        let values = row.as_array().expect("columns").iter().filter_map(Value::as_str);
        values.into_iter().find(|text| text.starts_with('$')).expect("a hash").to_owned()
    };
    let bob = hash_of("bob");
    let parts: Vec<&str> = bob.split('$').collect();
    assert_eq!(parts[1], "argon2id");
    let cost: BTreeMap<&str, u32> = parts[3]
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
        .collect();
    assert!(cost["m"] >= 19_456 && cost["t"] >= 2 && cost["p"] == 1, "{cost:?}");
    assert!(parts[4].len() >= 22, "a salt of 16 bytes");
    assert_ne!(bob, hash_of("carol"));
}

#[test]
fn l_36_a_hash_below_the_cost_is_made_anew_at_the_next_sign_in() {
    let Some(gateway) = house() else { return };
    // argon2id of PASSWORD with m=8192, t=1.
    const CHEAP: &str = "import sqlite3,sys\ndb=sqlite3.connect(sys.argv[1],timeout=10)\n\
        db.execute(\"UPDATE users SET password=? WHERE name='bob'\",(sys.argv[2],))\ndb.commit()\n";
    let file = gateway.data().join("sojourn.db");
    let status = Command::new("python3").args(["-c", CHEAP]).arg(&file).arg(CHEAP_HASH).status();
    assert!(status.expect("python3").success());
    bob(&gateway);
    let stored = tables(&gateway)["users"].iter().find(|row| row[1] == "bob").cloned();
    let stored = stored.expect("bob").to_string();
    assert!(!stored.contains("m=8192"), "it was made anew");
    bob(&gateway);
}

#[test]
fn l_38_a_password_never_expires_by_itself() {
    let Some(gateway) = house() else { return };
    gateway.clock().advance("370d");
    let mut browser = bob(&gateway);
    assert_eq!(browser.get("/api/me").expect(200)["must_change"], false);
}

/// Of [`PASSWORD`], by a quarter of the memory and one pass.
const CHEAP_HASH: &str = "$argon2id$v=19$m=8192,t=1,p=1$c2l4dGVlbi1ieXRlcy1vZg$OmyiyRhx2khIwDDKWw5XrmnsQ9XHVbudh213hI0fQUo";
