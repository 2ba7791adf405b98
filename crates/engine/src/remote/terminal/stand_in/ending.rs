//! The last of a terminal: what was printed, how it ended, and its recording sealed.

use std::time::Duration;

use sojourn_core::end::Exit;
use sojourn_core::wire::relay::Stored;
use sojourn_core::wire::runner::Sealing;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::RecordingFacts;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::Summary;
use tokio::time::Instant;

use super::Gone;
use super::Phase;
use super::StandIn;

/// For how long it is tried to seal a recording, and how long it is waited in between: a runner that is
/// gone comes back, and a full disk may be emptied.
const SEALED_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

impl StandIn {
    /// Tells the end, when all that was printed is told.
    pub(super) async fn finish(&mut self) -> Result<(), Gone> {
        let Phase::Over { reason, exit, output, message } = self.phase.clone() else {
            return Ok(());
        };
        let now = self.parts.clock.wall();
        match message {
            Some(message) => self.send(&FromShim::StartFailed(0, message)).await?,
            None if self.ending.is_none() => {
                self.send(&FromShim::OutputEof(0, Stream::Out)).await?;
                let exit = exit.clone().unwrap_or(Exit::Code(0));
                self.send(&FromShim::Exit(0, exit)).await?;
            }
            None => {}
        }
        if let Err(error) = self.parts.book.finish(now) {
            tracing::error!(session = %self.parts.id, %error, "a recording is not whole");
        }
        let sealing = Sealing {
            ended_at: now,
            reason,
            exit: exit.clone(),
            output_bytes: output,
            ..self.parts.sealing.clone()
        };
        let started_at = sealing.started_at;
        let recordings = self.seal(sealing).await;
        let summary = Summary {
            session: self.parts.id,
            reason,
            exit,
            output_bytes: output,
            started_at,
            ended_at: now,
            recordings,
            reached: None,
        };
        let (seq, offset) = (self.parts.book.seq(), self.parts.book.printed());
        self.owed = Some(Stored { session: self.parts.id, seq, offset });
        self.send(&FromShim::Ended(Box::new(summary))).await
    }

    async fn seal(&self, sealing: Sealing) -> Vec<RecordingFacts> {
        let until = Instant::now() + SEALED_WITHIN;
        loop {
            match self.parts.recordings.seal(sealing.clone()).await {
                Ok(facts) => return facts.into_iter().collect(),
                Err(error) if Instant::now() < until => {
                    tracing::warn!(session = %self.parts.id, %error, "a recording is not sealed yet");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(session = %self.parts.id, %error, "a recording is not sealed");
                    return Vec::new();
                }
            }
        }
    }
}
