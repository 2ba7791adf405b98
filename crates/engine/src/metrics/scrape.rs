//! The numbers as text, and the states that are looked at when somebody asks.

use std::fmt::Write;
use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use sojourn_core::wire::runner::PoolState;
use sojourn_store::GoodTokens;

use super::Metrics;
use super::labels;
use crate::engine::Engine;

/// What the text is, as HTTP says it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long the runner may take to say how its pools stand, and the store how many tokens there are,
/// before the numbers come without them.
const STATES: Duration = Duration::from_millis(500);

impl Engine {
    /// All numbers, as Prometheus reads them.
    pub async fn metrics_text(&self) -> String {
        let pools = tokio::time::timeout(STATES, self.pools()).await;
        let metrics = self.metrics();
        // Where nobody says how they stand, none is claimed to be ready.
        metrics.pools(&pools.map(Result::unwrap_or_default).unwrap_or_default());
        let uptime = self.clock().mono().since(self.inner.started).as_secs();
        metrics.families().uptime.set(whole(uptime));
        self.audit().measure(metrics, self.clock().mono());
        self.measure_queues();
        metrics.families().logins.set(size(self.logins().count()));
        let store = self.inner.records.store();
        let good = tokio::time::timeout(STATES, store.good_tokens(self.clock().wall())).await;
        // Where the store does not say, no number is claimed.
        metrics.tokens(good.ok().and_then(Result::ok));
        metrics.families().runners.set(size(self.remote().connected()));
        metrics.text()
    }
}

impl Metrics {
    fn pools(&self, states: &[PoolState]) {
        let families = self.families();
        families.pool.clear();
        families.pool_failing.clear();
        for state in states {
            let counts =
                [("wanted", state.wanted), ("ready", state.ready), ("making", state.making)];
            for (word, count) in counts {
                let labels = labels::Pool { profile: state.profile.clone(), state: word };
                families.pool.get_or_create_owned(&labels).set(size(count));
            }
            let profile = labels::Profile { profile: state.profile.clone() };
            let failing = i64::from(state.failing.is_some());
            families.pool_failing.get_or_create_owned(&profile).set(failing);
        }
    }

    fn tokens(&self, good: Option<GoodTokens>) {
        let family = &self.families().tokens;
        family.clear();
        let Some(GoodTokens { programs, runners }) = good else { return };
        for (holder, count) in [("program", programs), ("runner", runners)] {
            family.get_or_create_owned(&labels::Holder { holder }).set(whole(count));
        }
    }

    /// How the audit log stands.
    pub(crate) fn audit(&self, waiting: usize, synced: Duration, degraded: bool, lost: u64) {
        let families = self.families();
        families.audit_waiting.set(size(waiting));
        families.audit_synced.set(synced.as_secs_f64());
        families.audit_degraded.set(i64::from(degraded));
        families.audit_lost.set(whole(lost));
    }

    /// How full a queue is.
    pub(crate) fn queue(&self, queue: &'static str, depth: usize, room: usize) {
        let families = self.families();
        families.queue.get_or_create_owned(&labels::Queue { queue }).set(size(depth));
        families.queue_room.get_or_create_owned(&labels::Queue { queue }).set(size(room));
    }

    /// The text, in the format that every scraper has read for years. The library writes a later one,
    /// which names a counter without its ending where it is described.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if encode_registry(&mut text, &self.inner.registry).is_err() {
            tracing::error!("the metrics cannot be written");
        }
        in_the_older_format(&text)
    }
}

fn in_the_older_format(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1024);
    let mut help = None;
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = Some(described);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let ending = if kind.ends_with(" counter") { "_total" } else { "" };
            let name = kind.split(' ').next().unwrap_or_default();
            let described = help.take().and_then(|help| help.strip_prefix(name));
            let described = described.unwrap_or_default().trim_end_matches('.');
            let kind = kind.strip_prefix(name).unwrap_or_default();
            let _infallible = writeln!(out, "# HELP {name}{ending}{described}");
            let _infallible = writeln!(out, "# TYPE {name}{ending}{kind}");
        } else if !line.starts_with("# ") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn size(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
