//! L-39 to L-42: guessing is slow, nobody is locked out by it, and nothing is learned from it.

use std::time::Duration;
use std::time::Instant;

use sojourn_testkit::Answer;
use sojourn_testkit::Ask;

use super::*;

/// A sign-in that comes from this address, as the proxy on loopback says.
fn from(browser: &mut Browser, address: &str, name: &str, password: &str) -> Answer {
    let body = json!({"username": name, "password": password});
    let ask = Ask::new("POST", "/api/auth/login").json(&body).with("X-Forwarded-For", address);
    let answer = browser.send(&ask);
    if let Some(token) = answer.json()["csrf_token"].as_str() {
        browser.csrf = Some(token.to_owned());
    }
    answer
}

fn behind_a_proxy() -> Options {
    Options { web: "trusted_proxies = [\"127.0.0.1\"]".to_owned(), ..Options::default() }
}

const WRONG: &str = "not the password of anybody";

#[test]
fn l_39_five_failures_are_free_then_each_doubles_the_wait() {
    let Some(mut gateway) = house_with(behind_a_proxy()) else { return };
    gateway.clock().hold();
    let mut stranger = gateway.browser();
    let mut octet = 0;
    // From many addresses, so that it is the account that is counted.
    let mut try_it = |stranger: &mut Browser, password: &str| {
        octet += 1;
        from(stranger, &format!("198.51.{}.{octet}", octet / 200), "bob", password)
    };
    // Five cost nothing; the sixth does.
    for _ in 0..6 {
        try_it(&mut stranger, WRONG).refused(401, "INVALID_CREDENTIALS");
    }
    // Throttled: the right one is not even looked at, and the answer is the same.
    try_it(&mut stranger, PASSWORD).refused(401, "INVALID_CREDENTIALS");
    gateway.clock().advance("15s");
    try_it(&mut stranger, PASSWORD).refused(401, "INVALID_CREDENTIALS");
    // It survives a restart; the clock has run on meanwhile.
    gateway.kill();
    gateway.launch();
    gateway.clock().hold();
    stranger.follow(gateway.web_port());
    try_it(&mut stranger, PASSWORD).refused(401, "INVALID_CREDENTIALS");
    gateway.clock().advance("15s");
    // One more failure doubles the wait; a success forgets them.
    try_it(&mut stranger, WRONG).refused(401, "INVALID_CREDENTIALS");
    gateway.clock().advance("59s");
    try_it(&mut stranger, PASSWORD).refused(401, "INVALID_CREDENTIALS");
    gateway.clock().advance("2s");
    try_it(&mut stranger, PASSWORD).expect(200);
    let mut stranger = gateway.browser();
    for _ in 0..5 {
        try_it(&mut stranger, WRONG).refused(401, "INVALID_CREDENTIALS");
    }
    try_it(&mut stranger, PASSWORD).expect(200);
    assert!(!recorded(&gateway, "login_throttled", 1).is_empty());
    let kept = tables(&gateway)["throttle"].iter().map(Value::to_string).collect::<String>();
    assert!(!kept.contains("bob"), "names are hashed: {kept}");
}

#[test]
fn l_39_at_a_hundred_in_a_row_the_password_is_good_for_nothing() {
    let Some(gateway) = house_with(behind_a_proxy()) else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut stranger = gateway.browser();
    for number in 0..100 {
        from(&mut stranger, &format!("203.0.113.{number}"), "bob", WRONG)
            .refused(401, "INVALID_CREDENTIALS");
        clock.advance("61m");
    }
    clock.advance("30d");
    from(&mut stranger, "198.51.100.1", "bob", PASSWORD).refused(401, "INVALID_CREDENTIALS");
    // An admin's link is the way back.
    let link = carol(&gateway).post("/api/users/bob/reset", &json!({})).expect(200);
    let reset = json!({"token": link["token"], "new_password": OTHER, "confirm_password": OTHER});
    gateway.browser().post("/api/auth/reset", &reset).expect(200);
    gateway.browser().sign_in("bob", OTHER).expect(200);
}

#[test]
fn l_40_twenty_failures_from_an_address_are_enough() {
    let Some(gateway) = house() else { return };
    gateway.clock().hold();
    let mut stranger = gateway.browser();
    for number in 0..20 {
        // What nobody trusted says of itself is not believed.
        let name = format!("nobody{number}");
        let answer = from(&mut stranger, &format!("203.0.113.{number}"), &name, WRONG);
        answer.refused(401, "INVALID_CREDENTIALS");
    }
    let answer = from(&mut stranger, "203.0.113.99", "nobody", WRONG);
    let told = answer.refused(429, "RATE_LIMITED");
    let seconds: u64 = answer.header("retry-after").and_then(|s| s.parse().ok()).expect("seconds");
    assert!((1..=900).contains(&seconds), "{seconds}");
    assert!(told["retry_after_ms"].as_u64().is_some_and(|ms| ms <= seconds * 1000), "{told}");
    assert_eq!(found_in(&everything_kept(&gateway), WRONG), Vec::<String>::new());
    gateway.clock().advance("16m");
    bob(&gateway);
}

#[test]
fn l_40_addresses_are_told_apart_by_proxies_that_are_trusted() {
    let Some(gateway) = house_with(behind_a_proxy()) else { return };
    gateway.clock().hold();
    let mut stranger = gateway.browser();
    // A network of IPv6 is one address; what the client itself wrote to the left counts for nothing.
    for number in 0..20 {
        let chain = format!("192.0.2.{number}, 2001:db8:1:2::{number:x}");
        from(&mut stranger, &chain, &format!("nobody{number}"), WRONG);
    }
    from(&mut stranger, "2001:db8:1:2:ffff::1", "nobody", WRONG).refused(429, "RATE_LIMITED");
    from(&mut stranger, "2001:db8:1:3::1", "bob", PASSWORD).expect(200);
}

#[test]
fn l_41_nobody_is_locked_out_by_somebody_elses_guesses() {
    let Some(gateway) = house_with(behind_a_proxy()) else { return };
    gateway.clock().hold();
    let mut owner = gateway.browser();
    from(&mut owner, "192.0.2.1", "bob", PASSWORD).expect(200);
    owner.post("/api/auth/logout", &json!({})).expect(204);
    let mut attacker = gateway.browser();
    let attempts = if crate::is_long_run() { 1000 } else { 60 };
    for _ in 0..attempts {
        assert_ne!(from(&mut attacker, "198.51.100.66", "bob", WRONG).status, 200);
    }
    // From the browser they signed in with before, wherever it is now.
    owner.csrf = None;
    from(&mut owner, "192.0.2.2", "bob", PASSWORD).expect(200);
    // The cookie that does this opens nothing by itself.
    let mut thief = gateway.browser();
    let device = owner.jar.get("sojourn-dev").expect("a known device").to_owned();
    thief.jar.put("sojourn-dev", &device);
    thief.get("/api/me").refused(401, "LOGIN_REQUIRED");
}

#[test]
fn l_42_nothing_tells_whether_a_name_exists() {
    let Some(gateway) = house_with(behind_a_proxy()) else { return };
    gateway.add_user("dora", "member", "yet another fine pass phrase 3");
    gateway.cli(&["user", "disable", "dora"]);
    gateway.clock().hold();
    let mut stranger = gateway.browser();
    let rounds = if crate::is_long_run() { 200 } else { 12 };
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut answers = Vec::new();
    let mut number = 0;
    for _ in 0..rounds {
        // No known name, a wrong password, a closed account, an account without a password.
        for name in ["erin", "bob", "dora", "alice"] {
            number += 1;
            let address = format!("10.{}.{}.1", number / 250, number % 250);
            let begun = Instant::now();
            let answer = from(&mut stranger, &address, name, WRONG);
            times.entry(name).or_default().push(begun.elapsed());
            let mut headers = answer.headers.clone();
            headers.retain(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"));
            answers.push((answer.status, headers, answer.text()));
        }
        gateway.clock().advance("61m");
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let median = |name: &str| {
        let mut all = times[name].clone();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let known = median("bob");
    for name in ["erin", "dora", "alice"] {
        let (less, more) = (median(name).min(known), median(name).max(known));
        // On a machine that does other things as well; the long run has the numbers for 5 ms.
        let most = if crate::is_long_run() { Duration::from_millis(5) } else { known / 2 };
        assert!(more - less <= most, "{name}: {:?} against {known:?}", median(name));
    }
}

#[test]
fn l_37_a_flood_of_sign_ins_costs_few_hashes_at_a_time() {
    const HASH: u64 = 19 << 20;
    let Some(gateway) = house_with(behind_a_proxy()) else { return };
    let many = if crate::is_long_run() { 500 } else { 60 };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let (before, mut most) = (crate::memory_of(gateway.pid()), 0);
    let mut waits = Vec::new();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let flood: Vec<_> = (0..many)
            .map(|n| {
                let (address, mut browser) =
                    (format!("198.51.{}.{}", n / 200, n % 200), gateway.browser());
                scope.spawn(move || from(&mut browser, &address, &format!("nobody{n}"), WRONG))
            })
            .collect();
        let mut onlooker = gateway.browser();
        while !flood.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let begin = Instant::now();
            onlooker.get("/api/health").expect(200);
            waits.push(begin.elapsed());
            most = most.max(crate::memory_of(gateway.pid()));
        }
        flood.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    waits.sort_unstable();
    let (median, last) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    let grown = most.saturating_sub(before);
    println!("{many} sign-ins: health p50 {median:?} p99 {last:?}, {} KiB more", grown >> 10);
    assert!(grown <= (cores / 2).max(1) * HASH + (32 << 20), "{} KiB more", grown >> 10);
    let told_to_wait = |answer: &&Answer| answer.status == 503;
    assert!(answers.iter().any(|answer| answer.status == 401), "some had their turn");
    for answer in answers.iter().filter(|answer| answer.status != 401) {
        assert!(told_to_wait(&answer) && answer.header("retry-after").is_some(), "{answer:?}");
    }
    assert!(answers.iter().filter(told_to_wait).count() < many, "{many}");
    assert!(many < 100 || answers.iter().any(|answer| answer.status == 503), "the queue is short");
}
