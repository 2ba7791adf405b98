//! Files in and out, with the real `sftp`, `scp`, `rsync` and `curl`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sojourn_testkit::Client;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Output;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

/// Runs `sftp` with these commands.
fn sftp(client: &Client, batch: &str) -> Output {
    let mut command = client.tool("sftp");
    command.args(["-q", "-b", "-", &client.host()]);
    let mut running = Running::new(command);
    running.write(batch.as_bytes());
    running.finish(PATIENCE)
}

/// Runs `scp` with these words; `H:` stands for the gateway.
fn scp(client: &Client, words: &[&str]) -> Output {
    let mut command = client.tool("scp");
    for word in words {
        match word.strip_prefix("H:") {
            Some(path) => command.arg(format!("{}:{path}", client.host())),
            None => command.arg(word),
        };
    }
    Running::new(command).finish(Duration::from_secs(60))
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert_eq!(output.code, 0, "{}{}", output.text(), output.err);
    output.text()
}

fn sha256_of(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().to_owned()
}

/// Some bytes that are not alike.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// What is on record of transfers, as soon as there are so many.
fn transfers(gateway: &Gateway, count: usize) -> Vec<Value> {
    let all = || -> Vec<Value> {
        let audit = gateway.audit().into_iter();
        audit.filter(|line| line["action"] == "file_transferred").collect()
    };
    sojourn_testkit::until(&format!("{count} transfers of {}", all().len()), PATIENCE, || {
        (all().len() >= count).then_some(())
    });
    all()
}

#[test]
fn sftp_puts_gets_lists_and_resumes() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let alice = gateway.alice();
    let here = gateway.scratch().path();
    let bytes = noise(5_000_000);
    let big = gateway.scratch().file("big", &bytes);
    fs::set_permissions(&big, fs::Permissions::from_mode(0o640)).unwrap();
    let (big, back) = (big.display(), here.join("back"));
    let batch = format!(
        "pwd\nmkdir dir\nput -p {big} dir/a\nls -l dir\nget dir/a {back}\nln -s a dir/link\n\
         ln dir/a dir/hard\nrename dir/hard dir/moved\nchmod 600 dir/moved\nls -la dir\n\
         df -h /root\nget dir/link {back}.link\nrm dir/moved\n-mkdir dir\n-get missing\n\
         -rmdir dir\n-rename dir/a /nowhere/b\n",
        back = back.display(),
    );
    let output = sftp(&alice, &batch);
    let text = succeeds(&output);
    assert!(text.contains("Remote working directory: /root"), "{text}");
    assert!(text.contains("-rw-r-----"), "{text}");
    assert!(text.contains("root     root      5000000"), "{text}");
    assert!(text.contains("lrwxrwxrwx"), "{text}");
    assert_eq!(fs::read(&back).unwrap(), bytes);
    assert_eq!(fs::read(back.with_extension("link")).unwrap(), bytes);
    assert!(output.err.contains("\"/root/missing\" not found"), "{}", output.err);
    let transfers = transfers(&gateway, 3);
    let digest = sha256_of(&back);
    for (transfer, direction, path) in [
        (&transfers[0], "in", "/root/dir/a"),
        (&transfers[1], "out", "/root/dir/a"),
        (&transfers[2], "out", "/root/dir/link"),
    ] {
        let details = &transfer["details"];
        assert_eq!(details["path"], path, "{transfer}");
        assert_eq!(details["direction"], direction);
        assert_eq!(details["bytes"], 5_000_000);
        assert_eq!(details["sha256"], digest.as_str());
        assert_eq!(details.get("partial"), None);
        assert!(transfer["session_id"].is_string());
        assert_eq!(transfer["actor"]["user"], "alice");
    }
    assert_eq!(transfers.len(), 3);
}

#[test]
fn a_cut_copy_is_taken_up_again() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let alice = gateway.alice();
    let bytes = noise(300_000);
    let whole = gateway.scratch().file("whole", &bytes);
    let half = gateway.scratch().file("half", &bytes[..100_000]);
    let got = gateway.scratch().file("got", &bytes[..50_000]);
    let batch = format!(
        "put {half} a\nreput {whole} a\nreget a {got}\n",
        half = half.display(),
        whole = whole.display(),
        got = got.display(),
    );
    succeeds(&sftp(&alice, &batch));
    assert_eq!(fs::read(&got).unwrap(), bytes);
    let transfers = transfers(&gateway, 3);
    let second = &transfers[1]["details"];
    assert_eq!(
        (second["offset"].as_u64(), second["bytes"].as_u64()),
        (Some(100_000), Some(200_000))
    );
    assert_eq!(second["partial"], true);
    let rest = gateway.scratch().file("rest", &bytes[100_000..]);
    assert_eq!(second["sha256"], sha256_of(&rest).as_str());
    assert_eq!(transfers[2]["details"]["offset"], 50_000);
}

#[test]
fn scp_copies_trees_both_ways_by_either_protocol() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let alice = gateway.alice();
    let here = gateway.scratch().path();
    let tree = here.join("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(tree.join("one"), noise(100_000)).unwrap();
    fs::write(tree.join("sub/two words"), noise(70_001)).unwrap();
    fs::write(tree.join("sub/nothing"), b"").unwrap();
    fs::set_permissions(tree.join("one"), fs::Permissions::from_mode(0o751)).unwrap();
    let touched = Command::new("touch")
        .args(["-d", "2020-02-03 04:05:06 UTC"])
        .arg(tree.join("one"))
        .status();
    assert!(touched.unwrap().success());
    for (protocol, name) in [("-s", "new"), ("-O", "old")] {
        let back = here.join(name);
        let back = back.to_str().unwrap();
        let tree = tree.to_str().unwrap();
        // A master connection, so that both copies see the same sandbox.
        let shared = alice
            .clone()
            .with("-oControlMaster=auto")
            .with("-oControlPersist=yes")
            .with(&format!("-oControlPath={}", here.join(format!("m{name}")).display()));
        succeeds(&scp(&shared, &[protocol, "-rpq", tree, "H:copy"]));
        succeeds(&scp(&shared, &[protocol, "-rpq", "H:copy", back]));
        let same = Command::new("diff").args(["-r", tree, back]).output().unwrap();
        assert!(same.status.success(), "{protocol}: {}", String::from_utf8_lossy(&same.stdout));
        let one = fs::metadata(Path::new(back).join("one")).unwrap();
        assert_eq!(one.permissions().mode() & 0o777, 0o751, "{protocol}");
        let modified = one.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(modified.as_secs(), 1_580_702_706, "{protocol}");
        assert!(Path::new(back).join("sub/empty").is_dir());
        let missing = scp(&shared, &[protocol, "H:missing", back]);
        assert_eq!(missing.code, 1, "{protocol}");
        assert!(missing.err.contains("missing: No such file or directory"), "{}", missing.err);
        let mut exit = shared.tool("ssh");
        exit.args(["-O", "exit", &shared.host()]);
        Running::new(exit).finish(PATIENCE);
    }
    let transfers = transfers(&gateway, 12);
    assert_eq!(transfers.len(), 12, "three files, in and out, twice");
    let digest = sha256_of(&tree.join("one"));
    let ones: Vec<&Value> =
        transfers.iter().filter(|line| line["details"]["path"] == "/root/copy/one").collect();
    assert_eq!(ones.len(), 4);
    assert!(ones.iter().all(|line| line["details"]["sha256"] == digest.as_str()));
}
