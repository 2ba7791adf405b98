//! What every answer has, who gets in, and that no other site's page does.

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;

use super::raw::Answer;
use super::raw::ask;
use super::raw::ask_with;

/// What anybody may ask without having signed in; a route that is not here asks for a login.
const OPEN: [&str; 8] = [
    "GET /api/openapi.json",
    "GET /api/health",
    "POST /api/auth/login",
    "POST /api/auth/login/totp",
    "POST /api/auth/login/recovery",
    "POST /api/auth/reset",
    // Signing out twice is no mistake.
    "POST /api/auth/logout",
    "GET /",
];

/// Every route of the document, as method and path with something in its parameters' places.
fn routes(port: u16) -> Vec<(String, String)> {
    let document = ask(port, "GET", "/api/openapi.json", &[]).json();
    let paths = document["paths"].as_object().expect("paths").clone();
    let mut routes = Vec::new();
    for (path, operations) in paths {
        for method in operations.as_object().expect("operations").keys() {
            routes.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(routes.len() >= 10, "{routes:?}");
    routes
}

fn filled(path: &str) -> String {
    let part = |part: &str| match part.starts_with('{') {
        true => "01932b5e-7c1a-7f00-8000-00003f2a91c0".to_owned(),
        false => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// L-52, L-53: what every answer carries, whatever it says.
#[track_caller]
fn check_headers(answer: &Answer, what: &str) {
    let policy = answer.header("content-security-policy").unwrap_or_default();
    for directive in [
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(directive), "{what}: {directive}: {answer:?}");
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{what}: {answer:?}");
    }
    assert!(answer.header("x-request-id").is_some(), "{what}");
    let cors = answer.headers.iter().any(|(name, _)| name.starts_with("access-control-"));
    assert!(!cors, "{what}: {answer:?}");
    assert_eq!(answer.header("strict-transport-security"), None, "{what}: not over http");
    if what.contains("/api/") {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    }
    if answer.status >= 400 {
        let told = answer.json();
        assert!(told["error"].is_string() && told["code"].is_string(), "{what}: {told}");
    }
}

#[test]
fn l_52_l_53_l_60_strangers_get_no_further_than_the_allow_list() {
    let gateway = super::gateway();
    let port = gateway.web_port();
    for (method, path) in routes(port) {
        let what = format!("{method} {path}");
        let answer = ask(port, &method, &filled(&path), &[]);
        check_headers(&answer, &what);
        let is_open = OPEN.contains(&what.as_str());
        assert_eq!(answer.status == 401 && answer.code() == "LOGIN_REQUIRED", !is_open, "{what}");
        // Who signs out without having signed in is told to forget what there may be.
        let forgets = what.ends_with("/logout");
        assert!(forgets || answer.header("set-cookie").is_none(), "{what}: {answer:?}");
        let answer = ask(port, &method, &filled(&path), &[("Cookie", "sojourn=sjw1_made-up")]);
        check_headers(&answer, &what);
        // A dead cookie stands in nobody's way; with one, only our own page may change anything.
        let code = if answer.status >= 400 { answer.code() } else { String::new() };
        let expected = match method.as_str() {
            "GET" if is_open => "",
            "GET" => "LOGIN_REQUIRED",
            _ => "CROSS_ORIGIN",
        };
        assert_eq!(code, expected, "{what}: {answer:?}");
    }
    for (what, answer) in [
        ("404 /api/", ask(port, "GET", "/api/none", &[])),
        ("405 /api/", ask(port, "PUT", "/api/health", &[])),
        ("400 /api/", ask(port, "GET", "/api/sessions", &[("Host", "")])),
        ("421 /api/", ask(port, "GET", "/api/health", &[("Host", "evil.example.org")])),
        ("413 /api/", ask(port, "POST", "/api/auth/login", &[("Content-Length", "17000")])),
        ("431 /api/", ask(port, "GET", "/api/health", &[("X", &"y".repeat(40_000))])),
        ("200 /", ask(port, "GET", "/", &[])),
    ] {
        check_headers(&answer, what);
        let is_told = what.starts_with(&answer.status.to_string());
        assert!(is_told || what.starts_with("400") && answer.status == 421, "{what}: {answer:?}");
    }
}

#[test]
fn l_48_l_49_l_51_only_our_own_page_changes_anything() {
    let gateway = super::gateway();
    let port = gateway.web_port();
    gateway.add_user("olga", "admin", "a-long-enough-passphrase");
    let sign_in = |headers: &[(&str, &str)]| {
        let headers = [&[("Content-Type", "application/json")], headers].concat();
        let body = r#"{"username": "olga", "password": "a-long-enough-passphrase"}"#;
        ask_with(port, "POST", "/api/auth/login", &headers, body)
    };
    let lured = sign_in(&[("Sec-Fetch-Site", "cross-site")]);
    assert_eq!((lured.status, lured.header("set-cookie")), (403, None), "nor is anybody signed in");
    let signed_in = sign_in(&[]);
    assert_eq!(signed_in.status, 200, "{signed_in:?}");
    let cookies: Vec<_> =
        signed_in.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    let cookie = cookies.iter().find_map(|(_, value)| {
        value.starts_with("sojourn=").then(|| value.split(';').next().unwrap_or_default())
    });
    let cookie = cookie.expect("a cookie");
    let token = signed_in.json()["csrf_token"].as_str().expect("a token").to_owned();
    let me = || ask(port, "GET", "/api/me", &[("Cookie", cookie)]);
    assert_eq!(me().status, 200);
    for (method, path) in routes(port) {
        if method == "GET" {
            continue;
        }
        let what = format!("{method} {path}");
        let with = |headers: &[(&str, &str)]| {
            let headers = [&[("Cookie", cookie)], headers].concat();
            let answer = ask(port, &method, &filled(&path), &headers);
            (answer.status, answer.code())
        };
        for headers in [
            &[("X-CSRF-Token", token.as_str())][..],
            &[("X-CSRF-Token", &token), ("Sec-Fetch-Site", "same-site")],
            &[("X-CSRF-Token", &token), ("Sec-Fetch-Site", "none")],
            &[("X-CSRF-Token", &token), ("Origin", "https://evil.example.org")],
            &[("X-CSRF-Token", &token), ("Origin", "null")],
        ] {
            let refused = (403, "CROSS_ORIGIN".to_owned());
            assert_eq!(with(headers), refused, "{what} {headers:?}");
        }
        let is_entry = OPEN.contains(&what.as_str()) && !what.ends_with("/logout");
        if !is_entry {
            let refused = (403, "CSRF_TOKEN".to_owned());
            let ours = ("Sec-Fetch-Site", "same-origin");
            assert_eq!(with(&[ours]), refused, "{what}");
            assert_eq!(with(&[ours, ("X-CSRF-Token", "made-up")]), refused, "{what}");
        }
    }
    for path in ["/api/auth/logout", "/api/sessions/end-all"] {
        let answer = ask(port, "GET", path, &[("Cookie", cookie)]);
        assert!([404, 405].contains(&answer.status), "{path}: {answer:?}");
    }
    assert_eq!(me().status, 200, "the login is as it was");
    let told = |action: &str| {
        let lines = gateway.audit_with(1, action);
        lines.iter().filter(|line| line["action"] == action).count()
    };
    for action in ["cross_origin_refused", "csrf_refused"] {
        // One in ten seconds; the machine may be slow.
        let lines = told(action);
        assert!((1..10).contains(&lines), "{action}: a flood is told of now and then: {lines}");
    }
}

#[test]
fn l_06_l_20_cookies_that_are_none_adopt_nothing_and_block_nothing() {
    let gateway = super::gateway();
    let port = gateway.web_port();
    for cookie in ["sojourn=", "sojourn=x", "sojourn=sjw1_x; sojourn=sjw1_y", "sojourn=\u{e4}"] {
        let answer = ask(port, "GET", "/api/sessions", &[("Cookie", cookie)]);
        assert_eq!((answer.status, answer.code().as_str()), (401, "LOGIN_REQUIRED"), "{cookie}");
        for path in ["/", "/api/health"] {
            assert_eq!(
                ask(port, "GET", path, &[("Cookie", cookie)]).status,
                200,
                "{cookie} {path}"
            );
        }
    }
    let told = gateway.wait_for_audit("two cookies", |line| line["action"] == "cookie_refused");
    assert_eq!(told["details"]["code"], "two_cookies");
    // L-05: a login's token is taken from the cookie alone.
    let bearer = [("Authorization", "Bearer sjw1_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")];
    let answer = ask(port, "GET", "/api/sessions", &bearer);
    assert_eq!((answer.status, answer.code().as_str()), (401, "INVALID_CREDENTIALS"));
}

#[test]
fn l_55_other_hosts_are_not_served_and_forwarded_ones_not_believed() {
    let gateway = super::gateway();
    let port = gateway.web_port();
    let with_port = |host: &str| format!("{host}:{port}");
    for host in ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"] {
        let answer = ask(port, "GET", "/api/health", &[("Host", &with_port(host))]);
        assert_eq!(answer.status, 200, "{host}");
    }
    for host in ["localhost", "evil.example.org", "127.0.0.2:1", "localhost.evil.example.org"] {
        let headers = [("Host", host), ("X-Forwarded-Host", "localhost")];
        let answer = ask(port, "GET", "/api/health", &headers);
        assert_eq!((answer.status, answer.code().as_str()), (421, "MISDIRECTED"), "{host}");
    }
    let absolute = format!("http://evil.example.org:{port}/api/health");
    assert_eq!(ask(port, "GET", &absolute, &[]).status, 421);
}

#[test]
fn behind_a_trusted_proxy_the_address_is_the_one_before_it() {
    let web = "trusted_proxies = [\"127.0.0.0/8\"]".to_owned();
    let options = Options { web, ..Options::default() };
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_sojourn"), &options);
    let port = gateway.web_port();
    let headers =
        [("X-Forwarded-For", "198.51.100.1, 203.0.113.9"), ("Cookie", "sojourn=a; sojourn=b")];
    ask(port, "GET", "/api/sessions", &headers);
    let told = gateway.wait_for_audit("two cookies", |line| line["action"] == "cookie_refused");
    assert_eq!(told["actor"]["ip_address"], "203.0.113.9");
    let health = ask(port, "GET", "/api/health", &headers[..1]).json();
    assert_eq!(health.get("version"), None::<&Value>, "{health}: to strangers the status alone");
    let near = ask(port, "GET", "/api/health", &[]).json();
    assert!(near["version"].is_string(), "{near}");
}

#[test]
fn the_page_is_kept_by_its_tag_and_its_files_for_ever() {
    let gateway = super::gateway();
    let port = gateway.web_port();
    let page = ask(port, "GET", "/", &[("Accept-Encoding", "gzip")]);
    assert_eq!(page.header("content-encoding"), Some("gzip"), "{page:?}");
    let page = ask(port, "GET", "/", &[]);
    let html = String::from_utf8_lossy(&page.body).into_owned();
    let script = html.split('"').find(|part| part.ends_with(".js"));
    let script = script.expect("a script: build the page with `make page`");
    let answer = ask(port, "GET", script, &[]);
    assert_eq!(
        (answer.status, answer.header("cache-control")),
        (200, Some("public, max-age=31536000, immutable"))
    );
    let small = ask(port, "GET", script, &[("Accept-Encoding", "gzip, br")]);
    assert_eq!(small.header("content-encoding"), Some("gzip"));
    assert!(small.body.len() < answer.body.len() / 2, "{} bytes", small.body.len());
    let view = ask(port, "GET", "/sessions/0192", &[("Accept", "text/html")]);
    assert_eq!((view.status, &view.body), (200, &page.body), "a view is the page");
    let none = ask(port, "GET", "/api/nothing", &[("Accept", "text/html")]);
    assert_eq!((none.status, &none.json()["code"]), (404, &Value::from("NOT_FOUND")));
    let tag = page.header("etag").expect("a tag");
    assert_eq!(ask(port, "GET", "/", &[("If-None-Match", tag)]).status, 304);
    let api = ask(port, "GET", "/api/openapi.json", &[("Accept-Encoding", "gzip")]);
    assert_eq!(api.header("content-encoding"), None, "what may hold a secret is not compressed");
}
