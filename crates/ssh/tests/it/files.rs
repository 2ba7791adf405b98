//! SFTP and SCP with the real clients, over a helper that is not always honest, and what is kept of a
//! honeypot's uploads.

use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use tokio::process::Command;

use crate::client::HOST;
use crate::client::Outcome;
use crate::client::finish;
use crate::house::House;
use crate::house::until;

impl House {
    /// One of OpenSSH's other programs, with the options that `ssh` has.
    async fn tool(&self, program: &str) -> Command {
        let ssh = self.ssh().await;
        let ssh = ssh.as_std();
        let mut command = Command::new(program);
        let mut arguments = ssh.get_args();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                // Which means something else to them.
                Some("-p") => command.arg("-P").arg(arguments.next().unwrap()),
                _ => command.arg(argument),
            };
        }
        command.env_remove("SSH_AUTH_SOCK").kill_on_drop(true);
        command
    }

    async fn sftp(&self, batch: &str) -> Outcome {
        let mut command = self.tool("sftp").await;
        command.args(["-q", "-b", "-", HOST]);
        finish(command, batch.as_bytes()).await
    }

    /// What is on record of transfers, once there are so many.
    async fn transfers(&self, count: usize) -> Vec<Event> {
        let all = || -> Vec<Event> {
            let events = self.gate.events().into_iter();
            events.filter(|event| event.action == Action::FileTransferred).collect()
        };
        until("transfers on record", || all().len() >= count).await;
        all()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_a_honeypot_are_kept_up_to_their_quota() {
    let house = House::open().await;
    let here = house.directory().to_owned();
    let big: Vec<u8> = (0..150_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    std::fs::write(here.join("big"), &big).unwrap();
    std::fs::write(here.join("small"), "text").unwrap();
    house.gate.keep_evidence(Some(100_000));
    let put = |name: &str| format!("put {0}/{name} {0}/{name}.up\n", here.display());
    let outcome = house.sftp(&(put("big") + &put("small"))).await;
    assert_eq!(outcome.code(), 0, "{}", outcome.err);
    assert_eq!(std::fs::read(here.join("big.up")).unwrap(), big, "the copy itself is whole");
    let told = house.transfers(2).await;
    assert_eq!(told[0].details["bytes"], 150_000);
    assert_eq!(told[0].details["evidence_truncated"], true);
    assert_eq!(told[0].details.get("partial"), None);
    let kept = |event: &Event| here.join(event.details["evidence"].as_str().unwrap());
    assert_eq!(std::fs::read(kept(&told[0])).unwrap(), &big[..100_000]);
    assert_eq!(told[1].details["evidence_truncated"], false);
    assert_eq!(std::fs::read_to_string(kept(&told[1])).unwrap(), "text");

    // By the older protocol as well; and where nothing can be kept, nothing fails.
    let mut scp = house.tool("scp").await;
    let to = format!("{HOST}:{}/old.up", here.display());
    scp.arg("-qO").arg(here.join("small")).arg(to);
    assert_eq!(finish(scp, b"").await.code(), 0);
    let told = house.transfers(3).await;
    assert_eq!(std::fs::read_to_string(kept(&told[2])).unwrap(), "text");
    house.gate.keep_evidence(None);
    let outcome = house.sftp(&put("big")).await;
    assert_eq!(outcome.code(), 0, "{}", outcome.err);
    let told = house.transfers(4).await;
    assert!(told[3].details["evidence"].is_null());
    assert_eq!(told[3].details["evidence_truncated"], true);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_lies_is_not_believed() {
    let house = House::open().await;
    let here = house.directory().display().to_string();
    for name in ["turn", "long", "silent"] {
        std::fs::write(house.directory().join(name), "text").unwrap();
        let outcome = house.sftp(&format!("get {here}/{name} {here}/got\n")).await;
        assert_ne!(outcome.code(), 0, "{name}");
        let mut scp = house.tool("scp").await;
        scp.arg("-qO").arg(format!("{HOST}:{here}/{name}")).arg(format!("{here}/got"));
        assert_ne!(finish(scp, b"").await.code(), 0, "{name}");
        assert!(!house.directory().join("got").exists());
    }
    // More than was asked for.
    std::fs::write(house.directory().join("much"), "more").unwrap();
    let outcome = house.sftp(&format!("get {here}/much {here}/got\n")).await;
    assert_ne!(outcome.code(), 0);
    // Names that lead elsewhere are no names; no client hears of them.
    std::fs::create_dir(house.directory().join("odd")).unwrap();
    std::fs::write(house.directory().join("odd/x"), "").unwrap();
    let outcome = house.sftp(&format!("ls -1 {here}/odd\n")).await;
    let listed: Vec<String> = outcome
        .text()
        .lines()
        .filter(|line| !line.starts_with("sftp>"))
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, [format!("{here}/odd/true")], "{}", outcome.err);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_leaves_its_transfers_on_record() {
    let house = House::open().await;
    let here = house.directory().display().to_string();
    let sink = format!("scp -t {here}/half");
    let cut = house.exec_with(&[], &sink, b"C0644 1000 half\nonly this much").await;
    assert_eq!(cut.code(), 1);
    let told = house.transfers(1).await;
    assert_eq!(told[0].details["bytes"], 14);
    assert_eq!(told[0].details["partial"], true);
    assert_eq!(told[0].details["path"], format!("{here}/half"));
    house.close().await;
}
