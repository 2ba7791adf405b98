//! One forwarded connection from its beginning to its end: bytes both ways, each way ended by itself.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use russh::Channel;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::channel::InputClosed;
use sojourn_engine::door::ChannelEvent;
use sojourn_engine::door::shown;
use sojourn_engine::profiles::Forward;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::LONGEST_TARGET;
use super::name;
use crate::connection::Connection;
use crate::gate::Gate;
use crate::gate::GateInput;
use crate::gate::GateOutput;
use crate::gate::GateSession;
use crate::intake::Intake;
use crate::intake::LAST_BYTES;
use crate::intake::Over;
use crate::intake::unheard;
use crate::places::Place;
use crate::spool::Spool;
use crate::valve::Hold;

/// How long a client may take to close a channel that has ended both ways inside. What we close first
/// the library never quite forgets.
const CLOSING: Duration = Duration::from_secs(2);

/// A connection that is passed on.
pub(super) struct Passage<G: Gate> {
    pub(super) connection: Arc<Connection<G>>,
    pub(super) kind: Forward,
    /// Where it leads.
    pub(super) target: String,
    /// Where it comes from.
    pub(super) from: String,
}

/// Its end inside.
pub(super) struct Inside<G: Gate> {
    pub(super) input: <G::Session as GateSession>::Input,
    pub(super) output: <G::Session as GateSession>::Output,
    /// What came out of it already.
    pub(super) early: Bytes,
}

impl<G: Gate> Passage<G> {
    /// Passes on what comes from either side, until both are done or one is gone.
    pub(super) async fn carry(
        self,
        channel: Channel<Msg>,
        inside: Inside<G>,
        session: &G::Session,
        place: Place,
    ) {
        let opened = Instant::now();
        self.connection.gate.record(self.event(Action::ForwardOpened));
        let (read, write) = channel.split();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Counted { input: inside.input.clone(), sent: sent.clone() };
        let (give, input) = oneshot::channel();
        let (over, mut is_over) = oneshot::channel();
        let connection = &self.connection;
        let spool = Spool::new(connection.spools.clone());
        let patience = connection.spools.limits().patience;
        let hold = Hold::new(connection.wire.valve.clone());
        let intake = Intake::new(read, spool, patience, connection.gone.clone(), hold);
        connection.tasks.spawn(intake.run(input, over));
        let mut received = 0;
        let Inside { input, mut output, early } = inside;
        // Its other end waits for it.
        let _gone = give.send(counted);
        let ending = tokio::select! {
            biased;
            _ = session.cut() => Ending::Broken,
            over = &mut is_over => Ending::of(over),
            ended = pass(&write, &mut output, early, &mut received) => ended,
        };
        let ending = match ending {
            // Whether it closed the channel is known when what it sent before is taken.
            Ending::Unheard => {
                let heard = unheard(&mut output, &mut is_over);
                let over = tokio::time::timeout(LAST_BYTES + CLOSING, heard).await;
                over.map_or(Ending::Broken, Ending::of)
            }
            known => known,
        };
        let closed = match ending {
            Ending::Closed => {
                // What it sent last is on its way to the other end inside, which then hears of the end.
                let rest = async { while output.next().await.is_some_and(goes_on) {} };
                let _late = tokio::time::timeout(CLOSING, rest).await;
                true
            }
            // Mostly the client closes it then by itself.
            Ending::Done => {
                let _gone = write.eof().await;
                let over = tokio::time::timeout(CLOSING, &mut is_over).await;
                over.is_ok_and(|over| matches!(Ending::of(over), Ending::Closed))
            }
            Ending::Unheard | Ending::Broken => false,
        };
        if !matches!(ending, Ending::Done) {
            input.close().await;
        }
        drop(output);
        if closed {
            place.left_nothing();
        }
        // It fails when the connection is gone, which ends everything else as well.
        let _gone = write.close().await;
        let event = self
            .event(Action::ForwardClosed)
            .detail("bytes_in", sent.load(Ordering::Relaxed))
            .detail("bytes_out", received)
            .detail("seconds", opened.elapsed().as_secs());
        self.connection.gate.record(event);
    }

    fn event(&self, action: Action) -> Event {
        self.connection
            .event(action)
            .detail("kind", name(self.kind))
            .detail("target", shown(self.target.as_bytes(), LONGEST_TARGET))
            .detail("from", shown(self.from.as_bytes(), LONGEST_TARGET))
    }
}

/// How a passage ends.
enum Ending {
    /// The client closed it.
    Closed,
    /// Inside both ways have ended.
    Done,
    /// The client takes nothing more.
    Unheard,
    Broken,
}

impl Ending {
    fn of(over: Result<Over, oneshot::error::RecvError>) -> Self {
        match over {
            Ok(Over::Closed) => Self::Closed,
            _ => Self::Broken,
        }
    }
}

/// Passes on what comes out, to its end.
async fn pass(
    write: &ChannelWriteHalf<Msg>,
    output: &mut impl GateOutput,
    early: Bytes,
    passed: &mut u64,
) -> Ending {
    *passed += length(&early);
    if !early.is_empty() && write.data_bytes(early).await.is_err() {
        return Ending::Unheard;
    }
    while let Some(event) = output.next().await {
        let sent = match event {
            ChannelEvent::Output(Stream::Out, bytes) => {
                *passed += length(&bytes);
                write.data_bytes(bytes).await
            }
            // The other way goes on.
            ChannelEvent::Eof(Stream::Out) => write.eof().await,
            ChannelEvent::Exit(_) => return Ending::Done,
            // Only a terminal is taken over.
            ChannelEvent::TakenOver(_) => return Ending::Broken,
            ChannelEvent::Output(Stream::Err, _)
            | ChannelEvent::Eof(Stream::Err)
            | ChannelEvent::Notice(_)
            | ChannelEvent::InputClosed => Ok(()),
        };
        if sent.is_err() {
            return Ending::Unheard;
        }
    }
    Ending::Broken
}

/// Whether more may come.
fn goes_on(event: ChannelEvent) -> bool {
    !matches!(event, ChannelEvent::Exit(_) | ChannelEvent::TakenOver(_))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Into a connection; counts what goes there.
#[derive(Clone)]
struct Counted<I> {
    input: I,
    sent: Arc<AtomicU64>,
}

impl<I: GateInput> GateInput for Counted<I> {
    async fn send(&self, bytes: &[u8]) -> Result<(), InputClosed> {
        self.input.send(bytes).await?;
        self.sent.fetch_add(length(bytes), Ordering::Relaxed);
        Ok(())
    }

    async fn eof(&self) {
        self.input.eof().await;
    }

    async fn resize(&self, size: WindowSize) {
        self.input.resize(size).await;
    }

    async fn signal(&self, name: String) {
        self.input.signal(name).await;
    }

    /// It is the end of what the client sends; the connection inside is closed by who carries it.
    async fn close(&self) {
        self.input.eof().await;
    }
}
