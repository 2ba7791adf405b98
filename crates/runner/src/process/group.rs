//! A control group for a session's processes, where this user may make one: with it they are killed
//! all at once, however fast they have children. Without one the warden finds them all the same.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use rustix::process::Pid;
use rustix::process::Signal;

/// In which of the hierarchies of v1 a group is made; the first that lets us.
const V1: [&str; 3] = ["pids", "freezer", "name=systemd"];

/// A group of one session's processes.
#[derive(Debug)]
pub(super) struct Group {
    directory: PathBuf,
    /// The group that this process is in.
    above: PathBuf,
}

impl Group {
    /// Makes the group of this tag below our own; none where we may not.
    pub(super) fn make(tag: &str) -> Option<Self> {
        homes().into_iter().find_map(|above| {
            let directory = above.join(format!("sojourn-{tag}"));
            let made = fs::create_dir(&directory).is_ok();
            made.then_some(Self { directory, above })
        })
    }

    /// The groups of this tag that somebody made earlier.
    pub(super) fn find(tag: &str) -> Vec<Self> {
        let groups = homes().into_iter().map(|above| {
            let directory = above.join(format!("sojourn-{tag}"));
            Self { directory, above }
        });
        groups.filter(|group| group.directory.is_dir()).collect()
    }

    /// What is started from now on is in it, until [`Group::leave`].
    pub(super) fn enter(&self) -> bool {
        fs::write(self.directory.join("cgroup.procs"), "0").is_ok()
    }

    /// This process is where it was before.
    pub(super) fn leave(&self) {
        // It fails only where the group above is gone, and then nobody kills by it.
        let _stays = fs::write(self.above.join("cgroup.procs"), "0");
    }

    /// Kills everything in it but this process.
    pub(super) fn kill(&self) {
        let own = std::process::id().to_string();
        let members = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        if members.lines().any(|line| line == own) {
            // Killed by itself, it would end nothing more.
            return;
        }
        // Not every kernel has these; those it lacks are made up for by repetition.
        for (file, value) in [("pids.max", "0"), ("freezer.state", "THAWED"), ("cgroup.kill", "1")]
        {
            let file = self.directory.join(file);
            let _tried = file.exists().then(|| fs::write(&file, value));
        }
        for pid in members.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
            let _gone = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    /// Removes it once it is empty; says whether it is gone.
    pub(super) fn remove(&self) -> bool {
        fs::remove_dir(&self.directory).is_ok() || !self.directory.exists()
    }
}

/// The directories of the groups that this process is in: of v2, then of v1.
fn homes() -> Vec<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let path = fields.next()?;
            let is_it = match controller {
                "" => controllers.is_empty(),
                controller => controllers.split(',').any(|name| name == controller),
            };
            is_it.then(|| path.to_owned())
        })
    };
    let mut homes = Vec::new();
    for controller in std::iter::once("").chain(V1) {
        let Some(path) = own(controller) else { continue };
        let mount = mounts.lines().find_map(|line| mount_of(line, controller));
        homes.extend(mount.map(|(root, mount)| {
            let below = Path::new(&path).strip_prefix(&root).unwrap_or(Path::new(""));
            mount.join(below)
        }));
    }
    homes
}

/// Root and place of a mount, if it is the hierarchy of this controller.
fn mount_of(line: &str, controller: &str) -> Option<(PathBuf, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    let mut kind = after.split(' ');
    let is_it = match (kind.next()?, controller) {
        ("cgroup2", "") => true,
        ("cgroup", controller) if !controller.is_empty() => {
            kind.nth(1)?.split(',').any(|option| option == controller)
        }
        _ => false,
    };
    is_it.then(|| (root.into(), place.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_apart() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let v1 = "41 31 0:38 /docker/a /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";
        assert_eq!(mount_of(v2, ""), Some(("/".into(), "/sys/fs/cgroup".into())));
        assert_eq!(mount_of(v2, "pids"), None);
        let pids = Some(("/docker/a".into(), "/sys/fs/cgroup/pids".into()));
        assert_eq!(mount_of(v1, "pids"), pids);
        assert_eq!(mount_of(v1, "freezer"), None);
        assert_eq!(mount_of(v1, ""), None);
    }
}
