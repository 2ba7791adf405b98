//! The gateway's API, over the socket in its data directory.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::output;

/// The longest answer that is held in memory.
const LONGEST_ANSWER: usize = 64 << 20;
/// How long the gateway may take to begin an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pieces of a recording that are read ahead.
const AHEAD: usize = 16;

/// A way to the gateway.
pub(crate) struct Client {
    runtime: Runtime,
    socket: std::path::PathBuf,
}

/// An error as the API words it.
#[derive(Debug, Deserialize)]
struct Refused {
    error: String,
}

impl Client {
    /// The gateway of this data directory. Nothing is sent yet.
    pub(crate) fn new(data_dir: &Path) -> Result<Self, Failure> {
        if std::env::var_os("SOJOURN_URL").is_some_and(|url| !url.is_empty()) {
            return Err(Failure::refused(
                "a gateway on another machine is not in this version; unset SOJOURN_URL",
            ));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::refused)?;
        Ok(Self { runtime, socket: data_dir.join("gateway.sock") })
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
        self.runtime.block_on(async {
            let response = self.send(method, path, body).await?;
            let bytes = collect(response).await?;
            serde_json::from_slice(&bytes)
                .map_err(|error| Failure::refused(format!("the gateway's answer: {error}")))
        })
    }

    /// Asks for something long, which is read while it comes.
    pub(crate) fn stream(self, path: &str) -> Result<impl Read + Send + use<>, Failure> {
        let response = self.runtime.block_on(self.send(Method::GET, path, None))?;
        let (pieces, reader) = sync_channel(AHEAD);
        // Ends when the reader is dropped, at the latest with the process.
        std::thread::spawn(move || self.runtime.block_on(pump(response, &pieces)));
        Ok(Pieces { reader, rest: Bytes::new() })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // It ends with the sender and the answer's body.
        tokio::spawn(async move { connection.await.ok() });
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let bytes = body.map(serde_json::Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(bytes))).map_err(Failure::refused)?;
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let response = answer
            .map_err(|_| Failure::Unreachable(self.line("does not answer")))?
            .map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = collect(response).await?;
        Err(refusal(status, &bytes))
    }

    async fn connect(&self) -> Result<UnixStream, Failure> {
        // A socket's address holds 108 bytes, and a data directory's path may be longer.
        let directory = self.socket.parent().unwrap_or(Path::new("/"));
        let directory = File::open(directory).map_err(|error| self.unreachable(&error))?;
        let short = format!("/proc/self/fd/{}/gateway.sock", directory.as_raw_fd());
        UnixStream::connect(short).await.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Failure::refused(self.line(
                "only root and the gateway's user may ask the gateway here; try it with sudo",
            )),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Failure::Unreachable(self.line(
                    "no gateway runs here; start it with \"sojourn serve\", or name its data \
                     directory with --data-dir",
                ))
            }
            _ => Failure::Unreachable(self.line(&error.to_string())),
        }
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        Failure::Unreachable(self.line(&format!("the gateway hung up: {error}")))
    }

    fn line(&self, what: &str) -> String {
        format!("{}: {what}", self.socket.display())
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Refused>(body) {
        Ok(refused) => Failure::refused(output::foreign(&refused.error)),
        Err(_) => Failure::refused(format!("the gateway answered {status}")),
    }
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
