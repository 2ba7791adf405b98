//! The messages between shim and `init`: one packet each, numbers big-endian, strings with a zero
//! behind them and their length, which counts it, before. `init/init.rs` is the other side;
//! [`VERSION`] is raised with every change.
//!
//! | from | kind | then |
//! |---|---|---|
//! | shim | 1 start | channel u16, flags u8 (1: terminal), directory, argv, environment; descriptors |
//! | shim | 2 signal | channel u16, number u8 |
//! | shim | 16 share | 0 u16; descriptor: a socket to another shim |
//! | shim | 3 files | channel u16, directory; descriptors: standard input and output |
//! | shim | 4 connect | channel u16, endpoint; descriptors: the same |
//! | shim | 5 listen | listener u16, endpoint |
//! | shim | 6 unlisten | listener u16 |
//! | shim | 7 accept | channel u16, listener u16; descriptors: the same |
//! | init | 1 ready | version u8 |
//! | init | 2 started | channel u16 |
//! | init | 3 refused | channel u16, errno i32 |
//! | init | 4 exited | channel u16, wait status i32 |
//! | init | 5 listening | listener u16, port u16 |
//! | init | 6 not listening | listener u16, errno i32 |
//!
//! An endpoint is 1, port u16, host; or 2, path; or, to listen, 3, length u32, cookie: a display,
//! whose number is told as its port.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use sojourn_core::wire::shim::Cookie;
use sojourn_core::wire::shim::Endpoint;

use super::Helper;
use super::InitEvent;
use super::LinkError;
use super::StartError;

/// The version both sides speak.
const VERSION: u8 = 3;
/// The longest message to `init`.
const MAX_MESSAGE: usize = 64 * 1024;
/// The longest message from it.
pub(super) const MAX_EVENT: usize = 7;

const START: u8 = 1;
const SIGNAL: u8 = 2;
const SHARE: u8 = 16;
const FILES: u8 = 3;
const CONNECT: u8 = 4;
const LISTEN: u8 = 5;
const UNLISTEN: u8 = 6;
const ACCEPT: u8 = 7;
const READY: u8 = 1;
const STARTED: u8 = 2;
const REFUSED: u8 = 3;
const EXITED: u8 = 4;
const LISTENING: u8 = 5;
const NOT_LISTENING: u8 = 6;
const FLAG_TERMINAL: u8 = 1;
const TCP: u8 = 1;
const UNIX: u8 = 2;
const DISPLAY: u8 = 3;
/// The longest name of a host.
const MAX_HOST: usize = 255;
/// The longest path of a Unix socket.
const MAX_SOCKET: usize = 107;

/// A program to start inside. Arguments and variables may be any bytes but zero.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a, S> {
    /// Where it starts; `/` when that cannot be entered.
    pub cwd: &'a str,
    /// Its name, looked up in the environment's PATH unless it holds a slash, and its arguments.
    pub argv: &'a [S],
    /// Its whole environment, as `NAME=value`.
    pub env: &'a [S],
}

pub(super) fn start<S: AsRef<[u8]>>(
    channel: u16,
    terminal: bool,
    command: &Command<'_, S>,
) -> Result<Vec<u8>, StartError> {
    if command.argv.first().is_none_or(|name| name.as_ref().is_empty()) {
        return Err(StartError::Malformed("no program"));
    }
    let mut message = vec![START];
    message.extend(channel.to_be_bytes());
    message.push(if terminal { FLAG_TERMINAL } else { 0 });
    string(&mut message, command.cwd.as_bytes())?;
    for list in [command.argv, command.env] {
        let count = u16::try_from(list.len()).map_err(|_| StartError::TooLong)?;
        message.extend(count.to_be_bytes());
        for item in list {
            string(&mut message, item.as_ref())?;
        }
    }
    Ok(message)
}

/// A message of a kind about a channel or a listener.
fn begin(kind: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![kind, high, low]
}

/// A message that starts a helper.
pub(super) fn help(channel: u16, helper: &Helper<'_>) -> Result<Vec<u8>, StartError> {
    match helper {
        Helper::Files { cwd } => {
            let mut message = begin(FILES, channel);
            string(&mut message, cwd.as_bytes())?;
            Ok(message)
        }
        Helper::Connect(Endpoint::Display(_)) => {
            Err(StartError::Malformed("a display is only listened for"))
        }
        Helper::Connect(to) => with_endpoint(begin(CONNECT, channel), to),
        Helper::Accept { listener } => {
            let mut message = begin(ACCEPT, channel);
            message.extend(listener.to_be_bytes());
            Ok(message)
        }
    }
}

pub(super) fn listen(listener: u16, endpoint: &Endpoint) -> Result<Vec<u8>, StartError> {
    with_endpoint(begin(LISTEN, listener), endpoint)
}

pub(super) fn unlisten(listener: u16) -> Vec<u8> {
    begin(UNLISTEN, listener)
}

fn with_endpoint(mut message: Vec<u8>, endpoint: &Endpoint) -> Result<Vec<u8>, StartError> {
    match endpoint {
        Endpoint::Tcp { host, port } if host.0.len() <= MAX_HOST => {
            message.push(TCP);
            message.extend(port.to_be_bytes());
            string(&mut message, &host.0)?;
        }
        Endpoint::Unix(path) if path.0.len() <= MAX_SOCKET => {
            message.push(UNIX);
            string(&mut message, &path.0)?;
        }
        Endpoint::Display(cookie) => {
            let bytes = cookie.as_bytes();
            if !(1..=Cookie::LONGEST).contains(&bytes.len()) {
                return Err(StartError::Malformed("no cookie, or a long one"));
            }
            message.push(DISPLAY);
            message.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            message.extend(bytes);
        }
        _ => return Err(StartError::LongEndpoint),
    }
    Ok(message)
}

fn string(message: &mut Vec<u8>, string: &[u8]) -> Result<(), StartError> {
    if string.contains(&0) {
        return Err(StartError::Malformed("it holds a zero byte"));
    }
    let length = u16::try_from(string.len() + 1).map_err(|_| StartError::TooLong)?;
    message.extend(length.to_be_bytes());
    message.extend(string);
    message.push(0);
    if message.len() > MAX_MESSAGE { Err(StartError::TooLong) } else { Ok(()) }
}

pub(super) fn signal(channel: u16, signal: u8) -> [u8; 4] {
    let [high, low] = channel.to_be_bytes();
    [SIGNAL, high, low, signal]
}

pub(super) fn share() -> [u8; 3] {
    [SHARE, 0, 0]
}

pub(super) fn event(message: &[u8]) -> Result<InitEvent, LinkError> {
    match *message {
        [READY, VERSION] => Ok(InitEvent::Ready),
        [LISTENING, a, b, c, d] => Ok(InitEvent::Listening {
            listener: u16::from_be_bytes([a, b]),
            port: u16::from_be_bytes([c, d]),
        }),
        [NOT_LISTENING, a, b, ref errno @ ..] => Ok(InitEvent::NotListening {
            listener: u16::from_be_bytes([a, b]),
            errno: number(errno)?,
        }),
        [STARTED, a, b] => Ok(InitEvent::Started { channel: u16::from_be_bytes([a, b]) }),
        [REFUSED, a, b, ref errno @ ..] => {
            Ok(InitEvent::Refused { channel: u16::from_be_bytes([a, b]), errno: number(errno)? })
        }
        [EXITED, a, b, ref status @ ..] => {
            let status = ExitStatus::from_raw(number(status)?);
            if status.code().is_none() && status.signal().is_none() {
                return Err(LinkError::Protocol("claimed what is no end"));
            }
            Ok(InitEvent::Exited { channel: u16::from_be_bytes([a, b]), status })
        }
        _ => Err(LinkError::Protocol("sent what is no message")),
    }
}

fn number(bytes: &[u8]) -> Result<i32, LinkError> {
    let bytes = bytes.try_into().map_err(|_| LinkError::Protocol("sent what is no message"))?;
    Ok(i32::from_be_bytes(bytes))
}
