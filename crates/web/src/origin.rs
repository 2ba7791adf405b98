//! What browsers see: scheme, host and port, which are compared and never guessed.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The longest name of a host.
const LONGEST_HOST: usize = 253;

/// Names of this machine that mean the same.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The gateway as browsers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    secure: bool,
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
}

/// Not the address of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not an address like https://gateway.example.org: {why}")]
pub struct BadUrl {
    url: String,
    why: &'static str,
}

impl Origin {
    /// This machine, by its own name.
    #[must_use]
    pub fn local(secure: bool, port: u16) -> Self {
        Self { secure, host: "localhost".to_owned(), port }
    }

    /// The host's name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether browsers come by https.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether only browsers on this machine can mean it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        LOOPBACK.contains(&self.host.as_str())
    }

    /// Whether a `Host` header means this gateway.
    #[must_use]
    pub fn is_host(&self, host: &str) -> bool {
        let Some((name, port)) = split_port(host) else { return false };
        let port = port.unwrap_or_else(|| default_port(self.secure));
        port == self.port && self.is_name(name)
    }

    /// Whether an `Origin` header is this gateway's own.
    #[must_use]
    pub fn is_origin(&self, origin: &str) -> bool {
        let scheme = if self.secure { "https://" } else { "http://" };
        origin.strip_prefix(scheme).is_some_and(|host| self.is_host(host))
    }

    fn is_name(&self, name: &str) -> bool {
        let same = |known: &str| known.eq_ignore_ascii_case(name);
        same(&self.host) || (self.is_loopback() && LOOPBACK.into_iter().any(same))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default_port(self.secure) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl FromStr for Origin {
    type Err = BadUrl;

    fn from_str(url: &str) -> Result<Self, BadUrl> {
        let bad = |why| BadUrl { url: url.to_owned(), why };
        let (secure, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(bad("it begins neither with https:// nor with http://")),
        };
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.contains(['/', '?', '#', '@']) {
            return Err(bad("after the host there is only a port"));
        }
        let (name, port) = split_port(host).ok_or_else(|| bad("the port is not a number"))?;
        if !is_host_name(name) {
            return Err(bad("the host is neither a name nor an address"));
        }
        let port = port.unwrap_or_else(|| default_port(secure));
        Ok(Self { secure, host: name.to_ascii_lowercase(), port })
    }
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// A host and its port, where one is given; none when it cannot be one.
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    let end_of_name = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at_checked(end_of_name)?;
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok().filter(|port| *port > 0)?)
        }
        _ => return None,
    };
    Some((name, port))
}

fn is_host_name(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let looks_numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    name.len() <= LONGEST_HOST
        && name.split('.').all(is_label)
        && (!looks_numeric || name.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        url.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn an_address_is_read_and_written() {
        for (url, written) in [
            ("https://Gateway.Example.org", "https://gateway.example.org"),
            ("https://gateway.example.org:443/", "https://gateway.example.org"),
            ("https://gateway.example.org:8443", "https://gateway.example.org:8443"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://192.0.2.7", "http://192.0.2.7"),
        ] {
            assert_eq!(origin(url).to_string(), written);
        }
        for bad in [
            "",
            "localhost",
            "ftp://x",
            "HTTPS://x",
            "https://",
            "https://a/b",
            "https://a?x",
            "https://u@a",
            "https://a:b",
            "https://a:0",
            "https://a:70000",
            "https://a b",
            "https://-a",
            "https://a..b",
            "https://[::1",
            "https://::1",
            "https://1.2.3.4.5",
            "https://a:",
            "https://ä.example",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn on_this_machine_its_names_mean_the_same() {
        let local = Origin::local(false, 8080);
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LocalHost:8080"] {
            assert!(local.is_host(host), "{host}");
            assert!(local.is_origin(&format!("http://{host}")), "{host}");
            assert!(!local.is_origin(&format!("https://{host}")), "{host}");
        }
        for host in [
            "localhost",
            "localhost:80",
            "127.0.0.2:8080",
            "evil:8080",
            "localhost.evil:8080",
            "localhost:8080.evil",
            "",
            "localhost:",
            ":8080",
            "localhost:08080x",
            "[::1]8080",
        ] {
            assert!(!local.is_host(host), "{host}");
        }
        assert!(!local.is_origin("null"));
        assert!(!local.is_origin("http://localhost:8080/"));
    }

    #[test]
    fn elsewhere_only_the_address_itself_will_do() {
        let far = origin("https://gateway.example.org");
        assert!(!far.is_loopback() && far.is_secure());
        for host in ["gateway.example.org", "GATEWAY.example.org", "gateway.example.org:443"] {
            assert!(far.is_host(host), "{host}");
        }
        for host in ["example.org", "gateway.example.org:80", "localhost", "x.gateway.example.org"]
        {
            assert!(!far.is_host(host), "{host}");
        }
        assert!(far.is_origin("https://gateway.example.org"));
        assert!(!far.is_origin("http://gateway.example.org"));
        assert!(!far.is_origin("https://gateway.example.org.evil"));
        assert!(far.is_origin("https://gateway.example.org:443"));
    }
}
