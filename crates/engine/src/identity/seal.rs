//! The key that seals what must be read again, and that hides what must only be recognised: made at
//! the first start, kept in `keys/`.

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

use aes_gcm::Aes256Gcm;
use aes_gcm::KeyInit;
use aes_gcm::aead::Aead;
use aes_gcm::aead::Payload;
use data_encoding::BASE64URL_NOPAD;
use data_encoding::HEXLOWER;
use hmac::Hmac;
use hmac::Mac;
use sha2::Sha256;

/// The file in the data directory.
const DIR: &str = "keys";
const FILE: &str = "identity";
/// Bytes of the key.
const BYTES: usize = 32;
/// Bytes that make each sealing another one.
const NONCE: usize = 12;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file holds something else.
    #[error(
        "{0}: not a key of this program; with another one, second factors have to be set up anew"
    )]
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
    /// Sealed with another key, or damaged.
    #[error("a sealed secret cannot be opened with the key in {DIR}/{FILE}")]
    Sealed,
}

/// Seals and hides. It has no Debug form that shows anything.
#[derive(Clone)]
pub(super) struct Seal {
    cipher: Box<Aes256Gcm>,
    names: [u8; BYTES],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Seal {
    /// Reads the key in a data directory, or makes it.
    pub(super) fn load_or_make(data_dir: &Path) -> Result<Self, SealError> {
        let dir = data_dir.join(DIR);
        let path = dir.join(FILE);
        if let Some(key) = read(&path)? {
            return Self::new(&key);
        }
        let io = |source| SealError::Io { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io)?;
        let mut key = [0; BYTES];
        getrandom::fill(&mut key).map_err(|_| SealError::Random)?;
        match write(&path, &HEXLOWER.encode(&key)) {
            Ok(()) => Self::new(&key),
            // Another process was faster: there is but one key.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let key = read(&path)?.ok_or_else(|| SealError::Bad(path.clone()))?;
                Self::new(&key)
            }
            Err(error) => Err(io(error)),
        }
    }

    /// One whose key nobody has and that is gone with it.
    pub(super) fn passing() -> Result<Self, SealError> {
        let mut key = [0; BYTES];
        getrandom::fill(&mut key).map_err(|_| SealError::Random)?;
        Self::new(&key)
    }

    fn new(key: &[u8; BYTES]) -> Result<Self, SealError> {
        let derive = |purpose: &str| mac(key, &[purpose]).ok_or(SealError::Sealed);
        let cipher = Box::new(Aes256Gcm::new(&derive("seal")?.into()));
        Ok(Self { cipher, names: derive("names")? })
    }

    /// Seals a secret for one owner: nobody can put it in place of another's.
    pub(super) fn seal(&self, secret: &[u8], owner: &str) -> Result<String, SealError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Random)?;
        let payload = Payload { msg: secret, aad: owner.as_bytes() };
        let sealed = self.cipher.encrypt(&nonce.into(), payload).map_err(|_| SealError::Sealed)?;
        Ok(BASE64URL_NOPAD.encode(&[&nonce[..], &sealed].concat()))
    }

    /// Opens what was sealed for this owner.
    pub(super) fn open(&self, sealed: &str, owner: &str) -> Result<Vec<u8>, SealError> {
        let bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).map_err(|_| SealError::Sealed)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>().ok_or(SealError::Sealed)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        self.cipher.decrypt(&(*nonce).into(), payload).map_err(|_| SealError::Sealed)
    }

    /// What is stored of a name or an address, by which it is recognised and not known.
    pub(super) fn hide(&self, parts: &[&str]) -> String {
        HEXLOWER.encode(&mac(&self.names, parts).unwrap_or_default())
    }
}

/// HMAC-SHA-256 over parts that cannot run into one another.
fn mac(key: &[u8; BYTES], parts: &[&str]) -> Option<[u8; BYTES]> {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).ok()?;
    for part in parts {
        mac.update(&u64::try_from(part.len()).ok()?.to_be_bytes());
        mac.update(part.as_bytes());
    }
    Some(mac.finalize().into_bytes().into())
}

fn read(path: &Path) -> Result<Option<[u8; BYTES]>, SealError> {
    let mut hex = String::new();
    match File::open(path).and_then(|file| file.take(1024).read_to_string(&mut hex)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SealError::Io { path: path.to_owned(), source }),
    }
    let bytes = HEXLOWER.decode(hex.trim_end().as_bytes()).ok();
    let key = bytes.and_then(|bytes| bytes.try_into().ok());
    key.map(Some).ok_or_else(|| SealError::Bad(path.to_owned()))
}

/// Writes a file that is there whole or not at all, and that is not there yet.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension(format!("new-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished)?;
    linked?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_its_owner_and_its_key_alone() {
        let dir = tempfile::TempDir::new().unwrap();
        let seal = Seal::load_or_make(dir.path()).unwrap();
        let sealed = seal.seal(b"a secret", "alice").unwrap();
        assert_ne!(sealed, seal.seal(b"a secret", "alice").unwrap());
        let again = Seal::load_or_make(dir.path()).unwrap();
        assert_eq!(again.open(&sealed, "alice").unwrap(), b"a secret");
        assert!(again.open(&sealed, "bob").is_err());
        assert!(Seal::passing().unwrap().open(&sealed, "alice").is_err());
        assert!(again.open(&sealed[..10], "alice").is_err() && again.open("", "alice").is_err());
        let mode =
            std::fs::metadata(dir.path().join("keys/identity")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path().join("keys")).unwrap().count(), 1);
        assert_eq!(format!("{seal:?}"), "Seal(..)");
    }

    #[test]
    fn names_are_hidden_by_a_key() {
        let (one, other) = (Seal::passing().unwrap(), Seal::passing().unwrap());
        assert_eq!(one.hide(&["name", "alice"]), one.hide(&["name", "alice"]));
        assert_ne!(one.hide(&["name", "alice"]), one.hide(&["namea", "lice"]));
        assert_ne!(one.hide(&["name", "alice"]), other.hide(&["name", "alice"]));
    }

    #[test]
    fn another_file_is_not_a_key() {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(dir.path().join("keys/identity"), "hello").unwrap();
        assert!(matches!(Seal::load_or_make(dir.path()), Err(SealError::Bad(_))));
    }
}
