//! One server as shell recipes see it: `ssh H`, `scp file H:`, `sftp H`.
//!
//! The same recipe runs against our gateway and against the real `sshd`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use crate::Client;
use crate::Output;
use crate::Running;
use crate::Scratch;

/// What every recipe may use.
const PRELUDE: &str = r#"
# How the last command ended.
status() { echo "status $?"; }
# Whether at least so many tenths of a second have passed since `start`.
start() { began=$(date +%s%N); }
waited() { [ $(( ($(date +%s%N) - began) / 100000000 )) -ge "$1" ] && echo waited || echo "at once"; }
# Opens a connection that others share: `ssh -S ctl H`.
master() {
    ssh -fNM -S ctl -o ControlPersist=no "$@" H </dev/null >/dev/null 2>&1
    local i; for i in $(seq 200); do [ -S ctl ] && return 0; sleep 0.05; done; echo "no master"; return 1
}
# Ends it.
unmaster() { ssh -S ctl -O exit H 2>/dev/null; }
# Waits until COMMAND is true, for ten seconds at most, and says whether it was.
within() {
    local i; for i in $(seq "$1"); do "${@:2}" >/dev/null 2>&1 && { echo yes; return; }; sleep 0.1; done; echo no
}
"#;

/// A server that recipes know as `H`.
#[derive(Debug)]
pub struct Peer {
    directory: Scratch,
    port: u16,
    user: String,
    key: PathBuf,
}

impl Peer {
    /// Makes wrappers of OpenSSH's programs that know this server.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn new(port: u16, user: &str, key: &Path) -> Self {
        let directory = Scratch::new();
        let known = directory.path().join("known_hosts");
        let config = directory.file(
            "config",
            format!(
                "Host H\n HostName 127.0.0.1\n Port {port}\n User {user}\n IdentityFile {}\n \
                 IdentitiesOnly yes\n BatchMode yes\n StrictHostKeyChecking no\n LogLevel ERROR\n \
                 KexAlgorithms curve25519-sha256\n UserKnownHostsFile {}\n",
                key.display(),
                known.display(),
            ),
        );
        let programs = directory.path().join("bin");
        fs::create_dir(&programs).expect("a directory");
        for program in ["ssh", "scp", "sftp"] {
            let wrapper = programs.join(program);
            let line =
                format!("#!/bin/sh\nexec /usr/bin/{program} -F {} \"$@\"\n", config.display());
            fs::write(&wrapper, line).expect("a wrapper");
            fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        Self { directory, port, user: user.to_owned(), key: key.to_owned() }
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A directory for files; each recipe runs in one of its own below it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The same server for the real `ssh` alone.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.port, &self.user, &self.key, self.directory.path())
    }

    /// The command that runs a recipe with `bash`, in an empty directory. `PORT`, `USER` and `KEY` say
    /// where `H` is.
    ///
    /// # Panics
    /// When there is no such directory to be had.
    #[must_use]
    pub fn command(&self, recipe: &str) -> Command {
        let programs = self.directory.path().join("bin");
        let path = std::env::var("PATH").unwrap_or_default();
        let at = Scratch::name_in(self.directory.path());
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("{PRELUDE}\n{recipe}")])
            .current_dir(at)
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("PORT", self.port.to_string())
            .env("USER", &self.user)
            .env("KEY", &self.key)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("LANG")
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("DISPLAY")
            .process_group(0);
        command
    }

    /// Runs a recipe to its end; what it started and left is killed with it.
    ///
    /// # Panics
    /// When it does not end within `patience`.
    #[track_caller]
    pub fn run(&self, recipe: &str, patience: Duration) -> Output {
        let mut command = self.command(recipe);
        command.stdin(Stdio::null());
        let running = Running::silent(command);
        running.finish_group(patience)
    }
}
