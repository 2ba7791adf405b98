//! What fuzzers call: what the door reads of strangers, as functions of bytes that panic where a
//! promise is broken.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use russh::keys::ssh_key::Certificate;
use sojourn_core::fuzz::pieces;
use sojourn_core::time::Wall;

use crate::caller;
use crate::caller::Place;
use crate::caller::Wish;
use crate::hassh::Beginning;
use crate::proxy;
use crate::proxy::Parsed;

pub use crate::scp::fuzz::scp;
pub use crate::sftp::fuzz::sftp;

/// No header of a proxy is longer.
const LONGEST_HEADER: usize = 5000;

/// The PROXY header: as long as it is not whole, more is wanted; and only so much.
pub fn proxy_header(data: &[u8]) {
    let parsed = proxy::parse(data);
    match parsed {
        Parsed::Whole(length, _) => {
            let header = data.get(..length).expect("a header is within what was sent");
            assert_eq!(proxy::parse(header), parsed, "what follows changes a header");
            for end in 0..length {
                assert_eq!(proxy::parse(&data[..end]), Parsed::More, "cut at {end}");
            }
        }
        Parsed::More => assert!(data.len() < LONGEST_HEADER, "a header without an end"),
        Parsed::Malformed => {}
    }
}

/// A client's version line and first key exchange: the same in whatever pieces they come.
pub fn client_hello(data: &[u8]) {
    let whole = Beginning::default().see(data);
    let mut beginning = Beginning::default();
    let found: Vec<_> = pieces(data).into_iter().flat_map(|piece| beginning.see(piece)).collect();
    assert_eq!(found, whole);
    assert!(found.len() <= 2);
}

/// The name that somebody comes with.
pub fn user_name(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    let Wish { user, place } = Wish::parse(name);
    assert!(name.starts_with(&user) && !user.contains('+'));
    let named = match &place {
        Place::Profile(Some(text)) | Place::Running(text) | Place::Runner(text) => text.as_str(),
        Place::Profile(None) => "",
    };
    assert!(user.chars().count() <= 64 && named.chars().count() <= 64);
    let again = match &place {
        Place::Profile(None) => user.clone(),
        Place::Profile(Some(profile)) => format!("{user}+{profile}"),
        Place::Running(ending) => format!("{user}+@{ending}"),
        Place::Runner(runner) => format!("{user}+{runner}:"),
    };
    // A name that was cut may end in the colon of a runner.
    if again.len() == name.len() {
        assert_eq!(Wish::parse(&again), Wish { user, place });
    }
}

/// A user's certificate, when its own signer is trusted.
pub fn certificate(data: &[u8]) {
    let Ok(certificate) = Certificate::from_bytes(data) else { return };
    let authorities = [certificate.signature_key().clone()];
    let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let now = Wall(1_800_000_000_000_000);
    let trusted = caller::check(&certificate, &authorities, "root", from, now);
    let stranger = caller::check(&certificate, &[], "root", from, now);
    assert!(stranger.is_err(), "nobody is trusted: {trusted:?}");
}
