//! The token that a login's own pages send along with every change they ask for. It is computed from
//! the login's token, so that it goes with it, under a key that outlives the gateway.

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

use data_encoding::BASE64URL_NOPAD;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use sha2::Sha256;

use super::token::TokenHash;

/// The key's file in the directory of keys.
const FILE: &str = "csrf";
/// Random bytes of a key.
const BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file holds something else.
    #[error("{0}: not {BYTES} bytes; move it away to have a new one made")]
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

/// The key.
pub(super) struct CsrfKey([u8; BYTES]);

impl CsrfKey {
    /// Reads the key of a data directory, or makes it.
    pub(super) fn load_or_make(data_dir: &Path) -> Result<Self, KeyError> {
        let dir = data_dir.join("keys");
        let path = dir.join(FILE);
        let io = |source| KeyError::Io { path: path.clone(), source };
        match read(&path) {
            Ok(bytes) => {
                return bytes.try_into().map(Self).map_err(|_| KeyError::Bad(path));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(io(source)),
        }
        let mut key = [0; BYTES];
        getrandom::fill(&mut key).map_err(|_| KeyError::Random)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io)?;
        write(&path, &key).map_err(io)?;
        Ok(Self(key))
    }

    /// What goes with the token of this digest.
    pub(super) fn token(&self, hash: &TokenHash) -> String {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(hash.bytes());
        BASE64URL_NOPAD.encode(&mac.finalize().into_bytes())
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let longest = u64::try_from(BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(longest).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file that is there whole or not at all.
fn write(path: &Path, key: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(key)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::token;
    use super::*;

    #[test]
    fn the_key_outlives_the_gateway_and_each_login_has_its_own_token() {
        let dir = tempfile::TempDir::new().unwrap();
        let key = CsrfKey::load_or_make(dir.path()).unwrap();
        let (_, hash) = token::mint().unwrap();
        let (_, other) = token::mint().unwrap();
        assert_eq!(key.token(&hash).len(), 43);
        assert_ne!(key.token(&hash), key.token(&other));
        let again = CsrfKey::load_or_make(dir.path()).unwrap();
        assert_eq!(again.token(&hash), key.token(&hash));
        let path = dir.path().join("keys").join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(CsrfKey::load_or_make(dir.path()), Err(KeyError::Bad(_))));
        let elsewhere = tempfile::TempDir::new().unwrap();
        let new = CsrfKey::load_or_make(elsewhere.path()).unwrap();
        assert_ne!(new.token(&hash), key.token(&hash));
    }
}
