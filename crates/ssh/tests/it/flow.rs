//! Slow readers, slow programs, and the others on the same connection.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::house::House;
use crate::house::until;

/// A channel that answers, answers within this.
const ANSWER: Duration = Duration::from_secs(60);

/// What this process holds in memory, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_holds_up_nobody_else() {
    let house = House::open().await;
    let master = house.master().await;
    let mut ssh = master.ssh("yes");
    ssh.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut flood = ssh.spawn().unwrap();
    let mut reader = flood.stdout.take().unwrap();
    let mut first = vec![0; 1 << 20];
    reader.read_exact(&mut first).await.unwrap();
    let before = resident();
    for _ in 0..3 {
        let outcome = timeout(ANSWER, master.exec("echo alive")).await.expect("an answer");
        assert_eq!(outcome.text(), "alive\n");
    }
    let more = resident().saturating_sub(before);
    assert!(more < 32 << 20, "{more} bytes more");
    reader.read_exact(&mut first).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_that_is_ignored_holds_up_nobody_else() {
    let house = House::open().await;
    let master = house.master().await;
    let before = resident();
    let mut ssh = master.ssh("sleep 60");
    ssh.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut deaf = ssh.spawn().unwrap();
    let mut stdin = deaf.stdin.take().unwrap();
    let chunk = vec![0; 1 << 20];
    let feed = async {
        for _ in 0..100 {
            stdin.write_all(&chunk).await.unwrap();
        }
    };
    timeout(Duration::from_secs(120), feed).await.expect("100 MB are taken off the connection");
    let outcome = timeout(ANSWER, master.exec("echo alive")).await.expect("an answer");
    assert_eq!(outcome.text(), "alive\n");
    let more = resident().saturating_sub(before);
    assert!(more < 32 << 20, "{more} bytes more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_is_full_makes_the_connection_wait_and_loses_nothing() {
    let house = House::open_with(|listener| {
        listener.spool.memory = 64 << 10;
        listener.spool.file = 1 << 20;
    })
    .await;
    let input: Vec<u8> =
        (0..8_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let outcome = house.exec_with(&[], "sleep 1; cat", &input).await;
    assert!(outcome.out == input, "{} bytes came back", outcome.out.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_prints_more_than_it_reads_goes_on_when_its_spool_is_full() {
    let house = House::open_with(|listener| {
        listener.spool.memory = 64 << 10;
        listener.spool.file = 1 << 20;
    })
    .await;
    let input = format!("{}\n", "x".repeat(99)).repeat(60_000);
    let options = ["-o", "RekeyLimit=2M"];
    let outcome = house.exec_with(&options, "sleep 1; sed 'p;p;p'", input.as_bytes()).await;
    assert_eq!(outcome.out.len(), 4 * input.len(), "{}", outcome.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_takes_nothing_is_closed_alone() {
    let house = House::open_with(|listener| {
        listener.spool.memory = 64 << 10;
        listener.spool.file = 1 << 20;
        listener.spool.patience = Duration::from_secs(2);
    })
    .await;
    let master = house.master().await;
    let mut ssh = master.ssh("sleep 60");
    ssh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut stuck = ssh.spawn().unwrap();
    let mut stdin = stuck.stdin.take().unwrap();
    let mut stderr = stuck.stderr.take().unwrap();
    let feed = tokio::spawn(async move {
        let chunk = vec![0; 1 << 20];
        while stdin.write_all(&chunk).await.is_ok() {}
    });
    let mut said = String::new();
    timeout(ANSWER, stderr.read_to_string(&mut said)).await.expect("an end").unwrap();
    assert!(said.contains("Channel closed: its program took no input for 2 s"), "{said}");
    assert_eq!(stuck.wait().await.unwrap().code(), Some(143));
    feed.await.unwrap();
    let outcome = timeout(ANSWER, master.exec("echo alive")).await.expect("an answer");
    assert_eq!(outcome.text(), "alive\n");
    until("the audit event", || {
        house.gate.events().iter().any(|event| event.action.name() == "channel_closed")
    })
    .await;
}
