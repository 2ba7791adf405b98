//! What the door asks of the gate behind it: who may come in, a session, its channels. The engine is
//! the gate; tests put a small one of their own in its place.

mod engine;

use std::net::SocketAddr;

use sojourn_core::audit::Event;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::channel::InputClosed;
use sojourn_engine::door::ChannelEvent;
use sojourn_engine::door::ChannelRequest;
use sojourn_engine::door::Cut;
use sojourn_engine::door::Evidence;
use sojourn_engine::door::Refusal;
use sojourn_engine::door::Stay;
use sojourn_engine::door::Who;
use sojourn_engine::identity::Half;
use sojourn_engine::identity::Principal;
use sojourn_engine::metrics::Counted;
use sojourn_engine::profiles::Forward;
use sojourn_engine::session::Listening;

/// What refusals at a honeypot are counted under.
pub(crate) const HONEYPOT: &str = "honeypot";

/// Somebody who tries to sign in.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The name they give.
    pub user: &'a str,
    /// From where.
    pub peer: SocketAddr,
    /// The client's version string, as it sent it.
    pub client: &'a str,
    /// The HASSH of its first key exchange, once that has been seen.
    pub hassh: Option<&'a str>,
}

/// A certificate that holds: its signature, its time, its principals and its options are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The fingerprint of the key it certifies.
    pub fingerprint: String,
    /// For which names it is good.
    pub principals: Vec<String>,
    /// The name its issuer gave it.
    pub key_id: String,
    /// Its serial number.
    pub serial: u64,
}

/// What the gate says to somebody who tries to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is them.
    In(Principal),
    /// So far it is them, and a code has to follow.
    Code(Box<Half>),
    /// No.
    No,
}

impl From<Option<Principal>> for Answer {
    fn from(admitted: Option<Principal>) -> Self {
        admitted.map_or(Self::No, Self::In)
    }
}

/// The gate.
pub trait Gate: Clone + Send + Sync + 'static {
    /// A session in motion.
    type Session: GateSession;

    /// Whether a key that somebody offers would do, were it proved, or why not, for the record. Costs a
    /// look-up, decides nothing.
    fn takes_key(
        &self,
        caller: Caller<'_>,
        fingerprint: &str,
    ) -> impl Future<Output = Result<(), &'static str>> + Send;

    /// Whether a password lets somebody in. The attempt is on record when this returns.
    fn password(
        &self,
        caller: Caller<'_>,
        password: &str,
    ) -> impl Future<Output = Option<Principal>> + Send;

    /// The same, where a code can be asked for after it.
    fn conversation(
        &self,
        caller: Caller<'_>,
        password: &str,
    ) -> impl Future<Output = Answer> + Send;

    /// Whether a code is what was still missing.
    fn code(
        &self,
        caller: Caller<'_>,
        half: &mut Half,
        code: &str,
    ) -> impl Future<Output = Option<Principal>> + Send;

    /// Whether a key that was proved lets somebody in.
    fn public_key(
        &self,
        caller: Caller<'_>,
        fingerprint: &str,
    ) -> impl Future<Output = Answer> + Send;

    /// Whether a certificate that holds lets somebody in.
    fn certificate(
        &self,
        caller: Caller<'_>,
        certificate: &Certificate,
    ) -> impl Future<Output = Answer> + Send;

    /// Opens a session: takes a sandbox.
    fn open(&self, stay: Stay) -> impl Future<Output = Result<Self::Session, Refusal>> + Send;

    /// Comes back to a session of theirs that runs, named by an ending of its id; by nothing where
    /// there is only one.
    fn come_back(
        &self,
        stay: Stay,
        ending: &str,
    ) -> impl Future<Output = Result<Self::Session, Refusal>> + Send;

    /// Opens a session on a runner of theirs, for a shell in a terminal of this size.
    fn open_on(
        &self,
        stay: Stay,
        runner: &str,
        size: WindowSize,
    ) -> impl Future<Output = Result<Self::Session, Refusal>> + Send;

    /// Whether somebody may forward so in a session of this profile; none is the default one.
    fn may_forward(&self, who: &Who, profile: Option<&str>, kind: Forward) -> bool;

    /// Whether they may in the session of theirs that runs and that an ending of its id means.
    fn may_forward_in(&self, who: &Who, ending: &str, kind: Forward) -> bool;

    /// A file to keep an upload of a honeypot's session in; none, when there is no room for one.
    fn evidence(&self, session: SessionId) -> impl Future<Output = Option<Evidence>> + Send;

    /// Counts something that the door of this name itself refused, by a word of ours.
    fn refused(&self, _door: &'static str, _code: &'static str) {}

    /// Counts a connection as open, until what this gives is dropped.
    fn connection(&self) -> Option<Counted> {
        None
    }

    /// Puts on record, soon, what the door decided by itself.
    fn record(&self, event: Event);

    /// The same, durable when this returns. False when it is not: then what it tells of is not to be
    /// called done.
    fn keep(&self, event: Event) -> impl Future<Output = bool> + Send;

    /// What time it is.
    fn now(&self) -> Wall;
}

/// A session in motion.
pub trait GateSession: Clone + Send + Sync + 'static {
    /// Into a channel.
    type Input: GateInput;
    /// Out of a channel.
    type Output: GateOutput;

    /// Its id.
    fn id(&self) -> SessionId;

    /// Starts a program in a new channel.
    fn start(
        &self,
        request: ChannelRequest,
    ) -> impl Future<Output = Result<(Self::Input, Self::Output), Refusal>> + Send;

    /// Whether its profile lets connections be forwarded so.
    fn may_forward(&self, kind: Forward) -> bool;

    /// Whether it is a honeypot's: what comes into it is evidence.
    fn is_honeypot(&self) -> bool;

    /// Listens inside. Connections are then taken by `Program::Accept`.
    fn listen(&self, endpoint: Endpoint)
    -> impl Future<Output = Result<Listening, Refusal>> + Send;

    /// Listens there no more. Connections that were taken go on.
    fn unlisten(&self, listener: u16) -> impl Future<Output = ()> + Send;

    /// Resolves when the session was ended from outside, and never otherwise.
    fn cut(&self) -> impl Future<Output = Cut> + Send;

    /// The connection this is for is gone. What its client did not close may wait for it.
    fn connection_gone(&self) -> impl Future<Output = ()> + Send;
}

/// Into a channel.
pub trait GateInput: Clone + Send + Sync + 'static {
    /// Passes bytes to the program, waiting while it does not take any.
    fn send(&self, bytes: &[u8]) -> impl Future<Output = Result<(), InputClosed>> + Send;

    /// The client sends no more.
    fn eof(&self) -> impl Future<Output = ()> + Send;

    /// The terminal has another size.
    fn resize(&self, size: WindowSize) -> impl Future<Output = ()> + Send;

    /// A signal to the programs, named without `SIG`.
    fn signal(&self, name: String) -> impl Future<Output = ()> + Send;

    /// The client closed the channel.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Out of a channel.
pub trait GateOutput: Send + 'static {
    /// The next thing that comes out; none when nothing will.
    fn next(&mut self) -> impl Future<Output = Option<ChannelEvent>> + Send;
}
