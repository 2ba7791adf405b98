//! A WebSocket from a browser's side.

use std::io;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::WebSocket;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::wire::Answer;
use super::wire::Connection;
use crate::PATIENCE;

/// What arrives.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// JSON.
    Text(Value),
    /// Terminal output: its sequence number and the bytes.
    Output(u64, Vec<u8>),
    /// The end: the code, and what was said.
    Closed(u16, String),
}

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    inner: WebSocket<TcpStream>,
}

impl Socket {
    pub(super) fn open(door: SocketAddr, request: &[u8]) -> Result<Self, Answer> {
        Self::try_open(door, request).expect("an answer")
    }

    /// The same where there may be no gateway at all.
    pub(super) fn try_open(door: SocketAddr, request: &[u8]) -> io::Result<Result<Self, Answer>> {
        let mut connection = Connection::open(door)?;
        connection.send(request)?;
        let (answer, _) = connection.answer(false)?;
        if answer.status != 101 {
            return Ok(Err(answer));
        }
        let (stream, read) = connection.into_parts();
        let inner = WebSocket::from_partially_read(stream, read, Role::Client, None);
        Ok(Ok(Self { inner }))
    }

    /// The next frame, or none when there is none for so long. Pings are answered on the way.
    ///
    /// # Panics
    /// When the connection breaks without a word.
    #[track_caller]
    pub fn next_within(&mut self, patience: Duration) -> Option<Frame> {
        match self.try_next_within(patience) {
            Ok(frame) => frame,
            Err(error) => panic!("the WebSocket broke: {error}"),
        }
    }

    /// The same where the gateway may go at any time.
    ///
    /// # Errors
    /// When the connection breaks without a word.
    ///
    /// # Panics
    /// When a frame is not as frames are.
    pub fn try_next_within(&mut self, patience: Duration) -> io::Result<Option<Frame>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.inner.get_ref().set_read_timeout(Some(left))?;
            match self.inner.read() {
                Ok(Message::Text(text)) => {
                    let value = serde_json::from_str(&text).expect("JSON");
                    return Ok(Some(Frame::Text(value)));
                }
                Ok(Message::Binary(bytes)) => {
                    let (number, output) = bytes.split_first_chunk::<8>().expect("a number");
                    let number = u64::from_be_bytes(*number);
                    return Ok(Some(Frame::Output(number, output.to_vec())));
                }
                Ok(Message::Close(frame)) => {
                    let (code, why) = frame.map_or((1005, String::new()), |frame| {
                        (frame.code.into(), frame.reason.to_string())
                    });
                    return Ok(Some(Frame::Closed(code, why)));
                }
                Ok(_) => {}
                Err(Error::Io(error)) if is_late(&error) => return Ok(None),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// The next frame.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    #[expect(clippy::should_implement_trait, reason = "it waits, and says so when nothing comes")]
    pub fn next(&mut self) -> Frame {
        self.next_within(PATIENCE).expect("a frame in time")
    }

    /// Reads on to the JSON frame of this type.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            match self.next() {
                Frame::Text(value) if value["type"] == kind => return value,
                Frame::Closed(code, why) => panic!("closed before {kind}: {code} {why}"),
                _ => {}
            }
        }
    }

    /// Reads on until the terminal has printed this.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_for_output(&mut self, text: &str) -> String {
        let mut printed = Vec::new();
        loop {
            match self.next() {
                Frame::Output(_, bytes) => printed.extend(bytes),
                Frame::Text(value) if value["type"] == "snapshot" => {
                    printed.extend(value["data"].as_str().unwrap_or_default().bytes());
                }
                Frame::Closed(code, why) => panic!("closed before {text:?}: {code} {why}"),
                Frame::Text(_) => {}
            }
            let so_far = String::from_utf8_lossy(&printed);
            if so_far.contains(text) {
                return so_far.into_owned();
            }
        }
    }

    /// Reads on to the close, and gives its code and the JSON frames on the way.
    ///
    /// # Panics
    /// When it is not closed.
    #[track_caller]
    pub fn wait_for_close(&mut self) -> (u16, Vec<Value>) {
        let mut told = Vec::new();
        loop {
            match self.next() {
                Frame::Closed(code, _) => return (code, told),
                Frame::Text(value) => told.push(value),
                Frame::Output(..) => {}
            }
        }
    }

    /// Types.
    ///
    /// # Errors
    /// When it is closed.
    pub fn input(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tell(Message::Binary(bytes.to_vec().into()))
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// When it is closed.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        self.tell(Message::Text(value.to_string().into()))
    }

    fn tell(&mut self, message: Message) -> io::Result<()> {
        self.inner.send(message).map_err(io::Error::other)
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
