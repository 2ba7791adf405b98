//! Recordings by session, as they lie: `YYYY/MM/DD/<session id>….cast` and its sidecar.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_shim::clock;
use sojourn_shim::files;
use sojourn_term::sidecar::Sidecar;

use super::Due;
use super::Item;
use super::due;
use super::sooner;
use crate::directories::Directories;
use crate::directories::as_path;
use crate::requests::Requests;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// A recording without a sidecar is of a session on another machine that is not over, whoever knows of
/// it now; one that has not changed for so long was left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest sidecar that is read.
const LONGEST_SIDECAR: u64 = 16 << 20;

/// The recordings of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recording {
    pub(super) session: SessionId,
    /// Its day's directory below `recordings/`.
    day: String,
}

impl Recording {
    /// Removes its files, and the directories that are empty without them.
    pub(super) fn remove(&self, dirs: &Directories) -> io::Result<()> {
        let day = open(dirs.recordings(), &self.day)?;
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(as_path(&day))? {
            let name = entry?.file_name().into_string();
            names.extend(name.ok().filter(|name| session_of(name) == Some(self.session)));
        }
        // The sidecar last: what is left of a removal that was cut short is still a session's.
        names.sort_by_key(|name| name.ends_with(".json"));
        for name in names {
            rustix::fs::unlinkat(&day, name, AtFlags::empty())?;
        }
        drop(day);
        let mut parent = Some(self.day.as_str());
        let (year, month, day) = clock::wall().date();
        let today = format!("{year:04}/{month:02}/{day:02}");
        while let Some(path) = parent.filter(|path| !today.starts_with(path)) {
            if rustix::fs::unlinkat(dirs.recordings(), path, AtFlags::REMOVEDIR).is_err() {
                break;
            }
            parent = path.rsplit_once('/').map(|(parent, _)| parent);
        }
        Ok(())
    }
}

/// What is to go, and when to look again.
pub(super) fn look(requests: &Requests) -> io::Result<Due<Recording>> {
    let retention = requests.retention;
    if retention.recordings_for.is_none() && retention.recordings_total.is_none() {
        return Ok((Vec::new(), None));
    }
    let now = clock::wall();
    let root = as_path(requests.dirs.recordings());
    let (mut items, mut later) = (Vec::new(), None);
    for day in days(&root)? {
        let began = began(&day);
        // Its sessions ended after it began.
        let is_young = retention.recordings_for.is_none_or(|time| began.after(time) > now);
        if is_young && retention.recordings_total.is_none() {
            later = retention.recordings_for.map(|time| began.after(time));
            break;
        }
        let directory = open(requests.dirs.recordings(), &day)?;
        for (session, found) in sessions(&directory)? {
            let since = match is_young {
                // Only its age among others counts.
                true => found.changed,
                false => ended(&directory, session).unwrap_or(found.changed),
            };
            items.push(Item {
                what: Recording { session, day: day.clone() },
                since,
                keep_for: retention.recordings_for,
                bytes: found.bytes,
                is_free: !requests.holds(session) && found.is_over(now),
            });
        }
    }
    let (gone, next) = due(&items, retention.recordings_total, now);
    Ok((gone, sooner(next, later)))
}

/// The files of one session on one day.
#[derive(Clone, Copy)]
struct Found {
    bytes: u64,
    changed: Wall,
    has_sidecar: bool,
}

impl Found {
    fn is_over(self, now: Wall) -> bool {
        self.has_sidecar || self.changed.after(LEFT_BEHIND) <= now
    }
}

fn sessions(day: &OwnedFd) -> io::Result<BTreeMap<SessionId, Found>> {
    let mut found: BTreeMap<SessionId, Found> = BTreeMap::new();
    for entry in fs::read_dir(as_path(day))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(session) = name.to_str().and_then(session_of) else { continue };
        // It may have gone meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        let since = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let changed = Wall(0).after(since);
        let new = Found { bytes: 0, changed, has_sidecar: false };
        let all = found.entry(session).or_insert(new);
        all.has_sidecar |= name.as_encoded_bytes().ends_with(b".json");
        all.bytes = all.bytes.saturating_add(metadata.len());
        all.changed = all.changed.max(changed);
    }
    Ok(found)
}

/// When a session ended, as its sidecar says.
fn ended(day: &OwnedFd, session: SessionId) -> Option<Wall> {
    let bytes = files::read(day.as_fd(), &format!("{session}.json"), LONGEST_SIDECAR).ok()?;
    Wall::from_rfc3339(&Sidecar::from_json(&bytes).ok()?.ended_at?).ok()
}

/// Whose file this is; none's if it is no recording or sidecar.
fn session_of(name: &str) -> Option<SessionId> {
    let (id, ending) = name.split_once('.')?;
    (ending.ends_with("cast") || ending == "json").then_some(())?;
    let session: SessionId = id.parse().ok()?;
    (session.to_string() == id).then_some(session)
}

/// The days there are, oldest first, as paths below `root`.
fn days(root: &Path) -> io::Result<Vec<String>> {
    let mut level = vec![String::new()];
    for _year_month_day in 0..3 {
        let mut next = Vec::new();
        for above in level {
            for entry in fs::read_dir(root.join(&above))? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                if name.bytes().all(|byte| byte.is_ascii_digit()) && entry.file_type()?.is_dir() {
                    let slash = if above.is_empty() { "" } else { "/" };
                    next.push(format!("{above}{slash}{name}"));
                }
            }
        }
        next.sort_unstable();
        level = next;
    }
    Ok(level)
}

/// When a day began; one that is none began long ago.
fn began(day: &str) -> Wall {
    let date = day.replace('/', "-");
    Wall::from_rfc3339(&format!("{date}T00:00:00Z")).unwrap_or(Wall(0))
}

fn open(recordings: &OwnedFd, day: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(recordings, day, flags, Mode::empty(), BENEATH)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_sidecar_goes_on_unless_it_was_left_behind() {
        let now = Wall(0).after(2 * LEFT_BEHIND);
        let of = |has_sidecar, changed| Found { bytes: 1, changed, has_sidecar }.is_over(now);
        assert!(of(true, now));
        assert!(!of(false, now) && !of(false, Wall(1).after(LEFT_BEHIND)));
        assert!(of(false, Wall(0).after(LEFT_BEHIND)));
    }

    #[test]
    fn only_our_files_are_anybodys() {
        let id = "01932b5e-7c1a-7f00-8000-00003f2a91c0";
        for ending in ["cast", "12.cast", "json"] {
            assert!(session_of(&format!("{id}.{ending}")).is_some(), "{ending}");
        }
        for name in ["notes.txt", "x.cast", ".gitignore", &format!("{id}.txt"), &id.to_uppercase()]
        {
            assert_eq!(session_of(name), None, "{name}");
        }
        assert_eq!(began("1970/01/03"), Wall(0).after(std::time::Duration::from_secs(2 * 86_400)));
    }
}
