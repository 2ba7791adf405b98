//! Logins at the web door: how long they last, as the file says it or a standard does.

use sojourn_core::units::Size;
use sojourn_core::units::Span;

use super::keys::keys;
use super::node::Node;
use super::report::Report;
use super::value::choice;

/// A hundred years.
const LONGEST: Span = Span::seconds(100 * 365 * 86_400);

choice! {
    /// Limits for logins that a standard asks for.
    pub(crate) enum Preset {
        /// None of them.
        None = "",
        /// 24 h, 30 min idle.
        Aal2 = "aal2",
        /// 12 h, 15 min idle.
        Aal3 = "aal3",
    }
}

keys! {
    /// Logins at the web door.
    pub(crate) struct Login {
        /// Limits a standard asks for: "", "aal2" (24 h / 30 min), "aal3" (12 h / 15 min).
        preset: Preset = Preset::None;
        /// The longest a login lasts.
        max_lifetime: Span = Span::seconds(7 * 86_400), from Span::seconds(1), to LONGEST;
        /// It ends after so long without activity.
        idle_timeout: Span = Span::seconds(1800), from Span::seconds(1), to LONGEST;
        /// How long before the idle timeout is over the person is told; and a minute before it, and a day
        /// and 15 minutes before the longest lifetime is over.
        remind_before: Span = Span::seconds(300);
        /// Logins a user may have; the least recently seen makes room.
        max_per_user: u32 = 10, from 1, to 1000;
        /// Whether a login's sessions end with it.
        end_sessions: bool = false;
        /// Whether a key at the SSH door is not enough for a user with a second factor.
        ssh_key_needs_totp: bool = false;
        /// Memory that a password's hash takes. When it is raised, each hash is made anew at the next
        /// sign-in.
        hash_memory: Size = Size::mib(19), from Size::mib(19), to Size::mib(256);
        /// How often a password's hash goes over that memory.
        hash_passes: u32 = 2, from 2, to 16;
        /// A new password is refused below this estimate, from 0 (none is) to 4 (found by no less than
        /// ten thousand million guesses). 2: a million guesses do not find it.
        least_password_score: u32 = 2, from 0, to 4;
    }
}

impl Preset {
    /// Lifetime and idle timeout that it asks for.
    const fn limits(self) -> Option<(Span, Span)> {
        match self {
            Self::None => None,
            Self::Aal2 => Some((Span::seconds(24 * 3600), Span::seconds(1800))),
            Self::Aal3 => Some((Span::seconds(12 * 3600), Span::seconds(900))),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Aal2 => "aal2",
            Self::Aal3 => "aal3",
        }
    }
}

impl Login {
    /// Takes from the preset what is not given. What is given may be stricter.
    pub(super) fn settle(&mut self, root: &Node, report: &mut Report) {
        let Some((lifetime, idle)) = self.preset.limits() else { return };
        let section = root.get("login").map(|node| node.unpacked().unwrap_or_else(|| node.clone()));
        let name = self.preset.name();
        for (key, value, most) in [
            ("max_lifetime", &mut self.max_lifetime, lifetime),
            ("idle_timeout", &mut self.idle_timeout, idle),
        ] {
            match section.as_ref().and_then(|section| section.get(key)) {
                None => *value = most,
                Some(node) if *value > most => {
                    let message = format_args!(
                        "{value} is longer than preset {name:?} allows, which is {most}; leave it \
                         out, or leave the preset out"
                    );
                    report.problem(node, message);
                }
                Some(_) => {}
            }
        }
    }
}
