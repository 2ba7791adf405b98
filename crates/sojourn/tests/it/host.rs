//! Programs on the host, as another account of it, over SSH.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use sojourn_testkit::Client;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;
use crate::leaving::cgroup_parent;
use crate::leaving::traces;

/// An account of this machine, gone with its home when this is.
struct Account {
    name: String,
    uid: u32,
}

impl Account {
    fn make() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sj-test-{}-{number}", std::process::id());
        let made = Command::new("useradd")
            .args(["--system", "--user-group", "--create-home", "--shell", "/bin/bash", &name])
            .status();
        assert!(made.expect("useradd").success());
        let uid = Command::new("id").args(["-u", &name]).output().expect("id").stdout;
        let uid = String::from_utf8_lossy(&uid).trim().parse().expect("a number");
        Self { name, uid }
    }

    fn home(&self) -> PathBuf {
        PathBuf::from("/home").join(&self.name)
    }

    /// What runs as it, by name.
    fn processes(&self) -> Vec<String> {
        let is_its = |pid: &u32| {
            fs::metadata(format!("/proc/{pid}")).is_ok_and(|about| about.uid() == self.uid)
        };
        crate::pids().filter(is_its).map(crate::name_of).collect()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let removed = Command::new("userdel").args(["--remove", &self.name]).output();
        assert!(removed.is_ok_and(|output| output.status.success()), "{} is left", self.name);
    }
}

/// A gateway that goes before its account does.
struct House {
    gateway: Gateway,
    account: Account,
}

impl House {
    fn open(keys: &str) -> Option<Self> {
        if !can_make_sandboxes() {
            return None;
        }
        let account = Account::make();
        let more = format!(
            "[profiles.mine]\nsandbox = \"host\"\nrun_as = {:?}\nallow = [\"user:alice\"]\npool = 1\n{keys}\n\
             [profiles.nobodys]\nsandbox = \"host\"\nrun_as = {:?}\n",
            account.name, account.name
        );
        let options = Options { more, limits: "grace = \"1s\"\n".to_owned(), ..Options::default() };
        Some(Self { gateway: gateway(&options), account })
    }

    fn ssh(&self) -> Client {
        self.gateway.alice().user("alice+mine")
    }

    fn newest(&self) -> serde_json::Value {
        self.gateway.sessions().swap_remove(0)
    }

    /// Waits until nothing runs as the account but what is made ahead.
    fn is_quiet(&self) {
        until("the account's processes to end", PATIENCE, || {
            self.account.processes().iter().all(|name| name == "init").then_some(())
        });
    }

    /// Everything that this gateway had, gone.
    fn leaves_nothing(mut self) {
        let parent = cgroup_parent(&self.gateway);
        self.gateway.stop();
        assert_eq!(traces(&self.gateway, &parent), Vec::<String>::new());
        assert_eq!(self.gateway.leftovers(), Vec::<String>::new());
        assert_eq!(self.account.processes(), Vec::<String>::new());
    }
}

#[test]
fn a_session_on_the_host_is_the_accounts() {
    let Some(house) = House::open("") else { return };
    let (name, home) = (house.account.name.clone(), house.account.home());
    let ssh = house.ssh();
    let split = ssh.run("echo out; echo err >&2; exit 7");
    assert_eq!((split.code, split.text().as_str(), split.err.as_str()), (7, "out\n", "err\n"));
    assert_eq!(ssh.run("kill -TERM $$").code, 255, "a signal is one");
    assert_eq!(ssh.run_with("cat", b"\0\xff through").out, b"\0\xff through");
    let about = ssh.run("id -un; id -Gn; echo $HOME; pwd; echo ${#SOJOURN_SESSION} $SOJOURN_USER");
    let home = home.display();
    assert_eq!(about.text(), format!("{name}\n{name}\n{home}\n{home}\n36 alice\n"));
    // The host's files, as far as the account goes, and no way to go further.
    assert_eq!(ssh.run("hostname; cat /etc/shadow").text(), {
        let own = Command::new("hostname").output().expect("hostname").stdout;
        String::from_utf8(own).expect("a name")
    });
    let status = ssh.run("cat /proc/self/status").text();
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("CapEff:\t0000000000000000"));
    let sudo = ssh.run("su -c id 2>&1 </dev/null");
    assert_ne!(sudo.code, 0, "{}", sudo.text());
    // Nothing of the gateway is in reach: neither its files nor its processes.
    let data = house.gateway.data();
    assert_ne!(ssh.run(&format!("ls {}/keys", data.display())).code, 0);
    assert_ne!(ssh.run(&format!("kill -0 {}", house.gateway.pid())).code, 0);

    let mut shell = ssh.clone().with("-tt").start(&[]);
    shell.expect("$ ");
    shell.write(b"tty; id -un; shopt -q login_shell && echo $((6*7))\n");
    shell.expect(&format!("/dev/pts/0\r\n{name}\r\n42"));
    shell.write(b"exit 9\n");
    assert_eq!(shell.finish(PATIENCE).code, 9);
    house.is_quiet();
    assert_eq!(house.newest()["profile"], "mine");
    house.leaves_nothing();
}

#[test]
fn files_are_moved_as_the_account() {
    let Some(house) = House::open("") else { return };
    let ssh = house.ssh();
    let scratch = house.gateway.scratch().path();
    fs::write(scratch.join("in"), "carried").unwrap();
    let sftp = |batch: &str| {
        let file = house.gateway.scratch().file("batch", batch);
        let mut command = ssh.tool("sftp");
        command.arg("-b").arg(file).arg(ssh.host());
        command.output().expect("sftp")
    };
    let put = sftp(&format!("put {0}/in moved\nget moved {0}/out\nls -l\n", scratch.display()));
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    assert_eq!(fs::read_to_string(scratch.join("out")).unwrap(), "carried");
    let moved = fs::metadata(house.account.home().join("moved")).unwrap();
    assert_eq!(moved.uid(), house.account.uid);
    for refused in ["get /etc/shadow", "put /etc/hostname /etc/of-nobody", "ls /root/.ssh"] {
        let output = sftp(&format!(
            "{refused} {}\n",
            if refused.starts_with("get") { "/dev/null" } else { "" }
        ));
        assert!(!output.status.success(), "{refused}: {}", String::from_utf8_lossy(&output.stdout));
    }
    assert!(!PathBuf::from("/etc/of-nobody").exists());
    let transfer = house.gateway.wait_for_audit("the transfer", |line| {
        line["action"] == "file_transferred"
            && line["details"]["path"].to_string().contains("moved")
    });
    assert_eq!(transfer["details"]["bytes"], 7, "{transfer}");
    house.is_quiet();
    house.leaves_nothing();
}

#[test]
fn the_host_is_for_nobody_unless_it_is_said_for_whom() {
    let Some(house) = House::open("") else { return };
    house.gateway.cli(&["user", "add", "bob", "--no-password"]);
    let key = house.gateway.scratch().path().join("key.pub");
    house.gateway.cli(&["user", "key", "rm", "alice", &alices_key(&house.gateway)]);
    house.gateway.cli(&["user", "key", "add", "bob", key.to_str().unwrap()]);
    let told = |user: &str| {
        let refused = house.gateway.alice().user(user).run("true");
        (refused.code, refused.err.replace(user.split_once('+').unwrap().1, "X"))
    };
    let missing = told("bob+no-such-profile");
    assert_ne!(missing.0, 0);
    assert!(missing.1.contains("no profile"), "{}", missing.1);
    // One that is not his, ones for nobody: like none at all.
    for profile in ["mine", "nobodys", "host"] {
        assert_eq!(told(&format!("bob+{profile}")), missing, "{profile}");
    }
    assert_eq!(house.gateway.alice().user("bob").run("exit 3").code, 3);
}

/// The id of the only key that alice has.
fn alices_key(gateway: &Gateway) -> String {
    let listed = gateway.cli(&["user", "key", "ls", "alice", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let items = listed.get("items").unwrap_or(&listed);
    items[0]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn limits_hold_on_the_host_for_the_whole_session() {
    let Some(house) = House::open("memory = \"64MB\"\npids = 30\n") else { return };
    let ssh = house.ssh();
    let bomb = ssh.run("for i in $(seq 60); do sleep 20 >/dev/null 2>&1 & done; true");
    assert!(bomb.err.contains("fork"), "{bomb:?}");
    let hungry = ssh.run("head -c 100000000 /dev/zero | tail -c 100000000 | wc -c");
    assert_ne!(hungry.text().trim(), "100000000", "100 MB fit into 64");
    house.is_quiet();
    house.leaves_nothing();
}

#[test]
fn time_is_up_for_whoever_left_the_session_too() {
    let keys = "session_timeout = \"3s\"\nwarn_before = \"0\"\n";
    let Some(house) = House::open(keys) else { return };
    let daemon = "(trap '' HUP TERM; setsid bash -c 'trap \"\" HUP TERM; exec -a daemon sleep 999' \
                  </dev/null >/dev/null 2>&1 &)";
    // One that the session outlives, and is none the better for it.
    let ended = house.ssh().run(&format!("{daemon}; exit 5"));
    assert_eq!(ended.code, 5);
    house.is_quiet();
    let stubborn = house.ssh().with("-tt");
    let stubborn = stubborn
        .start(&[&format!("{daemon}; trap '' HUP TERM; echo up; while :; do sleep 1; done")]);
    stubborn.expect("up");
    until("the daemon", PATIENCE, || {
        (crate::pids())
            .any(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let its = fs::metadata(format!("/proc/{pid}"))
                    .is_ok_and(|m| m.uid() == house.account.uid);
                its && line.starts_with(b"daemon\0")
            })
            .then_some(())
    });
    let output = stubborn.finish(PATIENCE);
    assert_eq!(output.code, 124, "{}", output.text());
    assert!(output.text().contains("Session timeout - connection closed"), "{}", output.text());
    house.is_quiet();
    until("its end on record", PATIENCE, || {
        (house.newest()["end_reason"] == "max_runtime").then_some(())
    });
    // A killed shim takes it along too.
    let shell = house.ssh().with("-tt").start(&[&format!("{daemon}; echo up; sleep 998")]);
    shell.expect("up");
    let session = house.newest()["id"].as_str().expect("an id").to_owned();
    let shims = crate::descendants(house.gateway.pid());
    let shim = shims.into_iter().find(|pid| crate::docker::holds_session(*pid, &session));
    crate::kill(shim.expect("a shim"));
    assert_eq!(shell.finish(PATIENCE).code, 143);
    house.is_quiet();
    assert_eq!(house.ssh().run("exit 4").code, 4);
    house.is_quiet();
    house.leaves_nothing();
}
