//! What sessions said, so that they can be found by it: command lines of terminals that are over, what
//! people said to agents, what those answered and did.
//!
//! It is read once, after the end, from what is on record; so a gateway that starts finds what the one
//! before had no time for. A conversation that goes on is read when somebody looks for something. Nothing here is needed for anything else, and it may be late.

use std::io::Read;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use serde_json::Value;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_store::MOST_WORDS;
use sojourn_store::Session as Kept;
use sojourn_term::sidecar::Sidecar;
use tokio_util::sync::CancellationToken;

use crate::engine::Inner;
use crate::listing::StoreUnavailable;
use crate::records::SHELL;
use crate::screens::open;

/// Sessions that are read in one go.
const AT_ONCE: u32 = 50;
/// The longest sidecar that is read, in bytes.
const LONGEST: u64 = 4 << 20;
/// Events of a conversation that are read in one go, and at most.
const PAGE: u32 = 200;
const MOST_EVENTS: u64 = 20_000;
/// Of one that goes on fewer: it is read for each search.
const MOST_EVENTS_YET: u64 = 2_000;
/// An end may be known here that much later than it was.
const SLACK: Duration = Duration::from_secs(600);
/// Letters around what was looked for.
const AROUND: usize = 60;

/// Reads the words of what is over, as long as there is an engine that is not going down.
pub(crate) async fn keep(engine: Weak<Inner>, shutdown: CancellationToken) {
    let Some(mut pulse) = engine.upgrade().map(|inner| inner.pulse.subscribe()) else { return };
    let mut since = Wall(0);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            beat = pulse.changed() => if beat.is_err() {
                return;
            },
        }
        let Some(inner) = engine.upgrade() else { return };
        let now = inner.clock.wall();
        // What cannot be read now is looked for again at the next beat.
        if let Ok(true) = inner.keep_words(since).await {
            since = now.before(SLACK);
        }
    }
}

impl Inner {
    /// Reads those that were over after this. Whether that is all of them.
    async fn keep_words(self: &Arc<Self>, since: Wall) -> Result<bool, StoreUnavailable> {
        let store = self.records.store();
        let sessions = store.sessions_without_words(since, AT_ONCE).await?;
        let all = sessions.len() < AT_ONCE as usize;
        for session in sessions {
            let id = session.new.id;
            let words = match session.new.harness.as_str() {
                SHELL => self.commands(session).await,
                _ => self.said(id, MOST_EVENTS).await?,
            };
            store.keep_words(id, &words).await?;
        }
        Ok(all)
    }

    /// A terminal's command lines, as far as they were recognised; empty where they cannot be read.
    async fn commands(&self, session: Kept) -> String {
        let Some(recording) = session.end.and_then(|end| end.recording) else {
            return String::new();
        };
        let Some(name) = recording.path.strip_suffix(".cast") else { return String::new() };
        let (name, directory) = (format!("{name}.json"), self.screens.recordings());
        let read = move || {
            let mut text = String::new();
            open(&directory, &name)?.take(LONGEST).read_to_string(&mut text)?;
            let sidecar: Sidecar = serde_json::from_str(&text)?;
            Ok::<_, std::io::Error>(sidecar)
        };
        let sidecar = match tokio::task::spawn_blocking(read).await {
            Ok(Ok(sidecar)) => sidecar,
            Ok(Err(error)) => {
                tracing::debug!(session = %session.new.id, %error, "a session's words cannot be read");
                return String::new();
            }
            Err(_) => return String::new(),
        };
        let mut words = Words::default();
        sidecar.commands.iter().for_each(|line| words.line(line));
        words.text
    }

    /// What was said so far in an agent's session that goes on.
    pub(crate) async fn said_yet(&self, id: SessionId) -> Result<String, StoreUnavailable> {
        self.said(id, MOST_EVENTS_YET).await
    }

    /// What was said in the first events of an agent's session.
    async fn said(&self, id: SessionId, most: u64) -> Result<String, StoreUnavailable> {
        let (mut words, mut next) = (Words::default(), 1);
        loop {
            let events = self.records.store().agent_events(id, next, PAGE).await?;
            let Some(last) = events.last().map(|event| event.seq) else { break };
            for event in &events {
                if let Ok(event) = serde_json::from_str(&event.event) {
                    words.event(&event);
                }
            }
            next = last + 1;
            if words.is_full() || next > most {
                break;
            }
        }
        Ok(words.text)
    }
}

/// Words as they come together.
#[derive(Default)]
struct Words {
    text: String,
    /// Whether the last ones were a piece of what goes on.
    in_piece: bool,
}

impl Words {
    fn is_full(&self) -> bool {
        self.text.len() >= MOST_WORDS - 4
    }

    /// A line of its own.
    fn line(&mut self, line: &str) {
        self.in_piece = false;
        if !self.text.is_empty() && !line.is_empty() {
            self.add("\n");
        }
        self.add(line);
    }

    /// A piece of a text that comes in pieces.
    fn piece(&mut self, piece: &str) {
        match self.in_piece {
            true => self.add(piece),
            false => self.line(piece),
        }
        self.in_piece = true;
    }

    fn add(&mut self, text: &str) {
        for letter in text.chars().flat_map(char::to_lowercase) {
            if self.is_full() {
                return;
            }
            self.text.push(if letter == '\0' { ' ' } else { letter });
        }
    }

    /// What an event says that people would look for.
    fn event(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match event["type"].as_str() {
            Some("user_message") => self.line(&text(&event["content"])),
            Some("prompt") => self.line(&text(&event["description"])),
            Some("question") => self.line(&text(&event["question"])),
            Some("update") => {
                let update = &event["update"];
                match update["sessionUpdate"].as_str() {
                    Some("agent_message_chunk") => self.piece(&text(&update["content"]["text"])),
                    Some("tool_call") => self.line(&text(&update["title"])),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// Where a text has what was looked for, and a little around it, on one line.
pub(crate) fn around(text: &str, wanted: &str) -> Option<String> {
    let at = text.find(wanted)?;
    let line_start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let line_end = text.get(at..)?.find('\n').map_or(text.len(), |end| at + end);
    let from = text.floor_char_boundary(at.saturating_sub(AROUND).max(line_start));
    let upto = text.ceil_char_boundary((at + wanted.len() + AROUND).min(line_end.max(at)));
    let cut = |is_cut: bool| if is_cut { "…" } else { "" };
    let found = text.get(from..upto)?.trim();
    Some(format!("{}{found}{}", cut(from > line_start), cut(upto < line_end)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_words_of_a_conversation_are_what_was_said_and_done() {
        let mut words = Words::default();
        let chunk = |text: &str| {
            json!({"type": "update", "update": {"sessionUpdate": "agent_message_chunk",
                "content": {"type": "text", "text": text}}})
        };
        for event in [
            json!({"type": "step", "step": "directory"}),
            json!({"type": "user_message", "content": "Fix THE Query"}),
            chunk("I will lo"),
            chunk("ok at it"),
            json!({"type": "update", "update": {"sessionUpdate": "tool_call", "title": "cargo test"}}),
            json!({"type": "prompt", "description": "rm -rf target"}),
            chunk("Done"),
        ] {
            words.event(&event);
        }
        assert_eq!(words.text, "fix the query\ni will look at it\ncargo test\nrm -rf target\ndone");
    }

    #[test]
    fn there_are_no_more_words_than_are_kept() {
        let mut words = Words::default();
        (0..10_000).for_each(|_| words.line("\u{df}\u{1e9e}ä\0"));
        assert!(words.text.len() <= MOST_WORDS && words.is_full());
        assert!(!words.text.contains('\0'));
    }

    #[test]
    fn what_was_found_is_shown_with_what_is_around_it() {
        assert_eq!(around("ls -l\ncd /tmp\nmake", "tmp").as_deref(), Some("cd /tmp"));
        assert_eq!(around("ls", "cd"), None);
        let long = format!("{}needle{}", "ä ".repeat(100), " ö".repeat(100));
        let found = around(&long, "needle").unwrap();
        assert!(found.starts_with('…') && found.ends_with('…') && found.contains(" needle "));
        assert!(found.chars().count() < 140, "{found}");
        assert_eq!(around("a\nb", "a\nb").as_deref(), Some("a"), "lines stay lines");
    }
}
