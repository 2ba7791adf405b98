//! L-48 to L-51, L-55: what pages of other sites can make a browser send.

use sojourn_testkit::Ask;

use super::*;

/// Every route that changes something, from the gateway's own document.
pub(super) fn unsafe_routes(browser: &mut Browser) -> Vec<(String, String)> {
    let document = browser.get("/api/openapi.json").expect(200);
    let paths = document["paths"].as_object().expect("paths").clone();
    let mut routes = Vec::new();
    for (path, operations) in &paths {
        for method in operations.as_object().expect("operations").keys() {
            let method = method.to_ascii_uppercase();
            if ["POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
                routes.push((method, filled(path)));
            }
        }
    }
    assert!(routes.len() >= 20, "{routes:?}");
    routes
}

/// A path with something in the place of its parameters.
pub(super) fn filled(path: &str) -> String {
    let part = |part: &str| match part {
        "{name}" => "bob".to_owned(),
        part if part.starts_with('{') => "01932b5e-7c1a-7f00-8000-00003f2a91c0".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Routes that a browser without a login may ask to change something.
const WITHOUT_LOGIN: [&str; 5] = [
    "/api/auth/login",
    "/api/auth/login/totp",
    "/api/auth/login/recovery",
    "/api/auth/reset",
    "/api/auth/logout",
];

#[test]
fn l_48_only_our_own_pages_change_anything() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let own = browser.origin().to_owned();
    let extend = |site: Option<&str>, origin: Option<&str>| {
        let mut ask = Ask::new("POST", "/api/me/login/extend");
        ask = site.map_or_else(
            || ask.clone().without("Sec-Fetch-Site"),
            |site| ask.clone().with("Sec-Fetch-Site", site),
        );
        origin.map_or_else(
            || ask.clone().without("Origin"),
            |origin| ask.clone().with("Origin", origin),
        )
    };
    let evil = "https://evil.example";
    let port = gateway.web_port();
    let mut refused: Vec<(Option<&str>, Option<&str>)> = vec![(None, None), (None, Some("null"))];
    for site in ["same-site", "cross-site", "none", "junk", ""] {
        refused.extend([
            (Some(site), Some(own.as_str())),
            (Some(site), None),
            (Some(site), Some(evil)),
        ]);
    }
    let near = format!("http://localhost:{}", port.wrapping_add(1));
    let tls = format!("https://localhost:{port}");
    for origin in [evil, near.as_str(), tls.as_str(), "http://localhost", ""] {
        refused.push((None, Some(origin)));
    }
    for (site, origin) in refused {
        let answer = browser.send(&extend(site, origin));
        assert_eq!(answer.outcome(), (403, "CROSS_ORIGIN".to_owned()), "{site:?} {origin:?}");
    }
    for (site, origin) in [
        (Some("same-origin"), None),
        (Some("same-origin"), Some(own.as_str())),
        (None, Some(own.as_str())),
    ] {
        assert_eq!(browser.send(&extend(site, origin)).status, 200, "{site:?} {origin:?}");
    }
    let other_name = format!("http://127.0.0.1:{port}");
    assert_eq!(
        browser.send(&extend(None, Some(&other_name))).status,
        200,
        "loopback by its number"
    );
}

#[test]
fn l_48_a_sign_in_from_another_site_sets_no_cookie() {
    let Some(gateway) = house() else { return };
    let body = json!({"username": "bob", "password": PASSWORD});
    let mut browser = gateway.browser();
    let answer = browser.send(&Ask::new("POST", "/api/auth/login").json(&body).cross_site());
    answer.refused(403, "CROSS_ORIGIN");
    assert_eq!(answer.header("set-cookie"), None);
    // A program without any cookie of ours is no browser that was tricked.
    let bare = Ask::new("POST", "/api/auth/login").json(&body);
    let bare = bare.without("Origin").without("Sec-Fetch-Site");
    browser.send(&bare).expect(200);
    // With one it could be.
    browser.send(&bare).refused(403, "CROSS_ORIGIN");
}

#[test]
fn l_49_every_route_that_changes_something_wants_the_token_of_its_login() {
    let Some(gateway) = house() else { return };
    let mut browser = carol(&gateway);
    let other = bob(&gateway);
    let foreign = other.csrf.clone().expect("a token");
    // Requests are counted as activity only in memory; what they ask for must not happen.
    let before = tables(&gateway);
    for (method, path) in unsafe_routes(&mut browser) {
        if WITHOUT_LOGIN.contains(&path.as_str()) {
            continue;
        }
        let ask = Ask::new(&method, &path).json(&json!({"all": true, "disabled": true}));
        for token in ["", "x", foreign.as_str()] {
            let answer = browser.send(&ask.clone().with("X-CSRF-Token", token));
            assert_eq!(answer.outcome(), (403, "CSRF_TOKEN".to_owned()), "{method} {path}");
        }
        let answer = browser.send(&ask.without("X-CSRF-Token"));
        assert_eq!(answer.outcome(), (403, "CSRF_TOKEN".to_owned()), "{method} {path}");
    }
    // Signing out by a page of another site is refused earlier than that.
    let out = Ask::new("POST", "/api/auth/logout").cross_site();
    browser.send(&out).refused(403, "CROSS_ORIGIN");
    let after = tables(&gateway);
    for table in ["users", "user_keys", "tokens", "sessions", "totp", "one_time_links"] {
        assert_eq!(before[table], after[table], "{table}");
    }
    assert!(is_in(&mut browser));
}

#[test]
fn l_49_bodies_are_json_and_nothing_else() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let body = change(PASSWORD, OTHER).to_string();
    let form = format!("current_password={PASSWORD}&new_password={OTHER}&confirm_password={OTHER}");
    for (kind, body) in [
        ("text/plain", body.as_str()),
        ("application/x-www-form-urlencoded", form.as_str()),
        ("multipart/form-data; boundary=x", body.as_str()),
        ("application/jsonx", body.as_str()),
    ] {
        let ask = Ask::new("POST", "/api/auth/change-password").body(kind, body.as_bytes());
        browser.send(&ask).refused(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let ask = Ask::new("POST", "/api/auth/change-password").body("application/json", b"{\"a\":");
    browser.send(&ask).refused(400, "MALFORMED");
    assert!(is_in(&mut browser));
}

#[test]
fn l_51_reading_changes_nothing() {
    let Some(gateway) = house() else { return };
    let mut browser = carol(&gateway);
    let document = browser.get("/api/openapi.json").expect(200);
    let before = tables(&gateway);
    for (path, operations) in document["paths"].as_object().expect("paths") {
        if operations.get("get").is_some() && !path.contains("attach") && !path.contains("connect")
        {
            let answer = browser.get(&filled(path));
            assert!(answer.status < 500, "{path}: {answer:?}");
            assert_eq!(answer.header("set-cookie"), None, "{path}");
        }
    }
    for path in ["/api/auth/logout", "/api/auth/login", "/api/me/logins/revoke-others"] {
        browser.get(path).refused(405, "METHOD_NOT_ALLOWED");
    }
    let after = tables(&gateway);
    for table in ["users", "user_keys", "tokens", "sessions", "totp", "one_time_links"] {
        assert_eq!(before[table], after[table], "{table}");
    }
    assert_eq!(before["logins"].len(), after["logins"].len());
    assert!(is_in(&mut browser));
}

#[test]
fn l_55_another_host_is_not_served_and_links_are_our_own() {
    let Some(gateway) = house() else { return };
    let mut browser = carol(&gateway);
    let port = gateway.web_port();
    for host in ["evil.example", "localhost", &format!("localhost.evil.example:{port}"), "", "a b"]
    {
        let answer = browser.send(&Ask::new("GET", "/api/me").with("Host", host));
        assert!(matches!(answer.status, 400 | 421), "{host:?}: {}", answer.status);
        assert_ne!(answer.json()["user"], "carol");
    }
    let answer = browser.send(&Ask::new("GET", "/api/me").with("Host", "evil.example"));
    answer.refused(421, "MISDIRECTED");
    let ask = Ask::new("POST", "/api/users/bob/reset").json(&json!({}));
    let ask = ask.with("X-Forwarded-Host", "evil.example").with("Forwarded", "host=evil.example");
    let link = browser.send(&ask).expect(200);
    let url = link["url"].as_str().expect("a link");
    assert!(url.starts_with(&format!("http://localhost:{port}/")), "{url}");
}
