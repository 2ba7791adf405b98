//! Where a request comes from when a proxy passes it on. Only the configured proxies are believed, and
//! of what they pass on only what they or one of them added: the right-most hop that is none of them.

use std::net::IpAddr;
use std::net::SocketAddr;

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::header::FORWARDED;
use sojourn_core::network::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The most hops that are looked at.
const MOST_HOPS: usize = 32;

/// The address of whoever asked, as far as it is known.
pub(crate) fn source(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    if !is_one_of(trusted, peer) {
        return peer;
    }
    let lists = [
        walk(peer, headers, &X_FORWARDED_FOR, |hop| Some(hop), trusted),
        walk(peer, headers, &FORWARDED, hop_of_forwarded, trusted),
    ];
    match lists {
        [None, None] => peer,
        [Some(one), None] | [None, Some(one)] => one,
        // One of them the proxy only passed on, and it is not known which.
        [Some(one), Some(other)] => {
            if one == other {
                one
            } else {
                peer
            }
        }
    }
}

/// Whether headers of proxies are there, true or not.
pub(crate) fn is_passed_on(headers: &HeaderMap) -> bool {
    headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED)
}

/// Goes through a list of hops from the right; none when there is no such list.
fn walk(
    peer: IpAddr,
    headers: &HeaderMap,
    name: &HeaderName,
    hop: fn(&str) -> Option<&str>,
    trusted: &[Network],
) -> Option<IpAddr> {
    let lines: Vec<&str> =
        headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    if lines.is_empty() {
        return None;
    }
    let mut nearest = peer;
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')).take(MOST_HOPS) {
        let Some(address) = hop(entry.trim()).and_then(address) else { break };
        nearest = address;
        if !is_one_of(trusted, address) {
            break;
        }
    }
    Some(nearest)
}

/// The `for` of one entry of `Forwarded`.
fn hop_of_forwarded(entry: &str) -> Option<&str> {
    let pair = entry.split(';').map(str::trim).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    Some(pair.strip_prefix('"').and_then(|pair| pair.strip_suffix('"')).unwrap_or(pair))
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|with| with.ip()));
    address.map(|address| address.to_canonical())
}

fn is_one_of(trusted: &[Network], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn from(peer: &str, headers: &[(&'static str, &'static str)]) -> String {
        let trusted = ["192.0.2.0/24".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        source(peer.parse().unwrap(), &map, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let spoofed = [("x-forwarded-for", "203.0.113.9")];
        assert_eq!(from("198.51.100.1", &spoofed), "198.51.100.1");
        assert_eq!(from("192.0.2.7", &spoofed), "203.0.113.9");
        assert_eq!(from("192.0.2.7", &[]), "192.0.2.7");
    }

    #[test]
    fn it_is_the_right_most_hop_that_is_not_ours() {
        for (list, source) in [
            ("1.1.1.1, 203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, 203.0.113.9, 192.0.2.8", "203.0.113.9"),
            ("192.0.2.9, 192.0.2.8", "192.0.2.9"),
            ("203.0.113.9:5123", "203.0.113.9"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("2001:db8::7,2001:db8::1", "2001:db8::7"),
            ("1.1.1.1, unknown", "192.0.2.7"),
            ("1.1.1.1, unknown, 192.0.2.8", "192.0.2.8"),
            ("", "192.0.2.7"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
        ] {
            assert_eq!(from("192.0.2.7", &[("x-forwarded-for", list)]), source, "{list}");
        }
        let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(from("192.0.2.7", &lines), "203.0.113.9", "the last line is the nearest");
    }

    #[test]
    fn both_headers_are_believed_only_together() {
        let forwarded = ("forwarded", "for=\"[2001:db8::7]:5\";proto=https");
        assert_eq!(from("192.0.2.7", &[forwarded]), "2001:db8::7");
        let same = ("x-forwarded-for", "2001:db8::7");
        assert_eq!(from("192.0.2.7", &[forwarded, same]), "2001:db8::7");
        let other = ("x-forwarded-for", "203.0.113.9");
        assert_eq!(from("192.0.2.7", &[forwarded, other]), "192.0.2.7");
        let odd = ("forwarded", "by=1.2.3.4;FOR=203.0.113.9");
        assert_eq!(from("192.0.2.7", &[odd]), "203.0.113.9");
    }
}
