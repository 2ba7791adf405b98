//! What a terminal printed, on disk until the gateway has it: bytes, each with its place in the whole
//! output.
//!
//! Files are named after the place of their first byte; one that is acknowledged whole is deleted.
//! When all that may be kept is there, nothing more is taken, which stops the program.

use std::collections::VecDeque;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// A file is closed when it is this long.
const SEGMENT: u64 = 1 << 20;

#[derive(Clone, Copy, Debug)]
struct Segment {
    start: u64,
    length: u64,
}

/// The bytes of one terminal that the gateway does not have for certain.
#[derive(Debug)]
pub(super) struct Bytes {
    directory: PathBuf,
    /// The oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    file: Option<File>,
    head: u64,
    acked: u64,
    most: u64,
}

impl Bytes {
    /// Opens what a runner kept, or begins it. At most `most` bytes are kept.
    pub(super) fn open(directory: &Path, most: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut segments = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let start = name.to_str().and_then(|name| name.strip_suffix(".bytes")?.parse().ok());
            if let Some(start) = start {
                segments.push(Segment { start, length: entry.metadata()?.len() });
            }
        }
        segments.sort_unstable_by_key(|segment| segment.start);
        let start = segments.first().map_or(0, |first| first.start);
        let head = segments.last().map_or(0, |last| last.start + last.length);
        let directory = directory.to_owned();
        Ok(Self { directory, segments: segments.into(), file: None, head, acked: start, most })
    }

    fn path(&self, start: u64) -> PathBuf {
        self.directory.join(format!("{start:020}.bytes"))
    }

    /// How many bytes there were so far.
    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    /// How many of them the gateway has.
    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    /// Keeps bytes; gives their place, or none: there is no room.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<Option<u64>> {
        let length = bytes.len() as u64;
        let kept = self.head - self.segments.front().map_or(self.head, |first| first.start);
        if kept + length > self.most {
            return Ok(None);
        }
        let begins = self.segments.back().is_none_or(|last| last.length >= SEGMENT);
        if begins {
            let file = OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(self.path(self.head))?;
            self.file = Some(file);
            self.segments.push_back(Segment { start: self.head, length: 0 });
        }
        let Some(last) = self.segments.back().copied() else { return Ok(None) };
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().write(true).open(self.path(last.start))?);
        }
        if let Some(file) = &self.file {
            // At its place: what an earlier try wrote of it is written over.
            file.write_all_at(bytes, last.length)?;
        }
        if let Some(last) = self.segments.back_mut() {
            last.length += length;
        }
        let place = self.head;
        self.head += length;
        Ok(Some(place))
    }

    /// The gateway has everything before this. Whether that made room.
    pub(super) fn acknowledge(&mut self, offset: u64) -> io::Result<bool> {
        if offset <= self.acked || offset > self.head {
            return Ok(false);
        }
        self.acked = offset;
        let mut made_room = false;
        // The last file stays, so that its name tells the place after a restart.
        while self.segments.get(1).is_some_and(|next| next.start <= offset) {
            let Some(old) = self.segments.pop_front() else { break };
            fs::remove_file(self.path(old.start))?;
            made_room = true;
        }
        Ok(made_room)
    }

    /// Bytes from this place on, at most so many.
    pub(super) fn from(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let holds =
            |segment: &&Segment| (segment.start..segment.start + segment.length).contains(&offset);
        let Some(segment) = self.segments.iter().find(holds) else { return Ok(Vec::new()) };
        let within = offset - segment.start;
        let left = usize::try_from(segment.length - within).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(most)];
        File::open(self.path(segment.start))?.read_exact_at(&mut bytes, within)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_where_they_were_put_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Bytes::open(dir.path(), 4 << 20).unwrap();
        let chunk: Vec<u8> = (0..=255).cycle().take(600_000).collect();
        for n in 0..6 {
            assert_eq!(bytes.append(&chunk).unwrap(), Some(n * 600_000));
        }
        assert_eq!(bytes.append(&chunk).unwrap(), None, "full");
        assert_eq!(bytes.from(600_001, 3).unwrap(), [chunk[1], chunk[2], chunk[3]]);
        assert!(bytes.acknowledge(1_300_000).unwrap());
        assert_eq!(bytes.append(&chunk).unwrap(), Some(3_600_000));
        drop(bytes);
        let mut bytes = Bytes::open(dir.path(), 4 << 20).unwrap();
        assert_eq!(bytes.head(), 4_200_000);
        let mut read = Vec::new();
        while let part = bytes.from(1_300_000 + read.len() as u64, 64 << 10).unwrap()
            && !part.is_empty()
        {
            read.extend(part);
        }
        assert_eq!(read.len(), 2_900_000);
        assert!(read.iter().zip(chunk.iter().cycle().skip(100_000)).all(|(a, b)| a == b));
        assert_eq!(bytes.append(b"x").unwrap(), Some(4_200_000));
    }
}
