//! A real sandbox for a test, and what runs in it.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use sojourn_core::wire::shim::WindowSize;
use sojourn_shim::error::BuildError;
use sojourn_shim::init_link::Command;
use sojourn_shim::init_link::InitEvent;
use sojourn_shim::init_link::InitImage;
use sojourn_shim::init_link::Stdio;
use sojourn_shim::native;
use sojourn_shim::native::DiskTemplate;
use sojourn_shim::native::IdRange;
use sojourn_shim::native::NativeProfile;
use sojourn_shim::native::Rootfs;
use sojourn_shim::native::Supplies;
use sojourn_shim::pty::Pty;
use sojourn_shim::sandbox::Sandbox;

/// The cgroup of all sandboxes of these tests.
pub(crate) const PARENT: &str = "sojourn-test";
/// Nothing in these tests takes longer, on however slow a machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const MB: u64 = 1 << 20;

/// Whether sandboxes can be built here; says why not.
pub(crate) fn possible() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: native sandboxes are tested as root only");
    }
    root
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) status: ExitStatus,
}

/// A sandbox that is gone when this is dropped, with everything of it.
pub(crate) struct Room {
    sandbox: Option<Sandbox>,
    next_channel: u16,
}

/// A small profile of a name nobody else has.
pub(crate) fn profile() -> NativeProfile {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    NativeProfile {
        id: format!("{process}-{number}"),
        cgroup_parent: PARENT.to_owned(),
        rootfs: Rootfs::Host,
        overlay: None,
        hostname: "room".to_owned(),
        memory: 256 * MB,
        cpu: 1.0,
        pids: 100,
        tmp_size: 50 * MB,
        disk_size: 8 * MB,
        // No two tests of this process share them, and hardly ever two processes.
        ids: IdRange {
            start: 0x7000_0000 + (process.wrapping_mul(61).wrapping_add(number) % 4096) * 0x1_0000,
            count: 0x1_0000,
        },
        nat: None,
    }
}

/// The program `init`, made once: while it is written, no fork of another test may hold it open.
pub(crate) fn image() -> &'static InitImage {
    static IMAGE: OnceLock<InitImage> = OnceLock::new();
    IMAGE.get_or_init(|| InitImage::make().expect("memory for init"))
}

/// Builds a sandbox as the caller would have it.
pub(crate) fn build(profile: &NativeProfile) -> Result<Sandbox, BuildError> {
    let disk = (profile.disk_size > native::MAX_IN_MEMORY).then(|| {
        let path = disks_of(profile);
        fs::create_dir(&path).expect("root may");
        let directory = fs::File::open(&path).expect("a directory");
        let made = DiskTemplate::make(directory.into(), profile.disk_size);
        made.expect("a template")
    });
    let built = native::build(profile, Supplies { init: image(), disk: disk.as_ref() }, PATIENCE);
    if disk.is_some() {
        // It is empty: the files in it have no names.
        fs::remove_dir(disks_of(profile)).expect("it is empty");
    }
    built
}

/// Where the writable layer of a sandbox with a profile is, as long as it is being built.
pub(crate) fn disks_of(profile: &NativeProfile) -> PathBuf {
    std::env::temp_dir().join(format!("disks-{}", profile.id))
}

impl Room {
    pub(crate) fn new() -> Self {
        Self::of(&profile())
    }

    pub(crate) fn of(profile: &NativeProfile) -> Self {
        Self::with(build(profile).unwrap_or_else(|error| panic!("{error}")))
    }

    pub(crate) fn with(sandbox: Sandbox) -> Self {
        Self { sandbox: Some(sandbox), next_channel: 0 }
    }

    pub(crate) fn sandbox(&mut self) -> &mut Sandbox {
        self.sandbox.as_mut().expect("it was not taken")
    }

    pub(crate) fn take(mut self) -> Sandbox {
        self.sandbox.take().expect("it was not taken")
    }

    /// Starts a program and gives its channel.
    pub(crate) fn start(&mut self, argv: &[&str], stdio: Stdio<'_>) -> u16 {
        let channel = self.next_channel;
        self.next_channel += 1;
        let argv: Vec<_> = argv.iter().map(|argument| (*argument).to_owned()).collect();
        let env = ["HOME=/root", "TERM=xterm", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
        let command = Command { cwd: "/root", argv: &argv, env: &env.map(str::to_owned) };
        self.sandbox().link().start(channel, &command, stdio).expect("it can be asked for");
        channel
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> InitEvent {
        let until = Instant::now() + PATIENCE;
        loop {
            let link = self.sandbox().link();
            if let Some(event) = link.recv().expect("init keeps to its protocol") {
                return event;
            }
            wait_for(link.as_fd(), until);
        }
    }

    /// Runs a shell script without a terminal, to its end.
    pub(crate) fn sh(&mut self, script: &str) -> Outcome {
        self.run(&["sh", "-c", script])
    }

    pub(crate) fn run(&mut self, argv: &[&str]) -> Outcome {
        let null = fs::File::open("/dev/null").expect("it is there");
        let (mut out, out_inside) = std::io::pipe().expect("a pipe");
        let (mut err, err_inside) = std::io::pipe().expect("a pipe");
        let stdio = [null.as_fd(), out_inside.as_fd(), err_inside.as_fd()];
        let channel = self.start(argv, Stdio::Pipes(stdio));
        drop((out_inside, err_inside));
        assert_eq!(self.event(), InitEvent::Started { channel });
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).expect("a pipe can be read");
            text
        });
        let mut out_bytes = Vec::new();
        out.read_to_end(&mut out_bytes).expect("a pipe can be read");
        let InitEvent::Exited { channel: ended, status } = self.event() else {
            panic!("neither ended nor running");
        };
        assert_eq!(ended, channel);
        let err = errors.join().expect("it reads");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Outcome { out: text(out_bytes), err: text(err), status }
    }

    /// Starts a program on a new terminal.
    pub(crate) fn on_terminal(&mut self, argv: &[&str], modes: &[(u8, u32)]) -> (u16, Terminal) {
        let size = WindowSize { cols: 100, rows: 40, width: 0, height: 0 };
        let Pty { master, slave } = self.sandbox().open_pty(size, modes).expect("a terminal");
        let channel = self.start(argv, Stdio::Terminal(slave.as_fd()));
        drop(slave);
        assert_eq!(self.event(), InitEvent::Started { channel });
        (channel, Terminal { master, seen: String::new() })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            end(sandbox);
        }
    }
}

/// Kills a sandbox and waits until nothing of it is left.
pub(crate) fn end(mut sandbox: Sandbox) {
    sandbox.kill();
    eventually("the sandbox is empty", || sandbox.is_empty());
    sandbox.release().expect("nothing holds it");
}

/// The near end of a terminal.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    seen: String,
}

impl Terminal {
    pub(crate) fn write(&self, text: &str) {
        rustix::io::write(&self.master, text.as_bytes()).expect("a short line fits");
    }

    /// Reads until `text` was printed, and gives everything up to there.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let mut buffer = [0; 4096];
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(length) => self.seen += &String::from_utf8_lossy(&buffer[..length]),
                Err(rustix::io::Errno::AGAIN) if Instant::now() < until => {
                    poll(self.master.as_fd(), until);
                }
                Err(error) => panic!("{error} instead of {text:?} after {:?}", self.seen),
            }
        }
    }
}

/// Waits for `fd`; fails the test when that takes too long.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, until: Instant) {
    assert!(poll(fd, until), "nothing came");
}

fn poll(fd: BorrowedFd<'_>, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).expect("a minute at most");
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    rustix::event::poll(&mut polled, Some(&left)).is_ok_and(|ready| ready > 0)
}

/// Waits until something is so; fails the test when that takes too long.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A file of the host that is gone when this is dropped.
pub(crate) struct Planted(PathBuf);

impl Planted {
    pub(crate) fn new(directory: &str, mode: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = PathBuf::from(directory).join(format!("planted-{}", std::process::id()));
        fs::write(&path, "secret\n").expect("root may");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("root may");
        Self(path)
    }

    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("it was planted");
    }
}
