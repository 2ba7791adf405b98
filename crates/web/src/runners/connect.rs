//! `GET /api/runners/connect`: the WebSocket that a runner dials. Frames are passed on as they are; what
//! they mean is the engine's.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use futures_util::SinkExt;
use futures_util::StreamExt;
use futures_util::stream::SplitSink;
use futures_util::stream::SplitStream;
use sojourn_core::ids::RunnerId;
use sojourn_core::wire::relay::MAX_FRAME;
use sojourn_engine::remote::Closing;
use sojourn_engine::remote::Coming;
use sojourn_engine::remote::FRAMES;
use sojourn_engine::remote::Frame;
use sojourn_engine::remote::Wire;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::Who;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// Frames that wait to be sent.
const OUTGOING: usize = 8;

/// How long a frame may take to be sent, and the last ones.
const SEND: Duration = Duration::from_secs(15);
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Close codes.
const OVER: u16 = 1000;
const GOING_DOWN: u16 = 1001;
const AGAIN_LATER: u16 = 1013;
const REVOKED: u16 = 4401;
const NOT_ALLOWED: u16 = 4403;
const TOO_SLOW: u16 = 4429;

pub(super) fn route() -> Route {
    Route::get(
        "/api/runners/connect",
        Access::Runner,
        Activity::Passive,
        connect,
        Doc::of("connectRunner", "A runner's own WebSocket, by its token.")
            .gives_nothing(101, "The connection is a WebSocket from now on."),
    )
}

async fn connect(
    State(gate): State<Gate>,
    caller: Caller,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    let Who::Token(token) = caller.who() else { return Err(Refused::Bug) };
    let upgrade = upgrade
        .map_err(|_| Refused::Malformed("this is a WebSocket: ask for an upgrade".to_owned()))?;
    let coming = Coming {
        runner: RunnerId::from(token.id),
        address: caller.client().address(),
        program: caller.client().user_agent().to_owned(),
    };
    let upgrade = upgrade
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .max_message_size(MAX_FRAME);
    Ok(upgrade.on_upgrade(|socket| carry(gate, coming, socket)))
}

/// Carries frames between the socket and the engine until one of them has enough.
async fn carry(gate: Gate, coming: Coming, socket: WebSocket) {
    let _counted = gate.engine().metrics().web_socket();
    let (mut sink, stream) = socket.split();
    let (heard, incoming) = mpsc::channel(FRAMES);
    let (outgoing, told) = mpsc::channel(OUTGOING);
    let done = CancellationToken::new();
    let served = async {
        let closing = gate.engine().remote().serve(coming, Wire { incoming, outgoing }).await;
        done.cancel();
        closing
    };
    let read = async {
        tokio::select! {
            () = done.cancelled() => {}
            () = read(stream, heard) => {}
        }
    };
    let (closing, (), is_open) = tokio::join!(served, read, write(&mut sink, told));
    if is_open {
        let close = Message::Close(Some(CloseFrame { code: code(closing), reason: "".into() }));
        let words = async {
            sink.send(close).await?;
            sink.close().await
        };
        let _late = timeout(LAST_WORDS, words).await;
    }
}

async fn read(mut stream: SplitStream<WebSocket>, heard: mpsc::Sender<Frame>) {
    while let Some(Ok(message)) = stream.next().await {
        let frame = match message {
            Message::Text(text) => Frame::Text(text.as_str().to_owned()),
            Message::Binary(bytes) => Frame::Binary(bytes),
            Message::Ping(_) | Message::Pong(_) => Frame::Sign,
            Message::Close(_) => return,
        };
        if heard.send(frame).await.is_err() {
            return;
        }
    }
}

/// Whether more can be sent.
async fn write(sink: &mut SplitSink<WebSocket, Message>, mut told: mpsc::Receiver<Frame>) -> bool {
    while let Some(frame) = told.recv().await {
        let message = match frame {
            Frame::Text(text) => Message::Text(text.into()),
            Frame::Binary(bytes) => Message::Binary(bytes),
            Frame::Sign => Message::Ping(axum::body::Bytes::new()),
        };
        if !matches!(timeout(SEND, sink.send(message)).await, Ok(Ok(()))) {
            return false;
        }
    }
    true
}

fn code(closing: Closing) -> u16 {
    match closing {
        Closing::Broken | Closing::Silent | Closing::Replaced => OVER,
        Closing::Slow => TOO_SLOW,
        Closing::Revoked => REVOKED,
        Closing::Version | Closing::Malformed => NOT_ALLOWED,
        Closing::Store | Closing::Behind => AGAIN_LATER,
        Closing::Shutdown => GOING_DOWN,
    }
}
