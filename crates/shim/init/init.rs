//! Process 1 of every sandbox: starts programs, reaps everything, reports how programs ended.
//!
//! It stands on `core` alone, without a C library, because it is most of what a sandbox that waits
//! for its guest costs in memory. It owns nothing worth taking: terminals and pipes are made outside
//! and arrive as open descriptors; none is ever sent back. It speaks over one socket, inherited or
//! connected to at its start (the other side and the messages are in `src/init_link/`), and ends, and
//! the sandbox with it, when that closes.

#![no_std]
#![no_main]
// Or the loops that copy memory would be compiled into calls of themselves.
#![no_builtins]

mod authority;
mod connect;
mod display;
mod dns;
mod endpoint;
mod files;
mod input;
mod kernel;
mod listeners;
mod program;
mod relay;
mod request;
mod resolve;
mod text;

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::ptr::null;

use endpoint::Endpoint;
use input::Input;
use kernel::sockets::Address;
use kernel::sockets::POLLIN;
use kernel::sockets::Polled;
use listeners::Listeners;
use program::Program;
use text::Text;

use kernel::Errno;
use kernel::Fd;
use kernel::Pid;
use kernel::Received;

/// Raised when either side of the protocol changes.
const VERSION: u8 = 3;
/// The socket to the shim: the one descriptor kept across the exec.
const SHIM: Fd = 3;
/// Programs that may lead a channel at a time; more are refused with `EAGAIN`.
const MAX_CHANNELS: usize = 64;
/// The longest message.
const MAX_MESSAGE: usize = 64 * 1024;
/// The longest command line of our own.
const MAX_LINE: usize = 512;
/// Each string of a message takes three bytes or more; each of the two lists ends with a null.
const MAX_STRINGS: usize = MAX_MESSAGE / 3 + 2;

// shim -> init
const START: u8 = 1;
const SIGNAL: u8 = 2;
const FILES: u8 = 3;
const CONNECT: u8 = 4;
const LISTEN: u8 = 5;
const UNLISTEN: u8 = 6;
const ACCEPT: u8 = 7;
const SHARE: u8 = 16;
// init -> shim
const READY: u8 = 1;
const STARTED: u8 = 2;
const REFUSED: u8 = 3;
const EXITED: u8 = 4;
const LISTENING: u8 = 5;
const NOT_LISTENING: u8 = 6;

/// The first process of a channel.
#[derive(Clone, Copy)]
struct Leader {
    channel: u16,
    pid: Pid,
    terminal: bool,
}

/// The channels with a program.
struct Leaders([Option<Leader>; MAX_CHANNELS]);

/// All that is held for the shim.
struct Held {
    leaders: Leaders,
    listeners: Listeners,
}

/// Memory that is touched, and so costs anything, only as far as it is used.
struct Scratch<T>(UnsafeCell<T>);

// SAFETY: this process has one thread.
unsafe impl<T> Sync for Scratch<T> {}

static MESSAGE: Scratch<[u8; MAX_MESSAGE]> = Scratch(UnsafeCell::new([0; MAX_MESSAGE]));
/// What the helpers work with; `init` itself never touches it.
static ROOM: Scratch<[u8; files::ROOM]> = Scratch(UnsafeCell::new([0; files::ROOM]));
static STRINGS: Scratch<[*const u8; MAX_STRINGS]> = Scratch(UnsafeCell::new([null(); MAX_STRINGS]));

/// Where `kernel`'s start code goes.
#[unsafe(link_section = ".waiting")]
fn main() -> i32 {
    let Ok(mut children) = prepare() else { return 70 };
    let mut held = Held::nothing();
    send(&[READY, VERSION]);
    loop {
        let mut polled = [SHIM, children].map(|fd| Polled::new(fd, POLLIN));
        kernel::sockets::wait(&mut polled, None);
        let [told, ended] = polled.map(|polled| polled.happened());
        if ended {
            reap(children, &mut held.leaders);
        }
        if told && let Err(status) = hear(&mut held, &mut children) {
            return status;
        }
    }
}

/// Hears the shim; an exit status when that is over.
#[inline(never)]
fn hear(held: &mut Held, children: &mut Fd) -> Result<(), i32> {
    // SAFETY: taken here alone, which does not call itself, by the only thread.
    let (message, strings) = unsafe { (&mut *MESSAGE.0.get(), &mut *STRINGS.0.get()) };
    match kernel::receive(SHIM, message) {
        // The shim is gone, or sent what it never would.
        Err(_) | Ok((0, _)) => Err(0),
        Ok((length, fds)) => {
            let message = message.get(..length).unwrap_or_default();
            if message.first() != Some(&SHARE) {
                held.obey(message, &fds, strings);
            } else if kernel::fork() == Ok(0) {
                // From here on this is the other one: it has no programs yet.
                *children = begin_anew(fds).map_err(|_| 70)?;
                *held = Held::nothing();
                send(&[READY, VERSION]);
            }
            Ok(())
        }
    }
}

/// Hides this process from the others, keeps its socket from children, and gives the descriptor
/// that becomes readable when a child ends.
#[unsafe(link_section = ".waiting")]
fn prepare() -> Result<Fd, Errno> {
    // Undumpable: nobody else inside may open our memory or descriptors through /proc.
    kernel::set_undumpable()?;
    kernel::set_name(c"init")?;
    kernel::umask(0o022);
    kernel::close_on_exec(SHIM).or_else(|_| connect_to_shim())?;
    kernel::child_ends()
}

/// What another `init` does before it is ready, one for a session that shares the sandbox: it has a
/// socket of its own, and nothing of the one it was forked from.
fn begin_anew(fds: Received) -> Result<Fd, Errno> {
    let &[socket] = fds.as_slice() else { return Err(kernel::EINVAL) };
    kernel::place(socket, SHIM)?;
    drop(fds);
    kernel::close_from(SHIM + 1)?;
    // Its programs' orphans are its own.
    kernel::become_subreaper()?;
    prepare()
}

/// Connects to the shim where no socket was inherited, as in a container that an engine made: then
/// our one argument is where it listens.
#[inline(never)]
fn connect_to_shim() -> Result<(), Errno> {
    let mut buffer = [0; MAX_LINE];
    let length = kernel::read_file(c"/proc/self/cmdline", &mut buffer)?;
    let line = buffer.get(..length).unwrap_or_default();
    let argument = line.splitn(2, |byte| *byte == 0).nth(1).unwrap_or_default();
    let path = CStr::from_bytes_until_nul(argument).map_err(|_| kernel::EINVAL)?;
    let address = Address::unix(path)?;
    let socket = kernel::sockets::packets(&address)?;
    kernel::sockets::connect(socket, &address)?;
    if socket != SHIM {
        kernel::place(socket, SHIM)?;
        kernel::close(socket);
    }
    kernel::close_on_exec(SHIM)
}

impl Held {
    fn nothing() -> Self {
        Self { leaders: Leaders([None; MAX_CHANNELS]), listeners: Listeners::new() }
    }

    fn obey(&mut self, message: &[u8], fds: &Received, strings: &mut [*const u8; MAX_STRINGS]) {
        let mut input = Input(message);
        // Of a channel, or of a listener.
        let (Some(kind), Some(number)) = (input.u8(), input.u16()) else { return };
        match kind {
            START => started(number, start(number, &mut input, fds, strings, &mut self.leaders)),
            FILES | CONNECT | ACCEPT => {
                started(number, self.start_helper(kind, number, &mut input, fds));
            }
            SIGNAL => {
                if let (Some(signal), Some(leader)) = (input.u8(), self.leaders.of(number)) {
                    kernel::kill_group(leader.foreground(), signal.into());
                }
            }
            LISTEN => {
                let endpoint = Endpoint::read(&mut input).ok_or(kernel::EINVAL);
                match endpoint.and_then(|endpoint| self.listeners.add(number, &endpoint)) {
                    Ok(port) => {
                        let ([a, b], [c, d]) = (number.to_be_bytes(), port.to_be_bytes());
                        send(&[LISTENING, a, b, c, d]);
                    }
                    Err(errno) => report(NOT_LISTENING, number, errno),
                }
            }
            UNLISTEN => self.listeners.remove(number),
            _ => {}
        }
    }

    /// Starts something that we do ourselves, in a process of its own.
    fn start_helper(
        &mut self,
        kind: u8,
        channel: u16,
        input: &mut Input<'_>,
        fds: &Received,
    ) -> Result<(), Errno> {
        let &[from, to] = fds.as_slice() else { return Err(kernel::EINVAL) };
        // SAFETY: called once, in a process that is new and has one thread.
        let room = || unsafe { &mut *ROOM.0.get() }.as_mut_slice();
        match kind {
            CONNECT => {
                let endpoint = Endpoint::read(input).ok_or(kernel::EINVAL)?;
                self.leaders.begin(channel, false, || {
                    help(c"sshd", &[from, to], || connect::serve_connect(&endpoint, room()))
                })
            }
            ACCEPT => {
                let listener = input.u16().and_then(|number| self.listeners.find(number));
                let listener = listener.ok_or(kernel::EBADF)?;
                self.leaders.begin(channel, false, || {
                    help(c"sshd", &[from, to, listener], || connect::serve_accept(room()))
                })
            }
            _ => {
                let directory = input.string().ok_or(kernel::EINVAL)?;
                self.leaders.begin(channel, false, || {
                    help(c"sftp-server", &[from, to], || {
                        program::enter(directory);
                        files::serve(room())
                    })
                })
            }
        }
    }
}

/// Says how asking for a channel's first process came out.
fn started(channel: u16, started: Result<(), Errno>) {
    match started {
        Ok(()) => {
            let [high, low] = channel.to_be_bytes();
            send(&[STARTED, high, low]);
        }
        Err(errno) => report(REFUSED, channel, errno),
    }
}

/// Starts a program; comes back when it runs, or with the reason why it does not.
fn start(
    channel: u16,
    input: &mut Input<'_>,
    fds: &Received,
    strings: &mut [*const u8; MAX_STRINGS],
    leaders: &mut Leaders,
) -> Result<(), Errno> {
    let program = Program::read(input, strings).ok_or(kernel::EINVAL)?;
    let stdio = match (program.terminal, fds.as_slice()) {
        (true, &[terminal]) => [terminal; 3],
        (false, &[input, output, errors]) => [input, output, errors],
        _ => return Err(kernel::EINVAL),
    };
    leaders.begin(channel, program.terminal, || program.run(stdio))
}

/// Turns the forked child into a helper under a name, with only these descriptors, the first being
/// 0; comes back only with the reason why it could not.
fn help(name: &CStr, fds: &[Fd], work: impl FnOnce() -> i32) -> Errno {
    let arranged = kernel::new_session()
        .and_then(|()| (0..).zip(fds).try_for_each(|(target, fd)| kernel::place(*fd, target)))
        .and_then(|()| kernel::reset_signals())
        .and_then(|()| kernel::set_name(name))
        // The socket to the shim among them, and what tells our parent that we are as we should be.
        .and_then(|()| kernel::close_from(3));
    match arranged {
        Ok(()) => kernel::exit(work()),
        Err(errno) => errno,
    }
}

/// Collects every ended child, ours or inherited, and reports those that led a channel.
#[inline(never)]
fn reap(children: Fd, leaders: &mut Leaders) {
    kernel::drain(children);
    while let Some((pid, status)) = kernel::collect() {
        let of_it = |place: &&mut Option<Leader>| place.is_some_and(|leader| leader.pid == pid);
        if let Some(leader) = leaders.0.iter_mut().find(of_it).and_then(Option::take) {
            report(EXITED, leader.channel, status);
        }
    }
}

impl Leaders {
    /// Forks the first process of a channel. `become_it` comes back only with the reason why it could
    /// not; we, when our end of a pipe that it inherits is closed.
    fn begin(
        &mut self,
        channel: u16,
        terminal: bool,
        become_it: impl FnOnce() -> Errno,
    ) -> Result<(), Errno> {
        if self.of(channel).is_some() {
            return Err(kernel::EAGAIN);
        }
        let place = self.0.iter_mut().find(|place| place.is_none()).ok_or(kernel::EAGAIN)?;
        let (reason, child_reason) = kernel::pipe()?;
        let forked = kernel::fork();
        if let Ok(0) = forked {
            let errno = become_it();
            let _told = kernel::write(child_reason, &errno.to_ne_bytes());
            kernel::exit(127);
        }
        kernel::close(child_reason);
        let mut errno = [0; 4];
        let failed = kernel::read(reason, &mut errno) == Ok(errno.len());
        kernel::close(reason);
        let pid = forked?;
        if failed {
            return Err(i32::from_ne_bytes(errno));
        }
        *place = Some(Leader { channel, pid, terminal });
        Ok(())
    }

    fn of(&self, channel: u16) -> Option<Leader> {
        self.0.iter().flatten().find(|leader| leader.channel == channel).copied()
    }
}

impl Leader {
    /// The process group that has the terminal; the leader's own where there is none.
    fn foreground(&self) -> Pid {
        let group = if self.terminal { terminal_group(self.pid) } else { None };
        group.filter(|group| *group > 1).unwrap_or(self.pid)
    }
}

/// The foreground group of a process's terminal: the eighth field of its stat, which is the sixth
/// after its name, which may hold anything and ends with a parenthesis.
fn terminal_group(pid: Pid) -> Option<Pid> {
    let mut path = Text::<32>::new(b"/proc/");
    path.number(pid.unsigned_abs(), 10);
    path.push(b"/stat");
    let mut stat = [0; 512];
    let length = kernel::read_file(path.as_c_str()?, &mut stat).ok()?;
    let stat = stat.get(..length)?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let field = stat.get(name_end + 2..)?.split(|byte| *byte == b' ').nth(5)?;
    field.iter().try_fold(0, |number: Pid, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

fn report(kind: u8, channel: u16, number: i32) {
    let [a, b] = channel.to_be_bytes();
    let [c, d, e, f] = number.to_be_bytes();
    send(&[kind, a, b, c, d, e, f]);
}

/// Waits while the shim does not read. If it is gone, the next receive ends us.
#[unsafe(link_section = ".waiting")]
fn send(message: &[u8]) {
    let _sent = kernel::send(SHIM, message);
}
