//! How the gateway is, honestly: what cannot be done is looked at where it would be done.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Access;
use rustix::fs::StatVfsMountFlags;
use serde::Serialize;
use sojourn_core::wire::runner::PoolState;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::audit::AuditHandle;
use crate::engine::Engine;

/// What was found is good for so long, however often it is asked for.
const FRESH: Duration = Duration::from_secs(1);

/// Longer than this nobody who asks should wait for any part.
const PATIENCE: Duration = Duration::from_secs(3);

/// A file system with less room than this is full.
const ROOM: u64 = 256 << 10;

/// How the gateway is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether all is well.
    pub healthy: bool,
    /// Whether the store is gone: then the gateway can let nobody in.
    pub store_gone: bool,
    /// What is not well, and where, in a line each.
    pub reasons: Vec<String>,
    /// Runners that dial in. The built-in one does not count.
    pub runners_connected: usize,
    /// Sessions in motion.
    pub active_sessions: usize,
    /// Since the start.
    pub uptime: Duration,
}

/// What was found, and when.
#[derive(Debug, Default)]
pub(crate) struct Found(Mutex<Option<(Instant, Findings)>>);

#[derive(Clone, Debug, Default)]
struct Findings {
    store_gone: bool,
    reasons: Vec<String>,
}

impl Engine {
    /// How the gateway is. Whoever asks while somebody else does gets the same answer.
    pub async fn health(&self) -> Health {
        let Findings { store_gone, reasons } = {
            let mut found = self.inner.health.0.lock().await;
            match &*found {
                Some((at, findings)) if at.elapsed() < FRESH => findings.clone(),
                _ => found.insert((Instant::now(), self.look().await)).1.clone(),
            }
        };
        Health {
            healthy: reasons.is_empty(),
            store_gone,
            reasons,
            runners_connected: self.inner.remote.connected(),
            active_sessions: self.inner.admission().active(),
            uptime: self.clock().mono().since(self.inner.started),
        }
    }

    async fn look(&self) -> Findings {
        let mut reasons = Vec::new();
        reasons.extend(audit(self.audit()));
        let store = self.inner.records.store();
        let answer = timeout(PATIENCE, store.check()).await;
        let store_gone = !matches!(answer, Ok(Ok(())));
        match answer {
            Ok(Ok(())) => {
                let unwritable = store.on_disk().and_then(|file| writable(file).err());
                reasons.extend(unwritable.map(|why| format!("the store cannot be written: {why}")));
            }
            Ok(Err(error)) => reasons.push(format!("the store is gone: {error}")),
            Err(_late) => reasons.push("the store is gone: it does not answer".to_owned()),
        }
        match timeout(PATIENCE, self.pools()).await {
            _ if !self.runner_is_there() => reasons.push("the runner is not there".to_owned()),
            Ok(Ok(pools)) => reasons.extend(pools.iter().filter_map(failing)),
            Ok(Err(_)) | Err(_) => reasons.push("the runner does not answer".to_owned()),
        }
        Findings { store_gone, reasons }
    }
}

fn failing(pool: &PoolState) -> Option<String> {
    let why = pool.failing.as_ref()?;
    Some(format!("no sandbox can be made for profile {}: {why}", pool.profile))
}

/// Why the log cannot be written. A directory that is not what it should be is told before somebody
/// finds out by being refused.
fn audit(log: &AuditHandle) -> Option<String> {
    let told = |why: String| Some(format!("the audit log cannot be written: {why}"));
    match log.newest_file() {
        Some(Ok(file)) => {
            if let Err(why) = writable(&file) {
                return told(why);
            }
        }
        Some(Err(error)) => return told(error.to_string()),
        None => {}
    }
    log.is_degraded().then(|| "the audit log cannot be written; see the gateway's log".to_owned())
}

/// Whether this file could be written, and another made beside it.
fn writable(file: &Path) -> Result<(), String> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    let told = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let words = |error: rustix::io::Errno| io::Error::from(error).kind();
    for (path, access) in
        [(directory, Access::WRITE_OK | Access::EXEC_OK), (file, Access::WRITE_OK)]
    {
        rustix::fs::access(path, access).map_err(|error| told(path, &words(error)))?;
    }
    if !fs::metadata(file).is_ok_and(|metadata| metadata.is_file()) {
        return Err(told(file, &"not a file"));
    }
    let system = rustix::fs::statvfs(file).map_err(|error| told(file, &words(error)))?;
    if system.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(told(file, &"its file system is read-only"));
    }
    if system.f_bavail.saturating_mul(system.f_frsize) < ROOM {
        return Err(told(file, &"the disk is full"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("audit-1.jsonl");
        let missing = writable(&file).unwrap_err();
        assert_eq!(missing, format!("{}: entity not found", file.display()));
        fs::create_dir(&file).unwrap();
        assert_eq!(writable(&file).unwrap_err(), format!("{}: not a file", file.display()));
        fs::remove_dir(&file).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(writable(&file), Ok(()));
        assert!(writable(Path::new("/proc/version")).is_err());
    }

    #[test]
    fn a_pool_that_fills_is_well_and_one_that_fails_is_not() {
        let filling = PoolState {
            profile: "tools".to_owned(),
            wanted: 3,
            ready: 0,
            making: 3,
            failing: None,
        };
        assert_eq!(failing(&filling), None);
        let why = Some("rootfs: /nowhere: no such directory".to_owned());
        assert_eq!(
            failing(&PoolState { failing: why, ready: 1, ..filling }).unwrap(),
            "no sandbox can be made for profile tools: rootfs: /nowhere: no such directory"
        );
    }
}
