//! A honeypot's way in: some passwords are right, and after enough wrong ones any is. Everything that
//! is tried goes on record, passwords too: here they are nobody's, and evidence.
//!
//! Nobody who comes in here is anybody: they have no account, whatever name they give.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::wire::runner::Attempt;
use sojourn_engine::honeypot::Pot;

use crate::connection::Connection;
use crate::gate::Gate;

/// The longest name and password that go on record, in characters after escaping.
const LONGEST_TEXT: usize = 128;

/// What makes a listener a honeypot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Honeypot {
    /// The profile its visitors get.
    pub profile: String,
    /// Names and passwords that are let in; a name may have several.
    pub credentials: Vec<(String, String)>,
    /// The try after so many refused passwords on one connection is let in; 0 = never.
    pub accept_after_failures: u32,
    /// How many sessions it may have at a time.
    pub max_sessions: usize,
    /// How long a wrong password takes, more or less, as on a machine with PAM.
    pub refusal_delay: Duration,
}

/// A honeypot that is open.
#[derive(Debug)]
pub(crate) struct Trap {
    setup: Honeypot,
    /// Where it listens, for the record.
    listener: String,
    pub(crate) pot: Pot,
}

/// Why somebody was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LetIn {
    /// The password is one of the listener's.
    Credential,
    /// Enough were refused before.
    AfterFailures,
}

/// Something that was tried.
pub(crate) struct Tried<'a> {
    pub(crate) method: &'a str,
    pub(crate) user: &'a str,
    pub(crate) password: Option<&'a str>,
    pub(crate) fingerprint: Option<String>,
}

impl Trap {
    pub(crate) fn new(setup: Honeypot, listener: String) -> Self {
        Self { pot: Pot::new(setup.max_sessions), setup, listener }
    }

    pub(crate) fn profile(&self) -> &str {
        &self.setup.profile
    }

    fn admits(&self, tried: &Tried<'_>, refused: u32) -> Option<LetIn> {
        let password = tried.password?;
        let is_it = |(user, known): &(String, String)| user == tried.user && known == password;
        if self.setup.credentials.iter().any(is_it) {
            return Some(LetIn::Credential);
        }
        let enough = self.setup.accept_after_failures;
        (enough > 0 && refused >= enough).then_some(LetIn::AfterFailures)
    }

    /// Judges what was tried, after so many refused passwords, and puts it on record.
    pub(crate) fn judge<G: Gate>(
        &self,
        tried: Tried<'_>,
        refused: u32,
        connection: &Connection<G>,
    ) -> Attempt {
        let let_in = self.admits(&tried, refused);
        let user = evident(tried.user);
        let password = tried.password.map(evident);
        let now = connection.gate.now();
        let actor = Actor::honeypot(&user, connection.peer.ip())
            .with_user_agent(connection.wire.client.get());
        let mut event = Event::new(now, Action::AuthAttempt, actor)
            .detail("method", tried.method)
            .detail("user", user.as_str())
            .detail("outcome", if let_in.is_some() { "accepted" } else { "refused" })
            .detail("listener", self.listener.as_str());
        for (name, value) in [
            ("password", password.as_deref()),
            ("fingerprint", tried.fingerprint.as_deref()),
            ("hassh", connection.wire.hassh.get()),
        ] {
            if let Some(value) = value {
                event = event.detail(name, value);
            }
        }
        event = match let_in {
            None => event,
            Some(LetIn::Credential) => event.detail("let_in", "credential"),
            Some(LetIn::AfterFailures) => {
                event.detail("let_in", "after_failures").detail("failures", refused)
            }
        };
        connection.gate.record(event);
        Attempt {
            at: now,
            method: tried.method.to_owned(),
            user,
            accepted: let_in.is_some(),
            fingerprint: tried.fingerprint,
            password,
        }
    }

    /// How long this refusal takes: never twice the same.
    pub(crate) fn delay(&self) -> Duration {
        // Three quarters of it to five quarters.
        let chance = RandomState::new().hash_one(0_u8) % 51;
        let percent = 75 + u32::try_from(chance).unwrap_or(25);
        self.setup.refusal_delay.saturating_mul(percent) / 100
    }
}

/// A text as it goes on record: what does not show is escaped, a backslash too, so that no two texts
/// look the same.
fn evident(text: &str) -> String {
    let mut shown = String::new();
    let mut length = 0;
    for char in text.chars() {
        let piece = match char {
            '\'' | '"' => char.to_string(),
            char => char.escape_debug().to_string(),
        };
        length += piece.chars().count();
        if length > LONGEST_TEXT {
            shown.push('…');
            break;
        }
        shown.push_str(&piece);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trap(accept_after_failures: u32) -> Trap {
        let pair = |user: &str, password: &str| (user.to_owned(), password.to_owned());
        let setup = Honeypot {
            profile: "bait".to_owned(),
            credentials: vec![pair("root", "toor"), pair("root", "root"), pair("pi", "")],
            accept_after_failures,
            max_sessions: 1,
            refusal_delay: Duration::from_secs(2),
        };
        Trap::new(setup, "192.0.2.1:22".to_owned())
    }

    fn tried<'a>(user: &'a str, password: Option<&'a str>) -> Tried<'a> {
        Tried { method: "password", user, password, fingerprint: None }
    }

    #[test]
    fn a_name_may_have_several_passwords() {
        let trap = trap(0);
        for password in ["toor", "root"] {
            assert_eq!(trap.admits(&tried("root", Some(password)), 0), Some(LetIn::Credential));
        }
        assert_eq!(trap.admits(&tried("pi", Some("")), 0), Some(LetIn::Credential));
        assert_eq!(trap.admits(&tried("root", Some("Root")), 1000), None, "0 is never");
        assert_eq!(trap.admits(&tried("toor", Some("toor")), 0), None, "another's password");
    }

    #[test]
    fn the_try_after_so_many_refused_passwords_is_let_in() {
        let trap = trap(3);
        for (refused, let_in) in [(2, None), (3, Some(LetIn::AfterFailures))] {
            assert_eq!(trap.admits(&tried("anybody+x", Some("guess")), refused), let_in);
        }
        assert_eq!(trap.admits(&tried("root", None), 1000), None, "a key never is");
    }

    #[test]
    fn what_was_tried_is_shown_and_bounded() {
        assert_eq!(evident("it's \"p\u{e4}ss\" 1"), "it's \"p\u{e4}ss\" 1");
        assert_eq!(evident("a\x1b[2J\r\n\\"), "a\\u{1b}[2J\\r\\n\\\\");
        assert_eq!(evident("\u{202e}x"), "\\u{202e}x");
        let long = evident(&"x".repeat(1000));
        assert_eq!(long.chars().count(), LONGEST_TEXT + 1);
        assert_eq!(evident(&"x".repeat(LONGEST_TEXT)).len(), LONGEST_TEXT);
        let delays: Vec<_> = (0..50).map(|_| trap(0).delay()).collect();
        let bounds = Duration::from_millis(1500)..=Duration::from_millis(2500);
        assert!(delays.iter().all(|delay| bounds.contains(delay)));
        assert!(delays.iter().any(|delay| *delay != delays[0]));
    }
}
