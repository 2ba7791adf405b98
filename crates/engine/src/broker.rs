//! The task of one session: reads its shim, passes bytes to channels, and sees to it that what happens
//! is on record. It is the only reader of the shim's frames.
//!
//! ```text
//!   shim ──frames──▶ Broker ──events──▶ one bounded queue a channel ──▶ door
//!                      │
//!                      └──▶ progress (cut, ending, over), audit, log
//! ```
//!
//! Queues cannot overflow: the shim spends credit that only the taking of events gives back. A shim
//! that sends more than that is not ours any more, and its session is killed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::end::warning;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::WireError;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::INPUT_WINDOW;
use sojourn_core::wire::shim::LeaseState;
use sojourn_core::wire::shim::ShimHello;
use sojourn_core::wire::shim::Summary;
use sojourn_core::wire::shim::ToShim;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::channel::InputGate;
use crate::door::ChannelEvent;
use crate::ending::cut;
use crate::engine::Inner;
use crate::session::Progress;
use crate::session::Registration;
use crate::session::Session;
use crate::session::Shared;

/// How long the runner may take to say what became of a session whose shim went without a word.
const LAST_WORD: Duration = Duration::from_secs(20);

/// The task's own state.
pub(crate) struct Broker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inner: Arc<Inner>,
    pub(crate) registrations: mpsc::Receiver<Registration>,
    pub(crate) progress: watch::Sender<Progress>,
    /// The runner's word that the sandbox is gone.
    pub(crate) released: oneshot::Receiver<Option<Summary>>,
    pub(crate) routes: HashMap<u16, Route>,
}

/// Where a channel's frames go.
pub(crate) struct Route {
    events: mpsc::Sender<ChannelEvent>,
    gate: Arc<InputGate>,
    started: Option<oneshot::Sender<Result<(), String>>>,
}

/// A frame that owns what it carries.
enum Frame {
    Hello(Box<ShimHello>),
    Started(u16),
    StartFailed(u16, String),
    Event(u16, ChannelEvent),
    InputCredit(u16, u32),
    InputClosed(u16),
    Exit(u16, Exit),
    Warned(Limit, Duration),
    Expired { reason: EndReason, reached: u64, configured: u64 },
    Lease(Box<LeaseState>),
    Listens(u16, Result<u16, String>),
    Ended(Box<Summary>),
}

/// What the shim did that no shim of ours does.
#[derive(Debug, thiserror::Error)]
enum Breach {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("more output than it had credit for")]
    Output,
    #[error("more credit for input than there is")]
    Input,
    #[error("it says it is session {0}")]
    Identity(SessionId),
}

impl Broker {
    /// Runs until everything of the session is gone and on record.
    pub(crate) async fn run(mut self) {
        let summary = self.follow().await;
        self.routes.clear();
        self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner).waiting.clear();
        self.inner.finish(&self.shared, summary).await;
        self.progress.send_modify(|p| p.over = true);
    }

    async fn follow(&mut self) -> Summary {
        loop {
            let link = self.shared.link.clone();
            tokio::select! {
                biased;
                Some(registration) = self.registrations.recv() => self.register(registration),
                got = link.recv(|bytes, _no_descriptors| own(bytes)) => match got {
                    Ok(Some(Ok(Frame::Ended(summary)))) => return *summary,
                    Ok(Some(frame)) => {
                        let taken = frame.map_err(Breach::from).and_then(|frame| self.take(frame));
                        if let Err(breach) = taken {
                            tracing::error!(session = %self.shared.id, %breach, "shim broke the protocol");
                            return self.lost().await;
                        }
                    }
                    Ok(None) => return self.lost().await,
                    Err(error) => {
                        tracing::warn!(session = %self.shared.id, %error, "shim connection broke");
                        return self.lost().await;
                    }
                },
            }
        }
    }

    fn register(&mut self, new: Registration) {
        let Registration { number, events, gate, started } = new;
        self.routes.insert(number, Route { events, gate, started: Some(started) });
    }

    fn take(&mut self, frame: Frame) -> Result<(), Breach> {
        // A channel is registered before its start is sent, but both may be ready at once.
        while let Ok(registration) = self.registrations.try_recv() {
            self.register(registration);
        }
        match frame {
            Frame::Hello(hello) => return self.greet(&hello),
            Frame::Started(channel) => self.started(channel),
            Frame::StartFailed(channel, why) => self.start_failed(channel, why),
            Frame::Event(channel, event) => return self.pass(channel, event),
            Frame::InputCredit(channel, credit) => return self.credit(channel, credit),
            Frame::InputClosed(channel) => {
                if let Some(route) = self.routes.get(&channel) {
                    route.gate.close();
                }
                return self.pass(channel, ChannelEvent::InputClosed);
            }
            Frame::Exit(channel, exit) => return self.exited(channel, exit),
            Frame::Warned(limit, left) => return self.warned(limit, left),
            Frame::Expired { reason, reached, configured } => {
                self.expired(reason, reached, configured);
            }
            Frame::Lease(state) => self.progress.send_modify(|p| {
                p.lease = Some(Arc::new(*state));
                p.lease_answers += 1;
            }),
            Frame::Listens(listener, answer) => self.listens(listener, answer),
            Frame::Ended(_) => {}
        }
        Ok(())
    }

    fn greet(&mut self, hello: &ShimHello) -> Result<(), Breach> {
        if hello.session != self.shared.id {
            return Err(Breach::Identity(hello.session));
        }
        self.shared.next_channel.fetch_max(hello.next_channel, Ordering::Relaxed);
        self.progress.send_modify(|p| {
            p.running = p.running.max(hello.channels.len());
            p.ending = hello.ending;
            p.lease = hello.lease.clone().map(Arc::new);
        });
        if hello.lease.is_some() {
            self.end_if_deserted();
        }
        Ok(())
    }

    fn started(&mut self, channel: u16) {
        let Some(route) = self.routes.get_mut(&channel) else { return };
        if let Some(started) = route.started.take() {
            if started.send(Ok(())).is_err() {
                // Whoever wanted it has given up: nobody would read what it prints.
                self.routes.remove(&channel);
                self.close_late(channel);
                return;
            }
            if channel == 0 {
                tracing::info!(session = %self.shared.id, event = "lease_started", "lease started");
            }
            self.progress.send_modify(|p| {
                p.running += 1;
                p.signalled = false;
            });
        }
    }

    /// Closes a channel that nobody waits for any more.
    fn close_late(&self, channel: u16) {
        let link = self.shared.link.clone();
        tokio::spawn(async move {
            let mut frame = Vec::new();
            ToShim::Close(channel).encode(&mut frame);
            let _gone = link.send(&frame).await;
        });
    }

    /// A session whose connection is gone ends with its programs: nobody else will end it.
    fn end_if_deserted(&self) {
        let (running, signalled, ending) = {
            let progress = self.progress.borrow();
            (progress.running, progress.signalled, progress.ending.is_some())
        };
        if self.shared.attached || running > 0 || ending {
            return;
        }
        let reason = if signalled { EndReason::Signalled } else { EndReason::Exited };
        let session = Session { shared: self.shared.clone() };
        tokio::spawn(async move { session.request_end(reason).await });
    }

    fn listens(&self, listener: u16, answer: Result<u16, String>) {
        let mut listeners = self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever asked may have given up: then it was told to listen no more.
        if let Some(heard) = listeners.waiting.remove(&listener) {
            let _gone = heard.send(answer);
        }
    }

    fn start_failed(&mut self, channel: u16, why: String) {
        if let Some(started) = self.routes.remove(&channel).and_then(|route| route.started) {
            let _gone = started.send(Err(why));
        }
    }

    fn pass(&self, channel: u16, event: ChannelEvent) -> Result<(), Breach> {
        // A route that is gone belongs to a channel whose door has left.
        let Some(route) = self.routes.get(&channel) else { return Ok(()) };
        match route.events.try_send(event) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Breach::Output),
        }
    }

    fn credit(&self, channel: u16, credit: u32) -> Result<(), Breach> {
        let Some(route) = self.routes.get(&channel) else { return Ok(()) };
        let sum = route.gate.credit.available_permits() + credit as usize;
        if sum > INPUT_WINDOW as usize {
            return Err(Breach::Input);
        }
        route.gate.credit.add_permits(credit as usize);
        Ok(())
    }

    fn exited(&mut self, channel: u16, exit: Exit) -> Result<(), Breach> {
        self.progress.send_modify(|p| {
            p.running = p.running.saturating_sub(1);
            p.signalled = matches!(exit, Exit::Signal(_));
        });
        let passed = self.pass(channel, ChannelEvent::Exit(exit));
        if let Some(route) = self.routes.remove(&channel) {
            route.gate.close();
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
        }
        self.end_if_deserted();
        passed
    }

    fn warned(&mut self, limit: Limit, left: Duration) -> Result<(), Breach> {
        self.inner.records.limit_warned(self.shared.id, limit, left);
        let line = warning(left);
        for channel in self.routes.keys() {
            self.pass(*channel, ChannelEvent::Notice(line.clone()))?;
        }
        Ok(())
    }

    fn expired(&mut self, reason: EndReason, reached: u64, configured: u64) {
        if let Some(limit) = Limit::of(reason) {
            self.inner.records.limit_exceeded(self.shared.id, limit, configured, reached);
        }
        let by = self.shared.ended_by.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cut = cut(reason, configured, by.as_ref());
        self.progress.send_modify(|p| {
            p.ending = Some(reason);
            p.cut = cut;
        });
    }

    /// The shim is gone without a last word: the runner finds out what became of the session.
    async fn lost(&mut self) -> Summary {
        let id = self.shared.id;
        self.progress.send_modify(|p| {
            p.ending.get_or_insert(EndReason::RunnerLost);
            if p.cut.is_none() {
                p.cut = cut(EndReason::RunnerLost, 0, None);
            }
        });
        self.inner.kill(id).await;
        let word = tokio::time::timeout(LAST_WORD, &mut self.released).await;
        match word {
            Ok(Ok(Some(summary))) => summary,
            _ => Summary {
                session: id,
                reason: EndReason::RunnerLost,
                exit: None,
                output_bytes: 0,
                started_at: None,
                ended_at: self.inner.clock.wall(),
                recordings: Vec::new(),
                reached: None,
            },
        }
    }
}

/// Takes a frame out of the shared buffer.
fn own(bytes: &[u8]) -> Result<Frame, WireError> {
    Ok(match FromShim::decode(bytes)? {
        FromShim::Hello(hello) => Frame::Hello(hello),
        FromShim::Started(channel) => Frame::Started(channel),
        FromShim::StartFailed(channel, why) => Frame::StartFailed(channel, why),
        FromShim::Output(channel, stream, bytes) => {
            Frame::Event(channel, ChannelEvent::Output(stream, Bytes::copy_from_slice(bytes)))
        }
        FromShim::OutputEof(channel, stream) => Frame::Event(channel, ChannelEvent::Eof(stream)),
        FromShim::InputCredit(channel, credit) => Frame::InputCredit(channel, credit),
        FromShim::InputClosed(channel) => Frame::InputClosed(channel),
        FromShim::Exit(channel, exit) => Frame::Exit(channel, exit),
        FromShim::Warned { limit, left } => Frame::Warned(limit, left),
        FromShim::Expired { reason, reached, configured } => {
            Frame::Expired { reason, reached, configured }
        }
        FromShim::Lease(state) => Frame::Lease(state),
        FromShim::Ended(summary) => Frame::Ended(summary),
        FromShim::Listening(listener, port) => Frame::Listens(listener, Ok(port)),
        FromShim::ListenFailed(listener, why) => Frame::Listens(listener, Err(why)),
        FromShim::Attached(..) | FromShim::NotAttached(_) => {
            return Err(WireError::Malformed("not asked for".to_owned()));
        }
    })
}
