//! Numbers for Prometheus. What happens often costs an atomic or two; what is only a state is looked
//! at when somebody asks.
//!
//! Sign-ins, ends of logins and attempts to authenticate are counted where the audit log is written,
//! so that a number and the log can never say different things.

mod families;
mod labels;
mod scrape;
mod stay;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde_json::Value;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;

use crate::door::Refusal;
use families::Families;

pub(crate) use labels::HARNESSES;
pub use scrape::CONTENT_TYPE;
pub(crate) use stay::Meter;

/// Limits that there are in any case.
const LIMITS: [&str; 13] = [
    "max_runtime",
    "idle_timeout",
    "max_output",
    "max_cost",
    "max_concurrent_sessions",
    "max_sessions_per_user",
    "max_sessions_per_runner",
    "max_sessions",
    "starts_per_minute",
    "messages_per_minute",
    "sign_ins_per_minute",
    "unknown_tokens_per_minute",
    "requests_per_minute",
];

/// What can come of a try to sign in.
const SIGN_INS: [&str; 3] = ["succeeded", "failed", "throttled"];

/// How a login can end.
const LOGIN_ENDS: [&str; 5] = ["logout", "revoked", "evicted", "lifetime", "inactivity"];

/// All numbers. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    families: Families,
    registry: Registry,
}

/// One more of something, until it is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

/// The answers of one route.
#[derive(Clone)]
pub struct RouteMeter {
    route: &'static str,
    latency: Histogram,
    metrics: Metrics,
}

impl Metrics {
    /// Numbers at their beginnings.
    pub(crate) fn new() -> Self {
        let (families, registry) = Families::new();
        let version = labels::Build { version: env!("CARGO_PKG_VERSION") };
        families.build.get_or_create_owned(&version).set(1);
        // So that a first one is seen as a rise, these are there from the start.
        for limit in LIMITS {
            let _zero = families.limits.get_or_create_owned(&labels::Limit { limit });
        }
        for outcome in SIGN_INS {
            let _zero = families.sign_ins.get_or_create_owned(&labels::Outcome { outcome });
        }
        for outcome in LOGIN_ENDS {
            let _zero = families.login_ends.get_or_create_owned(&labels::Outcome { outcome });
        }
        Self { inner: Arc::new(Inner { families, registry }) }
    }

    fn families(&self) -> &Families {
        &self.inner.families
    }

    /// A limit was reached: of a lease, a count or a rate.
    pub(crate) fn limit_hit(&self, limit: &'static str) {
        self.families().limits.get_or_create_owned(&labels::Limit { limit }).inc();
    }

    /// Somebody was refused, at a door by its name, with a code of ours.
    pub fn refused(&self, door: &'static str, code: &'static str) {
        self.families().refusals.get_or_create_owned(&labels::Refused { door, code }).inc();
    }

    /// A session was refused.
    pub(crate) fn session_refused(&self, door: &'static str, refusal: &Refusal) {
        self.refused(door, refusal.code());
        use Refusal::{GatewayFull, PotFull, RunnerFull, UserFull};
        if matches!(
            refusal,
            GatewayFull { .. } | UserFull { .. } | PotFull { .. } | RunnerFull { .. }
        ) {
            self.limit_hit(refusal.code());
        }
    }

    /// An SSH connection, open until this is dropped.
    #[must_use]
    pub fn ssh_connection(&self) -> Counted {
        self.families().ssh_opened.inc();
        Counted::new(&self.families().ssh)
    }

    /// A WebSocket, open until this is dropped.
    #[must_use]
    pub fn web_socket(&self) -> Counted {
        Counted::new(&self.families().web_sockets)
    }

    /// The numbers of a route, by its template. To be made once a route.
    #[must_use]
    pub fn route(&self, route: &'static str) -> RouteMeter {
        let latency = self.families().latency.get_or_create_owned(&labels::Route { route });
        RouteMeter { route, latency, metrics: self.clone() }
    }

    /// An event is in the audit log.
    pub(crate) fn on_record(&self, event: &Event) {
        let families = self.families();
        let action = labels::Action { action: event.action.name() };
        families.audit_events.get_or_create_owned(&action).inc();
        let detail = |name| event.details.get(name).and_then(Value::as_str).unwrap_or_default();
        match event.action {
            Action::LoginSucceeded => self.sign_in("succeeded"),
            Action::LoginFailed => self.sign_in("failed"),
            Action::LoginThrottled => self.sign_in("throttled"),
            Action::LoginEnded => self.login_end("logout"),
            Action::LoginRevoked => self.login_end("revoked"),
            Action::LoginEvicted => self.login_end("evicted"),
            Action::LoginExpiredLifetime => self.login_end("lifetime"),
            Action::SessionExpiredInactivity => self.login_end("inactivity"),
            Action::AuthAttempt => {
                const METHODS: [&str; 6] = [
                    "password",
                    "publickey",
                    "certificate",
                    "keyboard-interactive",
                    "totp",
                    "none",
                ];
                let attempt = labels::Attempt {
                    method: labels::one_of(detail("method"), &METHODS),
                    outcome: labels::one_of(
                        detail("outcome"),
                        &["accepted", "refused", "throttled", "partial"],
                    ),
                };
                families.attempts.get_or_create_owned(&attempt).inc();
            }
            _ => {}
        }
    }

    fn sign_in(&self, outcome: &'static str) {
        counted(self.families().sign_ins.get_or_create_owned(&labels::Outcome { outcome }));
    }

    fn login_end(&self, outcome: &'static str) {
        counted(self.families().login_ends.get_or_create_owned(&labels::Outcome { outcome }));
    }

    /// A sandbox was taken from this profile's pool, or made for it.
    pub(crate) fn taken(&self, profile: &str, warm: bool) {
        let profile = profile.to_owned();
        let taken = labels::Taken { profile, start: stay::start(warm) };
        counted(self.families().taken.get_or_create_owned(&taken));
    }
}

fn counted(counter: Counter) {
    counter.inc();
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RouteMeter {
    /// A request was answered.
    pub fn answered(&self, method: &str, status: u16, took: Duration) {
        const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let method = labels::one_of(method, &METHODS);
        let answer = labels::Answer { route: self.route, method, status };
        self.metrics.families().answers.get_or_create(&answer).inc();
        self.latency.observe(took.as_secs_f64());
    }
}
