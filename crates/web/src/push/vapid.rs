//! Who we are to push services: RFC 8292. A key made at the first start, kept in `keys/`; browsers bind
//! what they let us tell them to it.

use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use p256::SecretKey;
use p256::ecdsa::Signature;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;
use serde_json::json;
use sojourn_core::time::Wall;

use super::seal::fresh_key;
use super::seal::point;

/// The file.
const FILE: &str = "push";
/// A key in base64url is no longer.
const LONGEST: u64 = 64;
/// How long our word is good; 24 hours is the most that is allowed.
const GOOD_FOR: Duration = Duration::from_secs(12 * 3600);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The file holds something else.
    #[error("{0}: not a key of this program; move it away, and browsers have to be added anew")]
    Bad(PathBuf),
    /// The system refused.
    #[error("{path}: cannot be read or made")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

/// Our key.
pub(crate) struct Vapid {
    key: SigningKey,
    public: String,
}

impl Vapid {
    /// Reads the key from this directory, or makes it.
    pub(crate) fn load_or_make(keys: &Path) -> Result<Self, PushError> {
        let path = keys.join(FILE);
        let io = |source| PushError::Io { path: path.clone(), source };
        let mut text = String::new();
        let key = match File::open(&path) {
            Ok(file) => {
                file.take(LONGEST).read_to_string(&mut text).map_err(io)?;
                let bytes = BASE64URL_NOPAD.decode(text.trim().as_bytes()).ok();
                let key = bytes.and_then(|bytes| SecretKey::from_slice(&bytes).ok());
                key.ok_or_else(|| PushError::Bad(path.clone()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = fresh_key().map_err(|_| PushError::Random)?;
                DirBuilder::new().recursive(true).mode(0o700).create(keys).map_err(io)?;
                write(&path, &BASE64URL_NOPAD.encode(&key.to_bytes())).map_err(io)?;
                key
            }
            Err(error) => return Err(io(error)),
        };
        Ok(Self::of(&key))
    }

    fn of(key: &SecretKey) -> Self {
        let public = BASE64URL_NOPAD.encode(&point(&key.public_key()));
        Self { key: SigningKey::from(key), public }
    }

    /// The public key, as browsers take it.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// The header that says to a push service who we are, and where its people find ours.
    pub(crate) fn header(&self, service: &str, contact: &str, now: Wall) -> String {
        let expires = now.after(GOOD_FOR).0 / 1_000_000;
        let part = |value: serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let head = part(json!({"typ": "JWT", "alg": "ES256"}));
        let said =
            format!("{head}.{}", part(json!({"aud": service, "exp": expires, "sub": contact})));
        let signature: Signature = self.key.sign(said.as_bytes());
        let signature = BASE64URL_NOPAD.encode(&signature.to_bytes());
        format!("vapid t={said}.{signature}, k={}", self.public)
    }
}

/// Writes a file that is there whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::VerifyingKey;
    use p256::ecdsa::signature::Verifier;

    use super::*;

    #[test]
    fn a_push_service_can_check_who_we_are() {
        let vapid = Vapid::of(&fresh_key().unwrap());
        let header =
            vapid.header("https://push.example", "mailto:ops@example.org", Wall(5_000_000));
        let (token, key) = header.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
        assert_eq!(key, vapid.public());
        let key = BASE64URL_NOPAD.decode(key.as_bytes()).unwrap();
        let key = VerifyingKey::from_sec1_bytes(&key).unwrap();
        let (said, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        key.verify(said.as_bytes(), &Signature::from_slice(&signature).unwrap()).unwrap();
        let claims = BASE64URL_NOPAD.decode(said.split_once('.').unwrap().1.as_bytes()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let wanted = json!({"aud": "https://push.example", "exp": 5 + 12 * 3600,
            "sub": "mailto:ops@example.org"});
        assert_eq!(claims, wanted);
    }

    #[test]
    fn a_key_is_made_once_and_one_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let made = Vapid::load_or_make(&keys).unwrap();
        assert_eq!(Vapid::load_or_make(&keys).unwrap().public(), made.public());
        std::fs::write(keys.join(FILE), "nothing").unwrap();
        let error = Vapid::load_or_make(&keys).err().unwrap();
        assert!(matches!(error, PushError::Bad(_)), "{error}");
    }
}
