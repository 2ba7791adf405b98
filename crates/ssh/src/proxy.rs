//! The PROXY protocol, versions 1 and 2: a load balancer in front of the door says whose connection it
//! passes on. Only peers that are listed are believed, and they must say it; from others the same
//! bytes are a bad version line.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How long a listed peer may take to say it.
const DEADLINE: Duration = Duration::from_secs(5);

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const V2_HEAD: usize = 16;

/// The longest line of version 1, with CR LF.
const LONGEST_V1: usize = 107;

/// The longest rest of version 2: addresses and what else a load balancer may add.
const LONGEST_V2: usize = 4096;

/// A header, and what came behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// Who the connection is really from; none: from the peer itself, which looks whether we live.
    pub(crate) client: Option<SocketAddr>,
    /// What followed, which is the client's.
    pub(crate) rest: Vec<u8>,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHeader {
    #[error("it sent something else")]
    Malformed,
    #[error("it sent none in time")]
    Late,
    #[error("it closed the connection")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the bytes so far make.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The header's length, and whom it names.
    Whole(usize, Option<SocketAddr>),
    More,
    Malformed,
}

/// Reads the header of a listed peer's connection.
pub(crate) async fn announced(socket: &mut TcpStream) -> Result<Announced, NoHeader> {
    let read = async {
        let mut seen = Vec::new();
        loop {
            match parse(&seen) {
                Parsed::Whole(length, client) => {
                    let rest = seen.split_off(length);
                    return Ok(Announced { client, rest });
                }
                Parsed::Malformed => return Err(NoHeader::Malformed),
                // Bounded: what is longer than any header is malformed.
                Parsed::More => {
                    if socket.read_buf(&mut seen).await? == 0 {
                        return Err(NoHeader::Closed);
                    }
                }
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.unwrap_or(Err(NoHeader::Late))
}

pub(crate) fn parse(seen: &[u8]) -> Parsed {
    let common = seen.iter().zip(SIGNATURE).take_while(|(a, b)| a == b).count();
    if common == SIGNATURE.len() {
        parse_v2(seen)
    } else if common == seen.len() {
        Parsed::More
    } else {
        parse_v1(seen)
    }
}

fn parse_v1(seen: &[u8]) -> Parsed {
    const WORD: &[u8] = b"PROXY ";
    let begins_well = seen.iter().zip(WORD).all(|(a, b)| a == b);
    let line = seen.iter().take(LONGEST_V1).position(|byte| *byte == b'\n');
    let end = match line {
        _ if !begins_well => return Parsed::Malformed,
        Some(end) => end,
        None if seen.len() < LONGEST_V1 => return Parsed::More,
        None => return Parsed::Malformed,
    };
    let line = seen.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let words: Option<Vec<&str>> =
        line.and_then(|line| line.strip_suffix('\r')).map(|line| line.split(' ').collect());
    let client = match words.as_deref() {
        Some(["PROXY", "UNKNOWN", ..]) => return Parsed::Whole(end + 1, None),
        Some(["PROXY", "TCP4", from, to, port, _]) => v1_client::<Ipv4Addr>(from, to, port),
        Some(["PROXY", "TCP6", from, to, port, _]) => v1_client::<Ipv6Addr>(from, to, port),
        _ => None,
    };
    client.map_or(Parsed::Malformed, |client| Parsed::Whole(end + 1, Some(client)))
}

fn v1_client<A: std::str::FromStr + Into<IpAddr>>(
    from: &str,
    to: &str,
    port: &str,
) -> Option<SocketAddr> {
    let _ours: A = to.parse().ok()?;
    let from: A = from.parse().ok()?;
    Some(SocketAddr::new(from.into(), port.parse().ok()?))
}

fn parse_v2(seen: &[u8]) -> Parsed {
    let Some((head, rest)) = seen.split_first_chunk::<V2_HEAD>() else { return Parsed::More };
    let [.., command, family, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_V2 || command >> 4 != 2 {
        return Parsed::Malformed;
    }
    let Some(body) = rest.get(..length) else { return Parsed::More };
    let port = |bytes: &[u8], at| {
        let pair = bytes.get(at..)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*pair))
    };
    let client = match (command & 0xf, family) {
        // A health check of the peer's own, or a client of a kind that has no address.
        (0, _) | (1, 0x00 | 0x31 | 0x32) => return Parsed::Whole(V2_HEAD + length, None),
        (1, 0x11) => body
            .first_chunk::<4>()
            .zip(port(body, 8))
            .map(|(address, port)| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*address)), port)),
        (1, 0x21) => body
            .first_chunk::<16>()
            .zip(port(body, 32))
            .map(|(address, port)| SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*address)), port)),
        _ => None,
    };
    client.map_or(Parsed::Malformed, |client| Parsed::Whole(V2_HEAD + length, Some(client)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        header.extend(body);
        header
    }

    fn named(header: &[u8]) -> Option<String> {
        match parse(header) {
            Parsed::Whole(length, client) => {
                assert_eq!(length, header.len());
                Some(client.map(|client| client.to_string()).unwrap_or_default())
            }
            Parsed::More => panic!("more of {header:?}"),
            Parsed::Malformed => None,
        }
    }

    #[test]
    fn a_header_names_the_client() {
        let v1 = |line: &str| named(line.as_bytes());
        let client = v1("PROXY TCP4 192.0.2.7 198.51.100.1 4711 22\r\n");
        assert_eq!(client.as_deref(), Some("192.0.2.7:4711"));
        let client = v1("PROXY TCP6 2001:db8::7 2001:db8::1 4711 22\r\n");
        assert_eq!(client.as_deref(), Some("[2001:db8::7]:4711"));
        assert_eq!(v1("PROXY UNKNOWN\r\n").as_deref(), Some(""));
        assert_eq!(v1("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n").as_deref(), Some(""));

        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 22];
        assert_eq!(named(&v2(0x21, 0x11, &four)).as_deref(), Some("192.0.2.7:4711"));
        let mut more = four.to_vec();
        more.extend([4, 0, 2, 0, 0]);
        assert_eq!(named(&v2(0x21, 0x11, &more)).as_deref(), Some("192.0.2.7:4711"), "extras");
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        six[15] = 7;
        six[32..].copy_from_slice(&[0x12, 0x67, 0, 22]);
        assert_eq!(named(&v2(0x21, 0x21, &six)).as_deref(), Some("[2001:db8::7]:4711"));
        assert_eq!(named(&v2(0x20, 0x00, b"")).as_deref(), Some(""), "a health check");
    }

    #[test]
    fn anything_else_is_no_header() {
        for odd in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711 22\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 4711 22\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 70000 22\r\n",
            "PROXY  TCP4 192.0.2.7 198.51.100.1 4711 22\r\n",
            "PROXY\r\n",
        ] {
            assert_eq!(named(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(named(&[&b"PROXY TCP4 "[..], &[b'1'; LONGEST_V1]].concat()), None, "endless");
        let four = [0; 12];
        assert_eq!(named(&v2(0x11, 0x11, &four)), None, "version 1 in the dress of 2");
        assert_eq!(named(&v2(0x22, 0x11, &four)), None, "no such command");
        assert_eq!(named(&v2(0x21, 0x11, &four[..8])), None, "too short");
        assert_eq!(named(&v2(0x21, 0x12, &four)), None, "datagrams");
        assert_eq!(named(&v2(0x21, 0x11, &[0; LONGEST_V2 + 1])[..V2_HEAD]), None, "too long");
    }

    proptest! {
        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Parsed::Whole(length, _) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            let mut signed = SIGNATURE.to_vec();
            signed.extend(&bytes);
            if let Parsed::Whole(length, _) = parse(&signed) {
                prop_assert!(length <= signed.len());
            }
        }

        #[test]
        fn what_follows_is_the_clients(port in any::<u16>(), rest in "[ -~\r\n]{0,40}") {
            let line = format!("PROXY TCP4 192.0.2.7 198.51.100.1 {port} 22\r\n");
            let whole = format!("{line}{rest}");
            for cut in 0..line.len() {
                prop_assert_eq!(parse(&whole.as_bytes()[..cut]), Parsed::More);
            }
            let client = Some(SocketAddr::from(([192, 0, 2, 7], port)));
            prop_assert_eq!(parse(whole.as_bytes()), Parsed::Whole(line.len(), client));
        }
    }
}
