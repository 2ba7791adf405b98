//! Those who come back when it is over: what they missed is in the recording.

use sojourn_core::ids::SessionId;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::WindowSize;
use sojourn_term::snapshot::Snapshot;

use super::CaughtUp;
use super::HELD;
use super::Screen;
use crate::engine::Engine;
use crate::screens;

/// The door whose sessions are one terminal: what they printed is what it printed.
const WEB: &str = "web";

impl Engine {
    /// What the terminal of a session that is over printed from this byte on: the bytes, or the last
    /// screen where that is too much. None: nothing, or it cannot be had.
    pub async fn printed_since(&self, id: SessionId, from: u64) -> Option<CaughtUp> {
        let kept = self.inner.records.store().session(id).await.ok().flatten()?;
        let end = kept.end.filter(|_| kept.new.door == WEB)?;
        let file = end.recording?.path;
        let missed = end.output_bytes.checked_sub(from).filter(|missed| *missed > 0)?;
        let screens = &self.inner.screens;
        let offset = screens.length(file.clone()).await?;
        let size = WindowSize::default();
        let place = Attached { file, offset, size, printed: end.output_bytes };
        if missed <= HELD as u64 {
            let read = screens.printed(&place, missed).await;
            if let Some(bytes) = read.filter(|bytes| bytes.len() as u64 == missed) {
                return Some(CaughtUp::Bytes(bytes));
            }
        }
        let Snapshot { cols, rows, data, .. } = screens.snapshot(place, size).await?;
        let screen = Screen { seq: end.output_bytes, cols, rows, data };
        Some(CaughtUp::Screen(screen.into()))
    }
}

impl screens::Screens {
    /// How long a recording is.
    async fn length(&self, file: String) -> Option<u64> {
        self.in_turn(move |recordings| Ok(screens::open(recordings, &file)?.metadata()?.len()))
            .await
    }
}
