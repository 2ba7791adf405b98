//! How a session that is ended from outside looks to its client.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::client::HOST;
use crate::house::House;
use crate::house::until;

const TIMEOUT: &str = "Session timeout - connection closed";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_session_says_why_within_a_second() {
    let house = House::open().await;
    for (options, terminal) in [(["-T"], false), (["-tt"], true)] {
        let mut ssh = house.ssh().await;
        ssh.args(options).args([HOST, "echo up; sleep 60"]);
        ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let mut up = [0; 3];
        stdout.read_exact(&mut up).await.unwrap();
        let session = house.gate.sessions().into_iter().find(|s| !s.is_gone()).unwrap();
        let began = Instant::now();
        session.end(TIMEOUT, 124);
        let status = child.wait().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(status.code(), Some(124));
        let (mut out, mut err) = (String::new(), String::new());
        stdout.read_to_string(&mut out).await.unwrap();
        stderr.read_to_string(&mut err).await.unwrap();
        let line = format!("\r\n{TIMEOUT}\r\n");
        let said = if terminal { &out } else { &err };
        assert!(said.ends_with(&line), "{out:?} {err:?}");
        until("the session's end", || session.is_gone()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_shown_out_all_the_same() {
    let house = House::open().await;
    let mut ssh = house.ssh().await;
    ssh.args([HOST, "yes"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = ssh.spawn().unwrap();
    let mut first = vec![0; 1 << 20];
    child.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
    let session = house.gate.session();
    session.end(TIMEOUT, 124);
    until("the connection's end", || session.is_gone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_client_is_shown_out_all_the_same() {
    let house = House::open().await;
    let mut ssh = house.ssh().await;
    ssh.args([HOST, "yes"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = ssh.spawn().unwrap();
    until("a session", || house.gate.sessions().len() == 1).await;
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let session = house.gate.session();
    session.end(TIMEOUT, 124);
    until("the connection's end", || session.is_gone()).await;
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_noticed() {
    let house = House::open_with(|listener| {
        listener.keepalive.interval = Duration::from_millis(300);
    })
    .await;
    for program in ["sleep 60", "yes"] {
        let mut ssh = house.ssh().await;
        ssh.args([HOST, program]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = ssh.spawn().unwrap();
        let live = || house.gate.sessions().into_iter().find(|s| !s.is_gone());
        until("a session", || live().is_some()).await;
        let session = live().unwrap();
        let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        until(program, || session.is_gone()).await;
        child.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_without_channels_is_disconnected_after_a_cut() {
    let house = House::open().await;
    let mut master = house.master().await;
    master.exec("true").await;
    let session = house.gate.session();
    session.end("Session ended by bob", 143);
    let ended = tokio::time::timeout(Duration::from_secs(60), master.child.wait()).await;
    assert!(ended.is_ok(), "the client was told to go");
    until("the session's end", || session.is_gone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_closes_lets_everybody_go() {
    let house = House::open().await;
    let mut idle = house.master().await;
    house.close().await;
    let ended = tokio::time::timeout(Duration::from_secs(60), idle.child.wait()).await;
    assert!(ended.is_ok(), "the client was told to go");
}
