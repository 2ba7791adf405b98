//! The recording of one channel: written before anything is passed on.
//!
//! Bytes are with the kernel when [`Recorder`] returns, so no death of a process loses them. Against
//! the loss of power the file is synced when it is sealed, and every [`SYNC_EVERY`] while it grows.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::time::Mono;
use sojourn_core::wire::shim::RecordingFacts;
use sojourn_core::wire::shim::WindowSize;
use sojourn_term::cast::Excerpt;
use sojourn_term::cast::Header;
use sojourn_term::cast::Marks;
use sojourn_term::cast::Stream;
use sojourn_term::cast::Writer;
use sojourn_term::commands::Commands;

use super::reserve::Reserve;
use crate::files;

/// The longest that recorded bytes stay unsynced. Each sync waits for the disk, and a machine has
/// many sessions.
pub(super) const SYNC_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Recorder {
    writer: Writer<Reserve>,
    channel: u16,
    /// Its name below `recordings/`.
    file: String,
    /// Of a program without a terminal: the beginning of each stream.
    excerpts: Option<Box<[Excerpt; 3]>>,
    /// Recognises command lines in what is recorded.
    commands: Option<Box<Commands>>,
    /// Whether also in what is typed where a password is asked for.
    evidence: bool,
    /// When the first byte was written that is not synced.
    dirty: Option<Mono>,
}

/// The name of a channel's recording in its day's directory.
pub(super) fn file_name(session: SessionId, channel: u16) -> String {
    match channel {
        0 => format!("{session}.cast"),
        n => format!("{session}.{n}.cast"),
    }
}

impl Recorder {
    /// Begins the recording. `excerpt`: of each stream only so many bytes.
    pub(super) fn start(
        day: (BorrowedFd<'_>, &str),
        (session, channel): (SessionId, u16),
        header: &Header,
        excerpt: Option<u64>,
        now: Mono,
    ) -> io::Result<Self> {
        let name = file_name(session, channel);
        let file = Reserve::new(files::create(day.0, &name)?);
        Ok(Self {
            writer: Writer::start(file, header, now.0)?,
            channel,
            file: format!("{}/{name}", day.1),
            excerpts: excerpt.map(|bytes| {
                Box::new([Excerpt::new(bytes), Excerpt::new(bytes), Excerpt::new(bytes)])
            }),
            commands: None,
            evidence: false,
            dirty: Some(now),
        })
    }

    /// The same recording, whose command lines are recognised. `evidence`: also in what is typed where
    /// a password is asked for.
    pub(super) fn with_commands(self, evidence: bool) -> Self {
        Self { commands: Some(Box::default()), evidence, ..self }
    }

    /// The command lines that were entered since this was last asked.
    pub(super) fn commands(&mut self) -> Vec<String> {
        self.commands.as_mut().map(|commands| commands.take()).unwrap_or_default()
    }

    /// Records what was typed where a password is asked for.
    pub(super) fn secret(&mut self, now: Mono, bytes: &[u8]) -> io::Result<()> {
        if self.evidence {
            return self.data(now, Stream::Input, bytes);
        }
        let commands = self.commands.take();
        let recorded = self.data(now, Stream::Input, bytes);
        self.commands = commands;
        self.pass_over();
        recorded
    }

    /// What was typed is in no command line.
    fn pass_over(&mut self) {
        if let Some(commands) = &mut self.commands {
            commands.hidden();
        }
    }

    /// Records bytes of a stream.
    pub(super) fn data(&mut self, now: Mono, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let bytes = match &mut self.excerpts {
            Some(excerpts) => excerpts[place(stream)].take(bytes),
            None => bytes,
        };
        if bytes.is_empty() {
            return Ok(());
        }
        match (&mut self.commands, stream) {
            (Some(commands), Stream::Input) => commands.input(bytes),
            (Some(commands), Stream::Output | Stream::Errors) => commands.output(bytes),
            (None, _) => {}
        }
        self.dirty.get_or_insert(now);
        self.writer.data(now.0, stream, bytes)
    }

    /// Records that so many bytes were typed, and not which.
    pub(super) fn hidden_input(&mut self, now: Mono, bytes: usize) -> io::Result<()> {
        self.pass_over();
        self.dirty.get_or_insert(now);
        self.writer.hidden_input(now.0, bytes)
    }

    /// Records the terminal's new size.
    pub(super) fn resize(&mut self, now: Mono, size: WindowSize) -> io::Result<()> {
        self.dirty.get_or_insert(now);
        self.writer.resize(now.0, size.cols.into(), size.rows.into())
    }

    /// Records a note of ours; there is room for it also where the disk has no more.
    pub(super) fn note(&mut self, now: Mono, note: &str) -> io::Result<()> {
        self.dirty.get_or_insert(now);
        self.writer.get_mut().take_notes(true);
        let mut noted = self.writer.marker(now.0, note);
        if noted.is_err() {
            // The line before it, for which there is no room, is counted instead.
            self.give_up_line();
            noted = self.writer.marker(now.0, note);
        }
        self.writer.get_mut().take_notes(false);
        noted
    }

    /// Its file below `recordings/`, and how much of it there is.
    pub(super) fn place(&self) -> (String, u64) {
        (self.file.clone(), self.writer.bytes())
    }

    /// The half of a character that its output ends with, which is not in the file yet.
    pub(super) fn cut_character(&self) -> &[u8] {
        self.writer.held(Stream::Output)
    }

    /// When it has to be synced.
    pub(super) fn sync_at(&self) -> Mono {
        self.dirty.map_or(Mono::NEVER, |since| since.after(SYNC_EVERY))
    }

    /// Syncs it if it is time.
    pub(super) fn sync_if_due(&mut self, now: Mono) -> io::Result<()> {
        if now < self.sync_at() {
            return Ok(());
        }
        self.dirty = None;
        self.writer.get_ref().sync()
    }

    /// Ends the recording. What it says of the file is true also when there was an error.
    pub(super) fn seal(mut self, now: Mono) -> ((RecordingFacts, Marks), io::Result<()>) {
        self.writer.get_mut().take_notes(true);
        let done = self.finish(now);
        if done.is_err() {
            // The line that the disk has no room for is given up, for a note that says so.
            self.give_up_line();
            if self.writer.seal(now.0).is_err() {
                self.give_up_line();
            }
        }
        let whole = self.writer.bytes();
        let _given_back = self.writer.get_mut().end_at(whole);
        let sealed = self.writer.so_far();
        let facts = RecordingFacts {
            channel: self.channel,
            file: self.file,
            bytes: sealed.bytes,
            sha256: sealed.sha256,
        };
        ((facts, sealed.marks), done)
    }

    /// Forgets a line that was not written whole. Cutting needs no room; where it fails, the half line
    /// is told from what was sealed.
    fn give_up_line(&mut self) {
        let whole = self.writer.give_up_line();
        let _cut = self.writer.get_mut().cut(whole);
    }

    fn finish(&mut self, now: Mono) -> io::Result<()> {
        for stream in [Stream::Output, Stream::Errors, Stream::Input] {
            let cut = self.excerpts.as_ref().and_then(|excerpts| excerpts[place(stream)].cut());
            if let Some(cut) = cut {
                self.writer.cut(now.0, stream, &cut)?;
            }
        }
        self.writer.seal(now.0)?;
        self.writer.get_ref().sync()
    }
}

fn place(stream: Stream) -> usize {
    match stream {
        Stream::Output => 0,
        Stream::Errors => 1,
        Stream::Input => 2,
    }
}
