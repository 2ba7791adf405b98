//! A real runner as a child process, with the fake agent on its table.

use std::fs;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;

use crate::PATIENCE;
use crate::Scratch;
use crate::until;

/// A runner whose sessions work in a directory of its own.
#[derive(Debug)]
pub struct Runner {
    binary: PathBuf,
    scratch: Scratch,
    port: u16,
    child: Option<Child>,
    /// More of its configuration: keys of `[runner]`.
    pub keys: String,
    /// Where its gateway is, when it is not in the clear at this port.
    pub url: Option<String>,
    /// The file with the authorities that it trusts besides.
    pub authorities: Option<PathBuf>,
    /// Whose it is, where the test is root; root's where nothing is said.
    pub uid: Option<u32>,
}

impl Runner {
    /// One that dials this port with this token, once it is launched.
    ///
    /// # Panics
    /// When its files cannot be written.
    #[must_use]
    pub fn new(binary: &str, port: u16, token: &str) -> Self {
        let scratch = Scratch::new();
        let file = scratch.file("token", token);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
        for directory in ["work", "home", "state"] {
            fs::create_dir(scratch.path().join(directory)).expect("a directory");
        }
        let (binary, keys) = (PathBuf::from(binary), String::new());
        Self { binary, scratch, port, child: None, keys, url: None, authorities: None, uid: None }
    }

    /// Where its sessions work.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.scratch.path().join("work")
    }

    /// A directory for the test's files.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The file with its token.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.scratch.path().join("token")
    }

    /// Its command, not started.
    ///
    /// # Panics
    /// When its configuration cannot be written.
    #[must_use]
    pub fn command(&self) -> Command {
        let uid = self.uid.filter(|_| rustix::process::geteuid().is_root());
        let open = |program: &Path| match uid {
            Some(_) => self.scratch.executable(program),
            None => program.to_owned(),
        };
        let agent = open(&fake_agent());
        let log = self.scratch.path().join("agent.log");
        let config = format!(
            "[log]\nformat = \"json\"\n[runner]\nnotify = false\n{}\n\
             [runner.harness.fake]\ncommand = [{agent:?}]\nenv = {{FAKE_AGENT_LOG = {log:?}}}\n",
            self.keys,
        );
        let config = self.scratch.file("runner.toml", config);
        let mut command = Command::new(open(&self.binary));
        if let Some(uid) = uid {
            for name in ["", "token", "work", "home", "state"] {
                chown(self.scratch.path().join(name), Some(uid), Some(uid)).expect("its owner");
            }
            // Accounts of nobody's have none.
            command.uid(uid).gid(uid).env("SHELL", "/bin/bash");
        }
        let url = self.url.clone().unwrap_or_else(|| format!("http://127.0.0.1:{}", self.port));
        if let Some(file) = &self.authorities {
            command.env("SOJOURN_CA", file);
        }
        command
            .args(["runner", "--gateway", &url])
            .arg("--token-file")
            .arg(self.token_file())
            .args(["--name", "laptop", "--allow"])
            .arg(self.work())
            .arg("--config")
            .arg(config)
            .env("HOME", self.scratch.path().join("home"))
            .env("XDG_STATE_HOME", self.scratch.path().join("state"))
            .env("SOJOURN_SECRET", "not for agents")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it runs already, or cannot be started.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = self.scratch.path().join("log");
        let log = File::options().create(true).append(true).open(log).expect("its log");
        self.child = Some(self.command().stderr(log).spawn().expect("the runner"));
    }

    /// What it said of itself, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// What reached its agents, in order.
    #[must_use]
    pub fn agent_heard(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.scratch.path().join("agent.log")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Its pid.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("a running runner").id()
    }

    fn pid(&self) -> Pid {
        let pid = self.child.as_ref().map(Child::id).and_then(|pid| i32::try_from(pid).ok());
        pid.and_then(Pid::from_raw).expect("a running runner")
    }

    /// Kills it alone, as `kill -9` does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        rustix::process::kill_process(self.pid(), Signal::KILL).expect("a living runner");
        self.wait();
    }

    /// Sends TERM and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> ExitStatus {
        rustix::process::kill_process(self.pid(), Signal::TERM).expect("a living runner");
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running runner");
        until("the runner's end", PATIENCE, || child.try_wait().expect("its status"))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

/// Where the fake agent is: beside the program under test.
fn fake_agent() -> PathBuf {
    let here = std::env::current_exe().expect("this test's program");
    let directory = here.parent().and_then(Path::parent).expect("a directory");
    let agent = directory.join("fake-agent");
    assert!(agent.is_file(), "{}: build it with --bins", agent.display());
    agent
}

/// Processes that belong to a session, by the variable that all of them have.
#[must_use]
pub fn processes_of(session: &str) -> Vec<String> {
    let tag = format!("SOJOURN_SESSION={session}");
    let all = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    all.filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == tag.as_bytes())
        })
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{pid} {}", name.trim())
        })
        .collect()
}
