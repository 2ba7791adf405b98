//! The engine as the door's gate.

use sojourn_core::audit::Event;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::Engine;
use sojourn_engine::channel::ChannelInput;
use sojourn_engine::channel::ChannelOutput;
use sojourn_engine::channel::InputClosed;
use sojourn_engine::door::ChannelEvent;
use sojourn_engine::door::ChannelRequest;
use sojourn_engine::door::Cut;
use sojourn_engine::door::Evidence;
use sojourn_engine::door::Refusal;
use sojourn_engine::door::Stay;
use sojourn_engine::door::Who;
use sojourn_engine::identity;
use sojourn_engine::identity::Half;
use sojourn_engine::identity::Peer;
use sojourn_engine::identity::Principal;
use sojourn_engine::identity::Verdict;
use sojourn_engine::metrics::Counted;
use sojourn_engine::profiles::Forward;
use sojourn_engine::session::Listening;
use sojourn_engine::session::Session;

use super::Answer;
use super::Caller;
use super::Certificate;
use super::Gate;
use super::GateInput;
use super::GateOutput;
use super::GateSession;

impl Gate for Engine {
    type Session = Session;

    async fn takes_key(&self, caller: Caller<'_>, fingerprint: &str) -> Result<(), &'static str> {
        self.identity().knows_key(caller.user, fingerprint).await
    }

    async fn password(&self, caller: Caller<'_>, password: &str) -> Option<Principal> {
        admitted(self.identity().password(caller.user, password.as_bytes(), &peer(caller)).await)
    }

    async fn conversation(&self, caller: Caller<'_>, password: &str) -> Answer {
        answer(self.identity().conversation(caller.user, password.as_bytes(), &peer(caller)).await)
    }

    async fn code(&self, caller: Caller<'_>, half: &mut Half, code: &str) -> Option<Principal> {
        admitted(self.identity().code(half, code, &peer(caller)).await)
    }

    async fn public_key(&self, caller: Caller<'_>, fingerprint: &str) -> Answer {
        answer(self.identity().public_key(caller.user, fingerprint, &peer(caller)).await)
    }

    async fn certificate(&self, caller: Caller<'_>, certificate: &Certificate) -> Answer {
        let facts = identity::Certificate {
            principals: &certificate.principals,
            key_id: &certificate.key_id,
            serial: certificate.serial,
            fingerprint: &certificate.fingerprint,
        };
        answer(self.identity().certificate(caller.user, &facts, &peer(caller)).await)
    }

    async fn open(&self, stay: Stay) -> Result<Session, Refusal> {
        Self::open(self, stay).await
    }

    async fn come_back(&self, stay: Stay, ending: &str) -> Result<Session, Refusal> {
        Self::come_back(self, &stay, ending).await
    }

    async fn open_on(
        &self,
        stay: Stay,
        runner: &str,
        size: WindowSize,
    ) -> Result<Session, Refusal> {
        Self::open_on(self, stay, runner, size).await
    }

    fn may_forward(&self, who: &Who, profile: Option<&str>, kind: Forward) -> bool {
        Self::may_forward(self, who, profile, kind)
    }

    fn may_forward_in(&self, who: &Who, ending: &str, kind: Forward) -> bool {
        Self::may_forward_in(self, who, ending, kind)
    }

    async fn evidence(&self, session: SessionId) -> Option<Evidence> {
        Self::evidence(self, session).await
    }

    fn refused(&self, door: &'static str, code: &'static str) {
        self.metrics().refused(door, code);
    }

    fn connection(&self) -> Option<Counted> {
        Some(self.metrics().ssh_connection())
    }

    fn record(&self, event: Event) {
        self.audit().record_soon(event);
    }

    async fn keep(&self, event: Event) -> bool {
        let audit = self.audit();
        if audit.is_degraded() {
            // It waits for the log, as long as there is a gateway.
            audit.record_soon(event);
            return audit.is_writable();
        }
        audit.record(event).await.is_ok()
    }

    fn now(&self) -> Wall {
        self.clock().wall()
    }
}

fn peer(caller: Caller<'_>) -> Peer {
    Peer {
        address: caller.peer.ip(),
        client: caller.client.to_owned(),
        hassh: caller.hassh.map(str::to_owned),
    }
}

/// To a client every no is the same.
fn answer(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Accepted(principal) => Answer::In(principal),
        Verdict::CodeNeeded(half) => Answer::Code(Box::new(half)),
        Verdict::Refused | Verdict::Throttled { .. } | Verdict::Unavailable(_) => Answer::No,
    }
}

/// Where nothing can follow.
fn admitted(verdict: Verdict) -> Option<Principal> {
    match answer(verdict) {
        Answer::In(principal) => Some(principal),
        Answer::Code(_) | Answer::No => None,
    }
}

impl GateSession for Session {
    type Input = ChannelInput;
    type Output = ChannelOutput;

    fn id(&self) -> SessionId {
        Self::id(self)
    }

    async fn start(
        &self,
        request: ChannelRequest,
    ) -> Result<(ChannelInput, ChannelOutput), Refusal> {
        let channel = Self::start(self, request).await?;
        Ok((channel.input, channel.output))
    }

    fn may_forward(&self, kind: Forward) -> bool {
        Self::may_forward(self, kind)
    }

    fn is_honeypot(&self) -> bool {
        Self::is_honeypot(self)
    }

    async fn listen(&self, endpoint: Endpoint) -> Result<Listening, Refusal> {
        Self::listen(self, endpoint).await
    }

    async fn unlisten(&self, listener: u16) {
        Self::unlisten(self, listener).await;
    }

    async fn cut(&self) -> Cut {
        Self::cut(self).await
    }

    async fn connection_gone(&self) {
        Self::connection_gone(self).await;
    }
}

impl GateInput for ChannelInput {
    async fn send(&self, bytes: &[u8]) -> Result<(), InputClosed> {
        Self::send(self, bytes).await
    }

    async fn eof(&self) {
        Self::eof(self).await;
    }

    async fn resize(&self, size: WindowSize) {
        Self::resize(self, size).await;
    }

    async fn signal(&self, name: String) {
        Self::signal(self, name).await;
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}

impl GateOutput for ChannelOutput {
    async fn next(&mut self) -> Option<ChannelEvent> {
        Self::next(self).await
    }
}
