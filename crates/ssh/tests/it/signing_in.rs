//! Who gets in, and how.

use crate::client::HOST;
use crate::client::finish;
use crate::client::run;
use crate::house::House;
use crate::house::PASSWORD;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_lets_its_user_in_and_no_other_does() {
    let house = House::open().await;
    let mut ssh = house.ssh_with_password(PASSWORD);
    ssh.args([HOST, "echo in"]);
    assert_eq!(finish(ssh, b"").await.text(), "in\n");
    let stay = &house.gate.stays()[0];
    assert_eq!(stay.attempts.len(), 1);
    assert!(stay.attempts[0].accepted && stay.attempts[0].method == "password");

    let mut ssh = house.ssh_with_password("something else entirely");
    ssh.args([HOST, "echo in"]);
    let outcome = finish(ssh, b"").await;
    assert_eq!((outcome.code(), &*outcome.text()), (255, ""));
    assert!(outcome.err.contains("Permission denied (publickey,password,"), "{}", outcome.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_limited() {
    let house = House::open_with(|listener| listener.max_auth_tries = 2).await;
    let mut ssh = house.ssh_with_password("something else entirely");
    ssh.args(["-o", "NumberOfPasswordPrompts=10", HOST, "true"]);
    let outcome = finish(ssh, b"").await;
    assert!(outcome.err.contains("Too many authentication failures"), "{}", outcome.err);
    assert_eq!(house.gate.asked(), (0, 2), "and no more than two were looked at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_every_kind_let_their_user_in() {
    let house = House::open().await;
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = house.key(kind, true).await;
        let mut ssh = house.bare_ssh();
        ssh.arg("-i").arg(key).args(["-o", "BatchMode=yes", HOST, "echo in"]);
        let outcome = finish(ssh, b"").await;
        assert_eq!(outcome.text(), "in\n", "{kind}: {}", outcome.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_only_offered_lets_nobody_in() {
    let house = House::open().await;
    let unknown = house.key("ed25519", false).await;
    let mut ssh = house.bare_ssh();
    ssh.arg("-i").arg(&unknown).args(["-o", "BatchMode=yes", HOST, "true"]);
    assert_eq!(finish(ssh, b"").await.code(), 255);
    assert_eq!(house.gate.asked(), (1, 0), "looked up, not tried");

    // A known key's public half, and another private one.
    let known = house.key("ed25519", true).await;
    let half = house.directory().join("half");
    std::fs::copy(&unknown, &half).unwrap();
    std::fs::copy(known.with_extension("pub"), half.with_extension("pub")).unwrap();
    let mut ssh = house.bare_ssh();
    ssh.arg("-i").arg(&half).args(["-o", "BatchMode=yes", HOST, "true"]);
    assert_eq!(finish(ssh, b"").await.code(), 255);
    assert_eq!(house.gate.stays().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sha_1_signatures_let_nobody_in() {
    let house = House::open().await;
    let key = house.key("rsa", true).await;
    let mut ssh = house.bare_ssh();
    ssh.arg("-i").arg(key).args(["-o", "BatchMode=yes"]);
    ssh.args(["-o", "PubkeyAcceptedAlgorithms=ssh-rsa", HOST, "true"]);
    assert_eq!(finish(ssh, b"").await.code(), 255);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_let_their_principals_in() {
    let ca = std::env::temp_dir().join(format!("sojourn-ssh-ca-{}", std::process::id()));
    let ca_text = ca.to_string_lossy().into_owned();
    let _none = std::fs::remove_file(&ca);
    run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &ca_text]).await;
    let public = std::fs::read_to_string(ca.with_extension("pub")).unwrap();
    let house = House::open_with(|listener| listener.trusted_user_ca = vec![public]).await;
    let key = house.key("ed25519", false).await;
    let file = key.with_extension("pub").to_string_lossy().into_owned();

    let sign = async |principal: &str, options: &[&str]| {
        let mut arguments = vec!["-q", "-s", &ca_text, "-I", "test", "-n", principal];
        arguments.extend(options);
        arguments.push(&file);
        run("ssh-keygen", arguments).await;
        let mut ssh = house.bare_ssh();
        ssh.arg("-i").arg(&key).args(["-o", "BatchMode=yes", HOST, "echo in"]);
        finish(ssh, b"").await
    };
    let outcome = sign("alice", &["-V", "+1h"]).await;
    assert_eq!(outcome.text(), "in\n", "{}", outcome.err);
    assert_eq!(house.gate.stays()[0].attempts.last().unwrap().method, "certificate");
    assert_eq!(sign("bob", &["-V", "+1h"]).await.code(), 255, "another's name");
    assert_eq!(sign("alice", &["-V", "-2h:-1h"]).await.code(), 255, "over");
    let forced = sign("alice", &["-O", "force-command=echo forced"]).await;
    assert_eq!(forced.text(), "forced\n");
    assert_eq!(sign("alice", &["-O", "source-address=10.0.0.0/8"]).await.code(), 255, "elsewhere");
    assert_eq!(sign("alice", &["-O", "critical:odd@example.org=1"]).await.code(), 255, "unknown");
    let events = house.gate.events();
    let attempts = events.iter().filter(|e| e.action.name() == "auth_attempt");
    let refused: Vec<_> =
        attempts.map(|e| (e.details["user"].as_str(), e.details["reason"].as_str())).collect();
    let alice = Some("alice");
    assert_eq!(
        refused,
        [
            (alice, Some("not for this user")),
            (alice, Some("expired or not yet valid")),
            (alice, Some("not from this address")),
            (alice, Some("critical option \"odd@example.org\" is not known here")),
        ]
    );
    for name in ["", "pub"] {
        let _gone = std::fs::remove_file(ca.with_extension(name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_banner_and_the_version_are_ours() {
    let house = House::open_with(|listener| {
        listener.banner = "Authorised use only".to_owned();
        listener.server_id = "Front_1.0".to_owned();
    })
    .await;
    let mut ssh = house.ssh().await;
    ssh.args(["-v", HOST, "true"]);
    let outcome = finish(ssh, b"").await;
    assert!(outcome.err.contains("Authorised use only"), "{}", outcome.err);
    assert!(outcome.err.contains("remote software version Front_1.0"), "{}", outcome.err);
    assert!(outcome.err.contains("kex: server->client cipher:"), "{}", outcome.err);
    assert!(!outcome.err.contains("compression: zlib"), "{}", outcome.err);
}
