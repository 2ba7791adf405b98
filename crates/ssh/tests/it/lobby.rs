//! Those who come and do not sign in.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::house::House;
use crate::house::until;

const END: Duration = Duration::from_secs(60);

/// Reads to the end, which a reset is as well.
async fn ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = timeout(END, stream.read_to_end(&mut rest)).await;
    let _reset = end.expect("the door ended it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_has_a_deadline_however_slowly_one_talks() {
    let house = House::open_with(|listener| listener.login_grace = Duration::from_secs(1)).await;
    let mut silent = TcpStream::connect(("127.0.0.1", house.port)).await.unwrap();
    let mut slow = TcpStream::connect(("127.0.0.1", house.port)).await.unwrap();
    let began = Instant::now();
    let (_, mut write) = slow.split();
    let drip = async {
        for byte in b"SSH-2.0-slow".iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(END, drip).await.expect("the door ended it");
    ended(&mut silent).await;
    assert!(began.elapsed() >= Duration::from_millis(900), "not before its time");
    until("the audit event", || {
        house.gate.events().iter().any(|event| event.details["code"] == "login_grace")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_does_not_keep_the_newcomer_out() {
    let house = House::open_with(|listener| listener.lobby.per_address = 20).await;
    let mut flood = Vec::new();
    for _ in 0..60 {
        flood.push(TcpStream::connect(("127.0.0.1", house.port)).await.unwrap());
    }
    assert_eq!(house.exec("echo in").await.text(), "in\n");
    let first = flood.first_mut().unwrap();
    ended(first).await;
    let events = house.gate.events();
    let told: Vec<_> =
        events.iter().filter(|e| e.details["code"] == "too_many_unauthenticated").collect();
    assert_eq!(told.len(), 1, "told once, not forty times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_dropped_and_harms_nobody() {
    let house = House::open().await;
    for nonsense in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"SSH-2.0-x\r\n\xff\xff\xff\xff"]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", house.port)).await.unwrap();
        let _refused = stream.write_all(nonsense).await;
        ended(&mut stream).await;
    }
    assert_eq!(house.exec("echo in").await.text(), "in\n");
}
