//! Recordings on disk: `YYYY/MM/DD/<session id>.cast`, walked day by day.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use sojourn_core::ids::SessionId;
use sojourn_core::ids::is_named_by;

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// Whose it is.
    pub(crate) session: SessionId,
    /// What it is.
    pub(crate) part: Part,
}

/// Which file of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The recording of a channel.
    Channel(u16),
    /// The file beside them that says who, from where and how it ended.
    Sidecar,
}

impl FromStr for Name {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let (id, ending) = name.split_once('.').ok_or(())?;
        let session: SessionId = id.parse().map_err(|_| ())?;
        // One spelling of an id, or two names could be of one file.
        if session.to_string() != id {
            return Err(());
        }
        let part = match ending {
            "cast" => Part::Channel(0),
            "json" => Part::Sidecar,
            _ => {
                let number = ending.strip_suffix(".cast").ok_or(())?;
                let channel = number.parse::<u16>().map_err(|_| ())?;
                (channel > 0 && channel.to_string() == number)
                    .then_some(Part::Channel(channel))
                    .ok_or(())?
            }
        };
        Ok(Self { session, part })
    }
}

/// The directories of days, oldest first.
pub(crate) fn days(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut level = vec![root.to_owned()];
    for _year_month_day in 0..3 {
        let mut next = Vec::new();
        for directory in level {
            next.extend(numbered(&directory)?);
        }
        level = next;
    }
    Ok(level)
}

fn numbered(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_number = name.to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        if is_number && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The recordings and sidecars of one day, in order.
pub(crate) fn of_day(directory: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        names.extend(name.to_str().and_then(|name| name.parse::<Name>().ok()));
    }
    names.sort();
    Ok(names)
}

/// The recordings of this channel whose session's id ends so, with their sessions.
pub(crate) fn find(
    root: &Path,
    typed: &str,
    channel: u16,
) -> io::Result<Vec<(SessionId, PathBuf)>> {
    let mut found = Vec::new();
    for day in days(root)? {
        for name in of_day(&day)? {
            if name.part == Part::Channel(channel) && is_named_by(&name.session.0, typed) {
                found.push((name.session, day.join(file_name(name.session, channel))));
            }
        }
    }
    Ok(found)
}

/// The name of a channel's recording.
pub(crate) fn file_name(session: SessionId, channel: u16) -> String {
    match channel {
        0 => format!("{session}.cast"),
        n => format!("{session}.{n}.cast"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_names() {
        let id = "01932b5e-7c1a-7f00-8000-00003f2a91c0";
        let part = |ending: &str| format!("{id}.{ending}").parse::<Name>().map(|name| name.part);
        assert_eq!(part("cast"), Ok(Part::Channel(0)));
        assert_eq!(part("12.cast"), Ok(Part::Channel(12)));
        assert_eq!(part("json"), Ok(Part::Sidecar));
        for ending in ["0.cast", "01.cast", "+1.cast", "70000.cast", "cast.new", "x"] {
            assert_eq!(part(ending), Err(()), "{ending}");
        }
        assert!(format!("{}.cast", id.to_uppercase()).parse::<Name>().is_err());
    }
}
