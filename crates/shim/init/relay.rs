//! Copies between standard input and output and a socket, both ways, each to its own end.

use crate::kernel;
use crate::kernel::Errno;
use crate::kernel::Fd;
use crate::kernel::sockets;
use crate::kernel::sockets::POLLIN;
use crate::kernel::sockets::POLLOUT;
use crate::kernel::sockets::Polled;

const INPUT: Fd = 0;
const OUTPUT: Fd = 1;

/// One way: what was read and not yet written. Nothing is read before all of that is.
struct Way<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
    /// More may come.
    open: bool,
    /// All that came was written, or will never be.
    done: bool,
}

impl<'a> Way<'a> {
    fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, start: 0, end: 0, open: true, done: false }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn wants_more(&self) -> bool {
        self.open && self.is_empty()
    }

    fn fill(&mut self, from: Fd) {
        match kernel::read(from, self.buffer) {
            Ok(length) if length > 0 => (self.start, self.end) = (0, length),
            Err(kernel::EAGAIN) => {}
            _ => self.open = false,
        }
    }

    fn drain(&mut self, write: impl FnOnce(&[u8]) -> Result<usize, Errno>) {
        match write(self.buffer.get(self.start..self.end).unwrap_or_default()) {
            Ok(length) => self.start += length,
            Err(kernel::EAGAIN) => {}
            Err(_) => (self.start, self.end, self.open) = (0, 0, false),
        }
    }

    /// Whether it has just come to its end.
    fn ends(&mut self) -> bool {
        let ends = !self.done && !self.open && self.is_empty();
        self.done |= ends;
        ends
    }
}

/// Copies until both ways have ended, and gives the exit status.
pub(crate) fn relay(socket: Fd, room: &mut [u8]) -> i32 {
    let half = room.len() / 2;
    let Some((up, down)) = room.split_at_mut_checked(half) else { return 70 };
    let (mut up, mut down) = (Way::new(up), Way::new(down));
    if [INPUT, OUTPUT, socket].iter().any(|fd| sockets::set_nonblocking(*fd).is_err()) {
        return 70;
    }
    sockets::send_at_once(socket);
    while !(up.done && down.done) {
        let mut polled = interests(&up, &down, socket);
        sockets::wait(&mut polled, None);
        let [input, connection, output] = polled.map(|polled| polled.happened());
        // Nobody takes what comes, or the other side is gone for good while only that counted.
        if (output && down.is_empty()) || (connection && down.done && up.is_empty()) {
            return 1;
        }
        if input {
            up.fill(INPUT);
        }
        if connection && down.wants_more() {
            down.fill(socket);
        }
        // What was just read is tried at once; mostly there is room.
        if !up.is_empty() {
            up.drain(|bytes| sockets::send_some(socket, bytes));
        }
        if !down.is_empty() {
            down.drain(|bytes| kernel::write(OUTPUT, bytes));
        }
        if up.ends() {
            sockets::end_sending(socket);
            kernel::close(INPUT);
        }
        if down.ends() {
            kernel::close(OUTPUT);
        }
    }
    0
}

/// What is waited for. Of a descriptor of which nothing is wanted, only that it is gone for good,
/// and only where that is of use: it would be told again and again.
fn interests(up: &Way<'_>, down: &Way<'_>, socket: Fd) -> [Polled; 3] {
    let read = if down.wants_more() { POLLIN } else { 0 };
    let write = if up.is_empty() { 0 } else { POLLOUT };
    let connection = match read | write {
        0 if down.done && !up.done => Polled::new(socket, 0),
        0 => Polled::nothing(),
        events => Polled::new(socket, events),
    };
    let input = if up.wants_more() { Polled::new(INPUT, POLLIN) } else { Polled::nothing() };
    let output = match (down.done, down.is_empty()) {
        (true, _) => Polled::nothing(),
        (false, true) => Polled::new(OUTPUT, 0),
        (false, false) => Polled::new(OUTPUT, POLLOUT),
    };
    [input, connection, output]
}
