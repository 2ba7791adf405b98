//! HTTP/1.1 byte by byte, so that a test can send what no library would.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer.
const LONGEST: u64 = 64 << 20;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_of(name).next()
    }

    /// Every header of this name.
    pub fn headers_of(&self, name: &str) -> impl Iterator<Item = &str> {
        let with_name = move |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers.iter().filter(with_name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The status and the code of the body.
    #[must_use]
    pub fn outcome(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }

    /// The body, when the status is this one.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// Holds the status and the code against these.
    ///
    /// # Panics
    /// When they are others.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.outcome(), (status, code.to_owned()), "{}", self.text());
        self.json()
    }
}

/// A connection, and what was read of it too early.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(super) fn open(door: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&door, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one answer, and whether another request may follow.
    pub(super) fn answer(&mut self, to_head: bool) -> io::Result<(Answer, bool)> {
        loop {
            let (answer, goes_on) = self.one(to_head)?;
            // An interim answer is not the one.
            if answer.status != 100 {
                return Ok((answer, goes_on));
            }
        }
    }

    fn one(&mut self, to_head: bool) -> io::Result<(Answer, bool)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken(&format!("a status line: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken("a header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        let is = |name: &str, value: &str| {
            answer.header(name).is_some_and(|is| is.eq_ignore_ascii_case(value))
        };
        let mut goes_on = !is("connection", "close");
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        answer.body = if to_head || matches!(status, 100..=199 | 204 | 304) {
            Vec::new()
        } else if is("transfer-encoding", "chunked") {
            self.chunks()?
        } else if let Some(length) = length {
            self.exactly(length)?
        } else {
            goes_on = false;
            let mut body = Vec::new();
            self.stream.by_ref().take(LONGEST).read_to_end(&mut body)?;
            body
        };
        Ok((answer, goes_on))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.by_ref().take(1 << 20).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn exactly(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.stream.by_ref().take(length.min(LONGEST)).read_to_end(&mut body)?;
        match u64::try_from(body.len()) == Ok(length) {
            true => Ok(body),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| broken("a chunk's size"))?;
            body.extend(self.exactly(size)?);
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// The bare connection, and what was read of it too early.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        let read = self.stream.buffer().to_vec();
        (self.stream.into_inner(), read)
    }

    /// What arrives until the other side closes, or this much.
    pub(super) fn rest(mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.by_ref().take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::other(format!("not HTTP: {what}"))
}
