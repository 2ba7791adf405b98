//! What fuzzers call of conversations.

use std::path::Path;

use agent_client_protocol::v1::schema::ToolCallUpdate;
use serde_json::Value;
use sojourn_core::fuzz::pieces;
use sojourn_core::wire::relay::MAX_EVENT;
use sojourn_core::wire::relay::RequestId;
use uuid::Uuid;

use super::lines::Line;
use super::lines::Splitter;
use super::modes;
use super::rules;
use super::shown;
use super::updates;

/// Lines longer than this are left out, here.
const LONGEST: usize = 32 << 10;

/// What an agent prints: the same in whatever pieces it comes, and no event that is too long.
pub fn agent_output(data: &[u8]) {
    let mut splitter = Splitter::new(LONGEST);
    let mut whole = splitter.push(data);
    whole.extend(splitter.end());
    let mut splitter = Splitter::new(LONGEST);
    let mut lines: Vec<Line> =
        pieces(data).into_iter().flat_map(|piece| splitter.push(piece)).collect();
    lines.extend(splitter.end());
    assert_eq!(lines, whole);
    let mut calls = shown::Calls::default();
    for line in lines {
        let Line::Whole(line) = line else { continue };
        let Ok(said) = serde_json::from_slice::<Value>(&line) else { continue };
        let _choices = (modes::modes(&said), modes::option(&said, "model"));
        for event in updates::events(said.clone()) {
            let json = serde_json::to_vec(&event).expect("an event is JSON");
            assert!(json.len() <= MAX_EVENT, "an event of {} bytes", json.len());
        }
        if let Some(call) = calls.told(&said) {
            prompt(call);
        }
        if let Ok(asked) = serde_json::from_value::<ToolCallUpdate>(said) {
            prompt(&calls.asked(&asked));
        }
    }
}

fn prompt(call: &serde_json::Map<String, Value>) {
    let request = RequestId(Uuid::nil());
    let (prompt, _) = shown::prompt(request, call);
    let json = serde_json::to_vec(&prompt).expect("a prompt is JSON");
    assert!(json.len() <= MAX_EVENT, "a prompt of {} bytes", json.len());
    for line in [&prompt.tool, &prompt.description, &prompt.kind] {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    assert_eq!(prompt.input_hash, shown::prompt(request, call).0.input_hash);
    let _rule = rules::offered(&prompt, call, Path::new("/nonexistent"));
}
