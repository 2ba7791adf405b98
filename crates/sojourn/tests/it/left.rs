//! What sessions left in their sandboxes: kept, listed, read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;
use crate::kill;

/// The directories in `kept/`, oldest first.
pub(crate) fn kept(gateway: &Gateway) -> Vec<PathBuf> {
    let entries = fs::read_dir(gateway.data().join("kept")).unwrap().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("about.json").is_file())
        .collect();
    paths.sort();
    paths
}

/// The newest session's id.
pub(crate) fn newest(gateway: &Gateway) -> String {
    gateway.sessions()[0]["id"].as_str().unwrap().to_owned()
}

/// Waits until what a session left is kept and on record.
pub(crate) fn is_kept(gateway: &Gateway, id: &str) -> Value {
    gateway.wait_for_audit("files_kept", |line| {
        line["action"] == "files_kept" && line["session_id"] == id
    })
}

/// What the command line lists of a session, by path.
fn listed(gateway: &Gateway, id: &str) -> Value {
    serde_json::from_str(&gateway.cli(&["session", "files", id, "--json"])).unwrap()
}

fn item<'a>(listed: &'a Value, path: &str) -> &'a Value {
    let items = listed["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["path"] == path);
    found.unwrap_or_else(|| panic!("no {path} in {listed:#}"))
}

const CHANGES: &str = "set -e; echo mine > /root/note; rm /etc/hosts; echo 'x:x:0:0::/:' >> /etc/passwd; \
    mkdir -p /var/new/deep; cp /bin/true /var/new/deep/tool; chmod 4755 /var/new/deep/tool; \
    chown 1000:1000 /root/note; ln -s /etc/shadow /root/link; mkfifo /root/fifo; \
    printf x > \"/root/$(printf 'line\\nbreak \\377')\"; truncate -s 1099511627776 /root/huge; \
    rm -r /home; mkdir /home; echo new > /home/file; echo gone > /tmp/not-kept";

/// Checks what is kept of a session that made [`CHANGES`].
fn check(gateway: &Gateway, id: &str) {
    let listed = listed(gateway, id);
    let what = |path: &str| item(&listed, path)["what"].as_str().unwrap().to_owned();
    assert_eq!(what("root/note"), "added");
    assert_eq!(item(&listed, "root/note")["uid"], 1000);
    assert_eq!(what("etc/hosts"), "deleted");
    assert_eq!(what("etc/passwd"), "changed");
    assert_eq!(item(&listed, "var/new/deep/tool")["mode"], "4755");
    assert_eq!(item(&listed, "root/link")["target"], "/etc/shadow");
    assert_eq!(item(&listed, "root/fifo")["kind"], "fifo");
    assert_eq!(item(&listed, "root/huge")["size"], 1_u64 << 40);
    assert_eq!(what("root/line\\nbreak \\xff"), "added");
    assert_eq!(item(&listed, "home")["replaced"], true, "{listed:#}");
    assert_eq!(what("home/file"), "added");
    assert_eq!(listed["truncated"], serde_json::json!([]));
    let to = gateway.scratch().path().join(format!("{id}.tar"));
    let to = to.to_str().unwrap();
    gateway.cli(&["session", "files", id, "--tar", to]);
    let (status, _, err) = gateway.try_cli(&["session", "files", id, "--tar", to], "");
    assert!(!status.success() && err.contains("--force"), "{err}");
    assert_eq!(fs::metadata(to).unwrap().mode() & 0o777, 0o600);
    let into = gateway.scratch().path().join(format!("{id}.d"));
    fs::create_dir(&into).unwrap();
    let unpacked = Command::new("tar").arg("-xpf").arg(to).arg("-C").arg(&into).output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    assert_eq!(fs::read_to_string(into.join("root/note")).unwrap(), "mine\n");
    assert_eq!(fs::metadata(into.join("root/huge")).unwrap().len(), 1 << 40);
    let tool = fs::metadata(into.join("var/new/deep/tool")).unwrap();
    assert_eq!(tool.mode() & 0o7777, 0o755, "no set-user-id bit");
    assert!(!into.join("root/fifo").exists());
    assert!(!into.join("tmp/not-kept").exists(), "/tmp is not on the writable layer");
}

/// A directory with a whole small system: busybox and what is laid beside it.
fn small_system(gateway: &Path) -> PathBuf {
    let root = gateway.join("system");
    for directory in ["bin", "etc", "home", "root", "var", "tmp", "dev", "proc", "sys", "run"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox is installed");
    for tool in ["sh", "cp", "rm", "mkdir", "chmod", "chown", "ln", "mkfifo", "truncate", "true"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(root.join("home/before"), "").unwrap();
    root
}

#[test]
fn what_a_session_changed_can_be_listed_and_fetched() {
    if !can_make_sandboxes() {
        return;
    }
    let scratch = sojourn_testkit::Scratch::new();
    let system = small_system(scratch.path());
    let gateway = gateway(&Options {
        more: format!(
            "[profiles.small]\nrootfs = {system:?}\ncommand = [\"/bin/sh\"]\nallow = [\"*\"]\n\
             [profiles.large]\ndisk_size = \"1GB\"\nallow = [\"*\"]\npool = 1\n\
             [profiles.memory]\ndisk_size = \"8MB\"\nallow = [\"*\"]\npool = 1\n"
        ),
        ..Options::default()
    });
    for profile in ["default", "small", "large", "memory"] {
        let done = gateway.alice().user(&format!("alice+{profile}")).run(CHANGES);
        assert_eq!(done.code, 0, "{profile}: {}", done.err);
        let id = newest(&gateway);
        let line = is_kept(&gateway, &id);
        assert_eq!(line["details"]["truncated"], false, "{line:#}");
        check(&gateway, &id);
        let directory = gateway.data().join("kept").join(line["details"]["name"].as_str().unwrap());
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o700);
        let read = gateway.wait_for_audit("files_read", |line| {
            line["action"] == "files_read" && line["session_id"] == id.as_str()
        });
        assert_eq!(read["actor"]["type"], "local");
    }
    let table = gateway.cli(&["session", "files", &newest(&gateway)]);
    assert!(table.contains("/root/note\n") && table.contains("2 changed, 1 deleted"), "{table}");
    let shown = gateway.cli(&["session", "show", &newest(&gateway)]);
    assert!(shown.contains("changed,") && shown.contains("kept"), "{shown}");
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}

#[test]
fn of_a_session_that_changed_nothing_nothing_is_kept() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    gateway.alice().run("true");
    let id = newest(&gateway);
    let (status, _, err) = gateway.try_cli(&["session", "files", &id], "");
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("changed no file"), "{err}");
    assert!(fs::read_dir(gateway.data().join("kept")).unwrap().next().is_none());
    let (status, _, err) = gateway.try_cli(&["session", "files", "deadbeef"], "");
    assert!(status.code() == Some(1) && err.contains("no such session"), "{err}");
    let shell = gateway.alice().with("-tt").start(&["echo up; sleep 999"]);
    shell.expect("up");
    let id = newest(&gateway);
    let (status, _, err) = gateway.try_cli(&["session", "files", &id], "");
    assert!(status.code() == Some(1) && err.contains("still runs"), "{err}");
    gateway.cli(&["session", "end", &id]);
    shell.finish(PATIENCE);
}

/// The name of a process that no other run of the tests looks for.
fn named(mark: &str) -> String {
    format!("{mark}-{}", std::process::id())
}

/// Waits until it is on record that what a session left is lost.
pub(crate) fn is_lost(gateway: &Gateway, id: &str) {
    let lost = gateway.wait_for_audit("files_removed", |line| {
        line["action"] == "files_removed" && line["session_id"] == id
    });
    assert!(lost.to_string().contains("could not be kept"), "{lost}");
}

/// The runner that the gateway speaks to, which may be older than itself.
pub(crate) fn runner(gateway: &Gateway) -> u32 {
    let lines = gateway.log_lines();
    let line = lines.iter().rfind(|line| line["message"] == "runner connected");
    line.and_then(|line| line["pid"].as_u64()?.try_into().ok()).expect("a runner")
}

#[test]
fn what_a_session_left_survives_whoever_is_killed() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    let begin = |gateway: &Gateway, mark: &str| {
        let name = named(mark);
        let line = format!("echo {mark} > /root/note; echo up; exec -a {name} sleep 999");
        let shell = gateway.alice().with("-tt").start(&[&line]);
        shell.expect("up");
        (shell, newest(gateway))
    };
    let holds = |gateway: &Gateway, id: &str, mark: &str| {
        is_kept(gateway, id);
        let listed = listed(gateway, id);
        assert_eq!(item(&listed, "root/note")["size"], mark.len() as u64 + 1);
    };

    // The shim: the sandbox ends with it.
    let (shell, id) = begin(&gateway, "shim-killed");
    let sleeper = crate::the_process(&named("shim-killed"));
    kill(crate::parent_of(crate::parent_of(sleeper)));
    shell.finish(PATIENCE);
    holds(&gateway, &id, "shim-killed");

    // The runner: the next one gets it from the shim.
    let (shell, id) = begin(&gateway, "runner-killed");
    kill(runner(&gateway));
    until("a new runner", PATIENCE, || (gateway.alice().run("exit 3").code == 3).then_some(()));
    gateway.cli(&["session", "end", &id]);
    shell.finish(PATIENCE);
    holds(&gateway, &id, "runner-killed");

    // The runner just when the session ends: nobody is there for a while.
    let (shell, id) = begin(&gateway, "runner-killed-late");
    kill(runner(&gateway));
    let sleeper = crate::the_process(&named("runner-killed-late"));
    kill(sleeper);
    shell.finish(PATIENCE);
    holds(&gateway, &id, "runner-killed-late");

    // The gateway: the runner keeps it, and the next gateway has it on record.
    let (shell, id) = begin(&gateway, "gateway-killed");
    let sleeper = crate::the_process(&named("gateway-killed"));
    gateway.kill();
    kill(sleeper);
    shell.finish(PATIENCE);
    until("it is kept", PATIENCE, || {
        kept(&gateway).iter().any(|path| path.to_str().unwrap().contains(&id)).then_some(())
    });
    gateway.launch();
    holds(&gateway, &id, "gateway-killed");

    // Both: the shim waits for them.
    let (shell, id) = begin(&gateway, "both-killed");
    let sleeper = crate::the_process(&named("both-killed"));
    let runner = runner(&gateway);
    gateway.kill();
    kill(runner);
    kill(sleeper);
    shell.finish(PATIENCE);
    gateway.launch();
    holds(&gateway, &id, "both-killed");

    // All that could hold it: then it is said that it is lost, and why.
    let (shell, id) = begin(&gateway, "all-killed");
    let sleeper = crate::the_process(&named("all-killed"));
    let shim = crate::parent_of(crate::parent_of(sleeper));
    let runner = self::runner(&gateway);
    gateway.kill();
    kill(runner);
    kill(shim);
    shell.finish(PATIENCE);
    gateway.launch();
    is_lost(&gateway, &id);
    let (_, _, told) = gateway.try_cli(&["session", "files", &id], "");
    assert!(told.contains("could not be kept: nobody was left"), "{told}");

    let lines = gateway.audit_with(5, "files_kept");
    let kept = lines.iter().filter(|line| line["action"] == "files_kept");
    assert_eq!(kept.count(), 5, "each is on record once");
    until("what is lost is known", PATIENCE, || {
        let untold = fs::read_dir(gateway.data().join("kept/.untold")).unwrap().count();
        (untold == 0).then_some(())
    });
    gateway.stop();
    until("nothing is left", PATIENCE, || gateway.leftovers().is_empty().then_some(()));
    let untold = fs::read_dir(gateway.data().join("kept/.untold")).unwrap().count();
    assert_eq!(untold, 0);
}

/// A tree that is meant to keep its reader busy, or to lead it astray.
const HOSTILE: &str = "mkdir /root/many && cd /root/many && seq 20000 | xargs touch; \
    mkdir /root/deep && cd /root/deep; d=$(printf 'd%.0s' {1..200}); \
    for i in {1..60}; do mkdir $d && cd $d; done; \
    cd /root; ln -s . loop; ln -s ../../../../../etc/passwd up; ln -s / top; \
    echo x > one; for i in {1..200}; do ln one name-$i; done; \
    printf '\\033]0;owned\\007' | xargs -0 touch; touch -- --checkpoint-action=exec=sh; \
    truncate -s 1099511627776 huge; touch -d @-1 before; true";

#[test]
fn a_hostile_tree_is_read_by_a_process_that_can_do_nothing_else() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let session = gateway.alice().start(&[HOSTILE]);
    // Linux shows a process's rights; those of the one that reads are looked for while it does.
    let status = until("the reader", PATIENCE, || {
        crate::pids().find_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let is_reader =
                status.contains("Name:\tsojourn-keeper") && status.contains("Uid:\t65534\t");
            (is_reader && status.contains("Seccomp:\t2")).then_some(status)
        })
    });
    assert!(status.contains("CapEff:\t0000000000000004"), "to read alone: {status}");
    assert!(status.contains("CapPrm:\t0000000000000004"), "to read alone: {status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let done = session.finish(PATIENCE);
    assert_eq!(done.code, 0, "{}", done.err);
    let id = newest(&gateway);
    let line = is_kept(&gateway, &id);
    assert_eq!(line["details"]["truncated"], true, "the deep part is cut: {line:#}");
    let ended = gateway.wait_for_audit("its end", |line| {
        line["action"] == "session_ended" && line["session_id"] == id.as_str()
    });
    assert!(ended["seq"].as_u64() < line["seq"].as_u64(), "it ended before it was read");
    let listed = listed(&gateway, &id);
    assert_eq!(listed["truncated"], serde_json::json!(["path"]));
    let items = listed["items"].as_array().unwrap();
    let below = |prefix: &str| {
        items.iter().filter(|i| i["path"].as_str().unwrap().starts_with(prefix)).count()
    };
    assert_eq!(below("root/many/"), 20_000);
    assert_eq!(below("root/name-"), 200);
    assert_eq!(items.iter().filter(|item| item["link_of"].is_string()).count(), 200);
    assert_eq!(item(&listed, "root/up")["target"], "../../../../../etc/passwd");
    assert!(items.iter().any(|item| item["path"] == "root/\\x1b]0;owned\\x07"));
    let table = gateway.cli(&["session", "files", &id]);
    assert!(!table.contains('\x1b'), "nothing of it acts on a terminal");
    let to = gateway.scratch().path().join("hostile.tar");
    gateway.cli(&["session", "files", &id, "--tar", to.to_str().unwrap()]);
    let listing = Command::new("tar").arg("-tf").arg(&to).output().unwrap();
    assert!(listing.status.success(), "{}", String::from_utf8_lossy(&listing.stderr));
    assert!(fs::metadata(&to).unwrap().len() < 64 << 20, "its holes take no room");
}

#[test]
fn what_a_visitor_uploads_is_kept_with_what_they_left() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        more: "[profiles.bait]\npool = 1\n[[ssh]]\nlisten = \"127.0.0.1:0\"\n\
               mode = \"honeypot\"\ncredentials = [[\"root\", \"toor\"]]\n\
               refusal_delay = \"0s\"\n"
            .to_owned(),
        ..Options::default()
    });
    let tool = gateway.scratch().file("tool", "#!/bin/sh\necho owned\n");
    let visitor = gateway.client(gateway.honeypot(0), "root").passwords(&["toor"]);
    let to = format!("{}:/root/tool", visitor.host());
    let scp = visitor.tool("scp").arg("-q").arg(&tool).arg(to).output().unwrap();
    assert!(scp.status.success(), "{}", String::from_utf8_lossy(&scp.stderr));
    let id = newest(&gateway);
    let line = is_kept(&gateway, &id);
    let directory = gateway.data().join("kept").join(line["details"]["name"].as_str().unwrap());
    assert_eq!(fs::read(directory.join("uploads/0")).unwrap(), fs::read(&tool).unwrap());
    assert_eq!(item(&listed(&gateway, &id), "root/tool")["what"], "added");
    let directories = kept(&gateway).len();
    assert_eq!(directories, 1, "both in one directory");
}
