//! Sessions in motion, with a runner and shims that are the test.

mod standing;

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use sojourn_core::authz::Allow;
use sojourn_core::authz::Asker;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::extension::NoExtension;
use sojourn_core::limits::Limits;
use sojourn_core::limits::Lower;
use sojourn_core::wire::runner::Attempt;
use sojourn_core::wire::runner::FromRunner;
use sojourn_core::wire::runner::MAX_ATTEMPTS;
use sojourn_core::wire::runner::Numbered;
use sojourn_core::wire::runner::Stage;
use sojourn_core::wire::runner::decode;
use sojourn_core::wire::runner::encode;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::FRAME_COST;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::LeaseState;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::ShimHello;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;
use sojourn_store::Store;
use tempfile::TempDir;

use super::*;
use crate::audit;
use crate::channel::Channel;
use crate::clock::ManualClock;
use crate::door::ChannelEvent;
use crate::door::ChannelRequest;
use crate::door::Cut;
use crate::door::Detached;
use crate::door::Door;
use crate::door::Refusal;
use crate::door::Stay;
use crate::extend::ExtendError;
use crate::extend::Extension;
use crate::honeypot::Pot;
use crate::honeypot::Visitor;
use crate::identity::Accounts;
use crate::identity::How;
use crate::profiles::ProfilePolicy;
use crate::seqpacket::SeqPacket;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An engine whose runner and shims are the test.
struct House {
    engine: Engine,
    clock: Arc<ManualClock>,
    runner: Arc<SeqPacket>,
    store: Store,
    principal: Principal,
    _dir: TempDir,
}

/// The other end of a session.
struct Shim {
    id: SessionId,
    link: SeqPacket,
}

fn pair() -> (OwnedFd, OwnedFd) {
    let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    rustix::net::socketpair(unix, seqpacket, SocketFlags::CLOEXEC, None).unwrap()
}

impl House {
    async fn new(max: usize) -> Self {
        Self::with(max, |_| {}).await
    }

    async fn with(max: usize, change: impl FnOnce(&mut Limits)) -> Self {
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
        let (ours, theirs) = pair();
        let served = engine.clone();
        tokio::spawn(async move { served.serve_runner(ours).await });
        let runner = Arc::new(SeqPacket::new(theirs).unwrap());
        let principal = Principal {
            id: user.id,
            name: "alice".to_owned(),
            role,
            how: How::Key,
            fingerprint: None,
            epoch: user.epoch,
            login: None,
        };
        let house = Self { engine, clock: manual, runner, store, principal, _dir: dir };
        let hello = house.request().await;
        assert!(matches!(hello.body, Request::Hello { .. }));
        let body = Reply::Hello { version: 1, build: "test".to_owned(), epoch: 1, pid: 1 };
        house.reply(hello.id, body, None).await;
        let caught_up = house.request().await;
        assert!(matches!(caught_up.body, Request::List { after: None }));
        house.reply(caught_up.id, Reply::Sessions { items: Vec::new(), more: false }, None).await;
        house
    }

    async fn request(&self) -> Numbered<Request> {
        let got = self.runner.recv(|bytes, _| decode(bytes).unwrap());
        tokio::time::timeout(PATIENCE, got).await.unwrap().unwrap().unwrap()
    }

    async fn reply(&self, id: u64, body: Reply, fd: Option<OwnedFd>) {
        self.say(&FromRunner::Reply(Numbered { id, body }), fd).await;
    }

    async fn say(&self, message: &FromRunner, fd: Option<OwnedFd>) {
        let bytes = encode(message).unwrap();
        let Some(fd) = fd else { return self.runner.send(&bytes).await.unwrap() };
        let fds = [fd.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let parts = [std::io::IoSlice::new(&bytes)];
        rustix::net::sendmsg(&*self.runner, &parts, &mut control, SendFlags::empty()).unwrap();
    }

    fn stay(&self) -> Stay {
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
        }
    }

    /// Opens a session, the runner doing as it should.
    async fn open(&self) -> (Session, Shim) {
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
    async fn see_off(&self) -> Vec<Request> {
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

    async fn kept(&self, id: SessionId) -> sojourn_store::Session {
        self.store.session(id).await.unwrap().unwrap()
    }
}

impl Shim {
    async fn say(&self, frame: &FromShim<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.link.send(&bytes).await.unwrap();
    }

    /// The next frame but queries, which are answered by nobody here.
    async fn hear_kind(&self, wanted: u8) -> Vec<u8> {
        loop {
            let got = self.link.recv(|bytes, _| bytes.to_vec());
            let got = tokio::time::timeout(PATIENCE, got).await.unwrap().unwrap().unwrap();
            if got[0] == wanted {
                return got;
            }
        }
    }

    /// What it says first.
    async fn greet(&self, terminals: &[u16]) {
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
    async fn terminal(&self, session: &Session, number: u16) -> Channel {
        let serve = async {
            self.hear_kind(0x02).await;
            self.say(&FromShim::Started(number)).await;
        };
        let (channel, ()) = tokio::join!(session.start(shell()), serve);
        channel.unwrap()
    }

    /// Gives a terminal to somebody who comes back.
    async fn attach(&self, session: &Session, number: u16) -> Channel {
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
    async fn hear(&self) -> u8 {
        let got = self.link.recv(|bytes, _| {
            ToShim::decode(bytes).unwrap();
            bytes[0]
        });
        tokio::time::timeout(PATIENCE, got).await.unwrap().unwrap().unwrap()
    }

    /// Starts a channel, as a shim does.
    async fn start(&self, session: &Session, number: u16) -> Channel {
        let request = ChannelRequest::new(Program::Shell);
        let serve = async {
            while self.hear().await != 0x02 {}
            self.say(&FromShim::Started(number)).await;
        };
        let (channel, ()) = tokio::join!(session.start(request), serve);
        channel.unwrap()
    }

    fn summary(&self, reason: EndReason) -> Summary {
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
async fn next(channel: &mut Channel) -> ChannelEvent {
    loop {
        let event = tokio::time::timeout(PATIENCE, channel.output.next()).await.unwrap().unwrap();
        if !matches!(event, ChannelEvent::Notice(_)) {
            return event;
        }
    }
}

fn printed(bytes: &'static [u8]) -> ChannelEvent {
    ChannelEvent::Output(Stream::Out, bytes::Bytes::from_static(bytes))
}

#[tokio::test]
async fn a_visitor_is_nobody_and_passwords_stay_at_the_honeypot() {
    let house = House::new(10).await;
    let pot = Pot::new(1);
    let tried = Attempt { password: Some("toor".to_owned()), ..Attempt::default() };
    let stay = || Stay { attempts: vec![tried.clone(); 2 * MAX_ATTEMPTS], ..house.stay() };
    let visitor = Visitor { name: "root".to_owned(), pot: pot.clone() };
    let visit = Stay { who: Who::Visitor(visitor), ..stay() };
    let asked = async |stay: &Stay| {
        let serve = async {
            let request = house.request().await;
            let Request::Open(open) = request.body else { panic!("not an open") };
            let answer = Reply::Failed { stage: Stage::Container, message: "no".to_owned() };
            house.reply(request.id, answer, None).await;
            open
        };
        let (session, open) = tokio::join!(house.engine.open(stay.clone()), serve);
        assert!(matches!(session.unwrap_err(), Refusal::Sandbox { .. }));
        open
    };
    // Twice: the place in the pot comes back.
    for _ in 0..2 {
        let open = asked(&visit).await;
        assert!(open.honeypot && open.about.user.is_empty());
        assert_eq!(open.about.attempts.len(), MAX_ATTEMPTS);
        assert!(open.about.attempts.iter().all(|attempt| attempt.password.is_some()));
    }
    let place = pot.take().unwrap();
    let full = house.engine.open(visit).await.unwrap_err();
    assert_eq!(full.code(), "max_sessions");
    drop(place);
    let open = asked(&stay()).await;
    assert!(!open.honeypot && open.about.user == "alice");
    assert!(open.about.attempts.iter().all(|attempt| attempt.password.is_none()));
}

#[tokio::test]
async fn bytes_pass_and_the_end_is_on_record() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    let mut channel = shim.start(&session, 0).await;
    assert_eq!(house.kept(shim.id).await.status.name(), "running", "on record before it is used");
    shim.say(&FromShim::Output(0, Stream::Err, b"abc")).await;
    shim.say(&FromShim::Exit(0, Exit::Code(7))).await;
    let bytes = bytes::Bytes::from_static(b"abc");
    assert_eq!(channel.output.next().await, Some(ChannelEvent::Output(Stream::Err, bytes)));
    assert_eq!(channel.output.next().await, Some(ChannelEvent::Exit(Exit::Code(7))));
    assert_eq!(channel.output.next().await, None);
    session.connection_gone().await;
    shim.say(&FromShim::Ended(Box::new(shim.summary(EndReason::Exited)))).await;
    house.see_off().await;
    let end = house.kept(shim.id).await.end.unwrap();
    assert_eq!((end.reason, end.exit), (EndReason::Exited, Some(Exit::Code(7))));
    session.over().await;
    assert!(house.engine.live().is_empty());
}

#[tokio::test]
async fn a_limit_is_told_to_whoever_holds_the_session() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    let mut channel = shim.start(&session, 0).await;
    let left = Duration::from_secs(60);
    shim.say(&FromShim::Warned { limit: Limit::MaxRuntime, left }).await;
    let warned = channel.output.next().await;
    assert_eq!(warned, Some(ChannelEvent::Notice("Session ends in 60 s".to_owned())));
    let (reason, reached) = (EndReason::IdleTimeout, 1800);
    shim.say(&FromShim::Expired { reason, reached, configured: 1800 }).await;
    let cut = tokio::time::timeout(PATIENCE, session.cut()).await.unwrap();
    let message = "Session idle timeout (30 min) - connection closed".to_owned();
    assert_eq!(cut, Cut { message, status: 124 });
}

#[tokio::test]
async fn a_shim_that_spends_more_than_its_credit_is_killed() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    let _channel = shim.start(&session, 0).await;
    // Nobody takes what comes, and it sends on.
    let flood = async {
        for _ in 0..=OUTPUT_WINDOW / FRAME_COST + 100 {
            let mut bytes = Vec::new();
            FromShim::Output(0, Stream::Out, b"").encode(&mut bytes);
            if shim.link.send(&bytes).await.is_err() {
                return;
            }
        }
        std::future::pending().await
    };
    let seen = tokio::select! {
        seen = house.see_off() => seen,
        () = flood => house.see_off().await,
    };
    assert!(matches!(seen[0], Request::Kill { session } if session == shim.id), "{seen:?}");
}

#[tokio::test]
async fn a_lost_shim_is_asked_after_and_its_channels_are_told() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    let _channel = shim.start(&session, 0).await;
    let id = shim.id;
    let summary = shim.summary(EndReason::MaxRuntime);
    drop(shim);
    let cut = tokio::time::timeout(PATIENCE, session.cut()).await.unwrap();
    assert_eq!((cut.message.as_str(), cut.status), ("Session ended: its sandbox was lost", 143));
    let Numbered { id: number, body } = house.request().await;
    assert_eq!(body, Request::Kill { session: id });
    house.reply(number, Reply::Done, None).await;
    // The runner knows better than "lost" what became of it.
    let event = RunnerEvent::Released { session: id, summary: Some(summary) };
    house.say(&FromRunner::Event { event }, None).await;
    house.see_off().await;
    assert_eq!(house.kept(id).await.end.unwrap().reason, EndReason::MaxRuntime);
}

#[tokio::test]
async fn a_full_gateway_refuses_until_somebody_has_left() {
    let house = House::new(1).await;
    let (session, shim) = house.open().await;
    let refused = house.engine.open(house.stay()).await.unwrap_err();
    assert_eq!(refused, Refusal::GatewayFull { active: 1, max: 1, detached: Detached::default() });
    session.connection_gone().await;
    shim.say(&FromShim::Ended(Box::new(shim.summary(EndReason::Closed)))).await;
    house.see_off().await;
    session.over().await;
    let (_again, _shim) = house.open().await;
}

#[tokio::test]
async fn a_sandbox_that_failed_names_its_stage() {
    let house = House::new(1).await;
    let fail = async {
        let request = house.request().await;
        let body = Reply::Failed { stage: Stage::RootFs, message: "no space".to_owned() };
        house.reply(request.id, body, None).await;
    };
    let (refused, ()) = tokio::join!(house.engine.open(house.stay()), fail);
    let line = refused.unwrap_err().to_string();
    assert_eq!(line, "no sandbox could be had (stage: root file system): no space");
    let (_session, _shim) = house.open().await;
}

#[tokio::test]
async fn a_terminal_waits_for_its_person_and_an_exec_does_not() {
    let house = House::new(1).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let terminal = shim.terminal(&session, 0).await;
    let _exec = shim.start(&session, 1).await;
    session.connection_gone().await;
    assert_eq!(shim.hear_kind(0x0f).await[1..3], [0, 0], "detached");
    assert_eq!(shim.hear_kind(0x08).await[1..3], [0, 1], "closed");
    assert!(terminal.input.send(b"x").await.is_err(), "it is theirs no more");
    let refused = house.engine.open(house.stay()).await.unwrap_err().to_string();
    let named = format!("Detached: {0}; come back with \"ssh -t alice+@{0}@", shim.id.short());
    assert!(refused.contains(&named), "{refused}");
    let back = house.engine.come_back(&house.stay(), &shim.id.short()).await.unwrap();
    let mut channel = shim.attach(&back, 0).await;
    assert_eq!(next(&mut channel).await, printed(b"new"), "nothing of before");
    channel.input.send(b"typed").await.unwrap();
    assert_eq!(shim.hear_kind(0x03).await[3..], *b"typed");
    shim.say(&FromShim::Exit(1, Exit::Code(0))).await;
    shim.say(&FromShim::Exit(0, Exit::Code(0))).await;
    assert_eq!(next(&mut channel).await, ChannelEvent::Exit(Exit::Code(0)));
    back.connection_gone().await;
    let end = shim.hear_kind(0x0a).await;
    assert!(String::from_utf8_lossy(&end).contains("exited"), "{end:?}");
}

#[tokio::test]
async fn a_second_connection_takes_a_terminal_over() {
    let house = House::new(1).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let mut first = shim.terminal(&session, 0).await;
    let back = house.engine.come_back(&house.stay(), "").await.unwrap();
    let mut second = shim.attach(&back, 0).await;
    let message = "Session taken over by alice from 192.0.2.7".to_owned();
    let taken = ChannelEvent::TakenOver(Cut { message, status: 143 });
    assert_eq!(next(&mut first).await, taken);
    assert_eq!(first.output.next().await, None);
    first.input.close().await;
    assert!(first.input.send(b"late").await.is_err());
    assert_eq!(next(&mut second).await, printed(b"new"));
    second.input.send(b"mine").await.unwrap();
    let heard = shim.link.recv(|bytes, _| bytes.to_vec()).await.unwrap().unwrap();
    assert_eq!(heard[..], *b"\x03\0\0mine", "nothing of the first one's came between");
    session.connection_gone().await;
    shim.say(&FromShim::Output(0, Stream::Out, b"still")).await;
    assert_eq!(next(&mut second).await, printed(b"still"));
}

#[tokio::test]
async fn nobody_back_in_time_ends_it() {
    let house = House::with(4, |limits| limits.detach_grace = Duration::from_millis(20)).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let _terminal = shim.terminal(&session, 0).await;
    session.connection_gone().await;
    shim.hear_kind(0x0f).await;
    let early = tokio::time::timeout(Duration::from_millis(100), shim.hear_kind(0x0a)).await;
    assert!(early.is_err(), "the clock stands still");
    house.clock.advance(Duration::from_millis(20));
    let end = shim.hear_kind(0x0a).await;
    assert!(String::from_utf8_lossy(&end).contains("closed"), "{end:?}");
    let back = house.engine.come_back(&house.stay(), "").await.unwrap_err();
    assert_eq!(back.to_string(), "you have no running session to come back to");
}

#[tokio::test]
async fn without_a_grace_nothing_waits() {
    let house = House::with(4, |limits| limits.detach_grace = Duration::ZERO).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let _terminal = shim.terminal(&session, 0).await;
    session.connection_gone().await;
    let end = shim.hear_kind(0x0a).await;
    assert!(String::from_utf8_lossy(&end).contains("closed"), "{end:?}");
}

#[tokio::test]
async fn a_channel_its_client_closed_does_not_wait() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let terminal = shim.terminal(&session, 0).await;
    terminal.input.close().await;
    shim.hear_kind(0x08).await;
    session.connection_gone().await;
    let end = shim.hear_kind(0x0a).await;
    assert!(String::from_utf8_lossy(&end).contains("closed"), "{end:?}");
}

#[tokio::test]
async fn which_session_is_meant_is_said_clearly() {
    let house = House::new(4).await;
    let (one, a) = house.open().await;
    let (_two, b) = house.open().await;
    let (_not_greeted, _c) = house.open().await;
    a.greet(&[]).await;
    b.greet(&[]).await;
    let _terminal = a.terminal(&one, 0).await;
    one.connection_gone().await;
    a.hear_kind(0x0f).await;
    let (first, second) = (a.id.short(), b.id.short());
    let asked = async |typed: &str| {
        let refused = house.engine.come_back(&house.stay(), typed).await;
        refused.map(|session| session.id()).map_err(|refusal| refusal.to_string())
    };
    let list = format!("{first} (detached), {second}");
    assert_eq!(asked("").await, Err(format!("you have 2 running sessions; name one: {list}")));
    let none = format!("no running session of yours ends in \"zz\\nzz\": {list}");
    assert_eq!(asked("zz\nzz").await, Err(none));
    assert!(asked("1").await.unwrap_err().starts_with("write at least the last 4 characters"));
    assert_eq!(asked(&first[4..]).await, Ok(a.id));
    let mut bob = house.stay();
    let nobody = Principal { id: sojourn_core::ids::UserId::new(), ..house.principal.clone() };
    bob.who = Who::User(nobody);
    let refused = house.engine.come_back(&bob, &first).await.unwrap_err();
    assert_eq!(refused, Refusal::Account, "an account that is none");
}

#[tokio::test]
async fn an_extension_is_on_record_told_and_bounded() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let mut channel = shim.terminal(&session, 0).await;
    let hour = Duration::from_secs(3600);
    let asker = house.principal.asker();
    let extension = |by, asker| Extension {
        by,
        who: EndedBy::new("alice", Some("late")),
        asker,
        actor: Actor::SYSTEM,
    };
    let answer = async |remaining| {
        shim.hear_kind(0x0b).await;
        let lease = LeaseState {
            limits: Limits::default(),
            remaining,
            idle_remaining: None,
            idle: Duration::ZERO,
            output_bytes: 0,
        };
        shim.say(&FromShim::Lease(Box::new(lease))).await;
    };
    let wanted = extension(hour, asker);
    let (refused, ()) = tokio::join!(house.engine.extend(shim.id, &wanted), answer(Some(hour / 2)));
    assert!(matches!(refused, Err(ExtendError::No(_))), "an owner within the policy: {refused:?}");
    let wanted = extension(hour / 2, asker);
    let (extended, ()) =
        tokio::join!(house.engine.extend(shim.id, &wanted), answer(Some(hour / 2)));
    assert_eq!(extended.unwrap().left, hour);
    let moved = shim.hear_kind(0x09).await;
    assert_eq!(ToShim::decode(&moved).unwrap(), ToShim::MoveDeadline(hour));
    let line = "Session extended by alice: ends in 1 h".to_owned();
    let told = tokio::time::timeout(PATIENCE, channel.output.next()).await.unwrap();
    assert_eq!(told, Some(ChannelEvent::Notice(line)));
    let beyond = extension(hour * 24, Asker::Local);
    let (extended, ()) = tokio::join!(house.engine.extend(shim.id, &beyond), answer(Some(hour)));
    assert_eq!(extended.unwrap().left, hour * 25);
    let (refused, ()) = tokio::join!(house.engine.extend(shim.id, &beyond), answer(None));
    assert_eq!(refused, Err(ExtendError::No(NoExtension::NoDeadline)));
    let stranger = Asker::User(UserId::new(), sojourn_core::authz::Role::Member);
    let refused = house.engine.extend(shim.id, &extension(hour, stranger)).await;
    assert_eq!(refused, Err(ExtendError::Unknown), "as if it were not there");
    let auditor = Asker::User(UserId::new(), sojourn_core::authz::Role::Auditor);
    let refused = house.engine.extend(shim.id, &extension(hour, auditor)).await;
    assert_eq!(refused, Err(ExtendError::Forbidden));
    let refused = house.engine.extend(SessionId::new(), &extension(hour, asker)).await;
    assert_eq!(refused, Err(ExtendError::Unknown));
}
