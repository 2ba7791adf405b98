//! One connection: who it is, and the one session it may have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use russh::Disconnect;
use russh::server::Handle;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::limits::Lower;
use sojourn_core::time::Wall;
use sojourn_core::units::LONGEST;
use sojourn_core::units::Span;
use sojourn_core::wire::Text;
use sojourn_core::wire::runner::Attempt;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::door::Cut;
use sojourn_engine::door::Door as DoorKind;
use sojourn_engine::door::Refusal;
use sojourn_engine::door::Stay;
use sojourn_engine::door::Who;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caller::Place;
use crate::caller::Terms;
use crate::caller::Wish;
use crate::forward::AgentSocket;
use crate::forward::Displays;
use crate::gate::Gate;
use crate::gate::GateSession;
use crate::gate::HONEYPOT;
use crate::pace::Pace;
use crate::places::Places;
use crate::spool::SpoolRoom;
use crate::wire::WireEnds;

/// The environment variable that lowers a session's runtime.
pub(crate) const TIMEOUT: &str = "SOJOURN_TIMEOUT";
/// The environment variable that states a reason.
pub(crate) const WHY: &str = "SOJOURN_WHY";

/// The longest reason, in characters.
const LONGEST_WHY: usize = 500;

/// How long the channels of a session that was ended, or whose client is gone, may take to end: longer
/// than what was sent to them may take to be taken.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// How long a client whose session was ended may take to leave by itself. A disconnect that overtakes
/// the exit status would hide it.
const LEAVE: Duration = Duration::from_secs(2);

/// So many forwarded connections of one connection may begin at once, and then one more a while: each
/// is two lines of the audit log, and who makes them may be a program inside.
const FORWARD_BURST: u32 = 500;
const FORWARD_EVERY: Duration = Duration::from_millis(10);

/// How long a disconnect may take to be sent.
pub(crate) const GOODBYE: Duration = Duration::from_millis(300);

/// What all parts of a connection share.
pub(crate) struct Connection<G: Gate> {
    pub(crate) gate: G,
    pub(crate) peer: SocketAddr,
    pub(crate) connected_at: Wall,
    /// Cancelled when the connection is gone.
    pub(crate) gone: CancellationToken,
    pub(crate) wire: WireEnds,
    pub(crate) spools: Arc<SpoolRoom>,
    pub(crate) places: Places,
    /// How often forwarded connections begin.
    pub(crate) forward_pace: Pace,
    pub(crate) tasks: TaskTracker,
    pub(crate) agent: AgentSocket,
    pub(crate) displays: Displays,
    /// Cancelled when the first program was started. What waits inside for connections of its takes
    /// its channels after it.
    pub(crate) begun: CancellationToken,
    /// Cancelled when the door closes.
    closing: CancellationToken,
    /// How the library is told something about it.
    pub(crate) handle: OnceLock<Handle>,
    guest: OnceLock<Guest>,
    session: OnceCell<G::Session>,
}

/// Somebody who has signed in.
pub(crate) struct Guest {
    pub(crate) who: Who,
    pub(crate) wish: Wish,
    pub(crate) terms: Terms,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) handle: Handle,
}

/// Why a channel is not started: what the session, or the door itself, says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denial {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{line}")]
    Door { code: &'static str, line: String },
}

impl<G: Gate> Connection<G> {
    pub(crate) fn new(
        gate: G,
        peer: SocketAddr,
        wire: WireEnds,
        spools: Arc<SpoolRoom>,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Self {
        Self {
            connected_at: gate.now(),
            gate,
            peer,
            gone: CancellationToken::new(),
            wire,
            spools,
            places: Places::new(),
            forward_pace: Pace::new(FORWARD_BURST, FORWARD_EVERY),
            tasks,
            agent: AgentSocket::default(),
            displays: Displays::default(),
            begun: CancellationToken::new(),
            closing,
            handle: OnceLock::new(),
            guest: OnceLock::new(),
            session: OnceCell::new(),
        }
    }

    pub(crate) fn admit(&self, guest: Guest) {
        // The library lets nobody in twice.
        let _again = self.guest.set(guest);
    }

    pub(crate) fn guest(&self) -> Option<&Guest> {
        self.guest.get()
    }

    /// Why something is refused, as whoever asked for it is told: at a honeypot, as a machine would
    /// say it that is none.
    pub(crate) fn excuse(&self, why: impl std::fmt::Display) -> String {
        match self.guest.get().map(|guest| &guest.who) {
            Some(Who::Visitor(visitor)) => format!("Too many logins for '{}'.", visitor.name),
            _ => why.to_string(),
        }
    }

    pub(crate) fn has_session(&self) -> bool {
        self.session.initialized()
    }

    /// The connection's session, if anything has asked for it yet.
    pub(crate) fn opened(&self) -> Option<&G::Session> {
        self.session.get()
    }

    /// The connection's session, opened for the first who asks: for a shell in a terminal of this size,
    /// or for something else.
    ///
    /// To be awaited to its end: a session that is half open would be nobody's.
    pub(crate) async fn session(
        self: &Arc<Self>,
        env: &[(Text, Text)],
        shell: Option<WindowSize>,
    ) -> Result<&G::Session, Denial> {
        let opened = self
            .session
            .get_or_try_init(|| async {
                let stay = self.stay(env)?;
                let session = match self.guest().map(|guest| &guest.wish.place) {
                    Some(Place::Running(ending)) => self.gate.come_back(stay, ending).await?,
                    Some(Place::Runner(runner)) => {
                        let size = shell.ok_or_else(|| no_shell(&stay, runner))?;
                        self.gate.open_on(stay, runner, size).await?
                    }
                    _ => self.gate.open(stay).await?,
                };
                self.tasks.spawn(self.clone().keep(session.clone()));
                Ok(session)
            })
            .await;
        // The gate puts its own refusals on record.
        if let Err(Denial::Door { code, line }) = &opened {
            self.count_refusal(code);
            self.record(Action::SessionRefused, &[("code", code), ("message", line)]);
        }
        opened
    }

    /// Counts a refusal of this door.
    pub(crate) fn count_refusal(&self, code: &'static str) {
        let is_visitor = matches!(self.guest().map(|guest| &guest.who), Some(Who::Visitor(_)));
        self.gate.refused(if is_visitor { HONEYPOT } else { DoorKind::Ssh.name() }, code);
    }

    fn stay(&self, env: &[(Text, Text)]) -> Result<Stay, Denial> {
        let Some(guest) = self.guest.get() else { return Err(Refusal::Over.into()) };
        let profile = match &guest.wish.place {
            Place::Profile(name) => name.clone(),
            Place::Running(_) | Place::Runner(_) => None,
        };
        let (lower, why) = match guest.who {
            Who::User(_) => (lower(env)?, why(env)),
            // These variables are ours, which a visitor is not to notice.
            Who::Visitor(_) | Who::Local => (Lower::default(), None),
        };
        Ok(Stay {
            who: guest.who.clone(),
            door: DoorKind::Ssh,
            peer: self.peer,
            client: self.wire.client.get().to_owned(),
            hassh: self.wire.hassh.get().map(str::to_owned),
            profile,
            lower,
            why,
            attempts: guest.attempts.clone(),
            connected_at: self.connected_at,
            web: None,
            on: None,
        })
    }

    /// Stays with a session until its connection is gone, and then says so.
    async fn keep(self: Arc<Self>, session: G::Session) {
        tokio::select! {
            () = self.gone.cancelled() => {}
            cut = session.cut() => self.show_out(&cut).await,
        }
        self.gone.cancelled().await;
        // A gateway that goes down ends its sessions itself, or leaves them as they are.
        if self.closing.is_cancelled() {
            return;
        }
        // What its client closed before it went is to be closed first.
        self.quiet().await;
        session.connection_gone().await;
    }

    /// Waits until no channel is at work, but not for long.
    async fn quiet(&self) {
        let _late = tokio::time::timeout(LAST_WORDS, self.places.all_free()).await;
    }

    /// Ends a connection whose session was ended from outside.
    async fn show_out(&self, cut: &Cut) {
        self.quiet().await;
        let _stayed = tokio::time::timeout(LEAVE, self.gone.cancelled()).await;
        self.part(&cut.message).await;
    }

    /// Ends a connection that nobody has signed in by.
    pub(crate) fn throw_out(self: &Arc<Self>, reason: Disconnect, words: &'static str) {
        let connection = self.clone();
        self.tasks.spawn(async move { connection.dismiss(reason, words).await });
    }

    /// The same, and waits until it is said, in a bounded time.
    pub(crate) async fn dismiss(&self, reason: Disconnect, words: &str) {
        if let Some(handle) = self.handle.get() {
            let goodbye = handle.disconnect(reason, words.to_owned(), String::new());
            let _unsent = tokio::time::timeout(GOODBYE, goodbye).await;
        }
    }

    /// Says goodbye, in a bounded time, and ends the connection.
    pub(crate) async fn part(&self, message: &str) {
        if self.gone.is_cancelled() {
            return;
        }
        if let Some(guest) = self.guest.get() {
            let goodbye = guest.handle.disconnect(
                Disconnect::ByApplication,
                message.to_owned(),
                String::new(),
            );
            let _unsent = tokio::time::timeout(GOODBYE, goodbye).await;
            let _stayed = tokio::time::timeout(GOODBYE, self.gone.cancelled()).await;
        }
        self.wire.cutter.cut();
    }

    /// Somebody at this connection, by the name they claim.
    pub(crate) fn actor(&self, user: &str) -> Actor {
        let is_visitor = self.guest.get().is_some_and(|guest| guest.who.user().is_none());
        let actor = if is_visitor { Actor::honeypot } else { Actor::ssh };
        actor(user, self.peer.ip()).with_user_agent(self.wire.client.get())
    }

    /// Puts on record what the door itself decided about this connection.
    pub(crate) fn record(&self, action: Action, details: &[(&str, &str)]) {
        let event = self.event(action);
        self.gate
            .record(details.iter().fold(event, |event, (name, value)| event.detail(name, *value)));
    }

    /// Something that happened at this connection.
    pub(crate) fn event(&self, action: Action) -> Event {
        let user = self.guest.get().map_or("", |guest| guest.who.name());
        let actor = self.actor(user);
        let event = Event::new(self.gate.now(), action, actor);
        match self.session.get() {
            Some(session) => event.session(session.id()),
            None => event,
        }
    }
}

/// What somebody is told who wants anything else of a runner.
fn no_shell(stay: &Stay, runner: &str) -> Denial {
    let line = format!(
        "a runner gives a shell on a terminal, and nothing else: ssh -t {}+{runner}:@..., without a \
         command",
        stay.who.name()
    );
    Denial::Door { code: "runner", line }
}

fn lower(env: &[(Text, Text)]) -> Result<Lower, Denial> {
    let Some(text) = find(env, TIMEOUT) else { return Ok(Lower::default()) };
    let bad = || {
        let line = format!(
            "{TIMEOUT}={text:?} is not a duration; write seconds (600) or a duration (10m)"
        );
        Denial::Door { code: "timeout", line }
    };
    let span = match text.parse::<u64>() {
        Ok(seconds) => Span::seconds(seconds),
        Err(_) => text.parse::<Span>().map_err(|_| bad())?,
    };
    if span.is_zero() || span.0 > LONGEST {
        return Err(bad());
    }
    Ok(Lower { max_runtime: Some(span.0), ..Lower::default() })
}

fn why(env: &[(Text, Text)]) -> Option<String> {
    let text: String =
        find(env, WHY)?.chars().filter(|c| !c.is_control()).take(LONGEST_WHY).collect();
    (!text.trim().is_empty()).then_some(text)
}

/// The last value counts, as in an environment.
fn find(env: &[(Text, Text)], name: &str) -> Option<String> {
    let (_, value) = env.iter().rev().find(|(key, _)| key.0 == name.as_bytes())?;
    Some(value.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(Text, Text)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn a_timeout_is_seconds_or_a_duration() {
        let runtime = |value: &str| lower(&env(&[(TIMEOUT, value)])).map(|l| l.max_runtime);
        assert_eq!(runtime("600").unwrap(), Some(Duration::from_secs(600)));
        assert_eq!(runtime("1h30m").unwrap(), Some(Duration::from_secs(5400)));
        assert_eq!(lower(&[]).unwrap(), Lower::default());
        for bad in ["", "0", "-5", "soon", "99999999999999999999", "4000000000"] {
            let message = runtime(bad).unwrap_err().to_string();
            assert!(message.contains("is not a duration"), "{bad}: {message}");
        }
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(why(&env(&[(WHY, "a\r\n\x1bb")])), Some("ab".to_owned()));
        assert_eq!(why(&env(&[(WHY, " ")])), None);
        assert_eq!(why(&env(&[(WHY, "x"), (WHY, &"y".repeat(9999))])), Some("y".repeat(500)));
    }
}
