//! A file that has room for its last words before it has written its first.
//!
//! A disk may fill up under a running session. What the session printed then is lost, but not that it
//! was: the note of the gap, and why the session ended, go where blocks were set aside for them.

use std::fs::File;
use std::io;
use std::io::Write;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Set aside at a time, in bytes.
const STEP: u64 = 64 << 10;

/// Kept for notes, in bytes: some hundred of them.
const KEPT: u64 = 16 << 10;

/// An append-only file with blocks beyond its end.
pub(super) struct Reserve {
    file: File,
    written: u64,
    /// How far blocks are set aside; none where the file system cannot do that.
    until: Option<u64>,
    /// Whether what is written now may use those kept for notes.
    notes: bool,
}

impl Reserve {
    /// Of an empty file.
    pub(super) fn new(file: File) -> Self {
        Self { file, written: 0, until: Some(0), notes: false }
    }

    /// From now on what is written is a note, or is not.
    pub(super) fn take_notes(&mut self, notes: bool) {
        self.notes = notes;
    }

    /// Cuts the file to so many bytes. What is set aside stays so where there is nothing to cut.
    pub(super) fn cut(&mut self, bytes: u64) -> io::Result<()> {
        if bytes == self.written { Ok(()) } else { self.end_at(bytes) }
    }

    /// Ends the file behind so many bytes: what is set aside is given back.
    pub(super) fn end_at(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)?;
        self.written = bytes;
        self.until = self.until.map(|_| bytes);
        Ok(())
    }

    /// Waits until the disk has it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Sees to room up to `end`, and behind it for notes.
    fn reserve(&mut self, end: u64) -> io::Result<()> {
        let Some(until) = self.until else { return Ok(()) };
        if end + KEPT <= until {
            return Ok(());
        }
        // A disk that is nearly full has no room for a step, and still some.
        let mut failed = Errno::NOSPC;
        for wanted in [end + STEP, end + KEPT] {
            let room = wanted - self.written;
            let set_aside = rustix::io::retry_on_intr(|| {
                rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.written, room)
            });
            match set_aside {
                Ok(()) => {
                    self.until = Some(wanted);
                    return Ok(());
                }
                Err(error @ (Errno::NOSPC | Errno::DQUOT)) => failed = error,
                // It cannot be done here; whether anything can be written, writing will tell.
                Err(_) => {
                    self.until = None;
                    return Ok(());
                }
            }
        }
        // What is set aside is for notes; half of one would be worse than none.
        if self.notes && end <= until { Ok(()) } else { Err(failed.into()) }
    }
}

impl Write for Reserve {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reserve(self.written.saturating_add(bytes.len() as u64))?;
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
