//! A real gateway as a child process.

use std::collections::VecDeque;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::Browser;
use crate::Client;
use crate::Clock;
use crate::Disk;
use crate::DiskKind;
use crate::PATIENCE;
use crate::Peer;
use crate::Scratch;
use crate::until;

/// The socket by which its clock is moved.
const CLOCK: &str = "clock/socket";

/// The most log lines that are kept.
const KEPT_LINES: usize = 20_000;

/// How a gateway is to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// TOML for the `[limits]` table.
    pub limits: String,
    /// TOML for the `[[ssh]]` listener.
    pub ssh: String,
    /// TOML for the `[web]` table, besides where it listens.
    pub web: String,
    /// TOML for the `[server]` table.
    pub server: String,
    /// What it logs; `info` where nothing is said.
    pub level: String,
    /// More TOML: whole tables.
    pub more: String,
    /// Its data directory is a file system of its own.
    pub disk: Option<DiskKind>,
    /// Who starts it, where the test is root; root where nothing is said.
    pub uid: Option<u32>,
}

/// A running gateway with a user `alice` who has a key.
#[derive(Debug)]
pub struct Gateway {
    binary: PathBuf,
    uid: Option<u32>,
    config: PathBuf,
    child: Option<Child>,
    log: Arc<Log>,
    /// The port of its SSH door.
    pub port: u16,
    disk: Option<Disk>,
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<VecDeque<String>>,
    grew: Condvar,
}

impl Gateway {
    /// Starts one on free ports and waits until its SSH door is open.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(binary: &str, options: &Options) -> Self {
        let scratch = Scratch::new();
        let data = scratch.path().join("data");
        let disk = options.disk.map(|kind| Disk::mount(kind, &data));
        let many = match options.limits.contains("max_concurrent_sessions") {
            true => "",
            false => "max_concurrent_sessions = 64\nmax_sessions_per_user = 64\n",
        };
        let level = if options.level.is_empty() { "info" } else { &options.level };
        let config = scratch.file(
            "sojourn.toml",
            format!(
                "data_dir = {data:?}\n\
                 [server]\nuser = \"65534\"\n{}\n\
                 [web]\nlisten = \"127.0.0.1:0\"\n{}\n\
                 [[ssh]]\nlisten = \"127.0.0.1:0\"\n{}\n\
                 [log]\nformat = \"json\"\nlevel = {level:?}\n\
                 [limits]\n{many}{}\n{}\n",
                options.server, options.web, options.ssh, options.limits, options.more,
            ),
        );
        // The gateway, which is not root, makes a socket in it.
        let clock = scratch.path().join("clock");
        fs::create_dir(&clock).expect("a directory");
        fs::set_permissions(&clock, fs::Permissions::from_mode(0o777)).expect("its mode");
        let starter = options.uid.filter(|_| rustix::process::geteuid().is_root());
        if let Some(uid) = starter {
            fs::create_dir_all(&data).expect("a directory");
            for path in [&data, &config] {
                chown(path, Some(uid), Some(uid)).expect("its owner");
            }
        }
        let key = scratch.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "alice@test", "-f"])
            .arg(&key)
            .status()
            .expect("ssh-keygen");
        assert!(made.success());
        let mut gateway = Self {
            binary: match starter {
                Some(_) => scratch.executable(Path::new(binary)),
                None => PathBuf::from(binary),
            },
            uid: starter,
            config,
            child: None,
            log: Arc::default(),
            port: 0,
            disk,
            scratch,
        };
        gateway.launch();
        gateway.cli(&["user", "add", "alice", "--no-password"]);
        let public = key.with_extension("pub");
        gateway.cli(&["user", "key", "add", "alice", public.to_str().expect("a path in UTF-8")]);
        gateway
    }

    /// Starts the process again after it ended.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.log = Arc::default();
        let mut child = self
            .program()
            .args(["serve", "--config"])
            .arg(&self.config)
            .env("SOJOURN_TEST_CLOCK", self.scratch.path().join(CLOCK))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway");
        let stderr = child.stderr.take().expect("its log");
        let log = self.log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut lines = log.lines.lock().expect("the log");
                if lines.len() == KEPT_LINES {
                    lines.pop_front();
                }
                lines.push_back(line);
                log.grew.notify_all();
            }
        });
        self.child = Some(child);
        let line = self.wait_for_log("listening", |line| {
            line["event"] == "listening" && line["door"] == "ssh"
        });
        let address = line["address"].as_str().expect("an address");
        self.port = address.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
    }

    /// The port of its web door.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    #[track_caller]
    pub fn web_port(&self) -> u16 {
        let line = self.wait_for_log("the web door", |line| {
            line["event"] == "listening" && line["door"] == "web"
        });
        let address = line["address"].as_str().expect("an address");
        address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    /// A browser at its web door, signed in nowhere.
    ///
    /// # Panics
    /// When there is no web door.
    #[must_use]
    #[track_caller]
    pub fn browser(&self) -> Browser {
        Browser::new(self.web_port())
    }

    /// A browser in which somebody is signed in who has only a password.
    ///
    /// # Panics
    /// When they are not let in.
    #[must_use]
    #[track_caller]
    pub fn signed_in(&self, name: &str, password: &str) -> Browser {
        let mut browser = self.browser();
        browser.sign_in(name, password).expect(200);
        browser
    }

    /// Makes an account that has a password.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn add_user(&self, name: &str, role: &str, password: &str) {
        let arguments = ["user", "add", name, "--role", role, "--password-stdin"];
        let (status, _, err) = self.try_cli(&arguments, &format!("{password}\n"));
        assert!(status.success(), "{err}");
    }

    /// Moves its time.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::at(&self.scratch.path().join(CLOCK))
    }

    /// Where its data is.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// A directory for the test's files.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Its pid.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running gateway").id()
    }

    /// The disk its data directory is on.
    ///
    /// # Panics
    /// When it has none of its own.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a disk of its own")
    }

    /// Whether it has ended by itself.
    ///
    /// # Panics
    /// When it was not started.
    pub fn is_over(&mut self) -> bool {
        let child = self.child.as_mut().expect("a running gateway");
        child.try_wait().expect("its status").is_some()
    }

    /// The real `ssh` as alice, with her key.
    #[must_use]
    pub fn alice(&self) -> Client {
        Client::new(self.port, "alice", &self.scratch.path().join("key"), self.scratch.path())
    }

    /// This gateway, as alice, for recipes.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer_as("alice")
    }

    /// This gateway for recipes, with another user name.
    #[must_use]
    pub fn peer_as(&self, user: &str) -> Peer {
        Peer::new(self.port, user, &self.scratch.path().join("key"))
    }

    /// The real `ssh` as somebody at another of its listeners, with a key of alice's.
    #[must_use]
    pub fn client(&self, port: u16, user: &str) -> Client {
        Client::new(port, user, &self.scratch.path().join("key"), self.scratch.path())
    }

    /// The port of its honeypot listener of this number, from 0, in the order of the configuration.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn honeypot(&self, number: usize) -> u16 {
        until("a honeypot", PATIENCE, || {
            let mut pots = self.log_lines();
            pots.retain(|line| line["event"] == "listening" && line["honeypot"] == true);
            pots.get(number)?["address"].as_str()?.rsplit(':').next()?.parse().ok()
        })
    }

    /// Runs a command of ours against it and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        let (status, out, err) = self.try_cli(arguments, "");
        assert!(status.success(), "sojourn {arguments:?}: {status}\n{out}\n{err}\n{}", self.log());
        out
    }

    /// Runs a command of ours with something on its standard input.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn try_cli(&self, arguments: &[&str], input: &str) -> (ExitStatus, String, String) {
        let mut child = self
            .program()
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command");
        // It may not want any: then it is gone before we have written.
        let _unread = child.stdin.take().expect("its input").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("its output");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status, text(&output.stdout), text(&output.stderr))
    }

    /// The program under test, as who starts it.
    fn program(&self) -> Command {
        let mut program = Command::new(&self.binary);
        if let Some(uid) = self.uid {
            program.uid(uid).gid(uid);
        }
        program
    }

    /// Sessions as `sojourn session ls --json` gives them, newest first.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    #[track_caller]
    pub fn sessions(&self) -> Vec<Value> {
        let listed: Value =
            serde_json::from_str(&self.cli(&["session", "ls", "--json"])).expect("JSON");
        listed["items"].as_array().or(listed.as_array()).expect("a list").clone()
    }

    /// Every line of the audit log, in order.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.data().join("audit"))
            .expect("the audit log")
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
            .collect();
        files.sort();
        files
            .iter()
            .flat_map(|path| {
                let text = fs::read_to_string(path).expect("an audit file");
                text.lines()
                    .filter_map(|line| serde_json::from_str(line).ok())
                    .collect::<Vec<Value>>()
            })
            .collect()
    }

    /// The audit log as soon as it holds `count` lines of an action. What a session does is on
    /// record a moment after it is seen.
    ///
    /// # Panics
    /// When they do not come.
    #[track_caller]
    pub fn audit_with(&self, count: usize, action: &str) -> Vec<Value> {
        until(&format!("{count} x {action} on record"), PATIENCE, || {
            let lines = self.audit();
            let of_it = lines.iter().filter(|line| line["action"] == action).count();
            (of_it >= count).then_some(lines)
        })
    }

    /// Waits for an audit line.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn wait_for_audit(&self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
        until(what, PATIENCE, || self.audit().into_iter().find(&mut is_it))
    }

    /// Waits for a log line.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn wait_for_log(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().expect("the log");
        loop {
            let parsed = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
            if let Some(line) = parsed.map(flat).find(&is_it) {
                return line;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no log line {what}:\n{lines:#?}");
            lines = self.log.grew.wait_timeout(lines, left).expect("the log").0;
        }
    }

    /// Log lines so far.
    ///
    /// # Panics
    /// Never while the reader lives.
    #[must_use]
    pub fn log_lines(&self) -> Vec<Value> {
        let lines = self.log.lines.lock().expect("the log");
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).map(flat).collect()
    }

    /// Its log as text, for failed assertions.
    ///
    /// # Panics
    /// Never while the reader lives.
    #[must_use]
    pub fn log(&self) -> String {
        let lines = self.log.lines.lock().expect("the log");
        lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Sends TERM and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Kills the gateway alone, as `kill -9` does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.wait();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("a living gateway");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running gateway");
        until("the gateway's end", PATIENCE, || child.try_wait().expect("its status"))
    }

    /// Pids of processes whose command line or environment of files is in this gateway's data
    /// directory, or that descend from it: what must be gone at the end.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let data = self.data();
        processes_holding(&data)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let deadline = Instant::now() + Duration::from_secs(15);
            while Instant::now() < deadline {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

/// Puts a JSON log line's fields and its span's on one level.
fn flat(mut line: Value) -> Value {
    if let Some(Value::Object(fields)) = line.get_mut("fields").map(Value::take)
        && let Some(line) = line.as_object_mut()
    {
        line.extend(fields);
    }
    line
}

/// Processes with an open file, a working directory or a mapped file below `directory`.
fn processes_holding(directory: &Path) -> Vec<String> {
    let own = std::process::id().to_string();
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    all.filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && *name != own)
        .filter(|pid| {
            let base = PathBuf::from("/proc").join(pid);
            let fds = fs::read_dir(base.join("fd")).into_iter().flatten().filter_map(Result::ok);
            fds.map(|fd| fd.path())
                .chain([base.join("cwd"), base.join("root")])
                .filter_map(|link| fs::read_link(link).ok())
                .any(|target| target.starts_with(directory))
        })
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{pid} {}", name.trim())
        })
        .collect()
}
