//! What people read when a session ends, or is about to.

use sojourn_core::end::Configured;
use sojourn_core::end::EndReason;
use sojourn_core::end::Limit;
use sojourn_core::end::limit_message;
use sojourn_core::units::Size;
use std::time::Duration;

use crate::door::Cut;

/// The longest reason a person may give for ending a session, in characters.
const LONGEST_WHY: usize = 200;

/// Who ended a session, and why they said they did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedBy {
    /// Their name.
    pub name: String,
    /// Their reason.
    pub why: Option<String>,
}

impl EndedBy {
    /// A person with the reason they gave, cut to a line.
    #[must_use]
    pub fn new(name: &str, why: Option<&str>) -> Self {
        let one_line = |text: &str| -> String {
            text.chars().filter(|c| !c.is_control()).take(LONGEST_WHY).collect()
        };
        let why = why.map(one_line).filter(|why| !why.trim().is_empty());
        Self { name: one_line(name), why }
    }
}

/// What a session's channels say at its end; nothing when its own programs, or its client, ended it.
pub(crate) fn cut(reason: EndReason, configured: u64, by: Option<&EndedBy>) -> Option<Cut> {
    let status = reason.exit_status()?;
    let message = match (Limit::of(reason), reason) {
        (Some(limit @ Limit::MaxOutput), _) => {
            limit_message(limit, Configured::Bytes(Size(configured)))
        }
        (Some(limit @ Limit::MaxCost), _) => limit_message(limit, Configured::Cost(configured)),
        (Some(limit), _) => limit_message(limit, Configured::Time(Duration::from_secs(configured))),
        (None, EndReason::EndedBy) => match by {
            Some(EndedBy { name, why: Some(why) }) => format!("Session ended by {name}: {why}"),
            Some(EndedBy { name, why: None }) => format!("Session ended by {name}"),
            None => "Session ended".to_owned(),
        },
        (None, EndReason::LoginEnded) => "Session ended: your login has ended".to_owned(),
        (None, EndReason::Shutdown) => "Session ended: the gateway is shutting down".to_owned(),
        (None, EndReason::Failed) => "Session ended: it cannot be recorded".to_owned(),
        (None, _) => "Session ended: its sandbox was lost".to_owned(),
    };
    Some(Cut { message, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_line_and_status() {
        let bob = EndedBy::new("bob", Some("lunch\r\n\x1b[2J"));
        let line =
            |reason, configured, by| cut(reason, configured, by).map(|c| (c.message, c.status));
        assert_eq!(
            line(EndReason::EndedBy, 0, Some(&bob)),
            Some(("Session ended by bob: lunch[2J".to_owned(), 143))
        );
        assert_eq!(
            line(EndReason::IdleTimeout, 1800, None),
            Some(("Session idle timeout (30 min) - connection closed".to_owned(), 124))
        );
        assert_eq!(line(EndReason::Closed, 0, None), None);
    }
}
