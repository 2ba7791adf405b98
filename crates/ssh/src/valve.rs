//! When a connection may be read from. It waits while a channel's spool is full, and never for good.
//!
//! Holding up the SSH library instead would hold up output as well: a filter that cannot write does not
//! read either, and nothing would ever move again. For the same reason a little is let in even while a
//! spool is full when nothing moves: behind the bytes nobody has room for may lie the window for the
//! program's own output, an answer to new keys, or the word that the channel is to be closed. How much
//! lies before them is kept small by granting small windows as soon as a spool goes to its file.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::Sleep;

/// Nothing moves when full channels have taken nothing for this long.
const STALL: Duration = Duration::from_millis(300);

/// A connection is read from at least this often, or its peer would look silent.
const SILENCE: Duration = Duration::from_secs(10);

/// How much is let in then.
const ALLOWANCE: usize = 64 * 1024;

/// What full channels of one connection may hold beyond their spools before nothing more is let in.
const MOST_HELD: usize = 16 << 20;

/// What a client may send before it is granted more.
pub(crate) const WINDOW: u32 = 2 << 20;

/// The same while one of the connection's spools lies in a file.
pub(crate) const SMALL_WINDOW: u32 = 64 << 10;

/// One connection's valve.
#[derive(Debug, Default)]
pub(crate) struct Valve(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Channels whose spool is full.
    full: usize,
    /// Channels whose spool lies in a file.
    filed: usize,
    /// What full channels hold beyond their spools.
    held: usize,
    /// Still to be let in while a spool is full.
    allowance: usize,
    moved_at: Option<Instant>,
    let_in_at: Option<Instant>,
    reader: Option<Waker>,
}

impl Valve {
    /// Whether a spool lies in a file, so that only small windows are to be granted.
    pub(crate) fn is_filed(&self) -> bool {
        self.state().filed > 0
    }

    /// Ready when the connection may be read from. `timer` is the reader's own, for the wait.
    pub(crate) fn poll_open(
        &self,
        cx: &mut Context<'_>,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<()> {
        loop {
            let due = {
                let mut state = self.state();
                if state.full == 0 || state.allowance > 0 {
                    return Poll::Ready(());
                }
                state.reader = Some(cx.waker().clone());
                if state.held >= MOST_HELD {
                    return Poll::Pending;
                }
                let now = Instant::now();
                let moved_at = *state.moved_at.get_or_insert(now);
                let let_in_at = *state.let_in_at.get_or_insert(now);
                (moved_at.max(let_in_at) + STALL).min(let_in_at + SILENCE)
            };
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            std::task::ready!(timer.as_mut().poll(cx));
            let mut state = self.state();
            state.allowance = ALLOWANCE;
            state.let_in_at = Some(Instant::now());
        }
    }

    /// So many bytes were read.
    pub(crate) fn passed(&self, bytes: usize) {
        let mut state = self.state();
        state.allowance = state.allowance.saturating_sub(bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One channel's hold on its connection's valve; let go of when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    valve: Arc<Valve>,
    held: usize,
    filed: bool,
}

impl Hold {
    pub(crate) fn new(valve: Arc<Valve>) -> Self {
        Self { valve, held: 0, filed: false }
    }

    /// The channel holds so much beyond its spool, and its spool lies in a file or does not.
    pub(crate) fn set(&mut self, held: usize, filed: bool) {
        if (self.held, self.filed) == (held, filed) {
            return;
        }
        let mut state = self.valve.state();
        state.full = state.full + usize::from(held > 0) - usize::from(self.held > 0);
        state.filed = state.filed + usize::from(filed) - usize::from(self.filed);
        state.held = state.held + held - self.held;
        (self.held, self.filed) = (held, filed);
        if state.full == 0 {
            state.allowance = 0;
            state.moved_at = None;
            state.let_in_at = None;
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// The channel's program took something.
    pub(crate) fn moved(&self) {
        if self.held > 0 {
            self.valve.state().moved_at = Some(Instant::now());
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.set(0, false);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn is_open(valve: &Valve, within: Duration) -> bool {
        let mut timer = None;
        let open = poll_fn(|cx| valve.poll_open(cx, &mut timer));
        tokio::time::timeout(within, open).await.is_ok()
    }

    const SOON: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_every_full_channel() {
        let valve = Arc::new(Valve::default());
        let (mut one, mut other) = (Hold::new(valve.clone()), Hold::new(valve.clone()));
        assert!(is_open(&valve, SOON).await);
        one.set(10, true);
        other.set(10, false);
        one.set(0, true);
        assert!(!is_open(&valve, SOON).await);
        drop(other);
        assert!(is_open(&valve, SOON).await);
        assert!(valve.is_filed());
        drop(one);
        assert!(!valve.is_filed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_little_is_let_in_when_nothing_moves() {
        let valve = Arc::new(Valve::default());
        let mut hold = Hold::new(valve.clone());
        hold.set(10, true);
        assert!(is_open(&valve, STALL * 2).await);
        valve.passed(ALLOWANCE - 1);
        assert!(is_open(&valve, SOON).await);
        valve.passed(1);
        assert!(!is_open(&valve, SOON).await, "no more than that");
        hold.set(MOST_HELD, true);
        assert!(!is_open(&valve, SILENCE * 2).await, "and not without end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_needs_no_allowance() {
        let valve = Arc::new(Valve::default());
        let mut hold = Hold::new(valve.clone());
        hold.set(10, true);
        let began = Instant::now();
        while began.elapsed() < SILENCE - STALL {
            hold.moved();
            assert!(!is_open(&valve, SOON).await);
        }
        assert!(is_open(&valve, STALL * 2).await, "but a peer may not look silent");
    }
}
