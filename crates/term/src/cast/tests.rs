//! Claims about recordings, from the bytes that go in to the lines that come out.

use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::io::Write;
use std::ops::RangeInclusive;
use std::process::Command;
use std::process::Stdio;

use proptest::prelude::*;

use super::*;

const START: u64 = 1_000_000_000;

fn header() -> Header {
    Header {
        width: 80,
        height: 24,
        timestamp: Some(1_700_000_000),
        sojourn: Some(Origin { session: "s-1".into(), channel: 0 }),
        ..Header::default()
    }
    .with_env("TERM", Some("xterm-256color"))
}

fn recording(fill: impl FnOnce(&mut Writer<&mut Vec<u8>>)) -> (String, Sealed) {
    let mut file = Vec::new();
    let mut writer = Writer::start(&mut file, &header(), START).unwrap();
    fill(&mut writer);
    let sealed = writer.seal(START + 9_000_000).unwrap();
    (String::from_utf8(file).unwrap(), sealed)
}

fn events(text: &str) -> Vec<Event> {
    Reader::open(text.as_bytes()).unwrap().map(Result::unwrap).collect()
}

fn joined(text: &str, code: Code) -> String {
    events(text).into_iter().filter(|event| event.code == code).map(|event| event.data).collect()
}

#[test]
fn a_recording_is_what_the_format_says() {
    let (text, sealed) = recording(|writer| {
        writer.data(START + 1_500, Stream::Output, b"\x1b[1m\"hi\\\"\r\n\x00").unwrap();
        writer.data(START + 1_000, Stream::Input, b"x").unwrap();
        writer.resize(START + 2_000_000, 5000, 0).unwrap();
        writer.hidden_input(START + 2_000_001, 7).unwrap();
        writer.agent_event(START + 3_000_000, r#"{"a":1}"#).unwrap();
    });
    let wanted = r#"{"version":2,"width":80,"height":24,"timestamp":1700000000,"env":{"TERM":"xterm-256color"},"sojourn":{"session":"s-1","channel":0}}
[0.001500, "o", "\u001b[1m\"hi\\\"\r\n\u0000"]
[0.001500, "i", "x"]
[2.000000, "r", "1000x1"]
[2.000001, "m", "input hidden: 7 bytes"]
[3.000000, "e", "{\"a\":1}"]
"#;
    assert_eq!(text, wanted);
    let verified = verify(text.as_bytes()).unwrap();
    assert_eq!(
        sealed,
        Sealed {
            bytes: text.len() as u64,
            sha256: verified.sha256,
            duration_us: 9_000_000,
            events: 5,
            marks: verified.marks,
        }
    );
    assert_eq!((verified.bytes, verified.events, verified.whole_lines), (sealed.bytes, 5, 6));
    assert_eq!(Reader::open(text.as_bytes()).unwrap().header(), &header());
}

#[test]
fn the_digest_is_that_of_the_file() {
    let (text, sealed) = recording(|writer| writer.marker(START, "x").unwrap());
    assert_eq!(sealed.sha256, hex(&<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes())));
}

#[test]
fn a_zero_sized_terminal_is_clamped_for_the_file() {
    let mut file = Vec::new();
    Writer::start(&mut file, &Header::default(), START).unwrap();
    let read = Reader::open(&file[..]).unwrap().header().clone();
    assert_eq!((read.width, read.height), (1, 1));
}

#[test]
fn characters_cut_between_writes_stay_whole_in_each_stream() {
    let (text, _) = recording(|writer| {
        writer.data(START, Stream::Output, b"a\xf0\x9f").unwrap();
        writer.data(START, Stream::Errors, b"\xc3").unwrap();
        writer.data(START, Stream::Input, b"\xe2\x82\xac").unwrap();
        writer.data(START, Stream::Output, b"\xa6\x80").unwrap();
        writer.data(START, Stream::Errors, b"\xa9").unwrap();
        writer.data(START, Stream::Input, b"\xe2").unwrap();
    });
    assert_eq!(joined(&text, Code::Output), "a🦀é");
    assert_eq!(joined(&text, Code::Input), "€\u{fffd}");
}

#[test]
fn times_never_go_backwards() {
    let (text, _) = recording(|writer| {
        writer.data(START + 5_000_000, Stream::Output, b"late").unwrap();
        writer.data(0, Stream::Output, b"early").unwrap();
    });
    assert!(text.ends_with("[5.000000, \"o\", \"early\"]\n"));
}

#[test]
fn an_excerpt_names_what_it_left_out() {
    let mut excerpt = Excerpt::new(4);
    assert_eq!(excerpt.take(b"abc"), b"abc");
    assert_eq!(excerpt.cut(), None);
    assert_eq!(excerpt.take(b"def"), b"d");
    assert_eq!(excerpt.take(b"gh"), b"");
    let cut = excerpt.cut().unwrap();
    let (text, _) = recording(|writer| writer.cut(START, Stream::Output, &cut).unwrap());
    let digest = "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab";
    assert_eq!(
        joined(&text, Code::Marker),
        format!("output cut after 4 bytes; in all 8 bytes, sha256 {digest}")
    );
}

/// A disk with room for so many bytes.
struct Disk {
    room: Cell<usize>,
    file: RefCell<Vec<u8>>,
}

impl Write for &Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room.get());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room.set(self.room.get() - fits);
        self.file.borrow_mut().extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_leaves_whole_lines_and_a_marked_gap() {
    let disk = Disk { room: Cell::new(200), file: RefCell::default() };
    let mut writer = Writer::start(&disk, &header(), START).unwrap();
    assert!(writer.data(START, Stream::Output, &[b'a'; 100]).is_err());
    assert!(writer.data(START, Stream::Output, &[b'b'; 30]).is_err());
    disk.room.set(10_000);
    writer.data(START, Stream::Output, b"c").unwrap();
    let sealed = writer.seal(START).unwrap();
    let file = disk.file.into_inner();
    let verified = verify(&file[..]).unwrap();
    assert_eq!((sealed.bytes, &sealed.sha256), (verified.bytes, &verified.sha256));
    assert_eq!(sealed.marks, verified.marks);
    let text = String::from_utf8(file).unwrap();
    assert_eq!(joined(&text, Code::Output), format!("{}c", "a".repeat(100)));
    assert_eq!(joined(&text, Code::Marker), "recording gap: 30 bytes were not recorded");
}

#[test]
fn a_disk_that_stays_full_leaves_no_half_line_when_the_recording_is_sealed() {
    for room in 170..260 {
        let disk = Disk { room: Cell::new(room), file: RefCell::default() };
        let mut writer = Writer::start(&disk, &header(), START).unwrap();
        writer.data(START, Stream::Output, b"first").unwrap();
        let full = writer.data(START, Stream::Output, &[b'a'; 100]).is_err();
        assert_eq!(writer.seal(START).is_err(), full, "{room}");
        let whole = writer.give_up_line();
        let sealed = writer.so_far();
        disk.file.borrow_mut().truncate(usize::try_from(whole).unwrap());
        let verified = verify(&disk.file.borrow()[..]).unwrap();
        assert_eq!((sealed.bytes, &sealed.sha256), (verified.bytes, &verified.sha256), "{room}");
        assert_eq!((&sealed.marks, verified.tail), (&verified.marks, Tail::Whole), "{room}");
    }
}

#[test]
fn what_a_line_that_was_given_up_told_of_is_counted() {
    for room in 170..260 {
        let disk = Disk { room: Cell::new(room), file: RefCell::default() };
        let mut writer = Writer::start(&disk, &header(), START).unwrap();
        writer.data(START, Stream::Output, b"first").unwrap();
        let full = writer.data(START, Stream::Output, &[b'a'; 100]).is_err();
        let more = writer.data(START, Stream::Output, &[b'b'; 30]).is_err();
        let whole = writer.give_up_line();
        disk.file.borrow_mut().truncate(usize::try_from(whole).unwrap());
        disk.room.set(10_000);
        writer.seal(START).unwrap();
        let text = String::from_utf8(disk.file.into_inner()).unwrap();
        let lost = if full { 100 } else { 0 } + if more { 30 } else { 0 };
        let note = format!("recording gap: {lost} bytes were not recorded");
        assert_eq!(
            joined(&text, Code::Marker),
            if lost > 0 { note } else { String::new() },
            "{room}"
        );
        assert_eq!(joined(&text, Code::Output).len() + lost, 135, "{room}");
    }
}

#[test]
fn a_line_is_never_longer_than_a_reader_takes() {
    let (text, _) = recording(|writer| {
        writer.data(START, Stream::Output, &vec![0; 10 << 20]).unwrap();
        let long = "\0".repeat(1 << 20);
        writer.marker(START, &long).unwrap();
        assert!(writer.agent_event(START, &long).is_err());
    });
    assert!(text.lines().all(|line| line.len() < MAX_LINE / 4));
    assert_eq!(joined(&text, Code::Output).len(), 10 << 20);
}

#[test]
fn a_fault_names_its_line() {
    let head = "{\"version\":2,\"width\":80,\"height\":24}\n";
    let cases = [
        ("", "the recording has no header"),
        ("{\"version\":2", "the recording has no header"),
        ("hello\n", "line 1: not an asciicast header"),
        ("{\"version\":2}\n", "line 1: not an asciicast header"),
        (
            "{\"version\":3,\"width\":1,\"height\":1}\n",
            "line 1: asciicast version 3, where 2 is wanted",
        ),
        (&format!("{head}[1, \"o\"]\n"), "line 2: not a [time, code, data] event"),
        (&format!("{head}[1, \"o\", \"x\", 1]\n"), "line 2: not a [time, code, data] event"),
        (&format!("{head}\n"), "line 2: not a [time, code, data] event"),
        (&format!("{head}[-1, \"o\", \"x\"]\n"), "line 2: impossible time"),
        (&format!("{head}[2, \"o\", \"x\"]\n[1.9, \"o\", \"y\"]\n"), "line 3: time goes backwards"),
        (
            &format!("{head}[2, \"o\", \"{}\"]\n", "x".repeat(MAX_LINE)),
            "line 2: longer than 4194304 bytes",
        ),
    ];
    for (text, wanted) in cases {
        let error = Reader::open(text.as_bytes())
            .and_then(|reader| reader.collect::<Result<Vec<_>, _>>())
            .expect_err(wanted);
        assert_eq!(error.to_string(), wanted);
        if !text.is_empty() && text.ends_with('\n') {
            assert_eq!(verify(text.as_bytes()).expect_err(wanted).to_string(), wanted);
        }
    }
}

#[test]
fn a_flipped_byte_is_seen() {
    let (text, sealed) = recording(|writer| {
        writer.data(START, Stream::Output, b"evidence").unwrap();
    });
    let mut bytes = text.into_bytes();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    assert_ne!(verify(&bytes[..]).unwrap().sha256, sealed.sha256);
}

#[test]
fn a_recording_cut_anywhere_is_recovered_to_its_last_whole_line() {
    let (text, _) = recording(|writer| {
        for line in 0..3 {
            writer.data(START + line, Stream::Output, "é\r\n".as_bytes()).unwrap();
        }
    });
    for length in 0..=text.len() {
        let cut = &text.as_bytes()[..length];
        let whole = cut.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let tail = if whole == length { Tail::Whole } else { Tail::Cut { offset: whole as u64 } };
        let verified = verify(cut).unwrap();
        assert_eq!((verified.bytes, verified.tail), (whole as u64, tail), "cut at {length}");

        let mut file = scratch_file(cut);
        let recovered = recover(&mut file).unwrap();
        assert_eq!(recovered.removed, (length - whole) as u64);
        assert_eq!(recovered.verified, verify(&text.as_bytes()[..whole]).unwrap());
        assert!(recovered.fault.is_none());
        assert_eq!(file.metadata().unwrap().len(), whole as u64);
    }
}

#[test]
fn recovery_keeps_a_damaged_line_and_names_it() {
    let bytes = b"{\"version\":2,\"width\":80,\"height\":24}\nrubbish\n[1.0, \"o\", \"x\"]\n[2";
    let recovered = recover(&mut scratch_file(bytes)).unwrap();
    assert_eq!(recovered.removed, 2);
    assert_eq!(recovered.verified.whole_lines, 3);
    assert_eq!(recovered.fault.unwrap().to_string(), "line 2: not a [time, code, data] event");
}

/// Which lines differ from the sealed ones once a bit is flipped, and which line the bit is in.
fn flip(text: &str, sealed: &Sealed, at: usize, bit: u8) -> (RangeInclusive<u64>, u64) {
    let mut bytes = text.as_bytes().to_vec();
    let line = bytes[..at].iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
    bytes[at] ^= 1 << bit;
    let (now, _) = survey(&bytes[..]).unwrap();
    (sealed.marks.changed(&now.marks), line)
}

#[test]
fn a_change_is_found_in_few_lines_of_many() {
    for (events, every) in [(1023, 1), (1024, 2), (2047, 2), (5000, 8)] {
        let (text, sealed) = recording(|writer| {
            (0..events).for_each(|n| writer.marker(START + n, "note").unwrap());
        });
        // One bit makes a newline out of a `J`, and something else out of a newline.
        let steps = (0..text.len()).step_by(3001);
        let ends = text.match_indices('\n').map(|(at, _)| at).step_by(511);
        for at in steps.chain(ends).chain([text.len() - 1]) {
            let (changed, line) = flip(&text, &sealed, at, 6);
            assert!(changed.contains(&line), "line {line} of {events} is not in {changed:?}");
            assert!(changed.count() <= every, "line {line} of {events}");
        }
    }
}

#[test]
fn lines_that_go_or_come_are_found_too() {
    let (text, sealed) = recording(|writer| {
        (0..3).for_each(|n| writer.marker(START + n, "note").unwrap());
    });
    let changed = |text: &str| sealed.marks.changed(&survey(text.as_bytes()).unwrap().0.marks);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert_eq!(changed(&lines[..2].concat()), 3..=3);
    assert_eq!(changed(&[&lines[..1], &lines[2..]].concat().concat()), 2..=2);
    assert_eq!(changed(&format!("{text}[9.0, \"m\", \"\"]\n")), 5..=5);
    assert_eq!(changed(""), 1..=1);
}

#[test]
fn marks_from_anywhere_do_no_harm() {
    let (text, sealed) = recording(|writer| writer.marker(START, "note").unwrap());
    let now = survey(text.as_bytes()).unwrap().0.marks;
    let written = serde_json::to_string(&sealed.marks).unwrap();
    assert_eq!(serde_json::from_str::<Marks>(&written).unwrap(), sealed.marks);
    for number in [0, 1, 3, u64::MAX] {
        let text = format!(r#"{{"lines":{number},"every":{number},"sha256":"{:016x}"}}"#, 7);
        let marks: Marks = serde_json::from_str(&text).unwrap();
        let (ours, theirs) = (now.changed(&marks), marks.changed(&now));
        assert!(!ours.is_empty() && !theirs.is_empty(), "{number}");
    }
    let short = r#"{"lines":1,"every":1,"sha256":"12"}"#;
    assert!(serde_json::from_str::<Marks>(short).is_err());
}

/// An unnamed file: nothing to clean up.
fn scratch_file(bytes: &[u8]) -> std::fs::File {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("sojourn-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let mut file =
        std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn asciinema_plays_what_is_written() {
    let (text, _) = recording(|writer| {
        writer.data(START, Stream::Output, "grüße \x1b[1m🦀\x1b[0m\r\n".as_bytes()).unwrap();
        writer.data(START + 1, Stream::Input, b"typed").unwrap();
        writer.resize(START + 2, 100, 40).unwrap();
        writer.marker(START + 3, "a note").unwrap();
        writer.data(START + 4, Stream::Output, b"end\xff").unwrap();
    });
    let Some(shown) = shown_by_asciinema(&text) else {
        eprintln!("skipped: asciinema is not installed");
        return;
    };
    assert_eq!(shown, "grüße \x1b[1m🦀\x1b[0m\r\nend\u{fffd}");
}

/// What `asciinema cat` prints. It insists on a controlling terminal, which `script` gives it.
fn shown_by_asciinema(text: &str) -> Option<String> {
    Command::new("asciinema").arg("--version").output().ok()?;
    let path = std::env::temp_dir().join(format!("sojourn-{}.cast", std::process::id()));
    let shown = path.with_extension("out");
    std::fs::write(&path, text).unwrap();
    let played = Command::new("script")
        .args(["--quiet", "--return", "--command", r#"asciinema cat "$CAST" > "$SHOWN""#])
        .arg("/dev/null")
        .envs([("CAST", &path), ("SHOWN", &shown)])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stdout));
    let printed = std::fs::read_to_string(&shown).unwrap();
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(shown).unwrap();
    Some(printed)
}

proptest! {
    #[test]
    fn all_bytes_come_back_as_lossy_text(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        size in 1usize..9,
    ) {
        let (text, _) = recording(|writer| {
            for chunk in bytes.chunks(size) {
                writer.data(START, Stream::Output, chunk).unwrap();
            }
        });
        prop_assert_eq!(joined(&text, Code::Output), String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_flipped_bit_is_found_in_its_line(
        texts in proptest::collection::vec("[ -~]{0,9}", 0..20),
        at in any::<proptest::sample::Index>(),
        bit in 0u8..8,
    ) {
        let (text, sealed) = recording(|writer| {
            for (n, text) in (0..).zip(&texts) {
                writer.data(START + n * 700_000, Stream::Output, text.as_bytes()).unwrap();
            }
        });
        let (changed, line) = flip(&text, &sealed, at.index(text.len()), bit);
        prop_assert_eq!(changed, line..=line);
    }

    #[test]
    fn marks_do_not_depend_on_how_bytes_went_out(sizes in proptest::collection::vec(1usize..90, 9)) {
        let disk = Disk { room: Cell::new(200), file: RefCell::default() };
        let mut writer = Writer::start(&disk, &header(), START).unwrap();
        for size in sizes {
            disk.room.set(size);
            let _ = writer.data(START, Stream::Output, b"some output\r\n");
        }
        disk.room.set(10_000);
        let sealed = writer.seal(START).unwrap();
        let (now, _) = survey(&disk.file.borrow()[..]).unwrap();
        prop_assert_eq!((sealed.sha256, sealed.marks), (now.sha256, now.marks));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = verify(&bytes[..]);
        let with_header = [b"{\"version\":2,\"width\":80,\"height\":24}\n", &bytes[..]].concat();
        if let Ok(reader) = Reader::open(&with_header[..]) {
            let _ = reader.take_while(Result::is_ok).count();
        }
    }
}
