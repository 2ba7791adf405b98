//! The key that signs checkpoints: made at the first start, kept in `keys/`.

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

use sojourn_core::audit::CheckpointKey;
use sojourn_core::audit::PublicKey;

/// The directory of keys in the data directory.
const DIR: &str = "keys";
/// The secret key.
const SECRET: &str = "audit-ed25519";
/// The public one, for whoever checks.
const PUBLIC: &str = "audit-ed25519.pub";
/// No PEM of such a key is longer.
const LONGEST: u64 = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file holds something else.
    #[error("{0}: not an Ed25519 key in PEM; move it away to have a new one made")]
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

/// Reads the secret key, or makes it.
pub(crate) fn load_or_make(data_dir: &Path) -> Result<CheckpointKey, KeyError> {
    let dir = data_dir.join(DIR);
    let path = dir.join(SECRET);
    if let Some(pem) = read(&path)? {
        return CheckpointKey::from_pem(&pem).map_err(|_| KeyError::Bad(path));
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| KeyError::Random)?;
    let key = CheckpointKey::from_seed(&seed);
    let io = |source| KeyError::Io { path: path.clone(), source };
    let bad = |_| KeyError::Bad(path.clone());
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io)?;
    // The public half first: when it is there without the secret, the next start makes both anew.
    write(&dir.join(PUBLIC), &key.public().to_pem().map_err(bad)?, 0o644).map_err(io)?;
    write(&path, &key.to_pem().map_err(bad)?, 0o600).map_err(io)?;
    Ok(key)
}

/// Reads the public key; none when there is none yet.
pub(crate) fn load_public(data_dir: &Path) -> Result<Option<PublicKey>, KeyError> {
    let path = data_dir.join(DIR).join(PUBLIC);
    let pem = read(&path)?;
    pem.map(|pem| pem.parse().map_err(|_| KeyError::Bad(path))).transpose()
}

fn read(path: &Path) -> Result<Option<String>, KeyError> {
    let mut pem = String::new();
    match File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut pem)) {
        Ok(_) => Ok(Some(pem)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::Io { path: path.to_owned(), source }),
    }
}

/// Writes a file that is there whole or not at all.
fn write(path: &Path, pem: &str, mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
