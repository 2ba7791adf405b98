//! Writes a recording: bytes as they come, whole characters, whole lines, never backwards in time.
//!
//! No clock, no thread and no file of its own: the shim hands in an open descriptor and, with each
//! event, its monotonic time in microseconds. Nothing is allocated for an event once the line
//! buffer has grown to its size.

use std::io;
use std::io::Write;

use sha2::Digest;
use sha2::Sha256;

use super::Code;
use super::Cut;
use super::Header;
use super::MAX_LINE;
use super::MAX_SIDE;
use super::Marks;
use super::Versioned;
use super::hex;
use crate::utf8::Decoder;
use crate::utf8::run;

/// Bytes of a stream that go into one event. Escaping makes at most six of one, so the line buffer
/// of an idle session stays small and a line far below [`MAX_LINE`].
const MAX_CHUNK: usize = 16 << 10;

/// Longest text of the header's strings and of a marker, in bytes.
const MAX_TEXT: usize = 64 << 10;

/// Longest agent event, in bytes: cannot be split, and must fit a line when escaped.
const MAX_AGENT_EVENT: usize = MAX_LINE / 8;

/// How a marker begins that stands for input which is not recorded.
pub(crate) const HIDDEN: &str = "input hidden";

/// A stream of bytes with UTF-8 of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// A terminal's output, or a program's standard output.
    Output,
    /// A program's standard error, where it is apart; recorded as output.
    Errors,
    /// What the person typed or sent.
    Input,
}

/// The state of a recording that nothing more is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Microseconds from the start to the seal.
    pub duration_us: u64,
    /// Number of events.
    pub events: u64,
    /// Marks along its whole lines.
    pub marks: Marks,
}

/// An asciicast v2 file being written.
///
/// After an error the unwritten rest of the line is kept and goes out before anything else, so
/// lines stay whole when the disk has room again. What came in between is lost, and counted: a
/// marker says how many bytes it was.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// The line being written, of which the first `sent` bytes are out.
    line: Vec<u8>,
    sent: usize,
    started_us: u64,
    /// Time of the last event, from the start.
    last_us: u64,
    digest: Sha256,
    /// The digest of the whole lines alone.
    whole: Sha256,
    bytes: u64,
    events: u64,
    marks: Marks,
    /// Stream bytes that could not be recorded since the last marker that said so.
    lost: u64,
    /// Stream bytes of which the line being written tells.
    carried: u64,
    decoders: [Decoder; 3],
}

impl<W: Write> Writer<W> {
    /// Begins a recording: writes its header and takes `now_us` for time zero.
    ///
    /// # Errors
    /// Those of `out`; the recording cannot be used then.
    pub fn start(out: W, header: &Header, now_us: u64) -> io::Result<Self> {
        let mut writer = Self::resume(out, now_us, 0);
        let versioned = Versioned { version: 2, header: fit(header.clone()) };
        serde_json::to_writer(&mut writer.line, &versioned)?;
        writer.line.push(b'\n');
        writer.drain()?;
        Ok(writer)
    }

    /// Goes on with a recording that begins at `started_us` and whose last event was `last_us` after
    /// that; it ends with a whole line. Digest and length are of what is written from here on: whoever
    /// seals it reads it.
    pub fn resume(out: W, started_us: u64, last_us: u64) -> Self {
        Self {
            out,
            line: Vec::with_capacity(1 << 10),
            sent: 0,
            started_us,
            last_us,
            digest: Sha256::new(),
            whole: Sha256::new(),
            bytes: 0,
            events: 0,
            marks: Marks::default(),
            lost: 0,
            carried: 0,
            decoders: Default::default(),
        }
    }

    /// Records bytes of a stream. An incomplete character waits for its other half.
    ///
    /// # Errors
    /// Those of the underlying writer, here and in the other methods.
    pub fn data(&mut self, now_us: u64, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let mut chunks = bytes.chunks(MAX_CHUNK);
        while let Some(chunk) = chunks.next() {
            if let Err(error) = self.chunk(now_us, stream, chunk) {
                self.lost += chunks.map(|chunk| chunk.len() as u64).sum::<u64>();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Records that so many bytes were typed, and not which: a password was asked for.
    ///
    /// # Errors
    /// As [`Writer::data`].
    pub fn hidden_input(&mut self, now_us: u64, bytes: usize) -> io::Result<()> {
        self.marker(now_us, &format!("{HIDDEN}: {bytes} bytes"))
    }

    /// Records the terminal's new size; clamped as in the header.
    ///
    /// # Errors
    /// As [`Writer::data`].
    pub fn resize(&mut self, now_us: u64, cols: u32, rows: u32) -> io::Result<()> {
        self.text(now_us, Code::Resize, &format!("{}x{}", side(cols), side(rows)))
    }

    /// Records a note of ours.
    ///
    /// # Errors
    /// As [`Writer::data`].
    pub fn marker(&mut self, now_us: u64, note: &str) -> io::Result<()> {
        self.text(now_us, Code::Marker, clip(note))
    }

    /// Records that a stream went on beyond what was recorded of it.
    ///
    /// # Errors
    /// As [`Writer::data`].
    pub fn cut(&mut self, now_us: u64, stream: Stream, cut: &Cut) -> io::Result<()> {
        let name = match stream {
            Stream::Output => "output",
            Stream::Errors => "error output",
            Stream::Input => "input",
        };
        let Cut { recorded, total, sha256 } = cut;
        let note =
            format!("{name} cut after {recorded} bytes; in all {total} bytes, sha256 {sha256}");
        self.marker(now_us, &note)
    }

    /// Records one event of an agent, given as JSON text.
    ///
    /// # Errors
    /// As [`Writer::data`], and `InvalidInput` for one that does not fit a line.
    pub fn agent_event(&mut self, now_us: u64, json: &str) -> io::Result<()> {
        if json.len() > MAX_AGENT_EVENT {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "agent event is too long"));
        }
        self.text(now_us, Code::Agent, json)
    }

    /// Ends the recording: what was held back is written. Syncing the file is the caller's.
    ///
    /// # Errors
    /// As [`Writer::data`]; [`Writer::so_far`] then says what the file holds.
    pub fn seal(&mut self, now_us: u64) -> io::Result<Sealed> {
        for stream in [Stream::Output, Stream::Errors, Stream::Input] {
            let mut held = std::mem::take(self.decoder(stream));
            if held.held() > 0 {
                let length = held.held() as u64;
                // It is taken by now, and counted where it has no room.
                self.begin(now_us, stream.code()).inspect_err(|_| self.lost += length)?;
                self.carried = length;
                let line = &mut self.line;
                held.finish(&mut |text| push_escaped(line, text));
                self.end()?;
            }
        }
        self.ready(now_us)?;
        self.last_us = self.elapsed(now_us);
        Ok(self.so_far())
    }

    /// Forgets a line that could not be written whole; what it had to tell is counted as lost. Returns
    /// how long the file's whole lines are, for the caller to cut it to: what [`Writer::so_far`] says
    /// is true of that.
    pub fn give_up_line(&mut self) -> u64 {
        self.lost += std::mem::take(&mut self.carried);
        if self.sent > 0 {
            self.bytes -= self.sent as u64;
            self.digest = self.whole.clone();
            self.events = self.events.saturating_sub(1);
        }
        self.line.clear();
        self.sent = 0;
        self.bytes
    }

    /// What the file holds at this moment.
    #[must_use]
    pub fn so_far(&self) -> Sealed {
        Sealed {
            bytes: self.bytes,
            sha256: hex(&self.digest.clone().finalize()),
            duration_us: self.last_us,
            events: self.events,
            marks: self.marks.clone(),
        }
    }

    /// The bytes of a stream's last character, while it is not whole: they are not in the file yet.
    #[must_use]
    pub fn held(&self, stream: Stream) -> &[u8] {
        self.decoders[stream.index()].pending()
    }

    /// Bytes in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The underlying writer, for instance to sync it.
    #[must_use]
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    fn chunk(&mut self, now_us: u64, stream: Stream, chunk: &[u8]) -> io::Result<()> {
        if let Err(error) = self.begin(now_us, stream.code()) {
            // The half of a character before a gap has lost its other half.
            let held = std::mem::take(self.decoder(stream)).held();
            self.lost += (held + chunk.len()) as u64;
            return Err(error);
        }
        let empty = self.line.len();
        let Self { line, decoders, .. } = self;
        let decoder = &mut decoders[stream.index()];
        let before = decoder.held();
        decoder.decode(chunk, &mut |text| push_escaped(line, text));
        self.carried = (before + chunk.len()).saturating_sub(decoder.held()) as u64;
        if self.line.len() == empty {
            self.line.clear();
            self.carried = 0;
            return Ok(());
        }
        self.end()
    }

    fn text(&mut self, now_us: u64, code: Code, text: &str) -> io::Result<()> {
        self.begin(now_us, code)?;
        push_escaped(&mut self.line, text);
        self.end()
    }

    /// Clears the way for the next event: the rest of the last line, then the note of a gap.
    fn ready(&mut self, now_us: u64) -> io::Result<()> {
        self.drain()?;
        if self.lost > 0 {
            let note = format!("recording gap: {} bytes were not recorded", self.lost);
            self.carried = std::mem::take(&mut self.lost);
            self.open(now_us, Code::Marker);
            push_escaped(&mut self.line, &note);
            self.end()?;
        }
        Ok(())
    }

    fn begin(&mut self, now_us: u64, code: Code) -> io::Result<()> {
        self.ready(now_us)?;
        self.open(now_us, code);
        Ok(())
    }

    fn open(&mut self, now_us: u64, code: Code) {
        self.last_us = self.elapsed(now_us);
        let (seconds, micros) = (self.last_us / 1_000_000, self.last_us % 1_000_000);
        // Writing to a Vec cannot fail.
        let _ = write!(self.line, "[{seconds}.{micros:06}, \"{}\", \"", code.as_str());
    }

    fn end(&mut self) -> io::Result<()> {
        self.line.extend_from_slice(b"\"]\n");
        self.events += 1;
        self.drain()
    }

    /// Writes what is left of the line; as a rule in one call.
    fn drain(&mut self) -> io::Result<()> {
        while let Some(rest) = self.line.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.digest.update(rest.get(..written).unwrap_or(rest));
                    self.sent += written;
                    self.bytes += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.sent > 0 {
            self.marks.line(&self.digest);
            self.whole = self.digest.clone();
        }
        self.line.clear();
        self.sent = 0;
        self.carried = 0;
        Ok(())
    }

    fn elapsed(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.started_us).max(self.last_us)
    }

    fn decoder(&mut self, stream: Stream) -> &mut Decoder {
        &mut self.decoders[stream.index()]
    }
}

impl Stream {
    fn code(self) -> Code {
        match self {
            Self::Output | Self::Errors => Code::Output,
            Self::Input => Code::Input,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Output => 0,
            Self::Errors => 1,
            Self::Input => 2,
        }
    }
}

/// Bounds everything in a header that came from a client.
fn fit(mut header: Header) -> Header {
    header.width = side(header.width);
    header.height = side(header.height);
    let texts = header.title.iter_mut().chain(header.command.iter_mut());
    for text in texts.chain(header.env.values_mut()) {
        text.truncate(clip(text).len());
    }
    header
}

fn side(cells: u32) -> u32 {
    cells.clamp(1, MAX_SIDE)
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// Appends `text` as the inside of a JSON string.
fn push_escaped(line: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let plain = run(rest, |byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
        let (copied, after) = rest.split_at(plain);
        line.extend_from_slice(copied);
        let Some((&byte, after)) = after.split_first() else { return };
        rest = after;
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            _ => line.extend_from_slice(&control(byte)),
        }
    }
}

/// A control character as JSON has it.
fn control(byte: u8) -> [u8; 6] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xf)]
}
