//! What the kernel gives to a process, it takes or withholds.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use sojourn_testkit::PATIENCE;

use super::super::dice::Dice;
use super::super::town::Street;
use super::super::town::Town;
use super::super::within;
use super::Part;
use super::back;
use super::moves_on;

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// A process that does not run on until this is dropped.
struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _gone = rustix::process::kill_process(self.0, Signal::CONT);
    }
}

pub(super) fn freeze(town: &Town, street: &Street, dice: &mut Dice, part: Part) {
    let all = match part {
        Part::Gateway => vec![town.gateway.pid()],
        Part::Runner => town.processes("sojourn-runner"),
        Part::Zygote => town.processes("sojourn-zygote"),
        Part::Shim => town.processes("sojourn-shim"),
        Part::FarRunner => vec![town.runner.id()],
    };
    let Some(pid) = dice.one_of(&all).and_then(pid_of) else { return };
    let length = Duration::from_millis(100 + dice.below(1200));
    if rustix::process::kill_process(pid, Signal::STOP).is_ok() {
        let _frozen = Frozen(pid);
        // That long it is frozen: it is the fault, and nothing is waited for.
        std::thread::sleep(length);
    }
    street.ledger.tell(format!("{part:?} {pid:?} stood still for {length:?}"));
}

/// What takes up all room, until this is dropped.
struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

pub(super) fn full_disk(town: &Town, street: &Street) {
    let ballast = Ballast(town.gateway.data().join("ballast"));
    let mut file = File::create(&ballast.0).unwrap();
    let mut put = 0;
    // Down to the last page: what others give up meanwhile is taken as well.
    for part in [vec![0; 1 << 20], vec![0; 4096]] {
        while file.write_all(&part).is_ok() {
            put += part.len();
        }
    }
    moves_on(street, 60);
    street.ledger.tell(format!("{} KiB of ballast", put / 1024));
}

/// A program that is told to end with SIGINT when this is dropped.
struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Some(pid) = pid_of(self.0.id()) {
            let _gone = rustix::process::kill_process(pid, Signal::INT);
        }
        if within(PATIENCE, || self.0.try_wait().ok().flatten()).is_none() {
            let _gone = self.0.kill();
            let _status = self.0.wait();
        }
    }
}

pub(super) fn failing_sync(town: &Town, street: &Street) {
    let failed = refusing(town, street, "fsync,fdatasync", "EIO");
    street.ledger.tell(format!("{failed} syncs failed"));
}

pub(super) fn read_only_disk(town: &Town, street: &Street) {
    let calls = "pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,renameat,unlink,unlinkat,\
                 mkdir,mkdirat";
    let refused = refusing(town, street, calls, "EROFS");
    street.ledger.tell(format!("{refused} changes of a read-only disk"));
}

/// The kernel refuses these calls of the gateway's for a while; says how many it was.
fn refusing(town: &Town, street: &Street, calls: &str, error: &str) -> usize {
    let log = town.gateway.scratch().path().join("strace");
    let tracer = Command::new("strace")
        .args(["-f", "-qq", "-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={calls}:error={error}"), "-o"])
        .arg(&log)
        .arg("-p")
        .arg(town.gateway.pid().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _tracer = Tracer(tracer.expect("strace"));
    let failed = || fs::read_to_string(&log).unwrap_or_default().matches("INJECTED").count();
    within(Duration::from_secs(3), || (failed() > 0).then_some(()));
    moves_on(street, 40);
    failed()
}

/// What is done to the network of the round, undone when this is dropped.
struct Hindered(&'static str, &'static [&'static str]);

impl Hindered {
    fn by(program: &'static str, act: &[&str], undo: &'static [&'static str]) -> Option<Self> {
        let done = Command::new(program).args(act).stderr(Stdio::null()).status();
        done.is_ok_and(|done| done.success()).then_some(Self(program, undo))
    }
}

impl Drop for Hindered {
    fn drop(&mut self) {
        let _failed = Command::new(self.0).args(self.1).status();
    }
}

/// Nothing comes through, in no direction, and nobody is told.
pub(super) fn cut_link(street: &Street) {
    let (down, up) = (["link", "set", "lo", "down"], &["link", "set", "lo", "up"]);
    let hindered = Hindered::by("ip", &down, up);
    moves_on(street, 60);
    street.ledger.tell(if hindered.is_some() { "nothing came through" } else { "no link to cut" });
}

/// Little comes through; what is too much is lost.
pub(super) fn thin_link(street: &Street) {
    let bucket = ["rate", "4mbit", "burst", "128kb", "latency", "100ms"];
    let thin = [&["qdisc", "add", "dev", "lo", "root", "tbf"], bucket.as_slice()].concat();
    let hindered = Hindered::by("tc", &thin, &["qdisc", "del", "dev", "lo", "root"]);
    moves_on(street, 60);
    street.ledger.tell(if hindered.is_some() {
        "little came through"
    } else {
        "no way to be thin"
    });
}

/// Sets how many descriptors a gateway may have, as its own user: root alone need not have that right.
fn set_descriptors(pid: u32, count: usize) -> bool {
    let mut set = Command::new("setpriv");
    set.args(["--reuid=65534", "--regid=65534", "--clear-groups", "prlimit"]);
    set.arg(format!("--pid={pid}")).arg(format!("--nofile={count}:"));
    set.stderr(Stdio::null()).status().is_ok_and(|done| done.success())
}

pub(super) fn no_descriptors(town: &Town, street: &Street, dice: &mut Dice) {
    let pid = town.gateway.pid();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let before = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let few = open + usize::try_from(dice.below(3)).unwrap();
    if !set_descriptors(pid, few) {
        street.ledger.tell("the limit of descriptors could not be lowered");
        return;
    }
    moves_on(street, 60);
    if !set_descriptors(pid, before.unwrap_or(20_000)) {
        street.ledger.breach("the limit of descriptors could not be given back");
    }
}

/// A control group that goes when this does, when it is empty.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        within(PATIENCE, || fs::remove_dir(&self.0).is_ok().then_some(()));
    }
}

/// The gateway gets a little memory more, and no more: most often it is killed for that.
pub(super) fn no_memory(town: &mut Town, street: &Street) {
    let pid = town.gateway.pid();
    let root = Path::new("/sys/fs/cgroup/memory");
    if !root.exists() {
        street.ledger.tell("no control groups of version 1 for memory");
        return;
    }
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let own = groups.lines().find_map(|line| line.split_once(":memory:"));
    let own = root.join(own.map_or("", |(_, path)| path).trim_start_matches('/'));
    let group = Group(root.join(format!("sojourn-chaos-{}", street.mark)));
    fs::create_dir(&group.0).unwrap();
    let set = |name: &str, value: &str| fs::write(group.0.join(name), value);
    set("memory.limit_in_bytes", "4194304").unwrap();
    set("cgroup.procs", &pid.to_string()).unwrap();
    moves_on(street, 200);
    if within(Duration::from_secs(2), || town.gateway.is_over().then_some(())).is_some() {
        town.gateway.wait();
        street.ledger.tell("the gateway was killed for its memory");
        back(town, street);
    } else {
        let _gone = fs::write(own.join("cgroup.procs"), pid.to_string());
        // It may be killed while it is moved, and a moment after.
        let killed = within(Duration::from_secs(1), || town.gateway.is_over().then_some(()));
        if killed.is_some() {
            town.gateway.wait();
            back(town, street);
        }
    }
}
