//! Who calls and what for: the user name of a connection, and OpenSSH certificates.

use std::net::IpAddr;

use russh::keys::Algorithm;
use russh::keys::HashAlg;
use russh::keys::ssh_key::Certificate;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use sojourn_core::network::Network;
use sojourn_core::time::Wall;

/// Names longer than this name nobody; for the record they are cut.
const LONGEST_NAME: usize = 64;

/// What somebody wants, as their user name says it: `USER[+PROFILE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) user: String,
    pub(crate) place: Place,
}

/// Where they want to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a new session of this profile; none is the default one.
    Profile(Option<String>),
    /// In a session of theirs that runs: `+@ENDING`; without an ending, in the only one.
    Running(String),
    /// On a runner of theirs: `+NAME:`.
    Runner(String),
}

impl Wish {
    pub(crate) fn parse(name: &str) -> Self {
        let cut = |text: &str| text.chars().take(LONGEST_NAME).collect::<String>();
        let (user, place) = match name.split_once('+') {
            None => (name, Place::Profile(None)),
            Some((user, place)) => match place.strip_prefix('@') {
                Some(ending) => (user, Place::Running(cut(ending))),
                None => match place.strip_suffix(':') {
                    Some(runner) => (user, Place::Runner(cut(runner))),
                    None => (user, Place::Profile(Some(cut(place)))),
                },
            },
        };
        Self { user: cut(user), place }
    }
}

/// What a certificate lets its bearer do, where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Run in place of whatever is asked for.
    pub(crate) force_command: Option<String>,
    /// Whether there may be a terminal.
    pub(crate) pty: bool,
    /// Whether connections may be forwarded.
    pub(crate) port_forwarding: bool,
    /// Whether the key agent may be forwarded.
    pub(crate) agent_forwarding: bool,
    /// Whether the X server may be.
    pub(crate) x11_forwarding: bool,
}

impl Terms {
    /// Those of somebody who came without a certificate.
    pub(crate) const FREE: Self = Self {
        force_command: None,
        pty: true,
        port_forwarding: true,
        agent_forwarding: true,
        x11_forwarding: true,
    };
}

/// Why a certificate does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("not a user's certificate")]
    Type,
    #[error("signed by a certificate, not a key")]
    Nested,
    #[error("not signed by a trusted key")]
    Authority,
    #[error("signed with SHA-1")]
    Sha1,
    #[error("signature or time does not hold")]
    Invalid,
    #[error("not for this user")]
    Principal,
    #[error("not from this address")]
    Source,
    #[error("critical option {0:?} is not known here")]
    Option(String),
}

/// Checks everything of a certificate but the proof of its key, which the library has checked.
pub(crate) fn check(
    certificate: &Certificate,
    authorities: &[KeyData],
    user: &str,
    from: IpAddr,
    now: Wall,
) -> Result<Terms, CertificateError> {
    if certificate.cert_type() != CertType::User {
        return Err(CertificateError::Type);
    }
    let authority = certificate.signature_key();
    if matches!(authority, KeyData::Certificate(_)) {
        return Err(CertificateError::Nested);
    }
    if !authorities.contains(authority) {
        return Err(CertificateError::Authority);
    }
    if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
        return Err(CertificateError::Sha1);
    }
    let now = u64::try_from(now.0 / 1_000_000).unwrap_or(0);
    let fingerprint = authority.fingerprint(HashAlg::Sha256);
    certificate.validate_at(now, [&fingerprint]).map_err(|_| CertificateError::Invalid)?;
    // One without principals would be for everybody: nobody means that.
    if !certificate.valid_principals().iter().any(|principal| principal == user) {
        return Err(CertificateError::Principal);
    }
    let permits = |what: &str| certificate.extensions().contains_key(what);
    let mut terms = Terms {
        force_command: None,
        pty: permits("permit-pty"),
        port_forwarding: permits("permit-port-forwarding"),
        agent_forwarding: permits("permit-agent-forwarding"),
        x11_forwarding: permits("permit-X11-forwarding"),
    };
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "force-command" => terms.force_command = Some(value.clone()),
            "source-address" if !admits(value, from) => return Err(CertificateError::Source),
            "source-address" => {}
            _ => return Err(CertificateError::Option(name.clone())),
        }
    }
    Ok(terms)
}

/// Whether a list of addresses and networks has this address. A list with anything else in it has
/// none.
fn admits(list: &str, address: IpAddr) -> bool {
    let networks: Result<Vec<Network>, _> = list.split(',').map(str::parse).collect();
    networks.is_ok_and(|networks| networks.iter().any(|network| network.contains(address)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::Builder;

    use super::*;

    #[test]
    fn a_user_name_says_where_to() {
        let place = |name: &str| Wish::parse(name).place;
        assert_eq!(Wish::parse("alice").user, "alice");
        assert_eq!(place("alice"), Place::Profile(None));
        assert_eq!(place("alice+tools"), Place::Profile(Some("tools".to_owned())));
        assert_eq!(Wish::parse("alice+tools+x").user, "alice");
        assert_eq!(place("alice+@3f2a91c0"), Place::Running("3f2a91c0".to_owned()));
        assert_eq!(place("alice+@"), Place::Running(String::new()));
        assert_eq!(place("alice+laptop:"), Place::Runner("laptop".to_owned()));
        assert_eq!(Wish::parse(&"é".repeat(1000)).user.chars().count(), LONGEST_NAME);
    }

    #[test]
    fn addresses_are_matched_by_prefix() {
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(admits("192.0.2.0/24,2001:db8::/32", from("192.0.2.77")));
        assert!(admits("192.0.2.0/24,2001:db8::/32", from("2001:db8:9::1")));
        assert!(admits("192.0.2.7", from("::ffff:192.0.2.7")));
        assert!(admits("0.0.0.0/0", from("198.51.100.1")));
        assert!(!admits("192.0.2.0/24", from("192.0.3.1")));
        assert!(!admits("::/0", from("192.0.2.1")), "the other family");
        assert!(!admits("192.0.2.0/33", from("192.0.2.1")));
        assert!(!admits("192.0.2.1,example.org", from("192.0.2.1")), "not understood, not trusted");
        assert!(!admits("", from("192.0.2.1")));
    }

    const NOW: Wall = Wall(1_795_345_331_000_000);

    fn key() -> PrivateKey {
        PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap()
    }

    /// A user's certificate by `ca`, good for a minute around now.
    fn certificate(ca: &PrivateKey, change: impl FnOnce(&mut Builder)) -> Certificate {
        let subject = key();
        let now = u64::try_from(NOW.0).unwrap() / 1_000_000;
        let nonce = vec![7; 32];
        let mut builder = Builder::new(nonce, subject.public_key(), now - 60, now + 60).unwrap();
        change(&mut builder);
        builder.sign(ca).unwrap()
    }

    fn verdict(certificate: &Certificate, ca: &PrivateKey) -> Result<Terms, CertificateError> {
        let authorities = [ca.public_key().key_data().clone()];
        check(certificate, &authorities, "alice", "192.0.2.7".parse().unwrap(), NOW)
    }

    #[test]
    fn a_certificate_holds_for_its_principals_only() {
        let ca = key();
        let for_alice = certificate(&ca, |builder| {
            builder.valid_principal("bob").unwrap().valid_principal("alice").unwrap();
            for what in ["pty", "port-forwarding", "agent-forwarding", "X11-forwarding"] {
                builder.extension(format!("permit-{what}"), "").unwrap();
            }
        });
        assert_eq!(verdict(&for_alice, &ca), Ok(Terms::FREE));
        let for_bob = certificate(&ca, |builder| {
            builder.valid_principal("bob").unwrap();
        });
        assert_eq!(verdict(&for_bob, &ca), Err(CertificateError::Principal));
        let for_all = certificate(&ca, |builder| {
            builder.all_principals_valid().unwrap();
        });
        assert_eq!(verdict(&for_all, &ca), Err(CertificateError::Principal));
    }

    #[test]
    fn a_certificate_needs_a_trusted_authority_and_the_right_time() {
        let (ca, other) = (key(), key());
        let alice = |builder: &mut Builder| {
            builder.valid_principal("alice").unwrap();
        };
        assert_eq!(verdict(&certificate(&other, alice), &ca), Err(CertificateError::Authority));
        let good = certificate(&ca, alice);
        let authorities = [ca.public_key().key_data().clone()];
        let at = |now| check(&good, &authorities, "alice", "192.0.2.7".parse().unwrap(), now);
        assert!(at(NOW).is_ok());
        for off in [NOW.after(Duration::from_secs(61)), Wall(NOW.0 - 61_000_000)] {
            assert_eq!(at(off), Err(CertificateError::Invalid));
        }
        let host = certificate(&ca, |builder| {
            builder.valid_principal("alice").unwrap().cert_type(CertType::Host).unwrap();
        });
        assert_eq!(verdict(&host, &ca), Err(CertificateError::Type));
    }

    #[test]
    fn critical_options_are_honoured_or_refused() {
        let ca = key();
        let with = |name: &'static str, value: &'static str| {
            let certificate = certificate(&ca, |builder| {
                builder.valid_principal("alice").unwrap();
                builder.critical_option(name, value).unwrap();
            });
            verdict(&certificate, &ca)
        };
        let forced = with("force-command", "uptime").unwrap();
        assert_eq!(forced.force_command.as_deref(), Some("uptime"));
        assert!(!forced.pty && !forced.port_forwarding && !forced.agent_forwarding, "not given");
        assert!(!forced.x11_forwarding, "nor this");
        assert!(with("source-address", "192.0.2.0/24").is_ok());
        assert_eq!(with("source-address", "10.0.0.0/8"), Err(CertificateError::Source));
        assert!(matches!(with("verify-required", ""), Err(CertificateError::Option(_))));
    }
}
