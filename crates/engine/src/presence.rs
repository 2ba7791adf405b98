//! Who is at a session now: everybody who looks on at the web door, for the others to see.
//!
//! Whoever comes has a [`Seat`] until it is dropped. Who drives a terminal by SSH has none: that is told
//! as its driver.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;

use sojourn_core::ids::SessionId;
use tokio::sync::watch;

use crate::engine::lock;

/// The most people who are named; the others are there all the same.
pub const MOST_NAMED: usize = 32;

/// Somebody who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Their seat's number.
    pub seat: u64,
    /// Their name.
    pub user: String,
    /// Whether they may type or answer there, and came to.
    pub drives: bool,
}

/// Those who are at sessions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    rooms: Arc<Mutex<Rooms>>,
}

#[derive(Debug, Default)]
struct Rooms {
    next: u64,
    rooms: HashMap<SessionId, Room>,
}

#[derive(Debug, Default)]
struct Room {
    people: BTreeMap<u64, Present>,
    told: watch::Sender<Arc<[Present]>>,
}

/// A place at a session, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    presence: Presence,
    session: SessionId,
    number: u64,
    told: watch::Receiver<Arc<[Present]>>,
}

impl Presence {
    /// Somebody comes.
    #[must_use]
    pub fn enter(&self, session: SessionId, user: &str, drives: bool) -> Seat {
        let mut rooms = lock(&self.rooms);
        let number = rooms.next;
        rooms.next += 1;
        let room = rooms.rooms.entry(session).or_default();
        room.people.insert(number, Present { seat: number, user: user.to_owned(), drives });
        room.tell();
        let told = room.told.subscribe();
        drop(rooms);
        Seat { presence: self.clone(), session, number, told }
    }

    /// The names of those who look on at a session and do not drive it, each once.
    #[must_use]
    pub fn onlookers(&self, session: SessionId) -> Vec<String> {
        let rooms = lock(&self.rooms);
        let Some(room) = rooms.rooms.get(&session) else { return Vec::new() };
        let named = |drives: bool| {
            let those = room.people.values().filter(move |one| one.drives == drives);
            those.map(|one| one.user.clone()).collect::<BTreeSet<_>>()
        };
        named(false).difference(&named(true)).take(MOST_NAMED).cloned().collect()
    }
}

impl Room {
    fn tell(&self) {
        let all: Vec<Present> = self.people.values().take(MOST_NAMED).cloned().collect();
        self.told.send_replace(all.into());
    }
}

impl Seat {
    /// Its number, by which the others know it.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Everybody who is there, this one too, as it changes.
    #[must_use]
    pub fn people(&self) -> watch::Receiver<Arc<[Present]>> {
        self.told.clone()
    }

    /// Whether they drive from now on.
    pub fn drives(&self, drives: bool) {
        let mut rooms = lock(&self.presence.rooms);
        let Some(room) = rooms.rooms.get_mut(&self.session) else { return };
        if let Some(one) = room.people.get_mut(&self.number).filter(|one| one.drives != drives) {
            one.drives = drives;
            room.tell();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut rooms = lock(&self.presence.rooms);
        let Some(room) = rooms.rooms.get_mut(&self.session) else { return };
        room.people.remove(&self.number);
        room.tell();
        if room.people.is_empty() {
            rooms.rooms.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(seat: &Seat) -> Vec<(String, bool)> {
        let people = seat.people();
        let people = people.borrow();
        people.iter().map(|one| (one.user.clone(), one.drives)).collect()
    }

    #[test]
    fn those_who_are_there_see_who_comes_and_goes() {
        let presence = Presence::default();
        let session = "01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().unwrap();
        let ana = presence.enter(session, "ana", true);
        let told = ana.people();
        let bo = presence.enter(session, "bo", false);
        let again = presence.enter(session, "bo", false);
        assert!(told.has_changed().unwrap());
        let all = [("ana", true), ("bo", false), ("bo", false)].map(|(n, d)| (n.to_owned(), d));
        assert_eq!(names(&bo), all);
        assert_eq!(presence.onlookers(session), ["bo"]);
        again.drives(true);
        assert_eq!(presence.onlookers(session), Vec::<String>::new());
        drop((again, bo));
        assert_eq!(names(&ana), all[..1]);
        drop(ana);
        assert!(lock(&presence.rooms).rooms.is_empty(), "nothing is left of it");
    }
}
