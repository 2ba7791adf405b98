//! L-52, L-53: what every answer carries.

use sojourn_testkit::Answer;
use sojourn_testkit::Ask;

use super::*;

/// Answers of every kind that a stranger and a member can get.
fn sweep(gateway: &Gateway, origin: Option<&str>) -> Vec<(String, Answer)> {
    let at = |gateway: &Gateway| match origin {
        Some(origin) => Browser::at(gateway.web_port(), origin),
        None => gateway.browser(),
    };
    let (mut stranger, mut browser) = (at(gateway), at(gateway));
    browser.sign_in("bob", PASSWORD).expect(200);
    let mut answers = Vec::new();
    let document = browser.get("/api/openapi.json").expect(200);
    for path in document["paths"].as_object().expect("paths").keys() {
        let path = super::cross_site::filled(path);
        answers.push((format!("stranger {path}"), stranger.get(&path)));
        if path != "/api/auth/logout" {
            answers.push((format!("bob {path}"), browser.get(&path)));
        }
    }
    let big = vec![b'x'; 1 << 20];
    for (name, ask) in [
        ("200", Ask::new("GET", "/api/me")),
        ("403", Ask::new("POST", "/api/me/login/extend").without("X-CSRF-Token")),
        ("404", Ask::new("GET", "/api/none")),
        ("405", Ask::new("PUT", "/api/me")),
        ("413", Ask::new("POST", "/api/me/keys").body("application/json", &big)),
        ("415", Ask::new("POST", "/api/me/keys").body("text/plain", b"x")),
        ("421", Ask::new("GET", "/api/me").with("Host", "evil.example")),
    ] {
        let answer = browser.send(&ask);
        assert_eq!(answer.status.to_string(), name);
        answers.push((name.to_owned(), answer));
    }
    answers.push(("/".to_owned(), stranger.get("/")));
    answers
}

#[test]
fn l_52_every_answer_carries_what_browsers_are_to_obey() {
    let web = "public_url = \"https://gate.example.org\"".to_owned();
    let Some(gateway) = house_with(Options { web, ..Options::default() }) else { return };
    for (what, answer) in sweep(&gateway, Some("https://gate.example.org")) {
        let header =
            |name: &str| answer.header(name).unwrap_or_else(|| panic!("{what}: no {name}"));
        let policy = header("content-security-policy");
        for part in [
            "default-src 'self'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "worker-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",
            "object-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split(';').any(|said| said.trim() == part), "{what}: {policy}");
        }
        assert_eq!(header("x-content-type-options"), "nosniff", "{what}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{what}");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin", "{what}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{what}");
        let strict = header("strict-transport-security");
        let age = strict.split(';').find_map(|part| part.trim().strip_prefix("max-age="));
        assert!(age.and_then(|age| age.parse::<u64>().ok()) >= Some(31_536_000), "{what}");
        let others = answer.headers.iter().map(|(name, _)| name.as_str());
        let shared: Vec<&str> = others.filter(|name| name.starts_with("access-control")).collect();
        assert_eq!(shared, Vec::<&str>::new(), "{what}");
    }
}

#[test]
fn l_52_without_tls_nothing_is_said_of_tls() {
    let Some(gateway) = house() else { return };
    assert_eq!(gateway.browser().get("/api/health").header("strict-transport-security"), None);
}

#[test]
fn l_53_what_is_for_one_person_is_stored_by_nobody() {
    let Some(gateway) = house() else { return };
    for (what, answer) in sweep(&gateway, None) {
        if what == "/" {
            continue;
        }
        let said = answer.header("cache-control").unwrap_or_default();
        assert!(said.contains("no-store"), "{what}: {said:?}");
    }
    let refused = gateway.browser().sign_in("bob", "not the password of bob");
    assert!(refused.header("cache-control").is_some_and(|said| said.contains("no-store")));
}
