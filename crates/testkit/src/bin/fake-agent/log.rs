//! What reached the agent, one JSON object a line, in the file that `FAKE_AGENT_LOG` names.

use std::fs::OpenOptions;
use std::io::Write;

use serde_json::Value;

/// Writes down something that came. Without a file, nothing.
pub(crate) fn got(what: &Value) {
    let Some(path) = std::env::var_os("FAKE_AGENT_LOG") else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(format!("{what}\n").as_bytes()));
    if let Err(error) = written {
        eprintln!("fake-agent: the log cannot be written: {error}");
    }
}
