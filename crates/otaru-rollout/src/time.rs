//! Moments and spans, as numbers: the engine has no clock, its caller has.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A moment: milliseconds since 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A span: milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = u64))]
#[serde(transparent)]
pub struct Span(pub u64);

impl Time {
    /// Time since `earlier`; nothing when it is not earlier, as after a clock was set back.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// This many seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(n.saturating_mul(1_000))
    }

    /// This many minutes.
    pub const fn minutes(n: u64) -> Self {
        Self::seconds(n.saturating_mul(60))
    }

    /// This many hours.
    pub const fn hours(n: u64) -> Self {
        Self::minutes(n.saturating_mul(60))
    }

    /// Twice as long, `times` times over.
    pub(crate) fn doubled(self, times: u32) -> Self {
        Self(self.0.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX)))
    }
}

/// Text that is no span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadSpan;

impl fmt::Display for BadSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a span is a number with a unit, such as 90s, 15m, 2h or 3d")
    }
}

impl std::error::Error for BadSpan {}

/// Units of spans.
const UNITS: [&str; 5] = ["s", "m", "min", "h", "d"];

impl FromStr for Span {
    type Err = BadSpan;

    /// Reads a span as people write it: `90s`, `15 min`, `2h`, `3d`, `1h 30m`.
    fn from_str(text: &str) -> Result<Self, BadSpan> {
        // Months and years have no fixed length, and `M` is easily meant for minutes.
        let mut units = text.split(|c: char| !c.is_alphabetic()).filter(|unit| !unit.is_empty()).peekable();
        if units.peek().is_none() || !units.all(|unit| UNITS.contains(&unit)) {
            return Err(BadSpan);
        }
        let span = humantime::parse_duration(text).map_err(|_| BadSpan)?;
        span.as_millis().try_into().map(Self).map_err(|_| BadSpan)
    }
}

impl Add<Span> for Time {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("15min", 900),
            ("15 min", 900),
            ("2h", 7_200),
            ("3d", 259_200),
            ("1h 30m", 5_400),
        ] {
            assert_eq!(text.parse(), Ok(Span::seconds(seconds)), "{text}");
        }
        for bad in
            ["", "0", "5", "s", "5x", "5y", "5M", "5 ms", "-1s", "2h-", "2027-01-31", "99999999999999999999d"]
        {
            assert_eq!(bad.parse::<Span>(), Err(BadSpan), "{bad}");
        }
    }
}
