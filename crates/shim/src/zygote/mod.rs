//! The zygote: the small root process that forks runners and shims for everybody else.
//!
//! `sojourn serve` calls [`split`] before it has a thread, a listener or a lock. What comes of it:
//!
//! ```text
//!   gateway (the started process; drops its privileges)
//!      │ A                 A: "start a runner" ▸        ◂ runner's pid and gateway end of R, its exit
//!   zygote (root, a session of its own, one thread)
//!      ├── runner (root)   R: runner ⇄ gateway, core::wire::runner
//!      │     │ Z           Z: a shim's or worker's control socket ▸ ◂ its pid and pidfd
//!      ├── shims (root)    each with its own control socket to the runner, later its own listener
//!      └── workers (root)  each reads what one session left, or unpacks an image, then leaves
//! ```
//!
//! | socket | ends | what its end means |
//! |---|---|---|
//! | A | gateway, zygote | to the zygote: the gateway is gone, no runner is restarted any more; to the gateway: no runner will follow |
//! | R | gateway, runner | to either: the other is gone. Made by the zygote for each runner; the zygote keeps no end |
//! | Z | runner, zygote | to the zygote: this runner wants no more; to the runner: nothing, it is dead by then |
//!
//! The gateway's death takes nobody along: the runner stays as long as it has sessions, shims stay
//! anyway. A runner that dies while the gateway lives is started anew, later each time it dies soon;
//! one that leaves with status 0 meant to. The zygote leaves when gateway and runner are both gone; if
//! it is killed, the system kills its runner: without a zygote that one could make no sandbox and read
//! nothing of what sessions left, and the next gateway would find it there. Shims stay.
//! It ignores TERM, INT and HUP, which service managers and terminals send to everybody: whoever
//! gets them on purpose tells it by leaving.
//!
//! It parses nothing: requests are a byte, with descriptors beside them.

mod ends;

use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::process::WaitStatus;
use sojourn_core::time::Mono;

pub use ends::Born;
pub use ends::FromZygote;
pub use ends::GatewayEnd;
pub use ends::RunnerEnd;

use crate::clock;
use crate::init_link::InitImage;
use crate::kernel;
use crate::native;
use crate::seqpacket;
use crate::shim;
use crate::sys::process::fork;

/// Signals that are for the gateway alone.
const NOT_OURS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];

/// How long after a runner's death the next one is started, if it is the first in a row.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// How long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A runner that lived so long was healthy: its death is the first in a row.
const HEALTHY: Duration = Duration::from_secs(60);

/// What a runner is born with.
#[derive(Debug)]
pub struct RunnerSeed {
    /// Its end of R.
    pub gateway: OwnedFd,
    /// Its end of Z.
    pub zygote: RunnerEnd,
}

/// What is run after the split, and with what.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The built-in runner. It is called in a forked process with one thread, once for each runner,
    /// and gives its exit status.
    pub runner: &'a dyn Fn(RunnerSeed) -> u8,
    /// Reads what a session left, as the runner tells it on the control socket it is given. It is
    /// called in a forked process with one thread, and gives its exit status.
    pub keeper: &'a dyn Fn(OwnedFd) -> u8,
    /// Unpacks an image. As with the keeper.
    pub unpacker: &'a dyn Fn(OwnedFd) -> u8,
    /// Descriptors that runners need; those of the process that are not here are closed.
    pub keep: &'a [BorrowedFd<'a>],
}

/// Splits this process: the child becomes the zygote and never returns from here.
///
/// # Errors
/// When this process has threads, or the system refuses.
pub fn split(plan: &Plan<'_>) -> io::Result<GatewayEnd> {
    if !kernel::is_single_threaded() {
        return Err(io::Error::other("threads exist before the split"));
    }
    let (ours, theirs) = seqpacket::pair()?;
    let pid = fork(move || match Zygote::prepare(plan, theirs) {
        Ok(mut zygote) => zygote.run(),
        Err(error) => {
            complain("the split", &error);
            1
        }
    })?;
    GatewayEnd::new(ours, pid)
}

struct Runner {
    pid: Pid,
    born: Mono,
    /// Our end of Z, until it closes its own.
    socket: Option<OwnedFd>,
}

struct Zygote<'a> {
    plan: Plan<'a>,
    init: InitImage,
    signals: OwnedFd,
    gateway: Option<OwnedFd>,
    runner: Option<Runner>,
    /// When the next runner is due.
    restart_at: Mono,
    pause: Duration,
}

impl<'a> Zygote<'a> {
    fn prepare(plan: &Plan<'a>, gateway: OwnedFd) -> io::Result<Self> {
        let mut keep = plan.keep.to_vec();
        keep.push(gateway.as_fd());
        // SAFETY: this child never returns, and uses none of the values it inherited but these.
        unsafe { kernel::close_all_but(&keep)? };
        seqpacket::set_nonblocking(&gateway)?;
        rustix::process::setsid()?;
        rustix::thread::set_name(c"sojourn-zygote")?;
        rustix::process::chdir("/")?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        kernel::detach_stdio(kernel::Output::KeepErrors)?;
        kernel::ignore(&NOT_OURS);
        Ok(Self {
            plan: *plan,
            init: InitImage::make()?,
            signals: kernel::signal_fd(&[Signal::CHILD])?,
            gateway: Some(gateway),
            runner: None,
            restart_at: Mono::NEVER,
            pause: SHORTEST_PAUSE,
        })
    }

    fn run(&mut self) -> i32 {
        // Whatever is forked from here has it; what is wrong with it comes up with the first sandbox.
        native::make_ready();
        while self.gateway.is_some() || self.runner.is_some() {
            if self.restart_at <= clock::mono() {
                self.restart_at = Mono::NEVER;
                self.start_runner();
            }
            let Ok([children, gateway, runner]) = self.wait() else { return 1 };
            if children {
                self.reap();
            }
            if gateway {
                self.hear_gateway();
            }
            if runner {
                self.hear_runner();
            }
        }
        0
    }

    /// Waits for something to happen: to a child, at the gateway, at the runner.
    fn wait(&self) -> io::Result<[bool; 3]> {
        let gateway = self.gateway.as_ref();
        let runner = self.runner.as_ref().and_then(|runner| runner.socket.as_ref());
        // A place without a socket looks at the signals once more.
        let mut fds = [Some(&self.signals), gateway, runner]
            .map(|fd| PollFd::new(fd.unwrap_or(&self.signals), PollFlags::IN));
        let timeout = (self.restart_at != Mono::NEVER)
            .then(|| Timespec::try_from(self.restart_at.since(clock::mono())).ok())
            .flatten();
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout.as_ref()))?;
        let seen = fds.map(|fd| !fd.revents().is_empty());
        Ok([seen[0], seen[1] && gateway.is_some(), seen[2] && runner.is_some()])
    }

    fn reap(&mut self) {
        kernel::take_signals(self.signals.as_fd(), Signal::CHILD);
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            match &self.runner {
                Some(runner) if runner.pid == pid => self.runner_is_gone(status),
                // A shim or a worker: its runner holds a pidfd, and it left its word in its directory.
                _ => {}
            }
        }
    }

    fn runner_is_gone(&mut self, status: WaitStatus) {
        let Some(runner) = self.runner.take() else { return };
        let now = clock::mono();
        if now.since(runner.born) >= HEALTHY {
            self.pause = SHORTEST_PAUSE;
        }
        let Some(gateway) = &self.gateway else { return };
        if ends::tell_gone(gateway.as_fd(), runner.pid, status).is_err() {
            self.gateway = None;
        } else if status.exit_status() != Some(0) {
            self.restart_at = now.after(self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn hear_gateway(&mut self) {
        let Some(gateway) = &self.gateway else { return };
        let mut buf = [0; 8];
        match seqpacket::recv(gateway, &mut buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(message) if buf[..message.len] == ends::START_RUNNER => {
                if self.runner.is_none() && self.restart_at == Mono::NEVER {
                    self.restart_at = clock::mono();
                }
            }
            // Its end, or something it must not say: it gets nothing more.
            _ => {
                self.gateway = None;
                self.restart_at = Mono::NEVER;
            }
        }
    }

    fn hear_runner(&mut self) {
        let Some(Some(socket)) = self.runner.as_ref().map(|runner| &runner.socket) else { return };
        let mut buf = [0; 8];
        let keep = match seqpacket::recv(socket, &mut buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Ok(mut message) => {
                let control = message.fds.pop().ok_or(io::ErrorKind::InvalidInput.into());
                let born = match buf.get(..message.len) {
                    Some(request) if *request == ends::FORK_SHIM => {
                        Some(control.and_then(|control| self.fork_shim(control)))
                    }
                    Some(request) if *request == ends::FORK_KEEPER => {
                        Some(control.and_then(|control| fork_worker(self.plan.keeper, control)))
                    }
                    Some(request) if *request == ends::FORK_UNPACKER => {
                        Some(control.and_then(|control| fork_worker(self.plan.unpacker, control)))
                    }
                    _ => None,
                };
                born.is_some_and(|born| ends::answer(socket.as_fd(), born).is_ok())
            }
            Err(_) => false,
        };
        if let Some(runner) = self.runner.as_mut().filter(|_| !keep) {
            runner.socket = None;
        }
    }

    fn fork_shim(&self, control: OwnedFd) -> io::Result<(Pid, OwnedFd)> {
        let init = rustix::io::fcntl_dupfd_cloexec(&self.init, 3)?;
        let pid = fork(|| {
            // SAFETY: this child never returns, and uses none of the values it inherited but these.
            let closed = unsafe { kernel::close_all_but(&[control.as_fd(), init.as_fd()]) };
            match closed.and_then(|()| kernel::reset_signals(&NOT_OURS)) {
                Ok(()) => shim::run(control, InitImage::from(init)),
                Err(_) => 1,
            }
        })?;
        Ok((pid, rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    fn start_runner(&mut self) {
        let started = self.fork_runner();
        let Some(gateway) = &self.gateway else { return };
        match started {
            Ok((runner, socket)) => {
                if ends::tell_born(gateway.as_fd(), runner.pid, socket.as_fd()).is_err() {
                    self.gateway = None;
                }
                self.runner = Some(runner);
            }
            Err(error) => {
                complain("no runner", &error);
                self.restart_at = clock::mono().after(self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Forks a runner; the descriptor is the gateway's end of its R.
    fn fork_runner(&self) -> io::Result<(Runner, OwnedFd)> {
        let (gateway, gateway_of_runner) = seqpacket::pair()?;
        let (zygote, zygote_of_runner) = seqpacket::pair()?;
        seqpacket::set_nonblocking(&zygote)?;
        let own = rustix::process::getpid();
        let pid = fork(move || {
            let mut keep = self.plan.keep.to_vec();
            keep.extend([gateway_of_runner.as_fd(), zygote_of_runner.as_fd()]);
            // SAFETY: this child never returns, and uses none of the values it inherited but these.
            let closed = unsafe { kernel::close_all_but(&keep) };
            let settled = closed
                .and_then(|()| kernel::reset_signals(&NOT_OURS))
                .and_then(|()| kernel::end_with(own));
            if settled.is_err() {
                return 1;
            }
            let _named = rustix::thread::set_name(c"sojourn-runner");
            let zygote = RunnerEnd::new(zygote_of_runner);
            i32::from((self.plan.runner)(RunnerSeed { gateway: gateway_of_runner, zygote }))
        })?;
        Ok((Runner { pid, born: clock::mono(), socket: Some(zygote) }, gateway))
    }
}

/// Forks a process that does one piece of work, told on its control socket.
fn fork_worker(work: &dyn Fn(OwnedFd) -> u8, control: OwnedFd) -> io::Result<(Pid, OwnedFd)> {
    let pid = fork(|| {
        // SAFETY: this child never returns, and uses none of the values it inherited but these.
        let closed = unsafe { kernel::close_all_but(&[control.as_fd()]) };
        match closed.and_then(|()| kernel::reset_signals(&NOT_OURS)) {
            Ok(()) => i32::from(work(control)),
            Err(_) => 1,
        }
    })?;
    Ok((pid, rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
}

/// Writes a line for the operator, if anybody reads there.
fn complain(what: &str, error: &io::Error) {
    let _written = writeln!(io::stderr(), "sojourn: zygote: {what}: {error}");
}
