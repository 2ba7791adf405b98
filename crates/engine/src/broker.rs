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

mod onlookers;
mod people;

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
use sojourn_core::time::Mono;
use sojourn_core::wire::WireError;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::INPUT_WINDOW;
use sojourn_core::wire::shim::LeaseState;
use sojourn_core::wire::shim::ShimHello;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::Summary;
use sojourn_core::wire::shim::ToShim;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::door::ChannelEvent;
use crate::ending::cut;
use crate::engine::Inner;
use crate::metrics::Meter;
use crate::roster::Answer;
use crate::roster::Reader;
use crate::roster::Roster;
use crate::session::Command;
use crate::session::Progress;
use crate::session::Shared;

pub(crate) use onlookers::Onlookers;

/// How long the runner may take to say what became of a session whose shim went without a word.
const LAST_WORD: Duration = Duration::from_secs(20);

/// The task's own state.
pub(crate) struct Broker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inner: Arc<Inner>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) progress: watch::Sender<Progress>,
    /// The runner's word that the sandbox is gone.
    pub(crate) released: oneshot::Receiver<Option<Summary>>,
    pub(crate) roster: Roster,
    /// When a session that nobody holds ends.
    pub(crate) ends_at: Option<Mono>,
    /// Whether we have asked for its end.
    pub(crate) closing: bool,
    /// What is measured of it.
    pub(crate) meter: Meter,
    pub(crate) onlookers: Onlookers,
    /// Moves every few seconds.
    pub(crate) pulse: watch::Receiver<u64>,
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
    Attached(u16, Option<Attached>),
    Located(u16, Option<Attached>),
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
        self.meter.ended(&summary);
        let ended = (summary.reason, summary.exit.clone());
        self.roster.clear();
        self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner).waiting.clear();
        self.inner.finish(&self.shared, summary).await;
        self.onlookers.news(|news| news.ended = Some(ended));
        self.progress.send_modify(|p| p.over = true);
    }

    async fn follow(&mut self) -> Summary {
        loop {
            let link = self.shared.link.clone();
            self.measure();
            let nobody_back = people::nobody_back(self.inner.clock.clone(), self.ends_at);
            tokio::select! {
                biased;
                Some(command) = self.commands.recv() => self.heed(command).await,
                () = nobody_back => self.give_up().await,
                Ok(()) = self.pulse.changed() => self.look_after().await,
                got = link.recv(|bytes, _no_descriptors| own(bytes)) => match got {
                    Ok(Some(Ok(Frame::Ended(summary)))) => return *summary,
                    Ok(Some(frame)) => {
                        let taken = match frame {
                            Ok(frame) => self.take(frame).await,
                            Err(error) => Err(error.into()),
                        };
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

    /// Counts it as what it is now.
    fn measure(&mut self) {
        let progress = self.shared.progress.borrow();
        self.meter.is(progress.ending.is_some(), progress.attached);
    }

    async fn take(&mut self, frame: Frame) -> Result<(), Breach> {
        // A channel is told of before its start is sent, but both may be ready at once.
        while let Ok(command) = self.commands.try_recv() {
            self.heed(command).await;
        }
        match frame {
            Frame::Hello(hello) => return self.greet(&hello).await,
            Frame::Started(channel) => self.started(channel).await,
            Frame::StartFailed(channel, why) => self.roster.refused(channel, why),
            Frame::Event(channel, event) => {
                if matches!(event, ChannelEvent::Output(..)) {
                    self.meter.printed(|| self.inner.clock.mono());
                }
                if let ChannelEvent::Output(Stream::Out, bytes) = &event {
                    let is_read = self.roster.reader(channel).is_some();
                    let owed = self.onlookers.output(channel, bytes, is_read);
                    if let Some(owed) = owed {
                        self.send(&ToShim::Credit(channel, owed)).await;
                    }
                }
                return self.pass(channel, event);
            }
            Frame::InputCredit(channel, credit) => return self.credit(channel, credit),
            Frame::InputClosed(channel) => {
                if let Some(reader) = self.roster.reader(channel) {
                    reader.hand.close();
                }
                return self.pass(channel, ChannelEvent::InputClosed);
            }
            Frame::Exit(channel, exit) => return self.exited(channel, exit).await,
            Frame::Warned(limit, left) => self.warned(limit, left),
            Frame::Expired { reason, reached, configured } => {
                self.expired(reason, reached, configured);
            }
            Frame::Lease(state) => {
                self.progress.send_modify(|p| {
                    p.lease = Some(Arc::new(*state));
                    p.lease_answers += 1;
                });
                self.onlookers.news(|news| news.leases += 1);
            }
            Frame::Listens(listener, answer) => self.listens(listener, answer),
            Frame::Attached(channel, attached) => self.attached(channel, attached).await,
            Frame::Located(channel, place) => self.onlookers.located(channel, place),
            Frame::Ended(_) => {}
        }
        Ok(())
    }

    async fn greet(&mut self, hello: &ShimHello) -> Result<(), Breach> {
        if hello.session != self.shared.id {
            return Err(Breach::Identity(hello.session));
        }
        self.onlookers.greeted(hello.version);
        self.shared.next_channel.fetch_max(hello.next_channel, Ordering::Relaxed);
        self.shared.open.fetch_add(hello.channels.len(), Ordering::Relaxed);
        self.progress.send_modify(|p| {
            p.ending = p.ending.or(hello.ending);
            p.lease = hello.lease.clone().map(Arc::new);
        });
        self.found(hello).await;
        self.progress.send_modify(|p| p.greeted = true);
        Ok(())
    }

    async fn started(&mut self, channel: u16) {
        if !self.roster.started(channel) {
            // Nobody would read what it prints.
            return self.send(&ToShim::Close(channel)).await;
        }
        self.meter.started(self.inner.clock.mono());
        if channel == 0 {
            tracing::info!(session = %self.shared.id, event = "lease_started", "lease started");
        }
        self.progress.send_modify(|p| p.signalled = false);
        // Whoever wanted it may have left meanwhile.
        let holder = self.roster.reader(channel).map(|reader| reader.holder);
        if let Some(holder) = holder.filter(|holder| self.roster.guest(*holder).is_none())
            && let Some(left) = self.roster.vacate(channel, holder, self.may_return())
        {
            left.reader.hand.take_away().await;
            self.let_go(&left).await;
            self.end_if_deserted().await;
        }
        self.show_drivers();
    }

    fn listens(&self, listener: u16, answer: Result<u16, String>) {
        let mut listeners = self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever asked may have given up: then it was told to listen no more.
        if let Some(heard) = listeners.waiting.remove(&listener) {
            let _gone = heard.send(answer);
        }
    }

    fn pass(&self, channel: u16, event: ChannelEvent) -> Result<(), Breach> {
        // Where there is no reader, its person has left.
        let Some(reader) = self.roster.reader(channel) else { return Ok(()) };
        match reader.events.try_send(event) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Breach::Output),
        }
    }

    fn credit(&self, channel: u16, credit: u32) -> Result<(), Breach> {
        let Some(reader) = self.roster.reader(channel) else { return Ok(()) };
        let sum = reader.hand.credit.available_permits() + credit as usize;
        if sum > INPUT_WINDOW as usize {
            return Err(Breach::Input);
        }
        reader.hand.credit.add_permits(credit as usize);
        Ok(())
    }

    async fn exited(&mut self, channel: u16, exit: Exit) -> Result<(), Breach> {
        self.progress.send_modify(|p| p.signalled = matches!(exit, Exit::Signal(_)));
        let passed = self.pass(channel, ChannelEvent::Exit(exit));
        self.onlookers.ended(channel);
        if let Some((reader, _)) = self.roster.ended(channel) {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
            match reader {
                Some(Reader { answer: Answer::Attached(answer), .. }) => {
                    let _gone = answer.send(Ok(None));
                }
                Some(reader) => reader.hand.close(),
                None => {}
            }
        }
        self.end_if_deserted().await;
        passed
    }

    fn warned(&self, limit: Limit, left: Duration) {
        self.inner.records.limit_warned(self.shared.id, limit, left);
        self.onlookers.news(|news| {
            news.warnings += 1;
            news.warned = Some((limit, left));
        });
        self.notice(&warning(left));
    }

    fn expired(&mut self, reason: EndReason, reached: u64, configured: u64) {
        if let Some(limit) = Limit::of(reason) {
            self.inner.metrics.limit_hit(reason.name());
            self.inner.records.limit_exceeded(self.shared.id, limit, configured, reached);
        }
        let by = self.shared.ended_by.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cut = cut(reason, configured, by.as_ref());
        let line = cut.as_ref().map(|cut| cut.message.clone()).unwrap_or_default();
        self.onlookers.news(|news| {
            news.ending = true;
            news.exceeded = Limit::of(reason).map(|limit| (limit, configured, line));
        });
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
        FromShim::Attached(channel, attached) => Frame::Attached(channel, Some(*attached)),
        FromShim::NotAttached(channel) => Frame::Attached(channel, None),
        FromShim::Located(channel, place) => Frame::Located(channel, place.map(|place| *place)),
    })
}
