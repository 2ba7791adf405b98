//! What each kind of sandbox needs, and what it cannot do: said at the start, not when somebody comes.

use super::Config;
use super::node::Node;
use super::profile::Profile;
use super::profile::SandboxKind;
use super::report::Report;
use crate::system_user::SystemUser;

/// Checks a profile of a file. One that nobody may use need not be complete.
pub(super) fn check(
    config: &Config,
    profile: &Profile,
    is_for_somebody: bool,
    node: &Node,
    report: &mut Report,
) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    match profile.sandbox {
        SandboxKind::Docker if profile.image.0.is_empty() && is_for_somebody => {
            report.problem(at("sandbox"), "sandbox = \"docker\" needs image: the name of an image");
        }
        SandboxKind::Host if profile.run_as.0.is_empty() && is_for_somebody => {
            report.problem(
                at("sandbox"),
                "sandbox = \"host\" needs run_as: the system account that programs run as, \
                 neither root nor the gateway's",
            );
        }
        SandboxKind::Host if !profile.run_as.0.is_empty() => {
            if let Some(problem) = unfit(config, &profile.run_as.0) {
                report.problem(at("run_as"), problem);
            }
        }
        _ => {}
    }
    for key in meaningless(profile) {
        let kind = match profile.sandbox {
            SandboxKind::Native => "native",
            SandboxKind::Docker => "docker",
            SandboxKind::Host => "host",
        };
        report.problem(at(key), format_args!("sandbox = {kind:?} has no {key}; leave it out"));
    }
}

/// Why programs cannot run as this account; none when they can.
fn unfit(config: &Config, name: &str) -> Option<String> {
    let Some(user) = SystemUser::find(name) else {
        return Some(format!("there is no system account {name:?}"));
    };
    if user.uid == 0 {
        return Some(format!("{name:?} is root; name an account with no rights of its own"));
    }
    let gateway = &config.server.user.0;
    let is_gateways = user.name == *gateway
        || gateway.parse() == Ok(user.uid)
        || SystemUser::find(gateway).is_some_and(|gateway| gateway.uid == user.uid);
    is_gateways.then(|| format!("{name:?} is the gateway's own account; name another one"))
}

/// Keys that were set and that this kind of sandbox has not.
fn meaningless(profile: &Profile) -> Vec<&'static str> {
    let default = Profile::default();
    let set = [
        ("image", profile.image != default.image),
        ("run_as", profile.run_as != default.run_as),
        ("rootfs", profile.rootfs != default.rootfs),
        ("overlay", profile.overlay != default.overlay),
        ("hostname", profile.hostname != default.hostname),
        ("network", profile.network != default.network),
        ("tmp_size", profile.tmp_size != default.tmp_size),
        ("disk_size", profile.disk_size != default.disk_size),
    ];
    let has: &[&str] = match profile.sandbox {
        SandboxKind::Native => {
            &["rootfs", "overlay", "hostname", "network", "tmp_size", "disk_size"]
        }
        SandboxKind::Docker => {
            &["image", "overlay", "hostname", "network", "tmp_size", "disk_size"]
        }
        SandboxKind::Host => &["run_as"],
    };
    set.into_iter()
        .filter(|(key, is_set)| *is_set && !has.contains(key))
        .map(|(key, _)| key)
        .collect()
}
