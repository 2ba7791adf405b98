//! L-27, L-28, and the sockets of L-12, L-16, L-21 and L-50: what is open ends with the login it was
//! opened by, and the work goes on.

use std::time::Duration;
use std::time::Instant;

use sojourn_testkit::Ask;
use sojourn_testkit::Frame;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Socket;
use sojourn_testkit::until;

use super::*;

/// Starts a shell and gives its id.
fn shell(browser: &mut Browser) -> String {
    let started = browser.post("/api/sessions", &json!({"harness": "shell"})).expect(201);
    started["session_id"].as_str().expect("an id").to_owned()
}

fn path(session: &str) -> String {
    format!("/api/sessions/{session}/attach")
}

/// Attaches and waits for a prompt.
fn attached(browser: &Browser, session: &str) -> Socket {
    let mut socket = browser.socket(&path(session));
    socket.wait_for_output("# ");
    socket
}

fn status(browser: &mut Browser, session: &str) -> String {
    let shown = browser.get(&format!("/api/sessions/{session}")).expect(200);
    shown["status"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn ended_with(socket: &mut Socket, reason: &str) {
    let (code, told) = socket.wait_for_close();
    assert_eq!(code, 4401);
    let last = told.iter().find(|frame| frame["type"] == "login_ended").expect("why");
    assert_eq!(last["reason"], reason);
}

#[test]
fn l_27_ending_a_login_closes_its_terminals_and_the_work_goes_on() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let session = shell(&mut browser);
    let mut socket = attached(&browser, &session);
    socket.input(b"printf 'ready%s\\n' now\n").expect("an open socket");
    socket.wait_for_output("readynow");
    let begun = Instant::now();
    browser.post("/api/auth/logout", &json!({})).expect(204);
    // Typed at once after the answer: nobody is there any more to hear it.
    let _closed = socket.input(b"touch /root/x\n");
    ended_with(&mut socket, "logout");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());

    let mut browser = bob(&gateway);
    assert_eq!(status(&mut browser, &session), "running", "it goes on, detached");
    let mut socket = browser.socket(&path(&session));
    socket.wait_for_output("readynow");
    socket
        .input(b"[ -e /root/x ] && printf 'there%s\\n' is || printf 'is%s\\n' not\n")
        .expect("open");
    socket.wait_for_output("isnot");
    socket.json(&json!({"type": "end"})).expect("an open socket");
}

#[test]
fn l_27_with_a_thousand_sockets_exactly_those_of_the_login_close() {
    let per_login = if crate::is_long_run() { 100 } else { 10 };
    let limits =
        "max_concurrent_sessions = 64\nmax_sessions_per_user = 64\nstarts_per_minute = 600\n";
    let options = Options { limits: limits.to_owned(), ..Options::default() };
    let Some(gateway) = house_with(options) else { return };
    let mut browsers: Vec<Browser> = (0..10).map(|_| bob(&gateway)).collect();
    // A terminal has so many who look on, so they look on at several.
    let total = per_login * browsers.len();
    let sessions: Vec<String> = (0..total.div_ceil(25)).map(|_| shell(&mut browsers[0])).collect();
    let mut drivers: Vec<Socket> =
        sessions.iter().map(|session| attached(&browsers[0], session)).collect();
    let mut turn = sessions.iter().cycle();
    let mut sockets: Vec<Vec<Socket>> = browsers
        .iter()
        .map(|browser| {
            let looking = turn.by_ref().take(per_login);
            looking
                .map(|session| browser.socket(&format!("{}?mode=watch", path(session))))
                .collect()
        })
        .collect();
    let print = |drivers: &mut [Socket], word: &str| {
        for driver in drivers {
            let command = format!("printf '{word}%s\\n' here\n");
            driver.input(command.as_bytes()).expect("an open socket");
        }
    };
    print(&mut drivers, "all");
    for socket in sockets.iter_mut().flatten() {
        socket.wait_for_output("allhere");
    }
    let mut doomed = sockets.pop().expect("the last login's");
    let mut last = browsers.pop().expect("the last login");
    let mut closing: Vec<_> = Vec::new();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = doomed
            .drain(..)
            .map(|mut socket| {
                scope.spawn(move || {
                    let (code, _) = socket.wait_for_close();
                    (code, Instant::now())
                })
            })
            .collect();
        let begun = Instant::now();
        last.post("/api/auth/logout", &json!({})).expect(204);
        for waiting in waiting {
            let (code, at) = waiting.join().expect("a close");
            assert_eq!(code, 4401);
            closing.push(at.duration_since(begun));
        }
    });
    closing.sort_unstable();
    let p99 = closing[(closing.len() * 99 / 100).min(closing.len() - 1)];
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    // Every other one still gets what is printed.
    print(&mut drivers, "still");
    for socket in sockets.iter_mut().flatten() {
        socket.wait_for_output("stillhere");
    }
    println!("{} sockets closed, the slowest after {p99:?}", closing.len());
}

#[test]
fn l_12_a_password_change_ends_sockets_and_what_logins_started() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let session = shell(&mut browser);
    let mut socket = attached(&browser, &session);
    browser.post("/api/auth/change-password", &change(PASSWORD, OTHER)).expect(200);
    ended_with(&mut socket, "password_change");
    let mut browser = gateway.signed_in("bob", OTHER);
    until("the session's end", PATIENCE, || {
        let shown = browser.get(&format!("/api/sessions/{session}")).expect(200);
        (shown["status"] == "ended").then(|| assert_eq!(shown["end_reason"], "login_ended"))
    });
}

#[test]
fn l_28_an_open_terminal_does_not_keep_a_login_alive() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    let session = shell(&mut browser);
    let mut socket = attached(&browser, &session);
    // What the terminal prints is not what somebody does.
    socket.input(b"for i in 1 2 3; do echo line$i; sleep 0.1; done\n").expect("an open socket");
    socket.wait_for_output("line3");
    clock.advance("29m59s");
    let quiet = socket.next_within(Duration::from_millis(200));
    assert!(!matches!(quiet, Some(Frame::Closed(..))), "{quiet:?}");
    clock.advance("1s");
    ended_with(&mut socket, "inactivity");
}

#[test]
fn l_16_typing_is_activity_and_keeps_a_login_alive() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    let session = shell(&mut browser);
    let mut socket = attached(&browser, &session);
    for key in 0..12 {
        clock.advance("10m");
        socket.input(format!("printf 'key%s\\n' {key}\n").as_bytes()).expect("an open socket");
        socket.wait_for_output(&format!("key{key}\r\n"));
    }
    assert!(is_in(&mut browser), "two hours");
    clock.advance("30m");
    ended_with(&mut socket, "inactivity");
}

#[test]
fn l_21_an_open_terminal_is_told_before_the_end() {
    let Some(gateway) = house() else { return };
    let clock = gateway.clock();
    clock.hold();
    let mut browser = bob(&gateway);
    let session = shell(&mut browser);
    let mut socket = attached(&browser, &session);
    clock.advance("25m");
    assert_eq!(socket.wait_for("login_expiring")["seconds"], 300);
    clock.advance("4m");
    assert_eq!(socket.wait_for("login_expiring")["seconds"], 60);
    browser.post("/api/me/login/extend", &json!({})).expect(200);
    assert!(is_in(&mut browser));
}

#[test]
fn l_50_a_socket_is_opened_by_our_own_pages_alone() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let session = shell(&mut browser);
    let ask = || Ask::new("GET", &path(&session));
    let own = browser.origin().to_owned();
    let refused = [
        ask().without("Origin").without("Sec-Fetch-Site"),
        ask().cross_site(),
        ask().without("Sec-Fetch-Site").with("Origin", "https://evil.example"),
        ask().without("Sec-Fetch-Site").with("Origin", "null"),
        ask().without("Sec-Fetch-Site").with("Origin", "http://localhost"),
        ask().with("Sec-Fetch-Site", "same-site"),
    ];
    for ask in refused {
        let answer = browser.try_socket(&ask).expect_err("no socket");
        assert_eq!(answer.outcome(), (403, "CROSS_ORIGIN".to_owned()), "{ask:?}");
    }
    let stranger = gateway.browser();
    let answer = stranger.try_socket(&ask()).expect_err("no socket");
    assert_eq!(answer.outcome(), (401, "LOGIN_REQUIRED".to_owned()));
    let by_origin = ask().without("Sec-Fetch-Site").with("Origin", &own);
    assert!(browser.try_socket(&by_origin).is_ok());
}
