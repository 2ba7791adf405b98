//! Health says what is not well, and says that all is well only when it is.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use sojourn_testkit::Browser;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Scratch;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;

/// Status and body of health, as somebody on this machine gets it.
fn health(gateway: &Gateway) -> (u16, Value) {
    let answer = Browser::new(gateway.web_port()).get("/api/health");
    (answer.outcome().0, answer.json())
}

/// Waits until health is so, and gives its only reason.
#[track_caller]
fn until_health(gateway: &Gateway, status: u16, word: &str) -> String {
    until(&format!("{status} {word}"), PATIENCE, || {
        let (found, body) = health(gateway);
        let reasons = body["reasons"].as_array().unwrap();
        let reason = reasons.first().map_or("", |reason| reason.as_str().unwrap()).to_owned();
        (found == status && body["status"] == word && reasons.len() <= 1).then_some(reason)
    })
}

/// A command that has to work.
fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).status().unwrap();
    assert!(done.success(), "{program} {arguments:?}");
}

#[test]
fn a_gateway_is_healthy_while_its_pool_fills() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let (status, body) = health(&gateway);
    assert_eq!((status, &body["status"]), (200, &"healthy".into()));
    assert_eq!(body["reasons"], serde_json::json!([]));
    assert_eq!((&body["runners_connected"], &body["active_sessions"]), (&0.into(), &0.into()));
    assert!(body["uptime_seconds"].is_u64() && body["version"].is_string());
    let mut shell = gateway.alice().with("-tt").start(&["echo up; exec sleep 999"]);
    shell.expect("up");
    assert_eq!(health(&gateway).1["active_sessions"], 1);
    shell.kill();
}

#[test]
fn a_store_that_is_gone_is_503_and_comes_back() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let (file, away) = (gateway.data().join("sojourn.db"), gateway.scratch().path().join("away"));
    fs::rename(&file, &away).unwrap();
    let reason = until_health(&gateway, 503, "degraded");
    assert!(reason.contains("the store is gone") && reason.contains("sojourn.db"), "{reason}");
    fs::write(&file, "another one").unwrap();
    assert!(until_health(&gateway, 503, "degraded").contains("sojourn.db"));
    fs::rename(&away, &file).unwrap();
    until_health(&gateway, 200, "healthy");
}

#[test]
fn an_audit_log_that_cannot_be_written_is_degraded() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let audit = gateway.data().join("audit");
    run("chmod", &["0500", audit.to_str().unwrap()]);
    let reason = until_health(&gateway, 200, "degraded");
    assert!(reason.contains("audit log") && reason.contains("permission denied"), "{reason}");
    run("chmod", &["0750", audit.to_str().unwrap()]);
    until_health(&gateway, 200, "healthy");
}

/// A small file system, until this is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn over(directory: &Path) -> Self {
        let kept = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let kept: Vec<(PathBuf, Vec<u8>)> =
            kept.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        let at = directory.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=1m,uid=65534,gid=65534,mode=750", "tmpfs", at]);
        for (path, bytes) in kept {
            fs::write(&path, bytes).unwrap();
            run("chown", &["65534:65534", path.to_str().unwrap()]);
        }
        Self(directory.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: after a failed test a gateway may still have it open.
        let _done = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_under_the_audit_log_is_degraded_and_lets_nobody_new_in() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    gateway.stop();
    let disk = Tmpfs::over(&gateway.data().join("audit"));
    gateway.launch();
    until_health(&gateway, 200, "healthy");
    let ballast = disk.0.join("ballast");
    let full = fs::write(&ballast, vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let reason = until_health(&gateway, 200, "degraded");
    assert!(reason.contains("audit log") && reason.contains("the disk is full"), "{reason}");
    // What is left of the log's last page still takes a line or two.
    until("a refusal", PATIENCE, || (gateway.alice().run("true").code != 0).then_some(()));
    fs::remove_file(&ballast).unwrap();
    until_health(&gateway, 200, "healthy");
    assert_eq!(gateway.alice().run("exit 5").code, 5);
    gateway.stop();
}

#[test]
fn a_profile_that_no_sandbox_can_be_made_for_is_named_with_the_reason() {
    if !can_make_sandboxes() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.path().join("image.tar.gz");
    fs::write(&image, b"\x1f\x8b and nothing of the kind behind it").unwrap();
    let gateway = gateway(&Options {
        more: format!("[profiles.broken]\nrootfs = {image:?}\npool = 1\n"),
        ..Options::default()
    });
    let reason = until_health(&gateway, 200, "degraded");
    assert!(reason.contains("no sandbox can be made for profile broken: "), "{reason}");
    assert_eq!(gateway.alice().run("exit 6").code, 6, "the others work");
}
