//! Configuration: defaults, a TOML file over them, the environment over both. Everything that is
//! wrong is told at once, before a port is bound.
//!
//! What a key is stands in one place, [`sections`] and [`profile`]; the rest here reads them.

mod check;
mod database;
mod keys;
mod kinds;
mod login;
mod money;
mod node;
mod profile;
mod report;
mod runner;
mod sections;
mod source;
mod value;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde_json::Value as Json;
use sojourn_core::limits::Limits;

pub(crate) use report::nearest;

pub(crate) use profile::Network;
pub(crate) use profile::Profile;
pub(crate) use profile::SandboxKind;
pub(crate) use profile::Share;
#[cfg(test)]
pub(crate) use runner::Runner;
pub(crate) use sections::Config;
pub(crate) use sections::Credential;
pub(crate) use sections::Forwarded;
pub(crate) use sections::Input as RecordInput;
pub(crate) use sections::Level;
pub(crate) use sections::Log;
pub(crate) use sections::LogFormat;
pub(crate) use sections::Mode;
pub(crate) use sections::OnAuditFailure;
pub(crate) use sections::OnRecordingFailure;
pub(crate) use sections::OnStop;
pub(crate) use sections::Ssh;
pub(crate) use sections::Web;
pub(crate) use source::ConfigError;
pub(crate) use source::check_file;
pub(crate) use source::is_standard;
pub(crate) use source::load;
pub(crate) use source::load_again;
pub(crate) use value::Laid;

use node::Node;
use report::Report;
use value::Value;

/// A configuration that holds, and what is worth saying about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What is in effect.
    pub(crate) config: Config,
    /// What somebody may have expected otherwise, a line each.
    pub(crate) notes: Vec<String>,
    /// The file it came from, if there is one.
    pub(crate) file: Option<PathBuf>,
}

/// Reads a configuration from a file's text and variables of the environment.
///
/// # Errors
/// Everything that is wrong, a line each.
pub(crate) fn read(
    file: &str,
    text: &str,
    variables: &[(String, String)],
) -> Result<(Config, Vec<String>), Vec<String>> {
    let mut report = Report::default();
    let mut root = Node::parse(text, &mut report);
    for (name, value) in variables {
        root.overlay(name, value, &mut report);
    }
    let mut config = Config::default();
    config.take(&root, &mut report);
    config.settle(&root, &mut report);
    check::relations(&config, &root, &mut report);
    config.runner.check(&root, &mut report);
    check::remarks(&config, &mut report);
    report.finish(file).map(|notes| (config, notes))
}

impl Config {
    /// The limits of a session that came by SSH under this profile.
    #[must_use]
    pub(crate) fn limits_for(&self, profile: &Profile) -> Limits {
        let base = &self.limits;
        Limits {
            max_runtime: profile.session_timeout.unwrap_or(base.session_timeout).limit(),
            idle_timeout: profile.idle_timeout.unwrap_or(base.idle_timeout).limit(),
            idle_counts: profile.idle_counts.unwrap_or(base.idle_counts),
            max_output: profile.max_output.unwrap_or(base.max_output).limit(),
            max_cost: profile.max_cost.unwrap_or(base.max_cost).limit(),
            warn_before: profile.warn_before.unwrap_or(base.warn_before).0,
            grace: profile.grace.unwrap_or(base.grace).0,
            detach_grace: profile.detach_grace.unwrap_or(base.detach_grace).0,
        }
    }

    /// The longest that a session started at the web door runs under this profile.
    #[must_use]
    pub(crate) fn web_runtime_for(&self, profile: &Profile) -> Option<std::time::Duration> {
        profile.agent_timeout.unwrap_or(self.limits.agent_timeout).limit()
    }

    /// Fills in what depends on other keys.
    fn settle(&mut self, root: &Node, report: &mut Report) {
        self.login.settle(root, report);
        for (index, listener) in self.ssh.iter_mut().enumerate() {
            listener.settle();
            let Some(profile) = &listener.profile else { continue };
            if !self.profiles.give_visitors(profile) && listener.mode == Mode::Honeypot {
                let node = root.get("ssh").and_then(|list| list.item(index));
                let node = node.and_then(|listener| listener.get("profile")).unwrap_or(root);
                report.problem(node, format_args!("there is no profile {profile:?} to give"));
            }
        }
    }

    /// What is in effect, as a file would have it, secrets hidden.
    #[must_use]
    pub(crate) fn to_toml(&self) -> toml::Table {
        match self.write() {
            Some(toml::Value::Table(table)) => table,
            _ => toml::Table::new(),
        }
    }

    /// The keys in which two configurations differ, by their paths.
    #[must_use]
    pub(crate) fn keys_that_differ(&self, other: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        let (ours, theirs) = (self.to_toml(), other.to_toml());
        differences(&toml::Value::Table(ours), &toml::Value::Table(theirs), "", &mut keys);
        // Secrets are hidden, and differ all the same.
        if self.ssh != other.ssh && !keys.iter().any(|key| key.starts_with("ssh")) {
            keys.push("ssh".to_owned());
        }
        keys
    }

    /// The JSON Schema of the file.
    #[must_use]
    pub(crate) fn json_schema() -> Json {
        let mut schema = Self::schema();
        if let Some(schema) = schema.as_object_mut() {
            let dialect = "https://json-schema.org/draft/2020-12/schema";
            schema.insert("$schema".to_owned(), dialect.into());
            schema.insert("title".to_owned(), "sojourn.toml".into());
        }
        schema
    }
}

fn differences(ours: &toml::Value, theirs: &toml::Value, path: &str, keys: &mut Vec<String>) {
    match (ours, theirs) {
        (toml::Value::Table(ours), toml::Value::Table(theirs)) => {
            let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match (ours.get(name), theirs.get(name)) {
                    (Some(ours), Some(theirs)) => differences(ours, theirs, &path, keys),
                    _ => keys.push(path),
                }
            }
        }
        _ if ours == theirs => {}
        _ => keys.push(path.to_owned()),
    }
}
