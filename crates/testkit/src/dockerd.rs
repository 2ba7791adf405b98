//! A real container engine for a test, with one image, which is made of this machine's own programs.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::Scratch;
use crate::until;

/// Longer than an engine takes to come up or go, on a busy machine.
const ENGINE: Duration = Duration::from_secs(60);

/// Programs of the image, all of them links to one.
const APPLETS: [&str; 32] = [
    "cat", "chmod", "chown", "cut", "dd", "df", "echo", "env", "false", "grep", "head", "hostname",
    "id", "ls", "mkdir", "mknod", "mount", "nc", "ps", "rm", "seq", "setsid", "sh", "sleep",
    "stat", "stty", "tail", "touch", "true", "tty", "umount", "wc",
];

/// A running engine. Nothing of it is left when this is dropped.
#[derive(Debug)]
pub struct Dockerd {
    scratch: Scratch,
    child: Option<Child>,
}

impl Dockerd {
    /// The name of the image it has.
    pub const IMAGE: &str = "sojourn-test/room:1";

    /// Starts one and gives it its image. None, and it is said, where that cannot be.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start() -> Option<Self> {
        let missing = ["dockerd", "docker", "containerd", "busybox"]
            .into_iter()
            .find(|program| which(program).is_none());
        if let Some(program) = missing {
            eprintln!("SKIPPED: there is no {program} here");
            return None;
        }
        if !crate::can_make_sandboxes() {
            return None;
        }
        let mut engine = Self { scratch: Scratch::new(), child: None };
        engine.launch();
        engine.import(Self::IMAGE);
        Some(engine)
    }

    /// Starts its process again after it ended.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let place = |name: &str| self.scratch.path().join(name);
        // Of a killed one: it is taken for a living process for as long as nobody collects that.
        let _none = fs::remove_file(place("exec/containerd/containerd.pid"));
        let log = fs::File::create(place("log")).expect("its log");
        let child = Command::new(which("dockerd").expect("an engine"))
            .arg("--data-root")
            .arg(place("data"))
            .arg("--exec-root")
            .arg(place("exec"))
            .arg("--pidfile")
            .arg(place("pid"))
            .arg("--host")
            .arg(self.host())
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dockerd");
        self.child = Some(child);
        until("the engine to answer", ENGINE, || self.try_docker(&["version"]).then_some(()));
    }

    /// What `docker_host` has to say.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.scratch.path().join("socket").display())
    }

    /// TOML that makes the default profile one of its image; `keys` are more of that profile.
    #[must_use]
    pub fn config(&self, keys: &str) -> String {
        format!(
            "[sandbox]\ndocker_host = {:?}\n\
             [profiles.default]\nsandbox = \"docker\"\nimage = {:?}\n{keys}\n",
            self.host(),
            Self::IMAGE
        )
    }

    /// Runs `docker` with it and gives what that printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("docker");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(output.status.success(), "docker {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The same, where it may fail: whether it did not.
    #[must_use]
    pub fn try_docker(&self, arguments: &[&str]) -> bool {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env_remove("DOCKER_CONTEXT").arg("--host").arg(self.host()).args(arguments);
        command
    }

    /// Its containers, running or not, by id.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        let list = self.docker(&["ps", "--all", "--quiet", "--no-trunc"]);
        list.lines().map(str::to_owned).collect()
    }

    /// Those that run.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        self.docker(&["ps", "--quiet", "--no-trunc"]).lines().map(str::to_owned).collect()
    }

    /// Kills its process, as `kill -9` does. Containers go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a living engine");
        child.wait().expect("its status");
    }

    /// Has it stop, with its containers.
    ///
    /// # Panics
    /// When it does not run, or does not stop.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        signal(child.id(), Signal::TERM);
        until("the engine's end", ENGINE, || child.try_wait().expect("its status"));
    }

    /// Makes an image of bash and a few more programs.
    fn import(&self, name: &str) {
        let tree = self.scratch.path().join("tree");
        for directory in ["bin", "etc", "root", "srv", "lib64"] {
            fs::create_dir_all(tree.join(directory)).expect("a directory");
        }
        let busybox = which("busybox").expect("busybox");
        fs::copy(busybox, tree.join("bin/busybox")).expect("a copy");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet)).expect("a link");
        }
        let bash = which("bash").expect("bash");
        let listed = Command::new("ldd").arg(&bash).output().expect("ldd");
        let libraries = String::from_utf8_lossy(&listed.stdout).into_owned();
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.map(PathBuf::from) {
            let place = tree.join(file.strip_prefix("/").expect("absolute"));
            fs::create_dir_all(place.parent().expect("a directory")).expect("a directory");
            fs::copy(&file, place).expect("a library");
        }
        fs::copy(bash, tree.join("bin/bash")).expect("a copy");
        fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n").expect("a file");
        fs::write(tree.join("etc/group"), "root:x:0:\ntty:x:5:\n").expect("a file");
        fs::write(tree.join("srv/of-the-image"), "from the image\n").expect("a file");
        let archive = self.scratch.path().join("tree.tar");
        let packed = Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&tree)
            .arg(".")
            .status()
            .expect("tar");
        assert!(packed.success());
        // What an image may say of itself: variables are taken, the rest is not.
        let changes = ["ENV OF_IMAGE=yes", "ENV EDITOR=image", "USER nobody", "VOLUME /srv"];
        let mut arguments = vec!["import"];
        changes.iter().for_each(|change| arguments.extend(["--change", change]));
        arguments.extend([archive.to_str().expect("a path in UTF-8"), name]);
        self.docker(&arguments);
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let own = self.scratch.path().to_owned();
        if let Some(mut child) = self.child.take() {
            signal(child.id(), Signal::TERM);
            let deadline = Instant::now() + ENGINE;
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _gone = child.kill();
            let _status = child.wait();
        }
        // What a killed engine leaves: its containerd, and that one's processes. They carry its path.
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let left = processes_of(&own);
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut mounts: Vec<&str> = mounts.lines().filter_map(|l| l.split(' ').nth(1)).collect();
        mounts.retain(|mount| Path::new(mount).starts_with(&own));
        for mount in mounts.iter().rev() {
            let _busy = rustix::mount::unmount(*mount, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Processes whose command line names something below a directory.
fn processes_of(directory: &Path) -> Vec<u32> {
    let directory = directory.to_str().expect("a path in UTF-8");
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("{directory}/exec"))
    })
    .collect()
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = rustix::process::kill_process(pid, signal);
    }
}

fn which(program: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
}
