//! What a shim stays for when its session is over: until a runner has read what the sandbox left, the
//! shim holds it, so that the death of a runner does not take it along.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::net::SocketFlags;
use rustix::process::Signal;

use crate::clock;
use crate::control;
use crate::control::Report;
use crate::control::Told;
use crate::kernel;
use crate::layers::Layers;
#[cfg(test)]
use crate::seqpacket;

/// How long a session that is over keeps memory and disk for a runner. One that is started again
/// comes within seconds; this is for a gateway that somebody has to start.
const WAIT: Duration = Duration::from_secs(3600);

pub(super) struct Remains {
    pub(super) layers: Layers,
    /// To the runner, while there is one.
    pub(super) control: Option<OwnedFd>,
    /// Where the next one comes.
    pub(super) comeback: OwnedFd,
    pub(super) signals: OwnedFd,
}

impl Remains {
    /// Waits until a runner says that nothing needs this shim any more, or for too long.
    pub(super) fn wait(mut self) {
        let until = clock::mono().after(WAIT);
        if let Some(control) = &self.control
            && control::send(control, &Report::Over, &[]).is_err()
        {
            self.control = None;
        }
        loop {
            let left = until.since(clock::mono());
            let Ok(timeout) = Timespec::try_from(left) else { return };
            if left.is_zero() {
                return;
            }
            let runner = self.control.as_ref().unwrap_or(&self.comeback).as_fd();
            let mut fds = [runner, self.signals.as_fd()]
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            let polled = rustix::event::poll(&mut fds, Some(&timeout));
            let [runner, signalled] = fds.map(|fd| !fd.revents().is_empty());
            match polled {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            if signalled && kernel::take_signals(self.signals.as_fd(), Signal::TERM) {
                return;
            }
            if runner && self.is_dismissed() {
                return;
            }
        }
    }

    fn is_dismissed(&mut self) -> bool {
        let Some(control) = &self.control else {
            self.control = accept(self.comeback.as_fd())
                .filter(|runner| tell(runner, &Report::Over, Some(&self.layers)).is_ok());
            return false;
        };
        match control::hear(control.as_fd()) {
            Ok(Some(Told::Leave)) => return true,
            // Too late for the sidecar.
            Ok(None | Some(Told::Note(_))) => {}
            _ => self.control = None,
        }
        false
    }
}

/// The runner that waits at `comeback`; none when none does, or it is not root or our own user.
pub(super) fn accept(comeback: BorrowedFd<'_>) -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let runner = rustix::net::accept_with(comeback, flags).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&runner).ok()?;
    let known = peer.uid.is_root() || peer.uid == rustix::process::geteuid();
    known.then_some(runner)
}

/// The first word to a later runner.
pub(super) fn tell(runner: &OwnedFd, report: &Report, layers: Option<&Layers>) -> io::Result<()> {
    control::send(runner, report, &layers.map(Layers::parts).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::control::Order;

    fn remains(control: Option<OwnedFd>, comeback: OwnedFd) -> Remains {
        let upper = File::open("/").unwrap().into();
        let signals = kernel::signal_fd(&[Signal::TERM]).unwrap();
        Remains { layers: Layers { upper, lowers: Vec::new() }, control, comeback, signals }
    }

    #[test]
    fn a_later_runner_gets_the_layers_and_sends_the_shim_home() {
        let directory = std::env::temp_dir().join(format!("remains-{}", std::process::id()));
        let address = rustix::net::SocketAddrUnix::new(&directory).unwrap();
        let socket = || {
            let (unix, kind) =
                (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET);
            rustix::net::socket_with(unix, kind, SocketFlags::CLOEXEC, None).unwrap()
        };
        let comeback = socket();
        rustix::net::bind(&comeback, &address).unwrap();
        rustix::net::listen(&comeback, 1).unwrap();
        seqpacket::set_nonblocking(&comeback).unwrap();
        let (first, its_end) = seqpacket::pair().unwrap();
        seqpacket::set_nonblocking(&its_end).unwrap();
        let shim = std::thread::spawn(|| remains(Some(its_end), comeback).wait());
        let (report, fds) = control::recv::<Report>(&first).unwrap().unwrap();
        assert_eq!((report, fds.len()), (Report::Over, 0), "the first has its layers");
        drop(first);
        let second = socket();
        rustix::net::connect(&second, &address).unwrap();
        let (report, fds) = control::recv::<Report>(&second).unwrap().unwrap();
        assert_eq!((report, fds.len()), (Report::Over, 1));
        control::send(&second, &Order::Leave, &[]).unwrap();
        shim.join().unwrap();
        std::fs::remove_file(directory).unwrap();
    }
}
