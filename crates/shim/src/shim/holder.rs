//! A shim that holds a sandbox for others: each of its sessions has a shim and a place of its own
//! ([`crate::joined`]), and no session ends with another.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Signal;

use crate::control;
use crate::control::Report;
use crate::control::Told;
use crate::kernel;
use crate::sandbox::Sandbox;

/// How often a holder whose runner is gone looks whether its sandbox is deserted.
const ROUND: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Gives places to whom the runner says, the first to `place`. Comes back when nobody wants the
/// sandbox any more: when the runner lets go of it, or is gone and the last session is over.
///
/// # Errors
/// When `init` broke its protocol or ended, which takes the sandbox along.
pub(super) fn hold(
    sandbox: &mut Sandbox,
    place: OwnedFd,
    control: OwnedFd,
    signals: BorrowedFd<'_>,
) -> io::Result<()> {
    give(sandbox, &place, &control)?;
    drop(place);
    let mut control = Some(control);
    loop {
        let link = sandbox.link();
        // Without a runner, `init` is looked at twice.
        let runner = control.as_ref().map_or(link.as_fd(), AsFd::as_fd);
        let mut fds =
            [runner, signals, link.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let timeout = control.is_none().then_some(&ROUND);
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout))?;
        let [told, signalled, init] = fds.map(|fd| !fd.revents().is_empty());
        if signalled && kernel::take_signals(signals, Signal::TERM) {
            return Ok(());
        }
        // Its own programs are none, so there is nothing it may say.
        if init && link.recv().map_err(io::Error::other)?.is_some() {
            return Err(io::Error::other("init spoke unasked"));
        }
        let Some(runner) = control.as_ref().filter(|_| told) else {
            if control.is_none() && sandbox.is_deserted() {
                return Ok(());
            }
            continue;
        };
        match control::hear(runner.as_fd()) {
            Ok(None) => {}
            Ok(Some(Told::Share(place))) => give(sandbox, &place, runner)?,
            Ok(Some(Told::Leave)) => return Ok(()),
            // Its sessions go on; nobody comes to them any more.
            _ => control = None,
        }
    }
}

fn give(sandbox: &mut Sandbox, place: &OwnedFd, runner: &OwnedFd) -> io::Result<()> {
    sandbox.share(place.as_fd())?;
    // A runner that does not hear it is gone, which is told by its socket.
    let _gone = control::send(runner, &Report::Shared, &[sandbox.ptmx()]);
    Ok(())
}
