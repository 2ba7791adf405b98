//! What there is where nobody is root: everything but sandboxes. Sessions are on runners that dial in;
//! gateway, zygote and built-in runner are one user's, and the last of them keeps the recordings.

use std::collections::BTreeMap;

use sojourn_runner::builtin::RunnerConfig;

use super::convert;
use crate::config::Config;
use crate::config::Mode;
use crate::config::Profile;
use crate::config::SandboxKind;
use crate::failure::Failure;
use crate::failure::Outcome;

/// What is said at the start.
pub(super) const NOTE: &str = "note: this runs without root: both doors, recordings and the audit log \
                               are there, sandboxes are not; sessions run where a \"sojourn runner\" does";

/// Refuses what was asked for and cannot be: a honeypot's visitors get sandboxes, and nothing else.
pub(super) fn check(config: &Config) -> Outcome {
    let pots = config.ssh.iter().filter(|listener| listener.mode == Mode::Honeypot);
    let lines: Vec<String> = pots
        .map(|pot| {
            format!(
                "[[ssh]] listen = {}: a honeypot's visitors get sandboxes (profile {:?}), and making \
                 them needs root; start this as root, or leave the listener out",
                pot.listen.0,
                pot.profile.as_deref().unwrap_or_default(),
            )
        })
        .collect();
    if lines.is_empty() { Ok(()) } else { Err(Failure::Usage(lines.join("\n"))) }
}

/// A built-in runner that makes nothing, and says why.
pub(super) fn runner(config: &Config) -> RunnerConfig {
    let profiles = config.profiles.usable();
    let missing: BTreeMap<String, String> =
        profiles.map(|(name, profile)| (name.to_owned(), missing(profile))).collect();
    RunnerConfig { missing, ..convert::with(config, Vec::new()) }
}

/// What is missing to a session in this profile, and what to do.
fn missing(profile: &Profile) -> String {
    let what = match profile.sandbox {
        SandboxKind::Native | SandboxKind::Docker => "makes no sandboxes".to_owned(),
        SandboxKind::Host => format!("runs nothing as {:?}", profile.run_as.0),
    };
    format!(
        "this gateway runs without root and {what}; use a machine with a \"sojourn runner\" \
         (ssh -t USER+RUNNER:@...), or have it started as root"
    )
}
