//! What an agent says, in events that are as short as an event has to be.
//!
//! Text is split and nothing of it lost. Whatever else is too long is shortened where it is long, and
//! marked.

use serde_json::Value;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Held;
use sojourn_core::wire::relay::MAX_EVENT;

/// The longest update: an event with something around it.
const MAX_UPDATE: usize = MAX_EVENT - 1024;

/// A piece of a long text, in bytes. As JSON it is at most six times as long.
const PIECE: usize = 32 << 10;

/// The longest text and the longest list in something that was too long.
const MAX_TEXT: usize = 4 << 10;
const MAX_LIST: usize = 64;

/// Updates that are pieces of a text.
const CHUNKS: [&str; 3] = ["agent_message_chunk", "agent_thought_chunk", "user_message_chunk"];

/// The kind of an update, as the protocol names it.
pub(super) fn kind(update: &Value) -> &str {
    update.get("sessionUpdate").and_then(Value::as_str).unwrap_or_default()
}

/// An update as events, in order.
pub(super) fn events(update: Value) -> Vec<Event> {
    let bytes = length(&update);
    if bytes <= MAX_UPDATE {
        return vec![Event::Update { update }];
    }
    if let Some(pieces) = split(&update) {
        return pieces.into_iter().map(|update| Event::Update { update }).collect();
    }
    let cut = Event::Cut { what: Held::LongUpdate, bytes: bytes as u64 };
    let mut update = update;
    shorten(&mut update);
    match length(&update) <= MAX_UPDATE {
        true => vec![Event::Update { update }, cut],
        false => vec![cut],
    }
}

/// How long something is as JSON, in bytes.
pub(super) fn length(value: &Value) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

/// A long text as several updates; none when it is no text, or not the text that is long.
fn split(update: &Value) -> Option<Vec<Value>> {
    let text =
        CHUNKS.contains(&kind(update)).then(|| update.pointer("/content/text"))??.as_str()?;
    let mut around = update.clone();
    *around.pointer_mut("/content/text")? = Value::Null;
    if length(&around) > MAX_UPDATE - 6 * PIECE - 2 {
        return None;
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        *around.pointer_mut("/content/text")? = piece.into();
        pieces.push(around.clone());
        rest = after;
    }
    Some(pieces)
}

/// Cuts long texts and lists, and says so where they end. Returns whether there were any.
pub(super) fn shorten(value: &mut Value) -> bool {
    match value {
        Value::String(text) if text.len() > MAX_TEXT => {
            let end = text.floor_char_boundary(MAX_TEXT);
            let left_out = text.len() - end;
            text.truncate(end);
            text.push_str(&format!(" … ({left_out} bytes left out)"));
            true
        }
        Value::Array(items) => {
            let mut cut = false;
            if items.len() > MAX_LIST {
                let left_out = items.len() - MAX_LIST;
                items.truncate(MAX_LIST);
                items.push(format!("… ({left_out} more left out)").into());
                cut = true;
            }
            for item in items {
                cut |= shorten(item);
            }
            cut
        }
        Value::Object(fields) => {
            let mut cut = false;
            for field in fields.values_mut() {
                cut |= shorten(field);
            }
            cut
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(events: &[Event]) -> String {
        let texts = events.iter().map(|event| match event {
            Event::Update { update } => update["content"]["text"].as_str().unwrap(),
            other => panic!("{other:?}"),
        });
        texts.collect()
    }

    #[test]
    fn a_long_text_becomes_several_updates_and_loses_nothing() {
        let text = "ä\u{1}€".repeat(200_000);
        let update = json!({
            "sessionUpdate": "agent_message_chunk",
            "messageId": "m",
            "content": {"type": "text", "text": text},
        });
        let events = events(update);
        assert!(events.len() > 10, "{}", events.len());
        assert!(events.iter().all(Event::fits));
        assert_eq!(said(&events), text);
    }

    #[test]
    fn whatever_else_is_long_is_shortened_and_marked() {
        let update = json!({
            "sessionUpdate": "tool_call_update",
            "toolCallId": "t",
            "rawOutput": {"stdout": "x".repeat(1 << 20), "lines": vec!["y"; 5000]},
        });
        let events = events(update);
        let [Event::Update { update }, Event::Cut { what: Held::LongUpdate, bytes }] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert!(*bytes > 1 << 20);
        assert!(events.iter().all(Event::fits));
        assert_eq!(update["toolCallId"], "t");
        assert!(update["rawOutput"]["stdout"].as_str().unwrap().ends_with("bytes left out)"));
        assert_eq!(update["rawOutput"]["lines"].as_array().unwrap().len(), MAX_LIST + 1);
    }

    #[test]
    fn what_cannot_be_shortened_is_only_marked() {
        let fields: serde_json::Map<String, Value> =
            (0..40_000).map(|n| (format!("field {n}"), n.into())).collect();
        let events = events(json!({"sessionUpdate": "plan", "entries": fields}));
        assert!(matches!(events[..], [Event::Cut { what: Held::LongUpdate, .. }]), "{events:?}");
    }
}
