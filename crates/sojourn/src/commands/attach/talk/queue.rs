//! Messages that wait until the agent is done with what it does: they can be changed, and taken back.

use serde_json::Value as Json;
use serde_json::json;

use crate::output;

/// How much of a message a list shows, in characters.
const SHOWN: usize = 60;

/// Those that wait, in the order in which they were said.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Vec<(String, String)>,
}

impl Queue {
    /// Forgets all: the gateway tells anew.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// This one is on its way.
    pub(super) fn add(&mut self, id: &str, content: &str) {
        self.waiting.push((id.to_owned(), content.to_owned()));
    }

    /// Takes what is told of a message.
    pub(super) fn heed(&mut self, told: &Json) {
        let Some(id) = told["client_msg_id"].as_str() else { return };
        let known = self.waiting.iter_mut().find(|(known, _)| known == id);
        match (told["state"].as_str(), told["content"].as_str(), known) {
            (Some("queued"), Some(content), Some(known)) => content.clone_into(&mut known.1),
            (Some("queued"), Some(content), None) => self.add(id, content),
            (Some("queued"), None, _) => {}
            _ => self.waiting.retain(|(known, _)| known != id),
        }
    }

    /// A line each, numbered from 1.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(n, (_, content)): (usize, &(String, String))| {
            let mut shown: String = content.lines().next().unwrap_or_default().to_owned();
            if shown.chars().count() > SHOWN || content.lines().nth(1).is_some() {
                shown = shown.chars().take(SHOWN - 1).chain(['…']).collect();
            }
            format!("  {}: {}", n + 1, output::foreign(&shown))
        };
        self.waiting.iter().enumerate().map(line).collect()
    }

    /// What `/cancel N` says to the gateway.
    pub(super) fn cancel(&self, n: &str) -> Option<Json> {
        let (id, _) = self.nth(n)?;
        Some(json!({"type": "message_cancel", "client_msg_id": id}))
    }

    /// What `/edit N TEXT` says to the gateway.
    pub(super) fn edit(&self, rest: &str) -> Option<Json> {
        let (n, content) = rest.split_once(' ')?;
        let (id, _) = self.nth(n)?;
        let content = content.trim();
        (!content.is_empty())
            .then(|| json!({"type": "message_edit", "client_msg_id": id, "content": content}))
    }

    fn nth(&self, n: &str) -> Option<&(String, String)> {
        let n: usize = n.trim().parse().ok()?;
        self.waiting.get(n.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: &str, state: &str, content: Option<&str>) -> Json {
        json!({"type": "message", "client_msg_id": id, "state": state, "content": content})
    }

    #[test]
    fn what_waits_is_listed_changed_and_taken_back() {
        let mut queue = Queue::default();
        queue.add("a", "first");
        queue.heed(&told("a", "queued", Some("first")));
        queue.heed(&told("b", "queued", Some("second\nline \x1b[2J")));
        assert_eq!(queue.lines(), ["  1: first", "  2: second…"]);
        assert_eq!(queue.cancel("2").unwrap()["client_msg_id"], "b");
        let edit = queue.edit("1 another thing").unwrap();
        assert_eq!(
            (&edit["client_msg_id"], &edit["content"]),
            (&json!("a"), &json!("another thing"))
        );
        for nothing in [queue.cancel("0"), queue.cancel("3"), queue.cancel("x"), queue.edit("1")] {
            assert!(nothing.is_none());
        }
        queue.heed(&told("a", "queued", Some("another thing")));
        assert_eq!(queue.lines()[0], "  1: another thing");
        queue.heed(&told("a", "sent", None));
        queue.heed(&told("b", "cancelled", None));
        assert!(queue.is_empty());
    }
}
