//! Threads that do nothing but compute hashes.
//!
//! They are few and stay, one for each hash that may be computed at a time, and each keeps the memory
//! of its hashes.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::memory::Memory;

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// Some threads. They end with the last handle.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    jobs: mpsc::SyncSender<Job>,
}

impl Workers {
    /// So many, or fewer where the system has no more; with none, no work is done.
    pub(super) fn new(count: usize) -> Self {
        // Whoever comes has a permit, of which there are as many.
        let (jobs, waiting) = mpsc::sync_channel::<Job>(count);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..count {
            let waiting = Arc::clone(&waiting);
            let next = move || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            let work = move || {
                let mut memory = Memory::default();
                while let Some(job) = next() {
                    // Whoever waits for it hears that it broke off; the thread goes on.
                    let _broken = catch_unwind(AssertUnwindSafe(|| job(&mut memory)));
                }
            };
            if let Err(error) = std::thread::Builder::new().name("hash".to_owned()).spawn(work) {
                tracing::error!(%error, "a thread for passwords cannot be started");
            }
        }
        Self { jobs }
    }

    /// Has something done on one of them. None when it broke off.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let job = Box::new(move |memory: &mut Memory| {
            // Whoever asked may have left.
            let _left = tell.send(work(memory));
        });
        self.jobs.try_send(job).ok()?;
        told.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_on_the_same_thread_also_after_a_panic() {
        let workers = Workers::new(1);
        let here = |_: &mut Memory| std::thread::current().id();
        let first = workers.run(here).await.unwrap();
        assert_ne!(first, std::thread::current().id());
        assert_eq!(workers.run(|_| panic!("on purpose")).await, None::<()>);
        assert_eq!(workers.run(here).await, Some(first));
    }
}
