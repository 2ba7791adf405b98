//! A runner that is the test.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::status::Status;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::FromRunner;
use sojourn_core::wire::relay::Harness;
use sojourn_core::wire::relay::Hello;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::relay::Machine;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Running;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::ToRunner;
use sojourn_core::wire::relay::VERSION;
use tokio::sync::mpsc;

use super::desk::Desk;
use super::desk::soon;
use crate::remote::Coming;
use crate::remote::Frame;
use crate::remote::Wire;

/// One.
pub(super) struct Peer {
    id: RunnerId,
    to: mpsc::Sender<Frame>,
    from: mpsc::Receiver<Frame>,
    next: HashMap<SessionId, Seq>,
    waiting: VecDeque<ToRunner>,
    seen: Vec<CommandId>,
    /// Which start of the agents this is.
    pub(super) epoch: u32,
    /// What the gateway has, as it said when this came.
    pub(super) have: Vec<(SessionId, Seq)>,
    /// What it says to every command, if it does not do it.
    pub(super) refuses: Option<String>,
}

/// A runner whose connection is gone.
pub(super) struct Away {
    id: RunnerId,
    next: HashMap<SessionId, Seq>,
    epoch: u32,
}

impl Peer {
    pub(super) async fn come(
        desk: &Desk,
        id: RunnerId,
        sessions: &[(SessionId, Seq, Status, Vec<RequestId>)],
        epoch: u32,
    ) -> Self {
        let (to, incoming) = mpsc::channel(16);
        let (outgoing, from) = mpsc::channel(16);
        let coming = Coming {
            runner: id,
            address: "192.0.2.9".parse().unwrap(),
            program: "test".to_owned(),
        };
        let remote = desk.engine.remote().clone();
        tokio::spawn(async move { remote.serve(coming, Wire { incoming, outgoing }).await });
        let running = sessions.iter().map(|(session, head, status, asks)| Running {
            session: *session,
            epoch,
            head: *head,
            offset: 0,
            status: *status,
            asks: asks.clone(),
        });
        let claude =
            Harness { name: "claude".to_owned(), available: true, version: None, note: None };
        let hello = Hello {
            version: VERSION,
            build: "test".to_owned(),
            machine: Machine { host: "h".to_owned(), os: "linux".to_owned(), arch: "x".to_owned() },
            harnesses: vec![claude],
            directories: vec!["/src".to_owned()],
            sessions: running.collect(),
        };
        to.send(Frame::Text(FromRunner::Hello(Box::new(hello)).encode())).await.unwrap();
        let mut peer = Self {
            id,
            to,
            from,
            next: HashMap::new(),
            waiting: VecDeque::new(),
            seen: Vec::new(),
            epoch,
            have: Vec::new(),
            refuses: None,
        };
        let have = peer.hear(|message| match message {
            ToRunner::Welcome { have, .. } => Some(have),
            _ => None,
        });
        peer.have = have.await.iter().map(|stored| (stored.session, stored.seq)).collect();
        peer
    }

    /// Its connection breaks.
    pub(super) fn gone(self) -> Away {
        Away { id: self.id, next: self.next, epoch: self.epoch }
    }

    /// The next message that is wanted; others wait.
    pub(super) async fn hear<T>(&mut self, mut wanted: impl FnMut(ToRunner) -> Option<T>) -> T {
        let mut others = VecDeque::new();
        loop {
            let message = match self.waiting.pop_front() {
                Some(message) => message,
                None => self.read().await,
            };
            match wanted(message.clone()) {
                Some(found) => {
                    others.append(&mut self.waiting);
                    self.waiting = others;
                    return found;
                }
                None => others.push_back(message),
            }
        }
    }

    async fn read(&mut self) -> ToRunner {
        loop {
            match soon(self.from.recv()).await.expect("a connection") {
                Frame::Text(text) => return ToRunner::decode(&text).unwrap(),
                Frame::Binary(_) | Frame::Sign => {}
            }
        }
    }

    /// The next command for a session, which is taken.
    pub(super) async fn asked(&mut self, id: SessionId) -> Command {
        loop {
            let (command, body) = self
                .hear(|message| match message {
                    ToRunner::Command { command, session, body } if session == id => {
                        Some((command, *body))
                    }
                    _ => None,
                })
                .await;
            let is_new = !self.seen.contains(&command);
            self.receipt(command, if is_new { Receipt::Accepted } else { Receipt::Duplicate })
                .await;
            if is_new {
                self.seen.push(command);
            }
            if is_new && !matches!(body, Command::Forget { .. }) {
                return body;
            }
        }
    }

    async fn receipt(&mut self, command: CommandId, outcome: Receipt) {
        let receipt = FromRunner::Receipt { command, outcome };
        self.to.send(Frame::Text(receipt.encode())).await.unwrap();
    }

    /// The next session it is to start.
    pub(super) async fn launched(&mut self) -> Launch {
        let (command, launch) = self
            .hear(|message| match message {
                ToRunner::Command { command, body, .. } => match *body {
                    Command::Start(launch) => Some((command, *launch)),
                    _ => None,
                },
                _ => None,
            })
            .await;
        self.receipt(command, Receipt::Accepted).await;
        launch
    }

    /// The same, which it does not.
    pub(super) async fn refused(&mut self) {
        let command = self
            .hear(|message| match message {
                ToRunner::Command { command, body, .. } => {
                    matches!(*body, Command::Start(_)).then_some(command)
                }
                _ => None,
            })
            .await;
        let message = self.refuses.clone().unwrap_or_default();
        self.receipt(command, Receipt::Rejected { code: "refused".to_owned(), message }).await;
    }

    /// The next event of a session.
    pub(super) async fn say(&mut self, id: SessionId, event: Event) {
        let seq = self.next.get(&id).copied().unwrap_or(1);
        self.send(id, seq, event).await;
    }

    /// An event of this number.
    pub(super) async fn send(&mut self, session: SessionId, seq: Seq, event: Event) {
        self.next.insert(session, seq + 1);
        let event = Sequenced { session, epoch: self.epoch, seq, at: Wall(1_000_000), event };
        let mut frame = Frame::Text(FromRunner::Event(Box::new(event)).encode());
        // Whoever only sends would wait for whoever only answers.
        loop {
            match self.to.try_send(frame) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(back)) => frame = back,
                Err(mpsc::error::TrySendError::Closed(_)) => panic!("the connection is gone"),
            }
            tokio::select! {
                Some(got) = self.from.recv() => if let Frame::Text(text) = got {
                    self.waiting.push_back(ToRunner::decode(&text).unwrap());
                },
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    }

    /// How far the next acknowledgement goes.
    pub(super) async fn acked(&mut self, id: SessionId) -> Seq {
        let mut last = 0;
        let want = self.next.get(&id).copied().unwrap_or(1) - 1;
        while last < want {
            last = self
                .hear(|message| match message {
                    ToRunner::Ack(stored) if stored.session == id => Some(stored.seq),
                    _ => None,
                })
                .await;
        }
        last
    }

    /// A sign of life.
    pub(super) async fn alive(&mut self) {
        self.to.send(Frame::Text(FromRunner::Ping.encode())).await.unwrap();
        self.hear(|message| matches!(message, ToRunner::Pong).then_some(())).await;
    }
}

impl Away {
    /// It comes again, with these sessions.
    pub(super) async fn back(
        self,
        desk: &Desk,
        sessions: &[(SessionId, Seq, Status, Vec<RequestId>)],
    ) -> Peer {
        let mut peer = Peer::come(desk, self.id, sessions, self.epoch).await;
        peer.next = self.next;
        peer
    }
}
