//! L-01 to L-07: the token and its cookie.

use std::collections::BTreeSet;

use sojourn_testkit::Ask;
use sojourn_testkit::Browser;
use sojourn_testkit::Cookie;
use sojourn_testkit::Options;

use super::*;

/// The gateway as browsers see it behind a proxy that ends TLS.
const FAR: &str = "https://gate.example.org";

fn behind_a_proxy() -> Options {
    Options { web: format!("public_url = \"{FAR}\""), ..Options::default() }
}

/// The 32 bytes of a token.
fn bytes_of(token: &str) -> Vec<u8> {
    let text = token.strip_prefix("sjw1_").expect("the prefix");
    assert_eq!(text.len(), 43, "{text}");
    let digit = |char: u8| match char {
        b'A'..=b'Z' => char - b'A',
        b'a'..=b'z' => char - b'a' + 26,
        b'0'..=b'9' => char - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => panic!("{text}"),
    };
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for char in text.bytes() {
        bits = (bits << 6 | u32::from(digit(char))) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("a byte"));
        }
    }
    bytes
}

/// The distribution over 10,000 tokens is a test of the engine, where no password has to be hashed.
#[test]
fn l_01_a_token_is_32_random_bytes_that_mean_nothing() {
    let Some(gateway) = house() else { return };
    let tokens: BTreeSet<String> = (0..12)
        .map(|_| bob(&gateway).token().expect("a cookie").to_owned())
        .inspect(|token| {
            assert_eq!(bytes_of(token).len(), 32);
            assert!(!token.contains("bob") && !token.contains("member"));
        })
        .collect();
    assert_eq!(tokens.len(), 12, "all are different");
    let ones: u32 = tokens.iter().flat_map(|t| bytes_of(t)).map(u8::count_ones).sum();
    // 12 × 256 throws of a coin: within eight standard deviations.
    assert!((1536 - 222..=1536 + 222).contains(&ones), "{ones}");
}

#[test]
fn l_02_what_is_stored_opens_nothing() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let token = browser.token().expect("a cookie").to_owned();
    let id = browser.get("/api/me/logins").expect(200)["items"][0]["id"].clone();
    let id = id.as_str().expect("an id");
    assert_eq!(found_in(&everything_kept(&gateway), &token), Vec::<String>::new());
    let raw = bytes_of(&token);
    let kept = everything_kept(&gateway);
    assert!(kept.iter().all(|(_, bytes)| !bytes.windows(32).any(|window| window == raw)));
    let logins = &tables(&gateway)["logins"];
    let stored = logins[0].as_array().expect("a row").iter().filter_map(Value::as_str);
    for value in stored.chain([id]) {
        for guess in [value.to_owned(), format!("sjw1_{value}")] {
            let mut thief = gateway.browser();
            thief.jar.put(thief.cookie_name(), &guess);
            thief.get("/api/me").refused(401, "LOGIN_REQUIRED");
        }
    }
    assert!(is_in(&mut browser));
}

#[test]
fn l_03_cookies_have_exactly_these_attributes() {
    let Some(gateway) = house_with(behind_a_proxy()) else { return };
    let mut browser = Browser::at(gateway.web_port(), FAR);
    let password = json!({"password": PASSWORD});
    let asks = [
        ("/api/auth/login", json!({"username": "bob", "password": PASSWORD}), 200, false),
        ("/api/auth/reauth", password, 200, false),
        ("/api/auth/logout", json!({}), 204, true),
    ];
    for (path, body, status, removes) in asks {
        let answer = browser.prove(path, &body);
        answer.expect(status);
        let cookies = answer.headers_of("set-cookie").map(Cookie::parse);
        let cookie = cookies.into_iter().find(|cookie| cookie.name == "__Host-sojourn");
        let cookie = cookie.unwrap_or_else(|| panic!("no cookie of {path}: {answer:?}"));
        let mut expected =
            vec![("httponly", ""), ("path", "/"), ("samesite", "Lax"), ("secure", "")];
        if removes {
            expected.insert(1, ("max-age", "0"));
        }
        let attributes: Vec<(&str, &str)> =
            cookie.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(attributes, expected, "{path}");
        assert!(cookie.name.len() + cookie.value.len() <= 128);
        assert_eq!(cookie.value.is_empty(), removes);
    }
    assert_eq!(browser.token(), None, "a browser has removed it");
}

#[test]
fn l_03_on_loopback_without_tls_it_lacks_only_what_needs_tls() {
    let Some(gateway) = house() else { return };
    let mut browser = gateway.browser();
    let answer = browser.sign_in("bob", PASSWORD);
    let cookie = answer.headers_of("set-cookie").map(Cookie::parse).find(|c| c.name == "sojourn");
    let cookie = cookie.expect("a cookie");
    let names: Vec<&str> = cookie.attributes.keys().map(String::as_str).collect();
    assert_eq!(names, ["httponly", "path", "samesite"]);
}

#[test]
fn l_04_a_cookie_has_no_time_of_its_own() {
    let Some(gateway) = house() else { return };
    for (name, password) in [("bob", PASSWORD), ("carol", ADMINS)] {
        let answer = gateway.browser().sign_in(name, password);
        let cookie = answer.headers_of("set-cookie").map(Cookie::parse);
        let cookie = cookie.into_iter().find(|cookie| cookie.name == "sojourn").expect("a cookie");
        assert!(!cookie.attributes.contains_key("max-age"), "{cookie:?}");
        assert!(!cookie.attributes.contains_key("expires"), "{cookie:?}");
    }
}

#[test]
fn l_05_a_token_is_taken_from_the_cookie_alone() {
    let Some(gateway) = house() else { return };
    let mut browser = gateway.browser();
    let answer = browser.sign_in("bob", PASSWORD);
    let token = browser.token().expect("a cookie").to_owned();
    assert!(!answer.text().contains(&token), "not in the body");
    let mut stranger = gateway.browser();
    let asks = [
        Ask::new("GET", &format!("/api/me?sojourn={token}&token={token}&access_token={token}")),
        Ask::new("GET", "/api/me").with("Authorization", &format!("Bearer {token}")),
        Ask::new("GET", "/api/me").with("Authorization", &format!("sojourn {token}")),
        Ask::new("GET", "/api/me").with("X-Session-Token", &token),
        Ask::new("GET", "/api/me").with("Cookie", &format!("session={token}; Sojourn={token}")),
        Ask::new("POST", "/api/me/login/extend").json(&json!({"sojourn": token})),
    ];
    for ask in asks {
        assert_eq!(stranger.send(&ask).status, 401, "{ask:?}");
    }
    for path in ["/api/me", "/api/me/login", "/api/me/logins", "/api/me/keys", "/api/me/tokens"] {
        assert!(!browser.get(path).text().contains(&token), "{path}");
    }
}

#[test]
fn l_06_a_cookie_from_elsewhere_is_never_adopted() {
    let Some(gateway) = house() else { return };
    let chosen = format!("sjw1_{}", "A".repeat(43));
    let mut browser = gateway.browser();
    browser.jar.put(browser.cookie_name(), &chosen);
    browser.get("/api/me").refused(401, "LOGIN_REQUIRED");
    assert!(tables(&gateway)["logins"].is_empty(), "it made no row");
    browser.sign_in("bob", PASSWORD).expect(200);
    assert_ne!(browser.token(), Some(chosen.as_str()));

    let token = browser.token().expect("a cookie").to_owned();
    let twice = format!("sojourn={token}; sojourn={chosen}");
    for cookies in [twice.clone(), format!("sojourn={chosen}; sojourn={token}")] {
        let answer = browser.send(&Ask::new("GET", "/api/me").with("Cookie", &cookies));
        answer.refused(401, "LOGIN_REQUIRED");
    }
    for junk in ["", "x", "sjw1_", "\u{fffd}", &"A".repeat(4000), &chosen.replace("sjw1", "sjw2")] {
        let ask = Ask::new("GET", "/api/me").with("Cookie", &format!("sojourn={junk}"));
        assert_eq!(browser.send(&ask).status, 401, "{junk:?}");
    }
    assert_eq!(tables(&gateway)["logins"].len(), 1);
    assert!(is_in(&mut browser));
}

#[test]
fn l_07_who_has_not_signed_in_leaves_nothing_behind() {
    let Some(gateway) = house() else { return };
    // What waits for the audit log is written out meanwhile.
    let all = |gateway: &Gateway| {
        let mut tables = tables(gateway);
        tables.remove("outbox");
        tables
    };
    let before = all(&gateway);
    let mut stranger = gateway.browser();
    let rounds = if crate::is_long_run() { 10_000 } else { 500 };
    for round in 0..rounds {
        let path = ["/api/health", "/api/me", "/", "/api/openapi.json", "/api/none"][round % 5];
        let answer = stranger.get(path);
        assert_eq!(answer.header("set-cookie"), None, "{path}");
    }
    assert_eq!(all(&gateway), before);
}
