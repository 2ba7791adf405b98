//! What a profile lets its sandboxes reach: the list of the configuration, and what it means at the
//! time a sandbox is made.
//!
//! Names are resolved here, by the runner. A sandbox whose list holds names gets them with their
//! addresses and needs no resolver; whoever serves a name does not decide what is private: an address
//! that is not public is reached only where the list names it as one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sojourn_core::wire::runner::Stage;
use sojourn_shim::nat;
use sojourn_shim::nat::GATEWAY_NET;
use sojourn_shim::nat::Nat;
use sojourn_shim::nat::Net;
use sojourn_shim::nat::Reach;
use tokio::time::Instant;

use crate::prepared::Failure;

/// The most entries of a list.
pub const MOST: usize = 128;
/// The most addresses of a name that are used.
const MOST_ADDRESSES: usize = 8;
/// How long the addresses of a name are believed.
const FRESH: Duration = Duration::from_secs(60);
/// How long resolving a name may take.
const RESOLVE: Duration = Duration::from_secs(5);

/// Networks that nothing leads to, whatever is named.
const NOWHERE: [&str; 5] =
    ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "10.0.2.0/24"];

/// One entry of the list, as in `example.com:443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    host: Host,
    /// None is every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// Everything that is public.
    Any,
    /// Addresses.
    Net(Net),
    /// Whatever it resolves to.
    Name(String),
}

/// What a list entry is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}")]
pub struct Malformed {
    text: String,
    problem: &'static str,
}

/// The network of a profile.
#[derive(Debug)]
pub struct Egress {
    entries: Vec<Entry>,
    rate: u64,
    known: Mutex<BTreeMap<String, Known>>,
}

/// What was found out about a name.
#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<Ipv4Addr>,
    at: Instant,
}

impl FromStr for Entry {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let refused = |problem| Malformed { text: text.to_owned(), problem };
        let form = "is not host:port, address:port, network/bits:port, *:port or host:*";
        let (host, port) = text.rsplit_once(':').ok_or(refused(form))?;
        if host.contains([':', '[']) {
            return Err(refused("is an IPv6 address: sandboxes have IPv4 alone"));
        }
        let port = match port {
            "*" => None,
            port if !port.bytes().all(|byte| byte.is_ascii_digit()) => return Err(refused(form)),
            port => match port.parse() {
                Ok(0) | Err(_) => return Err(refused("has no port from 1 to 65535, nor *")),
                Ok(port) => Some(port),
            },
        };
        let host = match host.parse::<Net>() {
            Ok(net) if leads_nowhere(net) => {
                return Err(refused(
                    "names what no sandbox can reach: loopback, multicast, or the network between \
                     the sandbox and what serves it, 10.0.2.0/24",
                ));
            }
            Ok(net) => Host::Net(net),
            Err(()) if host == "*" => Host::Any,
            Err(()) if is_name(host) => Host::Name(host.to_ascii_lowercase()),
            Err(()) => return Err(refused(form)),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Net(net) => net.fmt(f)?,
            Host::Name(name) => f.write_str(name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

fn leads_nowhere(net: Net) -> bool {
    let mut nowhere = NOWHERE.iter().filter_map(|nowhere| nowhere.parse::<Net>().ok());
    nowhere.any(|nowhere| nowhere.holds(net))
}

/// A host name of letters, digits, hyphens and dots that no resolver takes for a number.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(is_label)
        && last.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !last.starts_with("0x")
}

impl Egress {
    /// The network that a list and a rate describe. An empty list is everything public.
    #[must_use]
    pub fn new(entries: Vec<Entry>, rate: u64) -> Self {
        Self { entries, rate, known: Mutex::default() }
    }

    /// What it means now.
    ///
    /// # Errors
    /// When a name cannot be resolved and never could.
    pub(crate) async fn plan(&self) -> Result<Nat, Failure> {
        let own = nat::own_addresses()
            .map_err(|error| failure(format!("this machine's own addresses: {error}")))?;
        let mut resolved = Vec::new();
        for entry in &self.entries {
            let Host::Name(name) = &entry.host else { continue };
            if !resolved.iter().any(|(known, _)| known == name) {
                resolved.push((name.clone(), self.resolve(name).await?));
            }
        }
        Ok(self.with(own, resolved))
    }

    /// The plan with what names resolve to.
    fn with(&self, own: Vec<Ipv4Addr>, names: Vec<(String, Vec<Ipv4Addr>)>) -> Nat {
        let named: Vec<Reach> = self
            .entries
            .iter()
            .filter_map(|entry| match entry.host {
                Host::Any => Some(Reach { net: Net::ALL, port: entry.port }),
                Host::Net(net) => Some(Reach { net, port: entry.port }),
                Host::Name(_) => None,
            })
            .collect();
        let mut reach = named.clone();
        for entry in &self.entries {
            let Host::Name(name) = &entry.host else { continue };
            let found = names.iter().filter(|(known, _)| known == name);
            for address in found.flat_map(|(_, addresses)| addresses) {
                if nat::is_public(*address) && !own.contains(address) {
                    reach.push(Reach { net: Net::only(*address), port: entry.port });
                } else if !named.iter().any(|reach| is_named(reach, *address, entry.port)) {
                    tracing::warn!(
                        entry = %entry, %address,
                        "a name in egress resolves to an address that is not public: it is refused \
                         unless egress names the address itself"
                    );
                }
            }
        }
        let open = self.entries.is_empty();
        if open {
            reach.push(Reach { net: Net::ALL, port: None });
        }
        reach.sort_unstable();
        reach.dedup();
        let dns = open || self.entries.iter().any(|entry| entry.host == Host::Any);
        Nat { reach, own, dns, names, rate: self.rate }
    }

    async fn resolve(&self, name: &str) -> Result<Vec<Ipv4Addr>, Failure> {
        let known = self.lock().get(name).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < FRESH) {
            return Ok(known.addresses.clone());
        }
        let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((name, 0))).await;
        let problem = match found {
            Ok(Ok(found)) => {
                let addresses = of_v4(found.map(|address| address.ip()));
                if !addresses.is_empty() {
                    let known = Known { addresses: addresses.clone(), at: Instant::now() };
                    self.lock().insert(name.to_owned(), known);
                    return Ok(addresses);
                }
                "it has no IPv4 address".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        match known {
            // The host's resolver has a bad moment: what was true is the best there is.
            Some(known) => {
                tracing::warn!(name, problem, "a name in egress: its last addresses are used");
                Ok(known.addresses)
            }
            None => Err(failure(format!("egress: {name} cannot be resolved: {problem}"))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an entry for addresses names this one, and not only the whole internet.
fn is_named(reach: &Reach, address: Ipv4Addr, port: Option<u16>) -> bool {
    let covers_port = reach.port.is_none() || reach.port == port;
    reach.net != Net::ALL && covers_port && reach.net.holds(Net::only(address))
}

fn of_v4(found: impl Iterator<Item = IpAddr>) -> Vec<Ipv4Addr> {
    let mut addresses: Vec<Ipv4Addr> = found
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .filter(|address| !GATEWAY_NET.holds(Net::only(*address)))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    addresses
}

fn failure(message: String) -> Failure {
    Failure::new(Stage::Network, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn addresses(list: &[&str]) -> Vec<Ipv4Addr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn entries_are_read_and_shown() {
        for good in [
            "example.com:443",
            "198.51.100.1:80",
            "10.0.0.0/8:22",
            "*:443",
            "*:*",
            "host-1.example:*",
        ] {
            assert_eq!(entry(good).to_string(), good);
        }
        assert_eq!(entry("Example.COM:1").to_string(), "example.com:1");
        for bad in [
            "",
            ":",
            "example.com",
            "example.com:",
            "example.com:0",
            "example.com:65536",
            "example.com:+80",
            "example.com:http",
            "exa mple.com:80",
            "*.example.com:80",
            "-x.com:80",
            "10.0.0.1/8:80",
            "[::1]:80",
            "::1:80",
            "2001:db8::1:80",
            "127.0.0.1:80",
            "127.0.0.0/8:80",
            "10.0.2.2:80",
            "224.0.0.1:5353",
            "0.0.0.0:80",
            "1.2.3:80",
            "0x7f000001:80",
            "a..b:80",
            "a/b:80",
            "x;y:80",
            "\"x\":80",
        ] {
            assert!(bad.parse::<Entry>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_empty_list_is_everything_public_with_names() {
        let nat = Egress::new(Vec::new(), 5).with(addresses(&["192.0.2.1"]), Vec::new());
        assert_eq!(nat.reach, [Reach { net: Net::ALL, port: None }]);
        assert!(nat.dns && nat.rate == 5 && nat.own.len() == 1);
    }

    #[test]
    fn a_list_is_what_it_names() {
        let list = ["*:443", "10.0.0.0/8:22", "a.example:80", "b.example:*"].map(entry);
        let names = vec![
            ("a.example".to_owned(), addresses(&["198.51.100.7", "10.1.1.1", "192.0.2.1"])),
            ("b.example".to_owned(), addresses(&["198.51.100.8"])),
        ];
        let nat = Egress::new(list.to_vec(), 0).with(addresses(&["192.0.2.1"]), names.clone());
        let shown: Vec<_> =
            nat.reach.iter().map(|reach| format!("{} {:?}", reach.net, reach.port)).collect();
        assert_eq!(
            shown,
            [
                "0.0.0.0/0 Some(443)",
                "10.0.0.0/8 Some(22)",
                "198.51.100.7 Some(80)",
                "198.51.100.8 None"
            ],
            "a name makes neither a private address nor the host's own reachable"
        );
        assert!(nat.dns);
        assert_eq!(nat.names, names);
        let closed = Egress::new(vec![entry("a.example:80")], 0).with(Vec::new(), names);
        assert!(!closed.dns);
    }
}
