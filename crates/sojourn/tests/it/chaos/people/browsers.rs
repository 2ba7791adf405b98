//! What people do with browsers.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Ask;
use sojourn_testkit::Browser;
use sojourn_testkit::Frame;
use sojourn_testkit::Socket;

use super::super::dice::Dice;
use super::super::ledger::Printed;
use super::super::town::PASSWORD;
use super::super::town::Street;
use super::super::town::VISITOR;
use super::super::town::WEB_LINES;

/// How long a browser waits for the next frame before it looks at where it is.
const FRAME: Duration = Duration::from_millis(300);

/// Asks once. What the audit log owes for it is written down before it is asked, and when it is answered.
pub(super) fn ask(
    street: &Street,
    browser: &mut Browser,
    ask: &Ask,
    owed: Option<(&'static str, &str)>,
) -> Option<(u16, Value)> {
    street.find(browser);
    if let Some((action, user)) = owed {
        street.ledger.asks(action, user);
    }
    let answer = browser.try_once(ask).ok()?;
    if answer.status >= 500 && answer.status != 503 {
        street.ledger.breach(format!("{ask:?} was answered {} {}", answer.status, answer.text()));
    }
    if let Some((action, user)) = owed.filter(|_| (200..300).contains(&answer.status)) {
        street.ledger.is_answered(action, user);
    }
    Some((answer.status, answer.json()))
}

/// Signs in, however long that takes.
pub(super) fn sign_in(street: &Street, user: &str) -> Option<Browser> {
    let body = json!({"username": user, "password": PASSWORD});
    let login = Ask::new("POST", "/api/auth/login").json(&body);
    let owed = Some(("login_succeeded", user));
    let mut browser = street.browser();
    street.insist(&format!("{user}'s login"), || {
        let (status, _) = ask(street, &mut browser, &login, owed)?;
        (status == 200).then_some(())
    })?;
    Some(browser)
}

/// Starts a session, once, however often it has to be asked for.
pub(super) fn start(
    street: &Street,
    browser: &mut Browser,
    user: &str,
    body: &Value,
) -> Option<String> {
    let mut tries = 0;
    let id = street.insist(&format!("{user}'s session"), || {
        tries += 1;
        let key = format!("{user}-{}-{tries}", street.ledger.ticks());
        let post = Ask::new("POST", "/api/sessions").json(body).with("Idempotency-Key", &key);
        let answer = ask(street, browser, &post, None).or_else(|| {
            // Nobody knows whether it was started: whoever asks again with its key is told, if need be once it is.
            street.insist(&format!("an answer about {user}'s session"), || {
                let answer = ask(street, browser, &post, None);
                answer.filter(|(status, _)| ![409, 503].contains(status))
            })
        });
        let (status, told) = answer?;
        if status == 401 {
            *browser = sign_in(street, user)?;
        }
        (status == 201).then(|| told["session_id"].as_str().map(str::to_owned))?
    })?;
    street.ledger.begun.lock().unwrap().push(id.clone());
    Some(id)
}

/// What a session is now.
pub(super) fn show(street: &Street, browser: &mut Browser, user: &str, id: &str) -> Option<Value> {
    let get = Ask::new("GET", &format!("/api/sessions/{id}"));
    match ask(street, browser, &get, None)? {
        (200, session) => Some(session),
        (401, _) => {
            *browser = sign_in(street, user)?;
            None
        }
        (404, _) => {
            street.ledger.breach(format!("{user}'s session {id} is not there any more"));
            None
        }
        _ => None,
    }
}

/// A terminal that is started, typed into once and looked at to its end, over as many sockets as that
/// takes.
pub(super) fn terminal(street: &Street, user: &str) {
    let Some(mut browser) = sign_in(street, user) else { return };
    let body = json!({"harness": "shell", "profile": "counting"});
    let Some(id) = start(street, &mut browser, user, &body) else { return };
    let mut seen = Vec::new();
    let mut told_end = false;
    let ended = street.insist(&format!("the end of {user}'s session {id}"), || {
        let path = format!("/api/sessions/{id}/attach?from={}", seen.len());
        if let Ok(Ok(mut socket)) = browser.reach(&path)
            && let Some(told) = look(street, &mut socket, &id, &mut seen)
        {
            told_end = told["exit"]["code"] == 7;
            return Some(told);
        }
        street.find(&mut browser);
        let session = show(street, &mut browser, user, &id)?;
        ["ended", "failed"].contains(&session["status"].as_str()?).then_some(session)
    });
    let reason =
        ended.map(|end| end["reason"].as_str().or(end["end_reason"].as_str()).map(str::to_owned));
    street.ledger.tell(format!("{user} {id}: {reason:?} after {} bytes", seen.len()));
    street.ledger.printed.lock().unwrap().push(Printed {
        tag: "w".to_owned(),
        session: Some(id),
        before: "ready\r\n".to_owned(),
        lines: Some(WEB_LINES),
        seen,
        told_end,
    });
}

/// Looks on until the session or the socket ends; says how the session did.
fn look(street: &Street, socket: &mut Socket, id: &str, seen: &mut Vec<u8>) -> Option<Value> {
    let mut was_there = false;
    loop {
        let frame = socket.try_next_within(FRAME).ok()?;
        street.ledger.tick();
        match frame {
            Some(Frame::Output(number, bytes)) => {
                let next = u64::try_from(seen.len()).unwrap();
                if number != next {
                    let what = format!("{id}: output {number} was sent where {next} was next");
                    street.ledger.breach(what);
                }
                seen.extend(bytes);
            }
            // Who comes when it is over is told so; the rest is in its recording.
            Some(Frame::Text(told)) if told["type"] == "ended" && !was_there => return None,
            Some(Frame::Text(told)) if told["type"] == "ended" => return Some(told),
            // What cannot be had soon is drawn; whoever wants every byte comes again.
            Some(Frame::Text(told)) if told["type"] == "snapshot" => {
                street.ledger.tell(format!("{id}: a snapshot after {} bytes", seen.len()));
                return None;
            }
            Some(Frame::Closed(..)) => return None,
            Some(Frame::Text(_)) => was_there = true,
            None => {}
        }
        // Until the program says that it has heard it. What it does not read does no harm.
        if seen.ends_with(b"ready\r\n") && socket.input(b"w\n").is_err() {
            return None;
        }
    }
}

/// Somebody signs in, now and then with a wrong password.
pub(super) fn sign_ins(street: &Street, dice: &mut Dice) {
    for _ in 0..6 {
        let mut browser = street.browser();
        let right = dice.below(3) > 0;
        let password = if right { PASSWORD } else { "not the password of anybody" };
        let body = json!({"username": VISITOR, "password": password});
        let login = Ask::new("POST", "/api/auth/login").json(&body);
        if right {
            ask(street, &mut browser, &login, Some(("login_succeeded", VISITOR)));
        } else {
            street.ledger.asks("login_failed", VISITOR);
            if let Some((401, _)) = ask(street, &mut browser, &login, None) {
                street.ledger.is_answered("login_failed", VISITOR);
            }
        }
        street.ledger.tick();
        // A person's pace.
        std::thread::sleep(Duration::from_millis(200));
    }
}
