//! What people do with an agent on a runner of their own.

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Ask;
use sojourn_testkit::Browser;

use super::super::dice::Dice;
use super::super::ledger::Conversation;
use super::super::town::OWNER;
use super::super::town::Street;
use super::browsers::ask;
use super::browsers::show;
use super::browsers::sign_in;
use super::browsers::start;

/// What it streams.
const STREAM: usize = 40_000;

/// Everything that happened so far, or none when nobody says.
fn events(street: &Street, browser: &mut Browser, id: &str) -> Option<Vec<Value>> {
    let get = Ask::new("GET", &format!("/api/sessions/{id}/events?limit=1000"));
    let (status, page) = ask(street, browser, &get, None)?;
    (status == 200).then(|| page["items"].as_array().cloned())?
}

/// What the agent said.
pub(in crate::chaos) fn said(events: &[Value]) -> String {
    let events = events.iter().map(|item| &item["event"]);
    let updates = events.filter(|event| event["type"] == "update");
    updates.filter_map(|event| event["update"]["content"]["text"].as_str()).collect()
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|item| item["event"]["type"] == kind).count()
}

/// One turn of an agent, which asks or talks at length; then its session is ended.
pub(super) fn conversation(street: &Street, dice: &mut Dice) {
    let asks = dice.below(2) == 0;
    let (prompt, text) = match asks {
        true => ("perm".to_owned(), "ran make all\n".to_owned()),
        false => (format!("stream {STREAM} at 20k/s"), "x".repeat(STREAM)),
    };
    let Some(mut browser) = sign_in(street, OWNER) else { return };
    let body = json!({"harness": "fake", "cwd": street.work, "prompt": prompt});
    let Some(id) = start(street, &mut browser, OWNER, &body) else { return };
    let mut kept: Vec<Value> = Vec::new();
    let (mut granted, mut whole) = (false, false);
    street.insist(&format!("the turn of {id}"), || {
        let session = show(street, &mut browser, OWNER, &id)?;
        let status = session["status"].as_str()?.to_owned();
        let now = events(street, &mut browser, &id)?;
        if !now.starts_with(&kept) {
            let what = format!("{id}: what was shown is not there: {} {}", kept.len(), now.len());
            street.ledger.breach(what);
        }
        kept = now;
        let prompt = kept.iter().map(|item| &item["event"]).find(|event| event["type"] == "prompt");
        let is_open = count(&kept, "resolved") == 0 && count(&kept, "ended") == 0;
        if let Some(prompt) = prompt.filter(|_| is_open && !granted) {
            granted = allow(street, &mut browser, &id, prompt);
            return None;
        }
        let ended = ["ended", "failed"].contains(&status.as_str());
        // Its process is gone, and nobody resumes it.
        let lost = status == "disconnected" && count(&kept, "ended") > 0;
        let cut = count(&kept, "turn_cut") > 0 || count(&kept, "ended") > 0;
        whole = status == "waiting" && !is_waiting_for_us(&kept) && !cut && !said(&kept).is_empty();
        (whole || ended || lost).then_some(())
    });
    let text = if granted || !asks { text } else { String::new() };
    street.insist(&format!("that {id} is told to end"), || {
        let delete = Ask::new("DELETE", &format!("/api/sessions/{id}"));
        match ask(street, &mut browser, &delete, None)? {
            (202, _) => Some(()),
            (401, _) => {
                browser = sign_in(street, OWNER)?;
                None
            }
            _ => None,
        }
    });
    street.insist(&format!("the end of {id}"), || {
        let session = show(street, &mut browser, OWNER, &id)?;
        ["ended", "failed"].contains(&session["status"].as_str()?).then_some(())
    });
    street.ledger.tell(format!("{id}: {prompt}: {} events, whole {whole}", kept.len()));
    let events = kept.len();
    let conversation = Conversation { session: id, text, events, whole, granted };
    street.ledger.conversations.lock().unwrap().push(conversation);
}

/// Whether the last thing that happened is a question.
fn is_waiting_for_us(events: &[Value]) -> bool {
    count(events, "prompt") > count(events, "resolved")
}

/// Allows what was asked for, and says whether that was taken.
fn allow(street: &Street, browser: &mut Browser, id: &str, prompt: &Value) -> bool {
    let request = prompt["request"].as_str().unwrap_or_default();
    let body = json!({"input_hash": prompt["input_hash"], "allow": true});
    let post = Ask::new("POST", &format!("/api/sessions/{id}/prompts/{request}")).json(&body);
    match ask(street, browser, &post, None) {
        Some((200, _)) => true,
        // It was taken the first time, when nobody could say so.
        Some((409, told)) => told["by"] == OWNER,
        _ => false,
    }
}
