//! A runner and a gateway for a test: real zygote, real shim, real sandbox.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::process::WaitOptions;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::wire::MAX_MESSAGE;
use sojourn_core::wire::MAX_PAYLOAD;
use sojourn_core::wire::runner::About;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::ChannelSpec;
use sojourn_core::wire::shim::EndRequest;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::INPUT_WINDOW;
use sojourn_core::wire::shim::LeaseState;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::ShimHello;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::Summary;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::VERSION;
use sojourn_core::wire::shim::WindowSize;
use sojourn_core::wire::shim::cost;
use sojourn_shim::control;
use sojourn_shim::control::Assign;
use sojourn_shim::control::AssignFds;
use sojourn_shim::control::Blueprint;
use sojourn_shim::control::InputPolicy;
use sojourn_shim::control::OnFailure;
use sojourn_shim::control::Order;
use sojourn_shim::control::RecordingPolicy;
use sojourn_shim::control::Report;
use sojourn_shim::native::NativeProfile;
use sojourn_shim::seqpacket;
use sojourn_shim::state::Process;
use sojourn_shim::state::State;
use sojourn_shim::zygote;
use sojourn_shim::zygote::FromZygote;
use sojourn_shim::zygote::RunnerEnd;
use sojourn_shim::zygote::RunnerSeed;

use crate::native_room::PATIENCE;
use crate::native_room::eventually;
use crate::native_room::possible;
use crate::native_room::profile;

/// The cgroup of all sandboxes of these tests; others clean up theirs.
pub(crate) const PARENT: &str = "sojourn-shim-test";

/// Runs a test as what it needs to be: a runner, forked by a zygote. The test's own process has
/// threads, so all of it happens in a child.
pub(crate) fn as_runner(test: impl Fn(RunnerEnd)) {
    if possible() {
        let status = in_child(|| serve(&test));
        assert_eq!(status, 0, "it failed in its own process; see above");
    }
}

fn serve(test: &dyn Fn(RunnerEnd)) -> i32 {
    let runner = |seed: RunnerSeed| {
        test(seed.zygote);
        0
    };
    let end = zygote::split(&zygote::Plan {
        runner: &runner,
        keeper: &|_| 0,
        unpacker: &|_| 0,
        keep: &[],
    })
    .expect("no thread here");
    end.start_runner().expect("the zygote lives");
    let mut held = None;
    loop {
        assert!(seqpacket::wait(&end, PATIENCE * 2).expect("it can be waited for"), "no end");
        match end.next().expect("it speaks") {
            Some(FromZygote::RunnerBorn { socket, .. }) => held = Some(socket),
            Some(FromZygote::RunnerGone { status, .. }) => {
                drop(held);
                return i32::from(status != 0);
            }
            None => return 2,
        }
    }
}

/// Runs `body` in a forked child, whose panics are seen, and gives its exit status.
#[expect(unsafe_code, reason = "a process with one thread is made by fork")]
pub(crate) fn in_child(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child makes no use of locks that other threads of this process may hold but the
    // allocator's, which the C library takes care of.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    let Some(pid) = rustix::process::Pid::from_raw(pid) else {
        std::panic::set_hook(Box::new(|panic| {
            // Past the test harness, which would keep it for a test of this process.
            let line = format!("{panic}\n");
            let _written = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
        }));
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
        // SAFETY: ends this process.
        unsafe { libc::_exit(status) }
    };
    let ended = rustix::process::waitpid(Some(pid), WaitOptions::empty()).expect("it is ours");
    ended.and_then(|(_, status)| status.exit_status()).unwrap_or(-1)
}

/// A shim whose sandbox waits.
pub(crate) struct Shim {
    pub(crate) control: OwnedFd,
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) init: Process,
    pub(crate) sandbox: String,
}

impl Shim {
    pub(crate) fn make(zygote: &RunnerEnd) -> Self {
        let profile = NativeProfile { cgroup_parent: PARENT.to_owned(), ..profile() };
        Self::of(zygote, profile).unwrap_or_else(|report| panic!("{report:?}"))
    }

    pub(crate) fn of(zygote: &RunnerEnd, profile: NativeProfile) -> Result<Self, Report> {
        let (control, theirs) = seqpacket::pair().expect("a pair");
        zygote.fork_shim(theirs.as_fd()).expect("the zygote listens");
        drop(theirs);
        let born = zygote.born().expect("a shim");
        let sandbox = profile.id.clone();
        let order =
            Order::Make { blueprint: Box::new(Blueprint::Native(profile)), timeout: PATIENCE };
        control::send(&control, &order, &[]).expect("it listens");
        match report(&control) {
            Report::Ready { init } => {
                let pid = rustix::process::Pid::from_raw(init.cast_signed()).expect("a pid");
                let init = Process::of(pid).expect("it lives");
                Ok(Self { control, pid: born.pid, pidfd: born.pidfd, init, sandbox })
            }
            failed => Err(failed),
        }
    }

    /// Waits until the shim has left, and nothing of its sandbox is there.
    pub(crate) fn is_gone(&self) {
        assert!(seqpacket::wait(&self.pidfd, PATIENCE).expect("it is held"), "the shim stays");
        eventually("process 1 is gone", || !self.init.is_alive());
        let group = format!("{PARENT}/{}", self.sandbox);
        for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            let left = hierarchy.path().join(&group);
            assert!(!left.exists(), "{} is left", left.display());
        }
    }
}

pub(crate) fn report(control: &OwnedFd) -> Report {
    assert!(seqpacket::wait(control, PATIENCE).expect("it can be waited for"), "no report");
    control::recv(control).expect("a message").expect("the shim lives").0
}

/// The directories of one session.
pub(crate) struct House {
    pub(crate) root: PathBuf,
    pub(crate) session: SessionId,
    pub(crate) assign: Assign,
}

impl House {
    pub(crate) fn new() -> Self {
        let session = SessionId::new();
        let root = std::env::temp_dir().join(format!("house-{session}"));
        fs::create_dir_all(root.join("session")).expect("root may");
        fs::create_dir_all(root.join("day")).expect("root may");
        let assign = Assign {
            session,
            honeypot: false,
            profile: "default".to_owned(),
            about: About { user: "alice".to_owned(), door: "ssh".to_owned(), ..About::default() },
            // A test that was cut short leaves its session to its own lease.
            limits: Limits {
                max_runtime: Some(Duration::from_secs(120)),
                grace: Duration::from_millis(700),
                ..Limits::default()
            },
            recording: RecordingPolicy {
                input: InputPolicy::Masked,
                exec_bytes: 1 << 20,
                on_failure: OnFailure::End,
            },
            day: "2026/11/22".to_owned(),
            command: vec!["/bin/bash".into(), "--norc".into()],
            env: vec![("PS1".into(), "$ ".into())],
            account: control::Account::default(),
        };
        Self { root, session, assign }
    }

    /// Gives the session to a shim and attaches.
    pub(crate) fn open(&self, shim: &Shim) -> Gateway {
        self.give(shim);
        assert_eq!(report(&shim.control), Report::Assigned);
        self.attach()
    }

    pub(crate) fn give(&self, shim: &Shim) {
        let directory = |name| fs::File::open(self.root.join(name)).expect("a directory").into();
        let kind = SocketType::SEQPACKET;
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
                .expect("a socket");
        rustix::net::bind(&listener, &self.address()).expect("a name");
        rustix::net::listen(&listener, 4).expect("a listener");
        let (session, day) = (directory("session"), directory("day"));
        let fds = AssignFds { session, day, listener, comeback: None };
        let order = Order::Assign(Box::new(self.assign.clone()));
        control::send(&shim.control, &order, &fds.parts()).expect("it listens");
    }

    fn address(&self) -> SocketAddrUnix {
        let path = self.root.join("session").join("socket");
        SocketAddrUnix::new(path).expect("short enough")
    }

    pub(crate) fn attach(&self) -> Gateway {
        let kind = SocketType::SEQPACKET;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
                .expect("a socket");
        rustix::net::connect(&socket, &self.address()).expect("the shim listens");
        let mut gateway = Gateway {
            socket,
            hello: None,
            seen: Seen::default(),
            grants: true,
            silent: Vec::new(),
            spent: HashMap::new(),
        };
        gateway.say(&ToShim::Hello { version: VERSION });
        gateway.until("its hello", |_| true);
        gateway
    }

    pub(crate) fn state(&self) -> State {
        let dir = fs::File::open(self.root.join("session")).expect("it is there");
        State::read(dir.as_fd()).expect("a state")
    }

    pub(crate) fn recording(&self, channel: u16) -> Vec<u8> {
        let name = match channel {
            0 => format!("{}.cast", self.session),
            n => format!("{}.{n}.cast", self.session),
        };
        fs::read(self.root.join("day").join(name)).expect("a recording")
    }

    pub(crate) fn sidecar(&self) -> sojourn_term::sidecar::Sidecar {
        let path = self.root.join("day").join(format!("{}.json", self.session));
        let bytes = fs::read(path).expect("a sidecar");
        sojourn_term::sidecar::Sidecar::from_json(&bytes).expect("a whole one")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).expect("ours");
    }
}

/// What a gateway has been told.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) out: HashMap<u16, Vec<u8>>,
    pub(crate) err: HashMap<u16, Vec<u8>>,
    pub(crate) exits: HashMap<u16, Exit>,
    pub(crate) started: Vec<u16>,
    pub(crate) failed: HashMap<u16, String>,
    pub(crate) ends: Vec<(u16, Stream)>,
    pub(crate) input_closed: Vec<u16>,
    pub(crate) input_credit: HashMap<u16, u32>,
    pub(crate) warned: Vec<(Limit, Duration)>,
    pub(crate) expired: Option<(EndReason, u64, u64)>,
    pub(crate) lease: Option<LeaseState>,
    /// What listeners were answered: their port, or why not.
    pub(crate) listening: HashMap<u16, Result<u16, String>>,
    /// What attaching was answered; none where there is no terminal.
    pub(crate) attached: HashMap<u16, Option<Attached>>,
    pub(crate) ended: Option<Summary>,
    pub(crate) closed: bool,
}

impl Seen {
    /// What there was, for a test that fails: of output only the end.
    fn brief(&self) -> String {
        let channels: Vec<_> = self.out.keys().copied().collect();
        let ends = channels.iter().map(|channel| {
            let text = self.text(*channel);
            let from = text.floor_char_boundary(text.len().saturating_sub(500));
            format!("{channel}: {} bytes, {:?}", text.len(), &text[from..])
        });
        let ends: Vec<_> = ends.collect();
        let Self { exits, failed, expired, closed, .. } = self;
        format!("closed {closed}, {exits:?}, {failed:?}, {expired:?}, {ends:?}")
    }

    pub(crate) fn text(&self, channel: u16) -> String {
        String::from_utf8_lossy(self.out.get(&channel).map_or(&[], Vec::as_slice)).into_owned()
    }

    pub(crate) fn errors(&self, channel: u16) -> String {
        String::from_utf8_lossy(self.err.get(&channel).map_or(&[], Vec::as_slice)).into_owned()
    }
}

/// A gateway, as the shim sees one.
pub(crate) struct Gateway {
    pub(crate) socket: OwnedFd,
    pub(crate) hello: Option<ShimHello>,
    pub(crate) seen: Seen,
    /// Whether credit for output is given back at once.
    pub(crate) grants: bool,
    /// Channels whose output is counted and thrown away.
    pub(crate) silent: Vec<u16>,
    /// Credit for input that was spent.
    spent: HashMap<u16, u32>,
}

impl Gateway {
    pub(crate) fn say(&self, frame: &ToShim<'_>) {
        let mut buf = Vec::new();
        frame.encode(&mut buf);
        // A shim that leaves hears no more; what it had to say is still read.
        match seqpacket::send(&self.socket, &buf, &[]) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            sent => sent.expect("the shim listens"),
        }
    }

    pub(crate) fn start(&self, channel: u16, program: Program, pty: bool, credit: u32) {
        let size = WindowSize { cols: 80, rows: 24, width: 0, height: 0 };
        let pty = pty.then(|| Pty { term: "xterm".into(), size, modes: Vec::new() });
        let spec = ChannelSpec { program, pty, env: Vec::new(), credit };
        self.say(&ToShim::Start(channel, Box::new(spec)));
    }

    pub(crate) fn exec(&self, channel: u16, line: &str) {
        self.start(channel, Program::Exec(line.into()), false, OUTPUT_WINDOW);
    }

    /// Starts a shell on a terminal and waits for its prompt.
    pub(crate) fn shell(&mut self, channel: u16) {
        self.start(channel, Program::Shell, true, OUTPUT_WINDOW);
        self.until_text(channel, "$ ");
    }

    pub(crate) fn type_in(&self, channel: u16, text: &str) {
        self.say(&ToShim::Input(channel, text.as_bytes()));
    }

    /// Sends bytes of any number, as the shim takes them.
    pub(crate) fn feed(&mut self, channel: u16, bytes: &[u8]) {
        for chunk in bytes.chunks(MAX_PAYLOAD) {
            let spent = self.spent.get(&channel).copied().unwrap_or(0) + cost(chunk.len());
            self.until("credit for input", |seen| {
                let returned = seen.input_credit.get(&channel).copied().unwrap_or(0);
                spent - returned <= INPUT_WINDOW || seen.exits.contains_key(&channel)
            });
            self.spent.insert(channel, spent);
            self.say(&ToShim::Input(channel, chunk));
        }
    }

    pub(crate) fn end(&self, reason: EndReason) {
        self.say(&ToShim::End(EndRequest { reason }));
    }

    pub(crate) fn until_text(&mut self, channel: u16, text: &str) {
        self.until(text, |seen| seen.text(channel).contains(text));
    }

    pub(crate) fn until_exit(&mut self, channel: u16) -> Exit {
        self.until("an exit", |seen| seen.exits.contains_key(&channel));
        self.seen.exits[&channel].clone()
    }

    pub(crate) fn until_ended(&mut self) -> Summary {
        self.until("the end", |seen| seen.ended.is_some());
        self.seen.ended.clone().expect("just seen")
    }

    /// Takes what the shim sends until something is so.
    pub(crate) fn until(&mut self, what: &str, so: impl Fn(&Seen) -> bool) {
        let until = Instant::now() + PATIENCE;
        while self.hello.is_none() || !so(&self.seen) {
            let left = until.saturating_duration_since(Instant::now());
            let ready = seqpacket::wait(&self.socket, left).expect("it can be waited for");
            assert!(ready && !self.seen.closed, "never came: {what}; {}", self.seen.brief());
            self.take();
        }
    }

    fn take(&mut self) {
        let mut buf = vec![0; MAX_MESSAGE];
        let len = seqpacket::recv(&self.socket, &mut buf).expect("a message").len;
        if len == 0 {
            self.seen.closed = true;
            return;
        }
        let seen = &mut self.seen;
        match FromShim::decode(&buf[..len]).expect("a frame") {
            FromShim::Hello(hello) => self.hello = Some(*hello),
            FromShim::Started(channel) => seen.started.push(channel),
            FromShim::StartFailed(channel, why) => {
                seen.failed.insert(channel, why);
            }
            FromShim::Output(channel, stream, bytes) => {
                let into = if stream == Stream::Out { &mut seen.out } else { &mut seen.err };
                let into = into.entry(channel).or_default();
                if self.silent.contains(&channel) {
                    into.resize(into.len() + bytes.len(), 0);
                } else {
                    into.extend_from_slice(bytes);
                }
                if self.grants {
                    self.say(&ToShim::Credit(channel, cost(bytes.len())));
                }
            }
            FromShim::OutputEof(channel, stream) => seen.ends.push((channel, stream)),
            FromShim::InputCredit(channel, credit) => {
                *seen.input_credit.entry(channel).or_default() += credit;
            }
            FromShim::InputClosed(channel) => seen.input_closed.push(channel),
            FromShim::Exit(channel, exit) => {
                seen.exits.insert(channel, exit);
            }
            FromShim::Warned { limit, left } => seen.warned.push((limit, left)),
            FromShim::Expired { reason, reached, configured } => {
                seen.expired = Some((reason, reached, configured));
            }
            FromShim::Lease(lease) => seen.lease = Some(*lease),
            FromShim::Listening(listener, port) => {
                seen.listening.insert(listener, Ok(port));
            }
            FromShim::ListenFailed(listener, why) => {
                seen.listening.insert(listener, Err(why));
            }
            FromShim::Attached(channel, attached) => {
                // What came before is on record.
                seen.out.remove(&channel);
                seen.attached.insert(channel, Some(*attached));
            }
            FromShim::NotAttached(channel) => {
                seen.attached.insert(channel, None);
            }
            FromShim::Located(channel, place) => {
                seen.attached.insert(channel, place.map(|place| *place));
            }
            FromShim::Ended(summary) => seen.ended = Some(*summary),
        }
    }
}
