//! The walk through what a sandbox wrote, an entry at a time, depth first.
//!
//! Each name is looked up alone, in the directory it was read from: no path of the prisoner's is ever
//! resolved in the upper layer, no link followed, no mount crossed. Nothing is opened but directories
//! and regular files.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_shim::clock;
use sojourn_shim::layers::Layers;

use super::Cut;
use super::Marks;
use super::Order;
use super::Totals;
use super::archive;
use super::archive::Archive;
use super::archive::Meta;
use super::content;
use super::list;
use super::list::Kind;
use super::list::Line;
use super::list::List;
use super::list::What;

/// The most bytes of names of hard links that are remembered.
const MOST_LINKS: usize = 16 << 20;

/// An owner that has no id inside.
const NOBODY: u32 = 65_534;

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

const OPAQUE: [&CStr; 2] = [c"trusted.overlay.opaque", c"user.overlay.opaque"];
const WHITEOUT: [&CStr; 2] = [c"trusted.overlay.whiteout", c"user.overlay.whiteout"];

/// What the walker cannot see itself, because only root may.
pub(super) trait Ask {
    /// Whether an open file has this extended attribute.
    fn has(&mut self, file: BorrowedFd<'_>, mark: Mark) -> bool;
}

/// An extended attribute that an overlay marks something with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing of the directory below shows through this one.
    Opaque,
    /// What was here below is gone.
    Whiteout,
}

impl Mark {
    /// The attribute's name, in an overlay that marks so.
    pub(super) fn name(self, marks: Marks) -> &'static CStr {
        let names = match self {
            Self::Opaque => OPAQUE,
            Self::Whiteout => WHITEOUT,
        };
        match marks {
            Marks::Trusted => names[0],
            Marks::User => names[1],
        }
    }

    /// Whether an open file has it, as far as this process may see.
    pub(super) fn is_on(self, file: BorrowedFd<'_>, marks: Marks) -> bool {
        let mut value = [0_u8; 8];
        match rustix::fs::fgetxattr(file, self.name(marks), &mut value[..]) {
            // "x" only says that whiteouts may be inside.
            Ok(length) => self == Self::Whiteout || value.get(..length) == Some(b"y"),
            Err(_) => false,
        }
    }
}

/// How far the two files are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) list: u64,
    pub(super) tar: u64,
}

/// Walks the upper layer and writes what changed.
pub(super) fn walk(
    layers: &Layers,
    order: &Order,
    (list, tar): (File, File),
    ask: &mut dyn Ask,
) -> (Totals, Whole) {
    let mut walk = Walk {
        order,
        lowers: &layers.lowers,
        ask,
        list: List::new(list, order.bounds.list),
        archive: Archive::new(tar, order.bounds.tar),
        totals: Totals::default(),
        seen: 0,
        holes: order.bounds.holes,
        until: clock::mono().after(order.bounds.time),
        links: HashMap::new(),
        link_bytes: 0,
        buffer: vec![0; content::CHUNK],
        is_over: false,
    };
    walk.all(layers.upper.as_fd());
    walk.finish()
}

pub(super) struct Walk<'a> {
    order: &'a Order,
    lowers: &'a [OwnedFd],
    ask: &'a mut dyn Ask,
    list: List,
    pub(super) archive: Archive,
    pub(super) totals: Totals,
    /// Entries that were read.
    seen: u64,
    /// Bytes of holes that may still be hashed.
    pub(super) holes: u64,
    until: Mono,
    /// Files with more than one name, by their inode: the first name.
    links: HashMap<u64, Vec<u8>>,
    link_bytes: usize,
    pub(super) buffer: Vec<u8>,
    pub(super) is_over: bool,
}

/// A directory on the way down.
struct Level {
    entries: Dir,
    /// The length of its own path.
    path: usize,
    /// Whether what is below shows through it.
    is_merged: bool,
}

impl Walk<'_> {
    fn all(&mut self, upper: BorrowedFd<'_>) {
        let top = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(upper, c".", top, Mode::empty(), BENEATH);
        let Ok(entries) = opened.and_then(Dir::new) else { return self.cut(Cut::Unreadable) };
        let mut path = Vec::new();
        let mut levels = vec![Level { entries, path: 0, is_merged: true }];
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path);
            let name = match level.entries.next() {
                _ if self.is_over => return,
                None => {
                    levels.pop();
                    continue;
                }
                Some(Ok(entry)) => entry.file_name().to_owned(),
                Some(Err(_)) => {
                    self.cut(Cut::Unreadable);
                    levels.pop();
                    continue;
                }
            };
            if name.as_bytes() == b"." || name.as_bytes() == b".." {
                continue;
            }
            if !self.goes_on() {
                return;
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            if path.len() > self.order.bounds.path {
                self.cut(Cut::Path);
                continue;
            }
            let Ok(directory) = level.entries.fd() else { return self.cut(Cut::Unreadable) };
            let below = self.entry(directory, &name, &path, level.is_merged);
            let Some((entries, is_merged)) = below else { continue };
            if levels.len() >= self.order.bounds.depth {
                self.cut(Cut::Depth);
            } else {
                levels.push(Level { entries, path: path.len(), is_merged });
            }
        }
    }

    /// Counts an entry; false when there were enough, or the time is over.
    fn goes_on(&mut self) -> bool {
        self.seen += 1;
        if self.seen > self.order.bounds.entries {
            self.cut(Cut::Entries);
            self.is_over = true;
        }
        !self.is_over && !self.is_late()
    }

    pub(super) fn is_late(&mut self) -> bool {
        if clock::mono() >= self.until {
            self.cut(Cut::Time);
            self.is_over = true;
        }
        self.is_over
    }

    pub(super) fn cut(&mut self, why: Cut) {
        if !self.totals.truncated.contains(&why) {
            self.totals.truncated.push(why);
        }
    }

    /// Looks at one entry. A directory comes back, to go down into, and whether what is below shows
    /// through it.
    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        is_merged: bool,
    ) -> Option<(Dir, bool)> {
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            self.cut(Cut::Unreadable);
            return None;
        };
        let before = if is_merged { self.before(path) } else { None };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.directory(directory, name, path, &stat, before),
            FileType::RegularFile => self.file(directory, name, path, &stat, before),
            FileType::Symlink => self.symlink(directory, name, path, &stat, before),
            FileType::CharacterDevice if stat.st_rdev == 0 => self.deleted(path, before),
            FileType::Fifo => self.other(path, Kind::Fifo, &stat, before),
            FileType::Socket => self.other(path, Kind::Socket, &stat, before),
            _ => self.other(path, Kind::Device, &stat, before),
        }
        None
    }

    /// What was at this path before; of several lower layers, in the topmost that has it.
    fn before(&self, path: &[u8]) -> Option<Stat> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for lower in self.lowers {
            let found = rustix::fs::openat2(lower, path, flags, Mode::empty(), BENEATH)
                .and_then(|file| rustix::fs::fstat(&file));
            if let Ok(stat) = found {
                let is_whiteout = FileType::from_raw_mode(stat.st_mode)
                    == FileType::CharacterDevice
                    && stat.st_rdev == 0;
                return (!is_whiteout).then_some(stat);
            }
        }
        None
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        before: Option<Stat>,
    ) -> Option<(Dir, bool)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(open) = rustix::fs::openat2(parent, name, flags, Mode::empty(), BENEATH) else {
            self.cut(Cut::Unreadable);
            return None;
        };
        let was_directory =
            before.as_ref().is_some_and(|before| kind(before) == Some(Kind::Directory));
        let replaced = was_directory && self.has(open.as_fd(), Mark::Opaque);
        // A directory is in the upper layer because something in it changed. It changed itself when
        // it is another one, or somebody else's, or open to others.
        let same = before.as_ref().is_some_and(|before| {
            let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
            of(before) == of(stat)
        });
        let meta = self.meta(stat);
        let in_tar = self.archived(|archive| archive.directory(path, meta));
        if (replaced || !same) && !self.is_older(stat) {
            let shown = list::text(path);
            let mut line = self.line(&shown, Kind::Directory, stat, before.as_ref());
            line.size = None;
            line.replaced = replaced;
            line.not_in_tar = !in_tar;
            self.push(&line);
        }
        match Dir::new(open) {
            Ok(entries) => Some((entries, was_directory && !replaced)),
            Err(_) => {
                self.cut(Cut::Unreadable);
                None
            }
        }
    }

    fn file(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        before: Option<Stat>,
    ) {
        if stat.st_size == 0 && self.is_older(stat) {
            return;
        }
        let shown = list::text(path);
        let meta = self.meta(stat);
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&stat.st_ino).cloned()
        {
            let in_tar = self.archived(|archive| archive.link(path, &first, meta));
            let mut line = self.line(&shown, Kind::File, stat, before.as_ref());
            line.link_of = Some(list::text(&first));
            line.not_in_tar = !in_tar;
            return self.push(&line);
        }
        // It may be no more than a name in a list if it is a device in disguise.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(directory, name, flags, Mode::empty(), BENEATH);
        let file = match opened.and_then(|file| Ok((rustix::fs::fstat(&file)?, file))) {
            Ok((now, file)) if kind(&now) == Some(Kind::File) && now.st_ino == stat.st_ino => {
                File::from(file)
            }
            _ => {
                self.cut(Cut::Unreadable);
                let mut line = self.line(&shown, Kind::File, stat, before.as_ref());
                line.not_in_tar = true;
                return self.push(&line);
            }
        };
        if stat.st_size == 0 && self.has(file.as_fd(), Mark::Whiteout) {
            return self.deleted(path, before);
        }
        let content = self.content(&file, path, stat, meta);
        if content.is_in_tar && stat.st_nlink > 1 && self.link_bytes < MOST_LINKS {
            self.link_bytes += path.len() + 64;
            self.links.insert(stat.st_ino, path.to_vec());
        }
        let mut line = self.line(&shown, Kind::File, stat, before.as_ref());
        line.sha256 = content.sha256;
        line.not_in_tar = !content.is_in_tar;
        self.push(&line);
    }

    fn symlink(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        before: Option<Stat>,
    ) {
        let shown = list::text(path);
        let meta = self.meta(stat);
        let target = rustix::fs::readlinkat(directory, name, Vec::new());
        let mut line = self.line(&shown, Kind::Symlink, stat, before.as_ref());
        match target {
            Ok(target) => {
                line.target = Some(list::text(target.as_bytes()));
                line.not_in_tar =
                    !self.archived(|archive| archive.symlink(path, target.as_bytes(), meta));
            }
            Err(_) => {
                self.cut(Cut::Unreadable);
                line.not_in_tar = true;
            }
        }
        self.push(&line);
    }

    fn deleted(&mut self, path: &[u8], before: Option<Stat>) {
        let shown = list::text(path);
        let mut line = Line::new(&shown, What::Deleted);
        if let Some(before) = before {
            line.kind = kind(&before);
            line.size = (line.kind == Some(Kind::File)).then(|| size(&before));
        }
        self.push(&line);
    }

    /// What has no place in a tar that may be unpacked anywhere.
    fn other(&mut self, path: &[u8], kind: Kind, stat: &Stat, before: Option<Stat>) {
        let shown = list::text(path);
        let mut line = self.line(&shown, kind, stat, before.as_ref());
        line.size = None;
        self.push(&line);
    }

    fn line<'b>(&self, path: &'b str, kind: Kind, stat: &Stat, before: Option<&Stat>) -> Line<'b> {
        let what = if before.is_some() { What::Changed } else { What::Added };
        let mut line = Line::new(path, what);
        line.kind = Some(kind);
        line.size = (kind == Kind::File).then(|| size(stat));
        line.mode = Some(format!("{:04o}", stat.st_mode & 0o7777));
        line.uid = self.inside(stat.st_uid);
        line.gid = self.inside(stat.st_gid);
        line.mtime = Some(mtime(stat).to_rfc3339());
        line
    }

    fn meta(&self, stat: &Stat) -> Meta {
        Meta {
            mode: stat.st_mode,
            uid: self.inside(stat.st_uid).unwrap_or(NOBODY),
            gid: self.inside(stat.st_gid).unwrap_or(NOBODY),
            mtime: stat.st_mtime,
        }
    }

    /// The id inside of an id outside.
    fn inside(&self, id: u32) -> Option<u32> {
        id.checked_sub(self.order.ids.start).filter(|id| *id < self.order.ids.count)
    }

    /// Whether this was there before the session, as the kernel has it: made for the sandbox.
    fn is_older(&self, stat: &Stat) -> bool {
        let micros = stat.st_ctime.saturating_mul(1_000_000);
        Wall(micros.saturating_add(stat.st_ctime_nsec as i64 / 1000)) < self.order.since
    }

    fn has(&mut self, file: BorrowedFd<'_>, mark: Mark) -> bool {
        match self.order.marks {
            Marks::User => mark.is_on(file, Marks::User),
            Marks::Trusted => self.ask.has(file, mark),
        }
    }

    /// Puts something into the tar, if that is possible.
    pub(super) fn archived(
        &mut self,
        put: impl FnOnce(&mut Archive) -> Result<(), archive::Refused>,
    ) -> bool {
        if !self.archive.is_open() {
            return false;
        }
        match put(&mut self.archive) {
            Ok(()) => true,
            Err(archive::Refused::Full) => {
                self.cut(Cut::Tar);
                false
            }
            Err(archive::Refused::Disk) => {
                self.cut(Cut::Disk);
                false
            }
        }
    }

    fn push(&mut self, line: &Line<'_>) {
        if self.is_over {
            return;
        }
        match self.list.push(line) {
            Ok(()) => self.totals.entries += 1,
            Err(list::Refused::Full) => {
                self.cut(Cut::List);
                self.is_over = true;
            }
            Err(list::Refused::Disk) => {
                self.cut(Cut::Disk);
                self.is_over = true;
            }
        }
    }

    fn finish(mut self) -> (Totals, Whole) {
        let whole = Whole { list: self.list.bytes, tar: self.archive.whole };
        let list = self.list.flush();
        let tar = self.archive.flush();
        if list.is_err() || tar.is_err() {
            // What is whole is found out by whoever completes the files.
            self.cut(Cut::Disk);
        }
        self.totals.truncated.sort_unstable();
        (self.totals, whole)
    }
}

fn kind(stat: &Stat) -> Option<Kind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::Socket => Some(Kind::Socket),
        FileType::CharacterDevice | FileType::BlockDevice => Some(Kind::Device),
        FileType::Unknown => None,
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn mtime(stat: &Stat) -> Wall {
    let micros = stat.st_mtime.saturating_mul(1_000_000);
    Wall(micros.saturating_add(stat.st_mtime_nsec as i64 / 1000))
}
