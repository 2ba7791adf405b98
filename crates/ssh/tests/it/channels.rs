//! What one channel is to a program: its streams, its terminal, its environment, its end.

use std::time::Duration;

use crate::client::HOST;
use crate::client::finish;
use crate::client::run;
use crate::house::House;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_status_and_streams_arrive_apart() {
    let house = House::open().await;
    let outcome = house.exec("echo o; echo e >&2; exit 7").await;
    assert_eq!((outcome.code(), &*outcome.text(), &*outcome.err), (7, "o\n", "e\n"));
    assert_eq!(house.exec("exec >&- 2>&-; sleep 0.3; exit 6").await.code(), 6, "not early");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_is_told_as_a_signal() {
    let house = House::open().await;
    let outcome = house.exec_with(&["-v"], "kill -TERM $$", b"").await;
    assert_eq!(outcome.code(), 255, "as with sshd");
    assert!(outcome.err.contains("rtype exit-signal"), "{}", outcome.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_input_is_not_the_end() {
    let house = House::open().await;
    let outcome =
        house.exec_with(&[], "cat >/dev/null; sleep 0.3; echo late; exit 5", b"abc").await;
    assert_eq!((outcome.code(), &*outcome.text()), (5, "late\n"));
    let outcome = house.exec_with(&[], "exit 4", &vec![0; 1 << 20]).await;
    assert_eq!(outcome.code(), 4, "input that nobody takes is no failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_bytes_are_never_lost() {
    let house = House::open().await;
    let master = house.master().await;
    for _ in 0..100 {
        let outcome = master.exec("echo running; exit 3").await;
        assert_eq!((outcome.code(), &*outcome.text()), (3, "running\n"), "{}", outcome.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_megabytes_go_through_cat_unchanged() {
    let house = House::open().await;
    let input: Vec<u8> =
        (0..50_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let outcome = house.exec_with(&[], "cat", &input).await;
    assert_eq!(outcome.code(), 0);
    assert!(outcome.out == input, "{} bytes came back", outcome.out.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_may_change_in_mid_stream() {
    let house = House::open().await;
    let input = vec![b'x'; 20_000_000];
    let options = ["-o", "RekeyLimit=1M", "-o", "Ciphers=aes128-gcm@openssh.com"];
    let outcome = house.exec_with(&options, "cat; exit 9", &input).await;
    assert_eq!(outcome.code(), 9);
    assert!(outcome.out == input, "{} bytes came back", outcome.out.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_the_clients_type_and_merges_streams() {
    let house = House::open().await;
    let mut ssh = house.ssh().await;
    ssh.args(["-tt", HOST, "echo o; echo e >&2; echo $TERM"]).env("TERM", "vt220");
    let outcome = finish(ssh, b"").await;
    assert_eq!((&*outcome.text(), &*outcome.err), ("o\r\ne\r\nvt220\r\n", ""));
    let outcome = house.exec_with(&["-tt"], "cat", b"hi\n\x04").await;
    assert_eq!(outcome.code(), 0, "^D ends input, and a closed pipe does not");
    assert!(outcome.text().contains("hi\r\nhi\r\n"), "{}", outcome.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_changes_is_seen_by_the_program() {
    let house = House::open().await;
    let ssh = house.ssh().await;
    let words: Vec<String> = std::iter::once(ssh.as_std().get_program())
        .chain(ssh.as_std().get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    // The program says its size, waits for another, and says that.
    let program =
        "stty size; while [ \"$(stty size)\" = \"33 101\" ]; do sleep 0.05; done; stty size";
    let script = format!(
        "stty rows 33 cols 101; {} -tt alice@127.0.0.1 '{}' </dev/tty & sleep 1; stty rows 44 cols 120; \
         kill -WINCH $!; wait",
        words.join(" "),
        program.replace('\'', "'\\''"),
    );
    let shown = run("script", ["-qefc", &script, "/dev/null"]).await;
    assert!(shown.contains("33 101") && shown.contains("44 120"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_is_collected_and_ours_is_taken_out() {
    let house = House::open().await;
    let mut ssh = house.ssh().await;
    for set in ["LANG=C.UTF-8", "FOO=x", "SOJOURN_TIMEOUT=10m", "SOJOURN_WHY=to look"] {
        ssh.args(["-o", "SendEnv=LANG"]).args(["-o", "SendEnv=FOO SOJOURN_*"]);
        let (name, value) = set.split_once('=').unwrap();
        ssh.env(name, value);
    }
    ssh.args([HOST, "echo $LANG,$FOO,$TERM,$SOJOURN_TIMEOUT"]);
    let outcome = finish(ssh, b"").await;
    assert_eq!(outcome.text(), "C.UTF-8,,dumb,\n");
    let stays = house.gate.stays();
    assert_eq!(stays.len(), 1);
    assert_eq!(stays[0].lower.max_runtime, Some(Duration::from_secs(600)));
    assert_eq!(stays[0].why.as_deref(), Some("to look"));
    assert!(stays[0].client.starts_with("SSH-2.0-OpenSSH_"), "{}", stays[0].client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_that_is_none_is_refused() {
    let house = House::open().await;
    let mut ssh = house.ssh().await;
    ssh.args(["-o", "SendEnv=SOJOURN_TIMEOUT", HOST, "true"]).env("SOJOURN_TIMEOUT", "soon");
    let outcome = finish(ssh, b"").await;
    assert_eq!(outcome.code(), 75);
    assert!(outcome.err.contains("SOJOURN_TIMEOUT=\"soon\" is not a duration"), "{}", outcome.err);
    assert_eq!(house.gate.stays().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_offered_is_refused_properly() {
    let house = House::open().await;
    let outcome = house.exec_with(&["-s"], "netconf", b"").await;
    assert_ne!(outcome.code(), 0);
    assert!(outcome.err.contains("subsystem request failed"), "{}", outcome.err);
    let outcome = house.exec_with(&["-v", "-W", "127.0.0.1:22"], "", b"").await;
    assert!(outcome.err.contains("administratively prohibited"), "{}", outcome.err);
    let options = ["-R", "0:127.0.0.1:22", "-o", "ExitOnForwardFailure=yes"];
    let outcome = house.exec_with(&options, "true", b"").await;
    assert!(outcome.err.contains("remote port forwarding failed"), "{}", outcome.err);
    let kinds: Vec<String> =
        house.gate.events().iter().map(|event| event.details["kind"].to_string()).collect();
    assert_eq!(kinds, ["\"local\"", "\"remote\""]);
    assert_eq!(house.gate.stays().len(), 0, "and none of it took a sandbox");
}
