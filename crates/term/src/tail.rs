//! The last of what a terminal printed, out of its recording, byte for byte.
//!
//! Where bytes were no text, or could not be recorded, a recording does not have them: what is given
//! begins after them.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;

use crate::cast::Code;
use crate::cast::ReadError;
use crate::cast::reader::Lines;
use crate::cast::reader::parse_event;

/// How many bytes of a recording are looked through for one of the terminal's: keys that were typed one
/// by one, each with its echo, take about as many.
const LOOKED_THROUGH: u64 = 64;

/// How little of a recording is read at least, and how much at most.
const LEAST: u64 = 64 << 10;
const MOST: u64 = 64 << 20;

/// The note of bytes that are not there.
const GAP: &str = "recording gap";

/// What stands for bytes that were no text.
const NO_TEXT: char = '\u{fffd}';

/// The last `most` bytes at most that a recording's terminal printed before the recording had this
/// length.
///
/// # Errors
/// When the recording cannot be read.
pub fn printed_before<R: Read + Seek>(
    mut recording: R,
    offset: u64,
    most: u64,
) -> Result<Vec<u8>, ReadError> {
    let furthest = most.saturating_mul(LOOKED_THROUGH).saturating_add(LEAST).min(MOST);
    let mut back = most.saturating_add(most / 4).saturating_add(LEAST).min(furthest);
    loop {
        let from = offset.saturating_sub(back);
        let found = between(&mut recording, from, offset)?;
        let enough = found.printed.len() as u64 >= most || found.interrupted;
        if enough || from == 0 || back >= furthest {
            let length = usize::try_from(most).unwrap_or(usize::MAX).min(found.printed.len());
            let skipped = found.printed.len() - length;
            return Ok(found.printed[skipped..].to_vec());
        }
        back = back.saturating_mul(3).min(furthest);
    }
}

#[derive(Default)]
struct Found {
    printed: Vec<u8>,
    /// Whether something is missing before it.
    interrupted: bool,
}

fn between<R: Read + Seek>(recording: &mut R, from: u64, upto: u64) -> Result<Found, ReadError> {
    recording.seek(SeekFrom::Start(from))?;
    let part = recording.take(upto - from);
    let mut lines = Lines::new(BufReader::with_capacity(64 << 10, part));
    // The header, or the rest of a line.
    skip_line(&mut lines)?;
    let mut found = Found::default();
    while let Some(line) = lines.next_line()? {
        let Ok(event) = parse_event(line, 0) else {
            found = Found { interrupted: true, ..Found::default() };
            continue;
        };
        match event.code {
            Code::Output => {
                let known = event.data.rfind(NO_TEXT).map(|at| at + NO_TEXT.len_utf8());
                if known.is_some() {
                    found = Found { interrupted: true, ..Found::default() };
                }
                found.printed.extend_from_slice(&event.data.as_bytes()[known.unwrap_or(0)..]);
            }
            Code::Marker if event.data.starts_with(GAP) => {
                found = Found { interrupted: true, ..Found::default() };
            }
            _ => {}
        }
    }
    Ok(found)
}

fn skip_line(lines: &mut Lines<impl BufRead>) -> io::Result<()> {
    match lines.next_line() {
        Err(ReadError::Io(error)) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::cast::Header;
    use crate::cast::Stream;
    use crate::cast::Writer;

    fn recording(parts: &[&[u8]]) -> Writer<Vec<u8>> {
        let mut writer = Writer::start(Vec::new(), &Header::default(), 0).unwrap();
        for (at, part) in parts.iter().enumerate() {
            writer.data(at as u64, Stream::Output, part).unwrap();
            writer.data(at as u64, Stream::Input, b"typed").unwrap();
        }
        writer
    }

    fn before(writer: &Writer<Vec<u8>>, most: u64) -> Vec<u8> {
        printed_before(Cursor::new(writer.get_ref()), writer.bytes(), most).unwrap()
    }

    #[test]
    fn it_begins_after_what_the_recording_does_not_have() {
        let writer = recording(&[b"one", b"two\xff\xfethree", "fo\u{fc}r".as_bytes()]);
        assert_eq!(before(&writer, 100), "threefo\u{fc}r".as_bytes());
        assert_eq!(before(&writer, 2), b"\xbcr");
        let mut writer = recording(&[b"one"]);
        writer.marker(9, "recording gap: 7 bytes were not recorded").unwrap();
        writer.data(10, Stream::Output, b"two").unwrap();
        assert_eq!(before(&writer, 100), b"two");
        assert_eq!(before(&recording(&[]), 100), b"");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn it_is_what_was_printed(
            letters in prop::collection::vec(prop::sample::select(vec!["a", "\x1b", "\u{e4}", "\u{1f600}", "\n"]), 1..60),
            (size, repeat) in (1_usize..400, 1_usize..120),
            most in 0_u64..30_000,
        ) {
            let text = letters.concat().repeat(repeat);
            let parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let writer = recording(&parts);
            let whole = &text.as_bytes()[..text.len() - writer.held(Stream::Output).len()];
            let length = usize::try_from(most).unwrap().min(whole.len());
            prop_assert_eq!(before(&writer, most), &whole[whole.len() - length..]);
        }
    }
}
