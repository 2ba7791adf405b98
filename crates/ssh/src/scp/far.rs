//! What both sides of SCP do: lines and bytes from the client, words to it, questions to the helper.

use bytes::Bytes;
use sojourn_core::wire::files::Attributes;
use sojourn_core::wire::files::Fields;
use sojourn_core::wire::files::Request;
use sojourn_engine::door::ChannelEvent;
use sojourn_engine::door::shown;

use crate::files::Answers;
use crate::files::Asking;
use crate::files::Client;
use crate::files::ClientGone;
use crate::files::Direction;
use crate::files::HelperError;
use crate::files::Ledger;
use crate::files::Transfer;
use crate::files::bytes_of;
use crate::files::error_text;
use crate::gate::Gate;
use crate::gate::GateSession;

/// The longest line that a client may send.
const LONGEST_LINE: usize = 8 * 1024;

/// The longest path in a line to the client, in characters.
const LONGEST_SHOWN: usize = 1024;

/// Why a client is not served any longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Helper(#[from] HelperError),
    #[error(transparent)]
    Gone(#[from] ClientGone),
    #[error("the client stopped in the middle")]
    Short,
    /// It has been told why, or has told us.
    #[error("nothing more can be done")]
    Fatal,
}

/// The client's answer to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    Yes,
    /// Not this one.
    No,
}

/// The far side of a copy.
pub(super) struct Far<'a, G: Gate> {
    client: Client,
    asking: Asking<<G::Session as GateSession>::Input>,
    answers: &'a mut Answers<<G::Session as GateSession>::Output>,
    ledger: &'a Ledger<G>,
    erred: bool,
    /// Where relative paths begin.
    home: Vec<u8>,
}

impl<'a, G: Gate> Far<'a, G> {
    pub(super) fn new(
        client: Client,
        asking: Asking<<G::Session as GateSession>::Input>,
        answers: &'a mut Answers<<G::Session as GateSession>::Output>,
        ledger: &'a Ledger<G>,
    ) -> Self {
        Self { client, asking, answers, ledger, erred: false, home: Vec::new() }
    }

    /// Whether anything went wrong.
    pub(super) fn has_erred(&self) -> bool {
        self.erred
    }

    /// Asks the helper, and waits for its answer. Nothing else may be on its way.
    pub(super) async fn call(
        &mut self,
        request: &Request<'_>,
    ) -> Result<Result<Bytes, u32>, Broken> {
        self.ask(request).await?;
        self.answer().await
    }

    /// Asks the helper; the answer is taken later.
    pub(super) async fn ask(&mut self, request: &Request<'_>) -> Result<(), Broken> {
        Ok(self.asking.ask(request).await?)
    }

    /// The answer to the oldest request without one.
    pub(super) async fn answer(&mut self) -> Result<Result<Bytes, u32>, Broken> {
        let answer = self.answers.next().await?;
        while let Some(line) = self.answers.take_notice() {
            let notice = ChannelEvent::Notice(line);
            self.client.sender().send(notice).await.map_err(|_| ClientGone)?;
        }
        Ok(answer)
    }

    /// Finds out where relative paths begin.
    pub(super) async fn find_home(&mut self) -> Result<(), Broken> {
        let home = match self.call(&Request::Realpath(b".")).await? {
            Ok(payload) => bytes_of(&payload)?,
            Err(_) => Bytes::new(),
        };
        let rooted = home.starts_with(b"/");
        self.home = if rooted { home.to_vec() } else { b"/".to_vec() };
        Ok(())
    }

    pub(super) fn home(&self) -> &[u8] {
        &self.home
    }

    /// A file is opened that is to go this way.
    pub(super) fn begin(&self, direction: Direction, path: &[u8]) -> Transfer<G> {
        if path.starts_with(b"/") {
            return self.ledger.begin(direction, path);
        }
        let path = path.strip_prefix(b"./").unwrap_or(path);
        self.ledger.begin(direction, &join(&self.home, path))
    }

    /// It was closed, and is on record. An error number when it is not.
    pub(super) async fn close(&mut self, transfer: Transfer<G>) -> Result<(), u32> {
        self.ledger.close(transfer).await
    }

    /// What a path leads to.
    pub(super) async fn stat(&mut self, path: &[u8]) -> Result<Result<Attributes, u32>, Broken> {
        match self.call(&Request::Stat(path)).await? {
            Ok(payload) => Ok(Ok(Fields(&payload).attributes().map_err(HelperError::from)?)),
            Err(errno) => Ok(Err(errno)),
        }
    }

    /// Opens something; gives the helper's number of it.
    pub(super) async fn open(&mut self, request: &Request<'_>) -> Result<Result<u32, u32>, Broken> {
        match self.call(request).await? {
            Ok(payload) => Ok(Ok(Fields(&payload).u32().map_err(HelperError::from)?)),
            Err(errno) => Ok(Err(errno)),
        }
    }

    /// The next names in a directory, without those of itself and its parent; none at its end.
    pub(super) async fn names(
        &mut self,
        directory: u32,
    ) -> Result<Result<Vec<Vec<u8>>, u32>, Broken> {
        loop {
            let payload = match self.call(&Request::Readdir(directory)).await? {
                Ok(payload) => payload,
                Err(errno) => return Ok(Err(errno)),
            };
            if payload.is_empty() {
                return Ok(Ok(Vec::new()));
            }
            let mut fields = Fields(&payload);
            let mut names = Vec::new();
            while !fields.0.is_empty() {
                let name = fields.string().map_err(HelperError::from)?;
                fields.attributes().map_err(HelperError::from)?;
                let is_name = !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/');
                names.extend(is_name.then(|| name.to_vec()));
            }
            if !names.is_empty() {
                return Ok(Ok(names));
            }
        }
    }

    /// Some bytes from the client, `most` of them at the most.
    pub(super) async fn receive(&mut self, most: usize) -> Result<Bytes, Broken> {
        let mut bytes = self.client.receive().await.ok_or(Broken::Short)?;
        if bytes.len() > most {
            let rest = bytes.split_off(most);
            self.client.put_back(rest);
        }
        Ok(bytes)
    }

    /// A line from the client, without its end; none, when it sends no more.
    pub(super) async fn line(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let mut line = Vec::new();
        loop {
            let Some(mut bytes) = self.client.receive().await else {
                return if line.is_empty() { Ok(None) } else { Err(Broken::Short) };
            };
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let rest = end.map(|end| bytes.split_off(end + 1));
            line.extend_from_slice(&bytes);
            if line.len() > LONGEST_LINE {
                self.fatal("protocol error: a line is too long").await?;
            }
            if let Some(rest) = rest {
                self.client.put_back(rest);
                line.pop();
                return Ok(Some(line));
            }
        }
    }

    /// What the client says to what was sent.
    pub(super) async fn response(&mut self) -> Result<Response, Broken> {
        let first = self.receive(1).await?;
        match first.first() {
            Some(0) => Ok(Response::Yes),
            Some(1) => {
                self.line().await?;
                self.erred = true;
                Ok(Response::No)
            }
            // Whatever else it is, it is a reason to stop.
            _ => Err(Broken::Fatal),
        }
    }

    pub(super) async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), Broken> {
        Ok(self.client.send(bytes).await?)
    }

    pub(super) async fn yes(&mut self) -> Result<(), Broken> {
        self.send(&b"\0"[..]).await
    }

    /// Tells that something did not work; the rest goes on.
    pub(super) async fn error(&mut self, what: &[u8], why: &str) -> Result<(), Broken> {
        self.erred = true;
        let what = shown(what, LONGEST_SHOWN);
        let line = if what.is_empty() {
            format!("\x01scp: {why}\n")
        } else {
            format!("\x01scp: {what}: {why}\n")
        };
        self.send(line).await
    }

    pub(super) async fn failed(&mut self, what: &[u8], errno: u32) -> Result<(), Broken> {
        self.error(what, &error_text(errno)).await
    }

    /// Tells that nothing works any more.
    pub(super) async fn fatal(&mut self, why: &str) -> Result<(), Broken> {
        self.send(format!("\x02scp: {why}\n")).await?;
        Err(Broken::Fatal)
    }

    /// Notes that the client has told of an error of its own.
    pub(super) fn has_told(&mut self) {
        self.erred = true;
    }
}

/// A name in a directory.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        _ if directory.ends_with(b"/") => [directory, name].concat(),
        _ => [directory, b"/", name].concat(),
    }
}

pub(super) fn is_directory(about: &Attributes) -> bool {
    about.mode & 0o170_000 == 0o040_000
}
