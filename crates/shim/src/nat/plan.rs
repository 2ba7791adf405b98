//! What a sandbox may reach.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// The network between a sandbox and what serves it, which is the same for all and seen by none.
pub const GATEWAY_NET: Net = Net { address: Ipv4Addr::new(10, 0, 2, 0), prefix: 24 };
/// Where names are resolved in it.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// Networks that are not the public internet (RFC 6890 and what followed): the host's own, its
/// neighbours', a cloud's metadata. Those for documentation are not among them: they lead nowhere.
pub(super) const NOT_PUBLIC: [Net; 12] = [
    net([0, 0, 0, 0], 8),
    net([10, 0, 0, 0], 8),
    net([100, 64, 0, 0], 10),
    net([127, 0, 0, 0], 8),
    net([169, 254, 0, 0], 16),
    net([172, 16, 0, 0], 12),
    net([192, 0, 0, 0], 24),
    net([192, 88, 99, 0], 24),
    net([192, 168, 0, 0], 16),
    net([198, 18, 0, 0], 15),
    net([224, 0, 0, 0], 4),
    net([240, 0, 0, 0], 4),
];

const fn net([a, b, c, d]: [u8; 4], prefix: u8) -> Net {
    Net { address: Ipv4Addr::new(a, b, c, d), prefix }
}

/// The network of one sandbox: what it may reach and how fast. It is IPv4 alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// What may be reached, with TCP and UDP. What is not public only where an entry lies wholly
    /// within a network that is not.
    pub reach: Vec<Reach>,
    /// Addresses that are as good as private: the host's own.
    pub own: Vec<Ipv4Addr>,
    /// Whether names can be resolved.
    pub dns: bool,
    /// Names with the addresses they have inside.
    pub names: Vec<(String, Vec<Ipv4Addr>)>,
    /// Bytes a second, each way; 0 is as many as there are.
    pub rate: u64,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Net {
    address: Ipv4Addr,
    prefix: u8,
}

/// A place that may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reach {
    /// Where.
    pub net: Net,
    /// At which port; none is every one.
    pub port: Option<u16>,
}

impl Net {
    /// All addresses.
    pub const ALL: Self = net([0, 0, 0, 0], 0);

    /// One address.
    #[must_use]
    pub const fn only(address: Ipv4Addr) -> Self {
        Self { address, prefix: 32 }
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn holds(&self, other: Self) -> bool {
        self.prefix <= other.prefix
            && (self.address.to_bits() ^ other.address.to_bits()) & self.mask() == 0
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
}

/// Whether an address is one of the internet, as far as its number tells.
#[must_use]
pub fn is_public(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC.iter().any(|net| net.holds(Net::only(address)))
}

impl FromStr for Net {
    type Err = ();

    /// An address, or an address, a slash and how many of its bits count; the others are zero.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) if !prefix.starts_with('+') => {
                (address, prefix.parse().map_err(drop)?)
            }
            Some(_) => return Err(()),
            None => (text, 32),
        };
        let net = Self { address: address.parse().map_err(drop)?, prefix };
        let fits = prefix <= 32 && net.address.to_bits() & !net.mask() == 0;
        if fits { Ok(net) } else { Err(()) }
    }
}

impl TryFrom<String> for Net {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse().map_err(|()| "not a network")
    }
}

impl From<Net> for String {
    fn from(net: Net) -> Self {
        net.to_string()
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            32 => write!(f, "{}", self.address),
            prefix => write!(f, "{}/{prefix}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_compared() {
        let net = |text: &str| text.parse::<Net>();
        for good in ["10.1.2.3", "10.0.0.0/8", "0.0.0.0/0", "192.168.1.128/25"] {
            assert_eq!(net(good).unwrap().to_string(), good);
        }
        for bad in ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::1", "10.0.0.0/+8"]
        {
            assert_eq!(net(bad), Err(()), "{bad:?}");
        }
        assert!(net("10.0.0.0/8").unwrap().holds(net("10.9.0.0/16").unwrap()));
        assert!(!net("10.9.0.0/16").unwrap().holds(net("10.0.0.0/8").unwrap()));
        assert!(Net::ALL.holds(GATEWAY_NET) && !GATEWAY_NET.holds(Net::ALL));
    }

    #[test]
    fn what_is_private_is_not_public() {
        for private in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "100.127.0.1",
            "192.168.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "198.19.0.1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["9.9.9.9", "172.32.0.1", "100.128.0.1", "198.51.100.1", "223.255.255.255"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
