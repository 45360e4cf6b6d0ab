//! Moments on the wire: RFC 3339 in requests and answers, milliseconds since 1970 in the engine.
//!
//! This is the one place where the two meet: every moment that leaves the server, or the command line, is a [`Timestamp`].

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Timelike as _, Utc};
use otaru_rollout::Time;
use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// Milliseconds of the last moment that has four digits for the year, 9999-12-31T23:59:59.999Z.
const LAST: u64 = 253_402_300_799_999;

/// The accepted form, in words.
const FORM: &str = "a moment as in RFC 3339, such as 2026-11-29T03:24:44Z or 2026-11-29T04:24:44.123+01:00";

/// A moment in the years 1970 to 9999, to the millisecond: as text `2026-11-29T03:24:44.123Z` (RFC 3339, in UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime, example = "2026-11-29T03:24:44.123Z"))]
pub struct Timestamp(u64);

/// Why a text is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// It has another form.
    #[error("expected {}", FORM)]
    Form,
    /// Nothing tells how far it is from UTC.
    #[error("the offset from UTC is missing at the end, Z or one such as +01:00; expected {}", FORM)]
    NoOffset,
    /// It lies outside of the years 1970 to 9999.
    #[error("the year is not one of 1970 to 9999 in UTC; expected {}", FORM)]
    Year,
    /// It has a second 60 where there can be none.
    #[error("a leap second can only be at 23:59:60 UTC; expected {}", FORM)]
    LeapSecond,
}

impl Timestamp {
    /// Returns the moment so many milliseconds after 1970-01-01T00:00:00Z, if it can be written.
    pub fn from_millis(millis: i64) -> Option<Self> {
        u64::try_from(millis).ok().filter(|millis| *millis <= LAST).map(Self)
    }

    /// Returns the milliseconds since 1970-01-01T00:00:00Z.
    pub const fn millis(self) -> i64 {
        self.0.cast_signed()
    }

    /// Returns it as a date and a time in UTC.
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.millis()).unwrap_or_default()
    }
}

/// A moment that is too late to be written is the last that can be.
impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        Self(time.0.min(LAST))
    }
}

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.utc().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// Any offset is taken, and so are `t` and `z`. What is finer than a millisecond is cut off; a leap second is the first second after
/// it, as in Unix time.
impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let Some(moment) = parse(text) else {
            let lacks_offset = parse(&format!("{text}Z")).is_some();
            return Err(if lacks_offset { TimestampError::NoOffset } else { TimestampError::Form });
        };
        let is_leap = moment.nanosecond() >= 1_000_000_000;
        if is_leap && (moment.hour(), moment.minute()) != (23, 59) {
            return Err(TimestampError::LeapSecond);
        }
        Self::from_millis(moment.timestamp_millis()).ok_or(TimestampError::Year)
    }
}

/// Parses by the grammar alone. Chrono also takes a space for the `T` and another sign for the minus.
fn parse(text: &str) -> Option<DateTime<Utc>> {
    let is_strict = text.is_ascii() && matches!(text.as_bytes().get(10), Some(b'T' | b't'));
    DateTime::parse_from_rfc3339(text).ok().filter(|_| is_strict).map(|moment| moment.to_utc())
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORM)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;
    use proptest::prelude::*;

    use super::*;

    fn millis(text: &str) -> Result<i64, TimestampError> {
        text.parse::<Timestamp>().map(Timestamp::millis)
    }

    #[test]
    fn one_moment_in_many_forms() {
        for text in [
            "2026-11-29T03:24:44.123Z",
            "2026-11-29t03:24:44.123z",
            "2026-11-29T03:24:44.123456789123Z",
            "2026-11-29T03:24:44.123+00:00",
            "2026-11-29T03:24:44.123-00:00",
            "2026-11-29T04:24:44.123+01:00",
            "2026-11-29T08:54:44.123+05:30",
            "2026-11-28T13:24:44.123-14:00",
        ] {
            assert_eq!(millis(text), Ok(1_795_922_684_123), "{text}");
        }
        assert_eq!(millis("2026-11-29T03:24:44Z"), Ok(1_795_922_684_000));
    }

    #[test]
    fn years_from_1970_to_9999() {
        for (text, is) in [("1970-01-01T00:00:00.000Z", 0), ("9999-12-31T23:59:59.999Z", LAST.cast_signed())]
        {
            assert_eq!(millis(text), Ok(is));
            assert_eq!(Timestamp::from_millis(is).unwrap().to_string(), text);
        }
        for text in [
            "1969-12-31T23:59:59.999Z",
            "1970-01-01T00:59:59+01:00",
            "9999-12-31T23:59:59-00:01",
            "9999-12-31T23:59:60Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(millis(text), Err(TimestampError::Year), "{text}");
        }
        assert_eq!((Timestamp::from_millis(-1), Timestamp::from_millis(i64::MAX)), (None, None));
        assert_eq!(Timestamp::from(Time(u64::MAX)).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_leap_second_is_the_second_after_it() {
        assert_eq!(millis("2016-12-31T23:59:60Z"), millis("2017-01-01T00:00:00Z"));
        assert_eq!(millis("2017-01-01T05:29:60.5+05:30"), millis("2017-01-01T00:00:00.5Z"));
        for text in ["2016-12-31T12:00:60Z", "2016-12-31T23:59:60+01:00"] {
            assert_eq!(millis(text), Err(TimestampError::LeapSecond), "{text}");
        }
        assert_eq!(millis("2016-12-31T23:59:61Z"), Err(TimestampError::Form));
    }

    #[test]
    fn what_is_no_moment_is_told_with_the_form() {
        for text in ["2026-11-29T03:24:44", "2026-11-29T03:24:44.123"] {
            assert_eq!(millis(text), Err(TimestampError::NoOffset), "{text}");
        }
        for text in [
            "",
            "Z",
            "now",
            "2h",
            "@1795922684",
            "1795922684123",
            "2026-11-29",
            "2026-11-29T03:24Z",
            "2026-11-29 03:24:44Z",
            "2026-11-29T03:24:44 Z",
            " 2026-11-29T03:24:44Z",
            "2026-11-29T03:24:44Z ",
            "2026-11-29T03:24:44ZZ",
            "2026-11-29T03:24:44.Z",
            "2026-11-29T03:24:44,5Z",
            "2026-11-29T03:24:44+1:00",
            "2026-11-29T03:24:44+0100",
            "2026-11-29T03:24:44+24:00",
            "2026-11-29T03:24:44+01:60",
            "2026-11-29T03:24:44\u{2212}01:00",
            "2026-11-29T24:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "12026-11-29T03:24:44Z",
            "+2026-11-29T03:24:44Z",
            "-2026-11-29T03:24:44Z",
            "26-11-29T03:24:44Z",
            "20261129T032444Z",
            "2026-W48-7T03:24:44Z",
            "２026-11-29T03:24:44Z",
        ] {
            assert_eq!(millis(text), Err(TimestampError::Form), "{text}");
        }
        for error in
            [TimestampError::Form, TimestampError::NoOffset, TimestampError::Year, TimestampError::LeapSecond]
        {
            assert!(error.to_string().contains("RFC 3339, such as 2026-11-29T03:24:44Z"), "{error}");
        }
    }

    #[test]
    fn only_texts_are_moments_in_json() {
        assert!(serde_json::from_str::<Timestamp>("\"2026-11-29T03:24:44Z\"").is_ok());
        for json in ["1795922684123", "1795922684.123", "null", "true", "{}", "[]"] {
            let error = serde_json::from_str::<Timestamp>(json).unwrap_err().to_string();
            assert!(error.contains("expected a moment as in RFC 3339"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_moment_goes_out_and_comes_back(millis in 0..=LAST) {
            let moment = Timestamp(millis);
            let text = moment.to_string();
            prop_assert_eq!(text.parse(), Ok(moment));
            prop_assert_eq!(text.len(), "2026-11-29T03:24:44.123Z".len());
            let json = serde_json::to_string(&moment).unwrap();
            prop_assert_eq!(json.clone(), format!("\"{text}\""));
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), moment);
            prop_assert_eq!(Timestamp::from(Time::from(moment)), moment);
        }

        #[test]
        fn any_offset_is_the_same_moment(millis in 86_400_000..LAST - 86_400_000, minutes in -1_439..=1_439_i32) {
            let moment = Timestamp(millis);
            let offset = FixedOffset::east_opt(minutes * 60).unwrap();
            let text = moment.utc().with_timezone(&offset).to_rfc3339_opts(SecondsFormat::Millis, false);
            prop_assert_eq!(text.parse(), Ok(moment), "{}", text);
        }

        #[test]
        fn whatever_is_taken_is_given_back(text in "[0-9]{4}-[0-1][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,12})?([Zz]|[+-][0-2][0-9]:[0-6][0-9])?") {
            if let Ok(moment) = text.parse::<Timestamp>() {
                prop_assert_eq!(moment.to_string().parse(), Ok(moment));
            }
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,40}") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
