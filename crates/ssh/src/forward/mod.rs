//! Forwarded connections: what a client may reach from inside the sandbox (`local`), what is reached
//! at the client from inside (`remote`, `agent`, `x11`). All off unless the profile says otherwise; each is on
//! record with its target and its bytes.

mod agent;
mod greeting;
mod local;
mod passage;
mod remote;
mod x11;

pub(crate) use agent::AgentSocket;
pub(crate) use local::Wanted;
pub(crate) use remote::Remotes;
pub(crate) use remote::Where;
pub(crate) use x11::Asked;
pub(crate) use x11::Displays;

use sojourn_core::audit::Action;
use sojourn_engine::door::shown;
use sojourn_engine::profiles::Forward;

use crate::caller::Place;
use crate::connection::Connection;
use crate::gate::Gate;
use crate::gate::GateSession;

/// The longest target in the audit log, in characters.
const LONGEST_TARGET: usize = 512;

/// The name of a kind, as the configuration and the audit log have it.
pub(crate) const fn name(kind: Forward) -> &'static str {
    match kind {
        Forward::Local => "local",
        Forward::Remote => "remote",
        Forward::Agent => "agent",
        Forward::X11 => "x11",
    }
}

impl<G: Gate> Connection<G> {
    /// Whether this connection may forward so: its certificate and its profile have to let it.
    pub(crate) fn may_forward(&self, kind: Forward) -> bool {
        let Some(guest) = self.guest() else { return false };
        let terms = match kind {
            Forward::Local | Forward::Remote => guest.terms.port_forwarding,
            Forward::Agent => guest.terms.agent_forwarding,
            // A visitor's screen is nothing that a honeypot has business with.
            Forward::X11 => guest.terms.x11_forwarding && guest.who.user().is_some(),
        };
        let allowed = match (&guest.wish.place, self.opened()) {
            (Place::Profile(profile), _) => {
                self.gate.may_forward(&guest.who, profile.as_deref(), kind)
            }
            (Place::Running(_), Some(session)) => session.may_forward(kind),
            (Place::Running(ending), None) => self.gate.may_forward_in(&guest.who, ending, kind),
            (Place::Runner(_), _) => false,
        };
        terms && allowed
    }

    /// Puts on record that something was not forwarded.
    pub(crate) fn refused_forward(&self, kind: &str, target: &str, code: &str, why: &str) {
        let event = self
            .event(Action::ForwardRefused)
            .detail("kind", kind)
            .detail("target", shown(target.as_bytes(), LONGEST_TARGET))
            .detail("code", code);
        let why = shown(why.as_bytes(), LONGEST_TARGET);
        self.gate.record(if why.is_empty() { event } else { event.detail("reason", why) });
    }

    /// Puts on record how much else was not forwarded, when the connection is over.
    pub(crate) fn refused_more_forwards(&self, count: usize) {
        let event = self.event(Action::ForwardRefused);
        self.gate.record(event.detail("code", "more").detail("count", count));
    }
}
