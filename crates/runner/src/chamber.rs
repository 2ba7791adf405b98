//! A chamber: a shell in a sandbox on somebody's own machine.
//!
//! The runner there starts it beside a warden, on a terminal, as it starts any shell. It is a gateway
//! with one session: it has a built-in runner of its own, which makes the sandbox as on the gateway's
//! machine, and passes bytes between the two terminals. So a sandbox ends as everything ends that a
//! warden has: with its session, with its runner, and with the warden itself.
//!
//! ```text
//!   runner ── terminal ── chamber ── zygote ── built-in runner
//!                                        └── shim ── init ── shell, on a terminal of its own
//! ```
//!
//! Before the first byte it prints one line, [`Word`]: that the shell runs, or why it does not.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::limits::Lower;
use sojourn_core::wire::MAX_MESSAGE;
use sojourn_core::wire::Text;
use sojourn_core::wire::runner::About;
use sojourn_core::wire::runner::FromRunner;
use sojourn_core::wire::runner::Numbered;
use sojourn_core::wire::runner::Open;
use sojourn_core::wire::runner::Reply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::runner::WEB_DOOR;
use sojourn_core::wire::runner::decode;
use sojourn_core::wire::runner::encode;
use sojourn_core::wire::shim::ChannelSpec;
use sojourn_core::wire::shim::EndRequest;
use sojourn_core::wire::shim::FRAME_COST;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::INPUT_WINDOW;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;
use sojourn_core::wire::shim::cost;
use sojourn_sandbox::image::unpacker;
use sojourn_sandbox::left::keeper;
use sojourn_sandbox::packets::Packets;
use sojourn_shim::seqpacket;
use sojourn_shim::zygote;
use sojourn_shim::zygote::FromZygote;
use sojourn_shim::zygote::GatewayEnd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::builtin;
use crate::builtin::RunnerConfig;

/// The status of one whose sandbox could not be made, as at the SSH door.
const NONE: u8 = 75;

/// What terminals are.
const TERM: &str = "xterm-256color";

/// So much is read of what somebody types at a time.
const CHUNK: usize = 16 << 10;

/// How long its own runner may take to leave, once its session is over.
const LEAVE: Duration = Duration::from_secs(20);

/// What a built-in runner finds in its data directory.
const DIRECTORIES: [&str; 4] = ["recordings", "sessions", "images", "kept"];

/// Whose chamber it is.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The session.
    pub session: SessionId,
    /// Its user, as the sandbox is told.
    pub user: String,
}

/// The first line that a chamber prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Word {
    /// The shell runs; what follows is the terminal's.
    Runs,
    /// It does not, and why.
    Failed {
        /// In a line.
        message: String,
    },
}

/// Serves the terminal on standard input until the session in its sandbox is over. The process has one
/// thread; the configuration's one profile is the sandbox's. Its status is the shell's.
#[must_use]
pub fn run(mut config: RunnerConfig, guest: &Guest) -> ExitCode {
    let mut profiles = config.profiles.iter_mut();
    let Some(profile) = profiles.next().filter(|_| profiles.next().is_none()) else {
        return refuse("there is no such profile here");
    };
    let name = profile.name.clone();
    // One is made, when it is needed; and whoever started this holds it to its limits.
    (profile.pool, profile.shared) = (0, false);
    let none = Limits { max_runtime: None, idle_timeout: None, max_output: None, ..profile.limits };
    (profile.limits, profile.web_runtime) = (none, None);
    if let Err(error) = make_ready(&config.data_dir) {
        return refuse(&format!("{}: {error}", config.data_dir.display()));
    }
    let (data_dir, build) = (config.data_dir.clone(), config.build.clone());
    let run_runner = |seed| builtin::run_below(seed, config.clone());
    let plan = zygote::Plan {
        runner: &run_runner,
        keeper: &keeper::run,
        unpacker: &unpacker::run,
        keep: &[],
    };
    let zygote = match zygote::split(&plan) {
        Ok(zygote) => zygote,
        Err(error) => return refuse(&format!("no process for it could be started: {error}")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let lived = match runtime {
        Ok(runtime) => runtime.block_on(live(zygote, build, name, guest)),
        Err(error) => Err(format!("no runtime: {error}")),
    };
    // What is in it is evidence of nothing: the recording that counts is the gateway's.
    let _left = clear(&data_dir);
    match lived {
        Ok(exit) => leave_like(exit.as_ref()),
        Err(message) => refuse(&message),
    }
}

/// Says why there is no shell.
#[must_use]
pub fn refuse(message: &str) -> ExitCode {
    let word = Word::Failed { message: message.to_owned() };
    let _gone = say(io::stdout(), &word);
    ExitCode::from(NONE)
}

fn say(to: impl AsFd, word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    // Far less than a terminal takes at once.
    rustix::io::write(to, &line)?;
    Ok(())
}

/// Ends as the shell did, as far as a process can say so.
fn leave_like(exit: Option<&Exit>) -> ExitCode {
    match exit {
        Some(Exit::Code(code)) => ExitCode::from(u8::try_from(*code).unwrap_or(u8::MAX)),
        Some(Exit::Signal(name)) if name == "KILL" => {
            let own = rustix::process::getpid();
            let _dead = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            ExitCode::from(137)
        }
        Some(Exit::Signal(_)) | None => ExitCode::from(143),
    }
}

/// What an earlier one left here, which was killed, is nobody's; but an engine's containers are found
/// by their directory, and unpacked images are of use again.
fn clear(data_dir: &Path) -> io::Result<()> {
    for name in ["recordings", "kept"] {
        match fs::remove_dir_all(data_dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let sessions = match fs::read_dir(data_dir.join("sessions")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        sessions => sessions?,
    };
    for entry in sessions {
        let path = entry?.path();
        let is_session = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if is_session.is_some_and(|_: SessionId| true) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn make_ready(data_dir: &Path) -> io::Result<()> {
    clear(data_dir)?;
    for name in DIRECTORIES {
        fs::create_dir_all(data_dir.join(name))?;
    }
    Ok(())
}

/// The built-in runner, asked one thing at a time.
struct Link {
    packets: Packets,
    asked: u64,
}

impl Link {
    async fn ask(&mut self, body: Request) -> io::Result<(Reply, Option<OwnedFd>)> {
        self.asked += 1;
        let wanted = self.asked;
        let bytes = encode(&Numbered { id: wanted, body }).map_err(io::Error::other)?;
        self.packets.write(|socket| seqpacket::send(socket, &bytes, &[])).await?;
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let mut got = self.packets.read(|socket| seqpacket::recv(socket, &mut buffer)).await?;
            if got.len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let message = decode::<FromRunner>(buffer.get(..got.len).unwrap_or_default());
            match message.map_err(io::Error::other)? {
                FromRunner::Reply(Numbered { id, body }) if id == wanted => {
                    return Ok((body, got.fds.pop()));
                }
                FromRunner::Reply(_) | FromRunner::Event { .. } => {}
            }
        }
    }
}

async fn live(
    zygote: GatewayEnd,
    build: String,
    profile: String,
    guest: &Guest,
) -> Result<Option<Exit>, String> {
    let gone = |error: io::Error| format!("the sandbox's processes are gone: {error}");
    zygote.start_runner().map_err(gone)?;
    #[expect(
        deprecated,
        reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
    )]
    let zygote = AsyncFd::with_interest(zygote, Interest::READABLE).map_err(gone)?;
    let socket = match zygote.async_io(Interest::READABLE, GatewayEnd::next).await {
        Ok(Some(FromZygote::RunnerBorn { socket, .. })) => socket,
        Ok(_) => return Err("the sandbox's processes are gone".to_owned()),
        Err(error) => return Err(gone(error)),
    };
    let mut link = Link { packets: Packets::new(socket).map_err(gone)?, asked: 0 };
    let version = sojourn_core::wire::runner::VERSION;
    link.ask(Request::Hello { version, build }).await.map_err(gone)?;
    let open = Open {
        session: guest.session,
        profile,
        lower: Lower::default(),
        about: About {
            user: guest.user.clone(),
            door: WEB_DOOR.to_owned(),
            connected_at: sojourn_shim::clock::wall(),
            ..About::default()
        },
        honeypot: false,
    };
    let opened = match link.ask(Request::Open(Box::new(open))).await.map_err(gone)? {
        (Reply::Opened { .. }, Some(socket)) => Ok(socket),
        (Reply::Failed { stage, message }, _) => {
            Err(format!("the sandbox failed at stage {}: {message}", stage.name()))
        }
        _ => Err("the sandbox's runner answers nonsense".to_owned()),
    };
    let lived = match opened {
        Ok(socket) => match Guests::new(socket) {
            Ok(guests) => guests.serve().await,
            Err(error) => Err(gone(error)),
        },
        Err(message) => Err(message),
    };
    // Whatever was made is taken away by whoever made it.
    let parted = async {
        let _gone = link.ask(Request::Shutdown { leave: false }).await;
        while let Ok(Some(event)) = zygote.async_io(Interest::READABLE, GatewayEnd::next).await {
            if matches!(event, FromZygote::RunnerGone { .. }) {
                return;
            }
        }
    };
    let _late = tokio::time::timeout(LEAVE, parted).await;
    lived
}

/// The two terminals: the one that it was started on, and the shell's.
struct Guests {
    shim: Packets,
    outside: AsyncFd<OwnedFd>,
    frame: Vec<u8>,
}

/// What happens next.
enum Next {
    Frame(io::Result<seqpacket::Received>),
    Typed(io::Result<usize>),
    Printed(io::Result<usize>),
    Resized,
    End,
}

impl Guests {
    fn new(shim: OwnedFd) -> io::Result<Self> {
        let outside = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
        rustix::io::ioctl_fionbio(&outside, true)?;
        #[expect(
            deprecated,
            reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
        )]
        let outside = AsyncFd::new(outside)?;
        Ok(Self { shim: Packets::new(shim)?, outside, frame: Vec::new() })
    }

    async fn tell(&mut self, told: &ToShim<'_>) {
        told.encode(&mut self.frame);
        let frame = &self.frame;
        // A shim that is gone is noticed where its frames are read.
        let _gone = self.shim.write(|socket| seqpacket::send(socket, frame, &[])).await;
    }

    fn size(&self) -> WindowSize {
        rustix::termios::tcgetwinsize(self.outside.get_ref()).map_or_else(
            |_| WindowSize { cols: 80, rows: 24, ..WindowSize::default() },
            |size| WindowSize {
                cols: size.ws_col,
                rows: size.ws_row,
                width: size.ws_xpixel,
                height: size.ws_ypixel,
            },
        )
    }

    async fn serve(mut self) -> Result<Option<Exit>, String> {
        let signals = |error: io::Error| format!("signals: {error}");
        let mut resized = signal(SignalKind::window_change()).map_err(signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(signals)?;
        self.tell(&ToShim::Hello { version: sojourn_core::wire::shim::VERSION }).await;
        let pty = Pty { term: Text::from(TERM), size: self.size(), modes: Vec::new() };
        let shell = ChannelSpec {
            program: Program::Shell,
            pty: Some(pty),
            env: Vec::new(),
            credit: OUTPUT_WINDOW,
        };
        self.tell(&ToShim::Start(0, Box::new(shell))).await;
        let (mut frame, mut keys) = (vec![0; MAX_MESSAGE], vec![0; CHUNK]);
        let mut printing: Vec<u8> = Vec::new();
        let (mut credit, mut exit, mut written) = (INPUT_WINDOW, None, 0);
        let mut listens = true;
        loop {
            let waits = printing.get(written..).unwrap_or_default();
            let next = {
                let (shim, outside) = (&self.shim, &self.outside);
                let room = usize::try_from(credit.saturating_sub(FRAME_COST)).unwrap_or(0);
                let keys = keys.get_mut(..room.min(CHUNK)).unwrap_or_default();
                let may_type = listens && !keys.is_empty();
                tokio::select! {
                    got = shim.read(|socket| seqpacket::recv(socket, &mut frame)),
                        if waits.is_empty() => Next::Frame(got),
                    got = outside.async_io(Interest::WRITABLE, |tty| Ok(rustix::io::write(tty, waits)?)),
                        if !waits.is_empty() => Next::Printed(got),
                    got = outside.async_io(Interest::READABLE, |tty| Ok(rustix::io::read(tty, &mut *keys)?)),
                        if may_type => Next::Typed(got),
                    _ = resized.recv() => Next::Resized,
                    _ = terminate.recv() => Next::End,
                    _ = hangup.recv() => Next::End,
                }
            };
            match next {
                Next::Printed(Ok(length)) => {
                    written += length;
                    if written >= printing.len() {
                        let spent = cost(printing.len());
                        printing.clear();
                        written = 0;
                        self.tell(&ToShim::Credit(0, spent)).await;
                    }
                }
                Next::Typed(Ok(length)) if length > 0 => {
                    credit = credit.saturating_sub(cost(length));
                    let typed = keys.get(..length).unwrap_or_default();
                    self.tell(&ToShim::Input(0, typed)).await;
                }
                Next::Resized => {
                    let size = self.size();
                    self.tell(&ToShim::Resize(0, size)).await;
                }
                // Nobody is at the other end of the terminal, or the session is to end.
                Next::Printed(Err(_)) | Next::Typed(_) | Next::End => {
                    (listens, written) = (false, 0);
                    printing.clear();
                    self.tell(&ToShim::End(EndRequest { reason: EndReason::Closed })).await;
                }
                Next::Frame(got) => {
                    let length = got.map_or(0, |got| got.len);
                    if length == 0 {
                        return Err("the sandbox is gone".to_owned());
                    }
                    let told = FromShim::decode(frame.get(..length).unwrap_or_default());
                    match told.map_err(|error| format!("the sandbox's shim: {error}"))? {
                        FromShim::Started(_) => {
                            let _gone = say(self.outside.get_ref(), &Word::Runs);
                        }
                        FromShim::StartFailed(_, message) => {
                            let end = EndRequest { reason: EndReason::Failed };
                            self.tell(&ToShim::End(end)).await;
                            return Err(message);
                        }
                        FromShim::Output(_, _, bytes) => printing.extend_from_slice(bytes),
                        FromShim::InputCredit(_, more) => credit = credit.saturating_add(more),
                        FromShim::InputClosed(_) => listens = false,
                        FromShim::Exit(_, how) => {
                            exit = Some(how);
                            listens = false;
                            let end = EndRequest { reason: EndReason::Exited };
                            self.tell(&ToShim::End(end)).await;
                        }
                        FromShim::Ended(summary) => return Ok(exit.or(summary.exit)),
                        _ => {}
                    }
                }
            }
        }
    }
}
