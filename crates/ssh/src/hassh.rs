//! What a client says of itself in the clear: its version line, and the algorithms of its first key
//! exchange. The MD5 of some of those lists, called HASSH, tells programs apart that name themselves
//! alike; it identifies software and proves nothing.
//!
//! Reads a copy of what passes. What it does not understand it leaves alone; judging is the library's.

use md5::Digest;
use md5::Md5;

/// RFC 4253 section 4.2: the longest version line, with CR LF.
const LONGEST_LINE: usize = 255;

/// What is looked at in all: a version line and a packet of the longest kind (RFC 4253 section 6.1).
const MOST: usize = LONGEST_LINE + 35_000;

/// Packets before the key exchange that say nothing.
const MOST_PACKETS: usize = 4;

const MSG_IGNORE: u8 = 2;
const MSG_DEBUG: u8 = 4;
const MSG_KEXINIT: u8 = 20;

/// The random bytes of a key exchange's first packet, and the byte that says what it is.
const BEFORE_LISTS: usize = 17;

/// Reads the beginning of a connection.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    seen: Vec<u8>,
    /// Where the packets begin: behind the version line.
    packets_at: Option<usize>,
    done: bool,
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The version line, less its end.
    Version(String),
    /// The HASSH, in lower-case hex.
    Hassh(String),
}

impl Beginning {
    /// Looks at bytes that passed, and tells what they completed.
    pub(crate) fn see(&mut self, bytes: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        if self.done {
            return found;
        }
        let room = MOST.saturating_sub(self.seen.len());
        self.seen.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if self.packets_at.is_none() {
            let line = self.seen.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n');
            match line {
                Some(end) => {
                    let line = self.seen.get(..end).unwrap_or_default();
                    found.push(Found::Version(
                        String::from_utf8_lossy(line).trim_end_matches('\r').to_owned(),
                    ));
                    self.packets_at = Some(end + 1);
                }
                None if self.seen.len() >= LONGEST_LINE => self.stop(),
                None => return found,
            }
        }
        if let Some(at) = self.packets_at {
            match exchange(self.seen.get(at..).unwrap_or_default()) {
                Exchange::Lists(lists) => {
                    found.push(Found::Hassh(hash(lists)));
                    self.stop();
                }
                Exchange::Incomplete if self.seen.len() < MOST => {}
                Exchange::Incomplete | Exchange::Unreadable => self.stop(),
            }
        }
        found
    }

    fn stop(&mut self) {
        *self = Self { done: true, ..Self::default() };
    }
}

/// What can be told of the first key exchange so far.
enum Exchange<'a> {
    /// More has to come.
    Incomplete,
    /// There will be none.
    Unreadable,
    /// Its lists that count, client to server: key exchanges, ciphers, MACs, compressions.
    Lists([&'a [u8]; 4]),
}

fn exchange(mut packets: &[u8]) -> Exchange<'_> {
    for _ in 0..MOST_PACKETS {
        let Some((length, rest)) = packets.split_first_chunk::<4>() else {
            return Exchange::Incomplete;
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > MOST {
            return Exchange::Unreadable;
        }
        let Some(packet) = rest.get(..length) else { return Exchange::Incomplete };
        let (padding, packet) = packet.split_first().unwrap_or((&0, &[]));
        let payload = packet.get(..packet.len().saturating_sub(usize::from(*padding)));
        match payload.and_then(|payload| Some((payload.first()?, payload))) {
            Some((&MSG_KEXINIT, payload)) => {
                return lists(payload).map_or(Exchange::Unreadable, Exchange::Lists);
            }
            Some((&(MSG_IGNORE | MSG_DEBUG), _)) => {}
            _ => return Exchange::Unreadable,
        }
        packets = rest.get(length..).unwrap_or_default();
    }
    Exchange::Unreadable
}

fn lists(payload: &[u8]) -> Option<[&[u8]; 4]> {
    let mut rest = payload.get(BEFORE_LISTS..)?;
    let mut lists = [&[][..]; 8];
    for list in &mut lists {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        *list = behind.get(..length)?;
        rest = behind.get(length..)?;
    }
    let [kex, _host_key, cipher, _, mac, _, compression, _] = lists;
    Some([kex, cipher, mac, compression])
}

fn hash(lists: [&[u8]; 4]) -> String {
    use std::fmt::Write;
    let digest = Md5::digest(lists.join(&b';'));
    digest.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEX: &str = "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com";

    /// A packet as it goes over the wire in the clear.
    fn packet(payload: &[u8]) -> Vec<u8> {
        let padding = 8 - (payload.len() + 5) % 8 + 8;
        let length = u32::try_from(payload.len() + 1 + padding).unwrap();
        let mut packet = length.to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + padding, 0);
        packet
    }

    fn kexinit(lists: [&str; 10]) -> Vec<u8> {
        let mut payload = vec![MSG_KEXINIT];
        payload.extend([7; 16]);
        for list in lists {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        payload.extend([0; 5]);
        packet(&payload)
    }

    fn client() -> Vec<u8> {
        let mut sent = b"SSH-2.0-Test_1.0 a client\r\n".to_vec();
        sent.extend(packet(&[MSG_IGNORE, 0, 0, 0, 0]));
        let lists = [KEX, "ssh-ed25519", "a,b", "x", "m", "y", "none", "z", "", ""];
        sent.extend(kexinit(lists));
        sent.extend(b"\x00\x00\x00\x08more of it");
        sent
    }

    fn all(chunks: impl IntoIterator<Item = Vec<u8>>) -> (Vec<Found>, Beginning) {
        let mut beginning = Beginning::default();
        let found = chunks.into_iter().flat_map(|chunk| beginning.see(&chunk)).collect();
        (found, beginning)
    }

    fn expected() -> Vec<Found> {
        let text = format!("{KEX};a,b;m;none");
        let hassh = Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        vec![Found::Version("SSH-2.0-Test_1.0 a client".to_owned()), Found::Hassh(hassh)]
    }

    #[test]
    fn a_client_is_known_by_its_lists() {
        assert_eq!(all([client()]).0, expected());
        assert_eq!(hash([b"a", b"b", b"c", b"d"]), "845425be4f77f4097e014a6591497010");
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        for odd in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            b"SSH-2.0-x\r\n\xff\xff\xff\xff",
            b"SSH-2.0-x\n\x00\x00\x00\x00\x00",
            b"SSH-2.0-x\n\x00\x00\x00\x02\xff\x14",
            b"SSH-2.0-x\n\x00\x00\x00\x0c\x0a\x14aaaaaaaaaa",
        ] {
            let (found, beginning) = all([odd.to_vec()]);
            assert!(matches!(&found[..], [Found::Version(_)]), "{odd:?}: {found:?}");
            assert!(beginning.done);
        }
        assert!(all([vec![b'x'; 4096]]).0.is_empty());
    }

    proptest! {
        #[test]
        fn where_it_is_cut_makes_no_difference(cuts in proptest::collection::vec(1usize..60, 1..200)) {
            let sent = client();
            let mut rest = &sent[..];
            let mut chunks = Vec::new();
            for cut in cuts.iter().cycle().take(sent.len()) {
                let (chunk, later) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk.to_vec());
                rest = later;
            }
            prop_assert_eq!(all(chunks).0, expected());
        }

        #[test]
        fn anything_may_come_and_little_is_kept(
            line in "SSH-2.0-[ -~]{0,20}\r\n",
            noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..40),
        ) {
            let mut beginning = Beginning::default();
            beginning.see(line.as_bytes());
            for chunk in noise {
                beginning.see(&chunk);
                prop_assert!(beginning.seen.len() <= MOST);
            }
        }

        #[test]
        fn a_longest_packet_ends_it(kind in any::<u8>()) {
            let mut beginning = Beginning::default();
            beginning.see(b"SSH-2.0-x\r\n\x00\x00\x88\xb0\x04");
            beginning.see(&[kind]);
            for _ in 0..100 {
                beginning.see(&[0; 1000]);
            }
            prop_assert!(beginning.done && beginning.seen.capacity() == 0);
        }
    }
}
