//! Who descends from a process, and who carries a session's tag, as `/proc` tells it.
//!
//! A number may be given to another process between being read and being signalled; so a process is
//! held first, looked at again, and then signalled by what is held.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;

/// The variable that names the session to everything that runs in it.
pub(crate) const TAG: &str = "SOJOURN_SESSION";

/// The longest environment that is looked at, in bytes.
const LONGEST_ENVIRONMENT: u64 = 4 << 20;

/// How often processes that seem to have no environment are looked at.
const LOOKS: u32 = 20;

/// Between two such looks.
const BETWEEN_LOOKS: Duration = Duration::from_micros(200);

/// A process, told from others that have its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pid: i32,
    parent: i32,
    started: u64,
    zombie: bool,
}

impl Process {
    /// Reads `/proc/PID/stat`.
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may have anything in it.
        let (_, after) = stat.rsplit_once(") ")?;
        let mut fields = after.split(' ');
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { pid, parent, started, zombie: matches!(state, "Z" | "X") })
    }

    /// Whether it is one that begins with an environment: neither over, nor the kernel's own, which hang
    /// below the second process.
    fn should_have_one(self) -> bool {
        !self.zombie && self.pid != 2 && self.parent != 2
    }

    /// Signals it, if it still is who it was.
    pub(super) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(held) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
        if Self::read(self.pid).is_some_and(|now| now.started == self.started) {
            // An error says that it has just ended, or is somebody else's.
            let _gone = rustix::process::pidfd_send_signal(&held, signal);
        }
    }
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Everything alive that descends from `ancestor`, the nearest first.
pub(super) fn of(ancestor: i32) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in pids().into_iter().filter_map(Process::read) {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut look_at = vec![ancestor];
    while let Some(parent) = look_at.pop() {
        // Taken out, so that no circle of numbers read at different times goes on for ever.
        for process in children.remove(&parent).unwrap_or_default() {
            look_at.push(process.pid);
            found.push(process);
        }
    }
    found.retain(|process| !process.zombie);
    found
}

/// Everything alive whose environment, as it was at its start, names the session of this tag. Only
/// what is this user's can be seen.
pub(crate) fn tagged(tag: &str) -> Vec<Process> {
    let line = format!("{TAG}={tag}");
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let is_ours = |variable: &[u8]| variable == line.as_bytes();
    let (mut found, mut look_at) = (Vec::new(), pids());
    look_at.retain(|pid| *pid != own);
    for _ in 0..LOOKS {
        // Whoever is just becoming another program has none for a moment. What never has one is passed
        // over after a while, which all of them have together.
        look_at.retain(|pid| {
            let Some(environment) = environment(*pid) else { return false };
            if environment.split(|byte| *byte == 0).any(is_ours) {
                found.push(*pid);
            }
            environment.is_empty() && Process::read(*pid).is_some_and(Process::should_have_one)
        });
        if look_at.is_empty() {
            break;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    let found = found.into_iter().filter_map(Process::read);
    found.filter(|process| !process.zombie).collect()
}

/// A process's environment as it was at its start; none of one that is somebody else's, or gone.
fn environment(pid: i32) -> Option<Vec<u8>> {
    use std::io::Read;
    let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    let mut environment = Vec::new();
    let _cut = file.take(LONGEST_ENVIRONMENT).read_to_end(&mut environment);
    Some(environment)
}
