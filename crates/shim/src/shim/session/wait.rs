//! What a session waits for.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use sojourn_core::time::Mono;
use sojourn_core::wire::shim::Stream;

use super::Phase;
use super::Session;
use crate::clock;
use crate::shim::gateway::Gateway;

/// How often it is looked whether programs that were told to end have done so.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Something that poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Signals,
    Timer,
    Control,
    Comeback,
    Listener,
    Gateway,
    Init,
    Output(usize, Stream),
    Input(usize),
    /// The other end of a pipe that input goes to is closed.
    InputEnded(usize),
}

/// How long a terminal's answer to a key is looked for before the shim sleeps. Where everybody sleeps
/// from key to key, it takes longer to be woken than a terminal takes to answer.
const ANSWER: Duration = Duration::from_micros(150);

/// More than this at once is no key, in bytes.
const KEY: usize = 16;

/// Looks until something is ready, but not beyond `by`. Whoever else wants the processor gets it.
fn look(fds: &mut [PollFd<'_>], by: Mono) -> io::Result<bool> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    while clock::mono() < by {
        if rustix::io::retry_on_intr(|| rustix::event::poll(fds, Some(&at_once)))? > 0 {
            return Ok(true);
        }
        rustix::thread::sched_yield();
    }
    Ok(false)
}

impl Session {
    /// Waits until something is ready or due.
    pub(super) fn wait(&mut self) -> io::Result<Vec<Source>> {
        let due = self.due();
        self.timer.arm(due)?;
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = (due <= self.now || self.has_terminal_to_drain()).then_some(at_once);
        let (sources, mut fds): (Vec<_>, Vec<_>) = self
            .sources()
            .into_iter()
            .map(|(source, fd, flags)| (source, PollFd::from_borrowed_fd(fd, flags)))
            .unzip();
        if timeout.is_some() || !look(&mut fds, self.answer_by)? {
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout.as_ref()))?;
        }
        let ready = sources.into_iter().zip(fds).filter(|(_, fd)| !fd.revents().is_empty());
        let ready = ready.map(|(source, fd)| match source {
            Source::Input(index) if fd.revents().contains(PollFlags::ERR) => {
                Source::InputEnded(index)
            }
            _ => source,
        });
        let ready: Vec<_> = ready.collect();
        if ready.iter().any(|source| matches!(source, Source::Output(..))) {
            self.answer_by = self.now;
        }
        Ok(ready)
    }

    /// What is waited for. A descriptor that nothing is wanted of now is left out: poll reports a
    /// hang-up whether or not it was asked for. The runner comes before the gateway: what it has to
    /// say of an end comes before that end.
    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::with_capacity(8 + self.channels.len() * 3);
        all.push((Source::Signals, self.signals.as_fd(), PollFlags::IN));
        all.push((Source::Timer, self.timer.as_fd(), PollFlags::IN));
        if let Some(control) = &self.control {
            all.push((Source::Control, control.as_fd(), PollFlags::IN));
        }
        if let (Some(comeback), None) = (&self.comeback, &self.control) {
            all.push((Source::Comeback, comeback.as_fd(), PollFlags::IN));
        }
        all.push((Source::Listener, self.listener.as_fd(), PollFlags::IN));
        if let Some(gateway) = &self.gateway {
            let write = if gateway.is_clear() { PollFlags::empty() } else { PollFlags::OUT };
            all.push((Source::Gateway, gateway.as_fd(), PollFlags::IN | write));
        }
        match self.phase {
            // The link to a dead process is readable for ever; now it is process 1 that counts.
            Phase::Killing { init_ended: true, .. } => {}
            Phase::Killing { .. } => all.push((Source::Init, self.sandbox.pidfd(), PollFlags::IN)),
            _ => all.push((Source::Init, self.init.as_fd(), PollFlags::IN)),
        }
        for (index, channel) in self.channels.iter().enumerate() {
            for stream in [Stream::Out, Stream::Err] {
                let wanted = self.room(channel) > 0;
                if let Some(fd) = channel.output(stream).filter(|_| wanted) {
                    all.push((Source::Output(index, stream), fd, PollFlags::IN));
                }
            }
            if let Some(fd) = channel.input_end() {
                match (channel.input.waits(), channel.tty) {
                    (true, _) => all.push((Source::Input(index), fd, PollFlags::OUT)),
                    // A pipe whose reader is gone says so unasked.
                    (false, false) => all.push((Source::Input(index), fd, PollFlags::empty())),
                    (false, true) => {}
                }
            }
        }
        all
    }

    /// Input went to a terminal.
    pub(super) fn expect_answer(&mut self, input: &[u8]) {
        if input.len() <= KEY {
            self.answer_by = clock::mono().after(ANSWER);
        }
    }

    /// When something has to be looked at, whether or not anything happens.
    fn due(&self) -> Mono {
        let mut due = self.record.sync_at();
        for channel in &self.channels {
            due = due.min(channel.recorder.as_ref().map_or(Mono::NEVER, |r| r.sync_at()));
            due = due.min(channel.hang_up_by);
        }
        if let Some(hello_by) = self.gateway.as_ref().and_then(Gateway::hello_by) {
            due = due.min(hello_by);
        }
        if let Some(lease) = &self.lease {
            due = due.min(lease.next_wake());
        } else if self.gateway.is_none() {
            due = due.min(self.attach_by);
        }
        match self.phase {
            Phase::Live => due,
            Phase::Ending => due.min(self.now.after(LOOK_EVERY)),
            Phase::Killing { again_at, .. } => again_at.min(self.now.after(LOOK_EVERY)),
        }
    }
}
