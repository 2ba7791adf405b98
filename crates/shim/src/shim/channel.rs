//! One channel of a session: its program's terminal or pipes, and what waits to go in.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::termios::LocalModes;
use sojourn_core::end::Exit;
use sojourn_core::time::Mono;
use sojourn_core::wire::MAX_PAYLOAD;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::FRAME_COST;
use sojourn_core::wire::shim::INPUT_WINDOW;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::WindowSize;
use sojourn_core::wire::shim::cost;
use sojourn_term::cast;
use sojourn_term::sidecar::Moved;

use super::program::Kind;
use super::recorder::Recorder;
use crate::control::InputPolicy;
use crate::pty;

/// Credit is returned in portions of at least this, so that a key typed is not answered by a frame.
const PORTION: u32 = INPUT_WINDOW / 4;

/// Our ends of what a program reads and writes.
pub(super) enum Ends {
    /// The master of its terminal.
    Terminal(OwnedFd),
    /// The same while nobody holds the other side open: nothing can be read or written. It is kept,
    /// since closing it would hang up a program that is just about to end by itself.
    Quiet(OwnedFd),
    /// Pipes; each is none once it is closed.
    Pipes { input: Option<OwnedFd>, output: Option<OwnedFd>, errors: Option<OwnedFd> },
    /// All closed.
    Closed,
}

/// How a channel's program is getting on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// `init` has been asked to start it.
    Starting,
    /// It runs.
    Running,
    /// It ended, as the sandbox claims.
    Ended(Exit),
    /// It never ran.
    Refused,
}

pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) kind: Kind,
    pub(super) life: Life,
    pub(super) ends: Ends,
    pub(super) input: Input,
    /// What the attached gateway still takes of its output; none while it never asked for any, as
    /// one that came back and has nobody to show it to.
    pub(super) credit: Option<u32>,
    pub(super) recorder: Option<Recorder>,
    pub(super) tty: bool,
    /// What was read of its terminal since its leader ended.
    pub(super) afterwards: usize,
    /// Its client closed it: its program is told so when it has taken what was sent before, and then
    /// at the latest.
    pub(super) hang_up_by: Mono,
    /// What went through it.
    pub(super) moved: Moved,
}

impl Channel {
    /// A stream that is still open.
    pub(super) fn output(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match (&self.ends, stream) {
            (Ends::Terminal(master), Stream::Out) => Some(master.as_fd()),
            (Ends::Pipes { output, .. }, Stream::Out) => output.as_ref().map(AsFd::as_fd),
            (Ends::Pipes { errors, .. }, Stream::Err) => errors.as_ref().map(AsFd::as_fd),
            _ => None,
        }
    }

    /// Where input goes, while it does.
    pub(super) fn input_end(&self) -> Option<BorrowedFd<'_>> {
        match &self.ends {
            _ if self.input.closed => None,
            Ends::Terminal(master) => Some(master.as_fd()),
            Ends::Pipes { input, .. } => input.as_ref().map(AsFd::as_fd),
            Ends::Quiet(_) | Ends::Closed => None,
        }
    }

    /// Closes a stream that has ended.
    pub(super) fn close_output(&mut self, stream: Stream) {
        self.ends = match (std::mem::replace(&mut self.ends, Ends::Closed), stream) {
            (Ends::Terminal(master), _) if self.life == Life::Running => {
                self.close_input();
                Ends::Quiet(master)
            }
            (Ends::Pipes { input, errors, .. }, Stream::Out) => {
                Ends::Pipes { input, output: None, errors }
            }
            (Ends::Pipes { input, output, .. }, Stream::Err) => {
                Ends::Pipes { input, output, errors: None }
            }
            (Ends::Terminal(_) | Ends::Quiet(_) | Ends::Closed, _) => Ends::Closed,
        };
    }

    /// Its program has ended, as the sandbox claims. What is left in its terminal is still read.
    pub(super) fn ended(&mut self, exit: Exit) {
        self.close_input();
        self.life = Life::Ended(exit);
        self.ends = match std::mem::replace(&mut self.ends, Ends::Closed) {
            Ends::Quiet(master) => Ends::Terminal(master),
            ends => ends,
        };
    }

    /// Closes the way in.
    pub(super) fn close_input(&mut self) {
        self.input.closed = true;
        self.input.forget();
        if let Ends::Pipes { input, .. } = &mut self.ends {
            *input = None;
        }
    }

    /// Nobody hears it any more; what its program was sent before is still to be taken.
    pub(super) fn close_by(&mut self, at: Mono) {
        self.hang_up_by = self.hang_up_by.min(at);
    }

    /// Whether its client closed it and its program has not been told yet.
    pub(super) fn is_closing(&self) -> bool {
        self.hang_up_by < Mono::NEVER
    }

    /// Whether its program is to be told now that its client is gone.
    pub(super) fn is_to_hang_up(&self, now: Mono) -> bool {
        self.is_closing() && (now >= self.hang_up_by || !self.input.waits())
    }

    /// Closes everything.
    pub(super) fn close(&mut self) {
        self.close_input();
        self.hang_up_by = Mono::NEVER;
        self.ends = Ends::Closed;
    }

    /// How many bytes of output may be read to be passed on; none: they are only recorded.
    pub(super) fn room(&self) -> Option<usize> {
        let left = self.credit.filter(|_| !self.is_closing())?.saturating_sub(FRAME_COST);
        Some(usize::try_from(left).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD))
    }

    /// Takes more credit for output.
    pub(super) fn grant(&mut self, credit: u32) {
        self.credit = Some(self.credit.unwrap_or(0).saturating_add(credit));
    }

    /// Its person is there again, with so much credit: where the recording stands, and what of a
    /// character is not in it yet.
    pub(super) fn attach(&mut self, credit: u32) -> (Attached, Vec<u8>) {
        // A client that sent no more is gone; this is another.
        self.input.eof = false;
        self.credit = Some(credit);
        let cut = self.cut_character();
        if !cut.is_empty() {
            self.spend(cut.len());
        }
        (self.place(), cut)
    }

    /// Where its recording and its terminal stand.
    pub(super) fn place(&self) -> Attached {
        let size = match &self.ends {
            Ends::Terminal(master) | Ends::Quiet(master) => pty::size(master).unwrap_or_default(),
            _ => WindowSize::default(),
        };
        let (file, offset) = self.recorder.as_ref().map(Recorder::place).unwrap_or_default();
        let printed = self.moved.output.saturating_sub(self.cut_character().len() as u64);
        Attached { file, offset, size, printed }
    }

    fn cut_character(&self) -> Vec<u8> {
        self.recorder.as_ref().map_or(Vec::new(), |recorder| recorder.cut_character().to_vec())
    }

    /// Spends credit on a frame of output; false when none is to be passed on.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        self.credit = self.credit.map(|credit| credit.saturating_sub(cost(bytes)));
        self.credit.is_some() && !self.is_closing()
    }

    /// Whether its program has ended and all of its output has been read.
    pub(super) fn is_over(&self) -> bool {
        let read = self.output(Stream::Out).is_none() && self.output(Stream::Err).is_none();
        self.life == Life::Refused || (matches!(self.life, Life::Ended(_)) && read)
    }

    /// Whether its terminal's reader has ended and what is left in it has to be read without being
    /// told: others may hold the terminal open for ever.
    pub(super) fn is_draining(&self) -> bool {
        matches!((&self.life, &self.ends), (Life::Ended(_), Ends::Terminal(_)))
    }

    /// Writes input as far as the program takes it. False: it takes no more, ever.
    pub(super) fn write_input(&mut self) -> bool {
        let Self { ends, input, .. } = self;
        let end = match ends {
            Ends::Terminal(master) => master,
            Ends::Pipes { input: Some(end), .. } => end,
            _ => return true,
        };
        match input.write(end.as_fd()) {
            Ok(()) => {}
            // A terminal's hang-up is told by its output.
            Err(Errno::IO) if self.tty => self.input.forget(),
            Err(_) => return false,
        }
        if self.input.eof && self.input.queue.is_empty() && !self.tty {
            self.close_input();
        }
        true
    }

    /// Nothing more will come to be written: what waits is, then a pipe is closed. A terminal is
    /// not hung up for that.
    pub(super) fn end_input(&mut self) {
        self.input.eof = true;
        // Whether the program takes it is told when it is written.
        let _open = self.write_input();
    }

    /// Records input as the policy wants it.
    pub(super) fn record_input(
        &mut self,
        now: Mono,
        policy: InputPolicy,
        bytes: &[u8],
    ) -> io::Result<()> {
        let is_recorded = policy != InputPolicy::Nothing && self.kind == Kind::Program;
        if !is_recorded || self.input.closed || self.input.eof {
            return Ok(());
        }
        let asked = self.hides_input();
        match &mut self.recorder {
            Some(recorder) if asked && policy == InputPolicy::Masked => {
                recorder.hidden_input(now, bytes.len())
            }
            Some(recorder) if asked => recorder.secret(now, bytes),
            Some(recorder) => recorder.data(now, cast::Stream::Input, bytes),
            None => Ok(()),
        }
    }

    /// Gives the terminal a new size. A failure is one of the recording.
    pub(super) fn resize(&mut self, now: Mono, size: WindowSize) -> io::Result<()> {
        let Ends::Terminal(master) = &self.ends else { return Ok(()) };
        match (pty::resize(master, size), &mut self.recorder) {
            (Ok(()), Some(recorder)) => recorder.resize(now, size),
            // A terminal that is gone has no size.
            _ => Ok(()),
        }
    }

    /// Whether its terminal asks for a password: it takes lines and shows nothing.
    fn hides_input(&self) -> bool {
        let Ends::Terminal(master) = &self.ends else { return false };
        rustix::termios::tcgetattr(master).is_ok_and(|settings| {
            settings.local_modes.contains(LocalModes::ICANON)
                && !settings.local_modes.contains(LocalModes::ECHO)
        })
    }
}

/// What waits to be written to a program, bounded by the credit it was sent on.
#[derive(Default)]
pub(super) struct Input {
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first that are written.
    written: usize,
    /// Credit spent by the gateway and not returned.
    spent: u32,
    /// Of that, what may be returned.
    owed: u32,
    /// Nothing more will come.
    pub(super) eof: bool,
    /// The program takes no more.
    pub(super) closed: bool,
}

impl Input {
    /// Takes a frame of input. False: the gateway had no credit for it.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        // A sender may overdraw by one frame: it need not know what ours will cost.
        if self.spent > INPUT_WINDOW {
            return false;
        }
        let cost = cost(bytes.len());
        self.spent = self.spent.saturating_add(cost);
        if self.closed || self.eof || bytes.is_empty() {
            self.owed = self.owed.saturating_add(cost);
        } else {
            self.queue.push_back(bytes.to_vec());
        }
        true
    }

    /// Whether something waits.
    pub(super) fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    fn write(&mut self, end: BorrowedFd<'_>) -> Result<(), Errno> {
        while let Some(first) = self.queue.front() {
            match rustix::io::write(end, &first[self.written..]) {
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Ok(written) => self.written += written,
                Err(error) => return Err(error),
            }
            if self.written == first.len() {
                self.owed = self.owed.saturating_add(cost(first.len()));
                self.queue.pop_front();
                self.written = 0;
            }
        }
        if self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
        Ok(())
    }

    /// Drops what waits.
    fn forget(&mut self) {
        let waiting: u32 = self.queue.iter().map(|frame| cost(frame.len())).sum();
        self.owed = self.owed.saturating_add(waiting);
        self.queue = VecDeque::new();
        self.written = 0;
    }

    /// Credit to return now, if it is worth a frame.
    pub(super) fn returned(&mut self) -> Option<u32> {
        if self.owed < PORTION {
            return None;
        }
        let owed = std::mem::take(&mut self.owed);
        self.spent = self.spent.saturating_sub(owed);
        Some(owed)
    }

    /// The credit of a gateway that comes new.
    pub(super) fn credit_anew(&mut self) -> u32 {
        self.spent = self.spent.saturating_sub(std::mem::take(&mut self.owed));
        INPUT_WINDOW.saturating_sub(self.spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_bounded_by_its_credit_and_gives_it_back() {
        let mut input = Input::default();
        let frame = vec![7; MAX_PAYLOAD];
        let mut taken = 0;
        while input.push(&frame) {
            taken += cost(frame.len());
        }
        assert!(taken <= INPUT_WINDOW + cost(MAX_PAYLOAD));
        assert_eq!(input.returned(), None, "nothing was written yet");
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut back = 0;
        while input.waits() {
            input.write(write.as_fd()).unwrap();
            back += input.returned().unwrap_or(0);
            while rustix::io::read(&read, &mut [0; 65536]).is_ok() {}
        }
        back += input.credit_anew().saturating_sub(INPUT_WINDOW - taken.min(INPUT_WINDOW));
        assert!(back >= taken - INPUT_WINDOW, "{back} of {taken}");
        assert!(input.push(b"more"));
    }
}
