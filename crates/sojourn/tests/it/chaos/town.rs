//! The gateway of one round, a runner, and everything by which people reach them.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Client;
use sojourn_testkit::Cutter;
use sojourn_testkit::DiskKind;
use sojourn_testkit::Dockerd;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Runner;

use super::ledger::Ledger;
use super::line::Line;
use crate::leaving::cgroup_parent;

pub(super) const PASSWORD: &str = "eleven patient herons by 30 weirs";

/// People who come with a browser.
pub(super) const BROWSERS: [&str; 2] = ["bea", "ben"];

/// Who owns the runner.
pub(super) const OWNER: &str = "mia";

/// Who signs in and out.
pub(super) const VISITOR: &str = "sam";

/// The profile with containers, in rounds that have an engine.
pub(super) const BOXED: &str = "boxed";

/// How many lines a terminal that was started by a browser prints.
pub(super) const WEB_LINES: u64 = 100;

/// How long the longest of the limited sessions lasts.
pub(super) const LIMIT: &str = "2s";

/// The longest that anything may take which is not hindered any more, on a machine that is very busy.
pub(super) const LONG: Duration = Duration::from_secs(180);

/// The gateway, and what is beside it: what faults happen to.
pub(super) struct Town {
    // Dropped in this order: the gateway lets go of its containers first.
    pub(super) gateway: Gateway,
    pub(super) engine: Option<Dockerd>,
    pub(super) runner: Runner,
    pub(super) cutter: Cutter,
    /// The control group of its sandboxes.
    pub(super) cgroups: String,
}

/// What the people of a round share.
pub(super) struct Street {
    pub(super) ledger: Ledger,
    pub(super) line: Line,
    web: AtomicU16,
    client: Client,
    /// Where agents work.
    pub(super) work: String,
    /// A file to be sent.
    pub(super) parcel: Vec<u8>,
    /// Where clients' files are.
    pub(super) desk: std::path::PathBuf,
    /// Faults are over.
    pub(super) calm: AtomicBool,
    /// Unlike that of any other round on this machine.
    pub(super) mark: String,
    /// Whether there is an engine for containers.
    pub(super) has_engine: bool,
}

/// Builds it up, where `engine` with an engine for containers, if this machine has one.
pub(super) fn build(mark: &str, engine: bool) -> (Town, Street) {
    let engine = engine.then(Dockerd::start).flatten();
    let boxed = engine.as_ref().map_or_else(String::new, |engine| {
        let (host, image) = (engine.host(), Dockerd::IMAGE);
        format!(
            "[profiles.{BOXED}]\nsandbox = \"docker\"\nimage = {image:?}\npool = 1\n\
             allow = [\"*\"]\n[sandbox]\ndocker_host = {host:?}\n"
        )
    });
    let counting = format!(
        "stty -echo; echo ready; read -r word; i=0; while [ $i -lt {WEB_LINES} ]; do \
         echo \"$word-$i\"; i=$((i+1)); sleep 0.02; done; exit 7"
    );
    let gateway = crate::gateway(&Options {
        limits: "starts_per_minute = 0\nwarn_before = \"0\"\ngrace = \"1s\"\n\
                 detach_grace = \"5m\"\n"
            .to_owned(),
        more: format!(
            "[profiles.counting]\ncommand = [\"/bin/bash\", \"-c\", {counting:?}]\npool = 1\n\
             allow = [\"*\"]\n{boxed}"
        ),
        disk: Some(DiskKind::Memory(192)),
        ..Options::default()
    });
    for name in BROWSERS.into_iter().chain([OWNER, VISITOR]) {
        gateway.add_user(name, "member", PASSWORD);
    }
    let cutter = Cutter::new(gateway.web_port());
    let mut owner = gateway.signed_in(OWNER, PASSWORD);
    let made = owner.post("/api/runners", &json!({"name": "laptop"})).expect(201);
    let token = made["token"].as_str().unwrap().to_owned();
    let mut runner = Runner::new(env!("CARGO_BIN_EXE_sojourn"), cutter.port, &token);
    runner.launch();
    let line = Line::new(gateway.port);
    let cgroups = super::within(LONG, || {
        let ready = crate::descendants(gateway.pid());
        ready.iter().any(|pid| crate::name_of(*pid) == "sojourn-shim").then_some(())
    });
    assert!(cgroups.is_some(), "no sandbox is made ahead");
    gateway.alice().run("true");
    let street = Street {
        ledger: Ledger::new(),
        web: AtomicU16::new(gateway.web_port()),
        client: gateway.client(line.port, "alice"),
        line,
        work: runner.work().display().to_string(),
        parcel: (0..200_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
            .collect(),
        desk: gateway.scratch().path().to_owned(),
        calm: AtomicBool::new(false),
        mark: mark.to_owned(),
        has_engine: engine.is_some(),
    };
    let cgroups = cgroup_parent(&gateway);
    (Town { gateway, engine, runner, cutter, cgroups }, street)
}

impl Town {
    /// Everything that is told where the gateway is now.
    pub(super) fn has_moved(&self, street: &Street) {
        street.line.follow(self.gateway.port);
        let web = self.gateway.web_port();
        self.cutter.follow(web);
        street.web.store(web, Ordering::Relaxed);
    }

    /// Processes of this gateway's by name, wherever they hang in the tree.
    pub(super) fn processes(&self, name: &str) -> Vec<u32> {
        let holding = self.gateway.leftovers();
        let mut found: Vec<u32> = holding
            .iter()
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, is)| *is == name)
            .filter_map(|(pid, _)| pid.parse().ok())
            .collect();
        let below = crate::descendants(self.gateway.pid());
        found.extend(below.into_iter().filter(|pid| crate::name_of(*pid) == name));
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        // After a round that failed anything may be left: what has a file open below the data directory
        // of this very gateway is its own.
        if std::thread::panicking() {
            for line in self.gateway.leftovers() {
                let pid = line.split_once(' ').and_then(|(pid, _)| pid.parse::<i32>().ok());
                let pid = pid.and_then(rustix::process::Pid::from_raw);
                let kill = |pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                let _gone = pid.map(kill);
            }
        }
    }
}

impl Street {
    /// The real `ssh`, over the line.
    pub(super) fn alice(&self) -> Client {
        self.client.clone()
    }

    /// A browser, where the gateway is just now.
    pub(super) fn browser(&self) -> Browser {
        Browser::new(self.web.load(Ordering::Relaxed))
    }

    /// Takes a browser to where the gateway is just now.
    pub(super) fn find(&self, browser: &mut Browser) {
        browser.follow(self.web.load(Ordering::Relaxed));
    }

    /// Tries until something comes of it. None, and it is a breach, when nothing does though nothing
    /// hinders it any more.
    pub(super) fn insist<T>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut late = None;
        loop {
            if let Some(done) = attempt() {
                self.ledger.tick();
                return Some(done);
            }
            if self.calm.load(Ordering::Relaxed) {
                let late = late.get_or_insert_with(|| Instant::now() + LONG);
                if Instant::now() > *late {
                    self.ledger.breach(format!("{what} does not come about"));
                    return None;
                }
            }
            // Between two tries, so that those who fail at once leave the machine to the others.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
