//! The gateway's API: over the network, or over the socket in its data directory.

mod socket;
mod target;

use std::io;
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Method;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::output;

pub(crate) use socket::Frame;
pub(crate) use socket::Socket;
pub(crate) use target::Target;
pub(crate) use target::is_remote;

/// The longest answer that is held in memory.
const LONGEST_ANSWER: usize = 64 << 20;
/// How long the gateway may take to begin an answer, and the answer to a start: longer than the gateway
/// gives itself, so that it can say why.
const PATIENCE: Duration = Duration::from_secs(30);
const START_PATIENCE: Duration = Duration::from_secs(200);
/// Pieces of a recording that are read ahead.
const AHEAD: usize = 16;

/// What there may be none of, and the command that lists them.
const LISTED: [(&str, &str); 3] = [
    ("there is no such session", "session ls"),
    ("there is no such token", "token ls"),
    ("there is no such runner", "runners ls"),
];

/// A way to the gateway.
pub(crate) struct Client {
    runtime: Runtime,
    target: Target,
}

/// An error as the API words it.
#[derive(Debug, Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    code: String,
}

impl Client {
    /// The gateway at `SOJOURN_URL`, else that of a data directory. Nothing is sent yet.
    pub(crate) fn new(
        data_dir: impl FnOnce() -> Result<PathBuf, Failure>,
    ) -> Result<Self, Failure> {
        let target = Target::new(data_dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::refused)?;
        Ok(Self { runtime, target })
    }

    /// Asks for something.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, None)
    }

    /// Asks for something to be done.
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, Failure> {
        self.runtime.block_on(self.target.call(method, path, body, None))
    }

    /// Asks for something to be made, once: sent again with the same key it is not made again.
    pub(crate) fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, Failure> {
        let key = sojourn_core::ids::EventId::new().to_string();
        let create = || self.target.call(Method::POST, path, Some(body), Some(&key));
        match self.runtime.block_on(create()) {
            // It may have been made, and the answer lost.
            Err(Failure::Unreachable(_)) => self.runtime.block_on(create()),
            answer => answer,
        }
    }

    /// Asks for something long, which is read while it comes.
    pub(crate) fn stream(self, path: &str) -> Result<impl Read + Send + use<>, Failure> {
        let response = self.runtime.block_on(self.target.send(Method::GET, path, None, None))?;
        let (pieces, reader) = sync_channel(AHEAD);
        // Ends when the reader is dropped, at the latest with the process.
        std::thread::spawn(move || self.runtime.block_on(pump(response, &pieces)));
        Ok(Pieces { reader, rest: Bytes::new() })
    }

    /// Copies something long to a writer. None: there is no such thing.
    pub(crate) fn copy(&self, path: &str, out: &mut impl io::Write) -> Result<bool, Failure> {
        self.runtime.block_on(async {
            let response = match self.target.answer(Method::GET, path, None, None).await? {
                response if response.status() == StatusCode::NOT_FOUND => return Ok(false),
                response => self.target.good(path, response).await?,
            };
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.target.broken(&error))?;
                if let Ok(data) = frame.into_data() {
                    out.write_all(&data)?;
                }
            }
            Ok(true)
        })
    }

    /// Runs something that speaks to the gateway for longer.
    pub(crate) fn run<T>(self, work: impl AsyncFnOnce(&Target) -> T) -> T {
        let result = self.runtime.block_on(work(&self.target));
        // A thread that waits for a key must not keep the command from its end.
        self.runtime.shutdown_background();
        result
    }
}

impl Target {
    /// Asks for something, and reads the answer.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        key: Option<&str>,
    ) -> Result<T, Failure> {
        let response = self.send(method, path, body, key).await?;
        let bytes = collect(response).await?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::refused(format!("the gateway's answer: {error}")))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        key: Option<&str>,
    ) -> Result<Response<Incoming>, Failure> {
        let response = self.answer(method, path, body, key).await?;
        self.good(path, response).await
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        key: Option<&str>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // It ends with the sender and the answer's body.
        tokio::spawn(async move { connection.await.ok() });
        let is_start = method == Method::POST && path == "/api/sessions";
        let patience = if is_start { START_PATIENCE } else { PATIENCE };
        let mut request = self.request(path).method(method);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let bytes = body.map(serde_json::Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(bytes))).map_err(Failure::refused)?;
        let answer = tokio::time::timeout(patience, sender.send_request(request)).await;
        answer
            .map_err(|_| Failure::Unreachable(self.line("does not answer")))?
            .map_err(|error| self.broken(&error))
    }

    async fn good(
        &self,
        path: &str,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, Failure> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = collect(response).await?;
        Err(self.refusal(path, status, &bytes))
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        Failure::Unreachable(self.line(&format!("the gateway hung up: {error}")))
    }

    /// What a refusal says, and what to do about it.
    pub(crate) fn refusal(&self, path: &str, status: StatusCode, body: &[u8]) -> Failure {
        let Ok(Refused { error, code }) = serde_json::from_slice(body) else {
            let what = format!("the answer is {status}; is a gateway there?");
            return Failure::refused(self.line(&what));
        };
        let error = output::foreign(&error);
        Failure::refused(match code.as_str() {
            "LOGIN_REQUIRED" if !self.has_token() => {
                format!("{error}: set SOJOURN_TOKEN to a token of yours")
            }
            "INVALID_CREDENTIALS" if self.has_token() => {
                format!("{error}; SOJOURN_TOKEN was revoked, has expired or is another gateway's")
            }
            "MISDIRECTED" => format!("{error}; SOJOURN_URL has to be the gateway's public_url"),
            "NOT_FOUND" => match LISTED.iter().find(|(said, _)| *said == error) {
                Some((_, command)) => {
                    let named = named(path).map(|name| format!(": \"{name}\"")).unwrap_or_default();
                    format!("{error}{named}; \"sojourn {command}\" lists them")
                }
                None => with_list(error),
            },
            "INVALID" => with_list(error),
            _ => error,
        })
    }
}

/// A line with the command that lists what there is none of, where that is a user.
fn with_list(error: String) -> String {
    let is_about_users = ["there is no user ", "there is no such user"];
    match is_about_users.iter().any(|said| error.contains(said)) {
        true => format!("{error}; \"sojourn user ls\" lists them"),
        false => error,
    }
}

/// What a path of the API names: `x` in `/api/sessions/x/extend`.
fn named(path: &str) -> Option<String> {
    let name = path.split(['/', '?']).nth(3)?;
    Some(output::foreign(name)).filter(|name| !name.is_empty())
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = http_body_util::Limited::new(response.into_body(), LONGEST_ANSWER);
    let whole = body.collect().await;
    whole
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| Failure::refused(format!("the gateway's answer: {error}")))
}

/// Passes a body on, a piece at a time, until it ends or nobody wants more.
async fn pump(response: Response<Incoming>, pieces: &SyncSender<io::Result<Bytes>>) {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(_trailers)) => continue,
            Err(error) => Err(io::Error::other(error)),
        };
        if pieces.send(piece).is_err() {
            return;
        }
    }
}

/// A body read as a file.
struct Pieces {
    reader: Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.reader.recv() {
                Ok(piece) => self.rest = piece?,
                Err(_end) => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}
