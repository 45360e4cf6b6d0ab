//! Order of a device's reports by their numbers, so that one that a broker kept or delivered late is known to be old. Pure.
//!
//! Within an epoch `(boots, n)` orders. An epoch that was not seen before is newer than those that were, and one that was left
//! behind is old: a device draws a new one when its memory is blank, and never goes back.

use std::fmt;
use std::str::FromStr;

use otaru_format::status::{Epoch, ReportNumber};

/// Epochs of a device that are remembered.
const REMEMBERED: usize = 4;

/// The newest report of each of a device's last epochs, the newest epoch last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Epochs(Vec<ReportNumber>);

impl Epochs {
    /// Takes a report's number. Says whether the report is no older than those that came before it.
    pub(super) fn take(&mut self, number: ReportNumber) -> bool {
        let known = self.0.iter().position(|known| known.epoch == number.epoch);
        let last = self.0.len().checked_sub(1);
        match known {
            None => {
                if self.0.len() >= REMEMBERED {
                    self.0.remove(0);
                }
                self.0.push(number);
                true
            }
            Some(place) if Some(place) == last => match self.0.get_mut(place) {
                Some(newest) if (newest.boots, newest.n) <= (number.boots, number.n) => {
                    *newest = number;
                    true
                }
                _ => false,
            },
            Some(_) => false,
        }
    }
}

/// As the database has it.
impl fmt::Display for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, ReportNumber { epoch, boots, n }) in self.0.iter().enumerate() {
            let between = if place == 0 { "" } else { " " };
            write!(f, "{between}{epoch}:{boots}:{n}")?;
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
        Self(text.split(' ').filter_map(number).collect())
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
            assert_eq!(epochs.take(number(7, boots, n)), newer, "{boots} {n}");
        }
    }

    #[test]
    fn an_epoch_that_was_left_behind_is_old_and_one_that_was_never_seen_is_new() {
        let mut epochs = Epochs::default();
        for epoch in 1..=4 {
            assert!(epochs.take(number(epoch, 100, 100)));
        }
        for epoch in 1..=3 {
            assert!(!epochs.take(number(epoch, 200, 200)), "{epoch}");
        }
        assert!(epochs.take(number(5, 1, 1)));
        assert!(epochs.take(number(1, 1, 1)), "the fifth last is forgotten");
        assert_eq!(epochs.0.len(), REMEMBERED);
    }

    #[test]
    fn they_lead_back_from_the_database() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.to_string(), "");
        for epoch in [1, u64::MAX] {
            epochs.take(number(epoch, u32::MAX, 3));
        }
        assert_eq!(Epochs::from(epochs.to_string().as_str()), epochs);
        assert_eq!(Epochs::from(""), Epochs::default());
        assert_eq!(Epochs::from("x 1:2:3 0000000000000001:2"), Epochs::default());
    }
}
