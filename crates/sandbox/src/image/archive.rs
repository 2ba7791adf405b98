//! Where the parts of an archive are: the table of a tar that holds blobs and the texts about them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

use super::Meter;
use super::Problem;
use super::compress::Counted;
use super::compress::Hashed;
use super::compress::Plain;
use super::compress::Section;
use super::problem;
use super::shown;
use super::tar::Kind;
use super::tar::Tar;
use super::tree::Place;

/// The most parts.
const MOST: usize = 20_000;
/// The longest text: an index, a manifest, a configuration.
const LONGEST_TEXT: u64 = 4 << 20;
/// Links to parts are followed so far; one form names a layer that way that is there twice.
const MOST_LINKS: usize = 4;

/// An archive, and the table of its parts.
pub(super) struct Archive {
    file: File,
    parts: BTreeMap<Vec<u8>, Part>,
}

enum Part {
    /// Where it begins, and how long it is.
    Bytes(u64, u64),
    /// The name of another one.
    Link(Vec<u8>),
}

impl Archive {
    /// Reads the table. Where all of it is compressed, it is put beside first, as a file without a
    /// name in `scratch`.
    pub(super) fn open(file: File, scratch: impl AsFd, meter: &Meter) -> Result<Self, Problem> {
        let length = file.metadata()?.len();
        let all = |file, length| Section { file, at: 0, left: length };
        let mut plain = Plain::of(all(&file, length))?;
        if !plain.is_compressed() {
            drop(plain);
            let parts = table(all(&file, length))?;
            return Ok(Self { file, parts });
        }
        let mut beside = unnamed(scratch)?;
        let mut counted = Counted { source: &mut plain, meter };
        let mut buffer = vec![0; 128 << 10];
        loop {
            match counted.read(&mut buffer)? {
                0 => break,
                count => beside.write_all(buffer.get(..count).unwrap_or_default())?,
            }
        }
        let length = beside.stream_position()?;
        let parts = table(all(&beside, length))?;
        Ok(Self { file: beside, parts })
    }

    /// Whether there is such a part.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name.as_bytes()).is_ok()
    }

    /// A part.
    pub(super) fn part(&self, name: &str) -> Result<Section<'_>, Problem> {
        let (at, left) = self.find(name.as_bytes())?;
        Ok(Section { file: &self.file, at, left })
    }

    /// A part that is a text, and its digest.
    pub(super) fn text(&self, name: &str) -> Result<(Vec<u8>, String), Problem> {
        let part = self.part(name)?;
        if part.left > LONGEST_TEXT {
            return problem(format!("{} is too long", shown(name.as_bytes())));
        }
        let mut text = Vec::new();
        let mut hashed = Hashed::new(part);
        hashed.read_to_end(&mut text)?;
        let (digest, _) = hashed.finish()?;
        Ok((text, digest))
    }

    fn find(&self, name: &[u8]) -> Result<(u64, u64), Problem> {
        let mut name = name.to_vec();
        for _ in 0..MOST_LINKS {
            match self.parts.get(&name) {
                Some(Part::Bytes(at, length)) => return Ok((*at, *length)),
                Some(Part::Link(to)) => name.clone_from(to),
                None => break,
            }
        }
        problem(format!("{} is not in it", shown(&name)))
    }
}

fn table(source: Section<'_>) -> Result<BTreeMap<Vec<u8>, Part>, Problem> {
    let length = source.left;
    let mut tar = Tar::new(io::BufReader::with_capacity(1 << 20, source));
    let mut parts = BTreeMap::new();
    while let Some(entry) = tar.next()? {
        let part = match entry.kind {
            Kind::File => {
                let at = tar.position();
                // What it says it has but has not would be found when it is read; this is kinder.
                if at.saturating_add(entry.size) > length {
                    return problem("it ends in the middle of a file");
                }
                Part::Bytes(at, entry.size)
            }
            Kind::Symlink => Part::Link(beside(&entry.path, &entry.link)),
            Kind::HardLink => Part::Link(Place::of(&entry.link)?.path()),
            Kind::Directory | Kind::Special => continue,
        };
        if parts.len() >= MOST {
            return problem("it has more parts than an image has");
        }
        parts.insert(Place::of(&entry.path)?.path(), part);
    }
    Ok(parts)
}

/// What a link means that stands beside other parts.
fn beside(path: &[u8], to: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    parts.pop();
    for name in to.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.retain(|name| !matches!(*name, b"" | b"."));
    parts.join(&b'/')
}

/// A file without a name, in a directory.
fn unnamed(directory: impl AsFd) -> Result<File, Problem> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::LARGEFILE;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat2(directory, ".", flags, mode, ResolveFlags::empty())?;
    Ok(File::from(file))
}
