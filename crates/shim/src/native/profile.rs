//! What a native sandbox is made of.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::nat::Nat;

/// Where the files of a sandbox come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// The host's programs and libraries, read-only, and a small `/etc` of its own.
    Host,
    /// A directory with a whole system, which stays as it is.
    Directory(PathBuf),
    /// An image that was unpacked into a directory.
    Image(Image),
}

/// An unpacked image, which nobody removes while a sandbox is made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its directory, which the sandbox's holder locks.
    pub directory: PathBuf,
    /// The name of the tree in there.
    pub tree: String,
    /// The id on disk of the image's root.
    pub first: u32,
}

/// User and group ids outside that a sandbox has for its own: `start` is its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// One sandbox to build. Whoever fills it in has checked the numbers against the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NativeProfile {
    /// Names its cgroup; used by no other sandbox. Letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// The cgroup that holds those of all sandboxes, a plain name.
    pub cgroup_parent: String,
    /// Where its files come from.
    pub rootfs: Rootfs,
    /// A directory laid over them, which stays as it is.
    pub overlay: Option<PathBuf>,
    /// Its host name.
    pub hostname: String,
    /// Memory, swap included, in bytes.
    pub memory: u64,
    /// Processors, fractions allowed.
    pub cpu: f64,
    /// Processes and threads.
    pub pids: u64,
    /// The size of `/tmp` in bytes; it counts as memory.
    pub tmp_size: u64,
    /// What it may write elsewhere, in bytes.
    pub disk_size: u64,
    /// Its ids.
    pub ids: IdRange,
    /// Its network; none is none but its own loopback.
    pub nat: Option<Nat>,
}

impl NativeProfile {
    /// Whether names are plain and numbers make sense; says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        let plain = |name: &str| {
            !name.is_empty()
                && name.len() <= 128
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !plain(&self.id) || !plain(&self.cgroup_parent) {
            return Err(format!("not a plain name: {:?} in {:?}", self.id, self.cgroup_parent));
        }
        if !plain(&self.hostname) || self.hostname.len() > 63 {
            return Err(format!("not a host name: {:?}", self.hostname));
        }
        if self.ids.start == 0 || self.ids.start.checked_add(self.ids.count).is_none() {
            return Err("not a range of ids for a sandbox".to_owned());
        }
        if !(self.cpu.is_finite() && self.cpu >= 0.01) || self.memory == 0 || self.pids == 0 {
            return Err("cpu, memory and pids must be above zero".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> NativeProfile {
        NativeProfile {
            id: "0191-abc".to_owned(),
            cgroup_parent: "sojourn".to_owned(),
            rootfs: Rootfs::Host,
            overlay: None,
            hostname: "room".to_owned(),
            memory: 1 << 28,
            cpu: 0.5,
            pids: 100,
            tmp_size: 1 << 20,
            disk_size: 1 << 20,
            ids: IdRange { start: 1 << 30, count: 1 << 16 },
            nat: None,
        }
    }

    #[test]
    fn only_plain_names_and_real_limits_pass() {
        assert_eq!(profile().check(), Ok(()));
        let broken: [fn(&mut NativeProfile); 10] = [
            |p| p.id = "../up".to_owned(),
            |p| p.id = String::new(),
            |p| p.cgroup_parent = "a/b".to_owned(),
            |p| p.hostname = "two words".to_owned(),
            |p| p.hostname = "x".repeat(64),
            |p| p.ids.start = 0,
            |p| p.ids.start = u32::MAX,
            |p| p.cpu = f64::NAN,
            |p| p.memory = 0,
            |p| p.pids = 0,
        ];
        for (number, break_it) in broken.iter().enumerate() {
            let mut profile = profile();
            break_it(&mut profile);
            assert!(profile.check().is_err(), "{number}");
        }
    }
}
