//! SIGHUP: the configuration is read again, all or nothing, on record. What can change while the
//! gateway runs does; the rest is named in the log, and waits for the next start.

use serde_json::json;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_engine::Engine;
use sojourn_web::Gate;
use sojourn_web::Tls;
use tokio::signal::unix::Signal;

use super::convert;
use super::gateway::Source;
use crate::config;
use crate::config::Config;
use crate::logging;

/// Keys that take effect at once.
const LIVE: [&str; 22] = [
    "log.level",
    "limits.max_concurrent_sessions",
    "limits.max_sessions_per_user",
    "limits.max_sessions_per_runner",
    "limits.max_watchers",
    "limits.runner_lost_after",
    "limits.starts_per_minute",
    "limits.messages_per_minute",
    "limits.sign_ins_per_minute",
    "limits.unknown_tokens_per_minute",
    "limits.requests_per_minute",
    "login.preset",
    "login.max_lifetime",
    "login.idle_timeout",
    "login.remind_before",
    "login.max_per_user",
    "login.end_sessions",
    "login.ssh_key_needs_totp",
    "login.least_password_score",
    "web.trusted_proxies",
    "web.max_connections",
    "web.max_connections_per_address",
];

/// Keys of a profile that do; a session that is there keeps what it was given.
const LIVE_IN_PROFILES: [&str; 4] = ["allow", "accept_env", "forward", "require_why"];

/// The longest account of what is wrong that goes on record.
const LONGEST_ACCOUNT: usize = 2000;

/// What reads the configuration again.
pub(super) struct Reloader {
    /// Where it came from.
    pub(super) source: Source,
    /// What the gateway was started with: what cannot change is still so.
    pub(super) started: Config,
    /// What was read last: what can change is so.
    pub(super) current: Config,
    pub(super) engine: Engine,
    pub(super) gate: Gate,
    pub(super) tls: Option<Tls>,
}

impl Reloader {
    /// Does so at each signal, until the gateway goes down.
    pub(super) async fn run(mut self, mut signal: Signal) {
        loop {
            tokio::select! {
                () = self.engine.shutdown().cancelled() => return,
                received = signal.recv() => if received.is_none() { return },
            }
            match self.reload() {
                Ok((applied, waiting)) => self.tell(&applied, &waiting),
                Err(why) => self.tell_refused(&why),
            }
        }
    }

    /// The keys that changed: those in effect now, and those that wait for the next start.
    fn reload(&mut self) -> Result<(Vec<String>, Vec<String>), String> {
        // A gateway that was root when it read the file first has dropped that since.
        let Source { file, is_roots } = &self.source;
        let loaded = config::load_again(file.as_deref(), *is_roots).map_err(|e| e.to_string())?;
        let mut new = loaded.config;
        // Which directory it is was settled at the start, by root and its command line.
        new.data_dir = self.started.data_dir.clone();
        let mut applied = Vec::new();
        // The one thing that may still fail, so it comes first.
        if let Some(tls) = &self.tls
            && tls.reload().map_err(|error| format!("TLS: {error}"))?
        {
            applied.push("web.tls_cert (the file)".to_owned());
        }
        let changed = self.current.keys_that_differ(&new).into_iter();
        applied.extend(changed.filter(|key| is_live(key)));
        let mut waiting = self.started.keys_that_differ(&new);
        waiting.retain(|key| !is_live(key));
        self.engine.set_policies(&convert::profiles(&new));
        let limits = &new.limits;
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let (all, of_one) = (limits.max_concurrent_sessions, limits.max_sessions_per_user);
        self.engine.set_max_sessions(count(all), count(of_one));
        self.engine.set_max_watchers(count(limits.max_watchers));
        self.engine.remote().set_max_sessions(count(limits.max_sessions_per_runner));
        self.engine.remote().set_lost_after(convert::for_ever(limits.runner_lost_after));
        self.engine.rates().set(convert::rates(&new));
        self.engine.logins().set_rules(convert::logins(&new));
        self.engine.identity().set_settings(&convert::identity(&new));
        self.gate.set_settings(convert::web(&new.web));
        logging::set_level(new.log.level);
        for note in loaded.notes {
            tracing::warn!("{note}");
        }
        self.current = new;
        Ok((applied, waiting))
    }

    fn tell(&self, applied: &[String], waiting: &[String]) {
        let (now, later) = (applied.join(", "), waiting.join(", "));
        if waiting.is_empty() {
            tracing::info!(applied = now, event = "config_reloaded", "configuration read again");
        } else {
            tracing::warn!(
                applied = now,
                event = "config_reloaded",
                "configuration read again; needs a restart: {later}"
            );
        }
        self.record(
            self.event().detail("applied", json!(applied)).detail("waiting", json!(waiting)),
        );
    }

    fn tell_refused(&self, why: &str) {
        tracing::error!(
            event = "config_refused",
            "the configuration stays as it is, for the new one is wrong: {why}"
        );
        let why: String = why.chars().take(LONGEST_ACCOUNT).collect();
        self.record(self.event().detail("refused", true).detail("why", why));
    }

    fn event(&self) -> Event {
        Event::new(self.engine.clock().wall(), Action::ConfigReloaded, Actor::SYSTEM)
    }

    fn record(&self, event: Event) {
        self.engine.audit().record_soon(event);
    }
}

fn is_live(key: &str) -> bool {
    let in_profile = key.strip_prefix("profiles.").and_then(|key| key.split_once('.'));
    LIVE.contains(&key) || in_profile.is_some_and(|(_, key)| LIVE_IN_PROFILES.contains(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_whether_they_can_change_now() {
        for key in ["limits.max_sessions_per_user", "log.level", "profiles.tools.allow"] {
            assert!(is_live(key), "{key}");
        }
        for key in ["limits.grace", "web.listen", "profiles.tools", "profiles.tools.memory", "ssh"]
        {
            assert!(!is_live(key), "{key}");
        }
    }
}
