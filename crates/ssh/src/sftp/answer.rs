//! From the helper to the client: answers are taken in their order and passed on as the client knows
//! them, many in one go where they are there.

use std::sync::Mutex;

use bytes::Bytes;
use sojourn_core::wire::files::Attributes;
use sojourn_core::wire::files::Fields;
use sojourn_core::wire::files::MAX_DATA;
use sojourn_core::wire::shim::Stream;
use sojourn_engine::door::ChannelEvent;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::Broken;
use super::Desk;
use super::Open;
use super::Pending;
use super::Then;
use super::listing::long_name;
use super::lock;
use super::wire;
use super::wire::Packet;
use super::wire::Status;
use super::wire::flags;
use crate::files::Answers;
use crate::files::ClientGone;
use crate::files::Direction;
use crate::files::HelperError;
use crate::files::Ledger;
use crate::files::bytes_of;
use crate::files::error_text;
use crate::gate::Gate;
use crate::gate::GateOutput;

/// So much is passed on at once.
const BATCH: usize = 64 * 1024;

/// Answers until nothing more will be asked.
pub(super) async fn run<G: Gate, O: GateOutput>(
    desk: &Mutex<Desk<G>>,
    ledger: &Ledger<G>,
    answers: &mut Answers<O>,
    mut waiting: mpsc::Receiver<Pending>,
    to: mpsc::Sender<ChannelEvent>,
) -> Result<(), Broken> {
    let mut answerer = Answerer { desk, ledger, answers, to, out: Vec::new() };
    loop {
        let pending = match waiting.try_recv() {
            Ok(pending) => pending,
            Err(TryRecvError::Disconnected) => return answerer.flush().await,
            Err(TryRecvError::Empty) => {
                answerer.flush().await?;
                tokio::select! {
                    biased;
                    pending = waiting.recv() => match pending {
                        Some(pending) => pending,
                        None => return Ok(()),
                    },
                    line = answerer.answers.notice() => {
                        answerer.send(ChannelEvent::Notice(line?)).await?;
                        continue;
                    }
                }
            }
        };
        answerer.settle(pending).await?;
        if answerer.out.len() >= BATCH {
            answerer.flush().await?;
        }
    }
}

struct Answerer<'a, G: Gate, O> {
    desk: &'a Mutex<Desk<G>>,
    ledger: &'a Ledger<G>,
    answers: &'a mut Answers<O>,
    to: mpsc::Sender<ChannelEvent>,
    /// What is to be sent.
    out: Vec<u8>,
}

impl<G: Gate, O: GateOutput> Answerer<'_, G, O> {
    async fn settle(&mut self, pending: Pending) -> Result<(), Broken> {
        let Pending { id, parts, then } = pending;
        match then {
            Then::Say(packet) => {
                self.out.extend_from_slice(&packet);
                return Ok(());
            }
            Then::Read { handle, offset, length } => {
                return self.read(id, parts, (handle, offset, length)).await;
            }
            Then::Write(handle) => {
                let mut result = Ok(());
                for _ in 0..parts {
                    result = result.and(self.next().await?.map(drop));
                }
                if let (Err(errno), Some(open)) = (result, lock(self.desk).open.get_mut(&handle)) {
                    open.written.iter_mut().for_each(|transfer| transfer.failed(errno));
                }
                self.status(id, result);
                return Ok(());
            }
            _ => {}
        }
        let answer = self.next().await?;
        if let Then::Open { .. } | Then::Opendir = then {
            let mut desk = lock(self.desk);
            desk.opening = desk.opening.saturating_sub(1);
        }
        match (then, answer) {
            (Then::Home, answer) => {
                let home = answer.ok().and_then(|payload| bytes_of(&payload).ok());
                if let Some(home) = home.filter(|home| home.starts_with(b"/")) {
                    lock(self.desk).home = home.to_vec();
                }
            }
            (Then::Close(handle), answer) => {
                let closed = lock(self.desk).open.remove(&handle);
                let both = closed.into_iter().flat_map(|open| [open.read, open.written]);
                let mut result = answer.map(drop);
                for transfer in both.flatten() {
                    self.flush().await?;
                    result = result.and(self.ledger.close(transfer).await);
                }
                self.status(id, result);
            }
            (Then::Copy(handle), answer) => self.copied(id, handle, answer)?,
            (_, Err(errno)) => self.status(id, Err(errno)),
            (Then::Open { path, flags }, Ok(payload)) => {
                self.opened(id, &payload, path, Some(flags))?
            }
            (Then::Opendir, Ok(payload)) => self.opened(id, &payload, Vec::new(), None)?,
            (Then::Attributes, Ok(payload)) => {
                let attributes = Fields(&payload).attributes().map_err(HelperError::from)?;
                self.packet(Packet::attrs(id, &attributes));
            }
            (Then::Path, Ok(payload)) => {
                let path = bytes_of(&payload)?;
                let mut packet = Packet::names(id, 1);
                packet.entry(&path, &path, None);
                self.packet(packet);
            }
            (Then::Names, Ok(payload)) => self.names(id, &payload)?,
            (Then::Room, Ok(payload)) => self.room(id, &payload)?,
            (_, Ok(_)) => self.status(id, Ok(())),
        }
        Ok(())
    }

    /// The helper's next answer. What was made before goes out first, if this is to be waited for.
    async fn next(&mut self) -> Result<Result<Bytes, u32>, Broken> {
        if !self.answers.is_ready() {
            self.flush().await?;
        }
        Ok(self.answers.next().await?)
    }

    async fn read(
        &mut self,
        id: u32,
        parts: usize,
        (handle, offset, length): (wire::Handle, u64, usize),
    ) -> Result<(), Broken> {
        let mut read = Vec::with_capacity(parts);
        let mut error = None;
        let mut ended = false;
        for part in 0..parts {
            let wanted = length.saturating_sub(part * MAX_DATA).min(MAX_DATA);
            let answer = match self.next().await? {
                Ok(payload) => Ok(bytes_of(&payload)?),
                Err(errno) => Err(errno),
            };
            match answer {
                Ok(bytes) if bytes.len() > wanted => return Err(HelperError::Order.into()),
                // What comes after a part that is short has a gap before it.
                Ok(bytes) if !ended => {
                    ended = bytes.len() < wanted;
                    read.push(bytes);
                }
                Ok(_) => {}
                Err(errno) => {
                    error = error.or((!ended).then_some(errno));
                    ended = true;
                }
            }
        }
        {
            let mut desk = lock(self.desk);
            if let Some(open) = desk.open.get_mut(&handle).filter(|open| open.flags.is_some()) {
                let begin = || self.ledger.begin(Direction::Out, &open.path);
                let transfer = open.read.get_or_insert_with(begin);
                let mut at = offset;
                for bytes in &read {
                    transfer.pass(at, bytes);
                    at = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
                }
                error.into_iter().for_each(|errno| transfer.failed(errno));
            }
        }
        match (read.iter().all(Bytes::is_empty), error) {
            (true, Some(errno)) => self.status(id, Err(errno)),
            (true, None) => self.packet(Packet::status(id, Status::Eof, Status::Eof.words())),
            (false, _) => wire::data(id, &read, &mut self.out),
        }
        Ok(())
    }

    fn opened(
        &mut self,
        id: u32,
        payload: &[u8],
        path: Vec<u8>,
        opened: Option<u32>,
    ) -> Result<(), Broken> {
        let helper = Fields(payload).u32().map_err(HelperError::from)?;
        let mut desk = lock(self.desk);
        let handle = desk.next;
        desk.next = desk.next.wrapping_add(1);
        let path = desk.absolute(&path);
        let makes = flags::CREATE | flags::TRUNCATE;
        // An empty file is one, too.
        let written = opened
            .filter(|has| has & flags::WRITE != 0 && has & makes != 0)
            .map(|_| self.ledger.begin(Direction::In, &path));
        let open = Open { helper, path, flags: opened, closing: false, read: None, written };
        desk.open.insert(handle, open);
        drop(desk);
        self.packet(Packet::handle(id, handle));
        Ok(())
    }

    /// A copy was made inside, or broke off.
    fn copied(
        &mut self,
        id: u32,
        handle: wire::Handle,
        answer: Result<Bytes, u32>,
    ) -> Result<(), Broken> {
        let bytes = match &answer {
            Ok(payload) => Fields(payload).u64().map_err(HelperError::from)?,
            Err(_) => 0,
        };
        if let Some(open) = lock(self.desk).open.get_mut(&handle)
            && open.flags.is_some_and(|has| has & flags::WRITE != 0)
        {
            let begin = || self.ledger.begin(Direction::In, &open.path);
            let transfer = open.written.get_or_insert_with(begin);
            transfer.copied(bytes);
            answer.as_ref().err().into_iter().for_each(|errno| transfer.failed(*errno));
        }
        self.status(id, answer.map(drop));
        Ok(())
    }

    fn names(&mut self, id: u32, payload: &[u8]) -> Result<(), Broken> {
        let mut fields = Fields(payload);
        let mut entries: Vec<(&[u8], Attributes)> = Vec::new();
        while !fields.0.is_empty() {
            let name = fields.string().map_err(HelperError::from)?;
            let attributes = fields.attributes().map_err(HelperError::from)?;
            // A name with a slash is no name, and clients have believed such.
            if !name.is_empty() && !name.contains(&b'/') {
                entries.push((name, attributes));
            }
        }
        if entries.is_empty() {
            self.packet(Packet::status(id, Status::Eof, Status::Eof.words()));
            return Ok(());
        }
        let now = self.ledger.now();
        let mut packet = Packet::names(id, u32::try_from(entries.len()).unwrap_or(u32::MAX));
        for (name, attributes) in entries {
            packet.entry(name, &long_name(name, &attributes, now), Some(&attributes));
        }
        self.packet(packet);
        Ok(())
    }

    fn room(&mut self, id: u32, payload: &[u8]) -> Result<(), Broken> {
        let mut fields = Fields(payload);
        let mut next = || fields.u64().map_err(HelperError::from);
        let (block, blocks, free, available) = (next()?, next()?, next()?, next()?);
        let (files, files_free, longest) = (next()?, next()?, next()?);
        let answer =
            [block, block, blocks, free, available, files, files_free, files_free, 0, 0, longest];
        self.packet(Packet::extended(id, &answer));
        Ok(())
    }

    fn status(&mut self, id: u32, result: Result<(), u32>) {
        let packet = match result {
            Ok(()) => Packet::status(id, Status::Ok, Status::Ok.words()),
            Err(errno) => {
                let status = Status::of_errno(errno);
                // At a honeypot nothing is said that `sshd` would not say.
                let words = match self.ledger.is_honeypots() {
                    true => status.words().to_owned(),
                    false => error_text(errno),
                };
                Packet::status(id, status, &words)
            }
        };
        self.packet(packet);
    }

    fn packet(&mut self, packet: Packet) {
        self.out.extend_from_slice(&packet.finish());
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        if self.out.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.out));
        self.send(ChannelEvent::Output(Stream::Out, bytes)).await
    }

    async fn send(&mut self, event: ChannelEvent) -> Result<(), Broken> {
        Ok(self.to.send(event).await.map_err(|_| ClientGone)?)
    }
}
