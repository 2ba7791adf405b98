//! An agent's conversation as lines: what is said, done and asked, from its events. For somebody who
//! attaches and for somebody who replays; everything foreign is shown escaped.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::output;

/// The longest line that is shown of what is no message: a tool's title, standard error.
const LONGEST: usize = 400;

/// What is being printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Open {
    /// Nothing: the next thing begins a line.
    #[default]
    Nothing,
    /// What the agent says.
    Message,
    /// What it thinks.
    Thought,
}

/// Tells a conversation.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    open: Open,
    /// Whether the last character printed ended a line.
    is_at_start: bool,
}

impl Teller {
    /// What to print of an event.
    pub(crate) fn event(&mut self, event: &Json) -> String {
        let mut out = String::new();
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        match text("type") {
            "update" => self.update(&event["update"], &mut out),
            "user_message" => {
                let by = event["by"]["user"].as_str().unwrap_or("somebody");
                for (n, line) in text("content").lines().enumerate() {
                    let sign =
                        if n == 0 { format!("{}> ", output::foreign(by)) } else { "  ".to_owned() };
                    self.line(&mut out, &format!("{sign}{}", output::foreign(line)));
                }
            }
            "step" if text("state") == "failed" => {
                let what = format!("{} failed: {}", text("step"), cut(text("message")));
                self.line(&mut out, &format!("! {what}"));
            }
            "prompt" => self
                .line(&mut out, &format!("? {}: {}", cut(text("tool")), cut(text("description")))),
            "question" => self.line(&mut out, &format!("? {}", cut(text("question")))),
            "resolved" => self.resolved(&event["outcome"], &mut out),
            "turn_ended" if text("stop_reason") != "end_turn" => {
                self.line(&mut out, &format!("- the turn ended: {}", cut(text("stop_reason"))));
            }
            // What is typed next stands on a line of its own.
            "turn_ended" => self.end_line(&mut out),
            "turn_cut" => {
                self.line(&mut out, &format!("- the turn was cut off: {}", cut(text("why"))))
            }
            "notice" => self.line(&mut out, &format!("! {}", cut(text("message")))),
            "mode" => self.line(&mut out, &format!("- mode: {}", cut(text("mode")))),
            "diff" => {
                let files = event["files"].as_array().map_or(0, Vec::len);
                self.line(&mut out, &format!("- files changed so far: {files}"));
            }
            "stderr" => {
                for line in text("text").lines() {
                    self.line(&mut out, &format!("! {}", cut(line)));
                }
            }
            "cut" => {
                let bytes = event["bytes"].as_u64().unwrap_or_default();
                self.line(&mut out, &format!("- {bytes} bytes were left out"));
            }
            "limit_warned" => {
                let seconds = event["seconds"].as_u64().unwrap_or_default();
                let why = match text("limit") {
                    "idle_timeout" => ": nobody says anything; a message keeps it",
                    "max_runtime" => ": its time is over",
                    _ => "",
                };
                self.line(&mut out, &format!("- the session ends in {seconds} s{why}"));
            }
            "ended" => {
                let why = text("reason").replace('_', " ");
                let more = text("message");
                let more = if more.is_empty() { String::new() } else { format!(": {}", cut(more)) };
                self.line(&mut out, &format!("- ended ({why}){more}"));
            }
            _ => {}
        }
        out
    }

    /// A line of its own.
    pub(crate) fn line(&mut self, out: &mut String, line: &str) {
        self.end_line(out);
        out.push_str(line);
        out.push('\n');
        self.is_at_start = true;
    }

    fn end_line(&mut self, out: &mut String) {
        if self.open != Open::Nothing && !self.is_at_start {
            out.push('\n');
        }
        self.open = Open::Nothing;
        self.is_at_start = true;
    }

    fn update(&mut self, update: &Json, out: &mut String) {
        let text = |name: &str| update[name].as_str().unwrap_or_default();
        match text("sessionUpdate") {
            "agent_message_chunk" => self.chunk(Open::Message, &update["content"], out),
            "agent_thought_chunk" => self.chunk(Open::Thought, &update["content"], out),
            "tool_call" => self.line(out, &format!("* {}", cut(text("title")))),
            "tool_call_update" if text("status") == "failed" => {
                self.line(out, "* that failed");
            }
            "plan" => {
                for step in update["entries"].as_array().into_iter().flatten() {
                    let sign = match step["status"].as_str() {
                        Some("completed") => "x",
                        Some("in_progress") => ">",
                        _ => " ",
                    };
                    let what = cut(step["content"].as_str().unwrap_or_default());
                    self.line(out, &format!("[{sign}] {what}"));
                }
            }
            _ => {}
        }
    }

    /// More of what is being said: as it comes, without a line's end of ours.
    fn chunk(&mut self, kind: Open, content: &Json, out: &mut String) {
        let text = content["text"].as_str().unwrap_or_default();
        if text.is_empty() {
            return;
        }
        if self.open != kind {
            if self.open != Open::Nothing && !self.is_at_start {
                out.push('\n');
            }
            self.open = kind;
            self.is_at_start = true;
        }
        for (n, line) in text.split('\n').enumerate() {
            if n > 0 {
                out.push('\n');
                self.is_at_start = true;
            }
            if !line.is_empty() {
                if self.is_at_start && kind == Open::Thought {
                    out.push_str("~ ");
                }
                // Writing to a String cannot fail.
                let _ = write!(out, "{}", output::foreign(line));
                self.is_at_start = false;
            }
        }
    }

    fn resolved(&mut self, outcome: &Json, out: &mut String) {
        let decision = match outcome["decision"].as_str() {
            Some("allow") => "allowed",
            _ => "denied",
        };
        let by = outcome["by"]["user"].as_str().unwrap_or("somebody");
        let line = match outcome["is"].as_str().unwrap_or_default() {
            "answered" => format!("= {decision} by {}", output::foreign(by)),
            "settled" if outcome["rule"].is_object() => format!("= {decision} by a rule"),
            "settled" => format!("= {decision} by the session's mode"),
            other => format!("= {}", cut(other)),
        };
        self.line(out, &line);
    }
}

/// A line from elsewhere, not too long.
fn cut(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(LONGEST).collect();
    output::foreign(&short)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(events: &[Json]) -> String {
        let mut teller = Teller::default();
        events.iter().map(|event| teller.event(event)).collect()
    }

    #[test]
    fn a_conversation_is_told_line_by_line() {
        let chunk = |text: &str| {
            let content = json!({"type": "text", "text": text});
            json!({"type": "update",
                "update": {"sessionUpdate": "agent_message_chunk", "content": content}})
        };
        let text = told(&[
            json!({"type": "user_message", "content": "list\nit", "by": {"user": "ana"}}),
            chunk("I wi"),
            chunk("ll.\nNow"),
            json!({"type": "update", "update": {"sessionUpdate": "tool_call", "title": "ls"}}),
            json!({"type": "prompt", "tool": "Bash", "description": "ls"}),
            json!({"type": "resolved",
                "outcome": {"is": "answered", "decision": "deny", "by": {"user": "ana"}}}),
            json!({"type": "ended", "reason": "ended_by"}),
        ]);
        let wanted = "ana> list\n  it\nI will.\nNow\n* ls\n? Bash: ls\n= denied by ana\n\
            - ended (ended by)\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn nothing_an_agent_says_acts_on_the_terminal() {
        let evil = "\x1b]0;x\x07\u{202e}";
        let text = told(&[
            json!({"type": "stderr", "text": evil}),
            json!({"type": "update", "update": {"sessionUpdate": "agent_message_chunk",
                "content": {"type": "text", "text": evil}}}),
            json!({"type": "prompt", "tool": evil, "description": evil}),
            json!({"type": "update", "update": {"sessionUpdate": 7}}),
            json!(null),
        ]);
        let is_plain = |c: char| c == '\n' || (!c.is_control() && c != '\u{202e}');
        assert!(text.chars().all(is_plain), "{text:?}");
    }
}
