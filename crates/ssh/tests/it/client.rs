//! The real OpenSSH client, driven.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::Command;

use crate::house::House;

/// Who and where, as `ssh` is told.
pub(crate) const HOST: &str = "alice@127.0.0.1";

/// No client of ours takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a client printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Outcome {
    pub(crate) fn code(&self) -> i32 {
        self.status.code().expect("the client ended by itself")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

impl House {
    /// Makes a key pair, known to the gate or not; gives its file.
    pub(crate) async fn key(&self, kind: &str, known: bool) -> PathBuf {
        let path = self.directory().join(format!("client-{kind}-{known}"));
        run("ssh-keygen", ["-q", "-t", kind, "-N", "", "-f", &path.to_string_lossy()]).await;
        let shown = run("ssh-keygen", ["-lf", &path.to_string_lossy()]).await;
        if known {
            self.gate.trust_key(shown.split_whitespace().nth(1).unwrap());
        }
        path
    }

    /// An `ssh` that signs in as alice by key, and asks nobody anything.
    pub(crate) async fn ssh(&self) -> Command {
        let key = self.directory().join("client-ed25519-true");
        if !key.exists() {
            self.key("ed25519", true).await;
        }
        let mut command = self.bare_ssh();
        command.arg("-i").arg(key).args(["-o", "BatchMode=yes"]);
        command
    }

    /// An `ssh` with no way to sign in yet.
    pub(crate) fn bare_ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &self.port.to_string()]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "LogLevel=ERROR",
            "KexAlgorithms=curve25519-sha256",
        ] {
            command.args(["-o", option]);
        }
        command.env_remove("SSH_AUTH_SOCK").kill_on_drop(true);
        command
    }

    /// An `ssh` that gives this password when it is asked.
    pub(crate) fn ssh_with_password(&self, password: &str) -> Command {
        let answer = self.directory().join("askpass");
        std::fs::write(&answer, format!("#!/bin/sh\necho '{password}'\n")).unwrap();
        std::fs::set_permissions(&answer, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut command = self.bare_ssh();
        command.args(["-o", "PreferredAuthentications=password"]);
        command.env("SSH_ASKPASS", answer).env("SSH_ASKPASS_REQUIRE", "force");
        command
    }

    /// Runs one command without input.
    pub(crate) async fn exec(&self, command: &str) -> Outcome {
        self.exec_with(&[], command, b"").await
    }

    /// Runs one command with options and input.
    pub(crate) async fn exec_with(&self, options: &[&str], command: &str, input: &[u8]) -> Outcome {
        let mut ssh = self.ssh().await;
        ssh.args(options).args([HOST, command]);
        finish(ssh, input).await
    }

    /// A connection that others may share.
    pub(crate) async fn master(&self) -> Master {
        let socket = self.directory().join("master");
        let mut ssh = self.ssh().await;
        ssh.arg("-NMS").arg(&socket).arg(HOST);
        ssh.stdin(Stdio::null()).stdout(Stdio::null());
        let child = ssh.spawn().unwrap();
        crate::house::until("the master's socket", || socket.exists()).await;
        Master { child, socket, port: self.port }
    }
}

/// A connection that others share.
pub(crate) struct Master {
    pub(crate) child: Child,
    socket: PathBuf,
    port: u16,
}

impl Master {
    /// An `ssh` through it, which never makes a connection of its own.
    pub(crate) fn ssh(&self, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "ControlMaster=no"]);
        // Without the master it would come here, where nobody knows it.
        ssh.args(["-o", "ProxyCommand=false", "-p", &self.port.to_string()]);
        ssh.arg("-S").arg(&self.socket).args([HOST, command]);
        ssh.kill_on_drop(true);
        ssh
    }

    pub(crate) async fn exec(&self, command: &str) -> Outcome {
        finish(self.ssh(command), b"").await
    }
}

/// Gives a program its input, and waits for its end.
pub(crate) async fn finish(mut command: Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let work = async {
        let feed = async {
            // A program may end without reading it all.
            let _unread = stdin.write_all(input).await;
            drop(stdin);
        };
        let (_, a, b, status) = tokio::join!(
            feed,
            stdout.read_to_end(&mut out),
            stderr.read_to_end(&mut err),
            child.wait()
        );
        a.unwrap();
        b.unwrap();
        status.unwrap()
    };
    let done = tokio::time::timeout(DEADLINE, work).await;
    let err = String::from_utf8_lossy(&err).into_owned();
    let status = done.unwrap_or_else(|_| panic!("no end; on standard error: {err}"));
    Outcome { status, out, err }
}

/// Runs a helper program, which succeeds; gives what it printed.
pub(crate) async fn run<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    let outcome = finish(command, b"").await;
    assert!(outcome.status.success(), "{program}: {outcome:?}");
    outcome.text()
}
