//! Programs for the test gate: `/bin/sh` with pipes or a terminal, and bounded queues around them.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use bytes::BytesMut;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use sojourn_core::end::Exit;
use sojourn_core::wire::shim::Program as What;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::channel::InputClosed;
use sojourn_engine::door::ChannelEvent;
use sojourn_engine::door::ChannelRequest;
use sojourn_engine::door::Refusal;
use sojourn_ssh::gate::GateInput;
use sojourn_ssh::gate::GateOutput;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// What the allow-list of the test's profile lets pass.
const PASSING: [&str; 2] = ["LANG", "LC_ALL"];

pub(crate) struct Program;

impl Program {
    /// Starts it; it is killed when `gone` turns true.
    pub(crate) fn start(
        request: ChannelRequest,
        gone: watch::Receiver<bool>,
    ) -> Result<(ProgramInput, ProgramOutput), Refusal> {
        let failed = |error: std::io::Error| Refusal::Start(error.to_string());
        let (events, output) = mpsc::channel(8);
        let mut command = Command::new(if request.pty.is_some() { "setsid" } else { "/bin/sh" });
        if request.pty.is_some() {
            command.args(["--ctty", "/bin/sh"]);
        }
        match &request.program {
            What::Exec(line) => command.arg("-c").arg(line.to_string_lossy()),
            What::Shell => &mut command,
            What::Files => {
                command = Command::new("/usr/bin/python3");
                command.args(["-c", include_str!("helper.py")])
            }
            other => return Err(Refusal::Start(format!("no sandbox here for {other:?}"))),
        };
        command.env_clear().env("PATH", "/usr/bin:/bin").env("PS1", "$ ").kill_on_drop(true);
        command.env("TERM", "dumb");
        for (name, value) in &request.env {
            let name = name.to_string_lossy();
            if PASSING.contains(&name.as_str()) {
                command.env(name, value.to_string_lossy());
            }
        }
        let (input, child) = match &request.pty {
            Some(pty) => Self::on_terminal(command, pty, events.clone()).map_err(failed)?,
            None => Self::on_pipes(command, &events).map_err(failed)?,
        };
        tokio::spawn(Self::follow(child, events, gone));
        Ok((input, ProgramOutput(output)))
    }

    fn on_pipes(
        mut command: Command,
        events: &mpsc::Sender<ChannelEvent>,
    ) -> std::io::Result<(ProgramInput, Running)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let mut child = command.spawn()?;
        let group = child.id().unwrap();
        let input = Arc::new(Mutex::new(child.stdin.take()));
        let out = tokio::spawn(copy(Stream::Out, child.stdout.take().unwrap(), events.clone()));
        let err = tokio::spawn(copy(Stream::Err, child.stderr.take().unwrap(), events.clone()));
        let running = Running { child, group, streams: vec![out, err] };
        Ok((ProgramInput { way: Way::Pipe(input), group }, running))
    }

    fn on_terminal(
        mut command: Command,
        pty: &Pty,
        events: mpsc::Sender<ChannelEvent>,
    ) -> std::io::Result<(ProgramInput, Running)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let terminal = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty())?;
        resize(&master, pty.size)?;
        command.env("TERM", pty.term.to_string_lossy());
        command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
        let master = Arc::new(master);
        let child = command.spawn()?;
        drop(command);
        let group = child.id().unwrap();
        let read = master.clone();
        let out = tokio::task::spawn_blocking(move || copy_terminal(&read, &events));
        let running = Running { child, group, streams: vec![out] };
        Ok((ProgramInput { way: Way::Terminal(master), group }, running))
    }

    async fn follow(
        mut running: Running,
        events: mpsc::Sender<ChannelEvent>,
        mut gone: watch::Receiver<bool>,
    ) {
        let status = tokio::select! {
            status = running.child.wait() => status.unwrap(),
            _ = gone.wait_for(|gone| *gone) => return running.kill(),
        };
        for stream in &mut running.streams {
            tokio::select! {
                done = stream => done.unwrap(),
                _ = gone.wait_for(|gone| *gone) => break,
            }
        }
        let _left = events.send(ChannelEvent::Exit(exit(status))).await;
        running.kill();
    }
}

struct Running {
    child: Child,
    group: u32,
    streams: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    fn kill(&self) {
        signal(self.group, rustix::process::Signal::KILL);
    }
}

fn signal(group: u32, signal: rustix::process::Signal) {
    let group = rustix::process::Pid::from_raw(i32::try_from(group).unwrap()).unwrap();
    let _ended = rustix::process::kill_process_group(group, signal);
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(u32::try_from(code).unwrap()),
        (None, Some(15)) => Exit::Signal("TERM".to_owned()),
        (None, Some(1)) => Exit::Signal("HUP".to_owned()),
        (None, _) => Exit::Signal("KILL".to_owned()),
    }
}

fn resize(master: &OwnedFd, size: WindowSize) -> std::io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: size.width,
        ws_ypixel: size.height,
    };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

async fn copy(
    stream: Stream,
    mut from: impl AsyncRead + Unpin,
    events: mpsc::Sender<ChannelEvent>,
) {
    loop {
        let mut buffer = BytesMut::with_capacity(64 * 1024);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                if events.send(ChannelEvent::Output(stream, buffer.freeze())).await.is_err() {
                    return;
                }
            }
        }
    }
    let _left = events.send(ChannelEvent::Eof(stream)).await;
}

fn copy_terminal(master: &OwnedFd, events: &mpsc::Sender<ChannelEvent>) {
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = rustix::io::read(master, &mut buffer) {
        let bytes = Bytes::copy_from_slice(&buffer[..length]);
        if events.blocking_send(ChannelEvent::Output(Stream::Out, bytes)).is_err() {
            return;
        }
    }
    let _left = events.blocking_send(ChannelEvent::Eof(Stream::Out));
}

#[derive(Clone)]
pub(crate) struct ProgramInput {
    way: Way,
    group: u32,
}

#[derive(Clone)]
enum Way {
    Pipe(Arc<Mutex<Option<ChildStdin>>>),
    Terminal(Arc<OwnedFd>),
}

impl GateInput for ProgramInput {
    async fn send(&self, bytes: &[u8]) -> Result<(), InputClosed> {
        match &self.way {
            Way::Pipe(stdin) => {
                let mut stdin = stdin.lock().await;
                let stdin = stdin.as_mut().ok_or(InputClosed)?;
                stdin.write_all(bytes).await.map_err(|_| InputClosed)
            }
            Way::Terminal(master) => {
                let (master, bytes) = (master.clone(), bytes.to_vec());
                let write = move || {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let written = rustix::io::write(&master, rest).map_err(|_| InputClosed)?;
                        rest = &rest[written..];
                    }
                    Ok(())
                };
                tokio::task::spawn_blocking(write).await.map_err(|_| InputClosed)?
            }
        }
    }

    async fn eof(&self) {
        if let Way::Pipe(stdin) = &self.way {
            stdin.lock().await.take();
        }
    }

    async fn resize(&self, size: WindowSize) {
        if let Way::Terminal(master) = &self.way {
            resize(master, size).unwrap();
        }
    }

    async fn signal(&self, name: String) {
        if name == "TERM" {
            signal(self.group, rustix::process::Signal::TERM);
        }
    }

    async fn close(&self) {
        signal(self.group, rustix::process::Signal::HUP);
    }
}

pub(crate) struct ProgramOutput(mpsc::Receiver<ChannelEvent>);

impl GateOutput for ProgramOutput {
    async fn next(&mut self) -> Option<ChannelEvent> {
        self.0.recv().await
    }
}
