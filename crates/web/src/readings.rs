//! Who reads whose conversation. It is read page by page, and one opening of it is one line of the audit
//! log.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::time::Mono;

/// When nothing was read for so long, the next page opens it anew.
const APART: Duration = Duration::from_secs(600);

/// So many openings are remembered. Of those beyond them each page is on record.
const MOST: usize = 1024;

type Opened = HashMap<(String, SessionId), Mono>;

/// What was read of late.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    last: Mutex<Opened>,
}

impl Readings {
    /// Whether this is a further page of what they have opened.
    pub(crate) fn goes_on(&self, person: &str, session: SessionId, now: Mono) -> bool {
        match self.last().get_mut(&(person.to_owned(), session)) {
            Some(last) if now.since(*last) < APART => {
                *last = now;
                true
            }
            _ => false,
        }
    }

    /// They have opened it, and that is on record.
    pub(crate) fn opened(&self, person: &str, session: SessionId, now: Mono) {
        let mut last = self.last();
        if last.len() >= MOST {
            last.retain(|_, at| now.since(*at) < APART);
        }
        if last.len() < MOST {
            last.insert((person.to_owned(), session), now);
        }
    }

    fn last(&self) -> MutexGuard<'_, Opened> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_follow_one_another_are_one_opening() {
        let readings = Readings::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000);
        let (one, other) = (SessionId::new(), SessionId::new());
        assert!(!readings.goes_on("adam", one, at(1000)));
        // Nothing is open before it is on record.
        assert!(!readings.goes_on("adam", one, at(1000)));
        readings.opened("adam", one, at(1000));
        assert!(readings.goes_on("adam", one, at(1500)));
        assert!(readings.goes_on("adam", one, at(2000)));
        assert!(!readings.goes_on("adam", other, at(2000)));
        assert!(!readings.goes_on("dora", one, at(2000)));
        assert!(!readings.goes_on("adam", one, at(2600)));
    }
}
