//! Process 1 of every sandbox: starts programs, reaps everything, reports how programs ended.
//!
//! It stands on `core` alone, without a C library, because it is most of what a sandbox that waits
//! for its guest costs in memory. It owns nothing worth taking: terminals and pipes are made outside
//! and arrive as open descriptors; none is ever sent back. It speaks over one inherited socket (the
//! other side and the messages are in `src/init_link/`) and ends, and the sandbox with it, when that
//! socket closes.

#![no_std]
#![no_main]
// Or the loops that copy memory would be compiled into calls of themselves.
#![no_builtins]

mod kernel;

use core::cell::UnsafeCell;
use core::ptr::null;

use kernel::Errno;
use kernel::Fd;
use kernel::Pid;
use kernel::Received;

/// Raised when either side of the protocol changes.
const VERSION: u8 = 1;
/// The socket to the shim: the one descriptor kept across the exec.
const SHIM: Fd = 3;
/// Programs that may lead a channel at a time; more are refused with `EAGAIN`.
const MAX_CHANNELS: usize = 64;
/// The longest message.
const MAX_MESSAGE: usize = 64 * 1024;
/// Each string of a message takes three bytes or more; each of the two lists ends with a null.
const MAX_STRINGS: usize = MAX_MESSAGE / 3 + 2;
const MAX_PATH: usize = 4096;

// shim -> init
const START: u8 = 1;
const SIGNAL: u8 = 2;
// init -> shim
const READY: u8 = 1;
const STARTED: u8 = 2;
const REFUSED: u8 = 3;
const EXITED: u8 = 4;

const FLAG_TERMINAL: u8 = 1;
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The first process of a channel.
#[derive(Clone, Copy)]
struct Leader {
    channel: u16,
    pid: Pid,
    terminal: bool,
}

/// The channels with a program.
struct Leaders([Option<Leader>; MAX_CHANNELS]);

/// A program as a start message describes it.
struct Program<'a> {
    terminal: bool,
    cwd: &'a [u8],
    name: &'a [u8],
    path: &'a [u8],
    argv: *const *const u8,
    env: *const *const u8,
}

/// Memory that is touched, and so costs anything, only as far as it is used.
struct Scratch<T>(UnsafeCell<T>);

// SAFETY: this process has one thread.
unsafe impl<T> Sync for Scratch<T> {}

static MESSAGE: Scratch<[u8; MAX_MESSAGE]> = Scratch(UnsafeCell::new([0; MAX_MESSAGE]));
static STRINGS: Scratch<[*const u8; MAX_STRINGS]> = Scratch(UnsafeCell::new([null(); MAX_STRINGS]));

/// Where `kernel`'s start code goes.
fn main() -> i32 {
    // SAFETY: taken once, here, at the start of the only thread.
    let (message, strings) = unsafe { (&mut *MESSAGE.0.get(), &mut *STRINGS.0.get()) };
    let Ok(children) = prepare() else { return 70 };
    let mut leaders = Leaders([None; MAX_CHANNELS]);
    send(&[READY, VERSION]);
    loop {
        let [told, ended] = kernel::wait_for([SHIM, children]);
        if ended {
            reap(children, &mut leaders);
        }
        if told {
            match kernel::receive(SHIM, message) {
                // The shim is gone, or sent what it never would.
                Err(_) | Ok((0, _)) => return 0,
                Ok((length, fds)) => {
                    obey(message.get(..length).unwrap_or_default(), &fds, strings, &mut leaders);
                }
            }
        }
    }
}

/// Hides this process from the others, keeps its socket from children, and gives the descriptor
/// that becomes readable when a child ends.
fn prepare() -> Result<Fd, Errno> {
    // Undumpable: nobody else inside may open our memory or descriptors through /proc.
    kernel::set_undumpable()?;
    kernel::set_name(c"init")?;
    kernel::umask(0o022);
    kernel::close_on_exec(SHIM)?;
    kernel::child_ends()
}

fn obey(
    message: &[u8],
    fds: &Received,
    strings: &mut [*const u8; MAX_STRINGS],
    leaders: &mut Leaders,
) {
    let mut input = Input(message);
    match (input.u8(), input.u16()) {
        (Some(START), Some(channel)) => match start(channel, &mut input, fds, strings, leaders) {
            Ok(()) => {
                let [high, low] = channel.to_be_bytes();
                send(&[STARTED, high, low]);
            }
            Err(errno) => report(REFUSED, channel, errno),
        },
        (Some(SIGNAL), Some(channel)) => {
            if let (Some(signal), Some(leader)) = (input.u8(), leaders.of(channel)) {
                kernel::kill_group(leader.foreground(), signal.into());
            }
        }
        _ => {}
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
    if leaders.of(channel).is_some() {
        return Err(kernel::EAGAIN);
    }
    let place = leaders.0.iter_mut().find(|place| place.is_none()).ok_or(kernel::EAGAIN)?;
    let program = input.program(strings).ok_or(kernel::EINVAL)?;
    let stdio = match (program.terminal, fds.as_slice()) {
        (true, &[terminal]) => [terminal; 3],
        (false, &[input, output, errors]) => [input, output, errors],
        _ => return Err(kernel::EINVAL),
    };
    let (reason, child_reason) = kernel::pipe()?;
    let forked = kernel::fork();
    if let Ok(0) = forked {
        let errno = become_program(&program, stdio);
        let _told = kernel::write(child_reason, &errno.to_ne_bytes());
        kernel::exit(127);
    }
    kernel::close(child_reason);
    let mut errno = [0; 4];
    // The program's end of the pipe closes when it is executed.
    let failed = kernel::read(reason, &mut errno) == Ok(errno.len());
    kernel::close(reason);
    let pid = forked?;
    if failed {
        return Err(i32::from_ne_bytes(errno));
    }
    *place = Some(Leader { channel, pid, terminal: program.terminal });
    Ok(())
}

/// Turns the forked child into the program; comes back only with the reason why it could not.
fn become_program(program: &Program<'_>, stdio: [Fd; 3]) -> Errno {
    let arranged = kernel::new_session()
        .and_then(|()| if program.terminal { kernel::take_terminal(stdio[0]) } else { Ok(()) })
        .and_then(|()| (0..).zip(stdio).try_for_each(|(target, fd)| kernel::place(fd, target)))
        .and_then(|()| kernel::reset_signals());
    if let Err(errno) = arranged {
        return errno;
    }
    // Everything above goes at exec. All of it is close-on-exec already; this is the net.
    kernel::close_on_exec_from(3);
    if kernel::chdir(program.cwd).is_err() {
        let _root = kernel::chdir(b"/\0");
    }
    execute(program)
}

/// Executes the name itself if it holds a slash, else it in each directory of PATH.
fn execute(program: &Program<'_>) -> Errno {
    if program.name.contains(&b'/') {
        return kernel::execute(program.name, program.argv, program.env);
    }
    let mut reason = kernel::ENOENT;
    for directory in program.path.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let mut file = [0; MAX_PATH];
        let length = directory.len() + 1 + program.name.len();
        let Some(room) = file.get_mut(..length) else { continue };
        let parts = directory.iter().chain(b"/").chain(program.name);
        room.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        match kernel::execute(room, program.argv, program.env) {
            kernel::ENOENT | kernel::ENOTDIR => {}
            // Another directory may hold one that may be executed.
            kernel::EACCES => reason = kernel::EACCES,
            other => return other,
        }
    }
    reason
}

/// Collects every ended child, ours or inherited, and reports those that led a channel.
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
    let mut path = *b"/proc/0000000000/stat\0";
    let mut rest = pid.unsigned_abs();
    for digit in path.get_mut(6..16)?.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).ok()?;
        rest /= 10;
    }
    // The kernel takes no leading zeros.
    let zeros = path.get(6..15)?.iter().take_while(|digit| **digit == b'0').count();
    path.copy_within(6 + zeros.., 6);
    let mut stat = [0; 512];
    let length = kernel::read_file(&path, &mut stat).ok()?;
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
fn send(message: &[u8]) {
    let _sent = kernel::send(SHIM, message);
}

/// What is left of a message. Every read is checked against its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A string with its closing zero, which is the only one in it.
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        let string = self.take(length.into())?;
        (string.iter().position(|byte| *byte == 0)? + 1 == string.len()).then_some(string)
    }

    fn program(&mut self, strings: &mut [*const u8; MAX_STRINGS]) -> Option<Program<'a>> {
        let terminal = self.u8()? & FLAG_TERMINAL != 0;
        let cwd = self.string()?;
        let (mut name, mut path): (&[u8], _) = (&[], DEFAULT_PATH);
        let mut places = strings.iter_mut();
        let argc = self.u16()?;
        for index in 0..argc {
            let argument = self.string()?;
            *places.next()? = argument.as_ptr();
            if index == 0 {
                name = argument;
            }
        }
        *places.next()? = null();
        for _ in 0..self.u16()? {
            let variable = self.string()?;
            *places.next()? = variable.as_ptr();
            if let Some(value) = variable.strip_prefix(b"PATH=") {
                path = value.strip_suffix(b"\0")?;
            }
        }
        *places.next()? = null();
        let argv = strings.as_ptr();
        let env = strings.get(usize::from(argc) + 1..)?.as_ptr();
        (argc > 0).then_some(Program { terminal, cwd, name, path, argv, env })
    }
}
