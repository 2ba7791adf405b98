//! The tar: POSIX headers, and what they have no room for in PAX records, so that any tar of today
//! reads it. Nothing in it can do harm where it is unpacked but what a name can: there are no devices
//! and no set-user-id bits, and links only as links.

use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write;

use tar::Builder;
use tar::EntryType;
use tar::Header;

use super::sparse;
use super::sparse::Extent;

const BLOCK: u64 = 512;

/// The longest name and target that a header holds; longer ones go into records.
const SHORT: usize = 100;

/// What of a mode is kept.
const HARMLESS: u32 = 0o1777;

/// Zeros for padding.
const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// An entry's owner, mode and time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// In seconds.
    pub(super) mtime: i64,
}

/// Why an entry is not in the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no room for it.
    Full,
    /// The disk says no; nothing more is written.
    Disk,
}

/// A tar being written.
pub(super) struct Archive {
    out: Builder<Counted>,
    most: u64,
    /// Up to where its entries are whole.
    pub(super) whole: u64,
    /// Whether anything more can be written.
    is_open: bool,
}

/// Counts what is written.
struct Counted {
    out: BufWriter<File>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Archive {
    /// Begins a tar of at most `most` bytes.
    pub(super) fn new(file: File, most: u64) -> Self {
        let out = Counted { out: BufWriter::with_capacity(256 << 10, file), bytes: 0 };
        // Room for the two blocks at its end.
        let most = most.saturating_sub(2 * BLOCK);
        Self { out: Builder::new(out), most, whole: 0, is_open: true }
    }

    /// Whether it still takes something.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn directory(&mut self, path: &[u8], meta: Meta) -> Result<(), Refused> {
        self.plain(EntryType::Directory, &[path, b"/"].concat(), None, meta)
    }

    pub(super) fn symlink(
        &mut self,
        path: &[u8],
        target: &[u8],
        meta: Meta,
    ) -> Result<(), Refused> {
        self.plain(EntryType::Symlink, path, Some(target), meta)
    }

    /// A further name of a file that is in it.
    pub(super) fn link(&mut self, path: &[u8], first: &[u8], meta: Meta) -> Result<(), Refused> {
        self.plain(EntryType::Link, path, Some(first), meta)
    }

    /// Begins a regular file of `size` bytes, of which `extents` are data. Their bytes follow, by
    /// [`Archive::data`], and then [`Archive::end`].
    pub(super) fn begin(
        &mut self,
        path: &[u8],
        meta: Meta,
        size: u64,
        extents: &[Extent],
    ) -> Result<(), Refused> {
        let data = sparse::total(extents);
        if data == size {
            let records = records(Some(("path", path)), None);
            return self.header(EntryType::Regular, path, None, meta, size, &records);
        }
        let map = map(size, extents);
        let length = (map.len() as u64).saturating_add(data);
        let (major, minor, real) = (b"1".to_vec(), b"0".to_vec(), size.to_string().into_bytes());
        let mut records = vec![
            ("GNU.sparse.major", major),
            ("GNU.sparse.minor", minor),
            ("GNU.sparse.name", path.to_vec()),
            ("GNU.sparse.realsize", real),
        ];
        mark_binary(&mut records);
        // What a tar that knows no holes makes of it.
        let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let placeholder = [b"GNUSparseFile.0/", base].concat();
        self.header(EntryType::Regular, &placeholder, None, meta, length, &records)?;
        self.write(&map)
    }

    /// Bytes of the file that was begun.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.write(bytes)
    }

    /// Ends a file of which everything was given.
    pub(super) fn end(&mut self) -> Result<(), Refused> {
        let over = self.out.get_ref().bytes % BLOCK;
        if over > 0 {
            let pad = usize::try_from(BLOCK - over).unwrap_or(0);
            self.write(ZEROS.get(..pad).unwrap_or_default())?;
        }
        self.whole = self.out.get_ref().bytes;
        Ok(())
    }

    /// Nothing more is written; what was begun and not ended is not in it.
    pub(super) fn close(&mut self) {
        self.is_open = false;
    }

    /// What is in buffers goes out.
    pub(super) fn flush(&mut self) -> Result<(), Refused> {
        self.out.get_mut().flush().map_err(|_| self.broken())
    }

    fn plain(
        &mut self,
        kind: EntryType,
        path: &[u8],
        target: Option<&[u8]>,
        meta: Meta,
    ) -> Result<(), Refused> {
        let records = records(Some(("path", path)), target.map(|target| ("linkpath", target)));
        self.header(kind, path, target, meta, 0, &records)?;
        self.end()
    }

    fn header(
        &mut self,
        kind: EntryType,
        path: &[u8],
        target: Option<&[u8]>,
        meta: Meta,
        size: u64,
        records: &[(&str, Vec<u8>)],
    ) -> Result<(), Refused> {
        if !self.is_open {
            return Err(Refused::Full);
        }
        let more: u64 = records.iter().map(|(_, value)| value.len() as u64 + 64).sum();
        let needed = 2 * BLOCK + padded(more) + padded(size);
        if self.out.get_ref().bytes.saturating_add(needed) > self.most {
            return Err(Refused::Full);
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(meta.mode & HARMLESS);
        header.set_uid(meta.uid.into());
        header.set_gid(meta.gid.into());
        header.set_mtime(u64::try_from(meta.mtime).unwrap_or(0));
        header.set_size(size);
        if let Some(ustar) = header.as_ustar_mut() {
            put(&mut ustar.name, path);
            put(&mut ustar.linkname, target.unwrap_or_default());
        }
        header.set_cksum();
        let records = records.iter().map(|(name, value)| (*name, value.as_slice()));
        let written =
            if records.len() == 0 { Ok(()) } else { self.out.append_pax_extensions(records) };
        written
            .and_then(|()| self.out.get_mut().write_all(header.as_bytes()))
            .map_err(|_| self.broken())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if !self.is_open {
            return Err(Refused::Disk);
        }
        self.out.get_mut().write_all(bytes).map_err(|_| self.broken())
    }

    fn broken(&mut self) -> Refused {
        self.is_open = false;
        Refused::Disk
    }
}

/// The records that names need which a header cannot hold, or cannot hold as they are.
fn records<'a>(
    path: Option<(&'a str, &'a [u8])>,
    target: Option<(&'a str, &'a [u8])>,
) -> Vec<(&'a str, Vec<u8>)> {
    let needs = |value: &[u8]| value.len() > SHORT || std::str::from_utf8(value).is_err();
    let names = [path, target].into_iter().flatten().filter(|(_, value)| needs(value));
    let mut records: Vec<_> = names.map(|(name, value)| (name, value.to_vec())).collect();
    mark_binary(&mut records);
    records
}

/// Records are UTF-8 unless they say that they are not.
fn mark_binary(records: &mut Vec<(&str, Vec<u8>)>) {
    if records.iter().any(|(_, value)| std::str::from_utf8(value).is_err()) {
        records.insert(0, ("hdrcharset", b"BINARY".to_vec()));
    }
}

/// The map of a sparse file, as version 1.0 has it: before the data, in whole blocks.
fn map(size: u64, extents: &[Extent]) -> Vec<u8> {
    // Its last entry says where the file ends.
    let ends = extents.last().is_some_and(|(offset, length)| offset + length == size);
    let end = (!ends).then_some((size, 0));
    let count = extents.len() + usize::from(end.is_some());
    let mut map = format!("{count}\n").into_bytes();
    for (offset, length) in extents.iter().copied().chain(end) {
        map.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
    }
    let whole = map.len().next_multiple_of(ZEROS.len());
    map.resize(whole, 0);
    map
}

fn padded(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

fn put(field: &mut [u8], value: &[u8]) {
    for (to, from) in field.iter_mut().zip(value) {
        *to = *from;
    }
}
