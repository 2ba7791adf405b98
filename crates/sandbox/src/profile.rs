//! A profile as the runner knows it: how its sandbox is built and what a session in it gets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::limits::Limits;
use sojourn_core::wire::Text;
use sojourn_shim::control::RecordingPolicy;
use sojourn_shim::nat::Nat;
use sojourn_shim::native::DiskTemplate;
use sojourn_shim::native::NativeProfile;
use sojourn_shim::native::Rootfs;

use crate::egress::Egress;
use crate::slots::Slot;

/// What is laid over a root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// Nothing.
    None,
    /// The files of [`crate::bait`].
    Bait,
    /// A directory.
    Directory(PathBuf),
}

/// One profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Where its files come from.
    pub rootfs: Rootfs,
    /// What is laid over them; the runner has the directory of [`Overlay::Bait`] made.
    pub overlay: Overlay,
    /// Its host name; empty: made from the sandbox's id.
    pub hostname: String,
    /// Memory in bytes.
    pub memory: u64,
    /// Processors.
    pub cpu: f64,
    /// Processes and threads.
    pub pids: u64,
    /// The size of `/tmp` in bytes.
    pub tmp_size: u64,
    /// What it may write elsewhere, in bytes.
    pub disk_size: u64,
    /// Its network; none is none.
    pub egress: Option<Arc<Egress>>,
    /// The limits of its sessions.
    pub limits: Limits,
    /// What a shell request starts; its first word is the shell of `exec`.
    pub command: Vec<Text>,
    /// Environment that every program gets.
    pub env: Vec<(Text, Text)>,
    /// Sandboxes to have ready.
    pub pool: usize,
    /// Whether all connections of a user have one sandbox.
    pub shared: bool,
    /// How long what a session left is kept; none: for ever.
    pub keep_for: Option<Duration>,
    /// What is recorded.
    pub recording: RecordingPolicy,
    /// The cgroup that holds those of all sandboxes of this data directory.
    pub cgroup: String,
    /// For a writable layer that does not fit in memory: the template of its size.
    pub disk: Option<Arc<DiskTemplate>>,
}

impl Profile {
    /// What a shim is told to build.
    pub(crate) fn native(&self, id: &str, slot: &Slot, nat: Option<Nat>) -> NativeProfile {
        let hostname = match self.hostname.as_str() {
            "" => format!("sandbox-{}", id.rsplit('-').next().unwrap_or(id)),
            name => name.to_owned(),
        };
        NativeProfile {
            id: id.to_owned(),
            cgroup_parent: self.cgroup.clone(),
            rootfs: self.rootfs.clone(),
            overlay: match &self.overlay {
                Overlay::Directory(path) => Some(path.clone()),
                Overlay::None | Overlay::Bait => None,
            },
            hostname,
            memory: self.memory,
            cpu: self.cpu,
            pids: self.pids,
            tmp_size: self.tmp_size,
            disk_size: self.disk_size,
            ids: slot.ids(),
            nat,
        }
    }
}

/// The id of a sandbox: its slot, so that a runner that starts knows which ids are in use, and
/// something no other sandbox has.
#[must_use]
pub fn sandbox_id(slot: u32, unique: u32) -> String {
    format!("s{slot}-{unique:08x}")
}

/// The slot in a sandbox's id.
#[must_use]
pub fn slot_of(id: &str) -> Option<u32> {
    id.strip_prefix('s')?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_id_tells_its_slot() {
        assert_eq!(slot_of(&sandbox_id(17, 0xabc)), Some(17));
        assert_eq!(slot_of("nonsense"), None);
    }
}
