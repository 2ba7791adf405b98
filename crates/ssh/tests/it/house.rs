//! A door on port 0 and a small gate behind it, whose sessions are plain processes of this machine.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::audit::Event;
use sojourn_core::authz::Role;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::door::ChannelRequest;
use sojourn_engine::door::Cut;
use sojourn_engine::door::Evidence;
use sojourn_engine::door::Refusal;
use sojourn_engine::door::Stay;
use sojourn_engine::door::Who;
use sojourn_engine::identity::Half;
use sojourn_engine::identity::How;
use sojourn_engine::identity::Principal;
use sojourn_engine::profiles::Forward;
use sojourn_engine::session::Listening;
use sojourn_ssh::Door;
use sojourn_ssh::Gate;
use sojourn_ssh::HostKeys;
use sojourn_ssh::SpoolLimits;
use sojourn_ssh::SshListener;
use sojourn_ssh::gate::Answer;
use sojourn_ssh::gate::Caller;
use sojourn_ssh::gate::Certificate;
use sojourn_ssh::gate::GateSession;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::programs::Program;
use crate::programs::ProgramInput;
use crate::programs::ProgramOutput;

/// Alice's password.
pub(crate) const PASSWORD: &str = "fifteen characters and more";

/// A directory that is gone with its test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("sojourn-ssh-{}-{number}", std::process::id()));
        let _none = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// A door, its gate, and what a client needs.
pub(crate) struct House {
    pub(crate) gate: TestGate,
    pub(crate) port: u16,
    pub(crate) stop: CancellationToken,
    scratch: Scratch,
    serving: tokio::task::JoinHandle<()>,
}

impl House {
    /// Open as it is without configuration.
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// Open with some things changed.
    pub(crate) async fn open_with(change: impl FnOnce(&mut SshListener)) -> Self {
        let scratch = Scratch::new();
        let keys = HostKeys::load_or_make(&scratch.0).unwrap();
        let spool = SpoolLimits::in_directory(scratch.0.clone());
        let mut listener = SshListener::new("127.0.0.1:0".parse().unwrap(), keys, spool);
        change(&mut listener);
        let gate = TestGate::default();
        gate.inner().directory = scratch.0.clone();
        let door = Door::bind(&listener, gate.clone()).await.unwrap();
        let port = door.address().port();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(door.serve(stop.clone()));
        Self { gate, port, stop, scratch, serving }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.scratch.0
    }

    /// Closes the door, and waits until it is closed.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

/// Waits until `found` is true; a test that waits longer has failed.
pub(crate) async fn until(what: &str, mut found: impl FnMut() -> bool) {
    let waited = async {
        while !found() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waited).await.is_ok(), "never: {what}");
}

/// A gate that knows alice.
#[derive(Clone, Default)]
pub(crate) struct TestGate {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    keys: Vec<String>,
    refusal: Option<Refusal>,
    delay: Duration,
    stays: Vec<Stay>,
    sessions: HashMap<SessionId, TestSession>,
    events: Vec<Event>,
    directory: PathBuf,
    evidence: Option<Option<u64>>,
    looked_up: usize,
    tried: usize,
}

impl TestGate {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn trust_key(&self, fingerprint: &str) {
        self.inner().keys.push(fingerprint.to_owned());
    }

    /// From now on every session is refused.
    pub(crate) fn refuse(&self, refusal: Option<Refusal>) {
        self.inner().refusal = refusal;
    }

    /// From now on a sandbox takes so long to be had.
    pub(crate) fn delay(&self, delay: Duration) {
        self.inner().delay = delay;
    }

    /// From now on sessions are a honeypot's; so much is kept of each upload, or nothing can be.
    pub(crate) fn keep_evidence(&self, most: Option<u64>) {
        self.inner().evidence = Some(most);
    }

    pub(crate) fn stays(&self) -> Vec<Stay> {
        self.inner().stays.clone()
    }

    pub(crate) fn sessions(&self) -> Vec<TestSession> {
        self.inner().sessions.values().cloned().collect()
    }

    /// The only session there is.
    pub(crate) fn session(&self) -> TestSession {
        let sessions = self.sessions();
        assert_eq!(sessions.len(), 1);
        sessions.into_iter().next().unwrap()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.inner().events.clone()
    }

    /// How often a key was looked up, and how often something was proved.
    pub(crate) fn asked(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.looked_up, inner.tried)
    }

    fn admit(&self, caller: Caller<'_>, good: bool) -> Option<Principal> {
        self.inner().tried += 1;
        (good && caller.user == "alice").then(|| principal(caller.user))
    }
}

fn principal(name: &str) -> Principal {
    Principal {
        id: UserId::new(),
        name: name.to_owned(),
        role: Role::Member,
        how: How::Key,
        fingerprint: None,
        epoch: 0,
        login: None,
    }
}

impl Gate for TestGate {
    type Session = TestSession;

    async fn takes_key(&self, caller: Caller<'_>, fingerprint: &str) -> Result<(), &'static str> {
        let mut inner = self.inner();
        inner.looked_up += 1;
        let is_hers = caller.user == "alice" && inner.keys.iter().any(|key| key == fingerprint);
        is_hers.then_some(()).ok_or("unknown key")
    }

    async fn password(&self, caller: Caller<'_>, password: &str) -> Option<Principal> {
        self.admit(caller, password == PASSWORD)
    }

    async fn conversation(&self, caller: Caller<'_>, password: &str) -> Answer {
        self.admit(caller, password == PASSWORD).into()
    }

    async fn code(&self, _: Caller<'_>, _: &mut Half, _: &str) -> Option<Principal> {
        None
    }

    async fn public_key(&self, caller: Caller<'_>, fingerprint: &str) -> Answer {
        let known = self.inner().keys.iter().any(|key| key == fingerprint);
        self.admit(caller, known).into()
    }

    async fn certificate(&self, caller: Caller<'_>, _: &Certificate) -> Answer {
        self.admit(caller, true).into()
    }

    async fn open(&self, stay: Stay) -> Result<TestSession, Refusal> {
        let delay = self.inner().delay;
        tokio::time::sleep(delay).await;
        let mut inner = self.inner();
        if let Some(refusal) = &inner.refusal {
            return Err(refusal.clone());
        }
        inner.stays.push(stay);
        let session = TestSession {
            id: SessionId::new(),
            cut: watch::Sender::new(None),
            gone: watch::Sender::new(false),
            honeypot: inner.evidence.is_some(),
        };
        inner.sessions.insert(session.id, session.clone());
        Ok(session)
    }

    async fn come_back(&self, _: Stay, ending: &str) -> Result<TestSession, Refusal> {
        Err(Refusal::NoSession(format!("no session ends in {ending:?}")))
    }

    async fn open_on(&self, _: Stay, name: &str, _: WindowSize) -> Result<TestSession, Refusal> {
        Err(Refusal::Runner(format!("you have no runner {name:?}")))
    }

    fn may_forward(&self, _: &Who, _: Option<&str>, _: Forward) -> bool {
        false
    }

    fn may_forward_in(&self, _: &Who, _: &str, _: Forward) -> bool {
        false
    }

    async fn evidence(&self, _: SessionId) -> Option<Evidence> {
        let most = self.inner().evidence??;
        let name = format!("evidence-{}", SessionId::new());
        let path = self.inner().directory.join(&name);
        Some(Evidence { file: std::fs::File::create_new(path).unwrap(), name, most })
    }

    fn record(&self, event: Event) {
        self.inner().events.push(event);
    }

    async fn keep(&self, event: Event) -> bool {
        self.record(event);
        true
    }

    fn now(&self) -> Wall {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Wall(i64::try_from(now.as_micros()).unwrap())
    }
}

/// A session whose programs are processes of this machine.
#[derive(Clone)]
pub(crate) struct TestSession {
    id: SessionId,
    cut: watch::Sender<Option<Cut>>,
    gone: watch::Sender<bool>,
    honeypot: bool,
}

impl TestSession {
    /// Ends it from outside.
    pub(crate) fn end(&self, message: &str, status: u32) {
        self.cut.send_replace(Some(Cut { message: message.to_owned(), status }));
    }

    /// Whether the door has said that the connection is gone.
    pub(crate) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }
}

impl GateSession for TestSession {
    type Input = ProgramInput;
    type Output = ProgramOutput;

    fn id(&self) -> SessionId {
        self.id
    }

    async fn start(
        &self,
        request: ChannelRequest,
    ) -> Result<(ProgramInput, ProgramOutput), Refusal> {
        Program::start(request, self.gone.subscribe())
    }

    fn may_forward(&self, _: Forward) -> bool {
        false
    }

    fn is_honeypot(&self) -> bool {
        self.honeypot
    }

    async fn listen(&self, _: Endpoint) -> Result<Listening, Refusal> {
        Err(Refusal::Listen("not here".to_owned()))
    }

    async fn unlisten(&self, _: u16) {}

    async fn cut(&self) -> Cut {
        let mut cut = self.cut.subscribe();
        let cut = cut.wait_for(Option::is_some).await.unwrap().clone();
        cut.unwrap()
    }

    async fn connection_gone(&self) {
        self.gone.send_replace(true);
    }
}
