//! A session in its shim: one loop around `poll`, and the order in which things are looked at.
//!
//! ```text
//!   Live ──── end() or a limit ────▶ Ending ── grace over, or only init left ──▶ Killing ──▶ over
//!     programs run, output flows     programs told HUP and TERM; output is        waits until
//!                                    recorded, no longer delivered                nothing is left
//! ```

mod ending;
mod frames;
mod helpers;
mod output;
mod wait;

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::Signal;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::lease::Lease;
use sojourn_core::time::Mono;
use sojourn_core::wire::MAX_MESSAGE;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::LeaseState;
use sojourn_core::wire::shim::ShimHello;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::VERSION;

use super::channel::Channel;
use super::channel::Ends;
use super::channel::Life;
use super::gateway::Gateway;
use super::program::Kind;
use super::record::Record;
use super::remains;
use super::timer::Timer;
use crate::clock;
use crate::control;
use crate::control::Assign;
use crate::control::AssignFds;
use crate::control::Report;
use crate::control::Told;
use crate::init_link::InitEvent;
use crate::kernel;
use crate::sandbox::Sandbox;
use crate::seqpacket;
use wait::Source;

/// How long a session that has its sandbox waits for a gateway, before anything was started.
const ATTACHED_WITHIN: Duration = Duration::from_secs(60);

/// Frames, events or connections taken in one turn, so that none of them starves the rest.
const A_TURN: usize = 32;

/// Far longer than any message, so that the allocator maps it: what no message ever touched of it
/// takes no memory.
const BUFFER: usize = 256 * 1024;
const _: () = assert!(BUFFER > MAX_MESSAGE);

/// How often what was killed and still lives is killed again.
const KILL_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Live,
    Ending,
    Killing { again_at: Mono, init_ended: bool },
}

/// What a session is made of.
pub(super) struct Room {
    pub(super) assign: Box<Assign>,
    pub(super) fds: AssignFds,
    pub(super) sandbox: Sandbox,
    /// The sandbox's id.
    pub(super) sandbox_id: String,
    pub(super) control: OwnedFd,
    pub(super) signals: OwnedFd,
}

pub(super) struct Session {
    assign: Box<Assign>,
    sandbox: Sandbox,
    /// The link to its process 1 once more, to wait for it.
    init: OwnedFd,
    listener: OwnedFd,
    signals: OwnedFd,
    /// To the runner, until it is gone.
    control: Option<OwnedFd>,
    /// Where the next runner comes.
    comeback: Option<OwnedFd>,
    gateway: Option<Gateway>,
    channels: Vec<Channel>,
    /// What is listened for inside, or is about to be.
    listeners: Vec<(u16, Endpoint)>,
    /// The lowest number that no channel had; one past the last when all had.
    next_channel: u32,
    starts: usize,
    /// Since the first program was started.
    lease: Option<Lease>,
    phase: Phase,
    /// Why it ends, before there is a lease to know it.
    reason: Option<EndReason>,
    /// How the last program ended.
    last_exit: Option<Exit>,
    attach_by: Mono,
    record: Record,
    timer: Timer,
    /// Output on its way, and the gateway's frames; made when the first is needed.
    buffer: Vec<u8>,
    now: Mono,
    /// A terminal that was given a key is likely to answer before this.
    answer_by: Mono,
}

impl Session {
    /// Takes the session: writes its state, listens to its socket, tells the runner. What could not
    /// be done comes back with the sandbox, which is to be destroyed, and the control socket.
    pub(super) fn begin(room: Room) -> Result<Self, Box<(io::Error, Sandbox, OwnedFd)>> {
        let Room { assign, fds, mut sandbox, sandbox_id, control, signals } = room;
        let prepared = (|| {
            let directories = (fds.session, fds.day);
            let record = Record::begin(&assign, directories, sandbox_id, sandbox.pid())?;
            seqpacket::set_nonblocking(&fds.listener)?;
            fds.comeback.as_ref().map_or(Ok(()), seqpacket::set_nonblocking)?;
            let init = rustix::io::fcntl_dupfd_cloexec(sandbox.link(), 3)?;
            let timer = Timer::new()?;
            control::send(&control, &Report::Assigned, &[])?;
            Ok((record, init, timer))
        })();
        let (record, init, timer) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err(Box::new((error, sandbox, control))),
        };
        let now = clock::mono();
        Ok(Self {
            assign,
            sandbox,
            init,
            listener: fds.listener,
            signals,
            control: Some(control),
            comeback: fds.comeback,
            gateway: None,
            channels: Vec::new(),
            listeners: Vec::new(),
            next_channel: 0,
            starts: 0,
            lease: None,
            phase: Phase::Live,
            reason: None,
            last_exit: None,
            attach_by: now.after(ATTACHED_WITHIN),
            record,
            timer,
            buffer: Vec::new(),
            now,
            answer_by: now,
        })
    }

    /// Serves the session until nothing of it is left.
    pub(super) fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            self.now = clock::mono();
            for source in ready {
                self.look_at(source);
            }
            self.drain_terminals();
            self.hang_up_late();
            self.keep_lease();
            self.settle_channels();
            self.settle_gateway();
            self.keep_files();
            if self.is_over() {
                return Ok(());
            }
        }
    }

    fn look_at(&mut self, source: Source) {
        match source {
            Source::Signals => {
                if kernel::take_signals(self.signals.as_fd(), Signal::TERM) {
                    self.end(EndReason::Shutdown, true);
                }
            }
            Source::Timer => self.timer.clear(),
            Source::Control => self.hear_runner(),
            Source::Comeback => self.meet_runner(),
            Source::Listener => self.meet_gateway(),
            Source::Gateway => self.hear_gateway(),
            Source::Init => self.hear_init(),
            Source::Output(index, stream) => self.pump(index, stream),
            Source::Input(index) => self.write_input(index),
            Source::InputEnded(index) => {
                if let Some(number) = self.channels.get(index).map(|channel| channel.number) {
                    self.input_ended(number);
                }
            }
        }
    }

    fn hear_runner(&mut self) {
        let Some(control) = &self.control else { return };
        match control::hear(control.as_fd()) {
            Ok(Some(Told::Note(note))) => self.record.note(note),
            Ok(None) => {}
            // Gone, or out of turn: the session has its own socket.
            _ => self.control = None,
        }
    }

    /// A runner that started after this shim. The one before it is gone.
    fn meet_runner(&mut self) {
        let Some(comeback) = &self.comeback else { return };
        if let Some(runner) = remains::accept(comeback.as_fd()) {
            let told = remains::tell(&runner, &Report::Held, self.sandbox.layers());
            self.control = told.is_ok().then_some(runner);
        }
    }

    fn meet_gateway(&mut self) {
        let Some(mut gateway) = Gateway::accept(self.listener.as_fd(), self.now) else { return };
        let lease = self.lease.as_ref().map(|lease| lease_state(lease, self.now));
        self.orphan_helpers();
        let programs = self.channels.iter().filter(|channel| channel.kind == Kind::Program);
        gateway.tell(&FromShim::Hello(Box::new(ShimHello {
            version: VERSION,
            session: self.assign.session,
            channels: programs.clone().map(|channel| channel.number).collect(),
            terminals: programs.filter(|c| c.tty).map(|channel| channel.number).collect(),
            next_channel: u16::try_from(self.next_channel).unwrap_or(u16::MAX),
            lease,
            ending: self.reason(),
        })));
        for channel in self.channels.iter_mut().filter(|channel| channel.kind == Kind::Program) {
            // Both windows start anew: the gateway grants what it takes, if anything; we what we do.
            channel.credit = None;
            gateway.tell(&FromShim::InputCredit(channel.number, channel.input.credit_anew()));
            if channel.input.closed {
                gateway.tell(&FromShim::InputClosed(channel.number));
            }
            if let Ends::Pipes { output, errors, .. } = &channel.ends {
                for (end, stream) in [(output, Stream::Out), (errors, Stream::Err)] {
                    if end.is_none() {
                        gateway.tell(&FromShim::OutputEof(channel.number, stream));
                    }
                }
            }
        }
        gateway.flush();
        self.gateway = Some(gateway);
    }

    fn hear_init(&mut self) {
        if let Phase::Killing { init_ended, .. } = &mut self.phase {
            *init_ended = true;
            return;
        }
        for _ in 0..A_TURN {
            match self.sandbox.link().recv() {
                Ok(None) => return,
                Ok(Some(event)) => self.heed_init(event),
                Err(_) => return self.lose_sandbox(),
            }
        }
    }

    fn heed_init(&mut self, event: InitEvent) {
        let (number, life) = match event {
            InitEvent::Ready => return,
            InitEvent::Started { channel } => (channel, Life::Running),
            InitEvent::Refused { channel, errno } => {
                return self.refuse(channel, &io::Error::from_raw_os_error(errno).to_string());
            }
            InitEvent::Exited { channel, status } => (channel, Life::Ended(exit(status))),
            InitEvent::Listening { listener, port } => {
                return self.heed_listener(listener, Ok(port));
            }
            InitEvent::NotListening { listener, errno } => {
                return self.heed_listener(listener, Err(errno));
            }
        };
        let Some(index) = self.channels.iter().position(|channel| channel.number == number) else {
            return;
        };
        if let Life::Ended(exit) = life {
            if self.phase == Phase::Live {
                self.record.ended(number, &exit);
                if self.channels[index].kind != Kind::Forward {
                    self.last_exit = Some(exit.clone());
                }
            }
            self.channels[index].ended(exit);
        } else {
            self.tell(&FromShim::Started(number));
            self.channels[index].life = life;
        }
    }

    /// Tells the gateway, if one is attached and the session has not begun to end.
    fn tell(&mut self, frame: &FromShim<'_>) {
        if let Some(gateway) = self.gateway.as_mut().filter(|_| self.phase == Phase::Live) {
            gateway.tell(frame);
        }
    }

    /// Lets a gateway go that is gone or does not keep to the rules, and sends what waits for one
    /// that does.
    fn settle_gateway(&mut self) {
        let now = self.now;
        self.end_orphans();
        let Some(gateway) = &mut self.gateway else {
            if self.lease.is_none() && now >= self.attach_by {
                self.end(EndReason::Closed, false);
            }
            return;
        };
        for channel in self.channels.iter_mut().filter(|_| self.phase == Phase::Live) {
            if let Some(credit) = channel.input.returned() {
                gateway.tell(&FromShim::InputCredit(channel.number, credit));
            }
        }
        gateway.flush();
        if gateway.hello_by().is_some_and(|by| now >= by) {
            gateway.give_up();
        }
        if gateway.is_lost() {
            self.gateway = None;
            self.orphan_helpers();
            self.end_orphans();
            self.be_deserted();
        }
    }

    /// Nobody sends or reads any more. A terminal's person may come back; a program without one ends
    /// with its connection.
    fn be_deserted(&mut self) {
        if self.phase != Phase::Live {
            return;
        }
        let pipes: Vec<u16> = self.channels.iter().filter(|c| !c.tty).map(|c| c.number).collect();
        if self.lease.is_none() || (!pipes.is_empty() && pipes.len() == self.channels.len()) {
            return self.end(EndReason::Closed, false);
        }
        for number in pipes {
            self.hang_up(number);
        }
    }

    /// The buffer, lent out; whoever takes it puts it back.
    fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.is_empty() { vec![0; BUFFER] } else { buffer }
    }

    fn is_over(&mut self) -> bool {
        matches!(self.phase, Phase::Killing { .. }) && self.sandbox.is_empty()
    }
}

/// How a lease stands.
fn lease_state(lease: &Lease, now: Mono) -> LeaseState {
    let left = |at: Mono| (at != Mono::NEVER).then(|| at.since(now));
    LeaseState {
        limits: lease.limits().clone(),
        remaining: left(lease.deadline()),
        idle_remaining: left(lease.idle_deadline()),
        idle: now.since(lease.last_activity()),
        output_bytes: lease.output(),
    }
}

fn exit(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code.unsigned_abs()),
        (None, signal) => Exit::Signal(super::signals::name(signal.unwrap_or(libc::SIGKILL))),
    }
}
