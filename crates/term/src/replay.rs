//! When each piece of a recording's output is to be shown. Waiting and printing are the caller's.

use std::io::BufRead;
use std::time::Duration;

use crate::cast::Code;
use crate::cast::Event;
use crate::cast::ReadError;
use crate::cast::Reader;

/// Puts a viewer's terminal back in order, whatever was shown: the main screen, a visible cursor,
/// plain text, the usual keys, no reports of mouse, focus or paste.
pub const RESTORE: &str = "\x1b[?1049l\x1b[?25h\x1b[0m\x1b(B\x1b[?7h\x1b[?1l\x1b>\
    \x1b[?9;1000;1001;1002;1003;1004;1005;1006;1015;1016;2004l\x1b[r\x1b[!p";

/// How fast a recording is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    speed: f64,
    idle_limit: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { speed: 1.0, idle_limit: None }
    }
}

impl Pace {
    /// So many times as fast as it was, with no pause longer than `idle_limit` (as recorded, before
    /// the speed). `None` for a speed that is not a positive number.
    #[must_use]
    pub fn new(speed: f64, idle_limit: Option<Duration>) -> Option<Self> {
        (speed.is_finite() && speed > 0.0).then_some(Self { speed, idle_limit })
    }

    fn delay(&self, recorded: Duration) -> Duration {
        let capped = self.idle_limit.map_or(recorded, |limit| recorded.min(limit));
        Duration::try_from_secs_f64(capped.as_secs_f64() / self.speed).unwrap_or(Duration::MAX)
    }
}

/// Output, or an agent's event, and how long to wait before showing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Time since the frame before was due.
    pub delay: Duration,
    /// Which of them it is.
    pub code: Code,
    /// What to show.
    pub data: String,
}

/// The frames of a recording.
#[derive(Debug)]
pub struct Replay<R> {
    reader: Reader<R>,
    pace: Pace,
    shown_us: u64,
}

impl<R: BufRead> Replay<R> {
    /// Shows what `reader` has not read yet.
    pub fn new(reader: Reader<R>, pace: Pace) -> Self {
        Self { reader, pace, shown_us: 0 }
    }

    /// The recording, for its header and its tail.
    #[must_use]
    pub fn reader(&self) -> &Reader<R> {
        &self.reader
    }

    fn frame(&mut self, event: Event) -> Frame {
        let recorded = Duration::from_micros(event.time_us.saturating_sub(self.shown_us));
        self.shown_us = event.time_us;
        Frame { delay: self.pace.delay(recorded), code: event.code, data: event.data }
    }
}

impl<R: BufRead> Iterator for Replay<R> {
    type Item = Result<Frame, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.reader.next()? {
                Ok(event) if matches!(event.code, Code::Output | Code::Agent) => {
                    return Some(Ok(self.frame(event)));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAST: &str = r#"{"version":2,"width":80,"height":24}
[0.5, "o", "a"]
[1.0, "i", "x"]
[10.5, "o", "b"]
[10.500001, "m", "note"]
[11.0, "o", "c"]
"#;

    fn frames(pace: Pace) -> Vec<(u64, String)> {
        let reader = Reader::open(CAST.as_bytes()).unwrap();
        Replay::new(reader, pace)
            .map(Result::unwrap)
            .map(|frame| (u64::try_from(frame.delay.as_millis()).unwrap(), frame.data))
            .collect()
    }

    fn expect(frames: Vec<(u64, String)>, wanted: [(u64, &str); 3]) {
        assert_eq!(frames, wanted.map(|(delay, data)| (delay, data.to_owned())));
    }

    #[test]
    fn only_output_is_shown_at_its_own_time() {
        expect(frames(Pace::default()), [(500, "a"), (10_000, "b"), (500, "c")]);
    }

    #[test]
    fn pauses_are_capped_before_the_speed() {
        let pace = Pace::new(2.0, Some(Duration::from_secs(2))).unwrap();
        expect(frames(pace), [(250, "a"), (1000, "b"), (250, "c")]);
    }

    #[test]
    fn a_speed_that_is_no_speed_is_refused() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Pace::new(speed, None), None);
        }
        let crawl = Pace::new(f64::MIN_POSITIVE, None).unwrap();
        assert_eq!(crawl.delay(Duration::from_secs(1)), Duration::MAX);
    }
}
