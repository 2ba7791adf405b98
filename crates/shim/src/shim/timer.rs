//! One timer on the boot-time clock, so that a machine's sleep counts against a lease.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::time::Itimerspec;
use rustix::time::TimerfdClockId;
use rustix::time::TimerfdFlags;
use rustix::time::TimerfdTimerFlags;
use rustix::time::Timespec;
use sojourn_core::time::Mono;

/// Readable when its time has come, or a little earlier than asked: whoever waits looks at the clock
/// and arms it anew. So a time that only moves later, as with each key typed, costs nothing.
pub(super) struct Timer {
    fd: OwnedFd,
    armed: Mono,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self { fd, armed: Mono::NEVER })
    }

    /// Sees to it that it fires no later than `at`.
    pub(super) fn arm(&mut self, at: Mono) -> io::Result<()> {
        if at >= self.armed {
            return Ok(());
        }
        // A time of zero would disarm it.
        let micros = i64::try_from(at.0.max(1)).unwrap_or(i64::MAX);
        let value = Timespec { tv_sec: micros / 1_000_000, tv_nsec: micros % 1_000_000 * 1000 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &once)?;
        self.armed = at;
        Ok(())
    }

    /// Takes note that it has fired.
    pub(super) fn clear(&mut self) {
        // Nothing to read: it has not fired after all, and stays armed.
        if rustix::io::read(&self.fd, &mut [0; 8]).is_ok() {
            self.armed = Mono::NEVER;
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
