//! A WebSocket to the gateway: what an attached terminal says and hears.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Target;
use super::target::Connection;
use crate::failure::Failure;

/// The longest frame that is taken: a screen, or what is behind of it.
const LONGEST: usize = 16 << 20;

/// How long a greeting, or sending what was typed, may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is heard.
pub(crate) enum Frame {
    /// Output after so many bytes.
    Output(u64, Bytes),
    /// A message.
    Text(serde_json::Value),
    /// The end, with its code; none when the connection broke.
    Closed(Option<u16>),
    /// That somebody is there.
    Alive,
}

/// One connection.
pub(crate) struct Socket(WebSocketStream<Box<dyn Connection>>);

impl Socket {
    /// Opens one.
    pub(crate) async fn open(target: &Target, path: &str) -> Result<Self, Failure> {
        let stream = target.connect().await?;
        let request = target
            .request(&format!("ws://{}{path}", target.host()))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .body(())
            .map_err(Failure::refused)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(LONGEST))
            .max_frame_size(Some(LONGEST))
            .read_buffer_size(64 << 10);
        let broken = |what: String| Failure::Unreachable(target.line(&what));
        let opened = timeout(PATIENCE, client_async_with_config(request, stream, Some(config)));
        match opened.await {
            Ok(Ok((socket, _))) => Ok(Self(socket)),
            Ok(Err(Error::Http(response))) => {
                let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or_default();
                let body = response.into_body().unwrap_or_default();
                // It will be there again.
                if status.is_server_error() {
                    return Err(broken(format!("the answer is {status}")));
                }
                Err(target.refusal(path, status, &body))
            }
            Ok(Err(error)) => Err(broken(format!("the gateway hung up: {error}"))),
            Err(_late) => Err(broken("does not answer".to_owned())),
        }
    }

    /// The next thing that is heard.
    pub(crate) async fn next(&mut self) -> Frame {
        match self.0.next().await {
            Some(Ok(Message::Binary(bytes))) => match bytes.split_first_chunk() {
                Some((seq, _)) => Frame::Output(u64::from_be_bytes(*seq), bytes.slice(8..)),
                None => Frame::Alive,
            },
            Some(Ok(Message::Text(text))) => {
                serde_json::from_str(&text).map_or(Frame::Alive, Frame::Text)
            }
            Some(Ok(Message::Close(close))) => Frame::Closed(close.map(|close| close.code.into())),
            Some(Ok(_)) => Frame::Alive,
            Some(Err(_)) | None => Frame::Closed(None),
        }
    }

    /// Says something; false when the connection is broken.
    pub(crate) async fn say(&mut self, message: &serde_json::Value) -> bool {
        self.send(Message::Text(message.to_string().into())).await
    }

    /// Types something; false when the connection is broken.
    pub(crate) async fn input(&mut self, bytes: Vec<u8>) -> bool {
        self.send(Message::Binary(bytes.into())).await
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        let _gone = timeout(Duration::from_secs(1), self.0.close(None)).await;
    }

    async fn send(&mut self, message: Message) -> bool {
        matches!(timeout(PATIENCE, self.0.send(message)).await, Ok(Ok(())))
    }
}
