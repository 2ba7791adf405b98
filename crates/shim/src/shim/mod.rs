//! The shim: one small process beside each session, which owns its sandbox, terminals, pipes,
//! recording and deadline, and outlives the gateway.
//!
//! ```text
//!   Making ──▶ Idle, in the pool ──▶ a session ──▶ over: it leaves
//!     │            │ the runner is gone, or TERM: the sandbox goes
//!     └ failed: says where, leaves
//! ```
//!
//! It is a fork of the zygote with one thread around `poll`. It listens to a gateway, trusts nothing
//! that its sandbox says, and keeps the lease on a timer of its own. Output is recorded before it is
//! passed on; nothing queues without bound: a slow gateway blocks the program, a slow program its
//! client. If the shim dies, so does `init`, and the sandbox with it.

mod channel;
mod gateway;
mod holder;
mod privileges;
mod program;
mod record;
mod recorder;
mod remains;
mod reserve;
mod session;
mod signals;
mod timer;

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Signal;
use sojourn_core::end::EndReason;
use sojourn_core::wire::runner::Stage;

use crate::clock;
use crate::container;
use crate::container::ContainerFds;
use crate::control;
use crate::control::Assign;
use crate::control::AssignFds;
use crate::control::Blueprint;
use crate::control::Report;
use crate::control::Told;
use crate::error;
use crate::error::BuildError;
use crate::host;
use crate::init_link::InitImage;
use crate::joined;
use crate::kernel;
use crate::layers::Layers;
use crate::native;
use crate::native::DiskTemplate;
use crate::native::Supplies;
use crate::sandbox::Sandbox;
use crate::seqpacket;
use crate::sys::memory;
pub use record::begin_sidecar;
use session::Room;
use session::Session;

/// The exit status after a mistake of ours.
const BUG: i32 = 70;

/// How long after its birth a shim waits to be told what to make.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// Who waited for a sandbox asks for it within this.
const WANTED_SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How long a sandbox that nobody wants may take to be gone, before it is left to whoever cleans up.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Lives a shim's life in a process of its own, and gives its exit status. `control` leads to the
/// runner that wanted it.
pub fn run(control: OwnedFd, init: InitImage) -> i32 {
    let Ok(signals) = settle() else { return 1 };
    let Some((blueprint, timeout, fds)) = told_what_to_make(&control) else { return 1 };
    let late = clock::mono().after(timeout);
    let mut sandbox = match make(&blueprint, fds, &init, timeout) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            let stage = if clock::mono() >= late { Stage::Timeout } else { stage(&error) };
            report_failure(control.as_fd(), stage, &error.to_string());
            return 1;
        }
    };
    drop(init);
    let ready = Report::Ready { init: sandbox.pid().as_raw_pid().unsigned_abs() };
    let assigned = privileges::drop_all_but_kill()
        .and_then(|()| {
            let parts = sandbox.layers().map(Layers::parts).unwrap_or_default();
            control::send(&control, &ready, &parts)
        })
        .and_then(|()| wait_in_pool(&mut sandbox, control.as_fd(), signals.as_fd()));
    match assigned {
        Ok(Wanted::Assigned(assign, fds)) => {
            serve(Room { assign, fds, sandbox, sandbox_id: blueprint.id(), control, signals })
        }
        Ok(Wanted::Shared(place)) => {
            let held = holder::hold(&mut sandbox, place, control, signals.as_fd());
            i32::from(held.is_err()).max(destroy(sandbox))
        }
        Ok(Wanted::No) => destroy(sandbox),
        Err(error) => {
            report_failure(control.as_fd(), Stage::Init, &error.to_string());
            destroy(sandbox)
        }
    }
}

/// Makes this process what a shim is, and gives the descriptor of its signals.
fn settle() -> io::Result<OwnedFd> {
    rustix::process::setsid()?;
    rustix::thread::set_name(c"sojourn-shim")?;
    memory::keep_large_buffers_apart();
    kernel::detach_stdio(kernel::Output::Nothing)?;
    kernel::ignore(&[Signal::PIPE, Signal::HUP, Signal::INT, Signal::XFSZ]);
    kernel::signal_fd(&[Signal::TERM])
}

fn told_what_to_make(control: &OwnedFd) -> Option<(Blueprint, Duration, Vec<OwnedFd>)> {
    let is_told = seqpacket::wait(control, TOLD_WITHIN).ok()?;
    seqpacket::set_nonblocking(control).ok()?;
    match control::hear(control.as_fd()).ok()? {
        Some(Told::Make(blueprint, timeout, fds)) if is_told => Some((*blueprint, timeout, fds)),
        _ => None,
    }
}

/// Makes the sandbox, of whatever kind it is to be.
fn make(
    blueprint: &Blueprint,
    fds: Vec<OwnedFd>,
    init: &InitImage,
    timeout: Duration,
) -> Result<Sandbox, BuildError> {
    match blueprint {
        Blueprint::Native(profile) => {
            let disk = <[OwnedFd; 2]>::try_from(fds).ok().map(DiskTemplate::from_parts);
            native::build(profile, Supplies { init, disk: disk.as_ref() }, timeout)
        }
        Blueprint::Joined(place) => joined::join(place, fds, timeout),
        Blueprint::Container(profile) => match ContainerFds::from_received(fds) {
            Some(fds) => container::adopt(profile, fds, timeout),
            None => Err(BuildError {
                stage: error::Stage::Prepare,
                message: "a container without its descriptors".to_owned(),
            }),
        },
        Blueprint::Host(profile) => host::build(profile, init, timeout),
    }
}

/// What becomes of a sandbox that waits.
enum Wanted {
    /// It gets a session.
    Assigned(Box<Assign>, AssignFds),
    /// Others get places in it; the first one's socket.
    Shared(OwnedFd),
    /// Nobody wants it any more.
    No,
}

/// Waits for a session.
fn wait_in_pool(
    sandbox: &mut Sandbox,
    control: BorrowedFd<'_>,
    signals: BorrowedFd<'_>,
) -> io::Result<Wanted> {
    let mut soon = Some(WANTED_SOON);
    loop {
        let link = sandbox.link();
        let mut fds =
            [control, signals, link.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, soon.as_ref()))?;
        if ready == 0 {
            // Nobody waits for it, so it has time: what making it took is not needed any more.
            memory::give_back();
            soon = None;
            continue;
        }
        let [told, signalled, init] = fds.map(|fd| !fd.revents().is_empty());
        if signalled && kernel::take_signals(signals, Signal::TERM) {
            return Ok(Wanted::No);
        }
        // Nothing was started, so there is nothing it may say.
        if init {
            match link.recv() {
                Ok(None) => {}
                Ok(Some(_)) => return Err(io::Error::other("init spoke unasked")),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        if told {
            match control::hear(control)? {
                None => {}
                Some(Told::Assign(assign, fds)) => return Ok(Wanted::Assigned(assign, fds)),
                Some(Told::Share(place)) => return Ok(Wanted::Shared(place)),
                Some(_) => return Ok(Wanted::No),
            }
        }
    }
}

/// Serves a session to its end. A mistake of ours costs that session, and leaves no sandbox behind.
fn serve(room: Room) -> i32 {
    let mut session = match Session::begin(room) {
        Ok(session) => session,
        Err(failed) => {
            let (error, sandbox, control) = *failed;
            report_failure(control.as_fd(), Stage::Recording, &error.to_string());
            return destroy(sandbox);
        }
    };
    let mut failed = !matches!(attempt(|| session.run()), Some(Ok(())));
    if failed {
        session.abandon();
    }
    failed |= attempt(|| session.seal_all()).is_none();
    let own = if failed { EndReason::Failed } else { session.own_reason() };
    failed |= attempt(|| session.leave_word(own)).is_none();
    let remains = session.take_remains();
    // Whoever starts next cleans up what cannot be removed.
    let _released = session.release();
    if let Some(remains) = remains {
        remains.wait();
    }
    if failed { BUG } else { 0 }
}

/// Does one thing whose mistakes are to cost no more than itself.
fn attempt<T>(act: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(act)).ok()
}

fn destroy(mut sandbox: Sandbox) -> i32 {
    sandbox.kill();
    let until = clock::mono().after(GONE_WITHIN);
    while !sandbox.is_empty() {
        if clock::mono() >= until {
            return 1;
        }
        // Readable when process 1 has ended; the rest of the time is for its control groups.
        let mut fds = [PollFd::from_borrowed_fd(sandbox.pidfd(), PollFlags::IN)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let _polled = rustix::event::poll(&mut fds, Some(&timeout));
    }
    i32::from(sandbox.release().is_err())
}

fn report_failure(control: BorrowedFd<'_>, stage: Stage, message: &str) {
    let report = Report::Failed { stage, message: message.chars().take(1000).collect() };
    // If the runner is gone, nobody wants to know.
    let _sent = control::send(control, &report, &[]);
}

/// A step of building, as people are told of it.
fn stage(error: &BuildError) -> Stage {
    match error.stage {
        error::Stage::Profile => Stage::Profile,
        error::Stage::Disk | error::Stage::Rootfs => Stage::RootFs,
        error::Stage::Network => Stage::Network,
        error::Stage::Init => Stage::Init,
        error::Stage::Prepare
        | error::Stage::Container
        | error::Stage::Terminals
        | error::Stage::Start => Stage::Container,
    }
}
