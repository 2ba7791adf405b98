//! The door's host keys: Ed25519 and ECDSA P-256, made at the first start and kept in files of their
//! own. RSA is left out: signing with it leaks timing in the library at hand (RUSTSEC-2023-0071).
//!
//! Honeypots have keys of their own, so that nobody sees that the gateway is theirs; an RSA key among
//! them, since the sshd they pass for has one and nobody relies on theirs.

use std::fmt;
use std::fs::DirBuilder;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use russh::keys::Algorithm;
use russh::keys::EcdsaCurve;
use russh::keys::HashAlg;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::RsaKeypair;

/// The files in the keys directory, best first.
const FILES: [(&str, Algorithm); 2] = [
    ("ssh_host_ed25519_key", Algorithm::Ed25519),
    ("ssh_host_ecdsa_key", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
];

/// The directory, in that of the keys, of those that honeypots have.
const OF_HONEYPOTS: &str = "honeypot";

/// The files in it, with the sizes that Debian's `ssh-keygen -A` gives them.
const FILES_OF_HONEYPOTS: [(&str, Algorithm); 3] = [
    ("ssh_host_rsa_key", Algorithm::Rsa { hash: None }),
    ("ssh_host_ecdsa_key", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
    ("ssh_host_ed25519_key", Algorithm::Ed25519),
];

/// Bits of an RSA key.
const RSA_BITS: usize = 3072;

/// No host key is longer.
const LONGEST_FILE: u64 = 64 * 1024;

/// The keys by which clients know the gateway again.
#[derive(Clone)]
pub struct HostKeys(Vec<PrivateKey>);

/// Why the gateway has no host keys.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file cannot be read or made.
    #[error("host key {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Others could read it.
    #[error("host key {path} may be read by others (mode {mode:03o}); chmod it to 600")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a key.
    #[error("host key {path} is not a private key in OpenSSH's format")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A key, but none we use.
    #[error("host key {path} is of type {algorithm}; {wanted} is wanted there")]
    Algorithm {
        /// The file.
        path: PathBuf,
        /// Its type.
        algorithm: String,
        /// The type that a file of this name has.
        wanted: String,
    },
}

impl HostKeys {
    /// Reads the keys in `directory`, making those that are missing, each with its public half beside
    /// it.
    ///
    /// # Errors
    /// When one can be neither read nor made, or others can read it.
    pub fn load_or_make(directory: &Path) -> Result<Self, HostKeyError> {
        all(directory, &FILES)
    }

    /// The same for honeypots.
    ///
    /// # Errors
    /// As above.
    pub fn load_or_make_for_honeypots(directory: &Path) -> Result<Self, HostKeyError> {
        let directory = directory.join(OF_HONEYPOTS);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(HostKeyError::File { path: directory, source })
            }
            _ => all(&directory, &FILES_OF_HONEYPOTS),
        }
    }

    /// Each key's type and fingerprint, as `ssh-keygen -l` shows it.
    pub fn fingerprints(&self) -> impl Iterator<Item = (String, String)> {
        self.0
            .iter()
            .map(|key| (key.algorithm().to_string(), key.fingerprint(HashAlg::Sha256).to_string()))
    }

    pub(crate) fn keys(&self) -> &[PrivateKey] {
        &self.0
    }
}

impl fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fingerprints()).finish()
    }
}

fn all(directory: &Path, files: &[(&str, Algorithm)]) -> Result<HostKeys, HostKeyError> {
    let key = |(name, algorithm): &(&str, Algorithm)| {
        let path = directory.join(name);
        match make(&path, algorithm) {
            Ok(key) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(&path, algorithm),
            Err(source) => Err(HostKeyError::File { path, source }),
        }
    };
    files.iter().map(key).collect::<Result<_, _>>().map(HostKeys)
}

/// Makes a key where there is none. It appears whole or not at all.
fn make(path: &Path, algorithm: &Algorithm) -> io::Result<PrivateKey> {
    if path.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut rng = russh::keys::key::safe_rng();
    let key = match algorithm {
        Algorithm::Rsa { .. } => {
            RsaKeypair::random(&mut rng, RSA_BITS).map(PrivateKey::from).map_err(io::Error::other)
        }
        algorithm => PrivateKey::random(&mut rng, algorithm.clone()).map_err(io::Error::other),
    }?;
    let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    let public = key.public_key().to_openssh().map_err(io::Error::other)?;
    publish(path, 0o600, text.as_bytes())?;
    match publish(&path.with_extension("pub"), 0o644, format!("{public}\n").as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(key),
    }
}

/// Writes a file that was not there.
fn publish(path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let _stale = std::fs::remove_file(&part);
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&part)?;
    file.write_all(contents)?;
    file.sync_all()?;
    let published = std::fs::hard_link(&part, path);
    std::fs::remove_file(&part)?;
    // A key that a crash takes back would look like an attack to whoever has seen it.
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    published
}

fn load(path: &Path, wanted: &Algorithm) -> Result<PrivateKey, HostKeyError> {
    let path = || path.to_owned();
    let unreadable = |source| HostKeyError::File { path: path(), source };
    let file = File::open(path()).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(HostKeyError::Exposed { path: path(), mode });
    }
    let mut text = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut text).map_err(unreadable)?;
    let key =
        PrivateKey::from_openssh(&text).map_err(|_| HostKeyError::Malformed { path: path() })?;
    if key.algorithm() != *wanted {
        let (algorithm, wanted) = (key.algorithm().to_string(), wanted.to_string());
        return Err(HostKeyError::Algorithm { path: path(), algorithm, wanted });
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("sojourn-{name}-{}", std::process::id()));
        let _none = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        directory
    }

    #[test]
    fn keys_are_made_once_and_stay_the_same() {
        let directory = directory("host-keys");
        let made = HostKeys::load_or_make(&directory).unwrap();
        let mode = directory.join("ssh_host_ed25519_key").metadata().unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let loaded = HostKeys::load_or_make(&directory).unwrap();
        assert_eq!(
            made.fingerprints().collect::<Vec<_>>(),
            loaded.fingerprints().collect::<Vec<_>>()
        );
        let types: Vec<_> = made.fingerprints().map(|(kind, _)| kind).collect();
        assert_eq!(types, ["ssh-ed25519", "ecdsa-sha2-nistp256"]);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let directory = directory("host-keys-exposed");
        HostKeys::load_or_make(&directory).unwrap();
        let path = directory.join("ssh_host_ecdsa_key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = HostKeys::load_or_make(&directory).unwrap_err();
        assert!(error.to_string().ends_with("chmod it to 600"), "{error}");
        std::fs::write(&path, "not a key").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = HostKeys::load_or_make(&directory).unwrap_err();
        assert!(matches!(error, HostKeyError::Malformed { .. }), "{error}");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
