//! What is on record: the audit log, recordings and their sidecars, and text for a viewer's terminal.

use std::fs::File;
use std::io::BufReader;
use std::io::Cursor;
use std::io::Read;
use std::io::Seek;
use std::io::Write;

use rustix::fs::MemfdFlags;
use sojourn_core::audit::ChainChecker;
use sojourn_core::audit::Checkpoint;
use sojourn_core::audit::Entry;
use sojourn_core::fuzz::Scratch;
use sojourn_core::fuzz::pieces;
use sojourn_term::cast;
use sojourn_term::cast::Reader;
use sojourn_term::cast::Tail;
use sojourn_term::commands::Commands;
use sojourn_term::escape::escape_bytes;
use sojourn_term::replay::Pace;
use sojourn_term::replay::Replay;
use sojourn_term::sanitise::Sanitiser;
use sojourn_term::sidecar::Sidecar;
use sojourn_term::snapshot::Budget;
use sojourn_term::snapshot::Snapshot;
use sojourn_term::utf8::Decoder;

use crate::seeds::records::LINES;
use crate::seeds::records::checkpoint_key;
use crate::seeds::records::log;

/// The most that a screen is drawn from, here.
const DRAWN: u64 = 8 << 10;

/// The audit log: with the key and a checkpoint that was kept elsewhere, a log that is found whole is
/// the one that was written, to the byte.
pub fn audit_log(data: &[u8]) {
    let (original, kept) = log();
    let mut checker = ChainChecker::new(Some(checkpoint_key().public()));
    checker.hold_against(kept).expect("our own signature");
    let body = data.strip_suffix(b"\n").unwrap_or(data);
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    let mut fine = 0;
    for line in &lines {
        let entry = checker.feed(line);
        if let Ok(entry) = &entry {
            fine += 1;
            assert_eq!(Entry::from_line(line).as_ref(), Ok(entry));
        }
        if let Ok(text) = std::str::from_utf8(line) {
            let _checkpoint = Checkpoint::from_kept(text);
        }
    }
    let cut_off = checker.finish();
    if fine == lines.len() && cut_off.is_empty() {
        let written: Vec<&[u8]> = original.split(|byte| *byte == b'\n').take(LINES).collect();
        assert_eq!(&lines[..LINES], &written, "a changed log passes for whole");
    }
    in_a_directory(data, &lines);
}

/// As a file, which is read piece by piece.
fn in_a_directory(data: &[u8], lines: &[&[u8]]) {
    let scratch = Scratch::new();
    let directory = scratch.path().join("audit");
    std::fs::create_dir(&directory).expect("a directory in memory");
    std::fs::write(directory.join("audit-1.jsonl"), data).expect("a file in memory");
    let mut whole = 0;
    let found = sojourn_engine::audit::verify(scratch.path(), None, &mut |_| whole += 1);
    let found = found.expect("a log can be read");
    let mut checker = ChainChecker::new(None);
    let ends = if data.ends_with(b"\n") { lines.len() } else { lines.len() - 1 };
    let ends = if data.is_empty() { 0 } else { ends };
    let expected = lines.iter().take(ends).filter(|line| checker.feed(line).is_ok()).count();
    assert_eq!((found.lines, whole), (ends as u64, expected));
}

/// A recording as a file: read, verified, replayed, and made whole.
pub fn recording(data: &[u8]) {
    let verified = cast::verify(data);
    let read = Reader::open(data);
    let events = read.map(|reader| reader.collect::<Result<Vec<_>, _>>());
    match (&verified, &events) {
        (Ok(verified), Ok(Ok(events))) => {
            assert_eq!(verified.events, events.len() as u64);
            assert!(verified.bytes <= data.len() as u64);
            assert_eq!(verified.tail == Tail::Whole, verified.bytes == data.len() as u64);
            assert!(events.is_sorted_by_key(|event| event.time_us));
        }
        // An empty file, or one that ends in its first line, is whole as far as it goes.
        (Ok(verified), Err(_)) => assert_eq!(verified.events, 0),
        (Ok(_), Ok(Err(error))) => panic!("verified, and cannot be read: {error}"),
        (Err(_), Ok(Ok(_))) => panic!("read, and not verified"),
        (Err(_), _) => {}
    }
    let in_pieces = cast::verify(BufReader::with_capacity(7, data));
    assert_eq!(in_pieces.map_err(|e| e.to_string()), verified.map_err(|e| e.to_string()));
    if let Ok(reader) = Reader::open(data) {
        let pace = Pace::new(2.0, None).expect("a speed");
        let shown: usize = Replay::new(reader, pace).flatten().map(|frame| frame.data.len()).sum();
        assert!(shown <= data.len() * 3, "more is shown than there is");
    }
    let _read = sojourn_term::commands::recorded(data, &mut |_| {});
    made_whole(data);
}

fn made_whole(data: &[u8]) {
    let file = rustix::fs::memfd_create("cast", MemfdFlags::CLOEXEC).expect("a file in memory");
    let mut file = File::from(file);
    file.write_all(data).expect("a file in memory");
    let Ok(recovered) = cast::recover(&mut file) else { return };
    let mut left = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut left)).expect("a file in memory");
    assert!(data.starts_with(&left), "lines were changed");
    assert_eq!(data.len() as u64, left.len() as u64 + recovered.removed);
    assert!(left.is_empty() || left.ends_with(b"\n"));
    let again = cast::recover(&mut file).expect("what was made whole can be");
    assert_eq!((again.removed, again.verified), (0, recovered.verified));
}

/// The screen at the end of a recording, and in its midst.
pub fn snapshot(data: &[u8]) {
    let looks = std::cell::Cell::new(0);
    let is_late = || {
        looks.set(looks.get() + 1);
        looks.get() > 50
    };
    let budget = Budget { emulate: DRAWN / 2, survey: DRAWN, is_late: &is_late };
    let end = data.len() as u64;
    for (offset, size) in [(end, None), (end / 2, Some((80, 24)))] {
        let Ok(screen) = Snapshot::take(Cursor::new(data), offset, size, &budget) else { continue };
        assert!((1..=1000).contains(&screen.cols) && (1..=1000).contains(&screen.rows));
        assert!(size.is_none_or(|size| size == (screen.cols, screen.rows)));
        assert!(std::str::from_utf8(&screen.data).is_ok());
    }
}

/// The file beside a recording.
pub fn sidecar(data: &[u8]) {
    let Ok(sidecar) = Sidecar::from_json(data) else { return };
    let written = sidecar.to_json().expect("what was read can be written");
    assert_eq!(Sidecar::from_json(&written).expect("and read again"), sidecar);
}

/// What a program prints: whole characters whatever the pieces, nothing that acts on a viewer, and
/// names that act on no terminal.
pub fn terminal_text(data: &[u8]) {
    let mut decoder = Decoder::default();
    let (mut text, mut shown, mut sanitiser) = (String::new(), String::new(), Sanitiser::default());
    let mut emit = |piece: &str| {
        text.push_str(piece);
        sanitiser.push(piece, &mut shown);
    };
    for piece in pieces(data) {
        decoder.decode(piece, &mut emit);
    }
    decoder.finish(&mut emit);
    assert_eq!(text, String::from_utf8_lossy(data));
    let (mut at_once, mut again) = (String::new(), String::new());
    Sanitiser::default().push(&text, &mut at_once);
    assert_eq!(shown, at_once, "cuts change what is shown");
    Sanitiser::default().push(&shown, &mut again);
    assert_eq!(again, shown, "what was made harmless is not");
    for bad in ["\x1b]", "\x1bP", "\x1b_", "\x1b^", "\x1bX", "\x1bk", "\u{9d}", "\x05"] {
        assert!(!shown.contains(bad), "{bad:?} is shown");
    }
    for most in [0, 1, 7, usize::MAX] {
        let name = escape_bytes(data, most);
        assert!(name.chars().count() <= most && !name.chars().any(char::is_control));
    }
}

/// Command lines in what is typed (every other piece) and printed.
pub fn command_lines(data: &[u8]) {
    let mut commands = Commands::default();
    let mut found = 0;
    for (number, piece) in pieces(data).into_iter().enumerate() {
        match number % 8 {
            7 => commands.hidden(),
            turn if turn % 2 == 0 => commands.input(piece),
            _ => commands.output(piece),
        }
        for line in commands.take() {
            assert!(line.chars().count() <= sojourn_term::commands::LONGEST);
            found += 1;
        }
    }
    assert!(found <= data.len());
}
