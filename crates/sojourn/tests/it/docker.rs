//! Sessions in containers of a real engine.

use std::fs;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use sojourn_testkit::Dockerd;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::escapes::open_in_a_container;
use crate::gateway;
use crate::is_long_run;
use crate::kill;
use crate::leaving::traces;
use crate::long_run;

/// An engine, and a gateway whose default profile is one of its image.
struct House {
    // Dropped in this order: the gateway lets go of its containers first.
    gateway: Gateway,
    engine: Dockerd,
}

impl House {
    fn open(keys: &str) -> Option<Self> {
        let engine = Dockerd::start()?;
        let options = Options {
            limits: "grace = \"1s\"\n".to_owned(),
            more: engine.config(keys),
            ..Options::default()
        };
        Some(Self { gateway: gateway(&options), engine })
    }

    /// A session on a terminal that runs a program of a name that no other test has.
    fn sleeper(&self, name: &str) -> (Running, String) {
        let name = format!("{name}-{}-{}", std::process::id(), self.gateway.port);
        let shell = self.gateway.alice().with("-tt");
        let shell = shell.start(&[&format!("exec -a {name} bash -c 'echo up; sleep 999; :'")]);
        shell.expect("up");
        // The shell's child has the shell's name until it is `sleep`.
        until("one process of that name", PATIENCE, || {
            (crate::processes_with(&name).len() == 1).then_some(())
        });
        (shell, name)
    }

    /// The container of the newest session.
    fn container(&self) -> String {
        let session = self.newest();
        until("the container to have the session's name", PATIENCE, || {
            let filter = format!("name=sojourn-{session}");
            let found = self.engine.docker(&["ps", "-aq", "--no-trunc", "--filter", &filter]);
            (!found.is_empty()).then_some(found)
        })
    }

    fn newest(&self) -> String {
        self.gateway.sessions()[0]["id"].as_str().expect("an id").to_owned()
    }

    fn end_reason_of(&self, id: &str) -> String {
        until("the session's end", PATIENCE, || {
            let listed = self.gateway.sessions();
            let session = listed.iter().find(|session| session["id"] == id)?;
            session["end_reason"].as_str().map(str::to_owned)
        })
    }

    /// Everything that this gateway has, gone: containers, processes, files.
    fn leaves_nothing(mut self) {
        self.gateway.stop();
        // A runner that outlived a gateway is not the next one's to wait for.
        until("every container to be gone", PATIENCE, || {
            self.engine.containers().is_empty().then_some(())
        });
        let mut left = traces(&self.gateway, "sojourn-none-of-this-name");
        // What a session left that ended just now is told at the next start.
        left.retain(|file| !file.starts_with("kept/"));
        assert_eq!(left, Vec::<String>::new());
        // Of a killed gateway: its runner goes when it has seen to the last of its sessions.
        until("every process to be gone", PATIENCE, || {
            self.gateway.leftovers().is_empty().then_some(())
        });
    }
}

#[test]
fn a_session_in_a_container_is_like_any_other() {
    let keys = "env = { EDITOR = \"profile\" }";
    let Some(house) = House::open(keys) else { return };
    let ssh = house.gateway.alice();
    let split = ssh.run("echo out; echo err >&2; exit 7");
    assert_eq!((split.code, split.text().as_str(), split.err.as_str()), (7, "out\n", "err\n"));
    let killed = ssh.run("kill -TERM $$");
    assert_eq!(killed.code, 255, "a signal is one: {killed:?}");
    assert_eq!(ssh.run_with("cat", b"\0\xff through").out, b"\0\xff through");
    // Who one is, and what the image sets: its user is not taken, its variables are.
    let about = ssh.run("id -u; echo $HOME; pwd; echo $OF_IMAGE $EDITOR; cat /srv/of-the-image");
    assert_eq!(about.text(), "0\n/root\n/root\nyes profile\nfrom the image\n");
    // A terminal of its own, as large as the client says, and as it says later.
    let mut shell = ssh.clone().with("-tt").start(&[]);
    shell.expect("# ");
    shell.write(b"tty; echo $((6*7))\n");
    shell.expect("42");
    assert!(shell.so_far().contains("/dev/pts/0"), "{}", shell.so_far());
    shell.write(b"exit 9\n");
    assert_eq!(shell.finish(PATIENCE).code, 9);
    let words: Vec<String> = ssh.clone().with("-tt").arguments();
    let quoted = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let log = house.gateway.scratch().path().join("resized");
    let line = format!(
        "stty rows 20 cols 80; (while ! grep -q 'ready 20 80' {0} 2>/dev/null; do sleep 0.05; done; \
         stty rows 44 cols 99 </dev/tty) & ssh {quoted} alice@127.0.0.1 \
         'trap \"stty size; exit 0\" WINCH; echo ready $(stty size); while :; do sleep 0.1; done' \
         | tee {0}",
        log.display(),
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]);
    let output = Running::new(script).finish(PATIENCE);
    assert!(output.text().contains("44 99"), "{}", output.text());
    house.leaves_nothing();
}

#[test]
fn a_container_keeps_from_its_prisoner_what_a_native_sandbox_does() {
    let keys = "memory = \"64MB\"\npids = 30\ntmp_size = \"2MB\"\ndisk_size = \"24MB\"\npool = 1";
    let Some(house) = House::open(keys) else { return };
    let ssh = house.gateway.alice();
    let status = ssh.run("cat /proc/self/status").text();
    // CHOWN is bit 0, SETGID 6, SETUID 7.
    for line in ["CapEff:\t00000000000000c1", "CapBnd:\t00000000000000c1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // Nothing of the host, of the engine, or of us shows.
    let seen =
        ssh.run("cat /proc/self/mountinfo /proc/1/mountinfo /proc/self/cgroup; ls -a / /sys");
    for trace in ["/tmp/sojourn", "overlay2", "docker", "containerd", ".sojourn", "init"] {
        assert!(!seen.text().contains(trace), "{trace}: {}", seen.text());
    }
    assert_eq!(
        ssh.run("tail -n +3 /proc/net/dev | cut -d: -f1 | grep -v lo | wc -l").text(),
        "0\n"
    );
    assert_eq!(ssh.run("ls /root /tmp | grep -v : | wc -w").text().trim(), "0");
    for (what, command) in [
        ("mount", "mount -t tmpfs none /mnt"),
        ("umount", "umount /proc"),
        ("a device", "mknod /tmp/sda b 8 0 && cat /tmp/sda"),
        ("/proc/sys", "echo 1 >/proc/sys/kernel/ns_last_pid"),
        ("sysrq", "echo h >/proc/sysrq-trigger"),
        ("/sys", "touch /sys/x"),
        ("the host name", "hostname other"),
        ("process 1", "kill -9 1; kill -0 1 && exit 1"),
    ] {
        let tried = ssh.run(command);
        assert_ne!(tried.code, 0, "{what}: {command:?} went through: {}", tried.text());
    }
    assert_eq!(open_in_a_container(&ssh), Vec::<String>::new());
    // Limits: each one alone, and where it is reached nobody else is hurt.
    let bomb = ssh.run("for i in $(seq 60); do sleep 20 >/dev/null 2>&1 & done; true");
    assert!(bomb.err.contains("fork"), "{bomb:?}");
    let hungry = ssh.run("head -c 100000000 /dev/zero | tail -c 100000000 | wc -c");
    assert_ne!(hungry.text().trim(), "100000000", "100 MB fit into 64");
    for (place, most) in
        [("/tmp", 2 << 20), ("/root", 24 << 20), ("/srv", 24 << 20), ("/dev", 65536)]
    {
        let full = ssh.run(&format!(
            "dd if=/dev/zero of={place}/big bs=64k count=800; stat -c %s {place}/big"
        ));
        assert!(full.err.contains("No space left"), "{place}: {full:?}");
        assert!(full.text().trim().parse::<u64>().expect("a size") <= most, "{place}: {full:?}");
    }
    assert_eq!(ssh.run("exit 3").code, 3);
    // The image is as it was.
    assert_eq!(ssh.run("cat /srv/of-the-image; ls /srv").text(), "from the image\nof-the-image\n");
    house.leaves_nothing();
}

#[test]
fn time_is_up_in_a_container_as_anywhere() {
    let Some(house) = House::open("session_timeout = \"2s\"\nwarn_before = \"0\"\npool = 1") else {
        return;
    };
    let stubborn = house.gateway.alice().with("-tt");
    let stubborn = stubborn.start(&["trap '' HUP TERM; echo up; while :; do sleep 1; done"]);
    stubborn.expect("up");
    let output = stubborn.finish(PATIENCE);
    assert_eq!(output.code, 124, "{}", output.text());
    assert!(output.text().contains("Session timeout - connection closed"), "{}", output.text());
    house.leaves_nothing();
}

#[test]
fn whatever_is_killed_the_end_is_clear_and_the_next_session_fine() {
    let Some(mut house) = House::open("pool = 1") else { return };
    // The container, as `docker kill` and `kill -9` of its process 1 do.
    let (shell, name) = house.sleeper("in-a-container");
    let (session, container) = (house.newest(), house.container());
    house.engine.docker(&["kill", &container]);
    let output = shell.finish(PATIENCE);
    assert_eq!(output.code, 143, "{}", output.text());
    assert_eq!(house.end_reason_of(&session), "runner_lost");
    crate::end_of(&name);
    assert_eq!(house.gateway.alice().run("exit 3").code, 3);

    // Its shim: process 1 ends with its socket.
    let (shell, name) = house.sleeper("of-a-shim");
    let session = house.newest();
    let shims = crate::descendants(house.gateway.pid());
    let shim = shims.into_iter().find(|pid| holds_session(*pid, &session)).expect("a shim");
    kill(shim);
    assert_eq!(shell.finish(PATIENCE).code, 143);
    assert_eq!(house.end_reason_of(&session), "runner_lost");
    crate::end_of(&name);
    assert_eq!(house.gateway.alice().run("exit 4").code, 4);

    // A container in the pool: nobody is given a dead one.
    until("a container of the pool to be killed", PATIENCE, || {
        let all = house.engine.docker(&["ps", "--format", "{{.ID}} {{.Names}}"]);
        // One that a session had is named after it until it is gone.
        let session = |name: &str| name.len() >= "sojourn-".len() + session.len();
        match all.lines().filter_map(|line| line.split_once(' ')).collect::<Vec<_>>()[..] {
            // It may be on its way out: then another is waited for.
            [(id, name)] if !session(name) && house.engine.try_docker(&["kill", id]) => Some(()),
            _ => None,
        }
    });
    assert_eq!(house.gateway.alice().run("exit 5").code, 5);

    // The gateway: sessions go on, and the next one takes them up.
    let (shell, name) = house.sleeper("of-a-gateway");
    let session = house.newest();
    house.gateway.kill();
    assert_eq!(crate::processes_with(&name).len(), 1, "its session goes on");
    house.gateway.launch();
    let taken_up = house.gateway.sessions();
    assert_eq!(
        (&taken_up[0]["id"], &taken_up[0]["status"]),
        (&session.as_str().into(), &"running".into())
    );
    house.gateway.cli(&["session", "end", &session]);
    assert_eq!(house.end_reason_of(&session), "ended_by");
    until("its program's end", PATIENCE, || crate::processes_with(&name).is_empty().then_some(()));
    drop(shell);
    assert_eq!(house.gateway.alice().run("exit 6").code, 6);
    house.leaves_nothing();
}

/// Whether a process holds a session's directory open.
pub(crate) fn holds_session(pid: u32, session: &str) -> bool {
    let links =
        fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let mut links = links.filter_map(|link| fs::read_link(link.path()).ok());
    crate::name_of(pid) == "sojourn-shim" && links.any(|l| l.to_string_lossy().ends_with(session))
}

#[test]
fn an_engine_may_die_and_come_back() {
    let Some(mut house) = House::open("pool = 1") else { return };
    let mut shell = house.gateway.alice().with("-tt").start(&[]);
    shell.expect("# ");
    let session = house.newest();
    house.engine.kill();
    // What runs needs no engine: neither to go on nor to end.
    shell.write(b"echo $((6*7))\n");
    shell.expect("42");
    // What was made ahead can still be had; then the engine is missed, and it is said.
    let refused = until("the pool to be empty", PATIENCE, || {
        let output = house.gateway.alice().run("exit 3");
        (output.code != 3).then_some(output)
    });
    assert_eq!(refused.code, 75, "{refused:?}");
    assert!(refused.err.contains("stage: container engine"), "{}", refused.err);
    assert!(
        refused.err.contains("no answer from the container engine at unix://"),
        "{}",
        refused.err
    );
    shell.write(b"exit 8\n");
    assert_eq!(shell.finish(PATIENCE).code, 8);
    assert_eq!(house.end_reason_of(&session), "exited");
    house.engine.launch();
    until("a session", PATIENCE, || (house.gateway.alice().run("exit 4").code == 4).then_some(()));
    // One that stops in good order takes its containers along.
    let (shell, name) = house.sleeper("of-an-engine");
    let session = house.newest();
    house.engine.stop();
    assert_eq!(shell.finish(PATIENCE).code, 143);
    assert_eq!(house.end_reason_of(&session), "runner_lost");
    crate::end_of(&name);
    house.engine.launch();
    until("a session", PATIENCE, || (house.gateway.alice().run("exit 5").code == 5).then_some(()));
    until("what ended without its engine to be removed", PATIENCE, || {
        (house.engine.containers().len() <= 1).then_some(())
    });
    house.leaves_nothing();
}

#[test]
fn orphans_are_removed_at_the_start_and_nobody_elses() {
    let Some(mut house) = House::open("pool = 2") else { return };
    assert_eq!(house.gateway.alice().run("exit 3").code, 3);
    // A stranger's container, and one of another data directory's.
    let plain = ["run", "-d", "--network", "none", "--user", "0"];
    let program = [Dockerd::IMAGE, "/bin/sleep", "999"];
    house.engine.docker(&[&plain[..], &["--label", "sojourn.instance=other"], &program].concat());
    house.engine.docker(&[&plain[..], &program].concat());
    until("the pool", PATIENCE, || (house.engine.containers().len() == 4).then_some(()));
    // Everybody at once, so that nobody cleans up; then containers that no process holds any more.
    let mut all = crate::descendants(house.gateway.pid());
    all.retain(|pid| crate::name_of(*pid).starts_with("sojourn-"));
    let zygote = all.iter().position(|pid| crate::name_of(*pid) == "sojourn-zygote");
    all.swap(0, zygote.expect("a zygote"));
    house.gateway.kill();
    for pid in all {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let orphans = house.engine.containers();
    assert!(orphans.len() >= 4, "{orphans:?}");
    house.gateway.launch();
    assert_eq!(house.gateway.alice().run("exit 4").code, 4);
    until("the orphans' end", PATIENCE, || {
        let left = house.engine.containers();
        (left.iter().filter(|id| orphans.contains(id)).count() == 2).then_some(())
    });
    house.gateway.stop();
    assert_eq!(house.engine.containers().len(), 2, "the others' are left alone");
}

#[test]
fn what_is_missing_is_said() {
    if !can_make_sandboxes() {
        return;
    }
    let nowhere = "[sandbox]\ndocker_host = \"unix:///run/no-such-engine.sock\"\n\
                   [profiles.default]\nsandbox = \"docker\"\nimage = \"room:1\"\n";
    let alone = gateway(&Options { more: nowhere.to_owned(), ..Options::default() });
    let refused = alone.alice().run("true");
    assert_eq!(refused.code, 75, "{refused:?}");
    assert!(refused.err.contains("stage: container engine"), "{}", refused.err);
    assert!(refused.err.contains("unix:///run/no-such-engine.sock"), "{}", refused.err);
    drop(alone);

    let Some(engine) = Dockerd::start() else { return };
    let more = engine.config("").replace(Dockerd::IMAGE, "no-such-image:7");
    let without = gateway(&Options { more, ..Options::default() });
    let refused = without.alice().run("true");
    assert_eq!(refused.code, 75, "{refused:?}");
    assert!(refused.err.contains("stage: image"), "{}", refused.err);
    assert!(refused.err.contains("\"no-such-image:7\", and nothing is pulled"), "{}", refused.err);
    assert_eq!(refused.err.trim().lines().count(), 1, "{}", refused.err);
}

#[test]
fn what_a_container_leaves_is_kept() {
    let Some(house) = House::open("pool = 1") else { return };
    let gateway = &house.gateway;
    let done = gateway.alice().run(
        "echo mine >/note; mkdir /root/d; echo more >>/etc/passwd; rm /etc/group /srv/of-the-image; \
         echo t >/tmp/t",
    );
    assert_eq!(done.code, 0, "{}", done.err);
    let id = crate::left::newest(gateway);
    crate::left::is_kept(gateway, &id);
    let listed = gateway.cli(&["session", "files", &id, "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let items = listed["items"].as_array().unwrap();
    let what = |path: &str| {
        let found = items.iter().find(|item| item["path"] == path);
        found.map(|item| (item["what"].clone(), item["uid"].clone()))
    };
    for added in ["note", "root/d"] {
        assert_eq!(what(added), Some(("added".into(), 0.into())), "{added}: {listed:#}");
    }
    assert_eq!(what("etc/passwd"), Some(("changed".into(), 0.into())), "{listed:#}");
    for deleted in ["etc/group", "srv/of-the-image"] {
        let found = what(deleted).map(|found| found.0);
        assert_eq!(found, Some("deleted".into()), "{deleted}: {listed:#}");
    }
    assert_eq!(what("tmp/t"), None, "{listed:#}");
    house.leaves_nothing();
}

/// How long a session takes to its prompt, with a client's start and all.
fn time_to_prompt(gateway: &Gateway, user: &str) -> Duration {
    let began = Instant::now();
    let mut shell = gateway.alice().user(user).with("-tt").start(&[]);
    shell.expect("# ");
    let took = began.elapsed();
    shell.write(b"exit 7\n");
    assert_eq!(shell.finish(PATIENCE).code, 7);
    took
}

/// Whether each session was taken from the pool, the first one first.
fn warm(gateway: &Gateway) -> Vec<bool> {
    let lines = gateway.log_lines();
    let opened = lines.iter().filter(|line| line["event"] == "session_opened");
    opened.map(|line| line["warm"] == true).collect()
}

/// What half and what 95 of 100 are below.
fn shown(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_millis();
    format!("p50 {} ms, p95 {} ms", at(50), at(95))
}

#[test]
fn many_sessions_at_a_time_all_succeed() {
    let Some(house) = House::open("pool = 3") else { return };
    let (count, at_a_time) = long_run().map_or((8, 4), |count| (count, 8));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let times = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < count {
                    let time = time_to_prompt(&house.gateway, "alice");
                    times.lock().expect("times").push(time);
                }
            });
        }
    });
    let times = times.into_inner().expect("times");
    assert_eq!(times.len(), count);
    let cold = warm(&house.gateway).into_iter().filter(|warm| !warm).count();
    println!(
        "docker: {count} sessions, {at_a_time} at a time, a pool of 3: to the prompt {}; the pool was empty \
         {cold} times",
        shown(times)
    );
    house.leaves_nothing();
}

/// Each in its turn, so that whatever else this machine does is no more one's than the other's.
#[test]
fn a_container_that_waits_is_about_as_quick_as_a_native_sandbox() {
    let rounds = if is_long_run() { 60 } else { 4 };
    let more = "pool = 2\n[profiles.native]\npool = 2\n";
    let Some(house) = House::open(more) else { return };
    let users = ["alice", "alice+native"];
    let mut times = [const { Vec::new() }; 2];
    let mut cold = 0;
    while times[1].len() < rounds {
        for (user, times) in users.iter().zip(&mut times) {
            until("the pools to be full", PATIENCE, || {
                let over = |s: &serde_json::Value| s["status"] == "ended";
                house.gateway.sessions().iter().all(over).then_some(())?;
                let all = crate::descendants(house.gateway.pid());
                let is_shim = |pid: &&u32| crate::name_of(**pid) == "sojourn-shim";
                (all.iter().filter(is_shim).count() == 4).then_some(())
            });
            let time = time_to_prompt(&house.gateway, user);
            // A shim is there before its sandbox is.
            match warm(&house.gateway).last() {
                Some(true) => times.push(time),
                _ => cold += 1,
            }
        }
        assert!(cold <= rounds, "the pool is hardly ever full");
    }
    let [docker, native] = times;
    println!(
        "{rounds} sessions each, one at a time, out of a full pool: to the prompt docker {}, native {}",
        shown(docker.clone()),
        shown(native.clone())
    );
    // One slow moment is no measurement; half of many are.
    let half = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[(times.len() - 1) / 2]
    };
    assert!(half(docker) < half(native) * 2);
    house.leaves_nothing();
}
