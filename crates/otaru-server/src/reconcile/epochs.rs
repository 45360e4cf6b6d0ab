//! Order of a device's reports by their numbers, so that one that a broker kept or delivered late is known to be old. Pure.
//!
//! Within an epoch `(boots, n)` orders. An epoch that was not seen before is newer than those that were, and one that was left
//! behind is old. But a device may come back to one: its flash is restored, a spare had its name for a while, or a start could not be
//! counted. What is late is not above all that came of its epoch, and does not come twice in a row, live and rising; a device that is
//! back is and does. So it is heard again then.

use std::fmt;
use std::str::FromStr;

use otaru_format::status::{Epoch, ReportNumber};

/// Epochs of a device that are remembered.
const REMEMBERED: usize = 4;
/// Mark of the doubtful number in the database.
const DOUBT: char = '?';

/// The newest report of each of a device's last epochs, the newest epoch last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    newest: Vec<ReportNumber>,
    /// The last report, if it was live and seemed old.
    doubtful: Option<ReportNumber>,
}

impl Epochs {
    /// Takes a report's number; a `live` one was not kept by the broker. Says whether the report is no older than those that came
    /// before it.
    pub(super) fn take(&mut self, number: ReportNumber, live: bool) -> bool {
        let known = self.newest.iter().position(|known| known.epoch == number.epoch);
        let Some(at) = known else {
            if self.newest.len() >= REMEMBERED {
                self.newest.remove(0);
            }
            self.put_last(number);
            return true;
        };
        let newest = self.newest.get(at).copied().unwrap_or(number);
        let is_present = at + 1 == self.newest.len();
        let follows =
            |doubtful: ReportNumber| doubtful.epoch == number.epoch && doubtful.place() < number.place();
        let is_new = match is_present {
            true => newest.place() <= number.place(),
            false => live && newest.place() < number.place(),
        };
        if is_new || live && self.doubtful.is_some_and(follows) {
            self.newest.remove(at);
            self.put_last(number);
            return true;
        }
        if live {
            self.doubtful = Some(number);
        }
        false
    }

    fn put_last(&mut self, number: ReportNumber) {
        self.newest.push(number);
        self.doubtful = None;
    }
}

/// As the database has it.
impl fmt::Display for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest = self.newest.iter().map(|number| ("", number));
        let all = newest.chain(self.doubtful.iter().map(|number| ("?", number)));
        for (place, (mark, ReportNumber { epoch, boots, n })) in all.enumerate() {
            let between = if place == 0 { "" } else { " " };
            write!(f, "{between}{mark}{epoch}:{boots}:{n}")?;
        }
        Ok(())
    }
}

/// What cannot be read is left out: then the next report is newer.
impl From<&str> for Epochs {
    fn from(text: &str) -> Self {
        let number = |part: &str| {
            let mut fields = part.split(':');
            let epoch = Epoch::from_str(fields.next()?).ok()?;
            Some(ReportNumber { epoch, boots: fields.next()?.parse().ok()?, n: fields.next()?.parse().ok()? })
        };
        let mut epochs = Self::default();
        for part in text.split(' ') {
            match part.strip_prefix(DOUBT) {
                Some(part) => epochs.doubtful = number(part),
                None => epochs.newest.extend(number(part)),
            }
        }
        epochs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(epoch: u64, boots: u32, n: u32) -> ReportNumber {
        ReportNumber { epoch: Epoch(epoch), boots, n }
    }

    #[test]
    fn starts_and_reports_are_in_order_within_an_epoch() {
        let mut epochs = Epochs::default();
        for (boots, n, newer) in [
            (1, 1, true),
            (1, 2, true),
            (1, 2, true),
            (1, 1, false),
            (2, 1, true),
            (1, 9, false),
            (2, 1, true),
        ] {
            assert_eq!(epochs.take(number(7, boots, n), false), newer, "{boots} {n}");
        }
    }

    #[test]
    fn an_epoch_that_was_left_behind_is_old_and_one_that_was_never_seen_is_new() {
        let mut epochs = Epochs::default();
        for epoch in 1..=4 {
            assert!(epochs.take(number(epoch, 100, 100), true));
        }
        for epoch in 1..=3 {
            assert!(!epochs.take(number(epoch, 200, 200), false), "{epoch}: kept by the broker");
            assert!(!epochs.take(number(epoch, 100, 99), true), "{epoch}: late");
        }
        assert!(epochs.take(number(5, 1, 1), true));
        assert!(epochs.take(number(1, 1, 1), true), "the fifth last is forgotten");
        assert_eq!(epochs.newest.len(), REMEMBERED);
    }

    #[test]
    fn a_device_that_comes_back_to_an_epoch_is_heard_again() {
        // A start in between could not be counted, or a spare had its name.
        let mut epochs = Epochs::default();
        assert!(epochs.take(number(1, 5, 9), true));
        assert!(epochs.take(number(2, 1, 1), true));
        assert!(epochs.take(number(1, 6, 1), true));
        assert!(epochs.take(number(1, 6, 2), true));
        assert!(!epochs.take(number(2, 1, 1), false));
        // Its flash is restored: the count goes on from where it was.
        assert!(!epochs.take(number(1, 3, 1), true));
        assert!(epochs.take(number(1, 3, 2), true), "twice in a row, live and rising");
        assert!(epochs.take(number(1, 4, 1), true));
    }

    #[test]
    fn what_is_late_is_not_heard_because_it_is_repeated() {
        let mut epochs = Epochs::default();
        assert!(epochs.take(number(1, 5, 9), true));
        for _ in 0..3 {
            assert!(!epochs.take(number(1, 5, 7), true));
        }
        assert!(epochs.take(number(1, 5, 10), true));
        assert!(!epochs.take(number(1, 5, 8), true), "the doubt is over with what is new");
    }

    #[test]
    fn they_lead_back_from_the_database() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.to_string(), "");
        for epoch in [1, u64::MAX] {
            epochs.take(number(epoch, u32::MAX, 3), true);
            assert_eq!(Epochs::from(epochs.to_string().as_str()), epochs);
        }
        epochs.take(number(1, 2, 3), true);
        assert!(epochs.doubtful.is_some());
        assert_eq!(Epochs::from(epochs.to_string().as_str()), epochs);
        assert_eq!(Epochs::from(""), Epochs::default());
        assert_eq!(Epochs::from("x 1:2:3 0000000000000001:2"), Epochs::default());
    }
}
