//! One layer over those before it: what it holds, what it removes, what it hides.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Uid;

use super::Meter;
use super::Problem;
use super::problem;
use super::tar::Entry;
use super::tar::Kind;
use super::tar::Tar;
use super::tree;
use super::tree::Attributes;
use super::tree::Place;
use super::tree::Tree;

/// Before a name: what has it in the layers below is gone.
const WHITEOUT: &[u8] = b".wh.";
/// In a directory: nothing of it in the layers below is left.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Before names that are the business of whoever made the layer.
const PRIVATE: &[u8] = b".wh..wh.";

/// The ids that there are within an image, and who owns what another id would.
const IDS: u64 = 65_536;
const NOBODY: u32 = 65_534;

const BUFFER: usize = 128 << 10;

/// A layer while it is applied.
struct Layer<'a> {
    tree: &'a Tree,
    meter: &'a Meter,
    /// What this layer has made: numbers that stand for paths, which is shorter. Two paths that share
    /// one leave a file that was to be hidden.
    made: HashSet<u64>,
    numbers: RandomState,
    /// Directories, whose times change as long as something is made in them.
    directories: Vec<(Place, i64)>,
    buffer: Vec<u8>,
}

/// Applies a layer.
pub(super) fn apply<R: Read>(tar: &mut Tar<R>, tree: &Tree, meter: &Meter) -> Result<(), Problem> {
    let mut layer = Layer {
        tree,
        meter,
        made: HashSet::new(),
        numbers: RandomState::new(),
        directories: Vec::new(),
        buffer: vec![0; BUFFER],
    };
    while let Some(entry) = tar.next()? {
        layer.meter.entry()?;
        layer.add(&entry, tar)?;
    }
    layer.date()
}

impl Layer<'_> {
    fn add<R: Read>(&mut self, entry: &Entry, tar: &mut Tar<R>) -> Result<(), Problem> {
        let place = Place::of(&entry.path)?;
        let attributes = Attributes {
            uid: Uid::from_raw(id(entry.uid)),
            gid: Gid::from_raw(id(entry.gid)),
            // Set-user-id bits are shown as the image has them, and work nowhere: on the host only root
            // enters the directory above, and in a sandbox nobody gains rights.
            mode: Mode::from_raw_mode(entry.mode),
            times: entry.mtime,
        };
        let Some((parent, name)) = place.split() else {
            if entry.kind == Kind::Directory {
                tree::set(self.tree.directory(&place)?.as_fd(), &attributes)?;
            }
            return Ok(());
        };
        if name == OPAQUE {
            return self.hide_all(&parent);
        }
        if name.starts_with(PRIVATE) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.hide(&parent, hidden);
        }
        // A sandbox makes its own devices, and no pipe of an image has anybody at its other end.
        if entry.kind == Kind::Special {
            return Ok(());
        }
        let directory = self.tree.make_directory(&parent)?;
        match entry.kind {
            Kind::Directory => {
                let made = self.tree.add_directory(&directory, name)?;
                tree::set(made.as_fd(), &attributes)?;
                self.directories.push((place.clone(), entry.mtime));
            }
            Kind::File => {
                let mut file = self.tree.add_file(&directory, name)?;
                loop {
                    match tar.read(&mut self.buffer)? {
                        0 => break,
                        count => {
                            file.write_all(self.buffer.get(..count).unwrap_or_default())?;
                        }
                    }
                }
                tree::set(file.as_fd(), &attributes)?;
            }
            Kind::Symlink if entry.link.is_empty() => return problem("a link leads to no name"),
            Kind::Symlink => {
                self.tree.add_symlink(&directory, name, &entry.link, &attributes)?;
            }
            Kind::HardLink => {
                self.tree.add_hard_link(&directory, name, &Place::of(&entry.link)?)?;
            }
            Kind::Special => {}
        }
        let number = self.number(&place);
        self.made.insert(number);
        Ok(())
    }

    fn hide(&mut self, parent: &Place, name: &[u8]) -> Result<(), Problem> {
        if matches!(name, b"" | b"." | b"..") {
            return problem("a mark hides what has no name");
        }
        if self.made.contains(&self.number(&parent.join(name))) {
            return Ok(());
        }
        // What is not there is hidden.
        let Ok(directory) = self.tree.directory(parent) else { return Ok(()) };
        tree::remove(directory.as_fd(), name)
    }

    fn hide_all(&mut self, place: &Place) -> Result<(), Problem> {
        let Ok(directory) = self.tree.directory(place) else { return Ok(()) };
        for name in tree::names(directory.as_fd())? {
            let inside = place.join(&name);
            if !self.made.contains(&self.number(&inside)) {
                tree::remove(directory.as_fd(), &name)?;
            } else if tree::is_directory(directory.as_fd(), &name) {
                self.hide_all(&inside)?;
            }
        }
        Ok(())
    }

    fn number(&self, place: &Place) -> u64 {
        self.numbers.hash_one(place.path())
    }

    /// Gives directories their times, when nothing more is made in them.
    fn date(&mut self) -> Result<(), Problem> {
        for (place, seconds) in std::mem::take(&mut self.directories) {
            // A later entry may have put something else there.
            if let Ok(directory) = self.tree.directory(&place) {
                tree::date(directory.as_fd(), seconds)?;
            }
        }
        Ok(())
    }
}

fn id(number: u64) -> u32 {
    if number < IDS { u32::try_from(number).unwrap_or(NOBODY) } else { NOBODY }
}
