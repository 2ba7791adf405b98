//! SSH public keys as text: which are taken, and their fingerprints.

use std::fmt;
use std::str::FromStr;

use sha2::Digest;
use sha2::Sha256;

/// The longest line that is looked at: RSA of 16 384 bits has 2 800 characters.
const LONGEST: usize = 8 * 1024;
/// The longest comment that is kept, in characters.
const LONGEST_COMMENT: usize = 64;
/// The smallest RSA modulus in bytes: 2048 bits.
const SMALLEST_RSA: usize = 256;

/// The kinds of key a user may have.
const ALGORITHMS: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];

/// Why a text is not a key that is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not a public key at all.
    #[error("not a public key; give the file that ends in \".pub\"")]
    Malformed,
    /// A secret key.
    #[error("this is a private key: keep it, and give the file that ends in \".pub\"")]
    Private,
    /// Options before the key, which are not understood.
    #[error("options before the key are not supported; give the key alone")]
    Options,
    /// A kind that is not taken.
    #[error("keys of the kind {0:?} are not taken; make one with \"ssh-keygen -t ed25519\"")]
    Algorithm(String),
    /// Too small to be safe.
    #[error("RSA keys need 2048 bits or more; make one with \"ssh-keygen -t ed25519\"")]
    Short,
}

/// A user's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    algorithm: String,
    blob: Vec<u8>,
    comment: String,
}

impl SshKey {
    /// What its owner calls it, for tables.
    #[must_use]
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", encode(&Sha256::digest(&self.blob)).trim_end_matches('='))
    }
}

impl fmt::Display for SshKey {
    /// As in an `authorized_keys` file, without its comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, encode(&self.blob))
    }
}

impl FromStr for SshKey {
    type Err = BadKey;

    /// Reads one line of an `authorized_keys` or `.pub` file.
    fn from_str(text: &str) -> Result<Self, BadKey> {
        if text.contains("PRIVATE KEY") {
            return Err(BadKey::Private);
        }
        let lines = text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(BadKey::Malformed);
        };
        if line.len() > LONGEST {
            return Err(BadKey::Malformed);
        }
        let mut words = line.splitn(3, [' ', '\t']);
        let (Some(algorithm), Some(base64)) = (words.next(), words.next()) else {
            return Err(BadKey::Malformed);
        };
        if !ALGORITHMS.contains(&algorithm) {
            let later = line.split_whitespace().skip(1).any(|word| ALGORITHMS.contains(&word));
            let is_kind = algorithm.starts_with("ssh-") || algorithm.contains('@');
            return Err(match (later, is_kind) {
                (true, _) => BadKey::Options,
                (false, true) => BadKey::Algorithm(algorithm.chars().take(64).collect()),
                (false, false) => BadKey::Malformed,
            });
        }
        let blob = decode(base64).ok_or(BadKey::Malformed)?;
        check(algorithm, &blob)?;
        let comment = words.next().unwrap_or_default().trim();
        let comment = comment.chars().filter(|c| !c.is_control()).take(LONGEST_COMMENT).collect();
        Ok(Self { algorithm: algorithm.to_owned(), blob, comment })
    }
}

/// The blob says the same kind again, and holds just its parts.
fn check(algorithm: &str, blob: &[u8]) -> Result<(), BadKey> {
    let parts = parts(blob).ok_or(BadKey::Malformed)?;
    let [name, rest @ ..] = parts.as_slice() else {
        return Err(BadKey::Malformed);
    };
    let wanted = match algorithm {
        "ssh-ed25519" => 1,
        "sk-ecdsa-sha2-nistp256@openssh.com" => 3,
        _ => 2,
    };
    if *name != algorithm.as_bytes() || rest.len() != wanted || rest.iter().any(|p| p.is_empty()) {
        return Err(BadKey::Malformed);
    }
    if algorithm.ends_with("ed25519") && rest.first().is_some_and(|key| key.len() != 32) {
        return Err(BadKey::Malformed);
    }
    let modulus =
        rest.get(1).map_or(0, |modulus| modulus.strip_prefix(&[0]).unwrap_or(modulus).len());
    if algorithm == "ssh-rsa" && modulus < SMALLEST_RSA {
        return Err(BadKey::Short);
    }
    Ok(())
}

/// Cuts a blob into its length-prefixed strings (RFC 4251, section 5).
fn parts(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (part, rest) = rest.split_at_checked(length)?;
        parts.push(part);
        blob = rest;
    }
    Some(parts)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let sextet = BASE64[word >> (18 - 6 * digit) & 63];
            text.push(if digit <= chunk.len() { char::from(sextet) } else { '=' });
        }
    }
    text
}

/// Strict: padded, nothing else in it, no stray bits, so that a key has one text only.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = BASE64.iter().position(|known| *known == digit)?;
        word = word << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 0xff).ok()?);
        }
        word &= 0xffff;
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with ssh-keygen; the fingerprints are those that `ssh-keygen -lf` shows.
    const ED25519: &str = include_str!("testdata/ed25519.pub");
    const ECDSA: &str = include_str!("testdata/ecdsa.pub");
    const RSA: &str = include_str!("testdata/rsa.pub");
    const SHORT_RSA: &str = include_str!("testdata/rsa1024.pub");
    const FINGERPRINTS: &str = include_str!("testdata/fingerprints");

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        for (text, wanted) in [ED25519, ECDSA, RSA].into_iter().zip(FINGERPRINTS.lines()) {
            let key: SshKey = text.parse().unwrap();
            assert_eq!(key.fingerprint(), wanted);
            assert_eq!(key.comment(), "alice@laptop");
            assert!(text.starts_with(&key.to_string()), "comes back as it was");
        }
    }

    #[test]
    fn what_is_not_a_good_key_is_refused_with_a_hint() {
        let refusal = |text: &str| text.parse::<SshKey>().unwrap_err();
        assert_eq!(refusal(SHORT_RSA), BadKey::Short);
        assert_eq!(refusal(""), BadKey::Malformed);
        assert_eq!(refusal("hello world"), BadKey::Malformed);
        assert_eq!(refusal("-----BEGIN OPENSSH PRIVATE KEY-----\nx"), BadKey::Private);
        assert_eq!(refusal(&format!("command=\"ls\" {ED25519}")), BadKey::Options);
        assert_eq!(refusal("ssh-dss AAAA"), BadKey::Algorithm("ssh-dss".to_owned()));
        assert_eq!(refusal(&format!("{ED25519}{ECDSA}")), BadKey::Malformed, "two keys");
        let ecdsa = ECDSA.split(' ').nth(1).unwrap();
        assert_eq!(refusal(&format!("ssh-ed25519 {ecdsa}")), BadKey::Malformed, "another kind");
        let cut = &ED25519[..ED25519.find("alice").unwrap() - 5];
        assert_eq!(refusal(cut), BadKey::Malformed, "cut off");
    }

    #[test]
    fn base64_goes_there_and_back() {
        for n in 0..70_u8 {
            let bytes: Vec<u8> = (0..n).map(|b| b.wrapping_mul(37)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
        assert_eq!(encode(b"sojourn"), "c29qb3Vybg==");
        for text in ["c29qb3Vybg", "c29qb3Vybh==", "c29 b3Vybg==", "====", "A"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
