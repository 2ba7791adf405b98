//! The content of one regular file: read once, for the tar and for its digest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::Stat;
use sha2::Digest;
use sha2::Sha256;

use super::Cut;
use super::archive::Archive;
use super::archive::Meta;
use super::sparse;
use super::sparse::Extent;
use super::walk::Walk;

/// So much is read at once.
pub(super) const CHUNK: usize = 256 << 10;

/// What a regular file turned out to be.
#[derive(Default)]
pub(super) struct Content {
    pub(super) sha256: Option<String>,
    pub(super) is_in_tar: bool,
}

impl Walk<'_> {
    /// Reads a regular file once, for the tar and for its digest.
    pub(super) fn content(&mut self, file: &File, path: &[u8], stat: &Stat, meta: Meta) -> Content {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let extents = match sparse::extents(file, size, allocated) {
            Ok(Some(extents)) => extents,
            Ok(None) => {
                self.cut(Cut::Tar);
                return Content::default();
            }
            Err(_) => {
                self.cut(Cut::Unreadable);
                return Content::default();
            }
        };
        let data = sparse::total(&extents);
        let mut is_in_tar = self.archived(|archive| archive.begin(path, meta, size, &extents));
        let mut digest = match self.holes.checked_sub(size - data.min(size)) {
            Some(left) => {
                self.holes = left;
                Some(Sha256::new())
            }
            None => None,
        };
        if !is_in_tar && digest.is_none() {
            return Content::default();
        }
        let read = self.read(file, size, &extents, is_in_tar, digest.as_mut());
        is_in_tar = match read {
            Ok(in_tar) => in_tar && self.archived(Archive::end),
            Err(_) => {
                self.cut(Cut::Unreadable);
                self.break_off(is_in_tar);
                return Content::default();
            }
        };
        if self.is_over {
            self.break_off(is_in_tar);
            return Content::default();
        }
        if is_in_tar {
            self.totals.files += 1;
            self.totals.bytes += data;
        }
        let sha256 = digest.map(|digest| sojourn_term::cast::hex(&digest.finalize()));
        Content { sha256, is_in_tar }
    }

    /// Passes a file's bytes on. Returns whether all of its data are in the tar.
    fn read(
        &mut self,
        file: &File,
        size: u64,
        extents: &[Extent],
        mut to_tar: bool,
        mut digest: Option<&mut Sha256>,
    ) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut passed = || -> io::Result<()> {
            let mut at = 0;
            for (offset, length) in extents.iter().copied() {
                zeros(digest.as_deref_mut(), offset - at);
                at = offset;
                while at < offset + length {
                    if self.is_late() {
                        return Ok(());
                    }
                    let left = usize::try_from(offset + length - at).unwrap_or(usize::MAX);
                    let most = left.min(CHUNK);
                    let part = buffer.get_mut(..most).unwrap_or_default();
                    let got = file.read_at(part, at)?;
                    let part = part.get(..got).unwrap_or_default();
                    if part.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    if let Some(digest) = &mut digest {
                        digest.update(part);
                    }
                    to_tar = to_tar && self.archived(|archive| archive.data(part));
                    at += got as u64;
                }
            }
            zeros(digest.as_deref_mut(), size.saturating_sub(at));
            Ok(())
        };
        let result = passed();
        self.buffer = buffer;
        result.map(|()| to_tar)
    }

    /// A file that was begun in the tar does not come to its end: it ends before it.
    fn break_off(&mut self, begun: bool) {
        if begun {
            self.cut(Cut::Tar);
            self.archive.close();
        }
    }
}

fn zeros(digest: Option<&mut Sha256>, mut length: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let Some(digest) = digest else { return };
    while length > 0 {
        let part = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
        digest.update(ZEROS.get(..part).unwrap_or_default());
        length -= part as u64;
    }
}
