//! Durations and sizes as people write them: `1h30m`, `256MB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// The longest duration anybody may ask for: 100 years of 365 days.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Why a text is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not of the form.
    #[error(
        "{0:?} is not a duration; write it like \"500ms\", \"5s\", \"30m\", \"1h30m\" or \"7d\""
    )]
    Duration(String),
    /// More than [`LONGEST`].
    #[error("{0:?} is longer than 100 years")]
    TooLong(String),
    /// Not of the form.
    #[error("{0:?} is not a size; write it like \"512\", \"50MB\" or \"1GB\" (powers of 1024)")]
    Size(String),
    /// Does not fit.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// A duration in configuration and messages. Zero is written `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// Whether it is zero, which often means "none".
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// The duration, or none when it is zero.
    #[must_use]
    pub fn limit(self) -> Option<Duration> {
        (!self.is_zero()).then_some(self.0)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let malformed = || UnitError::Duration(text.to_owned());
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut total = Duration::ZERO;
        let mut last_unit = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
            let (number, tail) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| malformed())?;
            let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let millis: u64 = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(malformed()),
            };
            // Units go from large to small, each once: "30m1h" is more likely a slip than meant.
            if millis >= last_unit {
                return Err(malformed());
            }
            last_unit = millis;
            let part = number.checked_mul(millis).map(Duration::from_millis);
            total = part
                .and_then(|part| total.checked_add(part))
                .filter(|sum| *sum <= LONGEST)
                .ok_or_else(|| UnitError::TooLong(text.to_owned()))?;
            rest = tail;
        }
        if text.is_empty() { Err(malformed()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Span {
    /// As configuration writes it: `1h30m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0");
        }
        for (unit, size) in
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)]
        {
            if millis / size > 0 {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

/// A duration for a message to people, in the largest whole unit: `30 min`, `90 s`, `4 h`.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{} {unit}", millis / size);
        }
    }
    format!("{millis} ms")
}

/// The same with whole words: `4 hours`, `1 minute`, `90 seconds`.
#[must_use]
pub fn in_full_words(duration: Duration) -> String {
    let short = in_words(duration);
    let Some((number, unit)) = short.split_once(' ') else { return short };
    let unit = match unit {
        "d" => "day",
        "h" => "hour",
        "min" => "minute",
        "s" => "second",
        _ => "millisecond",
    };
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// A number of bytes in configuration and messages; KB, MB, GB are powers of 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

const SIZES: [(&str, u64); 4] =
    [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];

impl Size {
    /// So many units of 1024 × 1024 bytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The bytes, or none when it is zero.
    #[must_use]
    pub fn limit(self) -> Option<u64> {
        (self.0 != 0).then_some(self.0)
    }

    /// For a message to people, in the largest whole unit: `100 MB`.
    #[must_use]
    pub fn in_words(self) -> String {
        let unit = SIZES.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        unit.map_or_else(
            || format!("{} bytes", self.0),
            |(unit, size)| format!("{} {unit}", self.0 / size),
        )
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let malformed = || UnitError::Size(text.to_owned());
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(malformed());
        }
        let factor = match unit.trim_start() {
            "" | "B" => 1,
            unit => SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?.1,
        };
        let number: u64 = number.parse().map_err(|_| UnitError::TooLarge(text.to_owned()))?;
        number
            .checked_mul(factor)
            .filter(|bytes| *bytes <= 1 << 60)
            .map(Self)
            .ok_or_else(|| UnitError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for Size {
    /// As configuration writes it: `256MB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZES.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Span);
as_text!(Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show_alike() {
        for (text, millis) in [
            ("0", 0),
            ("500ms", 500),
            ("5s", 5000),
            ("30m", 1_800_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0.as_millis(), millis, "{text}");
            assert_eq!(span.to_string(), text);
        }
    }

    #[test]
    fn odd_durations_are_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "30m1h", "1h1h", "1.5h", "5sec", "١s"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
        assert!(matches!("36501d".parse::<Span>(), Err(UnitError::TooLong(_))));
        assert!(matches!("99999999999999999999d".parse::<Span>(), Err(UnitError::Duration(_))));
        assert!("36500d".parse::<Span>().is_ok());
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!("256MB".parse::<Size>().unwrap(), Size::mib(256));
        assert_eq!("0".parse::<Size>().unwrap(), Size(0));
        assert_eq!(Size::mib(100).in_words(), "100 MB");
        assert_eq!(Size(1500).to_string(), "1500");
        for text in ["", "MB", "1.5GB", "-1", "1XB", "99999999999999999999"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn messages_use_the_largest_whole_unit() {
        assert_eq!(in_words(Duration::from_secs(1800)), "30 min");
        assert_eq!(in_words(Duration::from_secs(90)), "90 s");
        assert_eq!(in_words(Duration::from_millis(500)), "500 ms");
        assert_eq!(in_words(Duration::from_secs(4 * 3600)), "4 h");
    }
}
