//! One connection of a runner: hello and welcome, then events, receipts and commands until it ends.
//!
//! It speaks frames, and knows nothing of what carries them.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event as AuditEvent;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Mono;
use sojourn_core::wire::relay;
use sojourn_core::wire::relay::DEAD_SECONDS;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::FromRunner;
use sojourn_core::wire::relay::Hello;
use sojourn_core::wire::relay::PING_SECONDS;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::ToRunner;
use sojourn_core::wire::relay::VERSION;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Closing;
use super::Heard;
use super::Remote;
use super::RunnerView;
use super::registry::Entered;
use super::registry::Order;
use super::terminal::Item;
use crate::clock::until;

/// The oldest version that is spoken.
const OLDEST: u16 = if VERSION > 1 { VERSION - 1 } else { 1 };

/// How long a runner may take to say hello.
const HELLO: Duration = Duration::from_secs(10);

/// How long a frame may take to be sent.
const SEND: Duration = Duration::from_secs(15);

/// How often it is looked whether the runner's token is still good.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is noted that a runner is there.
const NOTED: Duration = Duration::from_secs(60);

/// The most frames that are taken at once: so many events are stored together.
pub const FRAMES: usize = 16;

/// The most events about sessions that are not the runner's, on one connection. A few are on their way
/// when a session ends here.
const MOST_STRAYS: usize = 1000;

const PING: Duration = Duration::from_secs(PING_SECONDS);
const DEAD: Duration = Duration::from_secs(DEAD_SECONDS);

/// Something that travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Text(String),
    /// Bytes of a terminal.
    Binary(Bytes),
    /// A sign of life of whatever carries the frames.
    Sign,
}

/// What carries frames to and from a runner.
#[derive(Debug)]
pub struct Wire {
    /// From it; at most [`FRAMES`] are to wait here.
    pub incoming: mpsc::Receiver<Frame>,
    /// To it.
    pub outgoing: mpsc::Sender<Frame>,
}

/// A runner that was let in, by its token.
#[derive(Clone, Debug)]
pub struct Coming {
    /// Which.
    pub runner: RunnerId,
    /// From where.
    pub address: IpAddr,
    /// Its program's own name.
    pub program: String,
}

/// A connection under way.
pub(super) struct Connection<'a> {
    remote: &'a Remote,
    wire: Wire,
    runner: RunnerView,
    entered: Entered,
    strays: usize,
}

/// When something was heard, and what is due.
#[derive(Clone, Copy, Debug)]
struct Pulse {
    heard: Mono,
    next_ping: Mono,
    unanswered: u32,
}

impl Pulse {
    fn new(now: Mono) -> Self {
        Self { heard: now, next_ping: now.after(PING), unanswered: 0 }
    }

    fn hear(&mut self, now: Mono) {
        (self.heard, self.unanswered) = (now, 0);
    }

    /// Dead is who has said nothing at all for so long, and was asked meanwhile: a machine that slept
    /// asks first.
    fn is_dead(&self, now: Mono) -> bool {
        self.unanswered >= 2 && now >= self.heard.after(DEAD)
    }

    fn due(&self) -> Mono {
        match self.unanswered {
            0 | 1 => self.next_ping,
            _ => self.next_ping.min(self.heard.after(DEAD)),
        }
    }

    /// Whether to ask now.
    fn asks(&mut self, now: Mono) -> bool {
        if now < self.next_ping {
            return false;
        }
        self.next_ping = now.after(PING);
        self.unanswered += 1;
        true
    }
}

impl Remote {
    /// Speaks to a runner until its connection ends. Says why that was.
    pub async fn serve(&self, coming: Coming, mut wire: Wire) -> Closing {
        let closing = match self.greet(&coming, &mut wire).await {
            Ok((runner, hello)) => {
                let mut connection = Connection {
                    remote: self,
                    entered: self.inner.registry.enter(runner.id, &hello, runner.paused),
                    wire,
                    runner,
                    strays: 0,
                };
                let closing = connection.run(&coming, &hello).await;
                wire = connection.wire;
                closing
            }
            Err(closing) => closing,
        };
        if let Some(refused) = closing.told() {
            let frame = Frame::Text(refused.encode());
            let _late = timeout(LOOK, wire.outgoing.send(frame)).await;
        }
        tracing::debug!(runner = %coming.runner, ?closing, "a runner's connection is over");
        closing
    }

    /// Hears who it is.
    async fn greet(
        &self,
        coming: &Coming,
        wire: &mut Wire,
    ) -> Result<(RunnerView, Hello), Closing> {
        let hello = async {
            loop {
                match wire.incoming.recv().await.ok_or(Closing::Broken)? {
                    Frame::Sign => {}
                    Frame::Binary(_) => return Err(Closing::Malformed),
                    Frame::Text(text) => match FromRunner::decode(&text) {
                        Ok(FromRunner::Hello(hello)) => return Ok(*hello),
                        Ok(_) => return Err(Closing::Malformed),
                        Err(error) => {
                            tracing::warn!(runner = %coming.runner, %error, "no hello");
                            return Err(Closing::Malformed);
                        }
                    },
                }
            }
        };
        let hello = timeout(HELLO, hello).await.map_err(|_| Closing::Silent)??;
        if hello.version < OLDEST {
            tracing::warn!(runner = %coming.runner, version = hello.version, "too old a runner");
            return Err(Closing::Version);
        }
        let (inner, gone) = (&self.inner, |error| {
            tracing::error!(%error, "what a runner said of itself is not kept");
            Closing::Store
        });
        let (now, from) = (inner.clock.wall(), coming.address.to_string());
        let said = serde_json::to_string(&hello).map_err(|_| Closing::Malformed)?;
        if !inner.store.runner_came(coming.runner, now, &from, &said).await.map_err(gone)? {
            return Err(Closing::Revoked);
        }
        let row = inner.store.runner(coming.runner).await.map_err(gone)?;
        let row = row.ok_or(Closing::Revoked)?;
        Ok((inner.registry.view(row), hello))
    }

    /// Puts on record that a runner came or went.
    fn record(&self, action: Action, coming: &Coming, runner: &RunnerView) -> AuditEvent {
        let actor = Actor {
            user: Some(runner.owner_name.clone()),
            ip_address: Some(coming.address),
            ..Actor::new(ActorKind::Runner)
        };
        AuditEvent::new(self.inner.clock.wall(), action, actor.with_user_agent(&coming.program))
            .detail("runner", runner.name.as_str())
            .detail("runner_id", runner.id.to_string())
    }
}

impl Connection<'_> {
    /// From hello to the end. Whatever ends it, the registry and whoever hears know afterwards.
    async fn run(&mut self, coming: &Coming, hello: &Hello) -> Closing {
        let (inner, generation) = (&self.remote.inner, self.entered.generation);
        tracing::info!(
            runner = self.runner.name, owner = self.runner.owner_name, source = %coming.address,
            generation, build = hello.build, event = "runner_connected", "runner connected",
        );
        let came = self.remote.record(Action::RunnerConnected, coming, &self.runner);
        inner.audit.record_soon(
            came.detail("build", hello.build.as_str()).detail("generation", generation),
        );
        let closer = self.entered.closer.clone();
        let (token, tokens) = (self.runner.id.into(), inner.tokens.clone());
        let revoked = async {
            loop {
                tokio::time::sleep(LOOK).await;
                // A store that does not answer is no reason to end anything.
                if let Ok(false) = tokens.still_stands(token).await {
                    return Closing::Revoked;
                }
            }
        };
        let closing = tokio::select! {
            biased;
            closing = closer.closed() => closing,
            closing = revoked => closing,
            closing = self.speak(hello) => closing,
        };
        let inner = &self.remote.inner;
        let left = inner.registry.leave(self.runner.id, generation, inner.clock.mono());
        tracing::info!(
            runner = self.runner.name,
            owner = self.runner.owner_name,
            generation,
            reason = closing.name(),
            event = "runner_disconnected",
            "runner disconnected",
        );
        let went = self.remote.record(Action::RunnerDisconnected, coming, &self.runner);
        inner
            .audit
            .record_soon(went.detail("reason", closing.name()).detail("generation", generation));
        if left {
            self.remote.lost(self.runner.id);
        }
        // It was told so, and ends what it has.
        if left && closing == Closing::Revoked {
            self.remote.remove(self.runner.id);
        }
        closing
    }

    async fn speak(&mut self, hello: &Hello) -> Closing {
        match self.exchange(hello).await {
            Ok(never) => match never {},
            Err(closing) => closing,
        }
    }

    async fn exchange(&mut self, hello: &Hello) -> Result<std::convert::Infallible, Closing> {
        let inner = &self.remote.inner;
        let have = self.remote.have(&self.runner, hello).await.map_err(|error| {
            tracing::error!(%error, "a runner is sent away: its sessions cannot be read");
            Closing::Store
        })?;
        inner.registry.settle(self.runner.id, self.entered.generation, &have);
        let welcome = ToRunner::Welcome {
            version: hello.version.min(VERSION),
            generation: self.entered.generation,
            max_sessions: u32::try_from(self.entered.max_sessions).unwrap_or(u32::MAX),
            have,
            paused: self.runner.paused,
        };
        self.send(Frame::Text(welcome.encode())).await?;
        let mut pulse = Pulse::new(inner.clock.mono());
        let mut noted = inner.clock.mono();
        let mut frames = Vec::with_capacity(FRAMES);
        loop {
            let due = pulse.due();
            tokio::select! {
                biased;
                Some(order) = self.entered.orders.recv() => self.obey(order).await?,
                count = self.wire.incoming.recv_many(&mut frames, FRAMES) => {
                    if count == 0 {
                        return Err(Closing::Broken);
                    }
                    self.take(&mut frames).await?;
                    pulse.hear(inner.clock.mono());
                }
                // Last: what has come was said before it was too late.
                () = until(inner.clock.as_ref(), due) => {}
            }
            let now = inner.clock.mono();
            if pulse.is_dead(now) {
                return Err(Closing::Silent);
            }
            if pulse.asks(now) {
                self.send(Frame::Text(ToRunner::Ping.encode())).await?;
            }
            if now.since(noted) >= NOTED {
                noted = now;
                let seen = inner.store.runner_seen(self.runner.id, inner.clock.wall()).await;
                if let Err(error) = seen {
                    tracing::warn!(%error, "it is not noted that a runner is there");
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result<(), Closing> {
        let frame = match order {
            Order::Tell(message) => Frame::Text(message.encode()),
            Order::Type(bytes) => Frame::Binary(bytes.into()),
        };
        self.send(frame).await
    }

    /// Takes frames, in order. Events that follow one another are stored together.
    async fn take(&mut self, frames: &mut Vec<Frame>) -> Result<(), Closing> {
        let mut events = Vec::new();
        for frame in frames.drain(..) {
            let message = match frame {
                Frame::Sign => continue,
                Frame::Binary(bytes) => {
                    self.store(&mut events).await?;
                    self.terminal(bytes).await?;
                    continue;
                }
                Frame::Text(text) => FromRunner::decode(&text).map_err(|error| {
                    tracing::warn!(runner = self.runner.name, %error, "a runner makes no sense");
                    Closing::Malformed
                })?,
            };
            match message {
                FromRunner::Event(event) => self.happened(event, &mut events).await?,
                FromRunner::Receipt { command, outcome } => {
                    // What the command did is told by the events before its receipt.
                    self.store(&mut events).await?;
                    self.remote.inner.registry.receipt(self.runner.id, command, outcome);
                }
                FromRunner::Ping => self.send(Frame::Text(ToRunner::Pong.encode())).await?,
                FromRunner::Pong => {}
                FromRunner::Hello(_) => return Err(Closing::Malformed),
            }
        }
        self.store(&mut events).await
    }

    /// Has events stored, and says how far that is.
    async fn store(&mut self, events: &mut Vec<Sequenced>) -> Result<(), Closing> {
        if events.is_empty() {
            return Ok(());
        }
        let ends = events.iter().filter(|event| matches!(event.event, Event::Ended { .. }));
        let ends: Vec<_> = ends.map(|event| (event.session, event.seq)).collect();
        let about: Vec<SessionId> = events.iter().map(|event| event.session).collect();
        let heard = self.remote.hear(self.runner.id, std::mem::take(events)).await;
        for heard in heard {
            let answer = match heard {
                Heard::Stored(stored) => {
                    for (session, seq) in &ends {
                        if *session == stored.session && *seq <= stored.seq {
                            let registry = &self.remote.inner.registry;
                            registry.over(self.runner.id, self.entered.generation, *session);
                        }
                    }
                    ToRunner::Ack(stored)
                }
                Heard::Gap { session, from } => ToRunner::Resend { session, from },
                Heard::NotTheirs(session) => {
                    let count = about.iter().filter(|of| **of == session).count();
                    self.stray(session, count)?;
                    continue;
                }
                Heard::Unavailable => return Err(Closing::Store),
            };
            self.send(Frame::Text(answer.encode())).await?;
        }
        Ok(())
    }

    async fn terminal(&mut self, frame: Bytes) -> Result<(), Closing> {
        let decoded = relay::Bytes::decode(&frame).map_err(|error| {
            tracing::warn!(runner = self.runner.name, %error, "a runner makes no sense");
            Closing::Malformed
        })?;
        let (session, offset) = (decoded.session, decoded.offset);
        let bytes = frame.slice_ref(decoded.bytes);
        let item = Item::Bytes { offset, bytes };
        match self.remote.terminals().pass(self.runner.id, session, item).await? {
            true => Ok(()),
            false => self.stray(session, 1),
        }
    }

    /// Something happened in a session. What happens in terminals goes straight to them.
    async fn happened(
        &mut self,
        event: Box<Sequenced>,
        events: &mut Vec<Sequenced>,
    ) -> Result<(), Closing> {
        let terminals = self.remote.terminals();
        if terminals.has(self.runner.id, event.session) {
            terminals.pass(self.runner.id, event.session, Item::Event(event)).await?;
        } else {
            events.push(*event);
        }
        Ok(())
    }

    /// It spoke of a session that is not its own.
    fn stray(&mut self, session: SessionId, count: usize) -> Result<(), Closing> {
        if self.strays == 0 {
            tracing::warn!(
                runner = self.runner.name, %session,
                "a runner speaks of a session that is over or not its own",
            );
        }
        self.strays += count;
        if self.strays > MOST_STRAYS { Err(Closing::Malformed) } else { Ok(()) }
    }

    async fn send(&mut self, frame: Frame) -> Result<(), Closing> {
        match timeout(SEND, self.wire.outgoing.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Closing::Broken),
            Err(_) => Err(Closing::Slow),
        }
    }
}
