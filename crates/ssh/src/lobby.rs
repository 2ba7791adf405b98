//! The lobby: connections that have not signed in yet. It is bounded by address and in all, and when
//! it is full the one that has stood there longest makes room, so a flood never keeps a newcomer out.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;

/// How many may stand in the lobby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LobbyLimits {
    /// From one address; of IPv6, from one /64.
    pub per_address: usize,
    /// In all.
    pub in_all: usize,
}

impl Default for LobbyLimits {
    fn default() -> Self {
        Self { per_address: 100, in_all: 1000 }
    }
}

/// Where somebody comes from, as it is counted: an IPv4 address, or the /64 of an IPv6 one, which is
/// the least that anybody with IPv6 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Self(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
        }
    }
}

/// One's place in the lobby; smaller is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Who stands in the lobby; `T` is what it takes to show one out.
#[derive(Debug)]
pub(crate) struct Lobby<T> {
    limits: LobbyLimits,
    next: u64,
    waiting: BTreeMap<Ticket, (Origin, T)>,
    origins: HashMap<Origin, BTreeSet<Ticket>>,
}

impl<T> Lobby<T> {
    pub(crate) fn new(limits: LobbyLimits) -> Self {
        Self { limits, next: 0, waiting: BTreeMap::new(), origins: HashMap::new() }
    }

    /// Takes one in. Whoever has to go for that is given back.
    pub(crate) fn enter(&mut self, origin: Origin, who: T) -> (Ticket, Option<T>) {
        let here = self.origins.get(&origin);
        let oldest = if here.is_some_and(|here| here.len() >= self.limits.per_address) {
            here.and_then(|here| here.first()).copied()
        } else if self.waiting.len() >= self.limits.in_all {
            self.waiting.first_key_value().map(|(ticket, _)| *ticket)
        } else {
            None
        };
        let evicted = oldest.and_then(|oldest| self.leave(oldest));
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, (origin, who));
        self.origins.entry(origin).or_default().insert(ticket);
        (ticket, evicted)
    }

    /// One leaves: signed in, gone, or shown out before.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let (origin, who) = self.waiting.remove(&ticket)?;
        if let Some(here) = self.origins.get_mut(&origin) {
            here.remove(&ticket);
            if here.is_empty() {
                self.origins.remove(&origin);
            }
        }
        Some(who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lobby(per_address: usize, in_all: usize) -> Lobby<&'static str> {
        Lobby::new(LobbyLimits { per_address, in_all })
    }

    fn origin(address: &str) -> Origin {
        Origin::of(address.parse().unwrap())
    }

    #[test]
    fn the_oldest_of_a_full_address_makes_room() {
        let mut lobby = lobby(2, 100);
        let (_, none) = lobby.enter(origin("192.0.2.1"), "other");
        assert_eq!(none, None);
        lobby.enter(origin("192.0.2.7"), "first");
        lobby.enter(origin("192.0.2.7"), "second");
        let (third, evicted) = lobby.enter(origin("192.0.2.7"), "third");
        assert_eq!(evicted, Some("first"), "not somebody else's");
        assert_eq!(lobby.leave(third), Some("third"));
        assert_eq!(lobby.enter(origin("192.0.2.7"), "fourth").1, None, "there is room again");
    }

    #[test]
    fn the_oldest_of_all_makes_room_in_a_full_lobby() {
        let mut lobby = lobby(100, 2);
        lobby.enter(origin("192.0.2.1"), "first");
        lobby.enter(origin("192.0.2.2"), "second");
        assert_eq!(lobby.enter(origin("192.0.2.3"), "third").1, Some("first"));
    }

    #[test]
    fn who_left_leaves_nothing_behind() {
        let mut lobby = lobby(2, 2);
        for _ in 0..1000 {
            let (ticket, _) = lobby.enter(origin("192.0.2.1"), "one");
            assert_eq!(lobby.leave(ticket), Some("one"));
            assert_eq!(lobby.leave(ticket), None, "twice is once");
        }
        assert!(lobby.waiting.is_empty() && lobby.origins.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff::9"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"), "IPv4 in disguise");
    }
}
