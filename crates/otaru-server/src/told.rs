//! Whether something that lasts is to be told: when it begins, and once a minute.

use std::time::{Duration, Instant};

/// Interval of telling it once more.
const EVERY: Duration = Duration::from_secs(60);

/// When it was told last.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<Instant>);

impl Told {
    /// Nothing was told yet.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Notes that it is so. Says whether it is to be told now.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.is_old();
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }

    /// Whether it would be told now.
    pub(crate) fn is_old(&self) -> bool {
        self.0.is_none_or(|last| last.elapsed() >= EVERY)
    }

    /// Notes that it is over: it is told at once when it begins again.
    pub(crate) fn is_over(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_when_it_begins() {
        let (mut told, mut times) = (Told::default(), 0);
        for is_so in [false, true, true, false, true] {
            match is_so {
                true => times += u32::from(told.is_due()),
                false => told.is_over(),
            }
        }
        assert_eq!(times, 2);
    }
}
