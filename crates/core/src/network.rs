//! Networks: which addresses somebody's word covers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address, or all that share its first bits: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u32,
}

/// Not an address and not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address or a network like 192.0.2.0/24")]
pub struct BadNetwork(pub String);

impl Network {
    /// Whether it has this address. IPv4 in the guise of IPv6 is IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            // The bits after the prefix are shifted out; all of them, where it is 0.
            (a ^ b).checked_shr(width.saturating_sub(self.prefix)).unwrap_or(0) == 0
        };
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                same(base.to_bits().into(), address.to_bits().into(), 32)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => same(base.to_bits(), address.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let bad = || BadNetwork(text.to_owned());
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        if prefix <= width { Ok(Self { base, prefix }) } else { Err(bad()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_matched_by_its_first_bits() {
        assert!(covers("192.0.2.0/24", "192.0.2.77"));
        assert!(!covers("192.0.2.0/24", "192.0.3.1"));
        assert!(covers("192.0.2.7", "::ffff:192.0.2.7"));
        assert!(!covers("192.0.2.7", "192.0.2.8"));
        assert!(covers("2001:db8::/32", "2001:db8:9::1"));
        assert!(covers("0.0.0.0/0", "198.51.100.1"));
        assert!(covers("::/0", "2001:db8::1"));
        assert!(!covers("::/0", "192.0.2.1"), "the other family");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2.0/-1", "example.org", "*"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let network: Network = "192.0.2.0/24".parse().unwrap();
        assert_eq!(network.to_string(), "192.0.2.0/24");
    }
}
