//! People at the web door: they start terminals, look on, take the keyboard, interrupt. What they may is
//! asked here; what they did is on record before it counts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::authz::Answer;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Deed;
use sojourn_core::authz::Ownership;
use sojourn_core::authz::may;
use sojourn_core::end::EndReason;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Lower;
use sojourn_core::wire::Text;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;

use crate::door::ChannelRequest;
use crate::door::Door;
use crate::door::FromWeb;
use crate::door::Refusal;
use crate::door::Stay;
use crate::door::Who;
use crate::engine::Engine;
use crate::engine::lock;
use crate::roster::Guest;
use crate::watching::Driving;
use crate::watching::Stays;
use crate::watching::Watching;

/// What terminals at the web door are.
const TERM: &str = "xterm-256color";

/// Somebody at the web door.
#[derive(Clone, Debug)]
pub struct Person {
    /// As the one who stays.
    pub who: Who,
    /// As the one who asks.
    pub asker: Asker,
    /// As the one who acts.
    pub actor: Actor,
    /// The token they ask by, as people name it.
    pub token: Option<String>,
    /// From where.
    pub address: IpAddr,
    /// Their program's own name.
    pub client: String,
}

/// A terminal that somebody wants to start.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The profile's name; none is the default one.
    pub profile: Option<String>,
    /// Limits lower than the profile's.
    pub lower: Lower,
    /// The reason they give.
    pub why: Option<String>,
    /// Words to put on the session.
    pub labels: BTreeMap<String, String>,
    /// The terminal's size.
    pub size: WindowSize,
}

impl Person {
    fn guest(&self) -> Guest {
        let name = self.who.name().to_owned();
        Guest { name, address: self.address, actor: self.actor.clone() }
    }
}

impl Engine {
    /// Starts a session with a terminal that nobody looks at yet. It goes on under its lease.
    ///
    /// # Errors
    /// A [`Refusal`], which is audited.
    pub async fn start_terminal(&self, person: &Person, wish: Wish) -> Result<SessionId, Refusal> {
        let stay = Stay {
            who: person.who.clone(),
            door: Door::Web,
            peer: SocketAddr::new(person.address, 0),
            client: person.client.clone(),
            hassh: None,
            profile: wish.profile,
            lower: wish.lower,
            why: wish.why,
            attempts: Vec::new(),
            connected_at: self.clock().wall(),
            web: Some(FromWeb {
                actor: person.actor.clone(),
                token: person.token.clone(),
                labels: wish.labels,
                cwd: None,
            }),
            on: None,
        };
        let session = self.open(stay.clone()).await?;
        let pty = Pty { term: Text::from(TERM), size: wish.size, modes: Vec::new() };
        let shell = ChannelRequest { pty: Some(pty), ..ChannelRequest::new(Program::Shell) };
        match session.start(shell).await {
            // What it prints until then is on record, which is where whoever comes reads it.
            Ok(_channel) => session.leave(Stays::NotYet).await,
            Err(refusal) => {
                session.request_end(EndReason::Failed).await;
                self.refused(&stay, &refusal).await;
                return Err(refusal);
            }
        }
        // Their right to stay may have gone while the sandbox came.
        if let Who::User(principal) = &stay.who
            && let Ok(false) = self.identity().still_stands(principal).await
        {
            session.request_end(EndReason::LoginEnded).await;
            return Err(Refusal::Account);
        }
        Ok(session.id())
    }

    /// Whether somebody may do this to a session in motion.
    #[must_use]
    pub fn may_now(&self, asker: Asker, deed: Deed, id: SessionId) -> Answer {
        match lock(&self.inner.live).get(&id) {
            Some(live) => {
                let remote = live.session.shared.remote.is_some();
                may(asker, deed, Ownership { owner: live.owner, remote })
            }
            None => Answer::Hidden,
        }
    }

    /// Looks on at a session's terminal: of this number, or the first. On record where the session is
    /// not theirs.
    ///
    /// # Errors
    /// A [`Refusal`]: it is over, has no terminal, or cannot be put on record.
    pub async fn look_on(
        &self,
        person: &Person,
        id: SessionId,
        number: Option<u16>,
    ) -> Result<Watching, Refusal> {
        let session = self.session(id).ok_or(Refusal::Over)?;
        if !self.may_now(person.asker, Deed::Watch, id).is_allowed() {
            return Err(Refusal::Over);
        }
        let watching = session.watch(number).await?;
        if !self.may_now(person.asker, Deed::Drive, id).is_allowed() {
            self.put_on(person, id, Action::SessionWatched, watching.number()).await?;
        }
        Ok(watching)
    }

    /// Takes the terminal that somebody looks on at. Whoever has it is told.
    ///
    /// # Errors
    /// A [`Refusal`]: they may not, it is gone, or it cannot be put on record.
    pub async fn take_keyboard(
        &self,
        person: &Person,
        watching: &Watching,
    ) -> Result<Driving, Refusal> {
        let id = watching.session().id();
        let taken = watching.driver().borrow().is_some();
        let own = self.may_now(person.asker, Deed::Drive, id).is_allowed();
        if !own && !self.may_now(person.asker, Deed::TakeOver, id).is_allowed() {
            return Err(Refusal::MayNotType);
        }
        // The session's task puts it on record when somebody has it.
        match (own, taken) {
            (true, false) => {
                self.put_on(person, id, Action::SessionAttached, watching.number()).await?;
            }
            (false, false) => {
                self.put_on(person, id, Action::SessionTakenOver, watching.number()).await?;
            }
            (_, true) if !self.audit().is_writable() && person.asker != Asker::Local => {
                return Err(Refusal::Audit);
            }
            (_, true) => {}
        }
        watching.drive(person.guest()).await
    }

    /// Interrupts what runs in front in a session's terminal. False: there is none.
    pub async fn interrupt(&self, person: &Person, id: SessionId, number: Option<u16>) -> bool {
        let Some(session) = self.session(id).filter(|session| session.goes_on()) else {
            return false;
        };
        let Some(number) = session.terminal(number).await else { return false };
        let event = Event::new(self.clock().wall(), Action::InterruptSent, person.actor.clone())
            .session(id)
            .detail("channel", number);
        self.audit().record_few(event, self.clock().mono());
        let interrupt = ToShim::Signal(number, "INT".to_owned());
        session.tell_shim(&interrupt).await.is_ok()
    }

    /// Puts on record what somebody is about to do with a terminal. Root does it in any case.
    async fn put_on(
        &self,
        person: &Person,
        id: SessionId,
        action: Action,
        channel: u16,
    ) -> Result<(), Refusal> {
        tracing::info!(
            session = %id, user = person.who.name(), source = %person.address, channel,
            event = action.name(), "a terminal is looked at or taken",
        );
        let event = Event::new(self.clock().wall(), action, person.actor.clone())
            .session(id)
            .detail("channel", channel);
        match self.audit().record(event).await {
            Ok(_) => Ok(()),
            Err(_) if person.asker == Asker::Local => Ok(()),
            Err(_) => Err(Refusal::Audit),
        }
    }
}
