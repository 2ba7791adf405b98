//! What a person is shown of something an agent wants to do, and the hash that binds the answer to it.
//!
//! An agent tells of a tool call in pieces: when it begins, while it goes on, and when it asks. Here
//! they become one. Nothing here decides anything.

use std::collections::VecDeque;

use agent_client_protocol::v1::schema::ToolCallUpdate;
use serde_json::Map;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;
use sojourn_core::wire::relay::MAX_EVENT;
use sojourn_core::wire::relay::Prompt;
use sojourn_core::wire::relay::Question;
use sojourn_core::wire::relay::RequestId;
use sojourn_term::escape::escape;

use super::updates;

/// The longest line about something.
const MAX_LINE: usize = 200;

/// The longest prompt: an event with something around it.
const MAX_SHOWN: usize = MAX_EVENT - 4096;

/// So many tool calls are remembered.
const MAX_CALLS: usize = 64;

/// The longest tool call that is remembered, as JSON, with all that was told of it.
const MAX_CALL: usize = MAX_EVENT;

/// Where it stands how much of a call was not remembered; no agent says that.
const LEFT_OUT: &str = "sojournLeftOut";

/// What is remembered of one that stays too long when its long texts are cut.
const LEAST: [&str; 4] = ["toolCallId", "title", "name", "kind"];

/// Unchanged lines around a change.
const CONTEXT: usize = 3;

/// The tool calls of late, as far as they were told.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: VecDeque<(String, Map<String, Value>)>,
}

impl Calls {
    /// Takes notice of a `tool_call` or `tool_call_update`; gives the whole call so far, unless that is
    /// too long to be remembered whole.
    pub(super) fn told(&mut self, update: &Value) -> Option<&Map<String, Value>> {
        let fields = update.as_object()?;
        let id = fields.get("toolCallId")?.as_str()?;
        let mut call = match self.calls.iter().position(|(known, _)| known == id) {
            Some(place) => self.calls.remove(place).map(|(_, call)| call).unwrap_or_default(),
            None => Map::new(),
        };
        lay_over(&mut call, fields);
        // What it gave is not what it wants.
        call.remove("rawOutput");
        bound(&mut call);
        if self.calls.len() >= MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back((id.to_owned(), call));
        self.calls.back().map(|(_, call)| call).filter(|call| !call.contains_key(LEFT_OUT))
    }

    /// The call that is asked about, with what was told of it before.
    pub(super) fn asked(&self, call: &ToolCallUpdate) -> Map<String, Value> {
        let known = self.calls.iter().find(|(id, _)| **id == *call.tool_call_id.0);
        let mut whole = known.map(|(_, call)| call.clone()).unwrap_or_default();
        if let Ok(Value::Object(fields)) = serde_json::to_value(call) {
            lay_over(&mut whole, &fields);
        }
        whole
    }
}

fn lay_over(call: &mut Map<String, Value>, fields: &Map<String, Value>) {
    for (name, value) in fields {
        if !value.is_null() && name != "sessionUpdate" && name != LEFT_OUT {
            call.insert(name.clone(), value.clone());
        }
    }
}

/// Forgets of a call what is too much of it, and remembers that it did. Each piece that an agent tells
/// is bounded; together they are here.
fn bound(call: &mut Map<String, Value>) {
    let length = |call: &Map<String, Value>| updates::length(&Value::Object(call.clone()));
    let whole = length(call);
    if whole <= MAX_CALL {
        return;
    }
    for value in call.values_mut() {
        updates::shorten(value);
    }
    if length(call) > MAX_CALL {
        call.retain(|name, value| LEAST.contains(&name.as_str()) && value.is_string());
    }
    let before = call.get(LEFT_OUT).and_then(Value::as_u64).unwrap_or(0);
    let now = u64::try_from(whole.saturating_sub(length(call))).unwrap_or(u64::MAX);
    call.insert(LEFT_OUT.to_owned(), before.saturating_add(now).into());
}

/// The kind of a tool call, as rules and people know it.
pub(super) fn kind(call: &Map<String, Value>) -> String {
    let kind = call.get("kind").and_then(Value::as_str).unwrap_or("other");
    escape(kind, 32)
}

/// What is shown of a tool call. False when something had to be left out: no rule may be made of it.
pub(super) fn prompt(request: RequestId, call: &Map<String, Value>) -> (Prompt, bool) {
    let text = |name: &str| call.get(name).and_then(Value::as_str);
    let kind = kind(call);
    let title = text("title").unwrap_or_default();
    let tool = text("name").or(Some(title)).filter(|name| !name.is_empty()).unwrap_or(&kind);
    let mut details = details(call);
    let mut diff = diff(call);
    let whole = updates::length(&Value::Object(details.clone()))
        + diff.as_ref().map_or(0, |diff| updates::length(&diff.as_str().into()));
    let forgotten = call.get(LEFT_OUT).and_then(Value::as_u64);
    let is_whole = whole <= MAX_SHOWN && forgotten.is_none();
    if let Some(bytes) = forgotten {
        details.insert("left_out".to_owned(), bytes.into());
    }
    if whole > MAX_SHOWN {
        let mut short = Value::Object(std::mem::take(&mut details));
        updates::shorten(&mut short);
        if updates::length(&short) <= MAX_SHOWN / 2 {
            details = short.as_object().cloned().unwrap_or_default();
        }
        details.insert("left_out".to_owned(), whole.into());
        diff = diff.map(|diff| diff[..diff.floor_char_boundary(MAX_SHOWN / 16)].to_owned());
    }
    let mut prompt = Prompt {
        request,
        tool: escape(tool, MAX_LINE),
        description: escape(if title.is_empty() { tool } else { title }, MAX_LINE),
        kind,
        details,
        diff,
        input_hash: String::new(),
        rule: None,
    };
    let shown = serde_json::json!([prompt.kind, prompt.tool, prompt.details, prompt.diff]);
    prompt.input_hash = hash(&shown);
    (prompt, is_whole)
}

/// What is shown of a question.
pub(super) fn question(request: RequestId, question: String, schema: Value) -> Question {
    let input_hash = hash(&serde_json::json!([question, schema]));
    Question { request, question, schema, input_hash }
}

/// What will happen, with the command and the path where people look for them.
fn details(call: &Map<String, Value>) -> Map<String, Value> {
    let mut details = Map::new();
    let input = call.get("rawInput");
    if let Some(command) = input.and_then(|input| input.get("command").or(input.get("cmd"))) {
        details.insert("command".to_owned(), command.clone());
    }
    let path = PATHS.iter().find_map(|name| input?.get(*name)?.as_str());
    let path = path.or_else(|| call.get("locations")?.get(0)?.get("path")?.as_str());
    if let Some(path) = path {
        details.insert("path".to_owned(), path.into());
    }
    if let Some(input) = input {
        details.insert("input".to_owned(), input.clone());
    }
    if let Some(locations) = call.get("locations").filter(|list| **list != Value::Array(vec![])) {
        details.insert("locations".to_owned(), locations.clone());
    }
    let content = call.get("content").and_then(Value::as_array).into_iter().flatten();
    let content: Vec<Value> =
        content.filter(|item| item.get("type") != Some(&"diff".into())).cloned().collect();
    if !content.is_empty() {
        details.insert("content".to_owned(), content.into());
    }
    if let Some(title) = call.get("title") {
        details.insert("title".to_owned(), title.clone());
    }
    details
}

/// Names under which tools take the path they work on.
pub(super) const PATHS: [&str; 8] = [
    "file_path",
    "filePath",
    "path",
    "abs_path",
    "absolute_path",
    "notebook_path",
    "dir_path",
    "directory",
];

/// What would change, as a unified diff.
fn diff(call: &Map<String, Value>) -> Option<String> {
    let content = call.get("content").and_then(Value::as_array)?;
    let diffs = content.iter().filter(|item| item.get("type") == Some(&"diff".into()));
    let mut patch = String::new();
    for diff in diffs {
        let text = |name: &str| diff.get(name).and_then(Value::as_str);
        let path = text("path").unwrap_or_default();
        patch.push_str(&unified(path, text("oldText"), text("newText").unwrap_or_default()));
    }
    (!patch.is_empty()).then_some(patch)
}

/// One hunk: everything from the first line that differs to the last.
fn unified(path: &str, old: Option<&str>, new: &str) -> String {
    let path = escape(path, 4096);
    let before: Vec<&str> = old.unwrap_or_default().lines().collect();
    let after: Vec<&str> = new.lines().collect();
    let same = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let rest = before.len().min(after.len()) - same;
    let tail =
        before.iter().rev().zip(after.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(CONTEXT);
    let more = tail.min(CONTEXT);
    let (old_end, new_end) = (before.len() - tail, after.len() - tail);
    let start = |lines: &[&str]| if lines.is_empty() { 0 } else { from + 1 };
    let mut patch = match old {
        Some(_) => format!("--- {path}\n"),
        None => "--- /dev/null\n".to_owned(),
    };
    patch.push_str(&format!(
        "+++ {path}\n@@ -{},{} +{},{} @@\n",
        start(&before),
        old_end + more - from,
        start(&after),
        new_end + more - from
    ));
    let mut lines = |sign: char, lines: &[&str]| {
        for line in lines {
            patch.push(sign);
            patch.push_str(line);
            patch.push('\n');
        }
    };
    lines(' ', before.get(from..same).unwrap_or_default());
    lines('-', before.get(same..old_end).unwrap_or_default());
    lines('+', after.get(same..new_end).unwrap_or_default());
    lines(' ', before.get(old_end..old_end + more).unwrap_or_default());
    patch
}

/// SHA-256 of something as it is shown, in hexadecimal. The order of an object's fields is none.
fn hash(shown: &Value) -> String {
    let mut text = String::new();
    canonical(shown, &mut text);
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in fields {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                canonical(value, text);
                text.push(',');
            }
            text.push('}');
        }
        leaf => text.push_str(&leaf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(call: Value) -> Prompt {
        prompt(RequestId::new(), call.as_object().unwrap()).0
    }

    #[test]
    fn flaw_09_a_prompt_names_the_tool_it_is_about() {
        let call = json!({
            "toolCallId": "7", "title": "make\nall", "name": "Bash", "kind": "execute",
            "rawInput": {"command": "make all", "description": "build it"},
        });
        let prompt = shown(call);
        assert_eq!((prompt.tool.as_str(), prompt.kind.as_str()), ("Bash", "execute"));
        assert_eq!(prompt.description, "make\\nall");
        assert_eq!(prompt.details["command"], "make all");
        assert_eq!(prompt.details["input"]["description"], "build it");
    }

    #[test]
    fn the_hash_is_of_what_is_shown_and_of_nothing_else() {
        let call = |id: &str, command: &str| {
            shown(json!({"toolCallId": id, "kind": "execute", "rawInput": {"command": command}}))
        };
        assert_eq!(call("1", "make").input_hash, call("2", "make").input_hash);
        assert_ne!(call("1", "make").input_hash, call("1", "make ").input_hash);
        let one = shown(json!({"toolCallId": "1", "rawInput": {"a": 1, "b": [2]}}));
        let other = shown(json!({"rawInput": {"b": [2], "a": 1}, "toolCallId": "1"}));
        assert_eq!(one.input_hash, other.input_hash, "the order of fields is none");
        let edit = |text: &str| {
            let content =
                json!([{"type": "diff", "path": "/w/a", "oldText": "x\n", "newText": text}]);
            shown(json!({"toolCallId": "1", "kind": "edit", "content": content}))
        };
        assert_ne!(edit("y\n").input_hash, edit("z\n").input_hash);
        assert_eq!(edit("y\n").diff.unwrap(), "--- /w/a\n+++ /w/a\n@@ -1,1 +1,1 @@\n-x\n+y\n");
    }

    #[test]
    fn a_diff_shows_what_changes_with_a_little_around_it() {
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("10\n", "ten\nand more\n");
        let expected =
            "--- a\n+++ a\n@@ -7,7 +7,8 @@\n 7\n 8\n 9\n-10\n+ten\n+and more\n 11\n 12\n 13\n";
        assert_eq!(unified("a", Some(&old), &new), expected);
        assert_eq!(unified("a", None, "x\n"), "--- /dev/null\n+++ a\n@@ -0,0 +1,1 @@\n+x\n");
        assert!(unified("a", Some("x\n"), "x\nx\n").ends_with("@@ -1,1 +1,2 @@\n x\n+x\n"));
    }

    #[test]
    fn what_is_too_long_to_be_shown_whole_says_so() {
        let call = json!({"toolCallId": "1", "rawInput": {"content": "\u{1}".repeat(1 << 20)}});
        let (prompt, is_whole) = prompt(RequestId::new(), call.as_object().unwrap());
        assert!(!is_whole);
        assert!(prompt.details["left_out"].as_u64().unwrap() > 1 << 20);
        assert!(sojourn_core::wire::relay::Event::Prompt(Box::new(prompt)).fits());
    }

    #[test]
    fn a_call_is_told_in_pieces_and_shown_whole() {
        let mut calls = Calls::default();
        let title = "Write a";
        calls.told(&json!({"sessionUpdate": "tool_call", "toolCallId": "1", "title": title}));
        let input = json!({"file_path": "/w/a"});
        calls.told(&json!({"sessionUpdate": "tool_call_update", "toolCallId": "1", "rawInput": input, "title": null}));
        let asked = serde_json::from_value(json!({"toolCallId": "1", "kind": "edit"})).unwrap();
        let whole = calls.asked(&asked);
        assert_eq!((&whole["title"], &whole["kind"]), (&json!(title), &json!("edit")));
        assert_eq!(shown(Value::Object(whole)).details["path"], "/w/a");
        for n in 0..2 * MAX_CALLS {
            calls.told(&json!({"toolCallId": n.to_string(), "title": "x"}));
        }
        assert_eq!(calls.calls.len(), MAX_CALLS);
    }

    #[test]
    fn a_call_that_grows_with_every_piece_is_bounded_and_its_prompt_says_so() {
        let mut calls = Calls::default();
        let piece = "x".repeat(MAX_CALL / 2);
        for n in 0..20 {
            let field = format!("field{n}");
            calls.told(&json!({"toolCallId": "1", "title": "Write", field: piece}));
            let held = updates::length(&Value::Object(calls.calls[0].1.clone()));
            assert!(held <= MAX_CALL + 100, "{held}");
        }
        // An agent that claims to have left nothing out is not believed.
        let ask =
            json!({"toolCallId": "1", "kind": "edit", LEFT_OUT: 0, "rawInput": {"path": "/w"}});
        let mut whole = calls.asked(&serde_json::from_value(ask.clone()).unwrap());
        lay_over(&mut whole, ask.as_object().unwrap());
        let (prompt, is_whole) = prompt(RequestId::new(), &whole);
        assert!(!is_whole, "no rule is made of it");
        assert!(prompt.details["left_out"].as_u64().unwrap() > 2_000_000, "{:?}", prompt.details);
        assert_eq!((prompt.description.as_str(), &prompt.details["path"]), ("Write", &json!("/w")));
        let numbers: Vec<u64> = (0..MAX_CALL as u64).collect();
        calls.told(&json!({"toolCallId": "2", "title": "t", "rawInput": {"a": {"b": numbers}}}));
        assert!(updates::length(&Value::Object(calls.calls[1].1.clone())) <= MAX_CALL);
    }
}
