//! Messages that only one browser can read: RFC 8291, in the coding of RFC 8188 (`aes128gcm`).
//!
//! The push service in between sees when something is told and to whom, and nothing else: messages are
//! filled up, so that their length says little.

use aes_gcm::Aes128Gcm;
use aes_gcm::KeyInit;
use aes_gcm::aead::Aead;
use data_encoding::BASE64URL_NOPAD;
use hkdf::Hkdf;
use p256::PublicKey;
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::Sha256;

/// A record, and so a message, is no longer. Every push service takes this much.
const RECORD: u32 = 4096;
/// What a message is filled up to a multiple of.
const STEP: usize = 256;
/// Bytes of a public key, of the secret that is shared, of a salt, of a nonce.
const POINT: usize = 65;
const SHARED: usize = 16;
const SALT: usize = 16;
const NONCE: usize = 12;
/// What goes before the text: salt, record size, the key and its length; and after it: what ends the
/// text, and the tag.
const AROUND: usize = SALT + 4 + 1 + POINT + 1 + 16;
/// The longest text.
pub(crate) const LONGEST: usize = 3072;

/// Why nothing can be told to a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// Its key is none.
    #[error("not a public key of P-256, 65 bytes in base64url")]
    Key,
    /// Its secret is none.
    #[error("not a secret of 16 bytes in base64url")]
    Secret,
    /// The text is too long.
    #[error("longer than a push message can be")]
    TooLong,
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

/// What a browser has said, to be written to.
pub(crate) struct Reader {
    key: PublicKey,
    shared: [u8; SHARED],
}

impl Reader {
    /// Reads what it has said, as browsers write it.
    pub(crate) fn read(p256dh: &str, auth: &str) -> Result<Self, SealError> {
        let key = unpacked(p256dh).filter(|bytes| bytes.len() == POINT).ok_or(SealError::Key)?;
        let key = PublicKey::from_sec1_bytes(&key).map_err(|_| SealError::Key)?;
        let shared = unpacked(auth).and_then(|bytes| bytes.try_into().ok());
        Ok(Self { key, shared: shared.ok_or(SealError::Secret)? })
    }

    /// A text that only it can read, as a body.
    pub(crate) fn seal(&self, text: &[u8]) -> Result<Vec<u8>, SealError> {
        if text.len() > LONGEST {
            return Err(SealError::TooLong);
        }
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| SealError::Random)?;
        let filled = (text.len() + 1).next_multiple_of(STEP) - text.len() - 1;
        self.seal_with(text, filled, &fresh_key()?, salt)
    }

    fn seal_with(
        &self,
        text: &[u8],
        filled: usize,
        ours: &SecretKey,
        salt: [u8; SALT],
    ) -> Result<Vec<u8>, SealError> {
        let our_point = point(&ours.public_key());
        let agreed = ours.diffie_hellman(&self.key);
        let info = [b"WebPush: info\0".as_slice(), &point(&self.key), &our_point].concat();
        let input: [u8; 32] = derived(&self.shared, agreed.raw_secret_bytes(), &info);
        let key: [u8; 16] = derived(&salt, &input, b"Content-Encoding: aes128gcm\0");
        let nonce: [u8; NONCE] = derived(&salt, &input, b"Content-Encoding: nonce\0");

        let mut body = Vec::with_capacity(AROUND + text.len() + filled);
        body.extend_from_slice(&salt);
        body.extend_from_slice(&RECORD.to_be_bytes());
        body.push(u8::try_from(POINT).unwrap_or_default());
        body.extend_from_slice(&our_point);
        // A byte says that the text ends, and in the last record that there is no other.
        let mut record = [text, &[2]].concat();
        record.resize(text.len() + 1 + filled, 0);
        let cipher = Aes128Gcm::new(&key.into());
        let sealed = cipher.encrypt(&nonce.into(), record.as_slice());
        body.extend_from_slice(&sealed.map_err(|_| SealError::TooLong)?);
        Ok(body)
    }
}

/// A key that nobody has had.
pub(crate) fn fresh_key() -> Result<SecretKey, SealError> {
    let mut bytes = [0; 32];
    // All but a few of 2^32 are keys.
    for _ in 0..8 {
        getrandom::fill(&mut bytes).map_err(|_| SealError::Random)?;
        if let Ok(key) = SecretKey::from_slice(&bytes) {
            return Ok(key);
        }
    }
    Err(SealError::Random)
}

/// A public key as it is written.
pub(crate) fn point(key: &PublicKey) -> [u8; POINT] {
    let mut bytes = [0; POINT];
    let point = key.to_sec1_point(false);
    if point.as_bytes().len() == POINT {
        bytes.copy_from_slice(point.as_bytes());
    }
    bytes
}

fn derived<const N: usize>(salt: &[u8], input: &[u8], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    // So few bytes can always be had.
    let _enough = Hkdf::<Sha256>::new(Some(salt), input).expand(info, &mut out);
    out
}

/// Bytes in base64url; some write it filled up.
fn unpacked(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_example_of_rfc_8291_comes_out() {
        let reader = Reader::read(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "BTBZMqHH6r4Tts7J_aSIgg",
        )
        .unwrap();
        let ours = bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let ours = SecretKey::from_slice(&ours).unwrap();
        let salt = bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap();
        let text = b"When I grow up, I want to be a watermelon";
        let body = reader.seal_with(text, 0, &ours, salt).unwrap();
        let wanted = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3\
                      vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXL\
                      WyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(BASE64URL_NOPAD.encode(&body), wanted);
    }

    #[test]
    fn messages_are_filled_up_differ_each_time_and_have_an_end() {
        let browser = fresh_key().unwrap();
        let key = BASE64URL_NOPAD.encode(&point(&browser.public_key()));
        let reader = Reader::read(&format!("{key}="), "AAAAAAAAAAAAAAAAAAAAAA==").unwrap();
        let sealed = |text: &[u8]| reader.seal(text).unwrap();
        assert_eq!(sealed(b"a").len(), sealed(&[0; 255]).len());
        assert_eq!(sealed(b"a").len(), AROUND - 1 + STEP);
        assert_ne!(sealed(b"a"), sealed(b"a"));
        assert!(sealed(&[0; LONGEST]).len() <= RECORD as usize);
        assert_eq!(reader.seal(&[0; LONGEST + 1]), Err(SealError::TooLong));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key = BASE64URL_NOPAD.encode(&point(&fresh_key().unwrap().public_key()));
        let secret = "AAAAAAAAAAAAAAAAAAAAAA";
        for (p256dh, auth, why) in [
            ("", secret, SealError::Key),
            ("BAAA", secret, SealError::Key),
            (&"A".repeat(87), secret, SealError::Key),
            (&"\u{fc}".repeat(44), secret, SealError::Key),
            (key.as_str(), "", SealError::Secret),
            (key.as_str(), "AAAA", SealError::Secret),
        ] {
            assert_eq!(Reader::read(p256dh, auth).err(), Some(why), "{p256dh} {auth}");
        }
        assert!(Reader::read(&key, secret).is_ok());
    }
}
