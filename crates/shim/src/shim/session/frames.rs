//! What an attached gateway may ask of a session. Anything else, or anything out of turn, ends the
//! connection and never the session.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pipe::PipeFlags;
use sojourn_core::end::EndReason;
use sojourn_core::lease::Lease;
use sojourn_core::time::Mono;
use sojourn_core::wire::shim::ChannelSpec;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::MAX_CHANNELS;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;
use sojourn_term::sidecar::Moved;

use super::A_TURN;
use super::Phase;
use super::Session;
use super::lease_state;
use crate::control::OnFailure;
use crate::init_link::Command;
use crate::init_link::Stdio;
use crate::seqpacket;
use crate::shim::channel::Channel;
use crate::shim::channel::Ends;
use crate::shim::channel::Input;
use crate::shim::channel::Life;
use crate::shim::program;
use crate::shim::program::Kind;
use crate::shim::recorder::Recorder;
use crate::shim::signals;

/// Programs that one session may start. Each leaves a recording and a place in the sidecar; forwards
/// do not, and are as many as channels have numbers.
const MAX_STARTS: usize = 4096;

/// How long a program may take to take what was sent to it before its channel was closed.
const LAST_INPUT: Duration = Duration::from_secs(1);

/// What the pipe of a program's output holds: while the last of it is recorded and passed on, the
/// program goes on.
const WIDE_PIPE: usize = 256 << 10;

/// What a recording of pipes claims for a screen.
const NO_SCREEN: WindowSize = WindowSize { cols: 80, rows: 24, width: 0, height: 0 };

/// The frame is not one that may come now.
struct OutOfTurn;

type Taken = Result<(), OutOfTurn>;

impl Session {
    pub(super) fn hear_gateway(&mut self) {
        let mut buf = self.take_buffer();
        for _ in 0..A_TURN {
            let Some(gateway) = &mut self.gateway else { break };
            let Some(len) = gateway.hear(&mut buf) else { break };
            let greeted = gateway.hello_by().is_none();
            let taken = match ToShim::decode(&buf[..len]) {
                Ok(frame) if greeted == !matches!(frame, ToShim::Hello { .. }) => self.take(frame),
                _ => Err(OutOfTurn),
            };
            if let (Err(OutOfTurn), Some(gateway)) = (taken, &mut self.gateway) {
                gateway.give_up();
                break;
            }
        }
        self.buffer = buf;
    }

    fn take(&mut self, frame: ToShim<'_>) -> Taken {
        match frame {
            ToShim::Hello { version: 0 } => Err(OutOfTurn),
            // A gateway of another version speaks ours.
            ToShim::Hello { .. } => self.gateway.as_mut().map_or(Ok(()), |gateway| {
                gateway.greeted();
                Ok(())
            }),
            ToShim::Start(number, spec) => self.start(number, *spec),
            ToShim::Input(number, bytes) => self.input(number, bytes),
            ToShim::InputEof(number) => self.input_eof(number),
            ToShim::Credit(number, credit) => self.credit(number, credit),
            ToShim::Resize(number, size) => self.resize(number, size),
            ToShim::Signal(number, name) => self.signal(number, &name),
            ToShim::Close(number) => self.close(number),
            ToShim::MoveDeadline(left) => {
                let lease = self.lease.as_mut().ok_or(OutOfTurn)?;
                lease.move_deadline(self.now.after(left));
                self.record.deadline_moved(lease.deadline(), self.now);
                Ok(())
            }
            ToShim::End(request) => {
                self.end(request.reason, true);
                Ok(())
            }
            ToShim::Query => {
                // Before the first program it is what it would be from now.
                let fresh = || Lease::start(self.assign.limits.clone(), self.now);
                let lease = self.lease.clone().unwrap_or_else(fresh);
                if let Some(gateway) = &mut self.gateway {
                    gateway.tell(&FromShim::Lease(Box::new(lease_state(&lease, self.now))));
                }
                Ok(())
            }
            ToShim::Listen(listener, endpoint) => {
                self.listen(listener, endpoint);
                Ok(())
            }
            ToShim::Unlisten(listener) => {
                self.unlisten(listener);
                Ok(())
            }
            ToShim::Attach(number, credit) => self.attach(number, credit),
            ToShim::Detach(number) => self.detach(number),
            ToShim::Locate(number) => self.locate(number),
        }
    }

    /// A channel. One that is over is no mistake: the two sides cross. One that never was is.
    fn channel(&mut self, number: u16) -> Result<Option<&mut Channel>, OutOfTurn> {
        if u32::from(number) >= self.next_channel {
            return Err(OutOfTurn);
        }
        Ok(self.channels.iter_mut().find(|channel| channel.number == number))
    }

    fn input(&mut self, number: u16, bytes: &[u8]) -> Taken {
        let (now, policy) = (self.now, self.assign.recording.input);
        let Some(channel) = self.channel(number)? else { return Ok(()) };
        channel.moved.input += bytes.len() as u64;
        let recorded = channel.record_input(now, policy, bytes);
        let commands = channel.recorder.as_mut().map(Recorder::commands).unwrap_or_default();
        if !channel.input.push(bytes) {
            return Err(OutOfTurn);
        }
        let open = channel.write_input();
        if channel.tty {
            self.expect_answer(bytes);
        }
        if let Some(lease) = &mut self.lease {
            lease.touch_input(now);
        }
        self.record.commands(&commands);
        self.heed_recording(recorded);
        if !open {
            self.input_ended(number);
        }
        Ok(())
    }

    /// Writes input to a program that takes it now.
    pub(super) fn write_input(&mut self, index: usize) {
        if let Some(channel) = self.channels.get_mut(index)
            && !channel.write_input()
        {
            let number = channel.number;
            self.input_ended(number);
        }
    }

    /// The program reads no more.
    pub(super) fn input_ended(&mut self, number: u16) {
        if let Ok(Some(channel)) = self.channel(number) {
            channel.close_input();
            self.tell(&FromShim::InputClosed(number));
        }
    }

    fn input_eof(&mut self, number: u16) -> Taken {
        if let Some(channel) = self.channel(number)? {
            channel.end_input();
        }
        Ok(())
    }

    fn credit(&mut self, number: u16, credit: u32) -> Taken {
        if let Some(channel) = self.channel(number)? {
            channel.grant(credit);
        }
        Ok(())
    }

    fn resize(&mut self, number: u16, size: WindowSize) -> Taken {
        let now = self.now;
        let Some(channel) = self.channel(number)? else { return Ok(()) };
        let recorded = channel.resize(now, size);
        self.heed_recording(recorded);
        Ok(())
    }

    fn signal(&mut self, number: u16, name: &str) -> Taken {
        self.channel(number)?;
        // As sshd does: a signal that is not known is not sent.
        let Some(signal) = signals::number(name) else { return Ok(()) };
        if self.sandbox.link().signal(number, signal).is_err() {
            self.lose_sandbox();
        }
        Ok(())
    }

    fn close(&mut self, number: u16) -> Taken {
        let by = self.now.after(LAST_INPUT);
        match self.channel(number)? {
            Some(channel) if channel.input.waits() => channel.close_by(by),
            _ => self.hang_up(number),
        }
        Ok(())
    }

    /// Hangs up channels that were closed before their programs had taken everything.
    pub(super) fn hang_up_late(&mut self) {
        let now = self.now;
        let due = |channel: &&Channel| channel.is_to_hang_up(now);
        while let Some(number) = self.channels.iter().find(due).map(|channel| channel.number) {
            self.hang_up(number);
        }
    }

    /// A channel's client is gone for good.
    pub(super) fn hang_up(&mut self, number: u16) {
        if !self.kill_helper(number) && self.sandbox.link().signal(number, libc::SIGHUP).is_err() {
            self.lose_sandbox();
        }
        if let Ok(Some(channel)) = self.channel(number) {
            channel.close();
        }
    }

    /// The person at a terminal is there again. All it printed before is in its recording up to the
    /// length that is told; all it prints from now on follows as output.
    fn attach(&mut self, number: u16, credit: u32) -> Taken {
        let Some(channel) = self.channel(number)?.filter(|channel| channel.tty) else {
            self.tell(&FromShim::NotAttached(number));
            return Ok(());
        };
        let (attached, cut) = channel.attach(credit);
        let (owed, closed) = (channel.input.credit_anew(), channel.input.closed);
        if let Some(gateway) = &mut self.gateway {
            // It is on record, so it belongs to what was before.
            gateway.forget_output_of(number);
        }
        self.tell(&FromShim::Attached(number, Box::new(attached)));
        if !cut.is_empty() {
            // Half a character, which no recording has yet.
            self.tell(&FromShim::Output(number, Stream::Out, &cut));
        }
        self.tell(&FromShim::InputCredit(number, owed));
        if closed {
            self.tell(&FromShim::InputClosed(number));
        }
        Ok(())
    }

    fn locate(&mut self, number: u16) -> Taken {
        let terminal = self.channel(number)?.filter(|channel| channel.tty);
        let place = terminal.map(|channel| Box::new(channel.place()));
        self.tell(&FromShim::Located(number, place));
        Ok(())
    }

    fn detach(&mut self, number: u16) -> Taken {
        if let Some(channel) = self.channel(number)? {
            channel.credit = None;
        }
        if let Some(gateway) = &mut self.gateway {
            gateway.forget_output_of(number);
        }
        Ok(())
    }

    fn start(&mut self, number: u16, spec: ChannelSpec) -> Taken {
        if u32::from(number) < self.next_channel || self.phase != Phase::Live {
            // A start that crosses the session's end is no mistake; nothing answers it.
            return if self.phase == Phase::Live { Err(OutOfTurn) } else { Ok(()) };
        }
        self.next_channel = u32::from(number) + 1;
        let counts = Kind::of(&spec.program) != Kind::Forward;
        if self.channels.len() >= MAX_CHANNELS || (counts && self.starts >= MAX_STARTS) {
            let why = "too many channels in this session";
            self.tell(&FromShim::StartFailed(number, why.to_owned()));
            return Ok(());
        }
        self.starts += usize::from(counts);
        let is_first = self.lease.is_none();
        self.lease.get_or_insert_with(|| Lease::start(self.assign.limits.clone(), self.now));
        match self.begin_channel(number, &spec) {
            Ok(channel) => self.channels.push(channel),
            Err(error) => self.tell(&FromShim::StartFailed(number, error.to_string())),
        }
        if let Some(lease) = self.lease.as_ref().filter(|_| is_first) {
            // After the program was asked for: a person waits for that one.
            self.record.started(lease.deadline());
        }
        self.note_busy();
        Ok(())
    }

    fn begin_channel(&mut self, number: u16, spec: &ChannelSpec) -> io::Result<Channel> {
        if Kind::of(&spec.program) != Kind::Program {
            return self.begin_helper(number, spec);
        }
        self.record.channel(number, spec, None);
        let (ends, theirs) = match &spec.pty {
            Some(pty) => self.open_terminal(pty),
            None => open_pipes(),
        }?;
        let recorder = self.begin_recording(number, spec)?;
        let mut channel = Channel {
            number,
            kind: Kind::Program,
            life: Life::Starting,
            ends,
            input: Input::default(),
            credit: Some(spec.credit),
            recorder,
            tty: spec.pty.is_some(),
            afterwards: 0,
            hang_up_by: Mono::NEVER,
            moved: Moved::default(),
        };
        let argv = program::command(&self.assign, &spec.program);
        let env = program::environment(&self.assign, spec);
        let command = Command { cwd: &self.assign.account.home, argv: &argv, env: &env };
        let stdio = match &theirs[..] {
            [slave] => Stdio::Terminal(slave.as_fd()),
            [input, output, errors] => {
                Stdio::Pipes([input.as_fd(), output.as_fd(), errors.as_fd()])
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        if let Err(error) = self.sandbox.link().start(number, &command, stdio) {
            self.seal(&mut channel);
            return Err(io::Error::other(error.to_string()));
        }
        Ok(channel)
    }

    /// Begins a channel's recording, before there is a byte to record.
    pub(super) fn begin_recording(
        &mut self,
        number: u16,
        spec: &ChannelSpec,
    ) -> io::Result<Option<Recorder>> {
        let size = spec.pty.as_ref().map_or(NO_SCREEN, |pty| pty.size);
        let excerpt = spec.pty.is_none().then_some(self.assign.recording.exec_bytes);
        let header = self.record.header(number, size, spec);
        let day = (self.record.day(), self.assign.day.as_str());
        match Recorder::start(day, (self.assign.session, number), &header, excerpt, self.now) {
            Ok(recorder) if spec.pty.is_some() || spec.program == Program::Shell => {
                Ok(Some(recorder.with_commands(self.assign.honeypot)))
            }
            Ok(recorder) => Ok(Some(recorder)),
            Err(_) if self.assign.recording.on_failure == OnFailure::Continue => Ok(None),
            Err(error) => {
                self.end(EndReason::Failed, true);
                Err(io::Error::new(error.kind(), format!("recording: {error}")))
            }
        }
    }

    fn open_terminal(&self, pty: &Pty) -> io::Result<(Ends, Vec<OwnedFd>)> {
        let opened = self.sandbox.open_pty(pty.size, &pty.modes)?;
        Ok((Ends::Terminal(opened.master), vec![opened.slave]))
    }

    /// The program could not be run.
    pub(super) fn refuse(&mut self, number: u16, why: &str) {
        self.tell(&FromShim::StartFailed(number, why.to_owned()));
        if let Ok(Some(channel)) = self.channel(number) {
            channel.life = Life::Refused;
        }
    }
}

fn open_pipes() -> io::Result<(Ends, Vec<OwnedFd>)> {
    let (theirs_in, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (output, theirs_out) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // A small one serves as well, and more slowly.
    let _as_it_was = rustix::pipe::fcntl_setpipe_size(&output, WIDE_PIPE);
    let (errors, theirs_err) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // Each end has a flag of its own: theirs still waits.
    for ours in [&input, &output, &errors] {
        seqpacket::set_nonblocking(ours)?;
    }
    // The program may open them anew, as /dev/stderr: they are the host's root's, and it is not.
    for end in [&theirs_in, &theirs_out, &theirs_err] {
        rustix::fs::fchmod(end, rustix::fs::Mode::from_raw_mode(0o666))?;
    }
    let ends = Ends::Pipes { input: Some(input), output: Some(output), errors: Some(errors) };
    Ok((ends, vec![theirs_in, theirs_out, theirs_err]))
}
