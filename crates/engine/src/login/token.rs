//! What a browser holds of a login: 32 random bytes that mean nothing. Only their digest is kept.

use data_encoding::BASE64URL_NOPAD;
use data_encoding::HEXLOWER;
use sha2::Digest;
use sha2::Sha256;

use crate::secret::NoRandomness;
use crate::secret::Secret;

/// What every token begins with, so that one that leaked is recognised.
const PREFIX: &str = "sjw1_";
/// Random bytes of a token.
const BYTES: usize = 32;
/// Their length as text.
const ENCODED: usize = 43;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    /// The digest of what somebody presents, when it looks like a token at all.
    pub(super) fn of(token: &str) -> Option<Self> {
        let encoded = token.strip_prefix(PREFIX).filter(|text| text.len() == ENCODED)?;
        // The last character stands for two bits only: another spelling is another token.
        let mut bytes = [0; BYTES];
        let written = BASE64URL_NOPAD.decode_mut(encoded.as_bytes(), &mut bytes).ok()?;
        (written == BYTES).then(|| Self::digest(token))
    }

    fn digest(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// As the store keeps it.
    pub(super) fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Reads what the store keeps.
    pub(super) fn from_hex(hex: &str) -> Option<Self> {
        HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    pub(super) const fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Makes a token that nobody has had before.
pub(super) fn mint() -> Result<(Secret, TokenHash), NoRandomness> {
    let secret = Secret::random(PREFIX)?;
    let hash = TokenHash::digest(secret.expose());
    Ok((secret, hash))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn l_01_tokens_are_256_random_bits() {
        const TOKENS: usize = 10_000;
        let mut ones = [0_usize; 8 * BYTES];
        let mut seen = HashSet::new();
        for _ in 0..TOKENS {
            let (secret, hash) = mint().unwrap();
            let encoded = secret.expose().strip_prefix("sjw1_").unwrap();
            assert_eq!(encoded.len(), ENCODED);
            let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).unwrap();
            assert_eq!(bytes.len(), BYTES);
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += usize::from(bytes[bit / 8] >> (bit % 8) & 1);
            }
            assert!(TokenHash::of(secret.expose()) == Some(hash));
            assert!(seen.insert(secret.expose().to_owned()));
        }
        for (bit, count) in ones.iter().enumerate() {
            assert!((TOKENS * 45 / 100..TOKENS * 55 / 100).contains(count), "bit {bit}: {count}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_even_hashed() {
        let (secret, hash) = mint().unwrap();
        let token = secret.expose();
        let others = [
            "",
            "sjw1_",
            &token[1..],
            &token[5..],
            &token[..token.len() - 1],
            &format!("{token}A"),
            &token.replace("sjw1_", "sjw2_"),
            &format!("sjw1_{}=", &token[5..47]),
            &hash.to_hex(),
            &format!("sjw1_{} ", &hash.to_hex()[..42]),
        ];
        for other in others {
            assert!(TokenHash::of(other).is_none(), "{other:?}");
        }
        assert!(TokenHash::from_hex(&hash.to_hex()) == Some(hash));
    }
}
