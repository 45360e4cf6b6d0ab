//! The `Range` header (RFC 9110, section 14.2): one range of bytes.

use std::ops::Range;

use axum::http::HeaderValue;

/// Part of a file that a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestedRange {
    /// All of it; also where the header makes no sense, or names several ranges: a server may ignore it.
    Whole,
    /// A part, which is not empty and lies within it.
    Part(Range<u64>),
    /// Something behind its end.
    Nothing,
}

/// Returns the part that `header` wants of a file of `len` bytes.
pub(super) fn wanted(header: &HeaderValue, len: u64) -> RequestedRange {
    header
        .to_str()
        .ok()
        .and_then(only_range)
        .and_then(|(first, last)| part(first, last, len))
        .unwrap_or(RequestedRange::Whole)
}

/// The range's two halves, if there is only one.
fn only_range(header: &str) -> Option<(&str, &str)> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    // Lists may have empty elements (RFC 9110, section 5.6.1.2).
    let mut ranges =
        set.split(',').map(|range| range.trim_matches([' ', '\t'])).filter(|range| !range.is_empty());
    let only = ranges.next()?;
    if ranges.next().is_some() { None } else { only.split_once('-') }
}

fn part(first: &str, last: &str, len: u64) -> Option<RequestedRange> {
    let bytes = match (first, last) {
        ("", last) => match number(last)? {
            0 => return Some(RequestedRange::Nothing),
            // An empty file has no part that could be named.
            _ if len == 0 => return None,
            count => len.saturating_sub(count)..len,
        },
        (first, "") => number(first)?..len,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            first..len.min(last.saturating_add(1))
        }
    };
    Some(if bytes.is_empty() { RequestedRange::Nothing } else { RequestedRange::Part(bytes) })
}

/// Digits alone, and as many as one likes: what is too large for a number is behind every file's end.
fn number(digits: &str) -> Option<u64> {
    let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(header: &str, len: u64) -> RequestedRange {
        wanted(&HeaderValue::from_str(header).unwrap(), len)
    }

    #[test]
    fn as_the_rfc_says() {
        use RequestedRange::{Nothing, Part, Whole};
        // The first of these are the examples of RFC 9110, section 14.1.2, for 10,000 bytes.
        for (header, wanted) in [
            ("bytes=0-499", Part(0..500)),
            ("bytes=500-999", Part(500..1000)),
            ("bytes=-500", Part(9500..10_000)),
            ("bytes=9500-", Part(9500..10_000)),
            ("bytes=0-0", Part(0..1)),
            ("bytes=0-0,-1", Whole),
            ("bytes= 0-999, 4500-5499, -1000", Whole),
            ("bytes=500-600,601-999", Whole),
            // A last position behind the end is the end; a suffix longer than the file is the file.
            ("bytes=9999-9999", Part(9999..10_000)),
            ("bytes=9000-999999999999999999999999999", Part(9000..10_000)),
            ("bytes=0-", Part(0..10_000)),
            ("bytes=-10001", Part(0..10_000)),
            ("bytes=-99999999999999999999999", Part(0..10_000)),
            ("bytes=0-18446744073709551615", Part(0..10_000)),
            // Behind the end.
            ("bytes=10000-", Nothing),
            ("bytes=10000-10001", Nothing),
            ("bytes=-0", Nothing),
            ("bytes=99999999999999999999999-", Nothing),
            // A unit's name has no case; empty list elements do not count.
            ("Bytes=1-2", Part(1..3)),
            ("bytes=,1-2 ,", Part(1..3)),
            // No range, so as if it was not there.
            ("bytes=2-1", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=1-2x", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1--2", Whole),
            ("bytes=1", Whole),
            ("bytes", Whole),
            ("lines=1-2", Whole),
            ("", Whole),
        ] {
            assert_eq!(of(header, 10_000), wanted, "{header}");
        }
        assert_eq!(of("bytes=0-", 0), Nothing);
        assert_eq!(of("bytes=-1", 0), Whole);
        assert_eq!(wanted(&HeaderValue::from_bytes(b"bytes=0-\xff").unwrap(), 10), Whole);
    }

    proptest! {
        #[test]
        fn anything_is_within_the_file_or_nothing(header in "(bytes=)?[-0-9a-z, =]{0,40}", len in 0_u64..1000) {
            if let RequestedRange::Part(part) = of(&header, len) {
                prop_assert!(part.start < part.end && part.end <= len);
            }
        }
    }
}
