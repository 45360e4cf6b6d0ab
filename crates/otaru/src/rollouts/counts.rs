//! Deployments of a rollout, counted by where they stand.

use std::collections::BTreeMap;

use otaru_api::{Rollout, WaveTally};
use otaru_rollout::{Outcome, Standing, Tally};

use crate::ui;

/// Deployments by where they stand, of one wave or all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    known: Tally,
    /// Deployments by standings that only a newer server has.
    others: BTreeMap<String, u64>,
}

impl Counts {
    pub(crate) fn of(wave: &WaveTally) -> Self {
        Self::sum(std::slice::from_ref(wave))
    }

    pub(crate) fn all(rollout: &Rollout) -> Self {
        Self::sum(&rollout.tallies)
    }

    fn sum(waves: &[WaveTally]) -> Self {
        let known = waves.iter().map(|wave| &wave.known).sum();
        let mut others = BTreeMap::new();
        for (name, count) in waves.iter().flat_map(WaveTally::others).filter(|(_, count)| *count > 0) {
            *others.entry(name.to_owned()).or_default() += count;
        }
        Self { known, others }
    }

    /// Returns the number of deployments with this standing.
    pub(crate) fn count(&self, standing: Standing) -> u64 {
        self.known.count(standing).into()
    }

    fn outcomes(&self, counts: fn(Outcome) -> bool) -> u64 {
        let outcomes = Outcome::ALL.into_iter().filter(|outcome| counts(*outcome));
        outcomes.map(|outcome| self.count(Standing::Finished(outcome))).sum()
    }

    pub(crate) fn good(&self) -> u64 {
        self.outcomes(Outcome::is_good)
    }

    pub(crate) fn bad(&self) -> u64 {
        self.outcomes(Outcome::is_failure)
    }

    pub(crate) fn total(&self) -> u64 {
        u64::from(self.known.total()) + self.others.values().sum::<u64>()
    }

    /// Those that have not ended.
    pub(crate) fn open(&self) -> u64 {
        self.known.open().into()
    }

    pub(crate) fn words(&self) -> String {
        if self.total() == 0 {
            return "no devices yet".into();
        }
        let mut parts = vec![format!("{} of {} done", self.good(), self.total())];
        let known = [
            (self.count(Standing::Active), "updating"),
            (self.count(Standing::Retrying), "unreachable, will be tried again"),
            (self.bad(), "failed"),
            (self.count(Standing::Finished(Outcome::KeepsGoingBack)), "keeps going back"),
            (self.count(Standing::Waiting), "away"),
        ];
        let known = known.into_iter().map(|(count, word)| (count, word.to_owned()));
        let others = self.others.iter().map(|(name, count)| (*count, ui::clean(&name.replace('_', " "))));
        for (count, word) in known.chain(others).filter(|(count, _)| *count > 0) {
            parts.push(format!("{count} {word}"));
        }
        parts.join(", ")
    }
}
