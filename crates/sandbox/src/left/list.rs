//! The list: one changed entry, as a line of JSON.

use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write;

use serde::Serialize;
use sojourn_term::escape::escape_bytes;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// It was not there before.
    Added,
    /// It is another one than before.
    Changed,
    /// It was there before.
    Deleted,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device,
}

/// A line.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// Below the root of the sandbox, escaped as [`text`] says.
    pub(super) path: &'a str,
    pub(super) what: What,
    /// None of something deleted that is not known any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<Kind>,
    /// In bytes; of a deleted file what it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    /// In octal, with the bits that the tar does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    /// As seen inside; none of an owner that has no id there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mtime: Option<String>,
    /// Of a regular file's content, holes as zeros.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// Where a symbolic link points, escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    /// The path of the same file under another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link_of: Option<String>,
    /// A directory in the place of one that was removed with all it held.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) replaced: bool,
    /// Whether the tar lacks it, though it could have it.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) not_in_tar: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "that is how it is called")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl<'a> Line<'a> {
    pub(super) fn new(path: &'a str, what: What) -> Self {
        Self {
            path,
            what,
            kind: None,
            size: None,
            mode: None,
            uid: None,
            gid: None,
            mtime: None,
            sha256: None,
            target: None,
            link_of: None,
            replaced: false,
            not_in_tar: false,
        }
    }
}

/// The list being written.
pub(super) struct List {
    out: BufWriter<File>,
    /// Its length in whole lines.
    pub(super) bytes: u64,
    pub(super) lines: u64,
    most: u64,
}

/// Why a line did not get into the list.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is no room for it.
    Full,
    /// The disk says no.
    Disk,
}

impl List {
    pub(super) fn new(file: File, most: u64) -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, file), bytes: 0, lines: 0, most }
    }

    pub(super) fn push(&mut self, line: &Line<'_>) -> Result<(), Refused> {
        let mut json = serde_json::to_vec(line).map_err(|_| Refused::Full)?;
        json.push(b'\n');
        let length = json.len() as u64;
        if self.bytes.saturating_add(length) > self.most {
            return Err(Refused::Full);
        }
        self.out.write_all(&json).map_err(|_| Refused::Disk)?;
        self.bytes += length;
        self.lines += 1;
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Bytes as one text that shows them all, so that two names never look the same: a backslash is `\\`,
/// a byte that is not UTF-8 or a control character `\xff`, what acts on a terminal `\u{202e}`.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut doubled = Vec::with_capacity(bytes.len());
    for byte in bytes {
        doubled.push(*byte);
        if *byte == b'\\' {
            doubled.push(*byte);
        }
    }
    escape_bytes(&doubled, usize::MAX)
}
