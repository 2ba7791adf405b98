//! What a honeypot's visitor uploads, kept: the bytes go to a file of the runner's as they pass. That
//! never holds up the transfer, and never fails it; what could not be kept is told.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use sojourn_core::ids::SessionId;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::gate::Gate;

/// How many parts may wait for the disk.
const QUEUE: usize = 64;

/// How long what still waits may take to be written when the transfer is over.
const LAST: Duration = Duration::from_secs(2);

/// One upload on its way into its file.
pub(crate) struct Keeping {
    parts: Option<mpsc::Sender<Bytes>>,
    kept: Arc<Mutex<Kept>>,
    task: Option<JoinHandle<()>>,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The file's name; none when there is none.
    pub(crate) file: Option<String>,
    /// Whether not all of it was kept.
    pub(crate) truncated: bool,
}

impl Keeping {
    /// Begins to keep an upload of this session, which is a honeypot's.
    pub(crate) fn begin<G: Gate>(gate: G, session: SessionId) -> Self {
        let (parts, waiting) = mpsc::channel(QUEUE);
        let kept = Arc::new(Mutex::new(Kept::default()));
        let task = tokio::spawn(write(gate, session, waiting, kept.clone()));
        Self { parts: Some(parts), kept, task: Some(task) }
    }

    /// Some bytes passed.
    pub(crate) fn pass(&self, bytes: &[u8]) {
        let Some(parts) = &self.parts else { return };
        let full = parts.try_send(Bytes::copy_from_slice(bytes)).is_err();
        if full {
            lock(&self.kept).truncated = true;
        }
    }

    /// Waits a moment until all of it is written, and says what became of it.
    pub(crate) async fn finish(&mut self) -> Kept {
        self.parts = None;
        if let Some(mut task) = self.task.take()
            && tokio::time::timeout(LAST, &mut task).await.is_err()
        {
            lock(&self.kept).truncated = true;
        }
        self.so_far()
    }

    /// What became of it so far.
    pub(crate) fn so_far(&self) -> Kept {
        lock(&self.kept).clone()
    }
}

async fn write<G: Gate>(
    gate: G,
    session: SessionId,
    mut parts: mpsc::Receiver<Bytes>,
    kept: Arc<Mutex<Kept>>,
) {
    let Some(evidence) = gate.evidence(session).await else {
        // Whatever comes is not kept; the channel fills, or is closed.
        lock(&kept).truncated = true;
        return;
    };
    lock(&kept).file = Some(evidence.name);
    let mut file = tokio::fs::File::from_std(evidence.file);
    let mut room = evidence.most;
    while let Some(part) = parts.recv().await {
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(part.len());
        let (first, over) = part.split_at(fits);
        let written = file.write_all(first).await;
        room = room.saturating_sub(u64::try_from(fits).unwrap_or(u64::MAX));
        if let Err(error) = &written {
            tracing::warn!(%session, %error, "evidence cannot be written");
        }
        if written.is_err() || !over.is_empty() {
            lock(&kept).truncated = true;
            return;
        }
    }
    if file.flush().await.is_err() {
        lock(&kept).truncated = true;
    }
}

fn lock(kept: &Mutex<Kept>) -> std::sync::MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
