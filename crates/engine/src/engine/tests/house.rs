//! An engine to try things with: whatever it talks to is the test.

use sojourn_core::wire::runner::Held;

use super::*;

/// An engine whose runner and shims are the test.
pub(super) struct House {
    pub(super) engine: Engine,
    pub(super) clock: Arc<ManualClock>,
    pub(super) runner: Arc<SeqPacket>,
    pub(super) store: Store,
    pub(super) principal: Principal,
    pub(super) dir: TempDir,
}

/// The other end of a session.
pub(super) struct Shim {
    pub(super) id: SessionId,
    pub(super) link: SeqPacket,
}

pub(super) fn pair() -> (OwnedFd, OwnedFd) {
    let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    rustix::net::socketpair(unix, seqpacket, SocketFlags::CLOEXEC, None).unwrap()
}

/// The runner's end of a new connection.
fn connect(engine: &Engine) -> Arc<SeqPacket> {
    let (ours, theirs) = pair();
    let served = engine.clone();
    tokio::spawn(async move { served.serve_runner(ours).await });
    Arc::new(SeqPacket::new(theirs).unwrap())
}

impl House {
    pub(super) async fn new(max: usize) -> Self {
        Self::with(max, |_| {}).await
    }

    pub(super) async fn with(max: usize, change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let manual = Arc::new(ManualClock::new());
        let clock: Arc<dyn Clock> = manual.clone();
        let options = audit::AuditOptions {
            data_dir: dir.path().to_owned(),
            on_failure: audit::OnFailure::Refuse,
        };
        let (log, writer) = audit::start(&options, store.clone(), clock.clone()).await.unwrap();
        tokio::spawn(writer.run(CancellationToken::new()));
        let accounts = Accounts::new(store.clone(), clock.clone(), dir.path().to_owned());
        let role = sojourn_core::authz::Role::Member;
        accounts.add("alice", role, None, Actor::local(0)).await.unwrap();
        let user = store.user_by_name("alice").await.unwrap().unwrap();
        let policy = ProfilePolicy {
            forward: Vec::new(),
            allow: vec![Allow::Everybody],
            accept_env: Vec::new(),
            require_why: false,
            sandbox: "native".to_owned(),
            limits,
            web_runtime: None,
        };
        let identity = Identity::new(store.clone(), log.clone(), clock.clone());
        let rules = crate::login::Rules::default();
        let logins = Logins::open(
            dir.path(),
            rules,
            store.clone(),
            identity.clone(),
            log.clone(),
            clock.clone(),
        );
        let engine = Engine::new(Parts {
            clock: clock.clone(),
            identity,
            logins: logins.await.unwrap(),
            accounts,
            audit: log.clone(),
            tokens: Tokens::new(store.clone(), log.clone(), clock.clone()),
            records: Records::new(store.clone(), log, clock),
            profiles: Profiles([(DEFAULT.to_owned(), policy)].into()),
            max_sessions: max,
            max_sessions_per_user: max,
            recordings: dir.path().to_owned(),
            build: "test".to_owned(),
        });
        let runner = connect(&engine);
        let principal = Principal {
            id: user.id,
            name: "alice".to_owned(),
            role,
            how: How::Key,
            fingerprint: None,
            epoch: user.epoch,
            login: None,
        };
        let house = Self { engine, clock: manual, runner, store, principal, dir };
        house.greet(Vec::new()).await;
        house
    }

    /// The runner dies, and the next one comes, which holds these.
    pub(super) async fn next_runner(&mut self, held: Vec<Held>) {
        self.runner = connect(&self.engine);
        self.greet(held).await;
    }

    /// Says what a runner says at first.
    async fn greet(&self, held: Vec<Held>) {
        let hello = self.request().await;
        assert!(matches!(hello.body, Request::Hello { .. }));
        let body = Reply::Hello { version: 1, build: "test".to_owned(), epoch: 1, pid: 1 };
        self.reply(hello.id, body, None).await;
        self.list(held).await;
    }

    /// Answers a gateway that takes up this session, as a runner and as its shim.
    pub(super) async fn goes_on(&self, held: Held) -> Shim {
        let id = held.session;
        self.list(vec![held]).await;
        let attach = self.request().await;
        assert!(matches!(attach.body, Request::Attach { session } if session == id));
        let (ours, theirs) = pair();
        self.reply(attach.id, Reply::Attached, Some(theirs)).await;
        let shim = Shim { id, link: SeqPacket::new(ours).unwrap() };
        shim.greet(&[0]).await;
        shim
    }

    /// Says which sessions the runner holds.
    pub(super) async fn list(&self, held: Vec<Held>) {
        let asked = self.request().await;
        assert!(matches!(asked.body, Request::List { after: None }), "{:?}", asked.body);
        self.reply(asked.id, Reply::Sessions { items: held, more: false }, None).await;
    }

    pub(super) async fn request(&self) -> Numbered<Request> {
        let got = self.runner.recv(|bytes, _| decode(bytes).unwrap());
        tokio::time::timeout(PATIENCE, got).await.unwrap().unwrap().unwrap()
    }

    pub(super) async fn reply(&self, id: u64, body: Reply, fd: Option<OwnedFd>) {
        self.say(&FromRunner::Reply(Numbered { id, body }), fd).await;
    }

    pub(super) async fn say(&self, message: &FromRunner, fd: Option<OwnedFd>) {
        let bytes = encode(message).unwrap();
        let Some(fd) = fd else { return self.runner.send(&bytes).await.unwrap() };
        let fds = [fd.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let parts = [std::io::IoSlice::new(&bytes)];
        rustix::net::sendmsg(&*self.runner, &parts, &mut control, SendFlags::empty()).unwrap();
    }

    pub(super) fn stay(&self) -> Stay {
        Stay {
            who: Who::User(self.principal.clone()),
            door: Door::Ssh,
            peer: "192.0.2.7:4242".parse().unwrap(),
            client: "SSH-2.0-Test".to_owned(),
            hassh: None,
            profile: None,
            lower: Lower::default(),
            why: None,
            attempts: Vec::new(),
            connected_at: self.engine.clock().wall(),
            web: None,
            on: None,
        }
    }

    /// Opens a session, the runner doing as it should.
    pub(super) async fn open(&self) -> (Session, Shim) {
        let serve = async {
            let request = self.request().await;
            let Request::Open(open) = request.body else { panic!("not an open") };
            let (ours, theirs) = pair();
            let body = Reply::Opened {
                sandbox: "s0-1".to_owned(),
                warm: true,
                recording: "x.cast".to_owned(),
            };
            self.reply(request.id, body, Some(theirs)).await;
            Shim { id: open.session, link: SeqPacket::new(ours).unwrap() }
        };
        let (session, shim) = tokio::join!(self.engine.open(self.stay()), serve);
        (session.unwrap(), shim)
    }

    /// Answers what the engine asks of its runner at a session's end, until it is forgotten.
    pub(super) async fn see_off(&self) -> Vec<Request> {
        let mut seen = Vec::new();
        loop {
            let Numbered { id, body } = self.request().await;
            self.reply(id, Reply::Done, None).await;
            seen.push(body.clone());
            if let Request::Kill { session } = body {
                let event = RunnerEvent::Released { session, summary: None };
                self.say(&FromRunner::Event { event }, None).await;
            }
            if matches!(body, Request::Forget { .. }) {
                return seen;
            }
        }
    }

    pub(super) async fn kept(&self, id: SessionId) -> sojourn_store::Session {
        self.store.session(id).await.unwrap().unwrap()
    }
}

impl Shim {
    pub(super) async fn say(&self, frame: &FromShim<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.link.send(&bytes).await.unwrap();
    }

    /// The next frame but queries, which are answered by nobody here.
    pub(super) async fn hear_kind(&self, wanted: u8) -> Vec<u8> {
        loop {
            let got = self.link.recv(|bytes, _| bytes.to_vec());
            let got = tokio::time::timeout(PATIENCE, got).await.unwrap().unwrap().unwrap();
            if got[0] == wanted {
                return got;
            }
        }
    }

    /// What it says first.
    pub(super) async fn greet(&self, terminals: &[u16]) {
        let lease = LeaseState {
            limits: Limits::default(),
            remaining: None,
            idle_remaining: None,
            idle: Duration::ZERO,
            output_bytes: 0,
        };
        self.say(&FromShim::Hello(Box::new(ShimHello {
            version: 1,
            session: self.id,
            channels: terminals.to_vec(),
            terminals: terminals.to_vec(),
            next_channel: terminals.iter().max().map_or(0, |last| last + 1),
            lease: (!terminals.is_empty()).then_some(lease),
            ending: None,
        })))
        .await;
    }

    /// Starts a terminal, as a shim does.
    pub(super) async fn terminal(&self, session: &Session, number: u16) -> Channel {
        let serve = async {
            self.hear_kind(0x02).await;
            self.say(&FromShim::Started(number)).await;
        };
        let (channel, ()) = tokio::join!(session.start(shell()), serve);
        channel.unwrap()
    }

    /// Gives a terminal to somebody who comes back.
    pub(super) async fn attach(&self, session: &Session, number: u16) -> Channel {
        let serve = async {
            assert_eq!(self.hear_kind(0x0e).await[1..3], number.to_be_bytes());
            self.say(&FromShim::Output(number, Stream::Out, b"of before")).await;
            let size = WindowSize { cols: 80, rows: 24, width: 0, height: 0 };
            let attached = Attached { file: String::new(), offset: 0, size, printed: 0 };
            self.say(&FromShim::Attached(number, Box::new(attached))).await;
            self.say(&FromShim::InputCredit(number, 1000)).await;
            self.say(&FromShim::Output(number, Stream::Out, b"new")).await;
        };
        let (channel, ()) = tokio::join!(session.start(shell()), serve);
        channel.unwrap()
    }

    /// The kind of the next frame.
    pub(super) async fn hear(&self) -> u8 {
        let got = self.link.recv(|bytes, _| {
            ToShim::decode(bytes).unwrap();
            bytes[0]
        });
        tokio::time::timeout(PATIENCE, got).await.unwrap().unwrap().unwrap()
    }

    /// Starts a channel, as a shim does.
    pub(super) async fn start(&self, session: &Session, number: u16) -> Channel {
        let request = ChannelRequest::new(Program::Shell);
        let serve = async {
            while self.hear().await != 0x02 {}
            self.say(&FromShim::Started(number)).await;
        };
        let (channel, ()) = tokio::join!(session.start(request), serve);
        channel.unwrap()
    }

    pub(super) fn summary(&self, reason: EndReason) -> Summary {
        Summary {
            session: self.id,
            reason,
            exit: Some(Exit::Code(7)),
            output_bytes: 3,
            started_at: None,
            ended_at: sojourn_core::time::Wall(5),
            recordings: Vec::new(),
            reached: None,
        }
    }
}

fn shell() -> ChannelRequest {
    let size = WindowSize { cols: 80, rows: 24, width: 0, height: 0 };
    let pty = Pty { term: "xterm".into(), size, modes: Vec::new() };
    ChannelRequest { program: Program::Shell, pty: Some(pty), env: Vec::new(), own_env: Vec::new() }
}

/// The next thing out of a channel that is no notice.
pub(super) async fn next(channel: &mut Channel) -> ChannelEvent {
    loop {
        let event = tokio::time::timeout(PATIENCE, channel.output.next()).await.unwrap().unwrap();
        if !matches!(event, ChannelEvent::Notice(_)) {
            return event;
        }
    }
}

pub(super) fn printed(bytes: &'static [u8]) -> ChannelEvent {
    ChannelEvent::Output(Stream::Out, bytes::Bytes::from_static(bytes))
}
