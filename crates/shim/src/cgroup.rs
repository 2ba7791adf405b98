//! The control groups of a sandbox, looked at from outside: v1, v2 or both.
//!
//! Those of native sandboxes are made by the container library, those of containers by their engine;
//! here they are read and emptied, and removed unless they are an engine's.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;

/// How the memory controller limits swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwapLimit {
    /// v1: memory and swap have one limit.
    Together,
    /// v2: swap has its own.
    Apart,
}

/// What a sandbox's memory controller counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryFacts {
    /// The most it used at a time, in bytes; 0 where the kernel does not say.
    pub peak: u64,
    /// Processes killed because the limit was reached.
    pub oom_kills: u64,
}

/// Waiting for the kernel to let go of the groups of processes that ended.
const REMOVE_TRIES: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// The directories of one sandbox, one in each hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    /// How the group's path below each mount point ends.
    name: String,
    directories: Vec<PathBuf>,
    /// Whether somebody else made them, and removes them.
    borrowed: bool,
}

/// What a control group made here allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Memory, swap included, in bytes.
    pub(crate) memory: u64,
    /// Processors, fractions allowed.
    pub(crate) cpu: f64,
    /// Processes and threads.
    pub(crate) pids: u64,
}

/// `cpu.cfs_period_us` / `cpu.max`: the kernel's default.
const PERIOD_US: u32 = 100_000;

/// The controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

impl Cgroup {
    /// The groups named `parent/id`, where they exist.
    pub(crate) fn find(parent: &str, id: &str) -> io::Result<Self> {
        let name = format!("{parent}/{id}");
        let directories = hierarchies()?
            .into_iter()
            .map(|mount| mount.join(&name))
            .filter(|directory| directory.is_dir())
            .collect();
        Ok(Self { name, directories, borrowed: false })
    }

    /// The groups that an engine made for the container whose process 1 this is: those that carry the
    /// container's id, and hold that process.
    pub(crate) fn of_container(pid: Pid, container: &str) -> io::Result<Self> {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()))?;
        let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let named = |path: &&str| path.rsplit('/').next().is_some_and(|n| n.contains(container));
        let mut paths: Vec<&str> = paths.filter(named).collect();
        paths.sort_unstable();
        paths.dedup();
        let missing = || io::Error::other(format!("it is in none that is named after {container}"));
        let name = paths.first().and_then(|path| path.rsplit('/').next()).ok_or_else(missing)?;
        let mut directories = Vec::new();
        for mount in hierarchies()? {
            for path in &paths {
                let directory = mount.join(path.trim_start_matches('/'));
                if pids_in(&directory).contains(&pid.as_raw_nonzero().get()) {
                    directories.push(directory);
                }
            }
        }
        match directories.is_empty() {
            true => Err(missing()),
            false => Ok(Self { name: name.to_owned(), directories, borrowed: true }),
        }
    }

    /// Makes the groups named `parent/id`, where processes can be counted and limited.
    ///
    /// # Errors
    /// The system's, or which limit this machine cannot keep. Nothing is left then.
    pub(crate) fn make(parent: &str, id: &str, limits: Limits) -> io::Result<Self> {
        let name = format!("{parent}/{id}");
        let mut group = Self { name, directories: Vec::new(), borrowed: false };
        let made = group.create(parent).and_then(|()| group.limit(limits));
        if made.is_err() {
            let _removed = group.try_remove();
        }
        made.map(|()| group)
    }

    fn create(&mut self, parent: &str) -> io::Result<()> {
        for mount in mounts()? {
            if mount.is_v1 && !CONTROLLERS.iter().any(|controller| mount.has(controller)) {
                continue;
            }
            let directory = mount.path.join(&self.name);
            fs::create_dir_all(&directory)?;
            self.directories.push(directory);
            if !mount.is_v1 {
                for above in [mount.path.clone(), mount.path.join(parent)] {
                    for controller in CONTROLLERS {
                        // One that is not there, or v1 has, is missed where it is needed.
                        let _switched = fs::write(
                            above.join("cgroup.subtree_control"),
                            format!("+{controller}"),
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn limit(&self, limits: Limits) -> io::Result<()> {
        let period = PERIOD_US.to_string();
        let quota = format!("{:.0}", (limits.cpu * f64::from(PERIOD_US)).max(1000.0));
        let (memory, pids) = (limits.memory.to_string(), limits.pids.to_string());
        let _is_default = self.set("cpu.cfs_period_us", &period)?;
        for (what, v1, v2) in [
            ("memory", ("memory.limit_in_bytes", &memory), ("memory.max", &memory)),
            ("cpu", ("cpu.cfs_quota_us", &quota), ("cpu.max", &format!("{quota} {period}"))),
            ("pids", ("pids.max", &pids), ("pids.max", &pids)),
        ] {
            if !self.set(v1.0, v1.1)? && !self.set(v2.0, v2.1)? {
                let message = format!("this machine has no control group that limits {what}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        }
        // Where swap can be limited at all.
        let _v1 = self.set("memory.memsw.limit_in_bytes", &memory)?;
        let _v2 = self.set("memory.swap.max", "0")?;
        Ok(())
    }

    /// Writes a value where there is such a file.
    fn set(&self, file: &str, value: &str) -> io::Result<bool> {
        let found = self.directories.iter().map(|d| d.join(file)).find(|path| path.exists());
        let Some(path) = found else { return Ok(false) };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{file}: {error}"));
        fs::write(path, value).map_err(named)?;
        Ok(true)
    }

    /// Moves this process into it.
    pub(crate) fn join(&self) -> io::Result<()> {
        self.directories.iter().try_for_each(|d| fs::write(d.join("cgroup.procs"), "0"))
    }

    /// Makes a group below this one and puts a process into it, with all that it will ever start. One
    /// hierarchy is enough to find them by: in the others, limits hold where they are.
    pub(crate) fn below(&self, name: &str, pid: Pid) -> io::Result<Self> {
        let mut refused = io::Error::from(io::ErrorKind::NotFound);
        for directory in &self.directories {
            let own = directory.join(name);
            let moved = fs::create_dir(&own).and_then(|()| {
                fs::write(own.join("cgroup.procs"), pid.as_raw_nonzero().to_string())
            });
            match moved {
                Ok(()) => {
                    let name = format!("{}/{name}", self.name);
                    return Ok(Self { name, directories: vec![own], borrowed: false });
                }
                // As where memory nodes and processors have to be named first.
                Err(error) => {
                    let _none = fs::remove_dir(&own);
                    refused = error;
                }
            }
        }
        Err(refused)
    }

    /// Every process in it and in the groups below it, as seen here.
    fn processes(&self) -> Vec<Pid> {
        // All hierarchies hold the same ones; a process between two of them is new or dying.
        let groups = |directory: &PathBuf| {
            std::iter::once(directory.clone()).chain(children(directory)).collect::<Vec<_>>()
        };
        let groups = self.directories.iter().flat_map(groups);
        let mut pids: Vec<i32> = groups.flat_map(|group| pids_in(&group)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().filter_map(Pid::from_raw).collect()
    }

    /// Whether no process is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.processes().is_empty()
    }

    /// Whether no other process is in it.
    pub(crate) fn holds_only(&self, pids: &[Pid]) -> bool {
        self.processes().iter().all(|inside| pids.contains(inside))
    }

    /// Files for a process to write a zero to, so as to be in it from then on.
    pub(crate) fn entrances(&self) -> io::Result<Vec<fs::File>> {
        let open = |directory: &PathBuf| {
            fs::OpenOptions::new().write(true).open(directory.join("cgroup.procs"))
        };
        self.directories.iter().map(open).collect()
    }

    /// Sends `signal` to every process but `spared`, and gives those that were there.
    pub(crate) fn signal(&self, signal: Signal, spared: &[Pid]) -> Vec<Pid> {
        let mut pids = self.processes();
        pids.retain(|pid| !spared.contains(pid));
        for pid in &pids {
            // The number may have been given to somebody else since it was read: hold the process
            // first, look whether it is one of ours, then signal what is held.
            let Ok(held) = rustix::process::pidfd_open(*pid, PidfdFlags::empty()) else { continue };
            if self.holds(*pid) {
                // An error says that it has just ended.
                let _gone = rustix::process::pidfd_send_signal(&held, signal);
            }
        }
        pids
    }

    /// Kills everything in it, and gives what was there.
    pub(crate) fn kill(&self) -> Vec<Pid> {
        for directory in &self.directories {
            // Nobody gets away by having children faster than they are killed, or by being frozen.
            // Not every hierarchy has these.
            for (file, value) in [("pids.max", "0"), ("freezer.state", "THAWED")] {
                let path = directory.join(file);
                let _tried = path.exists().then(|| fs::write(path, value));
            }
        }
        let pids = self.signal(Signal::KILL, &[]);
        for directory in &self.directories {
            let kill = directory.join("cgroup.kill");
            if kill.exists() {
                // Takes those that were not there yet, too. They have all been killed one by one.
                let _tried = fs::write(kill, "1");
            }
        }
        pids
    }

    /// Removes the groups; says whether all are gone.
    pub(crate) fn try_remove(&mut self) -> io::Result<bool> {
        if self.borrowed {
            return Ok(true);
        }
        let mut busy = None;
        for below in self.directories.iter().flat_map(|directory| children(directory)) {
            // One that is in use keeps the one above it, which is told below.
            let _in_use = fs::remove_dir(below);
        }
        self.directories.retain(|directory| match fs::remove_dir(directory) {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => true,
            Err(error) => {
                busy = Some(error);
                true
            }
        });
        busy.map_or(Ok(self.directories.is_empty()), Err)
    }

    /// Removes the groups, waiting up to a second for the kernel to empty them.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        for _ in 0..REMOVE_TRIES {
            if self.try_remove()? {
                return Ok(());
            }
            thread::sleep(REMOVE_PAUSE);
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("cgroup {} is in use", self.name)))
    }

    /// What was counted.
    pub(crate) fn memory(&self) -> MemoryFacts {
        let number = |file: &str| {
            self.directories
                .iter()
                .find_map(|d| fs::read_to_string(d.join(file)).ok()?.trim().parse().ok())
        };
        let event = |file: &str| {
            self.directories.iter().find_map(|directory| {
                let events = fs::read_to_string(directory.join(file)).ok()?;
                events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            })
        };
        MemoryFacts {
            peak: number("memory.max_usage_in_bytes").or(number("memory.peak")).unwrap_or(0),
            oom_kills: event("memory.oom_control").or(event("memory.events")).unwrap_or(0),
        }
    }

    /// Whether a process is in it, or in a group below it.
    pub(crate) fn holds(&self, pid: Pid) -> bool {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()));
        groups.is_ok_and(|groups| {
            groups.lines().filter_map(|line| line.split(':').nth(2)).any(|path| {
                let above = path.rsplit_once('/').map_or("", |(above, _)| above);
                path.ends_with(&self.name) || above.ends_with(&self.name)
            })
        })
    }
}

/// The groups right below one.
fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let is_group = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_group).map(|entry| entry.path()).collect()
}

/// Kills and removes the groups below `parent` whose sandbox is not alive; says how many there were.
///
/// # Errors
/// When one is left, or they cannot be looked for.
pub fn clean_orphans(parent: &str, is_alive: impl Fn(&str) -> bool) -> io::Result<usize> {
    let mut orphans: Vec<String> = hierarchies()?
        .iter()
        .filter_map(|mount| fs::read_dir(mount.join(parent)).ok())
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|id| !is_alive(id))
        .collect();
    orphans.sort_unstable();
    orphans.dedup();
    // All are killed before one is waited for, and one that cannot go keeps no other.
    let mut groups = Vec::new();
    let mut failed = None;
    for id in &orphans {
        match Cgroup::find(parent, id) {
            Ok(group) => {
                group.kill();
                groups.push(group);
            }
            Err(error) => failed = Some(error),
        }
    }
    for group in &mut groups {
        failed = group.remove().err().or(failed);
    }
    failed.map_or(Ok(orphans.len()), Err)
}

/// Removes the group that held all sandboxes. The last of these may still be on its way out.
///
/// # Errors
/// When one is left.
pub fn remove_parent(parent: &str) -> io::Result<()> {
    let directories = hierarchies()?.into_iter().map(|mount| mount.join(parent)).collect();
    Cgroup { name: parent.to_owned(), directories, borrowed: false }.remove()
}

/// How swap is limited here, if it can be.
pub(crate) fn swap_limit() -> Option<SwapLimit> {
    let mounts = mounts().ok()?;
    let memory = mounts.iter().find(|mount| mount.is_v1 && mount.has("memory"));
    match memory {
        Some(mount) => {
            let file = mount.path.join("memory.memsw.limit_in_bytes");
            file.exists().then_some(SwapLimit::Together)
        }
        None => Path::new("/proc/swaps").exists().then_some(SwapLimit::Apart),
    }
}

/// The processes of one directory, as seen here.
fn pids_in(directory: &Path) -> Vec<i32> {
    let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|pid| pid.parse().ok()).collect()
}

fn hierarchies() -> io::Result<Vec<PathBuf>> {
    Ok(mounts()?.into_iter().map(|mount| mount.path).collect())
}

struct Mount {
    path: PathBuf,
    is_v1: bool,
    options: String,
}

impl Mount {
    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }
}

/// Where control groups are mounted.
fn mounts() -> io::Result<Vec<Mount>> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| Mount {
            path: PathBuf::from(path),
            is_v1: kind == "cgroup",
            options: options.to_owned(),
        })
    });
    Ok(mounts.collect())
}
