//! Moments for people: how long ago, when by this machine's clock, and spans and moments as people write them.

use std::cmp::Reverse;

use chrono::offset::{MappedLocalTime, Offset as _};
use chrono::{Local, TimeZone};
use otaru_api::{Timestamp, TimestampError};
use otaru_rollout::{BadSpan, Span};
use otaru_server::clock::Clock;

/// Words for the forms in which a moment is taken.
const FORM: &str = "a moment is a span from now, such as 2h or 3d, or a date and a time, such as 2027-01-31T22:00:00+01:00 (RFC 3339); \
                    without an offset it is this machine's time";

/// Now.
pub(crate) fn now() -> Timestamp {
    Clock::system().now().into()
}

/// Tells how long ago a moment was, in one unit: `3 min ago`.
pub(crate) fn ago(at: Timestamp) -> String {
    let past = now().millis() - at.millis();
    if past < -1_000 {
        return format!("in {}", span(past.unsigned_abs() / 1_000));
    }
    match past / 1_000 {
        ..=4 => "now".into(),
        seconds => format!("{} ago", span(seconds.unsigned_abs())),
    }
}

/// Tells how long ago a moment was, if there is one.
pub(crate) fn since(at: Option<Timestamp>) -> String {
    at.map_or_else(String::new, ago)
}

/// Tells a moment that is ahead: how far, and when by this machine's clock, `in 2 h (2027-01-31 22:00:00 +01:00)`.
pub(crate) fn ahead(at: Timestamp) -> String {
    format!("{} ({})", ago(at), local(at))
}

/// Tells a moment by this machine's clock, with the clock's offset: `2027-01-31 22:00:00 +01:00`.
pub(crate) fn local(at: Timestamp) -> String {
    at.utc().with_timezone(&Local).format("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// A span in one unit.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Reads a span, and returns the moment so far from now.
///
/// # Errors
/// When it is none, or too long.
pub(crate) fn parse_from_now(text: &str) -> Result<Timestamp, String> {
    let Span(span) = text.parse().map_err(|error: BadSpan| error.to_string())?;
    let at = now().millis().saturating_add_unsigned(span);
    Timestamp::from_millis(at).ok_or_else(|| "that is after the year 9999".into())
}

/// Reads a moment: a span from now (`2h`), or RFC 3339 (`2027-01-31T22:00:00+01:00`). The seconds may be left out, and a space may
/// stand for the `T`; without an offset it is this machine's time.
///
/// # Errors
/// When it is none, or this machine's clock shows it twice or never.
pub(crate) fn parse_moment(text: &str) -> Result<Timestamp, String> {
    if text.parse::<Span>().is_ok() {
        return parse_from_now(text);
    }
    let (date, clock, offset) = parts(text).ok_or(FORM)?;
    let seconds = if clock.len() == "22:00".len() { ":00" } else { "" };
    let read = |offset: &str| {
        let moment = format!("{date}T{clock}{seconds}{offset}").parse();
        moment.map_err(|error| match error {
            TimestampError::Form => FORM.to_owned(),
            other => other.to_string(),
        })
    };
    if offset.is_empty() { in_zone(&Local, read("Z")?) } else { read(offset) }
}

/// Splits a moment into its date, its time and its offset, which may be missing.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let (clock, offset) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    Some((date, clock.trim_end(), offset))
}

/// Returns the moment at which clocks in a zone show what clocks in UTC show at this one.
fn in_zone<Z: TimeZone>(zone: &Z, shown: Timestamp) -> Result<Timestamp, String> {
    match zone.from_local_datetime(&shown.utc().naive_utc()) {
        MappedLocalTime::Single(moment) => {
            Timestamp::from_millis(moment.timestamp_millis()).ok_or_else(|| TimestampError::Year.to_string())
        }
        MappedLocalTime::Ambiguous(one, other) => {
            // The clock shows it first with the higher offset.
            let mut offsets = [one.offset().fix(), other.offset().fix()];
            offsets.sort_by_key(|offset| Reverse(offset.local_minus_utc()));
            let [first, second] = offsets;
            Err(format!(
                "this machine's clock shows this time twice; end it with the offset, {first} or {second}"
            ))
        }
        MappedLocalTime::None => {
            Err("this machine's clock never shows this time; give another, or end it with an offset".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;

    use super::*;

    fn from_now(seconds: i64) -> Timestamp {
        Timestamp::from_millis(now().millis() + seconds * 1_000 + 500).unwrap()
    }

    #[test]
    fn spans_are_told() {
        assert_eq!((span(5), span(300), span(90_000)), ("5 s".into(), "5 min".into(), "25 h".into()));
        assert_eq!(ago(from_now(-601)), "10 min ago");
        assert_eq!(ago(from_now(600)), "in 10 min");
        assert_eq!([ago(from_now(0)), ago(from_now(-4))], ["now", "now"]);
    }

    #[test]
    fn moments_are_read_in_every_form_that_people_write() {
        for text in [
            "2027-01-31T22:00:00Z",
            "2027-01-31t22:00:00z",
            "2027-01-31T22:00:00.000Z",
            "2027-01-31T22:00Z",
            "2027-01-31 22:00Z",
            "2027-01-31T23:00:00+01:00",
            "2027-01-31T23:00+01:00",
            "2027-01-31 23:00:00 +01:00",
            "2027-01-31T14:00-08:00",
        ] {
            assert_eq!(
                parse_moment(text).map(|at| at.to_string()),
                Ok("2027-01-31T22:00:00.000Z".into()),
                "{text}"
            );
        }
        let ahead = parse_moment("2h").unwrap().millis() - now().millis();
        assert!((7_190_000..=7_200_000).contains(&ahead), "{ahead}");
    }

    #[test]
    fn what_people_see_is_read_again() {
        let at = Timestamp::from_millis(1_795_922_684_000).unwrap();
        assert_eq!(parse_moment(&local(at)), Ok(at));
        assert_eq!(parse_moment(&at.to_string()), Ok(at));
    }

    #[test]
    fn a_time_without_an_offset_is_the_zones() {
        let shown = Timestamp::from_millis(1_795_922_684_000).unwrap();
        let east = FixedOffset::east_opt(5 * 3_600 + 1_800).unwrap();
        assert_eq!(in_zone(&east, shown).unwrap().to_string(), "2026-11-28T21:54:44.000Z");
        assert!(in_zone(&east, Timestamp::from_millis(0).unwrap()).is_err(), "that is in 1969");
    }

    #[test]
    fn what_is_no_moment_is_told_with_the_form() {
        for bad in [
            "",
            "now",
            "@1795922684",
            "1795922684123",
            "2027-01-31",
            "22:00",
            "2027-01-31T22",
            "31.1.2027 22:00",
            "2027-02-29 22:00",
            "2027-01-31 25:00",
            "2027-01-31T22:00:00+0100",
            "-2h",
        ] {
            assert_eq!(parse_moment(bad), Err(FORM.to_owned()), "{bad}");
        }
        for bad in [
            "1969-12-31T22:00Z",
            "1969-12-31 22:00",
            "9999-12-31T23:59-01:00",
            "2016-12-31T12:00:60Z",
            "99999999d",
        ] {
            assert!(parse_moment(bad).is_err_and(|why| why != FORM), "{bad}");
        }
    }
}
