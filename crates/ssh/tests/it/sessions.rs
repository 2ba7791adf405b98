//! One connection, one session: when it begins, what it is shared by, how it is refused.

use std::process::Stdio;
use std::time::Duration;

use sojourn_engine::door::Detached;
use sojourn_engine::door::Refusal;
use tokio::task::JoinSet;

use crate::client::HOST;
use crate::house::House;
use crate::house::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_takes_no_sandbox() {
    let house = House::open().await;
    let master = house.master().await;
    assert_eq!(house.gate.stays().len(), 0);
    assert_eq!(master.exec("echo x").await.text(), "x\n");
    assert_eq!(house.gate.stays().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_channels_share_one_session() {
    let house = House::open().await;
    let master = house.master().await;
    let mut all = JoinSet::new();
    for n in 1..=12 {
        let command = master.ssh(&format!("sleep 0.5; echo {n}; exit {n}"));
        all.spawn(async move { (n, crate::client::finish(command, b"").await) });
    }
    while let Some(done) = all.join_next().await {
        let (n, outcome) = done.unwrap();
        assert_eq!((outcome.code(), outcome.text()), (n, format!("{n}\n")), "{}", outcome.err);
    }
    assert_eq!(house.gate.stays().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_connection() {
    let house = House::open().await;
    let mut master = house.master().await;
    master.exec("true").await;
    let session = house.gate.session();
    assert!(!session.is_gone(), "a channel's end is not the connection's");
    master.child.kill().await.unwrap();
    until("the session's end", || session.is_gone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_one_line_and_75() {
    let house = House::open().await;
    house.gate.refuse(Some(Refusal::UserFull { active: 5, max: 5, detached: Detached::default() }));
    let outcome = house.exec("echo never").await;
    assert_eq!((outcome.code(), &*outcome.text()), (75, ""));
    assert_eq!(outcome.err, "\r\nyou have 5 of 5 sessions open; end one and try again\r\n");
    let outcome = house.exec_with(&["-tt"], "echo never", b"").await;
    assert!(outcome.text().contains("you have 5 of 5 sessions open"), "{outcome:?}");
    house.gate.refuse(None);
    assert_eq!(house.exec("echo now").await.text(), "now\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_the_sandbox_waits_in_order() {
    let house = House::open().await;
    house.gate.delay(Duration::from_secs(1));
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let outcome = house.exec_with(&[], "cat; exit 3", &input).await;
    assert_eq!(outcome.code(), 3);
    assert!(outcome.out == input, "{} bytes came back", outcome.out.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_its_sandbox_comes_leaves_nothing() {
    let house = House::open().await;
    house.gate.delay(Duration::from_secs(1));
    let mut ssh = house.ssh().await;
    ssh.args([HOST, "sleep 60"]).stdin(Stdio::null());
    let mut child = ssh.spawn().unwrap();
    until("a key", || house.gate.asked().1 == 1).await;
    child.kill().await.unwrap();
    // Either it left before it asked for a session, or its session hears of it.
    let probe = house.exec("true").await;
    assert_eq!(probe.code(), 0);
    until("the end of all sessions", || house.gate.sessions().iter().all(|s| s.is_gone())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_name_names_the_profile() {
    let house = House::open().await;
    house.exec("true").await;
    let mut ssh = house.ssh().await;
    ssh.args(["alice+tools@127.0.0.1", "true"]);
    assert_eq!(crate::client::finish(ssh, b"").await.code(), 0);
    let profiles: Vec<_> = house.gate.stays().into_iter().map(|stay| stay.profile).collect();
    assert_eq!(profiles, [None, Some("tools".to_owned())]);
    for (user, why) in [
        ("alice+@3f2a91c0", "no session ends in \"3f2a91c0\""),
        ("alice+laptop:", "a runner gives a shell on a terminal"),
    ] {
        let mut ssh = house.ssh().await;
        ssh.args([&format!("{user}@127.0.0.1"), "true"]);
        let outcome = crate::client::finish(ssh, b"").await;
        assert_eq!(outcome.code(), 75);
        assert!(outcome.err.contains(why), "{}", outcome.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_beyond_the_limit_are_refused_and_freed() {
    let house = House::open().await;
    let master = house.master().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut ssh = master.ssh("echo up; sleep 60");
        ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        open.push(ssh.spawn().unwrap());
    }
    for child in &mut open {
        let mut first = [0; 3];
        let out = child.stdout.as_mut().unwrap();
        tokio::io::AsyncReadExt::read_exact(out, &mut first).await.unwrap();
    }
    let outcome = master.exec("echo one more").await;
    assert_eq!(outcome.text(), "", "the 65th is refused");
    drop(open);
    let freed = async { while master.exec("echo again").await.text() != "again\n" {} };
    tokio::time::timeout(Duration::from_secs(60), freed).await.expect("places are given back");
}
