//! A secret that is given to somebody once: shown only to who asks for it by name.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use data_encoding::HEXLOWER;
use sha2::Digest;
use sha2::Sha256;

/// So many random bytes: 256 bits.
const BYTES: usize = 32;

/// The system has no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random bytes")]
pub struct NoRandomness;

/// A token, a cookie's value, a code. Its Debug form shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one of 256 bits: `prefix`, then URL-safe base 64.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn random(prefix: &str) -> Result<Self, NoRandomness> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(format!("{prefix}{}", BASE64URL_NOPAD.encode(&bytes))))
    }

    /// A text that is one.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one it is made for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> String {
        hash_of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What is stored of a secret with so many random bits that nobody finds it by trying: its SHA-256 in
/// hexadecimal.
#[must_use]
pub fn hash_of(secret: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(secret.as_bytes()))
}

/// Whether a text has the form of a secret with this prefix. Looked at before anything is hashed or
/// asked for.
#[must_use]
pub fn is_formed(text: &str, prefix: &str) -> bool {
    let rest = text.strip_prefix(prefix);
    rest.is_some_and(|rest| {
        rest.len() == 43
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_random_and_shows_nothing() {
        let (one, other) = (Secret::random("x1_").unwrap(), Secret::random("x1_").unwrap());
        assert_ne!(one, other);
        assert!(is_formed(one.expose(), "x1_") && !is_formed(one.expose(), "y1_"));
        assert!(!is_formed("x1_", "x1_") && !is_formed(&format!("{}=", one.expose()), "x1_"));
        assert_eq!(format!("{one:?}"), "Secret(..)");
        assert_eq!(one.hash(), hash_of(one.expose()));
        assert_eq!(hash_of("abc").get(..8), Some("ba7816bf"), "FIPS 180-4");
    }
}
