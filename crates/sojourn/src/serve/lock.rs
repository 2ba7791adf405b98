//! One gateway a data directory.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::failure::Failure;

/// Held as long as the gateway lives.
#[derive(Debug)]
pub(crate) struct GatewayLock {
    _file: File,
}

/// Takes the lock, or says whose it is.
pub(crate) fn take(data_dir: &Path) -> Result<GatewayLock, Failure> {
    let path = data_dir.join("gateway.lock");
    let failed = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(&path)
        .map_err(failed)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let _unread = Read::by_ref(&mut file).take(32).read_to_string(&mut holder);
        return Err(Failure::Refused(format!(
            "another gateway (pid {}) uses {}; stop it, or choose another data_dir",
            holder.trim(),
            data_dir.display(),
        )));
    }
    file.rewind().map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(GatewayLock { _file: file })
}
