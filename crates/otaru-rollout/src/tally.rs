//! Tallies: numbers of deployments by where they stand.

use serde::{Deserialize, Serialize};

use crate::stage::Outcome;

/// Standing of a deployment, by which it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Queued, and the device can be reached.
    Ready,
    /// Queued until the device can be reached.
    Waiting,
    /// Under way.
    Active,
    /// Back on the old image, because the new one did not reach the broker; the device tries it again by itself.
    Retrying,
    /// Over.
    Finished(Outcome),
}

impl Standing {
    /// All standings.
    pub fn all() -> impl Iterator<Item = Self> {
        let open = [Self::Ready, Self::Waiting, Self::Active, Self::Retrying];
        open.into_iter().chain(Outcome::ALL.map(Self::Finished))
    }

    /// Returns the standing of this name, if there is one.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().find(|standing| standing.as_str() == name)
    }

    /// Name: that of the field in a [`Tally`], and good for a column of a database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Retrying => "retrying",
            Self::Finished(outcome) => outcome.as_str(),
        }
    }
}

/// Deployments of one wave, counted by where they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they are those of `Standing` and `Outcome`")]
pub struct Tally {
    pub ready: u32,
    pub waiting: u32,
    pub active: u32,
    pub retrying: u32,
    pub succeeded: u32,
    pub current: u32,
    pub failed: u32,
    pub rolled_back: u32,
    pub refused: u32,
    pub timed_out: u32,
    pub cancelled: u32,
    pub superseded: u32,
    pub keeps_going_back: u32,
    pub removed: u32,
}

/// Numbers of devices that have shown whether the goal is good for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Number of devices that run the image.
    pub good: u32,
    /// Number of devices that failed, refused, rolled back or took too long.
    pub bad: u32,
}

impl Verdicts {
    /// All of them.
    pub fn all(self) -> u32 {
        self.good.saturating_add(self.bad)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
    }

    /// Returns the verdicts that came after `earlier`.
    pub(crate) fn after(self, earlier: Self) -> Self {
        Self { good: self.good.saturating_sub(earlier.good), bad: self.bad.saturating_sub(earlier.bad) }
    }
}

impl Tally {
    fn field(&mut self, standing: Standing) -> &mut u32 {
        match standing {
            Standing::Ready => &mut self.ready,
            Standing::Waiting => &mut self.waiting,
            Standing::Active => &mut self.active,
            Standing::Retrying => &mut self.retrying,
            Standing::Finished(outcome) => match outcome {
                Outcome::Succeeded => &mut self.succeeded,
                Outcome::Current => &mut self.current,
                Outcome::Failed => &mut self.failed,
                Outcome::RolledBack => &mut self.rolled_back,
                Outcome::Refused => &mut self.refused,
                Outcome::TimedOut => &mut self.timed_out,
                Outcome::Cancelled => &mut self.cancelled,
                Outcome::Superseded => &mut self.superseded,
                Outcome::KeepsGoingBack => &mut self.keeps_going_back,
                Outcome::Removed => &mut self.removed,
            },
        }
    }

    /// Returns the number of deployments with this standing.
    pub fn count(mut self, standing: Standing) -> u32 {
        *self.field(standing)
    }

    pub(crate) fn enter(&mut self, standing: Standing) {
        let field = self.field(standing);
        *field = field.saturating_add(1);
    }

    pub(crate) fn leave(&mut self, standing: Standing) {
        let field = self.field(standing);
        *field = field.saturating_sub(1);
    }

    /// Deployments that are not over.
    pub fn open(&self) -> u32 {
        self.ready + self.waiting + self.active + self.retrying
    }

    /// All deployments.
    pub fn total(&self) -> u32 {
        Standing::all().map(|standing| self.count(standing)).sum()
    }

    /// Verdicts so far. Devices that had the goal already, or never got to it, show nothing.
    pub fn verdicts(&self) -> Verdicts {
        let failures = Outcome::ALL.into_iter().filter(|outcome| outcome.is_failure());
        let bad = failures.map(|outcome| self.count(Standing::Finished(outcome))).sum();
        Verdicts { good: self.succeeded, bad }
    }

    /// Evidence so far, as though devices that try the image again had failed: nothing is to spread on the hope that they succeed.
    pub fn feared(&self) -> Verdicts {
        self.verdicts().plus(Verdicts { good: 0, bad: self.retrying })
    }
}

impl<'t> std::iter::Sum<&'t Tally> for Tally {
    /// Adds up the devices of several waves, by standing.
    fn sum<I: Iterator<Item = &'t Tally>>(tallies: I) -> Self {
        let mut sum = Self::default();
        for tally in tallies {
            for standing in Standing::all() {
                *sum.field(standing) += tally.count(standing);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_again() {
        for standing in Standing::all() {
            assert_eq!(Standing::of_name(standing.as_str()), Some(standing));
        }
        assert_eq!(Standing::of_name("lost"), None);
        assert_eq!(Standing::all().count(), 14);
    }

    #[test]
    fn a_sum_has_everybody() {
        let one = Tally { ready: 1, failed: 2, removed: 3, ..Tally::default() };
        let two = Tally { failed: 4, succeeded: 5, ..Tally::default() };
        let all: Tally = [one, two].iter().sum();
        assert_eq!(all, Tally { ready: 1, failed: 6, removed: 3, succeeded: 5, ..Tally::default() });
        assert_eq!(all.total(), one.total() + two.total());
    }

    #[test]
    fn names_are_those_of_json() {
        let finished = Outcome::ALL.map(Standing::Finished);
        let open = [Standing::Ready, Standing::Waiting, Standing::Active, Standing::Retrying];
        for standing in open.into_iter().chain(finished) {
            let mut tally = Tally::default();
            tally.enter(standing);
            let json = serde_json::to_value(tally).unwrap();
            assert_eq!(json[standing.as_str()], 1);
            assert_eq!(tally.total(), 1);
            tally.leave(standing);
            assert_eq!(tally, Tally::default());
        }
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }
}
