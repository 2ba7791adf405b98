//! The connection to a gateway: one at a time, each message a numbered request.
//!
//! ```text
//!   (connected) ── Hello, same build ──▶ Greeted ── any request ──▶ Greeted
//!        │
//!        └── anything else: the connection is closed
//! ```

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sojourn_core::wire::MAX_MESSAGE;
use sojourn_core::wire::runner::Event;
use sojourn_core::wire::runner::FromRunner;
use sojourn_core::wire::runner::Numbered;
use sojourn_core::wire::runner::Reply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::runner::Stage;
use sojourn_core::wire::runner::VERSION;
use sojourn_core::wire::runner::decode;
use sojourn_core::wire::runner::encode;
use sojourn_sandbox::packets::Packets;
use sojourn_shim::seqpacket;
use tokio::sync::Semaphore;
use tokio::sync::broadcast;

use crate::requests::Requests;

/// The most requests that are answered at the same time.
const PARALLEL: usize = 256;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// The gateway went.
    Gone,
    /// It is of another build: this runner is to make room.
    OtherBuild,
    /// It told the runner to leave; with `true`, sessions stay under their shims.
    Shutdown(bool),
}

/// Serves one gateway until it goes.
pub(crate) async fn serve(
    socket: OwnedFd,
    requests: &Arc<Requests>,
    mut events: broadcast::Receiver<Event>,
) -> Parting {
    let Ok(packets) = Packets::new(socket).map(Arc::new) else { return Parting::Gone };
    let permits = Arc::new(Semaphore::new(PARALLEL));
    let mut greeted = false;
    loop {
        let request = tokio::select! {
            request = receive(&packets) => request,
            event = events.recv(), if greeted => {
                match event {
                    Ok(event) => send(&packets, &FromRunner::Event { event }, None).await,
                    // What was missed is in the next list of sessions.
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "the gateway does not take events");
                    }
                    Err(broadcast::error::RecvError::Closed) => return Parting::Gone,
                }
                continue;
            }
        };
        let Some(Numbered { id, body }) = request else { return Parting::Gone };
        let reply = move |body| FromRunner::Reply(Numbered { id, body });
        match body {
            Request::Hello { version, build } => {
                let ours = requests.build();
                let body = Reply::Hello {
                    version: VERSION,
                    build: ours.to_owned(),
                    epoch: requests.epoch(),
                    pid: std::process::id(),
                };
                send(&packets, &reply(body), None).await;
                if version != VERSION || build != ours {
                    tracing::warn!(theirs = build, ours, "a gateway of another build: leaving");
                    return Parting::OtherBuild;
                }
                greeted = true;
            }
            _ if !greeted => {
                tracing::error!("a gateway that does not say hello first");
                return Parting::Gone;
            }
            Request::Shutdown { leave } => {
                send(&packets, &reply(Reply::Done), None).await;
                return Parting::Shutdown(leave);
            }
            body => {
                let (packets, requests) = (packets.clone(), requests.clone());
                // Closed is not a state this semaphore has.
                let Ok(permit) = permits.clone().acquire_owned().await else {
                    return Parting::Gone;
                };
                // Finished even when the gateway goes meanwhile: it may hold a sandbox.
                tokio::spawn(async move {
                    let (body, fd) = requests.answer(body).await;
                    send(&packets, &reply(body), fd).await;
                    drop(permit);
                });
            }
        }
    }
}

/// The next request; none when the gateway is gone, or is none of ours.
async fn receive(packets: &Packets) -> Option<Numbered<Request>> {
    let got = packets
        .read(|socket| {
            let mut buffer = vec![0; MAX_MESSAGE];
            let got = seqpacket::recv(socket, &mut buffer)?;
            buffer.truncate(got.len);
            Ok(buffer)
        })
        .await;
    let bytes = got.ok().filter(|bytes| !bytes.is_empty())?;
    match decode(&bytes) {
        Ok(request) => Some(request),
        Err(error) => {
            tracing::error!(%error, "a gateway sent what is no request");
            None
        }
    }
}

/// Sends a message. A gateway that is gone is noticed where requests are received.
async fn send(packets: &Packets, message: &FromRunner, fd: Option<OwnedFd>) {
    let bytes = match (encode(message), message) {
        (Ok(bytes), _) => bytes,
        (Err(error), FromRunner::Reply(Numbered { id, .. })) => {
            let body = Reply::Failed { stage: Stage::Runner, message: error.to_string() };
            let Ok(bytes) = encode(&FromRunner::Reply(Numbered { id: *id, body })) else { return };
            bytes
        }
        (Err(error), FromRunner::Event { .. }) => {
            tracing::error!(%error, "an event does not fit");
            return;
        }
    };
    let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
    let _gone = packets.write(|socket| seqpacket::send(socket, &bytes, &fds)).await;
}
