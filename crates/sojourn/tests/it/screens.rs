//! What somebody who comes back sees: the screen as it was, and then every byte, once.

use avt::Terminal;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::detach::at_terminal;
use crate::detach::detached;
use crate::detach::drop_client;
use crate::files_below;
use crate::gateway;

/// What a client's terminal shows, with all that was scrolled out.
fn shown(client: &Running) -> Terminal {
    let mut terminal = Terminal::with_scrollback(80, 24, None).unwrap();
    terminal.feed(client.so_far().as_str());
    terminal
}

/// Draws on the whole screen, in colours, in the middle, with scrolling margins and the cursor in a
/// place of its own; sets modes; waits for a key; leaves.
const PAINTER: &str = r#"printf 'before %s\n' painting
printf '\033[?1049h\033[?1h\033=\033[?2004h\033[?1000;1006h\033]2;a title\007\033[2J\033[3;20r'
for i in $(seq 3 20); do printf '\033[%d;5H\033[38;5;%dm%d\033[48;2;1;2;%dm wei\303\237 \347\225\214\033[m' $i $i $i $i; done
printf '\033[24;1H\033[7m-- INSERT --\033[m\033[5;9H\033[4mhere'
read -rsn1 key
printf '\033[m\033[?1049l\033[?2004l\033[?1000l'; echo "pressed $key"
"#;

#[test]
fn a_painted_screen_comes_back_to_the_cell() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    let mut client = at_terminal(&gateway.alice(), "alice", (80, 24));
    client.expect("# ");
    let put = gateway.alice().user("alice+@").run_with("cat >/tmp/paint", PAINTER.as_bytes());
    assert_eq!(put.code, 0, "{}", put.err);
    client.write(b"bash /tmp/paint\n");
    client.expect("here");
    // Dropped connections, another terminal that takes over, a killed gateway: the same screen.
    for trouble in ["drop", "take over", "kill"] {
        let before = shown(&client);
        assert!(before.screen().text().join("\n").contains("-- INSERT --"), "{trouble}");
        match trouble {
            "drop" => drop_client(&client),
            "kill" => {
                gateway.kill();
                gateway.launch();
            }
            _ => {}
        }
        let back = at_terminal(&gateway.alice(), "alice+@", (80, 24));
        back.expect("here");
        let after = shown(&back);
        assert_eq!(after.screen().text(), before.screen().text(), "{trouble}");
        assert_eq!(after.cursor(), before.cursor(), "{trouble}");
        for (row, (was, is)) in
            before.screen().visible_lines().zip(after.screen().visible_lines()).enumerate()
        {
            assert_eq!(is.cells(), was.cells(), "{trouble}, row {row}");
        }
        let text = back.so_far();
        for mode in ["?2004h", "?1000h", "?1006h", "?1h", "\x1b="] {
            assert!(text.contains(mode), "{trouble}: {mode}");
        }
        assert!(!text.contains("a title"), "{trouble}");
        client = back;
    }
    client.write(b"x");
    client.expect("pressed x");
    let left = shown(&client).screen().text().join("\n");
    assert!(left.contains("before painting") && !left.contains("INSERT"), "{left}");
    client.write(b"exit 5\n");
    assert_eq!(client.finish(PATIENCE).code, 5);
}

const FLOOD: &[u8] = "n=0; while [ ! -e /tmp/stop ]; do n=$((n+1)); echo \"<$n> ß€🦀\"; done; \
                      echo \"last-$n\"; exit\n"
    .as_bytes();

/// The numbers on lines of the flood; a line that is not whole is told.
fn numbers(text: &str) -> Vec<u64> {
    let lines = text.split(['\r', '\n']).map(str::trim_end).filter(|line| line.starts_with('<'));
    let number = |line: &str| line.strip_prefix('<')?.strip_suffix("> ß€🦀")?.parse().ok();
    lines.map(|line| number(line).unwrap_or_else(|| panic!("{line:?} is not whole"))).collect()
}

fn recorded(gateway: &Gateway) -> String {
    let files = files_below(&gateway.data().join("recordings"));
    let casts = files.iter().filter(|file| file.extension().is_some_and(|e| e == "cast"));
    let mut texts = casts.map(|file| std::fs::read_to_string(file).unwrap());
    let flood = texts.find(|text| text.contains("<5000>")).expect("its recording");
    let printed = flood.lines().skip(1).filter_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        (event[1] == "o").then(|| event[2].as_str().unwrap().to_owned())
    });
    printed.collect()
}

#[test]
fn in_mid_flood_no_byte_is_lost_or_doubled() {
    if !can_make_sandboxes() {
        return;
    }
    let limits = "max_output = \"1GB\"\n".to_owned();
    let mut gateway = gateway(&Options { limits, ..Options::default() });
    let mut client = at_terminal(&gateway.alice(), "alice", (80, 24));
    client.expect("# ");
    client.write(FLOOD);
    client.expect("<5000>");
    drop_client(&client);
    let id = detached(&gateway);
    let name = format!("alice+@{}", &id[id.len() - 8..]);
    // Comes back while it floods, is dropped, taken over, and left by a gateway that dies.
    let rounds = if std::env::var_os("SOJOURN_TEST_LONG").is_some() { 40 } else { 4 };
    let mut last = 0;
    for round in 0..rounds {
        client = at_terminal(&gateway.alice(), &name, (80, 24));
        until("the flood", PATIENCE, || (client.so_far().len() > 200_000).then_some(()));
        match round % 4 {
            0 => drop_client(&client),
            2 => {
                gateway.kill();
                client.finish(PATIENCE);
                gateway.launch();
                continue;
            }
            // The next one takes over.
            _ => {}
        }
        let screen = shown(&client);
        let text = screen.primary_screen().text().join("\n");
        // What the client was doing last may be in the midst of a line.
        let whole = text.rfind("\n<").map_or("", |end| &text[..end]);
        let seen = numbers(whole);
        let gap = seen.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(gap, None, "round {round}");
        assert!(seen.first() > Some(&last), "round {round}: it went on without anybody");
        last = *seen.last().unwrap();
    }
    let client = at_terminal(&gateway.alice(), &name, (80, 24));
    client.expect("> ");
    let stop = gateway.alice().user(&name).run("touch /tmp/stop");
    assert_eq!(stop.code, 0, "{}", stop.err);
    client.expect("last-");
    let output = client.finish(PATIENCE);
    assert_eq!(output.code, 0);
    let mut screen = Terminal::with_scrollback(80, 24, None).unwrap();
    screen.feed(output.text().as_str());
    let text = screen.primary_screen().text().join("\n");
    let seen = numbers(&text);
    assert_eq!(seen.windows(2).find(|pair| pair[1] != pair[0] + 1), None);
    let end = format!("last-{}", seen.last().unwrap());
    assert!(text.contains(&end), "to the last line: {end}");
    let recorded = numbers(&recorded(&gateway));
    let odd = recorded.iter().zip(1..).find(|(is, wanted)| *is != wanted);
    assert_eq!(odd, None, "all is on record, once");
    assert_eq!(recorded.last(), seen.last());
}
