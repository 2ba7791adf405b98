//! The audit writer: crashes, full disks, other processes, and the check of the whole log.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Entry;
use sojourn_core::audit::Event;
use sojourn_core::audit::Head;
use sojourn_core::time::Wall;
use sojourn_store::Store;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::appender::Appender;
use super::disk::Disk;
use super::disk::FileDisk;
use super::*;
use crate::clock::Clock;
use crate::clock::ManualClock;

/// A data directory with a log in it.
struct House {
    dir: TempDir,
    store: Store,
    clock: Arc<ManualClock>,
}

/// A writer at work.
struct Running {
    handle: AuditHandle,
    task: JoinHandle<()>,
    over: CancellationToken,
}

impl House {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        Self { dir, store, clock: Arc::new(ManualClock::new()) }
    }

    fn options(&self, on_failure: OnFailure) -> AuditOptions {
        AuditOptions { data_dir: self.dir.path().to_owned(), on_failure }
    }

    async fn open(&self) -> Running {
        let options = self.options(OnFailure::Refuse);
        let started = start(&options, self.store.clone(), self.clock.clone()).await.unwrap();
        run(started)
    }

    /// With other ways to fail, or shorter files.
    fn open_with(&self, disk: impl Disk, size: u64, on_failure: OnFailure) -> Running {
        let key = keys::load_or_make(self.dir.path()).unwrap();
        let appender = Appender::new(Box::new(disk), Head::START, key).with_file_size(size);
        run(writer::writer(appender, on_failure, self.store.clone(), self.clock.clone()))
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join(DIR)
    }

    fn entries(&self) -> Vec<Entry> {
        let mut reader = LogReader::open(&self.log()).unwrap();
        let lines = std::iter::from_fn(|| reader.next_line().unwrap());
        lines.map(|line| line.entry().unwrap()).collect()
    }

    fn actions(&self) -> Vec<String> {
        self.entries().into_iter().map(|entry| entry.action).collect()
    }

    fn verify(&self) -> Findings {
        verify(self.dir.path(), None, &mut |_| {}).unwrap()
    }

    fn assert_whole(&self) {
        let found = self.verify();
        assert!(found.is_whole(), "{:?}", found.findings);
    }
}

fn run((handle, writer): (AuditHandle, AuditWriter)) -> Running {
    let over = CancellationToken::new();
    Running { handle, task: tokio::spawn(writer.run(over.clone())), over }
}

impl Running {
    async fn stop(self) {
        self.over.cancel();
        self.task.await.unwrap();
    }

    /// As if the process were killed.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

fn event(n: i64) -> Event {
    Event::new(Wall(1_795_345_331_532_000 + n), Action::KillSwitch, Actor::local(0)).detail("n", n)
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_is_recorded_is_in_the_log_and_the_log_is_whole() {
    let house = House::new().await;
    let running = house.open().await;
    let all = (0..500).map(|n| {
        let handle = running.handle.clone();
        tokio::spawn(async move { handle.record(event(n)).await })
    });
    for recorded in all.collect::<Vec<_>>() {
        recorded.await.unwrap().unwrap();
    }
    assert_eq!(house.entries().len(), 500, "durable before the answer");
    running.stop().await;
    let found = house.verify();
    assert!(found.is_whole(), "{:?}", found.findings);
    assert_eq!((found.lines, found.checkpoints), (501, 1), "the last is a checkpoint");
    for (path, mode) in [
        ("audit", 0o750),
        ("audit/audit-1.jsonl", 0o640),
        ("keys", 0o700),
        ("keys/audit-ed25519", 0o600),
    ] {
        let found = std::fs::metadata(house.dir.path().join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
}

#[tokio::test]
async fn the_chain_goes_on_across_files_and_restarts() {
    let house = House::new().await;
    let disk = FileDisk::open(&house.log()).unwrap();
    let running = house.open_with(disk, 1500, OnFailure::Refuse);
    for n in 0..20 {
        running.handle.record(event(n)).await.unwrap();
    }
    running.stop().await;
    for n in 20..23 {
        let running = house.open().await;
        running.handle.record(event(n)).await.unwrap();
        running.stop().await;
    }
    let found = house.verify();
    assert!(found.is_whole(), "{:?}", found.findings);
    assert!(found.files > 3, "{found:?}");
    assert_eq!(found.checkpoints, 4);
    let seqs: Vec<_> = house.entries().iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=27).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_empty_last_file_continues_the_one_before() {
    let house = House::new().await;
    let running = house.open().await;
    running.handle.record(event(0)).await.unwrap();
    running.stop().await;
    std::fs::write(house.log().join("audit-2.jsonl"), "").unwrap();
    let running = house.open().await;
    running.handle.record(event(1)).await.unwrap();
    running.stop().await;
    house.assert_whole();
    assert_eq!(house.entries().len(), 4);
}

#[tokio::test]
async fn a_checkpoint_comes_every_thousand_lines() {
    let house = House::new().await;
    let running = house.open().await;
    for n in 0..2100 {
        if n % 100 == 99 {
            running.handle.record(event(n)).await.unwrap();
        } else {
            running.handle.record_soon(event(n));
        }
    }
    let checkpoints = house.actions().iter().filter(|action| *action == "checkpoint").count();
    assert_eq!(checkpoints, 2);
    running.stop().await;
    assert_eq!(house.verify().checkpoints, 3);
}

#[tokio::test]
async fn a_change_in_the_store_is_in_the_log_once_it_is_settled() {
    let house = House::new().await;
    let running = house.open().await;
    let events: Vec<_> = (0..600).map(event).collect();
    for event in &events {
        house.store.tell(event).await.unwrap();
    }
    running.handle.settled().await.unwrap();
    let mut ids: Vec<_> = house.entries().iter().map(|entry| entry.event_id).collect();
    ids.sort_unstable();
    let mut wanted: Vec<_> = events.iter().map(|event| event.event_id).collect();
    wanted.sort_unstable();
    assert_eq!(ids, wanted);
    until("the outbox is swept", async || house.store.untold(1).await.unwrap().is_empty()).await;
    running.stop().await;
    house.assert_whole();
}

#[tokio::test]
async fn an_event_in_log_and_outbox_is_not_written_twice() {
    let house = House::new().await;
    let told = event(1);
    let running = house.open().await;
    // Its first sweep is over, so nothing is swept for a second.
    running.handle.settled().await.unwrap();
    house.store.tell(&told).await.unwrap();
    running.handle.settled().await.unwrap();
    running.kill().await;
    assert_eq!(house.store.untold_ids().await.unwrap(), [told.event_id], "killed before the sweep");

    let running = house.open().await;
    running.handle.settled().await.unwrap();
    until("the outbox is swept", async || house.store.untold(1).await.unwrap().is_empty()).await;
    running.stop().await;
    let ids = house.entries().into_iter().filter(|entry| entry.event_id == told.event_id);
    assert_eq!(ids.count(), 1);
    house.assert_whole();
}

#[tokio::test]
async fn a_torn_end_is_cut_and_told() {
    let house = House::new().await;
    let running = house.open().await;
    running.handle.record(event(0)).await.unwrap();
    running.kill().await;
    let path = house.log().join("audit-1.jsonl");
    let whole = std::fs::read(&path).unwrap();
    for cut in [1, 2, 100, whole.len() - 1] {
        let torn = [whole.as_slice(), &whole[..cut]].concat();
        std::fs::write(&path, torn).unwrap();
        let before = house.verify();
        assert!(before.is_whole(), "a crash is no finding: {:?}", before.findings);
        assert_eq!(before.notes.len(), 1, "{:?}", before.notes);
        let running = house.open().await;
        running.handle.record(event(1)).await.unwrap();
        running.kill().await;
        house.assert_whole();
        let entries = house.entries();
        assert_eq!(house.actions(), ["kill_switch", "audit_repaired", "kill_switch"]);
        assert_eq!(entries[1].details["bytes"], cut);
        std::fs::write(&path, &whole).unwrap();
    }
}

#[tokio::test]
async fn a_log_with_a_changed_last_line_goes_on_and_keeps_the_finding() {
    let house = House::new().await;
    let running = house.open().await;
    running.handle.record(event(0)).await.unwrap();
    running.handle.record(event(1)).await.unwrap();
    running.kill().await;
    let path = house.log().join("audit-1.jsonl");
    let changed = std::fs::read_to_string(&path).unwrap().replace("\"n\":1", "\"n\":7");
    std::fs::write(&path, changed).unwrap();
    let running = house.open().await;
    running.handle.record(event(2)).await.unwrap();
    running.stop().await;
    let findings: Vec<_> = house.verify().findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        ["audit/audit-1.jsonl, line 2: changed: the line's bytes do not give the hash it states"]
    );
}

/// A disk that can be told to be full.
struct Moody {
    disk: FileDisk,
    full: Arc<AtomicBool>,
}

impl Disk for Moody {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(self.disk.fail_halfway(lines));
        }
        self.disk.append(lines)
    }

    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.disk.rotate()
    }
}

fn moody(house: &House, on_failure: OnFailure) -> (Running, Arc<AtomicBool>) {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Moody { disk: FileDisk::open(&house.log()).unwrap(), full: Arc::clone(&full) };
    (house.open_with(disk, u64::MAX, on_failure), full)
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_gap_is_on_record() {
    let house = House::new().await;
    let (running, full) = moody(&house, OnFailure::Refuse);
    running.handle.record(event(0)).await.unwrap();
    full.store(true, Ordering::SeqCst);
    assert_eq!(running.handle.record(event(1)).await, Err(AuditUnavailable));
    assert!(!running.handle.is_writable());
    running.handle.record_soon(event(2));
    let told = event(3);
    house.store.tell(&told).await.unwrap();
    assert_eq!(running.handle.settled().await, Err(AuditUnavailable));
    assert_eq!(house.entries().len(), 1, "half a line is no line");

    house.clock.advance(Duration::from_secs(90));
    full.store(false, Ordering::SeqCst);
    until("the log is written again", async || running.handle.is_writable()).await;
    running.handle.settled().await.unwrap();
    running.handle.record(event(4)).await.unwrap();
    running.stop().await;
    house.assert_whole();
    let entries = house.entries();
    let numbers: Vec<_> = entries.iter().filter_map(|e| e.details.get("n")?.as_i64()).collect();
    assert_eq!(numbers, [0, 2, 3, 4], "what was refused did not happen, the rest is there");
    let gap = entries.iter().find(|entry| entry.action == "audit_gap").unwrap();
    assert_eq!((&gap.details["lost"], &gap.details["refused"]), (&0.into(), &1.into()));
    let [since, until] = ["since", "until"]
        .map(|name| Wall::from_rfc3339(gap.details[name].as_str().unwrap()).unwrap());
    assert_eq!(until, since.after(Duration::from_secs(90)));
}

#[tokio::test]
async fn where_the_policy_says_so_all_goes_on_without_a_log() {
    let house = House::new().await;
    let (running, full) = moody(&house, OnFailure::Continue);
    full.store(true, Ordering::SeqCst);
    for n in 0..3 {
        running.handle.record(event(n)).await.unwrap();
        assert!(running.handle.is_writable());
    }
    assert!(running.handle.is_degraded());
    full.store(false, Ordering::SeqCst);
    until("the log is written again", async || !running.handle.is_degraded()).await;
    running.stop().await;
    let gaps = house.actions().iter().filter(|action| *action == "audit_gap").count();
    let kept = house.actions().iter().filter(|action| *action == "kill_switch").count();
    assert_eq!((gaps, kept), (1, 3));
    house.assert_whole();
}

#[tokio::test]
async fn events_without_room_are_counted() {
    let house = House::new().await;
    let key = keys::load_or_make(house.dir.path()).unwrap();
    let disk = FileDisk::open(&house.log()).unwrap();
    let appender = Appender::new(Box::new(disk), Head::START, key);
    let (handle, writer) =
        writer::writer(appender, OnFailure::Refuse, house.store.clone(), house.clock.clone());
    for n in 0..1029 {
        handle.record_soon(event(n));
    }
    let running = run((handle, writer));
    running.stop().await;
    let entries = house.entries();
    let gap = entries.iter().find(|entry| entry.action == "audit_gap").unwrap();
    assert_eq!(gap.details["lost"], 5);
    assert_eq!(entries.len(), 1024 + 2);
}

#[tokio::test]
async fn a_handle_of_a_dead_writer_says_so() {
    let house = House::new().await;
    let running = house.open().await;
    let handle = running.handle.clone();
    running.kill().await;
    assert_eq!(handle.record(event(0)).await, Err(AuditUnavailable));
    assert!(!handle.is_writable());
    handle.record_soon(event(1));
}

#[tokio::test]
async fn only_one_process_appends_and_others_leave_their_events() {
    let house = House::new().await;
    let running = house.open().await;
    let options = house.options(OnFailure::Refuse);
    let other = Store::open(house.dir.path()).await.unwrap();
    let error = start(&options, other.clone(), house.clock.clone()).await.err().unwrap();
    let pid = std::process::id();
    assert_eq!(error.to_string(), format!("the audit log is being written by process {pid}"));

    let told = event(7);
    other.tell(&told).await.unwrap();
    drain(&options, other.clone(), house.clock.clone()).await.unwrap();
    until("the gateway has written it", async || {
        house.entries().iter().any(|entry| entry.event_id == told.event_id)
    })
    .await;
    running.stop().await;

    let told = event(8);
    other.tell(&told).await.unwrap();
    drain(&options, other, house.clock.clone()).await.unwrap();
    assert!(house.entries().iter().any(|entry| entry.event_id == told.event_id));
    assert!(house.store.untold(1).await.unwrap().is_empty());
    house.assert_whole();
}

/// A log of three files.
async fn three_files() -> House {
    let house = House::new().await;
    let disk = FileDisk::open(&house.log()).unwrap();
    let running = house.open_with(disk, 600, OnFailure::Refuse);
    for n in 0..4 {
        running.handle.record(event(n)).await.unwrap();
    }
    running.stop().await;
    assert_eq!(house.verify().files, 3);
    house
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_found_at_its_line() {
    let house = three_files().await;
    for number in 1..=3 {
        let name = format!("audit-{number}.jsonl");
        let path = house.log().join(&name);
        let whole = std::fs::read(&path).unwrap();
        let mut line = 1;
        for at in 0..whole.len() {
            let ends_line = whole[at] == b'\n';
            // Each end of line, and a sample of the rest.
            if ends_line || at % 5 == 0 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 7);
                std::fs::write(&path, flipped).unwrap();
                let found = house.verify();
                let first = found.findings.first().unwrap_or_else(|| panic!("{name}, byte {at}"));
                assert_eq!(first.file, Path::new(DIR).join(&name), "byte {at}: {first}");
                assert_eq!(first.line, Some(line), "{name}, byte {at}: {first}");
            }
            line += u64::from(ends_line);
        }
        std::fs::write(&path, whole).unwrap();
    }
    house.assert_whole();
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let house = three_files().await;
    std::fs::remove_file(house.log().join("audit-2.jsonl")).unwrap();
    let findings: Vec<_> = house.verify().findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings[0], "audit/audit-2.jsonl: missing");
    assert!(findings[1].starts_with("audit/audit-3.jsonl, line 1: gap: "), "{findings:?}");
}

#[tokio::test]
async fn a_cut_or_rewritten_log_does_not_hold_against_a_kept_checkpoint() {
    let house = three_files().await;
    let log = std::fs::read_to_string(house.log().join("audit-3.jsonl")).unwrap();
    let checkpoint = log.lines().last().unwrap();
    assert!(checkpoint.contains("\"checkpoint\""), "{checkpoint}");
    let kept = house.dir.path().join("kept.jsonl");
    std::fs::write(&kept, checkpoint).unwrap();
    let against = || verify(house.dir.path(), Some(&kept), &mut |_| {}).unwrap();
    assert!(against().is_whole());

    for number in 2..=3 {
        std::fs::remove_file(house.log().join(format!("audit-{number}.jsonl"))).unwrap();
    }
    house.assert_whole();
    let findings: Vec<_> = against().findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0].starts_with("audit: cut off: a kept checkpoint covers line"),
        "{findings:?}"
    );

    std::fs::write(&kept, "{}\n").unwrap();
    assert_eq!(against().findings[0].line, Some(1));
    std::fs::write(&kept, "").unwrap();
    assert!(!against().is_whole());
}

#[tokio::test]
async fn a_reader_follows_and_filters() {
    let house = House::new().await;
    let running = house.open().await;
    let mut reader = LogReader::open(&house.log()).unwrap();
    assert_eq!(reader.next_line().unwrap(), None);
    let session = sojourn_core::ids::SessionId::new();
    let mut first = event(0).session(session);
    first.actor.user = Some("alice".to_owned());
    running.handle.record(first).await.unwrap();
    let line = reader.next_line().unwrap().unwrap();
    assert_eq!((line.file, line.number), (1, 1));
    assert_eq!(reader.next_line().unwrap(), None);
    let second = Event::new(house.clock.wall(), Action::UserAdded, Actor::SYSTEM);
    running.handle.record(second.detail("user", "bob")).await.unwrap();
    let other = reader.next_line().unwrap().unwrap().entry().unwrap();

    let entry = line.entry().unwrap();
    let all = Query::default();
    assert!(all.matches(&entry) && all.matches(&other));
    let text = |text: &str| Some(text.to_owned());
    for query in [
        Query { user: text("alice"), ..Query::default() },
        Query { session: text(&session.short()), ..Query::default() },
        Query { action: text("kill_switch"), ..Query::default() },
        Query { until: Some(entry.timestamp.after(Duration::from_secs(1))), ..Query::default() },
    ] {
        assert!(query.matches(&entry), "{query:?}");
    }
    assert!(Query { user: text("bob"), ..Query::default() }.matches(&other));
    assert!(!Query { user: text("bob"), ..Query::default() }.matches(&entry));
    assert!(!Query { session: text(&session.short()), ..Query::default() }.matches(&other));
    let later = entry.timestamp.after(Duration::from_secs(3600));
    assert!(!Query { since: Some(later), ..Query::default() }.matches(&entry));
    running.stop().await;
}

#[tokio::test]
async fn a_reader_holds_no_more_than_a_line() {
    let house = House::new().await;
    std::fs::create_dir(house.log()).unwrap();
    let path = house.log().join("audit-1.jsonl");
    std::fs::write(&path, [vec![b'x'; 1 << 20], b"\nshort\nunfinished".to_vec()].concat()).unwrap();
    let mut reader = LogReader::open(&house.log()).unwrap();
    let long = reader.next_line().unwrap().unwrap();
    assert!(long.bytes.len() <= sojourn_core::audit::MAX_LINE + 2, "{}", long.bytes.len());
    assert_eq!(reader.next_line().unwrap().unwrap().bytes, b"short");
    assert_eq!(reader.next_line().unwrap(), None);
    assert_eq!(reader.partial(), b"unfinished");
}
