//! What scripts and people rely on, with the real `ssh`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::Scratch;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;
use crate::memory_of;

#[test]
fn exit_status_and_both_streams_arrive() {
    if can_make_sandboxes() {
        commands_work(&Options::default());
    }
}

/// What a script that runs commands relies on.
pub(crate) fn commands_work(options: &Options) {
    let gateway = gateway(options);
    let ssh = gateway.alice();
    assert_eq!(ssh.run("exit 7").code, 7);
    let split = ssh.run("echo o; echo e >&2");
    assert_eq!((split.code, split.text().as_str(), split.err.as_str()), (0, "o\n", "e\n"));
    let late = ssh.run_with("cat >/dev/null; sleep 1; echo late; exit 5", b"abc");
    assert_eq!((late.code, late.text().as_str()), (5, "late\n"), "half-close is not the end");
    let reopened = ssh.run("echo o >/dev/stdout; echo e >/dev/stderr; cat /dev/stdin");
    assert_eq!((reopened.text().as_str(), reopened.err.as_str()), ("o\n", "e\n"));
    let missing = ssh.run("no-such-program");
    assert_eq!(missing.code, 127);
    let closed = ssh.run("exec >&- 2>&-; sleep 0.3; exit 6");
    assert_eq!(closed.code, 6);
    let env = ssh
        .clone()
        .with("-oSendEnv=LANG FOO")
        .with("-oSetEnv=LANG=C.UTF-8 FOO=x LC_TIME=C")
        .run("echo $LANG,$FOO,$TERM,$HOME,$PWD,$USER; id -u; test -n \"$SOJOURN_SESSION\"");
    assert_eq!(env.text(), "C.UTF-8,,dumb,/root,/root,root\n0\n");
    assert_eq!(env.code, 0);
}

#[test]
fn a_command_may_hold_any_bytes() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let mut ssh = gateway.alice().command();
    ssh.arg(OsStr::from_bytes(b"printf %s '\xff\xfe\xc3\xa4'"));
    assert_eq!(Running::new(ssh).finish(PATIENCE).out, b"\xff\xfe\xc3\xa4");
}

#[test]
fn a_signal_is_told_as_one() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let killed = gateway.alice().with("-v").with("-oLogLevel=DEBUG1").run("kill -TERM $$");
    assert_eq!(killed.code, 255);
    assert!(killed.err.contains("exit-signal"), "{}", killed.err);
}

#[test]
fn a_terminal_has_its_size_type_and_control_characters() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let ssh = gateway.alice().with("-tt");
    let joined = ssh.run("echo o; echo e >&2");
    assert_eq!(joined.text(), "o\r\ne\r\n");
    let words: Vec<String> = ssh.arguments();
    let line = format!(
        "stty rows 33 cols 101; TERM=vt220 exec ssh {} alice@127.0.0.1 'stty size; echo $TERM; tty'",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]);
    let output = Running::new(script).finish(PATIENCE);
    for line in ["33 101", "vt220", "/dev/pts/"] {
        assert!(output.text().contains(line), "{}", output.text());
    }
    let mut shell = ssh.start(&[]);
    shell.expect("# ");
    shell.write(b"echo $((6*7))\n");
    shell.expect("42");
    shell.write(b"exit 9\n");
    assert_eq!(shell.finish(PATIENCE).code, 9);
}

#[test]
fn a_resized_terminal_tells_its_program() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let ssh = gateway.alice().with("-tt");
    let words: Vec<String> = ssh.arguments();
    let quoted = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    // The outer shell resizes its own terminal while ssh runs in it.
    let line = format!(
        "stty rows 20 cols 80; (while ! grep -q ready {0}/log 2>/dev/null; do sleep 0.05; done; \
         stty rows 44 cols 99 </dev/tty) & ssh {1} alice@127.0.0.1 \
         'trap \"stty size; exit 0\" WINCH; echo ready; while :; do sleep 0.1; done' | tee {0}/log",
        gateway.scratch().path().display(),
        quoted,
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]);
    let output = Running::new(script).finish(PATIENCE);
    assert!(output.text().contains("44 99"), "{}", output.text());
}

#[test]
fn bulk_flows_both_ways_in_flat_memory() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let before = memory_of(gateway.pid());
    let shell = format!(
        "head -c 200000000 /dev/zero | ssh {} alice@127.0.0.1 cat | wc -c",
        gateway.alice().arguments().join(" ")
    );
    let mut sh = Command::new("sh");
    sh.args(["-c", &shell]);
    let counted = Running::new(sh).finish(Duration::from_secs(120));
    assert_eq!(counted.text().trim(), "200000000");
    let grown = memory_of(gateway.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {} MiB", grown >> 20);
}

#[test]
fn a_stalled_reader_holds_up_nobody_else() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let master = Master::start(&gateway);
    let mut flood = Command::new("ssh");
    flood.args(master.arguments()).args(["x", "yes"]).stdin(Stdio::null()).stdout(Stdio::piped());
    // Its output is a pipe that nobody reads.
    let mut flood = flood.spawn().unwrap();
    let before = memory_of(gateway.pid());
    assert_eq!(master.run("echo alive").trim(), "alive");
    let grown = memory_of(gateway.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {} MiB", grown >> 20);
    flood.kill().unwrap();
    flood.wait().unwrap();
}

#[test]
fn a_program_that_ignores_its_input_holds_up_nobody_else() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let master = Master::start(&gateway);
    let line = format!(
        "head -c 100000000 /dev/zero | ssh {} x 'sleep 20; wc -c'",
        master.arguments().join(" ")
    );
    let mut sh = Command::new("sh");
    sh.args(["-c", &line]);
    let ignored = Running::new(sh);
    let before = memory_of(gateway.pid());
    for _ in 0..5 {
        assert_eq!(master.run("echo alive").trim(), "alive");
    }
    let grown = memory_of(gateway.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {} MiB", grown >> 20);
    let counted = ignored.finish(Duration::from_secs(60));
    assert_eq!(counted.text().trim(), "100000000", "nothing of it is lost");
}

#[test]
fn channels_of_one_connection_share_a_session() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let master = Master::start(&gateway);
    assert_eq!(master.run("echo here >/tmp/file; echo done").trim(), "done");
    assert_eq!(master.run("cat /tmp/file").trim(), "here");
    let first = master.run("echo $SOJOURN_SESSION");
    assert_eq!(first, master.run("echo $SOJOURN_SESSION"));
    let codes: Vec<i32> = (0..12)
        .map(|n| {
            let mut ssh = Command::new("ssh");
            ssh.args(master.arguments()).args(["x", &format!("sleep 0.5; exit {n}")]);
            Running::new(ssh)
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(|running| running.finish(PATIENCE).code)
        .collect();
    assert_eq!(codes, (0..12).collect::<Vec<i32>>());
    assert_eq!(gateway.sessions().len(), 1);
}

#[test]
fn the_last_bytes_and_the_status_are_never_lost() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let rounds = if std::env::var_os("SOJOURN_TEST_LONG").is_some() { 500 } else { 40 };
    for round in 0..rounds {
        let output = gateway.alice().run("echo x; exit 3");
        assert_eq!((output.code, output.text().as_str()), (3, "x\n"), "round {round}");
    }
}

#[test]
fn git_and_rsync_work_through_exec() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let master = Master::start(&gateway);
    master.run("git init -q --bare /tmp/repo.git && echo made");
    let work = gateway.scratch().path().join("work");
    let ssh = format!("ssh {}", master.arguments().join(" "));
    let git = |arguments: &[&str], at: &std::path::Path| {
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"])
            .args(arguments)
            .env("GIT_SSH_COMMAND", &ssh)
            .current_dir(at)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    std::fs::create_dir(&work).unwrap();
    git(&["init", "-q"], &work);
    std::fs::write(work.join("file"), vec![b'z'; 4_000_000]).unwrap();
    git(&["add", "file"], &work);
    git(&["commit", "-qm", "one"], &work);
    git(&["push", "-q", "x:/tmp/repo.git", "HEAD:main"], &work);
    git(&["clone", "-q", "-b", "main", "x:/tmp/repo.git", "copy"], gateway.scratch().path());
    let copied = std::fs::metadata(gateway.scratch().path().join("copy/file")).unwrap();
    assert_eq!(copied.len(), 4_000_000);
    let rsync = Command::new("rsync")
        .args(["-a", "-e", &ssh])
        .arg(work.join("file"))
        .arg("x:/tmp/synced")
        .output()
        .unwrap();
    assert!(rsync.status.success(), "{}", String::from_utf8_lossy(&rsync.stderr));
    assert_eq!(master.run("wc -c </tmp/synced").trim(), "4000000");
}

#[test]
fn a_wrong_key_and_a_wrong_name_are_refused_alike() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let stranger = gateway.alice().user("nobody-here").run("true");
    assert_eq!(stranger.code, 255);
    assert!(stranger.err.contains("Permission denied"), "{}", stranger.err);
    let profile = gateway.alice().user("alice+nonesuch").run("true");
    assert_eq!(profile.code, 75);
    assert!(profile.err.contains("nonesuch"), "{}", profile.err);
    gateway.wait_for_audit("the refused attempt", |line| {
        line["action"] == "auth_attempt"
            && line["actor"]["user"] == "nobody-here"
            && line["details"]["outcome"] == "refused"
    });
    gateway.wait_for_audit("the refusal", |line| line["action"] == "session_refused");
}

#[test]
fn a_closed_account_begins_nothing_on_an_open_connection() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let master = Master::start(&gateway);
    gateway.cli(&["user", "disable", "alice"]);
    let mut ssh = Command::new("ssh");
    ssh.args(master.arguments()).args(["x", "echo in"]);
    let output = Running::new(ssh).finish(PATIENCE);
    assert_eq!((output.code, output.text().as_str()), (75, ""), "{}", output.err);
    assert!(output.err.contains("your account"), "{}", output.err);
    assert_eq!(gateway.alice().run("true").code, 255, "nor does it come in anew");
}

#[test]
fn too_many_sessions_are_refused_and_say_why() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        limits: "max_concurrent_sessions = 2\nmax_sessions_per_user = 1\n".to_owned(),
        ..Options::default()
    });
    let mut first = gateway.alice().with("-tt").start(&[]);
    first.expect("# ");
    let second = gateway.alice().run("true");
    assert_eq!(second.code, 75);
    assert!(second.err.contains("1 of 1"), "{}", second.err);
    first.write(b"exit\n");
    first.finish(PATIENCE);
    until("the slot", PATIENCE, || (gateway.alice().run("true").code == 0).then_some(()));
}

/// A connection that others share.
struct Master {
    arguments: Vec<String>,
    running: Running,
}

impl Master {
    fn start(gateway: &Gateway) -> Self {
        let socket = gateway.scratch().path().join("master");
        let mut arguments = gateway.alice().arguments();
        arguments.push(format!("-oControlPath={}", socket.display()));
        arguments.extend(["-oHostName=127.0.0.1", "-oUser=alice"].map(str::to_owned));
        let mut master = Command::new("ssh");
        master.args(&arguments).args(["-M", "-N", "x"]);
        let running = Running::new(master);
        until("the master's socket", PATIENCE, || socket.exists().then_some(()));
        Self { arguments, running }
    }

    fn arguments(&self) -> &[String] {
        &self.arguments
    }

    fn run(&self, command: &str) -> String {
        let mut ssh = Command::new("ssh");
        ssh.args(&self.arguments).args(["x", command]);
        let output = Running::new(ssh).finish(PATIENCE);
        assert_eq!(output.code, 0, "{command:?}: {}", output.err);
        output.text()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.running.kill();
    }
}

#[test]
fn a_sandbox_that_cannot_be_had_names_its_stage_and_holds_up_nobody() {
    if !can_make_sandboxes() {
        return;
    }
    // There when the configuration is read, and gone when a sandbox is wanted.
    let tree = Scratch::new();
    let more = format!("[profiles.broken]\nrootfs = {:?}\npool = 0\n", tree.path());
    let gateway = gateway(&Options { more, ..Options::default() });
    drop(tree);
    let refused = gateway.alice().user("alice+broken").run("true");
    assert_eq!(refused.code, 75, "{}", refused.err);
    assert!(refused.err.contains("stage: root file system"), "{}", refused.err);
    assert_eq!(gateway.alice().run("exit 3").code, 3);
    gateway.wait_for_audit("the refusal", |line| {
        line["action"] == "session_refused" && line["details"]["code"] == "sandbox"
    });
}
