//! A session's program with everything that it starts: a tree of processes that is ended whole.
//!
//! ```text
//!   runner ──socket── warden (one a session) ── program ── whatever it starts
//!                       └ subreaper: all of it descends from here, whatever it does
//! ```
//!
//! - [`warden`]: the process beside the program. It ends the tree when it is told to, and when its
//!   runner is gone.
//! - `descendants`, `group`: how it finds and kills what is there.
//! - `wire`: what they say to each other.

pub mod warden;

pub(crate) mod descendants;
mod group;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::end::Exit;
use sojourn_core::wire::Text;
use sojourn_sandbox::packets::Packets;
use sojourn_shim::seqpacket;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::watch;

use wire::Order;
use wire::Report;
use wire::Spec;

/// How long a warden may take until its program runs.
const START: Duration = Duration::from_secs(15);

/// Between two looks for what a killed warden left.
const SWEEP: Duration = Duration::from_millis(100);

/// How often is looked.
const SWEEPS: u32 = 100;

/// How a warden is started: a program and arguments that come to [`warden::run`].
#[derive(Clone, Debug)]
pub struct Warden {
    /// The program; it is its own, so that a new version on disk is no other one.
    pub program: PathBuf,
    /// What makes it a warden.
    pub arguments: Vec<OsString>,
}

/// A program to run.
#[derive(Debug)]
pub(crate) struct Run {
    /// The program's path and its arguments.
    pub(crate) argv: Vec<OsString>,
    /// All of its environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The directory it runs in, opened.
    pub(crate) directory: OwnedFd,
    /// Names what belongs to the session: `SOJOURN_SESSION` in its environment.
    pub(crate) tag: String,
}

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// The system does not start it.
    #[error("{program}: {why}")]
    Refused {
        /// What.
        program: String,
        /// The system's words.
        why: String,
    },
    /// Its command line and environment are too long.
    #[error("command line and environment have {0} bytes; {max} is the most", max = wire::LONGEST)]
    Long(usize),
    /// There is no warden.
    #[error("no process could be started beside it: {0}")]
    Warden(#[source] io::Error),
}

/// What a program reads and prints.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: pipe::Sender,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

/// How a tree stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Something lives.
    Alive,
    /// So many processes do not die; nothing more can be done.
    Stubborn(u32),
    /// Nothing lives.
    Nothing,
}

/// A running program and all that it started.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The program's process.
    pub(crate) pid: u32,
    socket: Arc<Packets>,
    exit: watch::Receiver<Option<Exit>>,
    left: watch::Receiver<Left>,
}

impl Tree {
    /// Starts a program on pipes.
    pub(crate) async fn on_pipes(warden: &Warden, run: Run) -> Result<(Self, Pipes), ProcessError> {
        let made = || -> io::Result<_> {
            let (input, stdin) = io::pipe()?;
            let (stdout, output) = io::pipe()?;
            let (stderr, error) = io::pipe()?;
            let pipes = Pipes {
                stdin: pipe::Sender::from_owned_fd(stdin.into())?,
                stdout: pipe::Receiver::from_owned_fd(stdout.into())?,
                stderr: pipe::Receiver::from_owned_fd(stderr.into())?,
            };
            Ok((pipes, vec![OwnedFd::from(input), output.into(), error.into()]))
        };
        let (pipes, theirs) = made().map_err(ProcessError::Warden)?;
        Ok((Self::start(warden, run, theirs, false).await?, pipes))
    }

    /// Starts a program on a terminal, of which the program's end is given.
    pub(crate) async fn on_terminal(
        warden: &Warden,
        run: Run,
        terminal: OwnedFd,
    ) -> Result<Self, ProcessError> {
        Self::start(warden, run, vec![terminal], true).await
    }

    async fn start(
        warden: &Warden,
        run: Run,
        streams: Vec<OwnedFd>,
        terminal: bool,
    ) -> Result<Self, ProcessError> {
        let program = run.argv.first().map(|name| name.to_string_lossy().into_owned());
        let program = program.unwrap_or_default();
        let text = |text: OsString| Text(std::os::unix::ffi::OsStringExt::into_vec(text));
        let env = run.env.into_iter().map(|(name, value)| (text(name), text(value)));
        let spec = Spec {
            argv: run.argv.into_iter().map(text).collect(),
            env: env.collect(),
            terminal,
            tag: run.tag.clone(),
        };
        let order = serde_json::to_vec(&Order::Run(spec)).unwrap_or_default();
        if order.len() > wire::LONGEST {
            return Err(ProcessError::Long(order.len()));
        }
        let (child, socket) = Self::warden(warden).map_err(ProcessError::Warden)?;
        let socket = Arc::new(socket);
        let sent = {
            let fds: Vec<_> =
                [&run.directory].into_iter().chain(&streams).map(AsFd::as_fd).collect();
            socket.write(|fd| seqpacket::send(fd, &order, &fds)).await
        };
        sent.map_err(ProcessError::Warden)?;
        // The program's ends are the program's alone: their closing is its end.
        drop(streams);
        let first = tokio::time::timeout(START, heard(&socket)).await;
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let pid = match first.unwrap_or_else(|_| Err(late())).map_err(ProcessError::Warden)? {
            Some(Report::Started { pid }) => pid,
            Some(Report::Refused { message }) => {
                return Err(ProcessError::Refused { program, why: plain(&message) });
            }
            _ => {
                let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(ProcessError::Warden(gone));
            }
        };
        let (told_exit, exit) = watch::channel(None);
        let (told_left, left) = watch::channel(Left::Alive);
        let follower = Follower { socket: socket.clone(), child, tag: run.tag };
        tokio::spawn(follower.follow(told_exit, told_left));
        Ok(Self { pid, socket, exit, left })
    }

    fn warden(warden: &Warden) -> io::Result<(Child, Packets)> {
        let (ours, theirs) = seqpacket::pair()?;
        let child = Command::new(&warden.program)
            .args(&warden.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok((child, Packets::new(ours)?))
    }

    /// How its program ended; none while it runs. What it started may live.
    pub(crate) fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// Waits for the end of its program. None: nobody knows how it ended.
    pub(crate) async fn exited(&self) -> Option<Exit> {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|exit| exit.clone())
    }

    /// Ends everything: politely, after `grace` not. A later call can only shorten that. Comes back
    /// when nothing lives, or when nothing can be done about what does.
    pub(crate) async fn end(&self, grace: Duration) -> Left {
        let order = serde_json::to_vec(&Order::End { grace }).unwrap_or_default();
        // A warden that is gone has ended everything, or is swept up after.
        let _gone = self.socket.write(|fd| seqpacket::send(fd, &order, &[])).await;
        let mut left = self.left.clone();
        let now = left.wait_for(|left| *left != Left::Alive).await;
        now.map_or(Left::Nothing, |left| *left)
    }
}

/// Hears a warden out.
struct Follower {
    socket: Arc<Packets>,
    child: Child,
    tag: String,
}

impl Follower {
    async fn follow(mut self, exit: watch::Sender<Option<Exit>>, left: watch::Sender<Left>) {
        let mut is_empty = false;
        loop {
            match heard(&self.socket).await {
                Ok(Some(Report::Exited { exit: how })) => {
                    let _heard = exit.send_replace(Some(how));
                }
                Ok(Some(Report::Left { processes })) => {
                    let _heard = left.send_replace(Left::Stubborn(processes));
                }
                Ok(Some(Report::Empty)) => is_empty = true,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        // Its status says nothing that its socket did not.
        let _status = self.child.wait().await;
        if !is_empty {
            tracing::warn!(session = self.tag, "a session's warden was killed; sweeping up");
            let remains = swept(&self.tag).await;
            let _heard = exit.send_replace(Some(Exit::Signal("KILL".to_owned())));
            let _heard = left.send_replace(remains);
            return;
        }
        let _heard = left.send_replace(Left::Nothing);
    }
}

/// Kills whatever carries a session's tag, until nothing does.
pub(crate) async fn swept(tag: &str) -> Left {
    for again in 0..SWEEPS {
        let tag = tag.to_owned();
        let found = tokio::task::spawn_blocking(move || warden::sweep(&tag)).await;
        match found {
            Ok(0) => return Left::Nothing,
            Ok(found) if again + 1 == SWEEPS => {
                return Left::Stubborn(u32::try_from(found).unwrap_or(u32::MAX));
            }
            _ => tokio::time::sleep(SWEEP).await,
        }
    }
    Left::Nothing
}

/// The next thing a warden says; none: it is gone.
async fn heard(socket: &Packets) -> io::Result<Option<Report>> {
    let mut buffer = vec![0; 4096];
    let received = socket.read(|fd| seqpacket::recv(fd, &mut buffer)).await?;
    if received.len == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(buffer.get(..received.len).unwrap_or_default())?))
}

/// The system's words without the number that the standard library puts behind them.
fn plain(message: &str) -> String {
    message.split_once(" (os error ").map_or(message, |(before, _)| before).to_owned()
}
