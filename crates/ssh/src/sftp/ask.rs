//! From the client to the helper: packets are put together, read, and asked for.

use std::sync::Mutex;

use bytes::Buf;
use bytes::BytesMut;
use sojourn_core::wire::files::MAX_DATA;
use sojourn_core::wire::files::MAX_HANDLES;
use sojourn_core::wire::files::Request as Ask;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Broken;
use super::Desk;
use super::Pending;
use super::Then;
use super::lock;
use super::wire;
use super::wire::Bad;
use super::wire::Handle;
use super::wire::MAX_PACKET;
use super::wire::MAX_TRANSFER;
use super::wire::Packet;
use super::wire::Request;
use super::wire::Status;
use super::wire::flags;
use crate::files::Asking;
use crate::files::Client;
use crate::files::Direction;
use crate::files::HelperError;
use crate::files::Ledger;
use crate::gate::Gate;
use crate::gate::GateInput;

/// Permissions of new files and directories, where the client names none.
const FILE_MODE: u32 = 0o666;
const DIRECTORY_MODE: u32 = 0o777;

/// Asks for what the client wants, until it wants no more.
pub(super) async fn run<G: Gate, I: GateInput>(
    desk: &Mutex<Desk<G>>,
    ledger: &Ledger<G>,
    client: Client,
    asking: Asking<I>,
    pending: mpsc::Sender<Pending>,
) -> Result<(), Broken> {
    let mut asker = Asker { desk, ledger, asking, pending };
    let followed = asker.follow(client).await;
    // What is to be answered has to be asked.
    asker.asking.flush().await?;
    followed
}

pub(super) fn next_packet(buffer: &mut BytesMut) -> Result<Option<BytesMut>, Broken> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_PACKET {
        return Err(Broken::Long(length));
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length)))
}

struct Asker<'a, G: Gate, I> {
    desk: &'a Mutex<Desk<G>>,
    ledger: &'a Ledger<G>,
    asking: Asking<I>,
    pending: mpsc::Sender<Pending>,
}

impl<G: Gate, I: GateInput> Asker<'_, G, I> {
    async fn follow(&mut self, mut client: Client) -> Result<(), Broken> {
        self.queue(0, Then::Home, &[Ask::Realpath(b".")]).await?;
        let mut buffer = BytesMut::new();
        while let Some(bytes) = client.receive().await {
            buffer.extend_from_slice(&bytes);
            while let Some(packet) = next_packet(&mut buffer)? {
                self.take(&packet).await?;
            }
            self.asking.flush().await?;
        }
        match buffer.is_empty() {
            true => Ok(()),
            false => Err(Broken::Unreadable),
        }
    }

    async fn take(&mut self, packet: &[u8]) -> Result<(), Broken> {
        let (id, request) = match wire::decode(packet) {
            Ok(read) => read,
            Err(Bad(Some(id))) => return self.refuse(id, Status::BadMessage).await,
            Err(Bad(None)) => return Err(Broken::Unreadable),
        };
        match request {
            Request::Init => self.say(id, Packet::version()).await,
            Request::Open { path, flags, mode } => self.open(id, path, flags, mode).await,
            Request::Opendir(path) if self.may_open() => {
                self.queue(id, Then::Opendir, &[Ask::Opendir(path)]).await
            }
            Request::Opendir(_) => self.refuse_handle(id).await,
            Request::Close(handle) => {
                let ask = lock(self.desk).open(handle).map(|open| {
                    open.closing = true;
                    Ask::Close(open.helper)
                });
                match ask {
                    Some(ask) => self.queue(id, Then::Close(handle), &[ask]).await,
                    None => self.refuse(id, Status::NoSuchFile).await,
                }
            }
            Request::Read { handle, offset, length } => self.read(id, handle, offset, length).await,
            Request::Write { handle, offset, bytes } => self.write(id, handle, offset, bytes).await,
            Request::Fstat(handle) => self.at(id, handle, Then::Attributes, Ask::Fstat).await,
            Request::Fsetstat(handle, change) => {
                self.at(id, handle, Then::Status, |helper| Ask::Fsetstat(helper, change)).await
            }
            Request::Readdir(handle) => self.at(id, handle, Then::Names, Ask::Readdir).await,
            Request::Fsync(handle) => self.at(id, handle, Then::Status, Ask::Fsync).await,
            Request::Fstatvfs(handle) => {
                let path = lock(self.desk).open(handle).map(|open| open.path.clone());
                match path {
                    Some(path) => self.queue(id, Then::Room, &[Ask::Statvfs(&path)]).await,
                    None => self.refuse(id, Status::NoSuchFile).await,
                }
            }
            Request::Copy { from, offset, length, to, at } => {
                let helpers = {
                    let mut desk = lock(self.desk);
                    let source = desk.open(from).map(|open| open.helper);
                    source.zip(desk.open(to).map(|open| open.helper))
                };
                match helpers {
                    Some((from, helper)) => {
                        let ask = Ask::Copy { from, offset, length, to: helper, at };
                        self.queue(id, Then::Copy(to), &[ask]).await
                    }
                    None => self.refuse(id, Status::NoSuchFile).await,
                }
            }
            Request::Limits => self.say(id, limits(id)).await,
            Request::Unknown => self.refuse(id, Status::Unsupported).await,
            other => match by_path(&other) {
                Some((then, ask)) => self.queue(id, then, &[ask]).await,
                None => self.refuse(id, Status::NoSuchFile).await,
            },
        }
    }

    async fn open(
        &mut self,
        id: u32,
        path: &[u8],
        wanted: u32,
        mode: Option<u32>,
    ) -> Result<(), Broken> {
        if !self.may_open() {
            return self.refuse_handle(id).await;
        }
        let ask = Ask::Open { flags: open_flags(wanted), mode: mode.unwrap_or(FILE_MODE), path };
        self.queue(id, Then::Open { path: path.to_vec(), flags: wanted }, &[ask]).await
    }

    async fn read(
        &mut self,
        id: u32,
        handle: Handle,
        offset: u64,
        length: u32,
    ) -> Result<(), Broken> {
        let helper = lock(self.desk).open(handle).map(|open| open.helper);
        let Some(helper) = helper else { return self.refuse(id, Status::NoSuchFile).await };
        let wanted = usize::try_from(length).unwrap_or(MAX_TRANSFER).min(MAX_TRANSFER);
        let mut asks = Vec::with_capacity(wanted.div_ceil(MAX_DATA));
        for part in 0..wanted.div_ceil(MAX_DATA) {
            let before = part * MAX_DATA;
            asks.push(Ask::Read {
                handle: helper,
                offset: offset.saturating_add(number(before)),
                length: u32::try_from((wanted - before).min(MAX_DATA)).unwrap_or(0),
            });
        }
        self.queue(id, Then::Read { handle, offset, length: wanted }, &asks).await
    }

    async fn write(
        &mut self,
        id: u32,
        handle: Handle,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        let helper = lock(self.desk).open(handle).map(|open| {
            if let Some(has) = open.flags.filter(|has| has & flags::WRITE != 0) {
                let begin = || self.ledger.begin(Direction::In, &open.path);
                let transfer = open.written.get_or_insert_with(begin);
                if has & flags::APPEND != 0 {
                    transfer.appends_at(offset);
                }
                transfer.pass(offset, bytes);
            }
            open.helper
        });
        let Some(helper) = helper else { return self.refuse(id, Status::NoSuchFile).await };
        let parts = bytes.chunks(MAX_DATA).enumerate().map(|(part, bytes)| Ask::Write {
            handle: helper,
            offset: offset.saturating_add(number(part * MAX_DATA)),
            bytes,
        });
        let asks: Vec<Ask<'_>> = parts.collect();
        self.queue(id, Then::Write(handle), &asks).await
    }

    /// Asks something about what is open.
    async fn at<'b>(
        &mut self,
        id: u32,
        handle: Handle,
        then: Then,
        ask: impl FnOnce(u32) -> Ask<'b>,
    ) -> Result<(), Broken> {
        let helper = lock(self.desk).open(handle).map(|open| open.helper);
        match helper {
            Some(helper) => self.queue(id, then, &[ask(helper)]).await,
            None => self.refuse(id, Status::NoSuchFile).await,
        }
    }

    /// Takes the place of one more open file, if there is one.
    fn may_open(&self) -> bool {
        let mut desk = lock(self.desk);
        let free = desk.open.len() + desk.opening < MAX_HANDLES;
        desk.opening += usize::from(free);
        free
    }

    async fn refuse_handle(&mut self, id: u32) -> Result<(), Broken> {
        let words = format!("Too many open files ({MAX_HANDLES})");
        self.say(id, Packet::status(id, Status::Failure, &words)).await
    }

    async fn refuse(&mut self, id: u32, status: Status) -> Result<(), Broken> {
        self.say(id, Packet::status(id, status, status.words())).await
    }

    async fn say(&mut self, id: u32, packet: Packet) -> Result<(), Broken> {
        self.queue(id, Then::Say(packet.finish()), &[]).await
    }

    /// Asks, and notes what the answers are for: that first, since they may come at once.
    async fn queue(&mut self, id: u32, then: Then, asks: &[Ask<'_>]) -> Result<(), Broken> {
        let pending = Pending { id, parts: asks.len(), then };
        let full = match self.pending.try_send(pending) {
            Ok(()) => None,
            Err(TrySendError::Full(pending)) => Some(pending),
            Err(TrySendError::Closed(_)) => return Err(HelperError::Gone.into()),
        };
        if let Some(pending) = full {
            // Room comes with answers, and those with what was asked before.
            self.asking.flush().await?;
            self.pending.send(pending).await.map_err(|_| HelperError::Gone)?;
        }
        asks.iter().for_each(|ask| self.asking.push(ask));
        if self.asking.is_long() {
            self.asking.flush().await?;
        }
        Ok(())
    }
}

/// Requests that name a path and need no more thought.
fn by_path<'a>(request: &Request<'a>) -> Option<(Then, Ask<'a>)> {
    Some(match *request {
        Request::Lstat(path) => (Then::Attributes, Ask::Lstat(path)),
        Request::Stat(path) => (Then::Attributes, Ask::Stat(path)),
        Request::Setstat(path, change) => (Then::Status, Ask::Setstat(path, change)),
        Request::Remove(path) => (Then::Status, Ask::Remove(path)),
        Request::Mkdir { path, mode } => {
            (Then::Status, Ask::Mkdir { mode: mode.unwrap_or(DIRECTORY_MODE), path })
        }
        Request::Rmdir(path) => (Then::Status, Ask::Rmdir(path)),
        Request::Rename { from, to, replace } => (Then::Status, Ask::Rename { replace, from, to }),
        Request::Readlink(path) => (Then::Path, Ask::Readlink(path)),
        Request::Symlink { target, path } => (Then::Status, Ask::Symlink { target, path }),
        Request::Link { from, to } => (Then::Status, Ask::Link { from, to }),
        Request::Statvfs(path) => (Then::Room, Ask::Statvfs(path)),
        Request::Realpath(path) => (Then::Path, Ask::Realpath(or_here(path))),
        Request::ExpandPath(path) => (Then::Path, Ask::Realpath(expanded(path)?)),
        Request::HomeDirectory(b"" | b"root") => (Then::Path, Ask::Realpath(b".")),
        _ => return None,
    })
}

/// A path that begins with `~`, from the home directory, where relative paths begin as well. Other
/// people's are not known.
fn expanded(path: &[u8]) -> Option<&[u8]> {
    let Some(rest) = path.strip_prefix(b"~") else { return Some(or_here(path)) };
    let (user, rest) = match rest.iter().position(|byte| *byte == b'/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, &b""[..]),
    };
    let first = rest.iter().position(|byte| *byte != b'/').unwrap_or(rest.len());
    matches!(user, b"" | b"root").then(|| or_here(rest.get(first..).unwrap_or_default()))
}

fn or_here(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

fn open_flags(wanted: u32) -> u32 {
    let access = match (wanted & flags::READ != 0, wanted & flags::WRITE != 0) {
        (true, true) => 2,
        (false, true) => 1,
        _ => 0,
    };
    let others = [
        (flags::CREATE, 0o100),
        (flags::EXCLUSIVE, 0o200),
        (flags::TRUNCATE, 0o1000),
        (flags::APPEND, 0o2000),
    ];
    others.iter().filter(|(flag, _)| wanted & flag != 0).fold(access, |all, (_, flag)| all | flag)
}

fn limits(id: u32) -> Packet {
    Packet::extended(
        id,
        &[number(MAX_PACKET), number(MAX_TRANSFER), number(MAX_TRANSFER), number(MAX_HANDLES)],
    )
}

fn number(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_home_directory() {
        assert_eq!(expanded(b"~"), Some(&b"."[..]));
        assert_eq!(expanded(b"~/a/b"), Some(&b"a/b"[..]));
        assert_eq!(expanded(b"~root//a"), Some(&b"a"[..]));
        assert_eq!(expanded(b"~bob/a"), None);
        assert_eq!(expanded(b"/a/~"), Some(&b"/a/~"[..]));
        assert_eq!(expanded(b""), Some(&b"."[..]));
    }

    #[test]
    fn flags_are_those_of_open() {
        assert_eq!(open_flags(flags::READ), 0);
        assert_eq!(open_flags(flags::WRITE | flags::CREATE | flags::TRUNCATE), 0o1101);
        assert_eq!(open_flags(flags::READ | flags::WRITE | flags::APPEND), 0o2002);
    }

    #[test]
    fn packets_are_put_together_and_bounded() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 2, 1, 2, 0, 0, 0][..]);
        assert_eq!(next_packet(&mut buffer).unwrap().as_deref(), Some(&[1, 2][..]));
        assert!(next_packet(&mut buffer).unwrap().is_none());
        let mut long = BytesMut::from(&[0, 4, 0, 1][..]);
        assert!(matches!(next_packet(&mut long), Err(Broken::Long(262_145))));
    }
}
