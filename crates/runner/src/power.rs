//! What the loss of power leaves of sessions that had just begun: files whose names had reached the disk,
//! and whose bytes had not.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use sojourn_core::end::EndReason;
use sojourn_core::ids::SessionId;
use sojourn_shim::clock;
use sojourn_shim::files;
use sojourn_term::sidecar::Channel;
use sojourn_term::sidecar::Sidecar;

use crate::directories::Directories;
use crate::directories::as_path;
use crate::recovery;

/// What was not synced is not older than that.
const DAYS: usize = 2;

/// Below a directory that is open, and through no link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Completes the sidecars that have no byte, of sessions that nobody holds, from what there is of their
/// recordings. Returns how many there were.
///
/// # Errors
/// When a directory cannot be read, or a file not be written.
pub(crate) fn mend(dirs: &Directories, is_held: impl Fn(SessionId) -> bool) -> io::Result<usize> {
    let mut mended = 0;
    for day in days(dirs)?.iter().rev().take(DAYS) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = rustix::fs::openat2(dirs.recordings(), day, flags, Mode::empty(), BENEATH)?;
        for session in empty(&open, "json")? {
            if !is_held(session) {
                mend_one(dirs, &open, day, session)?;
                mended += 1;
            }
        }
    }
    Ok(mended)
}

fn mend_one(dirs: &Directories, open: &OwnedFd, day: &str, session: SessionId) -> io::Result<()> {
    // Without a byte it is no recording, and nothing of it is lost.
    if empty(open, "cast")?.contains(&session) {
        rustix::fs::unlinkat(open, format!("{session}.cast"), AtFlags::empty())?;
    }
    let mut sidecar = Sidecar::new(session.to_string());
    sidecar.ended_at = Some(clock::wall().to_rfc3339());
    sidecar.end_reason = Some(EndReason::Shutdown.name().to_owned());
    sidecar.recovered = true;
    for (facts, marks) in recovery::recover(dirs, &format!("{day}/{session}.cast")) {
        let recording = facts.file.rsplit('/').next().unwrap_or_default().to_owned();
        let (n, kind) = (facts.channel.into(), "unknown".to_owned());
        sidecar.channels.push(Channel { n, kind, recording, ..Channel::default() });
        sidecar.seal(n, facts.bytes, &facts.sha256, marks);
    }
    let name = format!("{session}.json");
    files::replace(open.as_fd(), &name, &sidecar.to_json()?, files::Durability::Power)?;
    tracing::warn!(%session, "what the loss of power left of a session is put in order");
    Ok(())
}

/// Sessions that have a file with this ending that has no byte.
fn empty(day: &OwnedFd, ending: &str) -> io::Result<Vec<SessionId>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(as_path(day))? {
        let entry = entry?;
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(ending)?.strip_suffix('.'));
        let Some(session) = stem.and_then(|stem| stem.parse().ok()) else { continue };
        let about = entry.metadata()?;
        if about.is_file() && about.len() == 0 {
            found.push(session);
        }
    }
    Ok(found)
}

/// The directories of days below `recordings/`, oldest first.
fn days(dirs: &Directories) -> io::Result<Vec<String>> {
    let root = as_path(dirs.recordings());
    let mut level = vec![String::new()];
    for _year_month_day in 0..3 {
        let mut next = Vec::new();
        for above in level {
            for entry in fs::read_dir(root.join(&above))? {
                let name = entry?.file_name();
                let Some(name) = name.to_str() else { continue };
                if name.bytes().all(|byte| byte.is_ascii_digit()) {
                    next.push(if above.is_empty() {
                        name.to_owned()
                    } else {
                        format!("{above}/{name}")
                    });
                }
            }
        }
        next.sort();
        level = next;
    }
    Ok(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_without_a_byte_is_made_of_what_there_is() {
        let [lost, bare, held, sound] = [(); 4].map(|()| SessionId::new());
        let data = std::env::temp_dir().join(format!("power-{lost}"));
        for directory in ["recordings/2026/11/22", "sessions", "images"] {
            fs::create_dir_all(data.join(directory)).unwrap();
        }
        let day = data.join("recordings/2026/11/22");
        let whole = "{\"version\": 2, \"width\": 80, \"height\": 24}\n[0.5, \"o\", \"x\"]\n";
        fs::write(day.join(format!("{lost}.cast")), format!("{whole}[1.0, \"o")).unwrap();
        fs::write(day.join(format!("{bare}.cast")), "").unwrap();
        for session in [lost, bare, held] {
            fs::write(day.join(format!("{session}.json")), "").unwrap();
        }
        fs::write(day.join(format!("{sound}.json")), "{}").unwrap();
        let dirs = Directories::open(&data).unwrap();
        assert_eq!(mend(&dirs, |session| session == held).unwrap(), 2);
        let read = |session| fs::read(day.join(format!("{session}.json"))).unwrap();
        let mended = Sidecar::from_json(&read(lost)).unwrap();
        let channels: Vec<_> = mended.channels.iter().map(|one| (one.n, one.bytes)).collect();
        assert_eq!(channels, [(0, whole.len() as u64)]);
        assert!(mended.recovered && mended.end_reason.as_deref() == Some("shutdown"));
        assert!(Sidecar::from_json(&read(bare)).unwrap().channels.is_empty());
        assert!(!day.join(format!("{bare}.cast")).exists());
        assert!(read(held).is_empty() && read(sound) == b"{}");
        assert_eq!(mend(&dirs, |session| session == held).unwrap(), 0);
        fs::remove_dir_all(&data).unwrap();
    }
}
