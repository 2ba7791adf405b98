//! Bytes on their way: made durable, acknowledged, and passed on to whoever reads.

use bytes::Bytes;
use sojourn_core::wire::relay::Stored;
use sojourn_core::wire::relay::ToRunner;
use sojourn_core::wire::shim::FRAME_COST;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::cost;

use super::CHUNK;
use super::Gone;
use super::HELD;
use super::Phase;
use super::StandIn;
use crate::engine::lock;

impl StandIn {
    /// Makes what was written durable, and owes the runner the word of it.
    pub(super) async fn keep(&mut self) {
        let (seq, offset) = (self.parts.book.seq(), self.parts.book.printed());
        // Its end is not acknowledged before it is on record.
        let seq =
            if matches!(self.phase, Phase::Over { .. }) { seq.saturating_sub(1) } else { seq };
        let stored = Stored { session: self.parts.id, seq, offset };
        if *lock(&self.handle.stored) == stored {
            // It came twice: the word of it was lost.
            self.owed = Some(stored);
            return;
        }
        let file = self.parts.book.file();
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        if !matches!(synced, Ok(Ok(()))) {
            tracing::error!(session = %self.parts.id, "a recording is not synced");
            return;
        }
        *lock(&self.handle.stored) = stored;
        self.owed = Some(stored);
    }

    /// Says how far it is stored, unless somebody reads slowly: then the runner waits.
    pub(super) fn acknowledge(&mut self) {
        if self.held_bytes <= HELD
            && let Some(stored) = self.owed.take()
        {
            self.tell(ToRunner::Ack(stored));
        }
    }

    /// Passes on what there is credit for.
    pub(super) async fn deliver(&mut self) -> Result<(), Gone> {
        while let Some(credit) = self.credit {
            let room = usize::try_from(credit.saturating_sub(FRAME_COST)).unwrap_or(0);
            let Some(first) = self.held.front_mut().filter(|_| room > 0) else { break };
            let piece = first.split_to(first.len().min(room).min(CHUNK));
            if first.is_empty() {
                self.held.pop_front();
            }
            self.held_bytes -= piece.len();
            self.credit = Some(credit.saturating_sub(cost(piece.len())));
            self.send(&FromShim::Output(0, Stream::Out, &piece)).await?;
        }
        Ok(())
    }

    pub(super) fn hold(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.held_bytes += bytes.len();
            self.held.push_back(bytes);
        }
    }

    pub(super) fn drop_held(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }
}
