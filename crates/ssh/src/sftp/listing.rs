//! A directory's entry as `ls -l` would show it. People read it, and so do some clients.

use sojourn_core::time::Wall;
use sojourn_core::wire::files::Attributes;

/// Older than this, the year is shown in place of the time, as `ls` does.
const HALF_A_YEAR: u64 = 182 * 86_400;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The line for an entry. How many names a file has is not known here, and shown as 1.
pub(super) fn long_name(name: &[u8], about: &Attributes, now: u64) -> Vec<u8> {
    let who = |id: u32| if id == 0 { "root".to_owned() } else { id.to_string() };
    let mut line = format!(
        "{} {:>3} {:<8} {:<8} {:>8} {} ",
        permissions(about.mode),
        1,
        who(about.uid),
        who(about.gid),
        about.size,
        time(about.mtime, now),
    )
    .into_bytes();
    // One entry is one line.
    line.extend(name.iter().map(|byte| if *byte == b'\n' { b'?' } else { *byte }));
    line
}

fn permissions(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o100_000 => '-',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '?',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// In UTC: the sandbox's own zone is its own affair.
fn time(at: u64, now: u64) -> String {
    let micros = at.saturating_mul(1_000_000);
    let text = Wall(i64::try_from(micros).unwrap_or(i64::MAX)).to_rfc3339();
    let (date, clock) = text.split_once('T').unwrap_or((&text, ""));
    let mut parts = date.rsplitn(3, '-');
    let (day, month) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let year = parts.next().unwrap_or("");
    let month = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let month = month.copied().unwrap_or("???");
    let day = day.trim_start_matches('0');
    let recent = at <= now && now - at < HALF_A_YEAR;
    if recent {
        format!("{month} {day:>2} {}", clock.get(..5).unwrap_or(clock))
    } else {
        format!("{month} {day:>2}  {year}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_look_as_ls_shows_them() {
        let now = 1_795_345_331;
        let about =
            Attributes { mode: 0o100_644, size: 12, mtime: now - 60, ..Attributes::default() };
        let line = |about: &Attributes| String::from_utf8(long_name(b"a b", about, now)).unwrap();
        assert_eq!(line(&about), "-rw-r--r--   1 root     root           12 Nov 22 11:01 a b");
        let old = Attributes { mode: 0o041_777, uid: 1000, gid: 5, mtime: 0, ..about };
        assert_eq!(line(&old), "drwxrwxrwt   1 1000     5              12 Jan  1  1970 a b");
        let odd = Attributes { mode: 0o106_640, mtime: u64::MAX, ..about };
        assert!(line(&odd).starts_with("-rwSr-S---"), "{}", line(&odd));
    }
}
