//! What is removed of an engine, and when: each container when its shim is gone, and at the start all
//! that a runner before this one left. Only what carries our own label is ever touched.

use std::sync::Arc;
use std::time::Duration;

use super::Docker;
use crate::prepared::Failure;
use crate::prepared::ShimProcess;
use crate::slots::Slot;

/// The first pause after a try that failed, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Tries to remove one container: for about a quarter of an hour. What is left then is removed at the
/// next start.
const TRIES: u32 = 20;

/// The engine may still be at work on what a making that failed, or a runner before this one, asked it
/// for: it is looked again.
const AGAIN: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(60)];

impl Docker {
    /// Removes a sandbox's container when its shim is gone.
    pub(super) fn remove_after(self: Arc<Self>, id: String, shim: Arc<ShimProcess>) {
        tokio::spawn(async move {
            shim.gone().await;
            self.remove(&id).await;
            // Its ids are free only now, so that whoever leaves waits for this.
            drop(shim);
        });
    }

    /// Removes what a failed making may have left.
    pub(super) fn remove_failed(self: Arc<Self>, id: String, slot: Arc<Slot>) {
        tokio::spawn(async move {
            // Whoever leaves waits for the first look.
            let mut slot = Some(slot);
            for pause in AGAIN {
                tokio::time::sleep(pause).await;
                let removed = self.try_remove(&id).await;
                slot.take();
                match removed {
                    // As a rule it was there, or had not come into being.
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(_) => return self.remove(&id).await,
                }
            }
            self.known().remove(&id);
        });
    }

    async fn remove(&self, id: &str) {
        let mut pause = PAUSES.0;
        for _ in 0..TRIES {
            match self.try_remove(id).await {
                Ok(_) => {
                    self.known().remove(id);
                    return;
                }
                Err(failure) => tracing::debug!(sandbox = id, %failure, "it is tried again"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                () = self.leaving.notified() => pause = PAUSES.0,
            }
        }
        self.known().remove(id);
        tracing::error!(sandbox = id, "a container cannot be removed: left to the next start");
    }

    /// Removes the containers of a sandbox; says whether there was one.
    async fn try_remove(&self, id: &str) -> Result<bool, Failure> {
        let found = self.engine.list(&self.instance, Some(id)).await?;
        for (container, _) in &found {
            self.engine.remove(container).await?;
        }
        Ok(!found.is_empty())
    }

    /// Removes, as soon as the engine answers, every container of ours that no sandbox of this runner
    /// is in.
    pub fn sweep(self: &Arc<Self>) {
        let own = self.clone();
        tokio::spawn(async move {
            for pause in AGAIN {
                tokio::time::sleep(pause).await;
                let orphans = own.sweep_once().await;
                if orphans > 0 {
                    tracing::info!(orphans, "orphaned containers removed");
                }
            }
        });
    }

    /// Tries until the engine answers.
    async fn sweep_once(&self) -> usize {
        let mut pause = PAUSES.0;
        loop {
            match self.try_sweep().await {
                Ok(orphans) => return orphans,
                Err(failure) => tracing::debug!(%failure, "orphaned containers stay for now"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn try_sweep(&self) -> Result<usize, Failure> {
        let mut removed = 0;
        for (container, sandbox) in self.engine.list(&self.instance, None).await? {
            // Looked at anew each time: a container may have been made since.
            if !self.known().contains(&sandbox) {
                self.engine.remove(&container).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
