//! Which algorithms a listener offers, and in which order.
//!
//! A honeypot offers them as the sshd does whose name it bears, as far as the library has them.

use std::borrow::Cow;

use russh::Preferred;
use russh::cipher;
use russh::compression;
use russh::kex;
use russh::keys::Algorithm;
use russh::keys::EcdsaCurve;
use russh::keys::HashAlg;
use russh::mac;

/// Key exchanges, best first. Finite-field Diffie-Hellman is left out: its large groups let anybody
/// spend seconds of our processor without signing in, and every client of the last decade has better.
const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
];

/// What stands behind the key exchanges in the same list and is none. The library leaves out what is
/// a client's to say.
const MARKERS: [kex::Name; 4] = [
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Ciphers, best first. OpenSSH's client decides, and its own first is the first here, too.
const CIPHERS: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// The ciphers of OpenSSH 10.0's sshd, in its order.
const CIPHERS_OF_OPENSSH: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];

/// MACs, best first: no SHA-1.
const MACS: &[mac::Name] =
    &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM, mac::HMAC_SHA512, mac::HMAC_SHA256];

/// The MACs of OpenSSH 10.0's sshd in its order, less UMAC, which the library has not.
const MACS_OF_OPENSSH: &[mac::Name] = &[
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512_ETM,
    mac::HMAC_SHA1_ETM,
    mac::HMAC_SHA256,
    mac::HMAC_SHA512,
    mac::HMAC_SHA1,
];

const P256: Algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
const P384: Algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 };
const P521: Algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 };
const RSA_SHA512: Algorithm = Algorithm::Rsa { hash: Some(HashAlg::Sha512) };
const RSA_SHA256: Algorithm = Algorithm::Rsa { hash: Some(HashAlg::Sha256) };

/// Host keys and, as the client is told, users' signatures: everything but SHA-1.
const SIGNATURES: &[Algorithm] = &[
    Algorithm::Ed25519,
    P256,
    P384,
    P521,
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
    RSA_SHA512,
    RSA_SHA256,
];

/// The same in the order in which Debian's sshd reads its host keys: that is what the client sees.
const SIGNATURES_OF_OPENSSH: &[Algorithm] = &[
    RSA_SHA512,
    RSA_SHA256,
    P256,
    Algorithm::Ed25519,
    P384,
    P521,
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
];

/// Algorithms by name, as an operator wants them; an empty list is the listener's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// Key exchanges.
    pub kex: Vec<String>,
    /// Ciphers.
    pub ciphers: Vec<String>,
    /// MACs.
    pub macs: Vec<String>,
}

/// An algorithm that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not known here; there are {known}")]
pub struct UnknownAlgorithm {
    key: &'static str,
    name: String,
    known: String,
}

impl UnknownAlgorithm {
    /// The list it stands in, by its name in the configuration.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.key
    }
}

impl Algorithms {
    /// Whether all of them can be had.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), UnknownAlgorithm> {
        self.preferred(false).map(drop)
    }

    /// As the library wants them.
    pub(crate) fn preferred(&self, like_openssh: bool) -> Result<Preferred, UnknownAlgorithm> {
        let is_marker = |name: &&&kex::Name| MARKERS.contains(name) || **name == &kex::NONE;
        let all_kex = kex::ALL_KEX_ALGORITHMS.iter().filter(|name| !is_marker(name)).copied();
        let mut kex = named("kex_algorithms", &self.kex, KEY_EXCHANGES, all_kex)?;
        kex.extend(MARKERS);
        let all_ciphers = cipher::ALL_CIPHERS
            .iter()
            .filter(|name| ![cipher::CLEAR, cipher::NONE].contains(name))
            .copied();
        let ciphers = if like_openssh { CIPHERS_OF_OPENSSH } else { CIPHERS };
        let all_macs = mac::ALL_MAC_ALGORITHMS.iter().filter(|name| ***name != mac::NONE).copied();
        let macs = if like_openssh { MACS_OF_OPENSSH } else { MACS };
        Ok(Preferred {
            kex: Cow::Owned(kex),
            key: Cow::Borrowed(if like_openssh { SIGNATURES_OF_OPENSSH } else { SIGNATURES }),
            cipher: Cow::Owned(named("ciphers", &self.ciphers, ciphers, all_ciphers)?),
            mac: Cow::Owned(named("macs", &self.macs, macs, all_macs)?),
            // A compressed packet may be a bomb.
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        })
    }
}

/// The algorithms with these names, or the default ones where none is named.
fn named<'a, N: Clone + AsRef<str> + 'a>(
    key: &'static str,
    names: &[String],
    default: &[N],
    all: impl Iterator<Item = &'a N> + Clone,
) -> Result<Vec<N>, UnknownAlgorithm> {
    if names.is_empty() {
        return Ok(default.to_vec());
    }
    let find = |name: &String| {
        let found = all.clone().find(|known| known.as_ref() == name).cloned();
        found.ok_or_else(|| UnknownAlgorithm {
            key,
            name: name.clone(),
            known: all.clone().map(AsRef::as_ref).collect::<Vec<_>>().join(", "),
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_chooses_by_name() {
        let wanted = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let chosen = Algorithms {
            kex: wanted(&["diffie-hellman-group14-sha256", "curve25519-sha256"]),
            macs: wanted(&["hmac-sha1"]),
            ..Algorithms::default()
        };
        let preferred = chosen.preferred(true).unwrap();
        assert_eq!(preferred.kex[..2], [kex::DH_G14_SHA256, kex::CURVE25519]);
        assert_eq!(preferred.mac[..], [mac::HMAC_SHA1]);
        assert_eq!(preferred.cipher[..], *CIPHERS_OF_OPENSSH);
        for name in ["none", "kex-strict-s-v00@openssh.com", "rot13"] {
            let odd = Algorithms { kex: wanted(&[name]), ..Algorithms::default() };
            let error = odd.check().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("there are "), "{error}");
        }
        let odd = Algorithms { ciphers: wanted(&["none"]), ..Algorithms::default() };
        assert!(odd.check().is_err());
    }
}
