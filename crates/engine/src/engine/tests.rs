//! Sessions in motion, with a runner and shims that are the test.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use sojourn_core::authz::Allow;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::limits::Limits;
use sojourn_core::limits::Lower;
use sojourn_core::wire::runner::FromRunner;
use sojourn_core::wire::runner::Numbered;
use sojourn_core::wire::runner::decode;
use sojourn_core::wire::runner::encode;
use sojourn_core::wire::shim::FRAME_COST;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Stream;
use sojourn_store::Store;
use tempfile::TempDir;

use super::*;
use crate::audit;
use crate::channel::Channel;
use crate::clock::ManualClock;
use crate::door::ChannelEvent;
use crate::door::ChannelRequest;
use crate::door::Cut;
use crate::door::Door;
use crate::identity::Accounts;
use crate::identity::How;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An engine whose runner and shims are the test.
struct House {
    engine: Engine,
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
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
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
            limits: Limits::default(),
        };
        let engine = Engine::new(Parts {
            clock: clock.clone(),
            identity: Identity::new(store.clone(), log.clone(), clock.clone()),
            audit: log.clone(),
            records: Records::new(store.clone(), log, clock),
            profiles: Profiles([(DEFAULT.to_owned(), policy)].into()),
            max_sessions: max,
            max_sessions_per_user: max,
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
        };
        let house = Self { engine, runner, store, principal, _dir: dir };
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
    assert_eq!(refused, Refusal::GatewayFull { active: 1, max: 1 });
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
