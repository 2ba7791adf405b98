//! A channel whose program is the file helper, and whose client speaks SFTP or SCP with us: what is
//! between the two runs here, in a task of its own, behind the ends that any program has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sojourn_core::end::Exit;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::channel::InputClosed;
use sojourn_engine::door::ChannelEvent;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::Answers;
use super::Asking;
use super::Ledger;
use crate::connection::Connection;
use crate::gate::Gate;
use crate::gate::GateInput;
use crate::gate::GateOutput;
use crate::gate::GateSession;
use crate::scp;
use crate::sftp;

/// How many parts wait on their way to or from the server; a part is 64 KiB at the most, but for one
/// long packet.
const QUEUE: usize = 4;

/// How long the helper may take to end when it has nothing left to do.
const ENDING: Duration = Duration::from_secs(1);

/// How long the server may take for what was asked of it before its client left.
const FINISHING: Duration = Duration::from_secs(1);

/// What is served over the file helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The subsystem of this name.
    Sftp,
    /// The far side of a command `scp`.
    Scp(scp::Command),
}

/// The client, as the server sees it.
pub(crate) struct Client {
    from: mpsc::Receiver<FromClient>,
    to: mpsc::Sender<ChannelEvent>,
    /// What was received and not taken yet.
    rest: Bytes,
    eof: bool,
}

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub(crate) struct ClientGone;

enum FromClient {
    Bytes(Bytes),
    Eof,
}

impl Client {
    /// Some bytes; none at the end of what the client sends. May be given up and called again.
    pub(crate) async fn receive(&mut self) -> Option<Bytes> {
        if !self.rest.is_empty() {
            return Some(std::mem::take(&mut self.rest));
        }
        if self.eof {
            return None;
        }
        match self.from.recv().await {
            Some(FromClient::Bytes(bytes)) => Some(bytes),
            Some(FromClient::Eof) | None => {
                self.eof = true;
                None
            }
        }
    }

    /// Puts back what was received and is to be received again.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.rest = bytes;
    }

    /// A way to the client alone.
    pub(crate) fn sender(&self) -> mpsc::Sender<ChannelEvent> {
        self.to.clone()
    }

    pub(crate) async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), ClientGone> {
        let event = ChannelEvent::Output(Stream::Out, bytes.into());
        self.to.send(event).await.map_err(|_| ClientGone)
    }
}

impl Service {
    /// Puts the server between a file helper and whoever gets the ends returned.
    pub(crate) fn serve<G: Gate>(
        self,
        connection: Arc<Connection<G>>,
        session: &G::Session,
        input: <G::Session as GateSession>::Input,
        output: <G::Session as GateSession>::Output,
    ) -> (ServedInput<<G::Session as GateSession>::Input>, ServedOutput) {
        let (give, from) = mpsc::channel(QUEUE);
        let (to, take) = mpsc::channel(QUEUE);
        let (leave, left) = oneshot::channel();
        let client = Client { from, to: to.clone(), rest: Bytes::new(), eof: false };
        let ledger = Ledger::new(connection.clone(), session.clone());
        let helper = input.clone();
        connection.tasks.clone().spawn(async move {
            let mut answers = Answers::new(output);
            let asking = Asking::new(input.clone());
            let code = {
                // It goes with this block: a door that leaves later closes its queue.
                let mut left = left;
                let served = self.run(client, asking, &mut answers, &ledger);
                tokio::pin!(served);
                tokio::select! {
                    code = &mut served => Some(code),
                    unheard = &mut left => finish(served, unheard.ok()).await,
                }
            };
            input.eof().await;
            let ended = tokio::time::timeout(ENDING, answers.ended()).await;
            if ended.is_err() || code.is_none() {
                input.close().await;
            }
            if let Some(code) = code {
                let _gone = to.send(ChannelEvent::Exit(Exit::Code(code))).await;
            }
        });
        (ServedInput { server: give, helper }, ServedOutput { from: take, leave: Some(leave) })
    }

    async fn run<G: Gate>(
        self,
        client: Client,
        asking: Asking<<G::Session as GateSession>::Input>,
        answers: &mut Answers<<G::Session as GateSession>::Output>,
        ledger: &Ledger<G>,
    ) -> u32 {
        match self {
            Self::Sftp => sftp::serve(client, asking, answers, ledger).await,
            Self::Scp(command) => scp::serve(&command, client, asking, answers, ledger).await,
        }
    }
}

/// Lets a server finish whose client is gone: what that one asked for before it closed the channel is
/// done (RFC 4254, 5.3), and nobody hears of it.
async fn finish(
    served: impl Future<Output = u32>,
    unheard: Option<mpsc::Receiver<ChannelEvent>>,
) -> Option<u32> {
    let mut unheard = unheard?;
    let passed_over = async {
        while unheard.recv().await.is_some() {}
        std::future::pending().await
    };
    let served = async {
        tokio::select! {
            code = served => code,
            code = passed_over => code,
        }
    };
    tokio::time::timeout(FINISHING, served).await.ok()
}

/// Into a served channel.
#[derive(Clone)]
pub(crate) struct ServedInput<I> {
    server: mpsc::Sender<FromClient>,
    helper: I,
}

impl<I: GateInput> ServedInput<I> {
    async fn send(&self, bytes: &[u8]) -> Result<(), InputClosed> {
        let bytes = FromClient::Bytes(Bytes::copy_from_slice(bytes));
        self.server.send(bytes).await.map_err(|_| InputClosed)
    }

    async fn eof(&self) {
        // A server that is gone has no use for it.
        let _gone = self.server.send(FromClient::Eof).await;
    }
}

/// Out of a served channel.
pub(crate) struct ServedOutput {
    from: mpsc::Receiver<ChannelEvent>,
    /// Tells the server that nobody hears it any more.
    leave: Option<oneshot::Sender<mpsc::Receiver<ChannelEvent>>>,
}

impl Drop for ServedOutput {
    fn drop(&mut self) {
        let (_to, nothing) = mpsc::channel(1);
        let from = std::mem::replace(&mut self.from, nothing);
        // A server that is done has no use for it.
        let _done = self.leave.take().map(|leave| leave.send(from));
    }
}

/// Into a program, or into what is served in place of one.
#[derive(Clone)]
pub(crate) enum EitherInput<I> {
    Program(I),
    Served(ServedInput<I>),
}

/// Out of it.
pub(crate) enum EitherOutput<O> {
    Program(O),
    Served(ServedOutput),
}

impl<I: GateInput> GateInput for EitherInput<I> {
    async fn send(&self, bytes: &[u8]) -> Result<(), InputClosed> {
        match self {
            Self::Program(input) => input.send(bytes).await,
            Self::Served(input) => input.send(bytes).await,
        }
    }

    async fn eof(&self) {
        match self {
            Self::Program(input) => input.eof().await,
            Self::Served(input) => input.eof().await,
        }
    }

    async fn resize(&self, size: WindowSize) {
        if let Self::Program(input) = self {
            input.resize(size).await;
        }
    }

    async fn signal(&self, name: String) {
        match self {
            Self::Program(input) => input.signal(name).await,
            Self::Served(input) => input.helper.signal(name).await,
        }
    }

    async fn close(&self) {
        match self {
            Self::Program(input) => input.close().await,
            // Its server hears of the end once nobody holds this, and ends the helper.
            Self::Served(_) => {}
        }
    }
}

impl<O: GateOutput> GateOutput for EitherOutput<O> {
    async fn next(&mut self) -> Option<ChannelEvent> {
        match self {
            Self::Program(output) => output.next().await,
            Self::Served(output) => output.from.recv().await,
        }
    }
}
