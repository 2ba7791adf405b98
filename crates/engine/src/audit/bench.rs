//! How many events a second become durable, against the same bytes written and synced by hand, in
//! rounds that alternate. Run by `make bench`; no part of the program.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_store::Store;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::clock::SystemClock;

/// Callers that wait for their event at the same time; as many lines make a group by hand.
const CALLERS: usize = 256;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

/// Events a second that were answered.
async fn recorded(log: &AuditHandle) -> f64 {
    let begin = Instant::now();
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(call(log.clone(), begin + ROUND))).collect();
    let mut count = 0;
    for caller in callers {
        count += caller.await.unwrap();
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}

async fn call(log: AuditHandle, until: Instant) -> u32 {
    let mut count = 0;
    while Instant::now() < until {
        let event = Event::new(SystemClock.wall(), Action::SessionAttached, Actor::SYSTEM)
            .detail("from", "192.0.2.7")
            .detail("door", "ssh");
        log.record(event).await.unwrap();
        count += 1;
    }
    count
}

/// Lines a second, written and synced in groups.
fn by_hand(dir: &Path, line: &[u8]) -> f64 {
    let mut file = File::create(dir.join("by-hand")).unwrap();
    let group = line.repeat(CALLERS);
    let (begin, mut groups) = (Instant::now(), 0);
    while begin.elapsed() < ROUND {
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
        groups += 1;
    }
    (groups * CALLERS) as f64 / begin.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_durable_events() {
    // Where a data directory would be: what is only in memory syncs nothing.
    let dir =
        tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or_else(|_| "/var/tmp".into()));
    let dir = dir.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(dir.path()).await.unwrap();
    let options = AuditOptions { data_dir: dir.path().to_owned(), on_failure: OnFailure::Refuse };
    let (log, writer) = start(&options, store, clock).await.unwrap();
    let over = CancellationToken::new();
    let writing = tokio::spawn(writer.run(over.clone()));
    recorded(&log).await;
    let written = std::fs::read(log.newest_file().unwrap().unwrap()).unwrap();
    let line = written.split_inclusive(|byte| *byte == b'\n').next_back().unwrap().to_vec();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let ours = recorded(&log).await;
        let (at, line) = (dir.path().to_owned(), line.clone());
        let raw = tokio::task::spawn_blocking(move || by_hand(&at, &line)).await.unwrap();
        rounds.push((ours / raw, ours, raw));
    }
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (ratio, ours, raw) = rounds[ROUNDS / 2];
    let reached = if ratio >= 0.5 { "yes" } else { "no" };
    println!(
        "| durable audit events, {CALLERS} at a time, /s | {ours:.0} \
         | {raw:.0} written and synced by hand | **{ratio:.2}** | ≥ 0.5 x | {reached} |"
    );
    over.cancel();
    writing.await.unwrap();
}
