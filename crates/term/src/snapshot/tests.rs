//! Screens drawn anew are the screens that were.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::cast::Header;
use crate::cast::Stream;
use crate::cast::Writer;

const FREE: Budget<'static> = Budget { emulate: 16 << 20, survey: 1 << 30, is_late: &|| false };

fn recording(size: (u32, u32), pieces: &[&[u8]]) -> Vec<u8> {
    let header = Header { width: size.0, height: size.1, ..Header::default() };
    let mut file = Vec::new();
    let mut writer = Writer::start(&mut file, &header, 0).unwrap();
    for piece in pieces {
        writer.data(0, Stream::Output, piece).unwrap();
    }
    file
}

fn shown(size: (usize, usize), pieces: &[&[u8]]) -> Terminal {
    let mut terminal = Terminal::new(size.0, size.1).unwrap();
    for piece in pieces {
        terminal.feed(String::from_utf8_lossy(piece).as_ref());
    }
    terminal
}

fn take(file: &[u8], size: Option<(u16, u16)>, budget: &Budget<'_>) -> Snapshot {
    Snapshot::take(Cursor::new(file), file.len() as u64, size, budget).unwrap()
}

/// Shows the snapshot to a terminal that had something else on it.
fn redrawn(snapshot: &Snapshot) -> Terminal {
    let clutter = b"\x1b[?1049hclutter\x1b[?25l\x1b[31;7m\x1b[2;3r\x1b[4h\x1b[?1;6h\x1b(0xx";
    let size = (snapshot.cols.into(), snapshot.rows.into());
    shown(size, &[clutter, &snapshot.data])
}

const EDITOR: &[u8] = b"$ vim x\r\n\x1b[?1049h\x1b[22;0;0t\x1b]2;x\x07\x1b[?1h\x1b=\x1b[?2004h\
    \x1b[1;23r\x1b[?12h\x1b[?25l\x1b[H\x1b[2J\x1b[1;1H\x1b[38;5;130m  1 \x1b[mfn main() {\r\n\
    \x1b[38;2;200;100;50m  2 \x1b[m\xe7\x95\x8c\xc3\xa9 \x1b[1;4mbold\x1b[m\r\n\x1b[94m~\x1b[m\
    \x1b[24;1H\x1b[7m-- INSERT --          \x1b[m\x1b[2;9H\x1b[?25h";

#[test]
fn an_editor_comes_back_as_it_was() {
    let file = recording((80, 24), &[EDITOR]);
    let snapshot = take(&file, None, &FREE);
    assert_eq!((snapshot.cols, snapshot.rows, snapshot.offset), (80, 24, file.len() as u64));
    let text = String::from_utf8(snapshot.data.clone()).unwrap();
    for mode in ["\x1b[?2004h", "\x1b[?12h", "\x1b=", "\x1b[?1h"] {
        assert!(text.contains(mode), "{mode:?}");
    }
    assert!(!text.contains("\x1b]"), "no title");
    assert!(!text.contains("\x1b[38:") && !text.contains('\u{9b}'), "plain words");
    let (before, after) = (shown((80, 24), &[EDITOR]), redrawn(&snapshot));
    assert_eq!(before.dump(), after.dump());
    assert_eq!(before.screen().text(), after.screen().text());
    // And leaving it shows what was there before it.
    let left = b"\x1b[?1049l$ ";
    let mut after = after;
    after.feed(std::str::from_utf8(left).unwrap());
    assert_eq!(after.screen().text(), shown((80, 24), &[EDITOR, left]).screen().text());
}

#[test]
fn another_size_is_drawn_for() {
    let file = recording((80, 24), &[b"one\r\ntwo\r\n$ half-typed"]);
    let snapshot = take(&file, Some((100, 30)), &FREE);
    assert_eq!((snapshot.cols, snapshot.rows), (100, 30));
    let screen = redrawn(&snapshot);
    assert_eq!(screen.screen().text()[..3], ["one", "two", "$ half-typed"]);
    assert_eq!((screen.cursor().col, screen.cursor().row), (12, 2));
    let unknown = recording((0, 0), &[b"a line of more than one column"]);
    let snapshot = take(&unknown, Some((0, 0)), &FREE);
    assert_eq!((snapshot.cols, snapshot.rows), (80, 24));
    assert_eq!(redrawn(&snapshot).screen().text()[0], "a line of more than one column");
    let huge = take(&file, Some((65535, 65535)), &FREE);
    assert_eq!((huge.cols, huge.rows), (1000, 1000));
}

#[test]
fn a_sequence_that_is_cut_goes_on_with_what_comes_next() {
    for (before, next) in [("a\x1b[3", "1mred"), ("a\x1b", "[31mred"), ("a\x1b]0;ti", "tle\x07red")]
    {
        let file = recording((20, 3), &[before.as_bytes()]);
        let mut after = redrawn(&take(&file, None, &FREE));
        after.feed(next);
        let whole = shown((20, 3), &[before.as_bytes(), next.as_bytes()]);
        assert_eq!(after.dump(), whole.dump(), "{before:?}");
    }
}

#[test]
fn only_what_was_printed_by_then_counts() {
    let mut file = recording((20, 3), &[b"seen"]);
    let offset = file.len() as u64;
    file.extend_from_slice(b"[1.0, \"o\", \"not yet\"]\n[1.0, \"i\", \"typed\"]\nnonsense\n[1.0");
    let seen = |upto| {
        let snapshot = Snapshot::take(Cursor::new(&file), upto, None, &FREE).unwrap();
        redrawn(&snapshot).screen().text()[0].clone()
    };
    assert_eq!(seen(offset), "seen");
    assert_eq!(seen(offset + 5), "seen", "a line that is not whole is none");
    assert_eq!(seen(file.len() as u64), "seennot yet");
    let none = Snapshot::take(Cursor::new(b""), 0, None, &FREE);
    assert!(matches!(none, Err(SnapshotError::Read(ReadError::NoHeader))));
}

#[test]
fn of_a_long_recording_the_end_is_enough() {
    let small = Budget { emulate: 20_000, survey: 1 << 30, is_late: &|| false };
    let noise: Vec<Vec<u8>> = (0..3000).map(|n| format!("line {n}\r\n").into_bytes()).collect();
    let noise: Vec<&[u8]> = noise.iter().map(Vec::as_slice).collect();
    // A shell that printed much, after it had set a mode.
    let mut shell: Vec<&[u8]> = vec![b"\x1b[?2004h"];
    shell.extend(&noise);
    // An editor that was opened long ago and only draws a line now and then.
    let ticks: Vec<Vec<u8>> =
        (0..2000).map(|n| format!("\x1b[23;70H\x1b[2m{n:5}\x1b[m\x1b[2;9H").into_bytes()).collect();
    let mut editor: Vec<&[u8]> = noise.clone();
    editor.push(EDITOR);
    editor.extend(ticks.iter().map(Vec::as_slice).take(700));
    for (name, pieces) in [("shell", &shell), ("editor", &editor)] {
        let file = recording((80, 24), pieces);
        assert!(file.len() > 40_000, "{name}");
        let (short, whole) = (take(&file, None, &small), take(&file, None, &FREE));
        let (short, whole) = (redrawn(&short), redrawn(&whole));
        assert_eq!(short.screen().text(), whole.screen().text(), "{name}");
        assert_eq!(short.cursor(), whole.cursor(), "{name}");
        assert_eq!(short.active_screen_kind(), whole.active_screen_kind(), "{name}");
        let text = String::from_utf8(take(&file, None, &small).data).unwrap();
        assert!(text.contains("\x1b[?2004h"), "{name}");
    }
    let blind = Budget { survey: 10_000, ..small };
    take(&recording((80, 24), &editor), None, &blind);
}

#[test]
fn what_takes_too_long_is_given_up() {
    let pieces = vec![&b"x"[..]; 1000];
    let file = recording((80, 24), &pieces);
    let late = Budget { is_late: &|| true, ..FREE };
    let given_up = Snapshot::take(Cursor::new(&file), file.len() as u64, None, &late);
    assert!(matches!(given_up, Err(SnapshotError::Late)));
}

fn printed() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[a-z ]{0,30}",
        Just("\r\n".to_owned()),
        "界é".prop_map(|text| text),
        (1..30u8, 1..30u8).prop_map(|(row, col)| format!("\x1b[{row};{col}H")),
        (0..108u8).prop_map(|sgr| format!("\x1b[{sgr}m")),
        (0..255u8).prop_map(|colour| format!("\x1b[38;5;{colour};48;2;{colour};1;2m")),
        (1..9u8, 1..12u8).prop_map(|(top, bottom)| format!("\x1b[{top};{bottom}r")),
        proptest::sample::select(vec![
            "\x1b[?1049h",
            "\x1b[?1049l",
            "\x1b[?25l",
            "\x1b[?25h",
            "\x1b[?1h",
            "\x1b[?7l",
            "\x1b[?7h",
            "\x1b[?6h",
            "\x1b[?6l",
            "\x1b[4h",
            "\x1b[4l",
            "\x1b[2J",
            "\x1b[K",
            "\x1b[J",
            "\x1b7",
            "\x1b8",
            "\x1b(0",
            "\x1b(B",
            "\x0e",
            "\x0f",
            "\t",
            "\x1bH",
            "\x1b[3g",
            "\x1bM",
            "\x1b[L",
            "\x1b[2P",
            "\x1b[@",
            "\x1bc",
            "\x1b[!p",
            "\x1b[",
            "\x1b",
            "\x1b]0;",
            "\u{9b}3",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn whatever_was_printed_comes_back(bytes in printed(), size in (2..40u16, 1..15u16)) {
        let (cols, rows) = (u32::from(size.0), u32::from(size.1));
        let file = recording((cols, rows), &[&bytes]);
        let whole = shown((size.0.into(), size.1.into()), &[&bytes]);
        let after = redrawn(&take(&file, None, &FREE));
        prop_assert_eq!(after.dump(), whole.dump());
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000), size in (0..1200u16, 0..1200u16),
    ) {
        let mut file = recording((10, 5), &[&bytes]);
        file.extend_from_slice(&bytes);
        take(&file, Some(size), &FREE);
    }
}
