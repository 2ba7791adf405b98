//! What is typed at a prompt, and what of it is a command.

use proptest::prelude::*;

use super::*;

/// The lines that these keys enter, with nothing printed.
fn typed(keys: &str) -> Vec<String> {
    let mut commands = Commands::default();
    commands.input(keys.as_bytes());
    commands.take()
}

#[test]
fn a_line_is_what_stands_there_at_enter() {
    assert_eq!(typed("ls -l\r"), ["ls -l"]);
    assert_eq!(typed("one\ntwo\r\n\r\n  three  \r"), ["one", "two", "three"]);
    assert_eq!(typed("lz\x7fs\r"), ["ls"], "backspace");
    assert_eq!(typed("rm -rf /\x15id\r"), ["id"], "the line cut");
    assert_eq!(typed("cat a b/c\x17d\r"), ["cat a d"], "a word cut");
    assert_eq!(typed("cat a b/c\x1b\x7fd\r"), ["cat a b/d"], "a smaller word");
    assert_eq!(typed("reboot\x03id\r"), ["id"], "given up");
    assert_eq!(typed("echo b\x01\x0b\x05printf \x19\r"), ["printf echo b"], "cut and put back");
    assert_eq!(typed("unfinished"), Vec::<String>::new());
    assert_eq!(typed("grüße 🦀\r"), ["grüße 🦀"]);
}

#[test]
fn the_cursor_moves_and_keys_with_sequences_are_known() {
    assert_eq!(typed("cho\x1b[D\x1b[D\x1b[De\r"), ["echo"]);
    assert_eq!(typed("id; ls\x1bb\x1bbx\r"), ["xid; ls"]);
    assert_eq!(typed("b\x1bOHa\x1bOFc\r"), ["abc"], "application keys");
    assert_eq!(typed("ab\x02\x1b[3~c\r"), ["ac"], "delete");
    assert_eq!(typed("a\x1b[1;5Db\x1b[38;2;1m\r"), ["ba"], "with Control; a key that is unknown");
    assert_eq!(typed("a\x1b[99999999999999999999999999~b\r").len(), 1, "a sequence without end");
}

#[test]
fn a_paste_is_one_line_however_many_it_has() {
    assert_eq!(typed("\x1b[200~cd /tmp\rls\x03\x1b[201~\r"), ["cd /tmp\nls"]);
}

#[test]
fn earlier_lines_are_found_again() {
    assert_eq!(typed("id\rls\r\x1b[A\x1b[A\r"), ["id", "ls", "id"]);
    assert_eq!(typed("id\r\x10 -u\r\x1b[A\x1b[Bls\r"), ["id", "id -u", "ls"]);
    assert_eq!(typed("\x1b[A\r"), Vec::<String>::new(), "of a history that is not known");
    assert_eq!(typed("\x12wget\r"), Vec::<String>::new(), "nor what a search found");
    assert_eq!(typed("\x12wget\rid\r"), ["id"]);
}

#[test]
fn what_a_tab_completes_is_read_from_the_screen() {
    let mut commands = Commands::default();
    commands.output(b"\x1b[?2004hroot@web:~# ");
    commands.input(b"cat /et");
    commands.input(b"\t");
    // The echo of what was typed may come only now.
    commands.output(b"cat /etc/");
    commands.input(b"pass\t");
    commands.output(b"passwd ");
    commands.input(b"\r");
    assert_eq!(commands.take(), ["cat /etc/passwd"]);

    commands.output(b"\r\nroot:x:0:0\r\nroot@web:~# ");
    commands.input(b"ls /\t");
    commands.output(b"ls /\x07");
    commands.input(b"\t");
    commands.output(b"\r\nbin/  boot/\r\nroot@web:~# ls /");
    commands.input(b"bin\r");
    assert_eq!(commands.take(), ["ls /bin"], "a list completes nothing");
}

#[test]
fn a_line_typed_ahead_is_not_completed_by_the_one_before() {
    let mut commands = Commands::default();
    commands.output(b"$ ");
    commands.input(b"cd /tmpp\x7f; ls\rcat /etc/hostn\t");
    commands.output(b"cd /tmpp\x08\x1b[K; ls\r\nroot@c:/tmp# cat /etc/hostname ");
    commands.input(b"\r");
    assert_eq!(commands.take(), ["cd /tmp; ls", "cat /etc/hostname"]);
}

#[test]
fn a_program_that_fills_the_screen_is_left_out() {
    let mut commands = Commands::default();
    commands.input(b"vi x\r");
    commands.output(b"\x1b[?1049h\x1b[2J");
    commands.input(b"ihello\r:wq\r");
    commands.output(b"\x1b[?1049l");
    commands.input(b"id\r");
    assert_eq!(commands.take(), ["vi x", "id"]);
}

#[test]
fn what_is_hidden_is_in_no_line() {
    let mut commands = Commands::default();
    commands.input(b"su\r");
    commands.output(b"Password: ");
    commands.hidden();
    commands.input(b"id\r");
    assert_eq!(commands.take(), ["su", "id"]);
}

#[test]
fn a_recording_tells_them_again() {
    let cast = [
        r#"{"version":2,"width":80,"height":24,"command":"sudo -i","env":{"TERM":"xterm"}}"#,
        r#"[0.1, "o", "Password: "]"#,
        r#"[0.2, "m", "input hidden: 7 bytes"]"#,
        r#"[0.3, "i", "id\r"]"#,
        r#"[0.4, "i", "cut of"#,
    ];
    let mut found = Vec::new();
    let mut tell = |line: &str| found.push(line.to_owned());
    recorded(cast.join("\n").as_bytes(), &mut tell).unwrap();
    let exec = r#"{"version":2,"width":80,"height":24,"command":"cat >x"}"#.to_owned();
    let exec = exec + "\n[0.1, \"i\", \"data\\n\"]\n";
    recorded(exec.as_bytes(), &mut tell).unwrap();
    assert_eq!(found, ["sudo -i", "id", "cat >x"]);
}

#[test]
fn a_line_is_bounded() {
    let found = typed(&format!("{}\r", "x".repeat(10 * LONGEST)));
    assert_eq!(found[0].len(), LONGEST);
}

proptest! {
    #[test]
    fn anything_may_be_typed_and_printed(
        pieces in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..60,
        ),
    ) {
        let mut commands = Commands::default();
        for (is_input, bytes) in pieces {
            if is_input { commands.input(&bytes) } else { commands.output(&bytes) }
            prop_assert!(commands.line.len() <= LONGEST && commands.cursor <= commands.line.len());
            prop_assert!(commands.history.len() <= HISTORY && commands.echo.len() <= ECHO);
            for line in commands.take() {
                prop_assert!(line.chars().count() <= LONGEST && !line.is_empty());
            }
        }
    }

    #[test]
    fn what_is_passed_over_means_nothing(
        pieces in proptest::collection::vec(
            (any::<bool>(), "([a-c é\u{85}\u{b5}]|\r|\n|\t|\x07|\x1b\\[[0-9?]{0,3}[hlmK]|aaaaaaaaaaaaaaaaaaaa){0,30}"),
            0..20,
        ),
    ) {
        let (mut quick, mut slow) = (Commands::default(), Commands::default());
        for (is_input, text) in pieces {
            if is_input {
                quick.input(text.as_bytes());
                slow.input(text.as_bytes());
            } else {
                quick.output(text.as_bytes());
                text.chars().for_each(|char| slow.print(char));
            }
            prop_assert_eq!(format!("{quick:?}"), format!("{slow:?}"));
        }
    }

    #[test]
    fn where_typing_is_cut_makes_no_difference(
        keys in "([a-z ü]|\x7f|\x17|\x1b\\[[ABCDHF]|\r){0,60}", size in 1usize..7,
    ) {
        let mut commands = Commands::default();
        keys.as_bytes().chunks(size).for_each(|chunk| commands.input(chunk));
        prop_assert_eq!(commands.take(), typed(&keys));
    }
}
