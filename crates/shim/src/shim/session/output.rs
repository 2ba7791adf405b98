//! From a program to the recording, the lease and the gateway, in this order.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use sojourn_core::wire::MAX_PAYLOAD;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::Stream;
use sojourn_term::cast;

use super::Phase;
use super::Session;
use crate::shim::channel::Channel;
use crate::shim::channel::Ends;
use crate::shim::channel::Life;
use crate::shim::program::Kind;

/// What is read of one stream when everything has ended: more than any terminal or pipe holds.
const MAX_REST: usize = 2 << 20;

/// What is read of a terminal after its leader ended: more than fits one, so all that the leader
/// printed. Others may go on printing for ever.
const MAX_AFTERWARDS: usize = 256 << 10;

/// A terminal gives no more than some 4 kB at once. Whoever printed so much is likely to go on.
const MUCH: usize = 2 << 10;

/// What a read of a program's output came to.
enum Read {
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// It has ended.
    End,
}

impl Session {
    /// How much of a channel's output may be read now. What is passed on: as the gateway granted,
    /// while nothing waits to be sent. What is not, because no gateway is attached, or it never asked
    /// for this channel, or the session ends: everything, for the recording.
    pub(super) fn room(&self, channel: &Channel) -> usize {
        if channel.life == Life::Starting {
            return 0;
        }
        match (&self.gateway, self.phase, channel.room()) {
            (Some(gateway), Phase::Live, Some(room)) => {
                if gateway.is_clear() {
                    room
                } else {
                    0
                }
            }
            _ => MAX_PAYLOAD,
        }
    }

    /// Reads a stream once.
    pub(super) fn pump(&mut self, index: usize, stream: Stream) {
        let Some(room) = self.channels.get(index).map(|channel| self.room(channel)) else { return };
        if room == 0 {
            return;
        }
        let mut buf = self.take_buffer();
        match self.read(index, stream, &mut buf[..room]) {
            Read::Bytes(len) => self.take_output(index, stream, &buf[..len]),
            Read::Nothing => {}
            Read::End => {
                let channel = &mut self.channels[index];
                channel.close_output(stream);
                let number = channel.number;
                // More may come of a quiet terminal.
                if !matches!(channel.ends, Ends::Quiet(_)) {
                    self.tell(&FromShim::OutputEof(number, stream));
                }
            }
        }
        self.buffer = buf;
    }

    fn read(&self, index: usize, stream: Stream, buf: &mut [u8]) -> Read {
        let channel = &self.channels[index];
        let Some(fd) = channel.output(stream) else { return Read::Nothing };
        match rustix::io::read(fd, &mut *buf) {
            Ok(_) if channel.afterwards > MAX_AFTERWARDS => Read::End,
            Ok(0) => Read::End,
            Ok(len) if channel.tty => Read::Bytes(len + read_on(fd, len, buf)),
            Ok(len) => Read::Bytes(len),
            // What its leader printed is here by now, so a terminal that is empty ends with it,
            // whoever else may hold it open.
            Err(Errno::AGAIN) if channel.is_draining() => Read::End,
            Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
            // A terminal that nobody holds open any more says EIO.
            Err(_) => Read::End,
        }
    }

    fn take_output(&mut self, index: usize, stream: Stream, bytes: &[u8]) {
        let now = self.now;
        let channel = &mut self.channels[index];
        let (number, tty) = (channel.number, channel.tty);
        channel.moved.output += bytes.len() as u64;
        if channel.is_draining() {
            channel.afterwards += bytes.len();
        }
        let recorder = channel.recorder.as_mut().filter(|_| channel.kind == Kind::Program);
        let recorded = recorder.map_or(Ok(()), |recorder| {
            let stream = match stream {
                Stream::Out => cast::Stream::Output,
                Stream::Err => cast::Stream::Errors,
            };
            recorder.data(now, stream, bytes)
        });
        self.heed_recording(recorded);
        let within_limit = self.count_output(tty, bytes.len());
        if let Some(gateway) = self.gateway.as_mut().filter(|_| self.phase == Phase::Live)
            && within_limit > 0
            && self.channels[index].spend(within_limit)
        {
            gateway.pass(number, stream, &bytes[..within_limit]);
        }
        self.keep_lease();
    }

    /// Counts output against the lease; says how much of it the lease allows.
    fn count_output(&mut self, tty: bool, len: usize) -> usize {
        let Some(lease) = &mut self.lease else { return len };
        if !tty {
            lease.touch_transfer(self.now);
            return len;
        }
        let left = lease.limits().max_output.map(|max| max.saturating_sub(lease.output()));
        lease.count_output(u64::try_from(len).unwrap_or(u64::MAX), self.now);
        left.map_or(len, |left| usize::try_from(left).unwrap_or(usize::MAX).min(len))
    }

    /// Whether a terminal without its leader is to be read without being told.
    pub(super) fn has_terminal_to_drain(&self) -> bool {
        self.channels.iter().any(|channel| channel.is_draining() && self.room(channel) > 0)
    }

    pub(super) fn drain_terminals(&mut self) {
        for index in 0..self.channels.len() {
            if self.channels[index].is_draining() {
                self.pump(index, Stream::Out);
            }
        }
    }

    /// Reads and records what is left when no program is.
    pub(super) fn read_the_rest(&mut self) {
        for index in 0..self.channels.len() {
            for stream in [Stream::Out, Stream::Err] {
                let mut left = MAX_REST;
                let mut buf = self.take_buffer();
                while let Read::Bytes(len) = self.read(index, stream, &mut buf[..MAX_PAYLOAD]) {
                    self.take_output(index, stream, &buf[..len]);
                    left = left.saturating_sub(len);
                    if left == 0 {
                        break;
                    }
                }
                self.buffer = buf;
            }
        }
    }

    /// Says of channels whose programs have ended, and whose output has all been passed on, how.
    pub(super) fn settle_channels(&mut self) {
        let mut index = 0;
        while let Some(channel) = self.channels.get(index) {
            if !channel.is_over() {
                index += 1;
                continue;
            }
            let mut channel = self.channels.remove(index);
            if let Life::Ended(exit) = &channel.life {
                self.tell(&FromShim::Exit(channel.number, exit.clone()));
            }
            self.seal(&mut channel);
            self.note_busy();
        }
        let idle = self.channels.is_empty() && self.gateway.is_none();
        if idle && self.lease.is_some() && self.phase == Phase::Live {
            self.end(self.own_reason(), false);
        }
    }

    /// A program without a terminal is at work for as long as it runs; files and forwards are not.
    pub(super) fn note_busy(&mut self) {
        let at_work = |channel: &Channel| channel.kind == Kind::Program && !channel.tty;
        let busy = self.channels.iter().any(at_work);
        if let Some(lease) = &mut self.lease {
            lease.set_busy(busy, self.now);
        }
    }
}

/// Reads what more a terminal has after `len` bytes, without waiting: one line of the recording and one
/// frame for many reads. Whatever ends it comes up again at the next.
fn read_on(terminal: BorrowedFd<'_>, len: usize, buf: &mut [u8]) -> usize {
    let mut rest = buf.get_mut(len..).unwrap_or_default();
    let (mut last, mut more) = (len, 0);
    while last >= MUCH && !rest.is_empty() {
        let Ok(read) = rustix::io::read(terminal, &mut *rest) else { break };
        last = read;
        more += read;
        rest = rest.get_mut(read..).unwrap_or_default();
    }
    more
}
