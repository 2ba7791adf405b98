//! The OpenSSH client as its users have it.

use std::io::Read;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::PATIENCE;
use crate::until;

/// A way to run `ssh` against one gateway as one user.
#[derive(Clone, Debug)]
pub struct Client {
    port: u16,
    user: String,
    key: PathBuf,
    home: PathBuf,
    options: Vec<String>,
    /// Answers the questions for a password; none: there are no such questions.
    askpass: Option<PathBuf>,
}

/// What a client left when it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status; 255 is ssh's own.
    pub code: i32,
    /// Its standard output.
    pub out: Vec<u8>,
    /// Its standard error.
    pub err: String,
    /// How long it ran.
    pub took: Duration,
}

impl Output {
    /// Its standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

impl Client {
    pub(crate) fn new(port: u16, user: &str, key: &Path, home: &Path) -> Self {
        Self {
            port,
            user: user.to_owned(),
            key: key.to_owned(),
            home: home.to_owned(),
            options: Vec::new(),
            askpass: None,
        }
    }

    /// The same client without a key, giving these passwords in turn, the last one again and again.
    ///
    /// # Panics
    /// When there is no room for its files.
    #[must_use]
    pub fn passwords(mut self, passwords: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let list = self.home.join(format!("passwords-{number}"));
        std::fs::write(&list, passwords.join("\n") + "\n").expect("a list of passwords");
        let script = format!(
            "#!/bin/sh\nhead -n 1 {0}\n[ $(wc -l <{0}) -eq 1 ] || sed -i 1d {0}\n",
            list.display()
        );
        let askpass = self.home.join(format!("askpass-{number}"));
        std::fs::write(&askpass, script).expect("a script");
        std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        self.askpass = Some(askpass);
        self
    }

    /// The same client with one more word on its command line.
    #[must_use]
    pub fn with(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// The same client as somebody else.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = user.to_owned();
        self
    }

    /// The command that runs `ssh` up to the host.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = self.tool("ssh");
        command.arg(self.host());
        command
    }

    /// The command that runs one of OpenSSH's programs (`ssh`, `scp`, `sftp`), with its options only.
    #[must_use]
    pub fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.arguments());
        command.env("LC_ALL", "C.UTF-8").env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
        if let Some(askpass) = &self.askpass {
            command.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        }
        command
    }

    /// The user and the gateway, as programs are told.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    /// The gateway's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file with the user's private key.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// The options every run has.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["-F", "/dev/null"].map(str::to_owned).into_iter().collect();
        if self.askpass.is_none() {
            arguments.push("-i".to_owned());
            arguments.push(self.key.display().to_string());
        }
        for option in [
            "IdentitiesOnly=yes",
            if self.askpass.is_none() { "BatchMode=yes" } else { "BatchMode=no" },
            "StrictHostKeyChecking=no",
            "LogLevel=ERROR",
            "KexAlgorithms=curve25519-sha256",
        ] {
            arguments.extend(["-o".to_owned(), option.to_owned()]);
        }
        arguments.push(format!("-oPort={}", self.port));
        let known = self.home.join("known_hosts");
        arguments.extend(["-o".to_owned(), format!("UserKnownHostsFile={}", known.display())]);
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    #[track_caller]
    pub fn run(&self, command: &str) -> Output {
        self.run_with(command, b"")
    }

    /// Runs a command with something on its standard input.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    #[track_caller]
    pub fn run_with(&self, command: &str, input: &[u8]) -> Output {
        let mut running = self.start(&[command]);
        let mut stdin = running.take_stdin();
        let input = input.to_vec();
        std::thread::spawn(move || stdin.write_all(&input));
        running.finish(PATIENCE)
    }

    /// Starts the client with these words after the host.
    ///
    /// # Panics
    /// When there is no `ssh`.
    #[must_use]
    pub fn start(&self, words: &[&str]) -> Running {
        let mut command = self.command();
        command.args(words);
        Running::new(command)
    }
}

/// A program that runs, its output being collected.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
    started: Instant,
}

impl Running {
    /// Starts a command.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn new(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        Self::silent(command)
    }

    /// Starts a command whose standard input is as the command says.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn silent(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().expect("a client");
        let stdin = child.stdin.take();
        let (out, read_out) = collect(child.stdout.take().expect("its output"));
        let (err, read_err) = collect(child.stderr.take().expect("its errors"));
        Self { child, stdin, out, err, readers: vec![read_out, read_err], started }
    }

    /// Its standard input, to be closed by dropping it.
    ///
    /// # Panics
    /// The second time.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("its input")
    }

    /// Types something.
    ///
    /// # Panics
    /// When it takes none.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("its input");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("it reads");
    }

    /// What it has printed so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().expect("output")).into_owned()
    }

    /// Waits until it has printed `text`.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        until(&format!("{text:?} in {:?}", self.so_far()), PATIENCE, || {
            self.so_far().contains(text).then_some(())
        });
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// Never.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// Kills it.
    ///
    /// # Panics
    /// Never.
    pub fn kill(&mut self) {
        let _gone = self.child.kill();
    }

    /// Waits for its end and gives all it printed.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn finish(mut self, patience: Duration) -> Output {
        drop(self.stdin.take());
        let status = self.wait(patience);
        self.collected(status)
    }

    /// The same for one that leads a process group: what it left of that is killed, in good time or not.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn finish_group(mut self, patience: Duration) -> Output {
        drop(self.stdin.take());
        let deadline = Instant::now() + patience;
        let ended = loop {
            match self.child.try_wait().expect("its status") {
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                ended => break ended,
            }
        };
        // What it left would hold its output open.
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw)
        {
            let _empty = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let status = ended.unwrap_or_else(|| {
            let err = String::from_utf8_lossy(&self.err.lock().expect("errors")).into_owned();
            panic!("not over after {patience:?}; so far {:?}, {err:?}", self.so_far())
        });
        self.collected(status)
    }

    #[track_caller]
    fn wait(&mut self, patience: Duration) -> ExitStatus {
        until(&format!("the client's end; so far {:?}", self.so_far()), patience, || {
            self.child.try_wait().expect("its status")
        })
    }

    fn collected(mut self, status: ExitStatus) -> Output {
        let took = self.started.elapsed();
        for reader in std::mem::take(&mut self.readers) {
            reader.join().expect("a reader");
        }
        let err = String::from_utf8_lossy(&self.err.lock().expect("errors")).into_owned();
        let out = std::mem::take(&mut *self.out.lock().expect("output"));
        Output { code: status.code().unwrap_or(-1), out, err, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn collect(
    mut from: impl Read + Send + 'static,
) -> (Arc<Mutex<Vec<u8>>>, std::thread::JoinHandle<()>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = all.clone();
    let reader = std::thread::spawn(move || {
        let mut part = [0; 65536];
        while let Ok(n @ 1..) = from.read(&mut part) {
            into.lock().expect("output").extend_from_slice(&part[..n]);
        }
    });
    (all, reader)
}
