//! Moments for people: how long ago, and spans as people write them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago a moment was, in one unit: `3 min ago`.
pub(crate) fn ago(at: u64) -> String {
    let now = now();
    match (now.saturating_sub(at) / 1_000, at > now + 1_000) {
        (_, true) => format!("in {}", span((at - now) / 1_000)),
        (0..=4, _) => "now".into(),
        (seconds, _) => format!("{} ago", span(seconds)),
    }
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

/// Milliseconds of a span such as `90s`, `15m`, `2h` or `3d`.
///
/// # Errors
/// When it is none.
pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("a span is a number with a unit: 90s, 15m, 2h or 3d".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "a span begins with a number: 90s, 15m, 2h or 3d")?;
    number.checked_mul(unit * 1_000).ok_or_else(|| "that is too long".into())
}

/// A moment: `2027-01-31T22:00:00Z` is for others to write; here it is a span from now (`2h`) or seconds since 1970 (`@1795000000`).
///
/// # Errors
/// When it is none.
pub(crate) fn parse_moment(text: &str) -> Result<u64, String> {
    match text.strip_prefix('@') {
        Some(seconds) => {
            let seconds: u64 = seconds.parse().map_err(|_| "after @ come seconds since 1970")?;
            seconds.checked_mul(1_000).ok_or_else(|| "that is too late".into())
        }
        None => Ok(now().saturating_add(parse_span(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_told() {
        assert_eq!(parse_span("90s"), Ok(90_000));
        assert_eq!(parse_span("2h"), Ok(7_200_000));
        assert_eq!(parse_moment("@17"), Ok(17_000));
        for bad in ["", "s", "5", "5x", "-1s", "99999999999999999999d"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        assert_eq!((span(5), span(300), span(90_000)), ("5 s".into(), "5 min".into(), "25 h".into()));
        assert_eq!(ago(now() - 600_000), "10 min ago");
        assert_eq!(ago(now() + 600_500), "in 10 min");
    }
}
