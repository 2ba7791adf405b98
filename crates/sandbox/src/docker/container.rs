//! What an engine is asked for: a container that is as closed as a native sandbox is.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::ContainerCreateBody;
use bollard::models::HealthConfig;
use bollard::models::HostConfig;
use bollard::models::HostConfigCgroupnsModeEnum;
use bollard::models::HostConfigLogConfig;
use bollard::models::Mount;
use bollard::models::MountType;
use bollard::models::ResourcesUlimits;
use bollard::models::RestartPolicy;
use bollard::models::RestartPolicyNameEnum;
use rustix::process::Resource;
use sojourn_shim::container::OURS;
use sojourn_shim::native;

use crate::profile::Profile;

/// The label that says which data directory's runner a container belongs to. An engine never changes
/// a label, and a container is made before there is a session: which one it is shows in its name.
pub const INSTANCE: &str = "sojourn.instance";
/// The label with the sandbox's id.
pub const SANDBOX: &str = "sojourn.sandbox";
/// The label with the profile's name.
pub const PROFILE: &str = "sojourn.profile";

/// `/dev/shm`, as a native sandbox has it.
const SHM: i64 = 16 << 20;
/// The kernel's default period of a processor's quota.
const PERIOD_US: i64 = 100_000;
const OPEN_FILES: i64 = 1024;
const MAX_OPEN_FILES: i64 = 65_536;

/// All that a container depends on.
pub(crate) struct Plan<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) image: &'a str,
    pub(crate) sandbox: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) hostname: &'a str,
    pub(crate) init: &'a Path,
    pub(crate) socket: &'a Path,
}

/// A container's name before it is a session's.
pub(crate) fn name(instance: &str, sandbox: &str) -> String {
    format!("{instance}-{sandbox}")
}

/// The container, as the engine wants it described.
pub(crate) fn describe(plan: &Plan<'_>) -> ContainerCreateBody {
    let (init, socket) = (format!("{OURS}/init"), format!("{OURS}/socket"));
    let labels =
        [(INSTANCE, plan.instance), (SANDBOX, plan.sandbox), (PROFILE, plan.profile.name.as_str())];
    ContainerCreateBody {
        image: Some(plan.image.to_owned()),
        hostname: Some(plan.hostname.to_owned()),
        // Whatever the image says of these.
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        entrypoint: Some(vec![init.clone()]),
        cmd: Some(vec![socket.clone()]),
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        host_config: Some(HostConfig {
            mounts: Some(vec![read_only(plan.init, init), read_only(plan.socket, socket)]),
            ..confined(plan.profile)
        }),
        ..ContainerCreateBody::default()
    }
}

fn confined(profile: &Profile) -> HostConfig {
    let number = |value: u64| Some(i64::try_from(value).unwrap_or(i64::MAX));
    let limit = |name: &str, soft, hard| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(soft),
        hard: Some(hard),
    };
    // An engine that may not raise its own limit cannot give more.
    let own = rustix::process::getrlimit(Resource::Nofile).maximum;
    let own = own.and_then(|most| i64::try_from(most).ok()).unwrap_or(MAX_OPEN_FILES);
    let files = own.min(MAX_OPEN_FILES);
    // Part of the quota's own range, and far from the end of the type's.
    let quota = (profile.cpu * PERIOD_US as f64).max(1000.0) as i64;
    let tmp = format!("rw,nosuid,nodev,exec,mode=1777,size={}", profile.tmp_size);
    HostConfig {
        network_mode: Some("none".to_owned()),
        memory: number(profile.memory),
        // Memory and swap together.
        memory_swap: number(profile.memory),
        cpu_period: Some(PERIOD_US),
        cpu_quota: Some(quota),
        pids_limit: number(profile.pids),
        shm_size: Some(SHM),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), tmp)])),
        ulimits: Some(vec![limit("nofile", OPEN_FILES.min(files), files), limit("core", 0, 0)]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(
            native::CAPABILITIES.map(|name| name.trim_start_matches("CAP_").to_owned()).into(),
        ),
        security_opt: Some(vec![
            "no-new-privileges".to_owned(),
            format!("seccomp={}", native::system_calls()),
        ]),
        masked_paths: Some(native::masked_paths()),
        readonly_paths: Some(native::read_only_paths()),
        // What is written goes to a layer that has a size, which the engine's may not have.
        readonly_rootfs: Some(true),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        // Process 1 is ours.
        init: Some(false),
        // It ends with its session, and is removed by us: what it wrote may have to be read first.
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

fn read_only(source: &Path, target: String) -> Mount {
    Mount {
        target: Some(target),
        source: Some(source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    }
}
