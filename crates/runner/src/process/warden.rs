//! The warden: a small process beside each session that starts its program and ends with the last of
//! what the program started.
//!
//! It is the subreaper of everything below it, so a program that forks twice, starts a session of its
//! own and ignores every polite signal is still its descendant. When nothing is left to wait for,
//! nothing lives: that is how the end is known. Its runner's death closes its socket, and it ends
//! everything by itself. It has two threads: one waits for children, one for orders.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::process::WaitStatus;
use sojourn_core::end::Exit;
use sojourn_core::wire::Text;
use sojourn_shim::clock;
use sojourn_shim::seqpacket;

use super::descendants;
use super::group::Group;
use super::wire::LONGEST;
use super::wire::Order;
use super::wire::Report;
use super::wire::Spec;

/// A warden that nobody tells anything for so long leaves.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// How long programs have to end themselves when the runner is gone.
const ORPHANED: Duration = Duration::from_secs(2);

/// Between two tries to kill what is left.
const AGAIN: Duration = Duration::from_millis(50);

/// After so many tries whoever asked is told that something does not die.
const PATIENCE: u32 = 100;

/// A warden's whole life. Standard input is its socket.
#[must_use]
pub fn run() -> ExitCode {
    match live() {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads what a warden says; its runner sees that it is gone.
        Err(_) => ExitCode::FAILURE,
    }
}

fn live() -> io::Result<()> {
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    if !seqpacket::wait(&socket, TOLD_WITHIN)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut buffer = vec![0; LONGEST];
    let received = seqpacket::recv(&socket, &mut buffer)?;
    let order = buffer.get(..received.len).unwrap_or_default();
    match serde_json::from_slice(order)? {
        Order::Run(spec) => keep(socket, &spec, &received.fds),
        Order::Become(spec) => {
            let message = turn_into(&spec, &received.fds).to_string();
            say(&socket, &Report::Refused { message });
            Err(io::ErrorKind::Other.into())
        }
        Order::End { .. } => Ok(()),
    }
}

/// Tells whoever started us. They may be gone.
fn say(socket: &OwnedFd, report: &Report) {
    if let Ok(message) = serde_json::to_vec(report) {
        let _gone = seqpacket::send(socket, &message, &[]);
    }
}

/// Starts the program and stays until nothing of it lives.
fn keep(socket: OwnedFd, spec: &Spec, fds: &[OwnedFd]) -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // What somebody types into the runner's terminal is not for us.
    let _leads_already = rustix::process::setsid();
    let group = Group::make(&spec.tag);
    let inside = group.as_ref().is_some_and(Group::enter);
    let started = start(spec, fds);
    if let Some(group) = group.as_ref().filter(|_| inside) {
        group.leave();
    }
    let pid = match started {
        Ok(pid) => pid,
        Err(error) => {
            say(&socket, &Report::Refused { message: error.to_string() });
            if let Some(group) = &group {
                group.remove();
            }
            return Ok(());
        }
    };
    let number = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or(0);
    say(&socket, &Report::Started { pid: number });
    let ours = rustix::io::fcntl_dupfd_cloexec(&socket, 3)?;
    let tag = spec.tag.clone();
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        reap(&ours, pid);
        for group in Group::find(&tag) {
            group.kill();
            group.remove();
        }
        say(&ours, &Report::Empty);
        std::process::exit(0);
    })?;
    obey(&socket, spec.terminal, group.as_ref());
    Ok(())
}

/// Starts the process that becomes the program, and waits until it did.
fn start(spec: &Spec, fds: &[OwnedFd]) -> io::Result<Pid> {
    let (near, far) = seqpacket::pair()?;
    let child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .stdin(far)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
    let message = serde_json::to_vec(&Order::Become(spec.clone()))?;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    seqpacket::send(&near, &message, &fds)?;
    let mut answer = vec![0; 4096];
    let received = seqpacket::recv(&near, &mut answer)?;
    match serde_json::from_slice(answer.get(..received.len).unwrap_or_default()) {
        Ok(Report::Refused { message }) => {
            // It has ended; nobody else waits for children yet.
            let _status = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            Err(io::Error::other(message))
        }
        // Its socket closed: it is the program now.
        _ => Ok(pid),
    }
}

/// Turns this process into the program; comes back with the reason why it could not.
fn turn_into(spec: &Spec, fds: &[OwnedFd]) -> io::Error {
    match prepare(spec, fds) {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    }
}

fn prepare(spec: &Spec, fds: &[OwnedFd]) -> io::Result<Command> {
    let few = || io::Error::other("descriptors are missing");
    rustix::process::setsid()?;
    // A killed warden takes the program along; what the program started is found by its tag.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let (directory, streams) = fds.split_first().ok_or_else(few)?;
    rustix::process::fchdir(directory)?;
    let [input, output, error] = match streams {
        [terminal] if spec.terminal => {
            rustix::process::ioctl_tiocsctty(terminal)?;
            [terminal, terminal, terminal]
        }
        [input, output, error] if !spec.terminal => [input, output, error],
        _ => return Err(few()),
    };
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(error)?;
    let bytes = |text: &Text| std::ffi::OsString::from_vec(text.0.clone());
    let (program, arguments) = spec.argv.split_first().ok_or_else(few)?;
    let mut command = Command::new(bytes(program));
    command.args(arguments.iter().map(bytes)).env_clear();
    command.envs(spec.env.iter().map(|(name, value)| (bytes(name), bytes(value))));
    Ok(command)
}

/// Waits for every child there is, adopted ones too, and tells how the program ended.
fn reap(socket: &OwnedFd, program: Pid) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => {
                say(socket, &Report::Exited { exit: exit_of(status) });
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No child is left, so nobody is.
            Err(_) => return,
        }
    }
}

fn exit_of(status: WaitStatus) -> Exit {
    if let Some(code) = status.exit_status() {
        return Exit::Code(u32::try_from(code).unwrap_or(255));
    }
    let number = status.terminating_signal().unwrap_or(0);
    let named = match number {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        7 => "BUS",
        8 => "FPE",
        9 => "KILL",
        11 => "SEGV",
        13 => "PIPE",
        14 => "ALRM",
        15 => "TERM",
        _ => return Exit::Signal(format!("{number}@sojourn")),
    };
    Exit::Signal(named.to_owned())
}

/// Waits for the order to end everything, or for the runner to be gone, and does it. The thread that
/// waits for children ends the process when it is done.
fn obey(socket: &OwnedFd, terminal: bool, group: Option<&Group>) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut grace = next_order(socket).unwrap_or(ORPHANED);
    for process in descendants::of(own) {
        if terminal {
            process.signal(Signal::HUP);
        }
        process.signal(Signal::TERM);
        process.signal(Signal::CONT);
    }
    // A second order may shorten the time there is.
    let begun = clock::mono();
    let mut alone = false;
    loop {
        let left = begun.after(grace).since(clock::mono());
        if left.is_zero() {
            break;
        }
        if alone {
            std::thread::sleep(left);
        } else if seqpacket::wait(socket, left).unwrap_or(false) {
            match next_order(socket) {
                Some(shorter) => grace = grace.min(shorter),
                None => {
                    alone = true;
                    grace = grace.min(clock::mono().since(begun) + ORPHANED);
                }
            }
        }
    }
    kill(socket, own, group);
}

fn kill(socket: &OwnedFd, own: i32, group: Option<&Group>) {
    for again in 0_u32.. {
        if let Some(group) = group {
            group.kill();
        }
        let left = descendants::of(own);
        for process in &left {
            // Stopped first, so that none of them has a child while the others die.
            process.signal(Signal::STOP);
        }
        for process in &left {
            process.signal(Signal::KILL);
        }
        if again == PATIENCE {
            let processes = u32::try_from(left.len()).unwrap_or(u32::MAX);
            say(socket, &Report::Left { processes });
        }
        std::thread::sleep(AGAIN);
    }
}

/// How long programs have, once somebody wants them to end; none: the runner is gone.
fn next_order(socket: &OwnedFd) -> Option<Duration> {
    let mut buffer = [0; 256];
    let received = seqpacket::recv(socket, &mut buffer).ok().filter(|received| received.len > 0)?;
    match serde_json::from_slice(buffer.get(..received.len)?).ok()? {
        Order::End { grace } => Some(grace),
        Order::Run(_) | Order::Become(_) => None,
    }
}

/// Kills everything that carries a session's tag, whoever its parent is: what a warden that was
/// killed left behind. Gives the number of processes that were found; it is called again until
/// there are none.
pub(super) fn sweep(tag: &str) -> usize {
    let groups = Group::find(tag);
    for group in &groups {
        group.kill();
    }
    let found = descendants::tagged(tag);
    for process in &found {
        process.signal(Signal::KILL);
    }
    for group in &groups {
        group.remove();
    }
    found.len()
}
