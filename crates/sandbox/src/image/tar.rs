//! The headers of a tar: `ustar`, with the extensions of POSIX (`pax`) and GNU for long names. Sparse
//! files are refused; they are rare in images, and a way to write much with little.

use std::io;
use std::io::Read;

use super::Problem;
use super::problem;
use super::shown;

const BLOCK: usize = 512;
/// The longest name with its directories.
pub(super) const LONGEST_PATH: usize = 4095;
/// The longest list of extended attributes before an entry.
const LONGEST_EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// Another name of an entry before it.
    HardLink,
    Symlink,
    Directory,
    /// A device or a pipe.
    Special,
}

/// An entry, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) path: Vec<u8>,
    /// Where a link leads.
    pub(super) link: Vec<u8>,
    /// Bytes of data.
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds since 1970.
    pub(super) mtime: i64,
}

/// A tar as it is read.
pub(super) struct Tar<R> {
    source: R,
    /// Bytes of the last entry that nobody has read.
    data: u64,
    /// And those up to the next header.
    padding: u64,
    position: u64,
}

/// What the entries before one say of it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
}

impl<R: Read> Tar<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, data: 0, padding: 0, position: 0 }
    }

    /// Where the data of the last entry begins, as long as nobody has read of it.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry; what was not read of the one before is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Problem> {
        let mut extension = Extension::default();
        loop {
            let Some(block) = self.header()? else { return Ok(None) };
            let size = number(&block, 124, 12)?;
            match block[156] {
                b'x' => {
                    let text = self.text(size)?;
                    extension.read(&text)?;
                }
                // Of all entries that follow; nothing of it is of use here.
                b'g' => drop(self.text(size)?),
                b'L' => extension.path = Some(self.name(size)?),
                b'K' => extension.link = Some(self.name(size)?),
                kind => return self.entry(&block, kind, size, extension).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        kind: u8,
        size: u64,
        extension: Extension,
    ) -> Result<Entry, Problem> {
        let kind = match kind {
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' | b'6' => Kind::Special,
            b'5' => Kind::Directory,
            b'S' => return problem("a layer holds a sparse file in GNU's form, which is not read"),
            other => return problem(format!("a layer holds an entry of kind {}", shown(&[other]))),
        };
        let path = extension.path.unwrap_or_else(|| old_path(block));
        let link = extension.link.unwrap_or_else(|| text_at(block, 157, 100).to_vec());
        if path.len() > LONGEST_PATH || link.len() > LONGEST_PATH {
            return problem(format!("a name is too long: {}", shown(&path)));
        }
        if path.contains(&0) || link.contains(&0) {
            return problem("a name holds a NUL");
        }
        // A directory whose mark is the slash at its end, from before there was a kind for it.
        let kind = if kind == Kind::File && path.ends_with(b"/") { Kind::Directory } else { kind };
        let size = match kind {
            Kind::File => extension.size.unwrap_or(size),
            // Some write the linked file's size, and no data.
            Kind::HardLink | Kind::Symlink | Kind::Directory | Kind::Special => 0,
        };
        self.expect(size)?;
        Ok(Entry {
            kind,
            path,
            link,
            size,
            mode: u32::try_from(number(block, 100, 8)? & 0o7777).unwrap_or_default(),
            uid: extension.uid.map_or_else(|| number(block, 108, 8), Ok)?,
            gid: extension.gid.map_or_else(|| number(block, 116, 8), Ok)?,
            // Before 1970 is not a time that a file of an image has.
            mtime: extension.mtime.map_or_else(
                || number(block, 136, 12).map(|seconds| i64::try_from(seconds).unwrap_or_default()),
                Ok,
            )?,
        })
    }

    /// The data of the last entry.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let most = usize::try_from(self.data).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.source.read(buffer)?;
        if count == 0 {
            return problem("it ends in the middle of a file");
        }
        self.data -= count as u64;
        self.position += count as u64;
        Ok(count)
    }

    /// Its source, past the end.
    pub(super) fn into_source(self) -> R {
        self.source
    }

    /// Notes that the data of an entry follows.
    fn expect(&mut self, size: u64) -> Result<(), Problem> {
        if size > i64::MAX.unsigned_abs() - BLOCK as u64 {
            return problem("a file's size is no size");
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// The next header; none at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Problem> {
        let mut passed = [0; 8192];
        while self.read(&mut passed)? > 0 {}
        self.data = std::mem::take(&mut self.padding);
        while self.read(&mut passed)? > 0 {}
        let mut empty = 0;
        loop {
            let mut block = [0; BLOCK];
            match self.fill(&mut block)? {
                0 => return Ok(None),
                BLOCK => {}
                _ => return problem("it ends in the middle of a header"),
            }
            if block == [0; BLOCK] {
                empty += 1;
                if empty == 2 {
                    return Ok(None);
                }
                continue;
            }
            let sum = number(&block, 148, 8)?;
            let blank = block.iter().enumerate().map(|(at, byte)| match at {
                148..156 => u64::from(b' '),
                _ => u64::from(*byte),
            });
            if empty > 0 || blank.sum::<u64>() != sum {
                return problem("it is not a tar archive, or a damaged one");
            }
            return Ok(Some(block));
        }
    }

    fn fill(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest)? {
                0 => break,
                count => filled += count,
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    /// What stands in an entry that is about the next one.
    fn text(&mut self, size: u64) -> Result<Vec<u8>, Problem> {
        if size > LONGEST_EXTENSION {
            return problem("it says more about one file than is read");
        }
        self.expect(size)?;
        let mut text = Vec::new();
        let mut part = [0; BLOCK];
        loop {
            match self.read(&mut part)? {
                0 => return Ok(text),
                count => text.extend_from_slice(part.get(..count).unwrap_or_default()),
            }
        }
    }

    fn name(&mut self, size: u64) -> Result<Vec<u8>, Problem> {
        let mut name = self.text(size)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }
}

impl Extension {
    /// Reads records of the form `LENGTH NAME=VALUE\n`, whose length counts all of it.
    fn read(&mut self, mut text: &[u8]) -> Result<(), Problem> {
        let malformed = || Problem("what it says about a file is malformed".to_owned());
        while !text.is_empty() {
            let space = text.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
            let length = text.get(..space).and_then(decimal).ok_or_else(malformed)?;
            let length = usize::try_from(length).map_err(|_| malformed())?;
            let record = text.get(space + 1..length).ok_or_else(malformed)?;
            text = text.get(length..).ok_or_else(malformed)?;
            let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            let (name, value) = record.split_at(equals);
            let value = value.get(1..).unwrap_or_default();
            let number = || decimal(value).ok_or_else(malformed);
            match name {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"mtime" => {
                    let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                    let seconds = decimal(whole).and_then(|seconds| i64::try_from(seconds).ok());
                    self.mtime = Some(seconds.unwrap_or_default());
                }
                name if name.starts_with(b"GNU.sparse.") => {
                    return problem("a layer holds a sparse file in GNU's form, which is not read");
                }
                // Extended attributes: capabilities and labels are not a prisoner's to have.
                _ => {}
            }
        }
        Ok(())
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number: octal digits, or, where the first bit is set, a binary one.
fn number(block: &[u8; BLOCK], at: usize, length: usize) -> Result<u64, Problem> {
    let field = block.get(at..at + length).unwrap_or_default();
    let malformed = || Problem("a number in a header is malformed".to_owned());
    match field {
        [first @ (0x80 | 0xff), rest @ ..] => {
            // What is negative is a time before 1970.
            if *first == 0xff {
                return Ok(0);
            }
            let (high, low) = rest.split_at(rest.len().saturating_sub(8));
            if high.iter().any(|byte| *byte != 0) {
                return Err(malformed());
            }
            Ok(low.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        }
        digits => {
            let end = digits.iter().position(|byte| *byte == 0).unwrap_or(digits.len());
            let digits = digits.get(..end).unwrap_or_default().trim_ascii();
            digits.iter().try_fold(0u64, |number, digit| match digit {
                b'0'..=b'7' => Ok(number << 3 | u64::from(digit - b'0')),
                _ => Err(malformed()),
            })
        }
    }
}

fn text_at(block: &[u8; BLOCK], at: usize, length: usize) -> &[u8] {
    let field = block.get(at..at + length).unwrap_or_default();
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn old_path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = text_at(block, 0, 100);
    let is_posix = block.get(257..263) == Some(b"ustar\0");
    match text_at(block, 345, 155) {
        prefix if is_posix && !prefix.is_empty() => [prefix, b"/", name].concat(),
        _ => name.to_vec(),
    }
}
