//! Who is where in a session: the connections that hold it, its channels, and the terminals whose
//! person is gone and may come back.
//!
//! ```text
//!   held ── its connection is gone ──▶ left ── somebody comes back ──▶ held
//!     └────────────── another connection takes it over ─────────────────▲
//! ```
//!
//! Decides only; the session's task tells the shim and the people.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sojourn_core::audit::Actor;
use sojourn_core::wire::shim::Attached;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::channel::Hand;
use crate::door::ChannelEvent;
use crate::door::Refusal;

/// A connection that holds a session. No two of a session are ever the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder(u64);

/// Who is at a connection.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) actor: Actor,
}

/// Who reads a channel.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) holder: Holder,
    pub(crate) events: mpsc::Sender<ChannelEvent>,
    pub(crate) hand: Arc<Hand>,
    pub(crate) answer: Answer,
}

/// What a reader still waits for.
#[derive(Debug)]
pub(crate) enum Answer {
    /// That its program runs.
    Started(oneshot::Sender<Result<(), String>>),
    /// Where the terminal stands that it comes back to; none: there is none any more.
    Attached(oneshot::Sender<Result<Option<(u16, Attached)>, Refusal>>),
    /// Nothing.
    Given,
}

/// One channel.
#[derive(Debug)]
struct Seat {
    terminal: bool,
    running: bool,
    reader: Option<Reader>,
    /// Attaches the shim has not answered. Until it has, what it sends was for somebody else.
    unanswered: u32,
}

/// What somebody who is gone left.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) guest: Guest,
    pub(crate) channels: Vec<Left>,
}

/// A channel that somebody left.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) number: u16,
    pub(crate) terminal: bool,
    pub(crate) reader: Reader,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    holders: BTreeMap<Holder, Guest>,
    next_holder: u64,
    seats: BTreeMap<u16, Seat>,
    /// Terminals whose person may come back; the last one left comes last.
    left: Vec<u16>,
}

impl Roster {
    /// Somebody holds the session from now on.
    pub(crate) fn enter(&mut self, guest: Guest) -> Holder {
        let holder = Holder(self.next_holder);
        self.next_holder += 1;
        self.holders.insert(holder, guest);
        holder
    }

    pub(crate) fn guest(&self, holder: Holder) -> Option<&Guest> {
        self.holders.get(&holder)
    }

    /// Whether no connection holds the session.
    pub(crate) fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }

    /// How many terminals wait for their person.
    pub(crate) fn detached(&self) -> usize {
        self.left.len()
    }

    /// Programs that run.
    pub(crate) fn running(&self) -> usize {
        self.seats.values().filter(|seat| seat.running).count()
    }

    /// A program is being started for somebody.
    pub(crate) fn seat(&mut self, number: u16, terminal: bool, reader: Reader) {
        let seat = Seat { terminal, running: false, reader: Some(reader), unanswered: 0 };
        self.seats.insert(number, seat);
    }

    /// A program that runs since before this gateway. Its terminal's person may come back.
    pub(crate) fn found(&mut self, number: u16, terminal: bool) {
        let seat = Seat { terminal, running: true, reader: None, unanswered: 0 };
        self.seats.insert(number, seat);
        if terminal {
            self.left.push(number);
        }
    }

    /// A program runs. False: whoever wanted it has given up, and it has no place here any more.
    pub(crate) fn started(&mut self, number: u16) -> bool {
        let Some(seat) = self.seats.get_mut(&number) else { return true };
        let Some(reader) = &mut seat.reader else { return true };
        if let Answer::Started(answer) = std::mem::replace(&mut reader.answer, Answer::Given)
            && answer.send(Ok(())).is_err()
        {
            self.seats.remove(&number);
            return false;
        }
        seat.running = true;
        true
    }

    /// A program that cannot be started.
    pub(crate) fn refused(&mut self, number: u16, why: String) {
        let reader = self.seats.remove(&number).and_then(|seat| seat.reader);
        if let Some(Reader { answer: Answer::Started(answer), .. }) = reader {
            let _gone = answer.send(Err(why));
        }
    }

    /// Who reads a channel now.
    pub(crate) fn reader(&self, number: u16) -> Option<&Reader> {
        let seat = self.seats.get(&number).filter(|seat| seat.unanswered == 0)?;
        seat.reader.as_ref()
    }

    /// Everybody who reads something now.
    pub(crate) fn readers(&self) -> impl Iterator<Item = &Reader> {
        let seats = self.seats.values().filter(|seat| seat.unanswered == 0);
        seats.filter_map(|seat| seat.reader.as_ref())
    }

    /// A terminal whose program runs: of this number, or the first.
    pub(crate) fn terminal(&self, wanted: Option<u16>) -> Option<u16> {
        let terminals = self.seats.iter().filter(|(_, seat)| seat.terminal && seat.running);
        let mut numbers = terminals.map(|(number, _)| *number);
        match wanted {
            Some(wanted) => numbers.find(|number| *number == wanted),
            None => numbers.next(),
        }
    }

    /// Whether somebody reads a channel, or will in a moment.
    pub(crate) fn is_read(&self, number: u16) -> bool {
        self.seats.get(&number).is_some_and(|seat| seat.reader.is_some())
    }

    /// Who drives a terminal.
    pub(crate) fn driver(&self, number: u16) -> Option<&Guest> {
        let reader = self.seats.get(&number).and_then(|seat| seat.reader.as_ref());
        reader.filter(|reader| !reader.has_closed()).and_then(|reader| self.guest(reader.holder))
    }

    /// The shim will answer an attach that is for no connection.
    pub(crate) fn expect(&mut self, number: u16) {
        if let Some(seat) = self.seats.get_mut(&number) {
            seat.unanswered += 1;
        }
    }

    /// The terminal that somebody who comes back gets: the one left last, else one that another
    /// connection holds.
    pub(crate) fn choose(&self, holder: Holder) -> Option<u16> {
        let held_by_another = |seat: &Seat| {
            let reader = seat.reader.as_ref();
            seat.terminal
                && seat.running
                && reader.is_some_and(|reader| reader.holder != holder && !reader.has_closed())
        };
        let another = || self.seats.iter().rev().find(|(_, seat)| held_by_another(seat));
        self.left.last().copied().or_else(|| another().map(|(number, _)| *number))
    }

    /// Gives a terminal to somebody who comes back, and gives whoever had it.
    pub(crate) fn attach(&mut self, number: u16, reader: Reader) -> Option<Reader> {
        self.left.retain(|left| *left != number);
        let seat = self.seats.get_mut(&number)?;
        seat.unanswered += 1;
        seat.reader.replace(reader)
    }

    /// The shim has answered an attach. Gives the number of one that nobody waits for any more.
    pub(crate) fn attached(&mut self, number: u16, attached: Option<Attached>) -> Option<u16> {
        let seat = self.seats.get_mut(&number)?;
        seat.unanswered = seat.unanswered.saturating_sub(1);
        let reader = seat.reader.as_mut().filter(|_| seat.unanswered == 0)?;
        let Answer::Attached(answer) = std::mem::replace(&mut reader.answer, Answer::Given) else {
            return None;
        };
        let is_there = attached.is_some();
        let told = answer.send(Ok(attached.map(|attached| (number, attached))));
        if told.is_ok() && is_there {
            return None;
        }
        seat.reader = None;
        if is_there {
            self.left.push(number);
        }
        is_there.then_some(number)
    }

    /// A connection is gone. With `may_return`, its terminals wait for it.
    pub(crate) fn leave(&mut self, holder: Holder, may_return: bool) -> Option<Leaving> {
        let guest = self.holders.remove(&holder)?;
        let mut channels = Vec::new();
        for number in self.seats.keys().copied().collect::<Vec<_>>() {
            channels.extend(self.vacate(number, holder, may_return));
        }
        Some(Leaving { guest, channels })
    }

    /// Takes a running program from somebody who is gone.
    pub(crate) fn vacate(&mut self, number: u16, holder: Holder, may_return: bool) -> Option<Left> {
        let seat = self.seats.get_mut(&number).filter(|seat| seat.running)?;
        let reader = seat.reader.take_if(|reader| reader.holder == holder)?;
        let terminal = seat.terminal && may_return;
        if terminal && !reader.has_closed() {
            self.left.push(number);
        }
        Some(Left { number, terminal, reader })
    }

    /// A program has ended. Gives whoever read it, and whether it ran.
    pub(crate) fn ended(&mut self, number: u16) -> Option<(Option<Reader>, bool)> {
        self.left.retain(|left| *left != number);
        let seat = self.seats.remove(&number)?;
        Some((seat.reader, seat.running))
    }

    /// Lets go of everybody.
    pub(crate) fn clear(&mut self) {
        self.seats.clear();
        self.left.clear();
    }
}

impl Reader {
    /// Whether its client closed the channel: then it is not to be come back to.
    pub(crate) fn has_closed(&self) -> bool {
        self.hand.left.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(name: &str) -> Guest {
        let address = "192.0.2.7".parse().unwrap();
        Guest { name: name.to_owned(), address, actor: Actor::ssh(name, address) }
    }

    fn reader(holder: Holder) -> (Reader, oneshot::Receiver<Result<(), String>>) {
        let (events, _) = mpsc::channel(1);
        let (answer, started) = oneshot::channel();
        let hand = Arc::new(Hand::new(0));
        (Reader { holder, events, hand, answer: Answer::Started(answer) }, started)
    }

    /// A roster with these programs of one connection.
    fn roster(programs: &[(u16, bool)]) -> (Roster, Holder) {
        let mut roster = Roster::default();
        let holder = roster.enter(guest("alice"));
        for (number, terminal) in programs {
            let (reader, _waiting) = reader(holder);
            roster.seat(*number, *terminal, reader);
            assert!(roster.started(*number));
        }
        (roster, holder)
    }

    type Waiting = oneshot::Receiver<Result<Option<(u16, Attached)>, Refusal>>;

    fn comer(holder: Holder) -> (Reader, Waiting) {
        let (answer, attached) = oneshot::channel();
        let (reader, _) = reader(holder);
        (Reader { answer: Answer::Attached(answer), ..reader }, attached)
    }

    fn place() -> Attached {
        Attached { file: "x.cast".to_owned(), offset: 1, size: Default::default(), printed: 9 }
    }

    #[test]
    fn terminals_wait_and_the_rest_does_not() {
        let (mut roster, alice) = roster(&[(0, true), (1, false), (2, true)]);
        let left = roster.leave(alice, true).unwrap().channels;
        let left: Vec<_> = left.iter().map(|left| (left.number, left.terminal)).collect();
        assert_eq!(left, [(0, true), (1, false), (2, true)]);
        assert_eq!((roster.is_held(), roster.detached(), roster.running()), (false, 2, 3));
        assert!(roster.leave(alice, true).is_none(), "twice is once");
        let back = roster.enter(guest("alice"));
        for number in [2, 0] {
            assert_eq!(roster.choose(back), Some(number), "the last one first");
            let (reader, waiting) = comer(back);
            assert!(roster.attach(number, reader).is_none());
            assert!(roster.reader(number).is_none(), "what comes now is not for them");
            assert_eq!(roster.attached(number, Some(place())), None);
            assert_eq!(waiting.blocking_recv().unwrap().unwrap(), Some((number, place())));
            assert!(roster.reader(number).is_some());
        }
        assert_eq!(roster.choose(back), None, "one's own is not taken over");
    }

    #[test]
    fn what_was_closed_or_may_not_return_does_not_wait() {
        let (mut roster, alice) = roster(&[(0, true), (1, true)]);
        roster.reader(0).unwrap().hand.left.store(true, Ordering::Release);
        let other = roster.enter(guest("alice"));
        assert_eq!(roster.choose(other), Some(1), "the other was closed");
        roster.leave(alice, true).unwrap();
        assert_eq!(roster.detached(), 1);
        let (mut roster, alice) = self::roster(&[(0, true)]);
        let left = roster.leave(alice, false).unwrap();
        assert!(!left.channels[0].terminal && roster.detached() == 0);
    }

    #[test]
    fn another_connection_is_taken_over_and_the_last_comer_has_it() {
        let (mut roster, _alice) = roster(&[(0, true)]);
        let (first, second) = (roster.enter(guest("alice")), roster.enter(guest("alice")));
        let (one, waits) = comer(first);
        assert!(roster.attach(roster.choose(first).unwrap(), one).is_some());
        let (two, waiting) = comer(second);
        let old = roster.attach(roster.choose(second).unwrap(), two).unwrap();
        assert_eq!(old.holder, first);
        drop(old);
        assert_eq!(roster.attached(0, Some(place())), None);
        assert!(roster.reader(0).is_none(), "this answer was the first one's");
        assert_eq!(roster.attached(0, Some(place())), None);
        assert_eq!(waiting.blocking_recv().unwrap().unwrap(), Some((0, place())));
        assert!(waits.blocking_recv().is_err());
        assert_eq!(roster.reader(0).unwrap().holder, second);
    }

    #[test]
    fn a_comer_who_gave_up_leaves_the_terminal_to_wait() {
        let (mut roster, alice) = roster(&[(0, true)]);
        roster.leave(alice, true);
        let back = roster.enter(guest("alice"));
        let (reader, waiting) = comer(back);
        roster.attach(0, reader);
        drop(waiting);
        assert_eq!(roster.attached(0, Some(place())), Some(0));
        assert_eq!(roster.detached(), 1);
        assert!(roster.ended(0).is_some());
        assert_eq!((roster.detached(), roster.running()), (0, 0));
    }
}
