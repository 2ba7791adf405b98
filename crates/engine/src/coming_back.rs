//! Coming back to a session that runs: which one is meant, who may, and what they are told when it is
//! none.

use sojourn_core::ids::SHORTEST_ENDING;

use crate::door::Detached;
use crate::door::Refusal;
use crate::door::Stay;
use crate::door::Who;
use crate::engine::Engine;
use crate::identity::Principal;
use crate::profiles::DEFAULT;
use crate::profiles::Forward;
use crate::records;
use crate::session::Session;

/// The most sessions that one line names.
const NAMED: usize = 20;

impl Engine {
    /// A session of theirs that runs, for a connection that holds it from now on. `typed` is an ending
    /// of its id, or nothing where there is only one.
    ///
    /// # Errors
    /// A [`Refusal`], which is audited. One that is not theirs is answered like one that is not there.
    pub async fn come_back(&self, stay: &Stay, typed: &str) -> Result<Session, Refusal> {
        let back = self.try_come_back(stay, typed).await;
        if let Err(refusal) = &back {
            self.refused(stay, refusal).await;
        }
        back
    }

    async fn try_come_back(&self, stay: &Stay, typed: &str) -> Result<Session, Refusal> {
        let inner = &self.inner;
        if self.shutdown().is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        if !inner.audit.is_writable() {
            return Err(Refusal::Audit);
        }
        // A honeypot's visitor is nobody here.
        let principal = stay.who.user().ok_or(Refusal::Account)?;
        match inner.identity.may_begin(principal).await {
            Ok(true) => {}
            Ok(false) => return Err(Refusal::Account),
            Err(_) => return Err(Refusal::Store),
        }
        let theirs = self.to_come_back_to(principal);
        let found = theirs.iter().filter(|session| is_meant(&session.id().to_string(), typed));
        let session = match found.collect::<Vec<_>>().as_slice() {
            [one] => (*one).clone(),
            meant => return Err(Refusal::NoSession(no_one(&theirs, typed, meant.len()))),
        };
        let session = session.enter(records::guest(stay)).await?;
        if let Err(refusal) = inner.records.attached(session.id(), stay).await {
            session.connection_gone().await;
            return Err(refusal);
        }
        Ok(session)
    }

    /// Whether somebody may forward so in the session of theirs that `typed` means. Nobody comes back to
    /// it for the question.
    #[must_use]
    pub fn may_forward_in(&self, who: &Who, typed: &str, kind: Forward) -> bool {
        let Some(principal) = who.user() else { return false };
        let theirs = self.to_come_back_to(principal);
        let mut meant = theirs.iter().filter(|s| is_meant(&s.id().to_string(), typed));
        matches!((meant.next(), meant.next()), (Some(one), None) if one.may_forward(kind))
    }

    /// Their sessions that go on under profiles they still may use.
    fn to_come_back_to(&self, principal: &Principal) -> Vec<Session> {
        let theirs = self.inner.theirs(principal.id).into_iter();
        let allowed = theirs.filter(|(session, profile)| {
            // What another machine calls its profile is that machine's affair.
            let name = if session.shared.remote.is_some() { DEFAULT } else { profile };
            session.is_going_on() && self.inner.profiles.usable(name, principal).is_some()
        });
        allowed.map(|(session, _)| session).collect()
    }

    /// A refusal for want of room that names those of their sessions that wait for them.
    pub(crate) fn naming(&self, full: Refusal, principal: &Principal) -> Refusal {
        let waiting = self.to_come_back_to(principal).into_iter().filter(|s| !s.is_attached());
        let endings: Vec<_> = waiting.take(NAMED).map(|session| session.id().short()).collect();
        if endings.is_empty() {
            return full;
        }
        let yours = Detached { user: principal.name.clone(), endings };
        match full {
            Refusal::GatewayFull { active, max, .. } => {
                Refusal::GatewayFull { active, max, detached: yours }
            }
            Refusal::UserFull { active, max, .. } => {
                Refusal::UserFull { active, max, detached: yours }
            }
            other => other,
        }
    }
}

/// Whether an id ends as somebody typed it; nothing means any.
fn is_meant(id: &str, typed: &str) -> bool {
    let plain = |text: &str| text.replace('-', "").to_ascii_lowercase();
    let ending = plain(typed);
    typed.is_empty() || (ending.len() >= SHORTEST_ENDING && plain(id).ends_with(&ending))
}

/// Why it is none of these.
fn no_one(theirs: &[Session], typed: &str, meant: usize) -> String {
    let name = |session: &Session| {
        let detached = if session.is_attached() { "" } else { " (detached)" };
        format!("{}{detached}", session.id().short())
    };
    let names: Vec<String> = theirs.iter().take(NAMED).map(name).collect();
    let which = match (typed.is_empty(), meant) {
        (true, 0) => return "you have no running session to come back to".to_owned(),
        (true, _) => format!("you have {meant} running sessions; name one"),
        (false, 0) if typed.len() < SHORTEST_ENDING => {
            format!("write at least the last {SHORTEST_ENDING} characters of the session's id")
        }
        (false, 0) => format!("no running session of yours ends in {typed:?}"),
        (false, _) => format!("more than one running session of yours ends in {typed:?}"),
    };
    match names.is_empty() {
        true => format!("{which}; you have none"),
        false => format!("{which}: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_has_four_characters_or_more() {
        let id = "01932b5e-7c1a-7f00-8000-00003f2a91c0";
        for typed in ["", "91c0", "3f2a91c0", "3F2A91C0", "8000-00003f2a91c0", id] {
            assert!(is_meant(id, typed), "{typed}");
        }
        for typed in ["1c0", "91c1", "-", "--91", "0193", "x91c0"] {
            assert!(!is_meant(id, typed), "{typed}");
        }
    }
}
