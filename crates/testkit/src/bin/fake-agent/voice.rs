//! The agent's standard output: updates are written at once and wait while nobody reads, as with a
//! real agent; the crate's own lines come between them.

use std::io;
use std::sync::Arc;

use futures_util::Sink;
use futures_util::sink;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::io::Stdout;
use tokio::sync::Mutex;

/// Standard output, a line at a time.
#[derive(Clone)]
pub(crate) struct Voice(Arc<Mutex<Stdout>>);

impl Voice {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(tokio::io::stdout())))
    }

    /// For the crate's lines.
    pub(crate) fn sink(&self) -> impl Sink<String, Error = io::Error> + Send + 'static {
        sink::unfold(self.clone(), async |voice: Self, line: String| {
            voice.raw(format!("{line}\n").as_bytes()).await?;
            Ok(voice)
        })
    }

    /// Writes bytes as they are.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = self.0.lock().await;
        out.write_all(bytes).await?;
        out.flush().await
    }

    /// Tells an update.
    pub(crate) async fn update(&self, session: &str, update: Value) -> io::Result<()> {
        let params = json!({"sessionId": session, "update": update});
        let line = json!({"jsonrpc": "2.0", "method": "session/update", "params": params});
        self.raw(format!("{line}\n").as_bytes()).await
    }

    /// Says a piece of text.
    pub(crate) async fn say(&self, session: &str, text: &str) -> io::Result<()> {
        let content = json!({"type": "text", "text": text});
        let kind = "agent_message_chunk";
        self.update(session, json!({"sessionUpdate": kind, "content": content})).await
    }
}
