//! The gateway, as a test plays it: it keeps what it is told, acknowledges when it is to, and hangs up
//! when it is to.

use std::collections::BTreeMap;

use futures_util::SinkExt;
use futures_util::StreamExt;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay::Bytes;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::FromRunner;
use sojourn_core::wire::relay::Hello;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::Stored;
use sojourn_core::wire::relay::ToRunner;
use sojourn_core::wire::relay::VERSION;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

use super::super::address::Address;
use super::PATIENCE;

/// What is stored of one session.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) events: Vec<Sequenced>,
    pub(super) bytes: Vec<u8>,
}

impl Log {
    /// The events themselves.
    pub(super) fn told(&self) -> Vec<&Event> {
        self.events.iter().map(|event| &event.event).collect()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// How it ended, once it did.
    pub(super) fn ended(&self) -> Option<&Event> {
        let is_end = |event: &&Sequenced| matches!(event.event, Event::Ended { .. });
        self.events.iter().find(is_end).map(|event| &event.event)
    }
}

pub(super) struct Gateway {
    listener: TcpListener,
    pub(super) logs: BTreeMap<SessionId, Log>,
    pub(super) receipts: Vec<(CommandId, Receipt)>,
    /// The sessions it knows nothing of, whatever it heard.
    pub(super) disowned: Vec<SessionId>,
    /// Whether it acknowledges what it stored.
    pub(super) acknowledges: bool,
    pub(super) max_sessions: u32,
}

/// One connection.
pub(super) struct Connection {
    socket: WebSocketStream<TcpStream>,
    pub(super) hello: Hello,
}

impl Gateway {
    pub(super) async fn open() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            logs: BTreeMap::new(),
            receipts: Vec::new(),
            disowned: Vec::new(),
            acknowledges: true,
            max_sessions: 3,
        }
    }

    pub(super) fn address(&self) -> Address {
        let address = self.listener.local_addr().unwrap();
        Address::parse(&format!("http://{address}"), None, false).unwrap()
    }

    fn stored(&self, session: SessionId) -> Stored {
        let log = self.logs.get(&session);
        Stored {
            session,
            seq: log.map_or(0, |log| log.events.len() as u64),
            offset: log.map_or(0, |log| log.bytes.len() as u64),
        }
    }

    /// The next connection of the runner, welcomed.
    pub(super) async fn accept(&mut self) -> Connection {
        let mut connection = self.accept_silently().await;
        let told = connection.hello.sessions.iter().map(|running| running.session);
        let known = told.filter(|session| !self.disowned.contains(session));
        let welcome = ToRunner::Welcome {
            version: VERSION,
            generation: 1,
            max_sessions: self.max_sessions,
            have: known.map(|session| self.stored(session)).collect(),
            paused: false,
        };
        connection.say(&welcome).await;
        connection
    }

    /// The next connection of the runner, and nothing said to it.
    pub(super) async fn accept_silently(&mut self) -> Connection {
        let accepted = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut socket = accept_async(stream).await.unwrap();
            loop {
                let Some(Ok(Message::Text(text))) = socket.next().await else { continue };
                let FromRunner::Hello(hello) = FromRunner::decode(&text).unwrap() else {
                    panic!("{text}")
                };
                return Connection { socket, hello: *hello };
            }
        };
        timeout(PATIENCE, accepted).await.expect("a runner")
    }

    /// Takes one frame. False: the runner hung up.
    pub(super) async fn take(&mut self, connection: &mut Connection) -> bool {
        let next = timeout(PATIENCE, connection.socket.next()).await.expect("a frame");
        let session = match next {
            Some(Ok(Message::Text(text))) => match FromRunner::decode(&text).unwrap() {
                FromRunner::Event(event) => {
                    let session = event.session;
                    let log = self.logs.entry(session).or_default();
                    let next = log.events.len() as u64 + 1;
                    assert!(event.seq <= next, "{} is missing: {event:?}", next);
                    if event.seq == next {
                        log.events.push(*event);
                    }
                    session
                }
                FromRunner::Receipt { command, outcome } => {
                    self.receipts.push((command, outcome));
                    return true;
                }
                FromRunner::Ping => {
                    connection.say(&ToRunner::Pong).await;
                    return true;
                }
                other => panic!("{other:?}"),
            },
            Some(Ok(Message::Binary(frame))) => {
                let bytes = Bytes::decode(&frame).unwrap();
                let log = self.logs.entry(bytes.session).or_default();
                let have = log.bytes.len() as u64;
                assert!(bytes.offset <= have, "bytes from {have} are missing: {}", bytes.offset);
                let new = usize::try_from(have - bytes.offset).unwrap();
                log.bytes.extend(bytes.bytes.get(new..).unwrap_or_default());
                bytes.session
            }
            Some(Ok(_)) => return true,
            Some(Err(_)) | None => return false,
        };
        if self.acknowledges {
            connection.say(&ToRunner::Ack(self.stored(session))).await;
        }
        true
    }

    /// Takes frames until something holds.
    pub(super) async fn until(
        &mut self,
        connection: &mut Connection,
        what: &str,
        holds: impl Fn(&Self) -> bool,
    ) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(std::time::Instant::now() < deadline, "waited for {what}: {:?}", self.logs);
            assert!(self.take(connection).await, "the runner hung up before {what}");
        }
    }

    /// Takes frames until a session ended.
    pub(super) async fn until_ended(&mut self, connection: &mut Connection, session: SessionId) {
        let ended = |this: &Self| this.log(session).is_some_and(|log| log.ended().is_some());
        self.until(connection, "the end", ended).await;
    }

    pub(super) fn log(&self, session: SessionId) -> Option<&Log> {
        self.logs.get(&session)
    }

    /// Whether a terminal showed something.
    pub(super) fn shows(&self, session: SessionId, text: &str) -> bool {
        self.log(session).is_some_and(|log| log.text().contains(text))
    }

    /// Sends a command, and takes frames until its receipt.
    pub(super) async fn command(
        &mut self,
        connection: &mut Connection,
        session: SessionId,
        body: Command,
    ) -> Receipt {
        let command = CommandId::new();
        connection.say(&order(command, session, body)).await;
        self.until(connection, "a receipt", |this| this.receipt(command).is_some()).await;
        self.receipt(command).unwrap()
    }

    pub(super) fn receipt(&self, command: CommandId) -> Option<Receipt> {
        let found = self.receipts.iter().find(|(id, _)| *id == command);
        found.map(|(_, receipt)| receipt.clone())
    }
}

pub(super) fn order(command: CommandId, session: SessionId, body: Command) -> ToRunner {
    ToRunner::Command { command, session, body: Box::new(body) }
}

impl Connection {
    pub(super) async fn say(&mut self, message: &ToRunner) {
        // A runner that hung up is noticed where its frames are taken.
        let _gone = self.socket.send(Message::text(message.encode())).await;
    }

    pub(super) async fn type_in(&mut self, session: SessionId, text: &str) {
        let bytes = Bytes { session, offset: 0, bytes: text.as_bytes() };
        self.socket.send(Message::binary(bytes.encode())).await.unwrap();
    }
}
