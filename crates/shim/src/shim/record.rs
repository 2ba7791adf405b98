//! What a session leaves in writing beside its recordings: its `state`, and the sidecar.
//!
//! The state is written when its phase changes, at once; a deadline that moved is in it within
//! [`SYNC_EVERY`]. The sidecar is written at the start and at the end.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::Pid;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::time::Mono;
use sojourn_core::time::micros;
use sojourn_core::wire::runner::Note;
use sojourn_core::wire::shim::ChannelSpec;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::RecordingFacts;
use sojourn_core::wire::shim::Summary;
use sojourn_core::wire::shim::WindowSize;
use sojourn_term::cast::Header;
use sojourn_term::cast::Marks;
use sojourn_term::cast::Origin;
use sojourn_term::escape::escape;
use sojourn_term::escape::escape_bytes;
use sojourn_term::sidecar;
use sojourn_term::sidecar::Moved;
use sojourn_term::sidecar::Sidecar;

use super::program::Kind;
use super::recorder::SYNC_EVERY;
use super::recorder::file_name;
use crate::clock;
use crate::control::Assign;
use crate::control::InputPolicy;
use crate::files;
use crate::files::Durability;
use crate::state::Phase;
use crate::state::Process;
use crate::state::State;
use crate::state::VERSION;
use crate::state::boot_id;

/// The longest texts from outside, in characters, that a sidecar or header repeats.
const LONGEST_COMMAND: usize = 1024;
const LONGEST_NAME: usize = 256;

/// Warnings that the sidecar remembers; a deadline may be moved, and warned of, without end.
const MAX_WARNINGS: usize = 64;

/// How long, and how often, what a full disk had no room for at the end is tried again.
const SETTLE: Duration = Duration::from_secs(10);
const SETTLE_EVERY: Duration = Duration::from_millis(100);

/// Forwards that the sidecar names one by one; a browser makes thousands. The audit log names all.
const MAX_FORWARDS: usize = 1024;

pub(super) struct Record {
    dir: OwnedFd,
    day: OwnedFd,
    state: State,
    sidecar: Sidecar,
    /// The channel of the first program.
    first: Option<u16>,
    /// How that one ended, if it did by itself.
    first_exit: Option<Exit>,
    recordings: Vec<RecordingFacts>,
    /// Forwards that are in the sidecar.
    forwards: usize,
    /// Who ended it, as the gateway says.
    ended_by: Option<sidecar::EndedBy>,
    /// Since when the state is out of date.
    stale: Option<Mono>,
    /// Whether a disk had no room for how it ended.
    unwritten: bool,
}

impl Record {
    /// Writes the state of a session that has just got its sandbox.
    pub(super) fn begin(
        assign: &Assign,
        (dir, day): (OwnedFd, OwnedFd),
        sandbox: String,
        init: Pid,
    ) -> io::Result<Self> {
        let state = State {
            version: VERSION,
            phase: Phase::Assigned,
            session: assign.session,
            sandbox,
            profile: assign.profile.clone(),
            about: assign.about.clone(),
            limits: assign.limits.clone(),
            passwords: !assign.honeypot && assign.recording.input == InputPolicy::All,
            recording: format!("{}/{}", assign.day, file_name(assign.session, 0)),
            boot: boot_id()?,
            shim: Process::of(rustix::process::getpid())?,
            init: Process::of(init)?,
            assigned_at: clock::wall(),
            started_at: None,
            deadline: None,
            honeypot: assign.honeypot,
            reason: None,
            summary: None,
        };
        state.write(dir.as_fd())?;
        let sidecar = begin_sidecar(&state);
        Ok(Self {
            dir,
            day,
            state,
            sidecar,
            first: None,
            first_exit: None,
            recordings: Vec::new(),
            forwards: 0,
            ended_by: None,
            stale: None,
            unwritten: false,
        })
    }

    /// The first program is being started.
    pub(super) fn started(&mut self, deadline: Mono) {
        let now = clock::wall();
        self.state.started_at = Some(now);
        self.state.phase = Phase::Running;
        self.state.deadline = (deadline != Mono::NEVER).then_some(deadline);
        self.sidecar.started_at = now.to_rfc3339();
        self.write();
        self.write_sidecar(Durability::Process);
    }

    /// The deadline was moved. A gateway may do that often: it is written with the next sync.
    pub(super) fn deadline_moved(&mut self, deadline: Mono, now: Mono) {
        self.state.deadline = (deadline != Mono::NEVER).then_some(deadline);
        self.stale.get_or_insert(now);
    }

    /// Something is being started in a channel. `listener`: where a connection was listened for.
    pub(super) fn channel(&mut self, number: u16, spec: &ChannelSpec, listener: Option<&Endpoint>) {
        let (kind, endpoint) = match &spec.program {
            Program::Shell => ("shell", None),
            Program::Exec(_) => ("exec", None),
            Program::Files => ("sftp", None),
            Program::Connect(to @ Endpoint::Tcp { .. }) => ("direct-tcpip", Some(to)),
            Program::Connect(to) => ("direct-streamlocal", Some(to)),
            Program::Accept(_) => match listener {
                Some(Endpoint::Unix(_)) => ("forwarded-streamlocal", listener),
                Some(Endpoint::Display(_)) => ("x11", listener),
                _ => ("forwarded-tcpip", listener),
            },
        };
        let is_forward = Kind::of(&spec.program) == Kind::Forward;
        if !is_forward {
            self.first.get_or_insert(number);
        } else if self.forwards < MAX_FORWARDS {
            self.forwards += 1;
        } else {
            self.sidecar.unlisted += 1;
            return;
        }
        if let Program::Exec(line) = &spec.program {
            self.sidecar.command(&line.0);
        }
        let is_recorded = Kind::of(&spec.program) == Kind::Program;
        let name = || file_name(self.state.session, number);
        self.sidecar.channels.push(sidecar::Channel {
            n: number.into(),
            kind: kind.to_owned(),
            command: command(&spec.program),
            target: endpoint.map(target),
            moved: None,
            tty: is_recorded && spec.pty.is_some(),
            recording: if is_recorded || number == 0 { name() } else { String::new() },
            ..sidecar::Channel::default()
        });
    }

    /// Command lines were entered.
    pub(super) fn commands(&mut self, lines: &[String]) {
        lines.iter().for_each(|line| self.sidecar.command(line.as_bytes()));
    }

    /// What went through a channel that has no recording.
    pub(super) fn moved(&mut self, number: u16, moved: Moved) {
        if let Some(channel) = self.sidecar_channel(number) {
            channel.moved = Some(moved);
        }
    }

    /// The header of a channel's recording.
    pub(super) fn header(&self, number: u16, size: WindowSize, spec: &ChannelSpec) -> Header {
        let term = spec.pty.as_ref().map(|pty| escape_bytes(&pty.term.0, LONGEST_NAME));
        let header = Header {
            width: size.cols.into(),
            height: size.rows.into(),
            timestamp: u64::try_from(clock::wall().0 / 1_000_000).ok(),
            title: None,
            command: command(&spec.program),
            sojourn: Some(Origin {
                session: self.state.session.to_string(),
                channel: number.into(),
            }),
            ..Header::default()
        };
        header.with_env("TERM", term.as_deref())
    }

    /// A channel's program ended by itself.
    pub(super) fn ended(&mut self, number: u16, exit: &Exit) {
        if self.first == Some(number) {
            self.first_exit = Some(exit.clone());
        }
        if let Some(channel) = self.sidecar_channel(number) {
            channel.exit = Some(match exit {
                Exit::Code(code) => sidecar::Exit::Code(*code),
                Exit::Signal(name) => sidecar::Exit::Signal(name.clone()),
            });
        }
    }

    /// A recording is complete.
    pub(super) fn sealed(&mut self, (facts, marks): (RecordingFacts, Marks)) {
        self.sidecar.seal(facts.channel.into(), facts.bytes, &facts.sha256, marks);
        self.recordings.push(facts);
    }

    /// The person was warned.
    pub(super) fn warned(&mut self) {
        let warnings = &mut self.sidecar.lease.warned_at;
        if warnings.len() < MAX_WARNINGS {
            warnings.push(clock::wall().to_rfc3339());
        }
    }

    /// What only the gateway knows.
    pub(super) fn note(&mut self, note: Note) {
        let Note::EndedBy { by, why } = note;
        self.ended_by = Some(sidecar::EndedBy {
            name: escape(&by, LONGEST_NAME),
            why: why.map(|why| escape(&why, LONGEST_COMMAND)),
        });
    }

    /// The last note in a recording: why the session ends.
    pub(super) fn last_note(&self, reason: EndReason) -> String {
        match self.ended_by.as_ref().filter(|_| reason == EndReason::EndedBy) {
            Some(sidecar::EndedBy { name, why: Some(why) }) => {
                format!("session ends: ended_by {name}: {why}")
            }
            Some(sidecar::EndedBy { name, why: None }) => {
                format!("session ends: ended_by {name}")
            }
            None => format!("session ends: {}", reason.name()),
        }
    }

    /// The directory of its recordings.
    pub(super) fn day(&self) -> BorrowedFd<'_> {
        self.day.as_fd()
    }

    /// It is ending.
    pub(super) fn ending(&mut self, reason: EndReason) {
        self.state.phase = Phase::Ending;
        self.state.reason = Some(reason);
        self.write();
    }

    /// It is over: writes the sidecar, then the state.
    pub(super) fn over(
        &mut self,
        reason: EndReason,
        output_bytes: u64,
        reached: Option<u64>,
    ) -> Summary {
        let ended_at = clock::wall();
        self.recordings.sort_by_key(|facts| facts.channel);
        let summary = Summary {
            session: self.state.session,
            reason,
            exit: self.first_exit.clone(),
            output_bytes,
            started_at: self.state.started_at,
            ended_at,
            recordings: self.recordings.clone(),
            reached,
        };
        if let Some(started_at) = self.state.started_at {
            self.sidecar.ended_at = Some(ended_at.to_rfc3339());
            self.sidecar.duration_ms =
                Some(u64::try_from((ended_at.0 - started_at.0) / 1000).unwrap_or(0));
            self.sidecar.end_reason = Some(reason.name().to_owned());
            if reason == EndReason::EndedBy {
                self.sidecar.ended_by = self.ended_by.clone();
            }
            self.sidecar.lease.output_bytes = output_bytes;
        }
        self.state.phase = Phase::Over;
        self.state.reason = Some(reason);
        self.state.summary = Some(summary.clone());
        self.write_end();
        summary
    }

    /// Writes how it ended: the sidecar, then the state.
    fn write_end(&mut self) {
        let told = self.state.started_at.is_none() || self.write_sidecar(Durability::Power);
        self.unwritten = !(self.write() && told);
    }

    /// Tries again for a while what a full disk had no room for. It is over, and everybody has been told
    /// who is there: without this, whoever reads it later would think that it was lost.
    pub(super) fn settle(&mut self) {
        let until = clock::mono().after(SETTLE);
        while self.unwritten && clock::mono() < until {
            std::thread::sleep(SETTLE_EVERY);
            self.write_end();
        }
    }

    /// When the state has to be written anew.
    pub(super) fn sync_at(&self) -> Mono {
        self.stale.map_or(Mono::NEVER, |since| since.after(SYNC_EVERY))
    }

    /// Writes the state anew if it is time.
    pub(super) fn sync_if_due(&mut self, now: Mono) {
        if now >= self.sync_at() {
            self.write();
        }
    }

    fn sidecar_channel(&mut self, number: u16) -> Option<&mut sidecar::Channel> {
        self.sidecar.channels.iter_mut().rev().find(|channel| channel.n == u32::from(number))
    }

    /// Whether there was room. On a full disk the old state stays: the session does not wait for it, and
    /// whoever restarts finds the shim, or that it is gone.
    fn write(&mut self) -> bool {
        self.stale = None;
        self.state.write(self.dir.as_fd()).is_ok()
    }

    /// As with the state.
    fn write_sidecar(&mut self, durability: Durability) -> bool {
        let name = format!("{}.json", self.state.session);
        let json = self.sidecar.to_json().map_err(io::Error::from);
        json.and_then(|json| files::replace(self.day.as_fd(), &name, &json, durability)).is_ok()
    }
}

/// The command line of a program, if the client gave one.
fn command(program: &Program) -> Option<String> {
    match program {
        Program::Exec(line) => Some(escape_bytes(&line.0, LONGEST_COMMAND)),
        Program::Shell | Program::Files | Program::Connect(_) | Program::Accept(_) => None,
    }
}

fn target(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp { host, port } if host.0.contains(&b':') => {
            format!("[{}]:{port}", escape_bytes(&host.0, LONGEST_NAME))
        }
        Endpoint::Tcp { host, port } => format!("{}:{port}", escape_bytes(&host.0, LONGEST_NAME)),
        Endpoint::Unix(path) => escape_bytes(&path.0, LONGEST_NAME),
        Endpoint::Display(_) => "display".to_owned(),
    }
}

/// The sidecar of a session in which nothing has happened yet.
#[must_use]
pub fn begin_sidecar(state: &State) -> Sidecar {
    let about = &state.about;
    let mut sidecar = Sidecar::new(state.session.to_string());
    sidecar.user = (!about.user.is_empty()).then(|| about.user.clone());
    sidecar.door.clone_from(&about.door);
    sidecar.profile.clone_from(&state.profile);
    sidecar.peer = (!about.peer.is_empty()).then(|| sidecar::Peer {
        address: about.peer.clone(),
        client_version: escape(&about.client, LONGEST_NAME),
        hassh: about.hassh.clone(),
    });
    sidecar.authentication = about
        .attempts
        .iter()
        .map(|attempt| sidecar::Attempt {
            time: attempt.at.to_rfc3339(),
            method: attempt.method.clone(),
            user: escape(&attempt.user, LONGEST_NAME),
            outcome: if attempt.accepted { "accepted" } else { "refused" }.to_owned(),
            key_fingerprint: attempt.fingerprint.clone(),
            password: attempt.password.clone(),
        })
        .collect();
    sidecar.sandbox.clone_from(&state.sandbox);
    sidecar.lease.limits = sidecar::Limits {
        max_runtime_ms: state.limits.max_runtime.map(|time| micros(time) / 1000),
        idle_timeout_ms: state.limits.idle_timeout.map(|time| micros(time) / 1000),
        max_output_bytes: state.limits.max_output,
    };
    sidecar
}
