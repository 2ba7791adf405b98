//! From the configuration to what each part is made with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::units::Size;
use sojourn_core::units::Span;
use sojourn_core::wire::Text;
use sojourn_engine::identity::Cost;
use sojourn_engine::identity::Policy;
use sojourn_engine::identity::Settings as IdentitySettings;
use sojourn_engine::login::Rules as LoginRules;
use sojourn_engine::profiles::ProfilePolicy;
use sojourn_engine::profiles::Profiles;
use sojourn_engine::rates::RateLimits;
use sojourn_runner::builtin::RunnerConfig;
use sojourn_runner::retention::Retention;
use sojourn_sandbox::egress::Egress;
use sojourn_sandbox::profile::Files;
use sojourn_sandbox::profile::HostUser;
use sojourn_sandbox::profile::Kind;
use sojourn_sandbox::profile::Overlay;
use sojourn_sandbox::profile::Profile as SandboxProfile;
use sojourn_sandbox::slots;
use sojourn_shim::control::InputPolicy;
use sojourn_shim::control::OnFailure;
use sojourn_shim::control::RecordingPolicy;
use sojourn_web::Origin;
use sojourn_web::Settings as WebSettings;

use crate::config::Config;
use crate::config::Laid;
use crate::config::Network;
use crate::config::OnRecordingFailure;
use crate::config::Profile;
use crate::config::RecordInput;
use crate::config::SandboxKind;
use crate::config::Share;
use crate::config::Web;
use crate::failure::Failure;
use crate::system_user::SystemUser;

/// What gateway and runner have to agree on.
pub(crate) const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("SOJOURN_BUILD"));

/// The ranges of ids of a chamber: its sandbox's, and one to unpack an image with.
const RANGES: u32 = 2;

/// The built-in runner's.
pub(crate) fn runner(config: &Config) -> Result<RunnerConfig, Failure> {
    let profiles = config.profiles.usable().map(|(name, p)| sandbox(config, name, p));
    Ok(with(config, profiles.collect::<Result<_, _>>()?))
}

/// That of a chamber: it knows one profile, and has a few ranges of ids for itself. They are the last
/// ones: a gateway on the same machine takes the first.
pub(crate) fn chamber(config: &Config, name: &str, place: u32) -> Result<RunnerConfig, Failure> {
    let profiles = config.profiles.usable().filter(|(known, _)| *known == name);
    let profiles = profiles.map(|(name, profile)| sandbox(config, name, profile));
    let mut runner = with(config, profiles.collect::<Result<_, _>>()?);
    let before = place.saturating_add(1).saturating_mul(RANGES);
    let first = runner.uid_count.checked_sub(before).ok_or_else(|| {
        Failure::Refused(format!("[sandbox] uid_count: {} are too few", runner.uid_count))
    })?;
    runner.uid_base = runner.uid_base.saturating_add(first.saturating_mul(slots::IDS));
    runner.uid_count = RANGES;
    Ok(runner)
}

/// One with these profiles.
pub(super) fn with(config: &Config, profiles: Vec<SandboxProfile>) -> RunnerConfig {
    RunnerConfig {
        data_dir: config.data_dir.0.clone(),
        profiles,
        missing: BTreeMap::new(),
        docker_host: config.sandbox.docker_host.0.clone(),
        spawn_timeout: config.sandbox.spawn_timeout.0,
        uid_base: config.sandbox.uid_base,
        uid_count: config.sandbox.uid_count,
        cgroup: cgroup(&config.data_dir.0),
        retention: Retention {
            recordings_for: for_ever(config.recording.keep_for),
            recordings_total: no_limit(config.recording.max_total),
            kept_total: no_limit(config.sandbox.kept_total),
        },
        build: BUILD.to_owned(),
    }
}

/// What keeps the sessions of a profile apart, and what a shell request starts in it.
fn kind(name: &str, profile: &Profile) -> Result<(Kind, Vec<String>), Failure> {
    let command = profile.command.clone();
    match profile.sandbox {
        SandboxKind::Native => Ok((Kind::Native, command)),
        SandboxKind::Docker => Ok((Kind::Docker { image: profile.image.0.clone() }, command)),
        SandboxKind::Host => {
            let unknown = |error: &dyn std::fmt::Display| {
                let run_as = &profile.run_as.0;
                Failure::Usage(format!("profile {name}: run_as = {run_as:?}: {error}"))
            };
            let user = SystemUser::find(&profile.run_as.0);
            let user = user.ok_or_else(|| unknown(&"there is no such system account"))?;
            let groups = user.groups().map_err(|error| unknown(&error))?;
            let SystemUser { name, uid, gid, home, shell } = user;
            let command = match command == Profile::default().command {
                true => vec![shell, "-l".to_owned()],
                false => command,
            };
            Ok((Kind::Host(HostUser { name, home, uid, gid, groups }), command))
        }
    }
}

/// A time for which something is kept: zero is for ever.
/// A time of which none is for ever.
pub(crate) fn for_ever(span: Span) -> Option<Duration> {
    Some(span.0).filter(|time| !time.is_zero())
}

fn no_limit(size: Size) -> Option<u64> {
    Some(size.0).filter(|bytes| *bytes > 0)
}

/// How often somebody may do what.
pub(crate) fn rates(config: &Config) -> RateLimits {
    let limits = &config.limits;
    RateLimits {
        starts_per_minute: limits.starts_per_minute,
        messages_per_minute: limits.messages_per_minute,
        sign_ins_per_minute: limits.sign_ins_per_minute,
        unknown_tokens_per_minute: limits.unknown_tokens_per_minute,
        requests_per_minute: limits.requests_per_minute,
    }
}

/// How people prove who they are.
pub(crate) fn identity(config: &Config) -> IdentitySettings {
    let login = &config.login;
    let memory = u32::try_from(login.hash_memory.0 / 1024).unwrap_or(u32::MAX);
    // What nobody chose is what there is without configuration, which in tests can be cheap.
    let wanted = Cost::new(memory, login.hash_passes).filter(|cost| *cost != Cost::LEAST);
    let score = u8::try_from(login.least_password_score).unwrap_or(u8::MAX);
    IdentitySettings {
        cost: wanted.unwrap_or_default(),
        policy: Policy::new(&public_host(config), score),
        ssh_key_needs_totp: login.ssh_key_needs_totp,
    }
}

/// The name people reach the web door by, if it has one.
fn public_host(config: &Config) -> Vec<String> {
    let url = config.web.public_url.0.as_ref().map(ToString::to_string).unwrap_or_default();
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    let first = host.split('.').next().unwrap_or_default();
    [host, first].into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// How long logins at the web door last, and how many there can be.
pub(crate) fn logins(config: &Config) -> LoginRules {
    let login = &config.login;
    LoginRules {
        max_lifetime: login.max_lifetime.0,
        idle_timeout: login.idle_timeout.0,
        remind_before: login.remind_before.0,
        max_per_user: usize::try_from(login.max_per_user).unwrap_or(usize::MAX),
        end_sessions: login.end_sessions,
    }
}

/// The gate's view of the profiles.
pub(crate) fn profiles(config: &Config) -> Profiles {
    let policy = |profile: &Profile| ProfilePolicy {
        allow: profile.allow.clone(),
        accept_env: profile.accept_env.iter().map(|pattern| pattern.0.clone()).collect(),
        forward: profile.forward.iter().map(|forward| forward.policy()).collect(),
        require_why: profile.require_why,
        sandbox: match profile.sandbox {
            SandboxKind::Native => "native".to_owned(),
            SandboxKind::Docker => "docker".to_owned(),
            SandboxKind::Host => "host".to_owned(),
        },
        limits: config.limits_for(profile),
        web_runtime: config.web_runtime_for(profile),
    };
    let all = config.profiles.usable().map(|(name, profile)| (name.to_owned(), policy(profile)));
    Profiles(all.collect::<BTreeMap<_, _>>())
}

fn sandbox(config: &Config, name: &str, profile: &Profile) -> Result<SandboxProfile, Failure> {
    let (kind, command) = kind(name, profile)?;
    // Starting one more process of somebody is quick, and nobody wonders at ones that wait.
    let pool = if profile.sandbox == SandboxKind::Host { 0 } else { profile.pool };
    Ok(SandboxProfile {
        name: name.to_owned(),
        kind,
        rootfs: match &profile.rootfs.0 {
            None => Files::Host,
            Some(path) if path.is_file() => Files::Archive(path.clone()),
            Some(path) => Files::Directory(path.clone()),
        },
        overlay: match &profile.overlay.0 {
            Laid::Nothing => Overlay::None,
            Laid::Bait => Overlay::Bait,
            Laid::Directory(path) => Overlay::Directory(path.clone()),
        },
        hostname: profile.hostname.0.clone(),
        memory: profile.memory.0,
        cpu: profile.cpu,
        pids: u64::from(profile.pids),
        tmp_size: profile.tmp_size.0,
        disk_size: profile.disk_size.0,
        egress: (profile.network == Network::Nat)
            .then(|| Arc::new(Egress::new(profile.egress.clone(), profile.egress_rate.0.0))),
        limits: config.limits_for(profile),
        web_runtime: config.web_runtime_for(profile),
        command: command.iter().map(|word| Text::from(word.as_str())).collect(),
        env: profile
            .env
            .0
            .iter()
            .map(|(name, value)| (Text::from(name.as_str()), Text::from(value.as_str())))
            .collect(),
        pool: usize::try_from(pool).unwrap_or(usize::MAX),
        shared: profile.share == Share::User,
        keep_for: for_ever(profile.keep_for),
        recording: RecordingPolicy {
            input: match config.recording.input {
                RecordInput::All => InputPolicy::All,
                RecordInput::Masked => InputPolicy::Masked,
                RecordInput::Nothing => InputPolicy::Nothing,
            },
            exec_bytes: config.recording.exec_bytes.0,
            on_failure: match config.recording.on_failure {
                OnRecordingFailure::End => OnFailure::End,
                OnRecordingFailure::Continue => OnFailure::Continue,
            },
        },
        cgroup: cgroup(&config.data_dir.0),
        disk: None::<Arc<_>>,
    })
}

/// The web door's settings.
pub(crate) fn web(web: &Web) -> WebSettings {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    WebSettings {
        trusted_proxies: web.trusted_proxies.clone(),
        max_connections: count(web.max_connections),
        max_connections_per_address: count(web.max_connections_per_address),
    }
}

/// Where people of a push service find ours: as it is set, or where browsers find the gateway. There has
/// to be something.
pub(crate) fn contact(set: &str, origin: &Origin) -> String {
    match (set, origin.to_string()) {
        ("", url) if url.starts_with("https://") => url,
        ("", _) => "mailto:postmaster@localhost".to_owned(),
        (set, _) => set.to_owned(),
    }
}

/// A name for the control group of this data directory's sandboxes, so that two gateways on one
/// machine do not take each other's for orphans. FNV-1a: it only has to differ.
fn cgroup(data_dir: &Path) -> String {
    let hash =
        data_dir.as_os_str().as_encoded_bytes().iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
    format!("sojourn-{hash:08x}")
}
