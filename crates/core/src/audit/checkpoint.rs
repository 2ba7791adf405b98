//! Checkpoints: the chain's end, signed, so that one kept elsewhere proves what came before it.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::Signature;
use ed25519_dalek::Signer;
use ed25519_dalek::SigningKey;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::pkcs8::KeypairBytes;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use super::Head;
use super::LineHash;
use super::from_hex;

/// Not a key of the kind that signs checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 key in PEM")]
pub struct BadKey;

/// The chain's end at some time, and the signature over it. These are the details of a `checkpoint`
/// event, and what an operator keeps elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The number of the last line it covers.
    pub seq: u64,
    /// That line's hash.
    pub hash: LineHash,
    /// The public key that made the signature, in hexadecimal.
    pub key: String,
    /// The signature over both, in hexadecimal.
    pub signature: String,
}

impl Checkpoint {
    /// Whether the signature is `key`'s and covers exactly this line and hash.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let signature = from_hex(&self.signature).map(|bytes| Signature::from_bytes(&bytes));
        self.key == key.to_string()
            && signature.is_some_and(|signature| {
                key.0.verify_strict(&message(self.seq, self.hash), &signature).is_ok()
            })
    }

    /// The details of its audit event.
    #[must_use]
    pub fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        details.insert("seq".to_owned(), self.seq.into());
        details.insert("hash".to_owned(), self.hash.to_string().into());
        details.insert("key".to_owned(), self.key.clone().into());
        details.insert("signature".to_owned(), self.signature.clone().into());
        details
    }

    /// Reads a checkpoint as it was kept: bare, or as the details of a whole audit line.
    #[must_use]
    pub fn from_kept(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line {
            details: Checkpoint,
        }
        serde_json::from_str(line)
            .or_else(|_| serde_json::from_str::<Line>(line).map(|line| line.details))
            .ok()
    }
}

/// What is signed. The first line keeps the key from ever signing anything else by mistake.
fn message(seq: u64, hash: LineHash) -> Vec<u8> {
    format!("sojourn audit checkpoint\n{seq}\n{hash}\n").into_bytes()
}

/// The secret key that signs checkpoints.
pub struct CheckpointKey(SigningKey);

impl CheckpointKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads a key as [`CheckpointKey::to_pem`] wrote it.
    ///
    /// # Errors
    /// When `pem` is something else.
    pub fn from_pem(pem: &str) -> Result<Self, BadKey> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| BadKey)
    }

    /// The key as PKCS #8 PEM, without its public half, which not every reader bears.
    ///
    /// # Errors
    /// Never in practice: the encoding has no way to fail for a key.
    pub fn to_pem(&self) -> Result<String, BadKey> {
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        pair.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).map_err(|_| BadKey)
    }

    /// The key that checks its signatures.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs the chain's end.
    #[must_use]
    pub fn sign(&self, head: Head) -> Checkpoint {
        let signature = self.0.sign(&message(head.seq, head.hash));
        Checkpoint {
            seq: head.seq,
            hash: head.hash,
            key: self.public().to_string(),
            signature: hex(&signature.to_bytes()),
        }
    }
}

impl fmt::Debug for CheckpointKey {
    /// Shows the public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CheckpointKey").field(&self.public()).finish()
    }
}

/// The key that checks checkpoints.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key as PEM.
    ///
    /// # Errors
    /// Never in practice, as with [`CheckpointKey::to_pem`].
    pub fn to_pem(&self) -> Result<String, BadKey> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|_| BadKey)
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(pem: &str) -> Result<Self, BadKey> {
        VerifyingKey::from_public_key_pem(pem).map(Self).map_err(|_| BadKey)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
