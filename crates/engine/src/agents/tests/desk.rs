//! An engine, a built-in runner that keeps recordings, and runners that are the test.

use std::fs;
use std::future::Future;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::authz::Allow;
use sojourn_core::authz::Role;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::MessageState;
use sojourn_core::wire::relay::Prompt;
use sojourn_core::wire::relay::Recovery;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Rule;
use sojourn_core::wire::runner;
use sojourn_core::wire::runner::Numbered;
use sojourn_core::wire::runner::Reply as RunnerReply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::shim::RecordingFacts;
use sojourn_store::Store;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::super::AgentWish;
use super::super::Agents;
use super::super::AnswerError;
use super::super::Cannot;
use super::super::Message;
use super::super::Reply;
use super::peer::Peer;
use crate::Engine;
use crate::audit;
use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::door::Refusal;
use crate::door::Who;
use crate::engine::Parts;
use crate::identity::Accounts;
use crate::identity::How;
use crate::identity::Identity;
use crate::identity::Principal;
use crate::login::Logins;
use crate::login::Rules;
use crate::profiles::DEFAULT;
use crate::profiles::ProfilePolicy;
use crate::profiles::Profiles;
use crate::records::Records;
use crate::seqpacket::SeqPacket;
use crate::tokens::Tokens;
use crate::tokens::Wanted;
use crate::view::SessionView;
use crate::visiting::Person;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What comes of something, in time.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// How the writer of a log is stopped, and waited for.
type LogEnd = Arc<tokio::sync::Mutex<Option<(CancellationToken, tokio::task::JoinHandle<()>)>>>;

/// A gateway with one user.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) engine: Engine,
    clock: Arc<ManualClock>,
    principal: Principal,
    dir: Arc<TempDir>,
    /// The log's writer, and what stops it.
    log_end: LogEnd,
}

impl Desk {
    pub(super) async fn new() -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        let store = Store::open(dir.path()).await.unwrap();
        let clock = Arc::new(ManualClock::new());
        let accounts = Accounts::new(store.clone(), clock.clone(), dir.path().to_owned());
        accounts.add("alice", Role::Member, None, Actor::local(0)).await.unwrap();
        Self::open(dir, store, clock).await
    }

    /// The next gateway on the same store.
    pub(super) async fn again(self) -> Self {
        self.engine.shutdown().cancel();
        let Self { clock, dir, log_end, .. } = self;
        if let Some((last, keeper)) = log_end.lock().await.take() {
            last.cancel();
            soon(keeper).await.unwrap();
        }
        let store = Store::open(dir.path()).await.unwrap();
        Self::open(dir, store, clock).await
    }

    async fn open(dir: Arc<TempDir>, store: Store, manual: Arc<ManualClock>) -> Self {
        let clock: Arc<dyn Clock> = manual.clone();
        let options = audit::AuditOptions {
            data_dir: dir.path().to_owned(),
            on_failure: audit::OnFailure::Refuse,
        };
        let (log, writer) = audit::start(&options, store.clone(), clock.clone()).await.unwrap();
        let last = CancellationToken::new();
        let keeper = tokio::spawn(writer.run(last.clone()));
        let log_end = Arc::new(tokio::sync::Mutex::new(Some((last, keeper))));
        let user = store.user_by_name("alice").await.unwrap().unwrap();
        let policy = ProfilePolicy {
            forward: Vec::new(),
            allow: vec![Allow::Everybody],
            accept_env: Vec::new(),
            require_why: false,
            sandbox: "native".to_owned(),
            limits: Limits::default(),
            web_runtime: Some(Duration::from_secs(3600)),
        };
        let identity = Identity::new(store.clone(), log.clone(), clock.clone());
        let logins = Logins::open(
            dir.path(),
            Rules::default(),
            store.clone(),
            identity.clone(),
            log.clone(),
            clock.clone(),
        );
        let engine = Engine::new(Parts {
            clock: clock.clone(),
            identity,
            logins: logins.await.unwrap(),
            accounts: Accounts::new(store.clone(), clock.clone(), dir.path().to_owned()),
            audit: log.clone(),
            tokens: Tokens::new(store.clone(), log.clone(), clock.clone()),
            records: Records::new(store.clone(), log, clock),
            profiles: Profiles([(DEFAULT.to_owned(), policy)].into()),
            max_sessions: 100,
            max_sessions_per_user: 100,
            recordings: dir.path().to_owned(),
            build: "test".to_owned(),
        });
        let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) =
            rustix::net::socketpair(unix, seqpacket, SocketFlags::CLOEXEC, None).unwrap();
        let served = engine.clone();
        tokio::spawn(async move { served.serve_runner(ours).await });
        tokio::spawn(keep(SeqPacket::new(theirs).unwrap(), dir.path().to_owned()));
        engine.agents().load().await.unwrap();
        let principal = Principal {
            id: user.id,
            name: "alice".to_owned(),
            role: Role::Member,
            how: How::Key,
            fingerprint: None,
            epoch: user.epoch,
            login: None,
        };
        Self { engine, clock: manual, principal, dir, log_end }
    }

    pub(super) fn agents(&self) -> &Agents {
        self.engine.agents()
    }

    pub(super) fn person(&self) -> Person {
        let address = "192.0.2.7".parse().unwrap();
        Person {
            who: Who::User(self.principal.clone()),
            asker: self.principal.asker(),
            actor: Actor {
                user: Some("alice".to_owned()),
                ip_address: Some(address),
                ..Actor::new(ActorKind::Browser)
            },
            token: None,
            address,
            client: "test".to_owned(),
        }
    }

    pub(super) fn wish(&self) -> AgentWish {
        AgentWish {
            harness: "claude".to_owned(),
            cwd: Some("/src".to_owned()),
            prompt: Some("hello".to_owned()),
            ..AgentWish::default()
        }
    }

    pub(super) async fn start(&self, wish: AgentWish) -> Result<SessionId, Refusal> {
        self.engine.start_agent(&self.person(), wish).await
    }

    pub(super) async fn resume(&self, id: SessionId) -> Result<(), Refusal> {
        self.engine.resume_agent(&self.person(), id).await
    }

    pub(super) async fn answer(
        &self,
        id: SessionId,
        request: RequestId,
        hash: &str,
        allow: bool,
    ) -> Result<(), AnswerError> {
        let input_hash = Some(hash.to_owned());
        let reply = Reply { input_hash, allow, ..Reply::default() };
        self.agents().answer(&self.person(), id, request, &reply).await
    }

    pub(super) async fn say(
        &self,
        id: SessionId,
        client_msg_id: &str,
        content: &str,
    ) -> Result<MessageState, Cannot> {
        self.agents().say(&self.person(), id, words(client_msg_id, content)).await
    }

    pub(super) fn interrupt(&self, id: SessionId) {
        assert!(self.agents().interrupt(&self.person(), id));
    }

    pub(super) async fn view(&self, id: SessionId) -> SessionView {
        self.engine.session_view(id).await.unwrap().unwrap()
    }

    /// Waits until something holds.
    pub(super) async fn until(&self, mut holds: impl AsyncFnMut() -> bool) {
        soon(async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// What is in the audit log of a session.
    pub(super) async fn told(&self, id: SessionId) -> Vec<String> {
        self.engine.audit().settled().await.unwrap();
        let directory = self.dir.path().join("audit");
        let mut told = Vec::new();
        let mut files: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|it| it == "jsonl")) {
            for line in fs::read_to_string(file).unwrap().lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                if line["session_id"] == id.to_string() {
                    told.push(line["action"].as_str().unwrap().to_owned());
                }
            }
        }
        told
    }

    /// The events of a recording.
    pub(super) fn recorded(&self, id: SessionId, channel: u16) -> Vec<String> {
        let text = fs::read_to_string(path(self.dir.path(), id, channel)).unwrap_or_default();
        text.lines().skip(1).map(ToOwned::to_owned).collect()
    }

    /// Lets time pass, as its runner also does.
    pub(super) async fn pass(&self, seconds: u64, peer: &mut Peer) {
        for _ in 0..seconds / 10 {
            self.clock.advance(Duration::from_secs(10));
            peer.alive().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// A runner of alice's that comes.
    pub(super) async fn runner(&self, name: &str) -> Peer {
        let wanted = Wanted {
            name: name.to_owned(),
            scopes: sojourn_core::scope::Scopes::default(),
            expires_at: None,
            runner: Some(name.to_owned()),
        };
        let by = Actor::local(0);
        let created = self.engine.tokens().create(self.principal.id, wanted, &by);
        let (_, token) = created.await.unwrap();
        Peer::come(self, RunnerId::from(token.id), &[], 1).await
    }
}

fn path(root: &std::path::Path, id: SessionId, channel: u16) -> PathBuf {
    root.join(format!("{id}.{channel}.cast"))
}

/// The built-in runner, as far as recordings go.
async fn keep(socket: SeqPacket, root: PathBuf) {
    loop {
        let got = socket.recv(|bytes, _| runner::decode::<Numbered<Request>>(bytes).unwrap()).await;
        let Ok(Some(Numbered { id, body })) = got else { return };
        let (body, fd): (_, Option<OwnedFd>) = match body {
            Request::Hello { .. } => {
                let build = "test".to_owned();
                (RunnerReply::Hello { version: 1, build, epoch: 1, pid: 1 }, None)
            }
            Request::List { .. } => {
                (RunnerReply::Sessions { items: Vec::new(), more: false }, None)
            }
            Request::Record { session, channel, .. } => {
                let path = path(&root, session, channel);
                let text = fs::read_to_string(&path).unwrap_or_default();
                let file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
                let events = text.lines().count().saturating_sub(1) as u64;
                let (file, is_new) = (OwnedFd::from(file), text.is_empty());
                let name = String::new();
                (RunnerReply::Recording { file: name, events, last_us: 0, is_new }, Some(file))
            }
            Request::Seal(sealing) => {
                let file = format!("{}.{}.cast", sealing.session, sealing.channel);
                let (sha256, channel) = ("00".repeat(32), sealing.channel);
                let recording = RecordingFacts { channel, file, bytes: 1, sha256 };
                (RunnerReply::Sealed { recording }, None)
            }
            _ => (RunnerReply::Done, None),
        };
        let bytes = runner::encode(&runner::FromRunner::Reply(Numbered { id, body })).unwrap();
        match fd {
            None => socket.send(&bytes).await.unwrap(),
            Some(fd) => {
                let fds = [fd.as_fd()];
                let mut space =
                    [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
                let parts = [std::io::IoSlice::new(&bytes)];
                rustix::net::sendmsg(&socket, &parts, &mut control, SendFlags::empty()).unwrap();
            }
        }
    }
}

pub(super) fn words(client_msg_id: &str, content: &str) -> Message {
    Message { client_msg_id: client_msg_id.to_owned(), content: content.to_owned() }
}

pub(super) fn started() -> Event {
    Event::Started { agent: Some("fake 1".to_owned()), recovery: recovery() }
}

fn recovery() -> Option<Recovery> {
    Some(Recovery { agent_session_id: "a-1".to_owned(), cwd: "/src".to_owned(), can_resume: true })
}

pub(super) fn update(text: &str) -> Event {
    Event::Update { update: serde_json::json!({"sessionUpdate": "x", "text": text}) }
}

pub(super) fn ended(reason: EndReason) -> Event {
    let exit = (reason == EndReason::Exited).then_some(Exit::Code(0));
    Event::Ended { reason, exit, output_bytes: 9, message: None, recovery: recovery() }
}

pub(super) fn hash(what: &str) -> String {
    format!("hash of {what}")
}

pub(super) fn prompt(what: &str, rule: bool) -> (RequestId, Event) {
    let request = RequestId::new();
    let prompt = Prompt {
        request,
        tool: "Bash".to_owned(),
        kind: "execute".to_owned(),
        description: what.to_owned(),
        details: serde_json::json!({"command": what}).as_object().cloned().unwrap(),
        diff: None,
        input_hash: hash(what),
        rule: rule.then(|| Rule::Exact { kind: "execute".to_owned(), input_hash: hash(what) }),
    };
    (request, Event::Prompt(Box::new(prompt)))
}
