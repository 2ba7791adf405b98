//! Every number there is: its name, its help and its kind. `docs/metrics.md` says the same to people,
//! and a test compares them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels;

/// Seconds from a request to a prompt: half a millisecond to half a minute.
const PROMPT: [f64; 15] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Seconds that an answer takes.
const ANSWER: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0];

/// A histogram by label; each series begins with its own buckets.
pub(crate) type Timings<L> = Family<L, Histogram, fn() -> Histogram>;

macro_rules! families {
    ($($(#[$doc:meta])* $field:ident: $kind:ty = $new:expr, $name:literal, $help:literal;)*) => {
        /// All of them.
        pub(crate) struct Families {
            $($(#[$doc])* pub(crate) $field: $kind,)*
        }

        impl Families {
            /// All of them at their beginnings, and where they are read.
            pub(crate) fn new() -> (Self, Registry) {
                let mut registry = Registry::with_prefix("sojourn");
                $(let $field: $kind = $new;)*
                $(registry.register($name, $help, $field.clone());)*
                (Self { $($field,)* }, registry)
            }
        }
    };
}

families! {
    build: Family<labels::Build, Gauge> = Family::default(),
        "build_info", "Always 1; its label says the version";
    uptime: Gauge = Gauge::default(),
        "uptime_seconds", "Since the gateway started";

    sessions: Family<labels::StayState, Gauge> = Family::default(),
        "sessions", "Sessions in motion, by state, door and harness";
    started: Family<labels::Stay, Counter> = Family::default(),
        "sessions_started", "Sessions whose first program started";
    ended: Family<labels::StayEnd, Counter> = Family::default(),
        "sessions_ended", "Sessions that are over, by the reason";
    recorded: Counter = Counter::default(),
        "recorded_bytes", "Bytes of the recordings of sessions that are over";
    prompt: Timings<labels::Prompt> = Family::new_with_constructor(prompt),
        "time_to_prompt_seconds",
        "From a session's request to what its first program first printed, or to its start where it printed nothing";

    pool: Family<labels::Pool, Gauge> = Family::default(),
        "pool_sandboxes", "Sandboxes made ahead, by profile: wanted, ready, making";
    pool_failing: Family<labels::Profile, Gauge> = Family::default(),
        "pool_failing", "1 while a profile's sandbox cannot be made";
    taken: Family<labels::Taken, Counter> = Family::default(),
        "sandboxes_taken", "Sandboxes taken for a session: warm from the pool, or cold";

    limits: Family<labels::Limit, Counter> = Family::default(),
        "limits_hit", "Limits that were reached, of leases, counts and rates";
    refusals: Family<labels::Refused, Counter> = Family::default(),
        "refusals", "Sessions and requests that were refused, by door and code";

    logins: Gauge = Gauge::default(),
        "logins", "Logins at the web door that have not ended";
    tokens: Family<labels::Holder, Gauge> = Family::default(),
        "tokens", "Tokens that are good, of programs and of runners";
    sign_ins: Family<labels::Outcome, Counter> = Family::default(),
        "sign_ins", "Tries to sign in at the web door, by outcome";
    login_ends: Family<labels::Outcome, Counter> = Family::default(),
        "logins_ended", "Logins that ended, by how";
    attempts: Family<labels::Attempt, Counter> = Family::default(),
        "ssh_auth_attempts", "Tries to authenticate at the SSH door and at honeypots";
    ssh: Gauge = Gauge::default(),
        "ssh_connections", "SSH connections open";
    ssh_opened: Counter = Counter::default(),
        "ssh_connections_opened", "SSH connections since the start";

    audit_events: Family<labels::Action, Counter> = Family::default(),
        "audit_events", "Events written to the audit log, by action";
    audit_waiting: Gauge = Gauge::default(),
        "audit_waiting_events", "Audit events that wait to be written";
    audit_synced: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default(),
        "audit_last_sync_age_seconds", "Since the audit log was last synced to disk";
    audit_degraded: Gauge = Gauge::default(),
        "audit_degraded", "1 while the audit log cannot be written";
    audit_lost: Gauge = Gauge::default(),
        "audit_lost_events", "Audit events without a place since the log was last written";

    queue: Family<labels::Queue, Gauge> = Family::default(),
        "queue_depth", "What waits in a queue of the gateway";
    queue_room: Family<labels::Queue, Gauge> = Family::default(),
        "queue_capacity", "What may wait there";

    answers: Family<labels::Answer, Counter> = Family::default(),
        "http_requests", "Requests answered, by route, method and status";
    latency: Timings<labels::Route> = Family::new_with_constructor(answer),
        "http_request_seconds", "From a request's head to its answer's";
    runners: Gauge = Gauge::default(),
        "runners_connected", "Runners on other machines that are connected";
    web_sockets: Gauge = Gauge::default(),
        "websockets", "WebSockets open";
}

fn prompt() -> Histogram {
    Histogram::new(PROMPT)
}

fn answer() -> Histogram {
    Histogram::new(ANSWER)
}
