//! One connection to the gateway: hello and welcome, then events up and commands down, until it breaks
//! or says nothing for too long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use futures_util::stream::SplitSink;
use futures_util::stream::SplitStream;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay::Bytes;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::FromRunner;
use sojourn_core::wire::relay::Hello;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Stored;
use sojourn_core::wire::relay::ToRunner;
use sojourn_core::wire::relay::VERSION;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval_at;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::address::Socket;
use super::hub::Hub;
use super::outbox::Out;

/// How long the gateway may take to answer hello.
const WELCOME: Duration = Duration::from_secs(30);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The most frames that wait to be written.
const FRAMES: usize = 64;

/// The most receipts that wait to be sent; more come again with their commands.
const RECEIPTS: usize = 256;

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parted {
    /// It broke, and when; the gateway was there before.
    Lost(String),
    /// The gateway does not want us, now or for good.
    Refused {
        /// Its words.
        message: String,
        /// Coming again would be refused again.
        for_good: bool,
    },
}

fn lost(why: &str) -> Parted {
    Parted::Lost(why.to_owned())
}

/// Says hello and hears the welcome; then passes everything on until the connection ends.
pub(super) async fn run(
    hub: &Arc<Hub>,
    socket: Socket,
    hello: Hello,
    welcomed: impl FnOnce(),
) -> Parted {
    let told: Vec<SessionId> = hello.sessions.iter().map(|running| running.session).collect();
    let (mut sink, mut stream) = socket.split();
    let hello = FromRunner::Hello(Box::new(hello)).encode();
    let greeted = timeout(WELCOME, async {
        sink.send(Message::text(hello)).await.map_err(|error| Parted::Lost(error.to_string()))?;
        hear_welcome(&mut stream).await
    });
    let welcome = greeted.await.unwrap_or_else(|_| Err(lost("it does not answer hello")));
    let Welcome { have, max_sessions, paused } = match welcome {
        Ok(welcome) => welcome,
        Err(parted) => return parted,
    };
    welcomed();
    let (receipts, to_send) = mpsc::channel(RECEIPTS);
    hub.welcome(&told, &have, max_sessions, paused, receipts);
    let (frames, to_write) = mpsc::channel(FRAMES);
    let parted = tokio::select! {
        parted = hear(hub, stream, frames.clone()) => parted,
        parted = write(sink, to_write) => parted,
        parted = pass_receipts(to_send, frames.clone()) => parted,
        parted = pump(hub, frames) => parted,
    };
    hub.alone();
    parted
}

/// What the gateway says to hello.
struct Welcome {
    have: Vec<Stored>,
    max_sessions: u32,
    paused: bool,
}

async fn hear_welcome(stream: &mut SplitStream<Socket>) -> Result<Welcome, Parted> {
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Text(text)) => match ToRunner::decode(&text) {
                Ok(ToRunner::Welcome { version, have, max_sessions, paused, .. }) => {
                    if version == 0 || version > VERSION {
                        return Err(Parted::Refused {
                            message: format!("it speaks version {version}; update this runner"),
                            for_good: false,
                        });
                    }
                    return Ok(Welcome { have, max_sessions, paused });
                }
                Ok(ToRunner::Refused { message, for_good, .. }) => {
                    return Err(Parted::Refused { message, for_good });
                }
                Ok(ToRunner::Ping) => {}
                Ok(_) => return Err(lost("it says something else than welcome")),
                Err(error) => return Err(Parted::Lost(error.to_string())),
            },
            Ok(Message::Close(_)) => break,
            Ok(_) => {}
            Err(error) => return Err(Parted::Lost(error.to_string())),
        }
    }
    Err(lost("it hung up"))
}

/// Takes what the gateway says, and notices when it says nothing.
async fn hear(
    hub: &Arc<Hub>,
    mut stream: SplitStream<Socket>,
    frames: mpsc::Sender<Message>,
) -> Parted {
    let pace = hub.options.pace;
    let mut heard = Instant::now();
    let mut ping = interval_at(heard + pace.ping, pace.ping);
    // After a sleep of the machine one question is enough.
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = 0_u32;
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            _ = ping.tick() => {
                if heard.elapsed() >= pace.dead && asked >= 2 {
                    return lost("nothing was heard of it for too long");
                }
                asked = asked.saturating_add(1);
                // Behind frames that do not get out, another one would not either.
                let _full = frames.try_send(Message::text(FromRunner::Ping.encode()));
                continue;
            }
        };
        (heard, asked) = (Instant::now(), 0);
        match message {
            Some(Ok(Message::Text(text))) => match ToRunner::decode(&text) {
                Ok(message) => {
                    if let Some(parted) = take(hub, message, &frames) {
                        return parted;
                    }
                }
                Err(error) => return Parted::Lost(error.to_string()),
            },
            Some(Ok(Message::Binary(frame))) => match Bytes::decode(&frame) {
                Ok(typed) => hub.typed(typed.session, typed.bytes),
                Err(error) => return Parted::Lost(error.to_string()),
            },
            Some(Ok(Message::Close(_))) | None => return lost("it hung up"),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Parted::Lost(error.to_string()),
        }
    }
}

/// Does what one message wants; some end the connection.
fn take(hub: &Arc<Hub>, message: ToRunner, frames: &mpsc::Sender<Message>) -> Option<Parted> {
    match message {
        ToRunner::Ack(stored) => hub.acknowledge(stored),
        ToRunner::Resend { session, from } => {
            if let Some(held) = hub.find(session) {
                held.outbox.resend(from);
            }
        }
        ToRunner::Command { command, session, body } => hub.command(command, session, *body),
        ToRunner::Pause { paused } => hub.pause(paused),
        ToRunner::Ping => {
            let _full = frames.try_send(Message::text(FromRunner::Pong.encode()));
        }
        ToRunner::Pong => {}
        ToRunner::Refused { message, for_good, .. } => {
            return Some(Parted::Refused { message, for_good });
        }
        ToRunner::Welcome { .. } => return Some(lost("it says welcome twice")),
    }
    None
}

/// Writes frames, one after the other.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut frames: mpsc::Receiver<Message>,
) -> Parted {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = sink.send(frame).await {
            return Parted::Lost(error.to_string());
        }
    }
    let _late = timeout(GOODBYE, sink.close()).await;
    lost("we hung up")
}

async fn pass_receipts(
    mut receipts: mpsc::Receiver<(CommandId, Receipt)>,
    frames: mpsc::Sender<Message>,
) -> Parted {
    while let Some((command, outcome)) = receipts.recv().await {
        let receipt = FromRunner::Receipt { command, outcome };
        if frames.send(Message::text(receipt.encode())).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// Sends what sessions have to say, each a little at a time.
async fn pump(hub: &Arc<Hub>, frames: mpsc::Sender<Message>) -> Parted {
    loop {
        let mut is_idle = true;
        for held in hub.all() {
            for out in held.outbox.take() {
                is_idle = false;
                let frame = match out {
                    Out::Event(event) => Message::text(FromRunner::Event(event).encode()),
                    Out::Bytes { offset, bytes } => {
                        let bytes = Bytes { session: held.session, offset, bytes: &bytes };
                        Message::binary(bytes.encode())
                    }
                };
                if frames.send(frame).await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
        if is_idle {
            hub.work().notified().await;
        }
    }
}
