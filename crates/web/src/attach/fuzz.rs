//! What fuzzers call of attach sockets.

use super::agent_frames;
use super::frames;
use super::frames::Said;

/// What a browser says to a terminal or an agent.
pub fn browser_frame(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match frames::Said::read(text) {
        Ok(Said::Resize { cols, rows }) => {
            assert!((1..=1000).contains(&cols) && (1..=1000).contains(&rows));
        }
        Ok(
            Said::UserMessage {}
            | Said::MessageEdit {}
            | Said::MessageCancel {}
            | Said::PermissionResponse {}
            | Said::QuestionResponse {},
        ) => panic!("a terminal is no agent"),
        Ok(_) => {}
        Err(fault) => assert!(!fault.code().is_empty()),
    }
    let _said = serde_json::from_str::<agent_frames::Said>(text);
}
