//! What the emulator writes, in the words that every terminal knows.

/// The most times that one character is repeated: a row has no more cells.
const MOST_REPEATED: usize = 1000;

/// Writes repetitions out, colours with semicolons, tab stops and introducers the old way.
pub(super) fn portable(dump: &str) -> String {
    let mut text = String::with_capacity(dump.len() * 2);
    let mut printed = ' ';
    let mut rest = dump;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        if c == '\x1b'
            && let Some(sequence) = after.strip_prefix('[')
            && let Some(end) = sequence.find(|last: char| ('\x40'..='\x7e').contains(&last))
        {
            let (params, tail) = sequence.split_at(end);
            let last = tail.chars().next().unwrap_or_default();
            control(params, last, printed, &mut text);
            rest = tail.get(last.len_utf8()..).unwrap_or_default();
            continue;
        }
        match c {
            '\u{80}'..='\u{9f}' => {
                // The last words: what is waited for.
                text.push('\x1b');
                text.extend(char::from_u32(u32::from(c) - 0x40));
            }
            _ => {
                printed = c;
                text.push(c);
            }
        }
        rest = after;
    }
    text
}

fn control(params: &str, last: char, printed: char, text: &mut String) {
    match (params, last) {
        (times, 'b') => {
            let times: usize = times.parse().unwrap_or(0);
            text.extend(std::iter::repeat_n(printed, times.min(MOST_REPEATED)));
        }
        ("0", 'W') => text.push_str("\x1bH"),
        ("5", 'W') => text.push_str("\x1b[3g"),
        (colours, 'm') => {
            text.push_str("\x1b[");
            text.push_str(&colours.replace(':', ";"));
            text.push('m');
        }
        _ => {
            text.push_str("\x1b[");
            text.push_str(params);
            text.push(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_common_is_written_otherwise() {
        for (dump, wanted) in [
            ("ab\x1b[3b\x1b[1;31m", "abbbb\x1b[1;31m"),
            ("\x1b[38:2:1:2:3;48:5:200m", "\x1b[38;2;1;2;3;48;5;200m"),
            ("\x1b[5W\x1b[9G\x1b[0W", "\x1b[3g\x1b[9G\x1bH"),
            ("x\u{9b}?25", "x\x1b[?25"),
            ("x\u{9d}", "x\x1b]"),
            ("\x1b[99999999999999999999b\x1b[9999b", &" ".repeat(1000)),
            ("界\x1b[2b\x1b7\x1b", "界界界\x1b7\x1b"),
        ] {
            let wanted = wanted.to_owned();
            assert_eq!(portable(dump), wanted, "{dump:?}");
        }
    }
}
