//! What an agent says word by word, told in fewer and longer events: a word at once when it was silent
//! before, and what follows closely as one, in order, after a moment at most.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::updates;

/// The shortest time between two events of words.
const PACE: Duration = Duration::from_millis(50);

/// The longest text that is put together, in bytes.
const MOST: usize = 32 << 10;

/// Updates that are words of a longer text.
const WORDS: [&str; 2] = ["agent_message_chunk", "agent_thought_chunk"];

/// Words that were said and are not told yet.
#[derive(Debug, Default)]
pub(super) struct Speech {
    /// An update with all of them.
    held: Option<Value>,
    /// When words were told last.
    told_at: Option<Instant>,
}

impl Speech {
    /// Takes an update: what is to be told now, in order.
    pub(super) fn take(&mut self, update: Value, now: Instant) -> Vec<Value> {
        let update = match &mut self.held {
            Some(held) => match joined(held, update) {
                None => return Vec::new(),
                Some(other) => other,
            },
            None => update,
        };
        let mut due = Vec::from_iter(self.release(now));
        let is_close = self.told_at.is_some_and(|told| now < told + PACE);
        match length(&update) {
            Some(bytes) if is_close && bytes <= MOST => self.held = Some(update),
            Some(_) => {
                self.told_at = Some(now);
                due.push(update);
            }
            None => due.push(update),
        }
        due
    }

    /// What is held: something else is to be told, which comes after it.
    pub(super) fn release(&mut self, now: Instant) -> Option<Value> {
        let held = self.held.take()?;
        self.told_at = Some(now);
        Some(held)
    }

    /// When what is held is to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref().and(self.told_at).map(|told| told + PACE)
    }
}

/// How long the text of an update is; none when it is no words.
fn length(update: &Value) -> Option<usize> {
    let is_text = update.pointer("/content/type").and_then(Value::as_str) == Some("text");
    let text = update.pointer("/content/text").and_then(Value::as_str);
    text.filter(|_| is_text && WORDS.contains(&updates::kind(update))).map(str::len)
}

/// Puts an update at the end of what is held. Gives it back when it does not belong there.
fn joined(held: &mut Value, update: Value) -> Option<Value> {
    let fits = match (length(held), length(&update)) {
        (Some(one), Some(other)) => one + other <= MOST,
        _ => false,
    };
    if !fits || !is_alike(held, &update) {
        return Some(update);
    }
    let more = update.pointer("/content/text").and_then(Value::as_str).unwrap_or_default();
    if let Some(Value::String(text)) = held.pointer_mut("/content/text") {
        text.push_str(more);
    }
    None
}

/// Whether two updates are the same but for their text: the same message, and nothing more to either.
fn is_alike(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return false };
    let around = |name: &str| name != "content";
    let same = |name: &String, value: &Value| other.get(name) == Some(value);
    one.len() == other.len()
        && one.iter().filter(|(name, _)| around(name)).all(|(name, value)| same(name, value))
        && [one, other].iter().all(|update| {
            let content = update.get("content").and_then(Value::as_object);
            content.is_some_and(|content| content.len() == 2)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(kind: &str, message: u8, text: &str) -> Value {
        json!({
            "sessionUpdate": kind,
            "messageId": message.to_string(),
            "content": {"type": "text", "text": text},
        })
    }

    fn text(update: &Value) -> &str {
        update["content"]["text"].as_str().unwrap_or_default()
    }

    #[test]
    fn the_first_word_is_told_at_once_and_what_follows_closely_as_one() {
        let (mut speech, now) = (Speech::default(), Instant::now());
        let word = |text: &str| said(WORDS[0], 1, text);
        assert_eq!(speech.take(word("a"), now), [word("a")]);
        for text in ["b", "c", "d"] {
            assert_eq!(speech.take(word(text), now + PACE / 2), [Value::Null; 0]);
        }
        assert_eq!(speech.due(), Some(now + PACE));
        assert_eq!(speech.release(now + PACE), Some(word("bcd")));
        assert_eq!(speech.due(), None);
        assert_eq!(speech.take(word("e"), now + PACE * 3), [word("e")], "it was silent");
        // What is no word is told at once, behind what was said before it.
        assert!(speech.take(word("f"), now + PACE * 3).is_empty());
        let call = json!({"sessionUpdate": "tool_call", "toolCallId": "t"});
        assert_eq!(speech.take(call.clone(), now + PACE * 3), [word("f"), call]);
        let long = word(&"x".repeat(MOST + 1));
        assert_eq!(speech.take(long.clone(), now + PACE * 3), [long]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_told_out_of_order(
            steps in prop::collection::vec((0..3_usize, 0..2_u8, 0..70_u64, "[a-z]{0,3}"), 0..60),
        ) {
            let mut speech = Speech::default();
            let (mut now, mut told) = (Instant::now(), Vec::new());
            let mut wanted = Vec::new();
            for (kind, message, wait, word) in steps {
                now += Duration::from_millis(wait);
                if speech.due().is_some_and(|due| due <= now) {
                    told.extend(speech.release(now));
                }
                let kind = [WORDS[0], WORDS[1], "plan"][kind];
                let update = said(kind, message, &word);
                wanted.push(update.clone());
                told.extend(speech.take(update, now));
                prop_assert!(speech.due().is_none_or(|due| due > now && due <= now + PACE));
            }
            told.extend(speech.release(now));
            // The same, each message's words put together, and nothing empty.
            let joined = |updates: &[Value]| {
                let mut joined: Vec<Value> = Vec::new();
                for update in updates {
                    match joined.last_mut().filter(|last| is_alike(last, update)) {
                        Some(last) if length(last).is_some() => {
                            last["content"]["text"] = format!("{}{}", text(last), text(update)).into();
                        }
                        _ => joined.push(update.clone()),
                    }
                }
                joined
            };
            prop_assert_eq!(joined(&told), joined(&wanted));
        }
    }
}
