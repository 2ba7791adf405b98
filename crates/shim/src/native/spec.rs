//! The container, as the OCI runtime specification describes one.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use super::profile::IdRange;
use super::profile::NativeProfile;
use super::seccomp;
use crate::cgroup;

/// All that a prisoner's root may.
pub const CAPABILITIES: [&str; 3] = ["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"];
/// Of `/proc`, what the prisoner does not get to see.
const MASKED: [&str; 12] = [
    "acpi",
    "asound",
    "fs",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "swaps",
    "timer_list",
    "timer_stats",
    "kallsyms",
];
/// Of `/proc`, what it may read but not write.
const READ_ONLY: [&str; 4] = ["bus", "irq", "sys", "sysrq-trigger"];
/// The owner is named because terminals are opened from outside, and their number limited because all
/// sandboxes share what the kernel has.
const DEVPTS: [&str; 8] =
    ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "uid=0", "gid=5", "max=128"];
/// `cpu.cfs_period_us` / `cpu.max`: the kernel's default.
const PERIOD_US: f64 = 100_000.0;

/// Describes the sandbox; its root file system is at `root`, already put together.
pub(super) fn container(profile: &NativeProfile, root: &Path) -> Value {
    let capabilities = json!({
        "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
        "inheritable": CAPABILITIES, "ambient": CAPABILITIES,
    });
    let namespaces = ["user", "pid", "mount", "network", "ipc", "uts", "cgroup"]
        .map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": root, "readonly": false },
        "hostname": profile.hostname,
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0, "umask": 0o022 },
            "args": ["init"],
            "env": [],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": capabilities,
        },
        "mounts": mounts(profile),
        "linux": {
            "namespaces": namespaces,
            "uidMappings": map(profile.ids),
            "gidMappings": map(profile.ids),
            "cgroupsPath": format!("/{}/{}", profile.cgroup_parent, profile.id),
            "resources": resources(profile),
            "maskedPaths": in_proc(&MASKED),
            "readonlyPaths": in_proc(&READ_ONLY),
            "rootfsPropagation": "private",
        },
    })
}

/// What a prisoner does not get to see, for a container that an engine makes.
pub fn masked_paths() -> Vec<String> {
    in_proc(&MASKED)
}

/// What a prisoner may not write, for a container that an engine makes.
pub fn read_only_paths() -> Vec<String> {
    in_proc(&READ_ONLY)
}

/// The filter of system calls, for a container that an engine makes.
pub fn system_calls() -> String {
    seccomp::filter().to_string()
}

fn in_proc(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("/proc/{name}")).collect()
}

fn map(ids: IdRange) -> Value {
    json!([{ "containerID": 0, "hostID": ids.start, "size": ids.count }])
}

fn mounts(profile: &NativeProfile) -> Value {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let tmp = format!("size={}", profile.tmp_size);
    json!([
        mount("/proc", "proc", &["nosuid", "nodev", "noexec"]),
        mount("/dev", "tmpfs", &["nosuid", "noexec", "mode=755", "size=64k"]),
        mount("/dev/pts", "devpts", &DEVPTS),
        mount("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec", "mode=1777", "size=16m"]),
        // Nothing of the machine shows, and nothing can be put there.
        mount("/sys", "tmpfs", &["ro", "nosuid", "nodev", "noexec", "mode=0555", "size=4k"]),
        mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777", &tmp]),
    ])
}

fn resources(profile: &NativeProfile) -> Value {
    let bytes = i64::try_from(profile.memory).unwrap_or(i64::MAX);
    let mut memory = json!({ "limit": bytes });
    let mut unified = json!({});
    match cgroup::swap_limit() {
        // Memory and swap together.
        Some(cgroup::SwapLimit::Together) => memory["swap"] = json!(bytes),
        // Written directly: the library takes a zero for "not said".
        Some(cgroup::SwapLimit::Apart) => unified = json!({ "memory.swap.max": "0" }),
        None => {}
    }
    let pids = i64::try_from(profile.pids).unwrap_or(i64::MAX);
    json!({
        "memory": memory,
        "cpu": { "quota": (profile.cpu * PERIOD_US) as i64, "period": PERIOD_US as u64 },
        "pids": { "limit": pids },
        "unified": unified,
    })
}
