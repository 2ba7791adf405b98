//! Times as numbers. Clocks live elsewhere.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

/// Monotonic time in microseconds: `CLOCK_BOOTTIME`, so that a machine's sleep counts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// A time that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// This time and `by` more; it stops at [`Mono::NEVER`].
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }

    /// This time less `by`; it stops at zero.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros(by)))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Wall time in microseconds since the epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Wall(pub i64);

impl Wall {
    /// This time and `by` more.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This time less `by`.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// RFC 3339 in UTC with milliseconds, as in `2026-11-22T14:02:11.532Z`. A time that no calendar
    /// shows gives the nearest it does.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let stamp = jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        format!("{stamp:.3}")
    }

    /// To the second and without what a file's name should not have, as in `20261122T140211Z`: as text
    /// these sort by time.
    #[must_use]
    pub fn to_file_name(self) -> String {
        let text = self.to_rfc3339();
        let to_seconds = text.split_once('.').map_or(text.as_str(), |(seconds, _)| seconds);
        let digits = to_seconds.chars().filter(|char| !matches!(char, '-' | ':' | 'Z'));
        digits.chain(['Z']).collect()
    }

    /// Reads what [`Wall::to_file_name`] writes; none when it is not that.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (date, time) = name.strip_suffix('Z')?.split_once('T')?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if date.len() != 8 || time.len() != 6 || !is_number(date) || !is_number(time) {
            return None;
        }
        let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
        let (hour, minute, second) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
        Self::from_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// When `text` is not a time.
    pub fn from_rfc3339(text: &str) -> Result<Self, jiff::Error> {
        Ok(Self(text.parse::<jiff::Timestamp>()?.as_microsecond()))
    }

    /// Year, month and day in UTC, as the folders of recordings are named.
    #[must_use]
    pub fn date(self) -> (i16, i8, i8) {
        let stamp =
            jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let date = jiff::tz::Offset::UTC.to_datetime(stamp).date();
        (date.year(), date.month(), date.day())
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// A duration in whole microseconds.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_are_rfc_3339_with_milliseconds() {
        let wall = Wall(1_795_345_331_532_000);
        assert_eq!(wall.to_rfc3339(), "2026-11-22T11:02:11.532Z");
        assert_eq!(Wall::from_rfc3339("2026-11-22T11:02:11.532Z").unwrap(), wall);
        assert_eq!(wall.date(), (2026, 11, 22));
        assert_eq!(wall.to_file_name(), "20261122T110211Z");
        assert_eq!(Wall::from_file_name("20261122T110211Z"), Some(Wall(1_795_345_331_000_000)));
        for other in ["", "20261122T110211", "2026-1122T110211Z", "20261322T110211Z", "TZ"] {
            assert_eq!(Wall::from_file_name(other), None, "{other}");
        }
    }
}
