//! The hours of a day in which updates may start.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::{Span, Time};

const DAY: u64 = 24 * 60;
const MINUTE: u64 = 60_000;

/// Daily hours, such as `22:00-06:00` (UTC) or `22:00-06:00 +02:00`. The end is not part of it; an end before the start is
/// on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// Minutes after midnight, local.
    from: u16,
    to: u16,
    /// Minutes by which local time is ahead of UTC.
    offset: i16,
}

/// The text is no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadWindow;

impl fmt::Display for BadWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a window is HH:MM-HH:MM in UTC, or with an offset of at most 14 hours as in 22:00-06:00 +02:00; its ends differ",
        )
    }
}

impl std::error::Error for BadWindow {}

impl Window {
    /// The minute of the local day, and the milliseconds of it that are over.
    fn local(self, now: Time) -> (u64, u64) {
        // Adding a day first keeps it positive: an offset is shorter than a day.
        let minutes = (now.0 / MINUTE).saturating_add(DAY).saturating_add_signed(self.offset.into());
        (minutes % DAY, now.0 % MINUTE)
    }

    /// Whether updates may start now.
    pub fn is_open(self, now: Time) -> bool {
        let (minute, _) = self.local(now);
        let (from, to) = (u64::from(self.from), u64::from(self.to));
        if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
    }

    /// Returns the time at which it is open next; `now` while it is.
    pub fn next_open(self, now: Time) -> Time {
        if self.is_open(now) {
            return now;
        }
        let (minute, over) = self.local(now);
        let minutes = (DAY + u64::from(self.from) - minute) % DAY;
        now + Span((minutes * MINUTE).saturating_sub(over))
    }
}

fn clock(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |text: &str| -> Option<u16> {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

fn offset(text: &str) -> Option<i16> {
    if matches!(text, "" | "Z" | "UTC") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let minutes = i16::try_from(clock(text.get(1..)?)?).ok()?;
    // The largest offset in use is UTC+14.
    (minutes <= 14 * 60).then_some(sign * minutes)
}

impl FromStr for Window {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        let (hours, zone) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let (from, to) = hours.split_once('-').ok_or(BadWindow)?;
        let from = clock(from).ok_or(BadWindow)?;
        let to = clock(to).ok_or(BadWindow)?;
        let offset = offset(zone.trim()).ok_or(BadWindow)?;
        if from == to { Err(BadWindow) } else { Ok(Self { from, to, offset }) }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)?;
        if self.offset != 0 {
            let sign = if self.offset < 0 { '-' } else { '+' };
            let offset = self.offset.unsigned_abs();
            write!(f, " {sign}{:02}:{:02}", offset / 60, offset % 60)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Window {
    type Error = BadWindow;

    fn try_from(text: String) -> Result<Self, BadWindow> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64, minutes: u64) -> Time {
        Time(3 * 86_400_000) + Span::hours(hours) + Span::minutes(minutes)
    }

    #[test]
    fn within_a_day() {
        let window: Window = "08:30-17:00".parse().unwrap();
        for (time, open) in [(at(8, 29), false), (at(8, 30), true), (at(16, 59), true), (at(17, 0), false)] {
            assert_eq!(window.is_open(time), open, "{time:?}");
        }
        assert_eq!(window.next_open(at(7, 0) + Span(5)), at(8, 30));
        assert_eq!(window.next_open(at(9, 0)), at(9, 0));
        assert_eq!(window.next_open(at(17, 0)), at(24 + 8, 30));
    }

    #[test]
    fn across_midnight_and_with_an_offset() {
        let window: Window = "22:00-06:00 +02:00".parse().unwrap();
        for (time, open) in [(at(19, 59), false), (at(20, 0), true), (at(0, 0), true), (at(4, 0), false)] {
            assert_eq!(window.is_open(time), open, "{time:?}");
        }
        assert_eq!(window.next_open(at(4, 0)), at(20, 0));
        let west: Window = "22:00-06:00 -05:30".parse().unwrap();
        assert!(west.is_open(at(3, 30)) && !west.is_open(at(3, 29)));
        assert!(!west.is_open(Time(0)) || west.next_open(Time(0)) == Time(0));
    }

    #[test]
    fn text_leads_back() {
        for text in ["22:00-06:00", "00:00-23:59 +14:00", "01:05-01:06 -03:30"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        assert_eq!("22:00-06:00 Z".parse::<Window>().unwrap().to_string(), "22:00-06:00");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in [
            "",
            "22-06",
            "24:00-06:00",
            "22:60-06:00",
            "06:00-06:00",
            "1:00-2:00",
            "01:00-02:00 CET",
            "01:00-02:00 +15:00",
            "é",
        ] {
            assert_eq!(bad.parse::<Window>(), Err(BadWindow), "{bad}");
        }
    }
}
