//! Shares of a fleet, and where in it a device stands.

use std::fmt;
use std::str::FromStr;

use otaru_format::digest::Digest;
use serde::{Deserialize, Serialize};

/// Per cent, in steps of 0.01, from 0 to 100. As JSON it is a number: `12.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = f64, minimum = 0, maximum = 100))]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent(u16);

/// The number is not between 0 and 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPercent;

impl fmt::Display for BadPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a percentage is a number from 0 to 100")
    }
}

impl std::error::Error for BadPercent {}

impl Percent {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(10_000);

    /// A whole number of per cent; more than 100 is 100.
    pub const fn whole(n: u8) -> Self {
        if n > 100 { Self::ALL } else { Self(n as u16 * 100) }
    }

    /// Whether `part` of `whole` is at least this share; nothing of nothing never is.
    pub fn is_reached(self, part: u32, whole: u32) -> bool {
        whole > 0 && u64::from(part) * 10_000 >= u64::from(whole) * u64::from(self.0)
    }
}

impl TryFrom<f64> for Percent {
    type Error = BadPercent;

    /// Rounds to 0.01.
    fn try_from(number: f64) -> Result<Self, BadPercent> {
        // The range is checked first, so that the cast cannot cut anything off; NaN is in no range.
        if (0.0..=100.0).contains(&number) {
            Ok(Self((number * 100.0).round() as u16))
        } else {
            Err(BadPercent)
        }
    }
}

impl FromStr for Percent {
    type Err = BadPercent;

    /// A number with or without a sign behind it: `12.5`, `12.5 %`.
    fn from_str(text: &str) -> Result<Self, BadPercent> {
        let number = text.trim().trim_end_matches('%').trim_end();
        number.parse::<f64>().map_err(|_| BadPercent).and_then(Self::try_from)
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> Self {
        Self::from(percent.0) / 100.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(*self))
    }
}

/// Position of a device in a fleet that a salt has shuffled: the same always and everywhere.
///
/// It is a part of SHA-256 over salt and device, so whoever is among the first 10 % is also among the first 20 %, and
/// another salt draws other devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(u32);

impl Position {
    /// The position of `device`. `purpose` keeps draws for different ends apart.
    pub fn of(device: &str, salt: &str, purpose: &str) -> Self {
        // Lengths first: no two inputs are the same bytes.
        let text = format!("{}:{}:{salt}{purpose}{device}", salt.len(), purpose.len());
        let [a, b, c, d, ..] = Digest::of(text.as_bytes()).0;
        Self(u32::from_be_bytes([a, b, c, d]))
    }

    /// The position as a number, in whose order a database may sort: a fraction of 2³².
    pub fn number(self) -> u32 {
        self.0
    }

    /// Whether it is within the first `share` of the fleet.
    pub fn is_within(self, share: Percent) -> bool {
        (u64::from(self.0) * 10_000) >> 32 < u64::from(share.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_draws_about_that_many() {
        let within = |share| {
            (0..10_000)
                .filter(|n| Position::of(&format!("d{n}"), "salt", "target").is_within(Percent::whole(share)))
                .count()
        };
        assert_eq!(within(0), 0);
        assert_eq!(within(100), 10_000);
        // Three standard deviations of 10,000 draws at 10 % are 90.
        assert!(within(10).abs_diff(1_000) < 90, "{}", within(10));
    }

    /// Positions are kept in databases and must never move: a vector, made with `sha256sum`.
    #[test]
    fn positions_stay() {
        // printf '4:6:salttargetlamp' | sha256sum
        assert_eq!(Position::of("lamp", "salt", "target").0, 0x3f68_66eb);
    }

    #[test]
    fn numbers_of_json() {
        let percent: Percent = serde_json::from_str("12.5").unwrap();
        assert_eq!(percent, Percent(1250));
        assert_eq!(serde_json::to_string(&percent).unwrap(), "12.5");
        assert_eq!(percent.to_string(), "12.5 %");
        for bad in ["-1", "100.5", "\"5\""] {
            assert!(serde_json::from_str::<Percent>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reaching_a_share() {
        assert!(Percent::whole(50).is_reached(1, 2));
        assert!(!Percent::whole(51).is_reached(1, 2));
        assert!(!Percent::NONE.is_reached(0, 0));
        assert!(Percent::ALL.is_reached(u32::MAX, u32::MAX));
    }
}
