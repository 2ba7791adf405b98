//! A profile as the runner knows it: how its sandbox is built and what a session in it gets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::limits::Limits;
use sojourn_core::wire::Text;
use sojourn_shim::control::Account;
use sojourn_shim::control::RecordingPolicy;
use sojourn_shim::host::HostProfile;
use sojourn_shim::nat::Nat;
use sojourn_shim::native::DiskTemplate;
use sojourn_shim::native::IdRange;
use sojourn_shim::native::NativeProfile;
use sojourn_shim::native::Rootfs;

use crate::egress::Egress;
use crate::slots::IDS;
use crate::slots::Slot;
use crate::slots::Slots;

/// Where the files of a native sandbox come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// The host's programs.
    Host,
    /// A directory with a whole system.
    Directory(PathBuf),
    /// An image archive.
    Archive(PathBuf),
}

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

impl Overlay {
    /// The directory, where there is one.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Directory(path) => Some(path.clone()),
            Self::None | Self::Bait => None,
        }
    }
}

/// What keeps a session apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sandbox that a shim builds.
    Native,
    /// A container of an engine.
    Docker {
        /// The image's name.
        image: String,
    },
    /// Nothing but another user.
    Host(HostUser),
}

/// A user of this machine that programs run as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostUser {
    /// Its name.
    pub name: String,
    /// Its home.
    pub home: String,
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// All of its groups.
    pub groups: Vec<u32>,
}

/// One profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What keeps its sessions apart.
    pub kind: Kind,
    /// Where its files come from.
    pub rootfs: Files,
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
    /// The longest that a session started at the web door runs; the other limits are the same.
    pub web_runtime: Option<Duration>,
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
    pub(crate) fn native(
        &self,
        id: &str,
        slot: &Slot,
        rootfs: Rootfs,
        nat: Option<Nat>,
    ) -> NativeProfile {
        NativeProfile {
            id: id.to_owned(),
            cgroup_parent: self.cgroup.clone(),
            rootfs,
            overlay: self.overlay.directory(),
            hostname: self.hostname(id),
            memory: self.memory,
            cpu: self.cpu,
            pids: self.pids,
            tmp_size: self.tmp_size,
            disk_size: self.disk_size,
            ids: slot.ids(),
            nat,
        }
    }

    /// What a shim is told to start on the host.
    pub(crate) fn host(&self, id: &str, user: &HostUser) -> HostProfile {
        HostProfile {
            id: id.to_owned(),
            cgroup_parent: self.cgroup.clone(),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups.clone(),
            memory: self.memory,
            cpu: self.cpu,
            pids: self.pids,
        }
    }

    /// Who its programs are.
    #[must_use]
    pub fn account(&self) -> Account {
        match &self.kind {
            Kind::Host(user) => Account { name: user.name.clone(), home: user.home.clone() },
            Kind::Native | Kind::Docker { .. } => Account::default(),
        }
    }

    /// The host name of the sandbox with this id.
    pub(crate) fn hostname(&self, id: &str) -> String {
        match self.hostname.as_str() {
            "" => format!("sandbox-{}", id.rsplit('-').next().unwrap_or(id)),
            name => name.to_owned(),
        }
    }
}

/// What the id of a sandbox begins with, by its kind.
const NATIVE: char = 's';
const DOCKER: char = 'd';
const HOST: char = 'h';

/// The id of a sandbox: its kind and its slot, so that a runner that starts knows which ids are in
/// use and what there is to clean up, and something no other sandbox has.
#[must_use]
pub fn sandbox_id(kind: &Kind, slot: u32, unique: u32) -> String {
    let kind = match kind {
        Kind::Native => NATIVE,
        Kind::Docker { .. } => DOCKER,
        Kind::Host(_) => HOST,
    };
    format!("{kind}{slot}-{unique:08x}")
}

/// The slot in a sandbox's id.
#[must_use]
pub fn slot_of(id: &str) -> Option<u32> {
    id.strip_prefix([NATIVE, DOCKER, HOST])?.split_once('-')?.0.parse().ok()
}

/// Whether a sandbox is a container of an engine.
#[must_use]
pub fn is_container(id: &str) -> bool {
    id.starts_with(DOCKER)
}

/// Whether a sandbox is none: programs as a user of the host, which leave nothing of their own.
#[must_use]
pub fn is_host(id: &str) -> bool {
    id.starts_with(HOST)
}

/// The ids outside that the users of a sandbox have.
#[must_use]
pub fn ids_of(id: &str, slots: &Slots) -> Option<IdRange> {
    match is_container(id) {
        // An engine's users are the host's.
        true => Some(IdRange { start: 0, count: IDS }),
        false => slot_of(id).map(|slot| slots.ids(slot)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_id_tells_its_slot() {
        let docker = Kind::Docker { image: "debian".to_owned() };
        for kind in [Kind::Native, docker, Kind::Host(HostUser::default())] {
            assert_eq!(slot_of(&sandbox_id(&kind, 17, 0xabc)), Some(17));
        }
        assert!(is_container("d17-00000abc") && !is_container("s17-00000abc"));
        assert!(is_host("h17-00000abc") && !is_host("s17-00000abc"));
        assert_eq!(slot_of("nonsense"), None);
    }
}
