//! Dates in fields (RFC 9110 section 5.6.7).

use otaru_format::url::number;

/// Names of months, three letters each.
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// Seconds since 1970 of a date in any of the three forms: `Sun, 06 Nov 1994 08:49:37 GMT`,
/// `Sunday, 06-Nov-94 08:49:37 GMT` or `Sun Nov  6 08:49:37 1994`.
pub(super) fn seconds(date: &[u8]) -> Option<u32> {
    let mut parts =
        date.split(|b| matches!(b, b' ' | b',' | b'-' | b':')).filter(|part| !part.is_empty()).skip(1);
    let mut next = || parts.next();
    let number = |part: Option<&[u8]>| part.filter(|part| part.len() <= 4).and_then(number);
    let first = next()?;
    let ((day, month), last) = match number(Some(first)) {
        Some(day) => ((day, next()?), number(next())),
        None => ((number(next())?, first), None),
    };
    let (hour, minute, second) = (number(next())?, number(next())?, number(next())?);
    let year = match last.or_else(|| number(next()))? {
        year @ ..70 => 2000 + year,
        year @ 70..100 => 1900 + year,
        year => year,
    };
    let month = MONTHS.chunks(3).position(|name| name == month)? as u32;
    if !(1970..2100).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // From March on, so that the leap day is a year's last.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some(((days.checked_sub(719_468)? * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn every_form_is_read() {
        for (date, wanted) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 29 Feb 2024 23:59:60 GMT", 1_709_251_200),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
            ("Saturday, 28-Nov-26 00:00:00 GMT", 1_795_824_000),
        ] {
            assert_eq!(seconds(date.as_bytes()), Some(wanted), "{date}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for date in [
            "",
            "120",
            "Sun",
            "Sun, 06 Nov",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 9999 08:49:37 GMT",
            "Sun, 06 Nov 99999999999 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
        ] {
            assert_eq!(seconds(date.as_bytes()), None, "{date}");
        }
    }
}
