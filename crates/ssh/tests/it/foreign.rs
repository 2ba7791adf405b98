//! Clients that are not OpenSSH's, and do what it never does.

use std::sync::Arc;
use std::time::Duration;

use russh::ChannelMsg;
use russh::Sig;
use russh::client;
use russh::client::Handle;
use russh::keys::PrivateKey;
use russh::keys::PrivateKeyWithHashAlg;
use russh::keys::PublicKeyOrCertificate;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::house::House;
use crate::house::PASSWORD;
use crate::house::until;

const SOON: Duration = Duration::from_secs(60);

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn connect(house: &House, change: impl FnOnce(&mut client::Config)) -> Handle<Trusting> {
    let mut config = client::Config::default();
    change(&mut config);
    client::connect(Arc::new(config), ("127.0.0.1", house.port), Trusting).await.unwrap()
}

async fn exec(session: &Handle<Trusting>, command: &str) -> (Vec<u8>, Option<u32>) {
    let mut channel = session.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    let (mut out, mut status) = (Vec::new(), None);
    while let Some(message) = timeout(SOON, channel.wait()).await.expect("an end") {
        match message {
            ChannelMsg::Data { data } => out.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    (out, status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_changes_the_name_begins_anew() {
    let house = House::open().await;
    let key = house.key("ed25519", true).await;
    let key = Arc::new(PrivateKey::from_openssh(std::fs::read(key).unwrap()).unwrap());
    let mut session = connect(&house, |_| {}).await;
    let with_key = || PrivateKeyWithHashAlg::new(key.clone(), None);
    assert!(!session.authenticate_publickey("bob", with_key()).await.unwrap().success());
    assert!(!session.authenticate_password("bob", PASSWORD).await.unwrap().success());
    assert!(!session.authenticate_password("alice", "wrong").await.unwrap().success());
    assert!(session.authenticate_publickey("alice", with_key()).await.unwrap().success());
    assert_eq!(exec(&session, "echo in").await, (b"in\n".to_vec(), Some(0)));
    let stay = &house.gate.stays()[0];
    assert_eq!(stay.who.name(), "alice");
    let tried: Vec<_> = stay.attempts.iter().map(|a| (a.user.as_str(), a.accepted)).collect();
    assert_eq!(tried, [("bob", false), ("bob", false), ("alice", false), ("alice", true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_runs_before_somebody_has_signed_in() {
    let house = House::open().await;
    let session = connect(&house, |_| {}).await;
    let opened = timeout(Duration::from_millis(500), session.channel_open_session()).await;
    assert!(!matches!(opened, Ok(Ok(_))), "no channel");
    assert_eq!(house.gate.stays().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_packets_of_no_bytes_is_dropped() {
    let house = House::open().await;
    let mut session = connect(&house, |config| config.maximum_packet_size = 0).await;
    assert!(session.authenticate_password("alice", PASSWORD).await.unwrap().success());
    assert!(timeout(SOON, session.channel_open_session()).await.expect("an answer").is_err());
    assert_eq!(house.exec("echo in").await.text(), "in\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_window_is_shown_out_with_its_status() {
    let house = House::open().await;
    let mut session = connect(&house, |config| config.window_size = 0).await;
    assert!(session.authenticate_password("alice", PASSWORD).await.unwrap().success());
    let end = async {
        until("a session", || house.gate.sessions().len() == 1).await;
        let began = Instant::now();
        house.gate.session().end("Session timeout - connection closed", 124);
        began
    };
    let (began, (out, status)) = tokio::join!(end, exec(&session, "yes"));
    assert_eq!((out.len(), status), (0, Some(124)));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_starts_once_a_channel() {
    let house = House::open().await;
    // This client hears nothing while more answers wait than it has room for.
    let mut session = connect(&house, |config| config.channel_buffer_size = 1000).await;
    assert!(session.authenticate_password("alice", PASSWORD).await.unwrap().success());
    let mut channel = session.channel_open_session().await.unwrap();
    for _ in 0..200 {
        channel.set_env(true, "LANG", "C").await.unwrap();
    }
    channel.exec(true, "cat >/dev/null; echo once").await.unwrap();
    channel.exec(true, "echo twice").await.unwrap();
    channel.request_shell(true).await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    channel.eof().await.unwrap();
    let (mut replies, mut out) = (Vec::new(), Vec::new());
    while let Some(message) = timeout(SOON, channel.wait()).await.expect("an end") {
        match message {
            ChannelMsg::Success => replies.push(true),
            ChannelMsg::Failure => replies.push(false),
            ChannelMsg::Data { data } => out.extend_from_slice(&data),
            _ => {}
        }
    }
    assert_eq!(out, b"once\n");
    let (env, rest) = replies.split_at(200);
    assert_eq!(env.iter().filter(|done| **done).count(), 128, "the rest is too much");
    assert_eq!(rest, [true, false, false, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_reaches_the_program() {
    let house = House::open().await;
    let mut session = connect(&house, |_| {}).await;
    assert!(session.authenticate_password("alice", PASSWORD).await.unwrap().success());
    let mut channel = session.channel_open_session().await.unwrap();
    let program = "trap 'exit 17' TERM; echo up; while :; do sleep 0.05; done";
    channel.exec(true, program).await.unwrap();
    let mut status = None;
    while let Some(message) = timeout(SOON, channel.wait()).await.expect("an end") {
        match message {
            ChannelMsg::Data { .. } => channel.signal(Sig::TERM).await.unwrap(),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    assert_eq!(status, Some(17));
}
