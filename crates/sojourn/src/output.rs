//! How values look to people: times, durations, sizes, foreign text.

use std::io;
use std::io::BufWriter;
use std::io::IsTerminal;
use std::io::Stdout;
use std::io::Write;
use std::time::Duration;
use std::time::SystemTime;

use serde::Serialize;
use sojourn_core::time::Wall;
use sojourn_term::escape::escape;

use crate::failure::Outcome;

/// The longest foreign text outside of a table, in characters.
const LONGEST: usize = 500;

/// Standard output, buffered. It has to be flushed, so that a closed pipe is noticed.
pub(crate) fn stdout() -> BufWriter<Stdout> {
    BufWriter::new(io::stdout())
}

/// Prints one line.
pub(crate) fn say(line: impl std::fmt::Display) -> Outcome {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

/// Prints a value for programs.
pub(crate) fn json(value: &impl Serialize) -> Outcome {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Whether colours are wanted on standard output.
pub(crate) fn has_colour() -> bool {
    let refused = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused("NO_COLOR") && !dumb && io::stdout().is_terminal()
}

/// Text that came from elsewhere, made safe to print.
pub(crate) fn foreign(text: &str) -> String {
    escape(text, LONGEST)
}

/// Now, by the clock of this machine.
pub(crate) fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall::default().after(since)
}

/// A time to the second: `2026-11-22 14:02:11Z`.
pub(crate) fn time(wall: Wall) -> String {
    let text = wall.to_rfc3339().replace('T', " ");
    text.split_once('.').map_or(text.clone(), |(to_seconds, _)| format!("{to_seconds}Z"))
}

/// How long ago that was: `12 m`; nothing when it is yet to come.
pub(crate) fn since(wall: Wall) -> Duration {
    Duration::from_micros(u64::try_from(now().0.saturating_sub(wall.0)).unwrap_or(0))
}

/// A duration in its two largest units: `48m`, `1h 5m`, `3d 4h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let at = units.iter().position(|(_, size)| seconds >= *size);
    let Some(at) = at else {
        return if duration.is_zero() { "0s".to_owned() } else { "<1s".to_owned() };
    };
    let (unit, size) = units[at];
    let large = format!("{}{unit}", seconds / size);
    match units.get(at + 1) {
        Some((unit, small)) if seconds % size >= *small => {
            format!("{large} {}{unit}", seconds % size / small)
        }
        _ => large,
    }
}

/// A size with three digits or so: `17 B`, `1.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GB", 1_u64 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];
    let Some((unit, size)) = units.iter().find(|(_, size)| bytes >= *size) else {
        return format!("{bytes} B");
    };
    let whole = bytes / size;
    if whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{} {unit}", bytes % size * 10 / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_well() {
        let in_words = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(in_words(0), "0s");
        assert_eq!(in_words(59), "59s");
        assert_eq!(in_words(3600), "1h");
        assert_eq!(in_words(3900), "1h 5m");
        assert_eq!(in_words(3601), "1h", "seconds do not count beside hours");
        assert_eq!(duration(Duration::from_millis(400)), "<1s");
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1_258_291), "1.1 MB");
        assert_eq!(size(200 << 20), "200 MB");
        assert_eq!(time(Wall(1_795_345_331_532_000)), "2026-11-22 11:02:11Z");
    }
}
