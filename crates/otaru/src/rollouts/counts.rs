//! Deployments of a rollout, counted by where they stand.

use otaru_rollout::Outcome;
use serde_json::Value;

/// Deployments by where they stand, of one wave or all.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    pub(crate) ready: u64,
    pub(crate) good: u64,
    pub(crate) bad: u64,
    pub(crate) active: u64,
    pub(crate) retrying: u64,
    pub(crate) waiting: u64,
    pub(crate) going_back: u64,
}

impl Counts {
    pub(crate) fn of(tally: &Value) -> Self {
        let number = |name: &str| tally[name].as_u64().unwrap_or(0);
        let outcomes = |counts: fn(Outcome) -> bool| {
            Outcome::ALL
                .into_iter()
                .filter(|outcome| counts(*outcome))
                .map(|outcome| number(outcome.as_str()))
                .sum()
        };
        let total = tally.as_object().map_or(0, |fields| fields.values().filter_map(Value::as_u64).sum());
        Self {
            total,
            ready: number("ready"),
            good: outcomes(Outcome::is_good),
            bad: outcomes(Outcome::is_failure),
            active: number("active"),
            retrying: number("retrying"),
            waiting: number("waiting"),
            going_back: number("keeps_going_back"),
        }
    }

    pub(crate) fn all(rollout: &Value) -> Self {
        rollout["tallies"].as_array().into_iter().flatten().map(Self::of).fold(
            Self::default(),
            |sum, more| Self {
                total: sum.total + more.total,
                ready: sum.ready + more.ready,
                good: sum.good + more.good,
                bad: sum.bad + more.bad,
                active: sum.active + more.active,
                retrying: sum.retrying + more.retrying,
                waiting: sum.waiting + more.waiting,
                going_back: sum.going_back + more.going_back,
            },
        )
    }

    /// Returns the number of deployments that have not ended.
    pub(crate) fn open(self) -> u64 {
        self.ready + self.active + self.retrying + self.waiting
    }

    pub(crate) fn words(self) -> String {
        if self.total == 0 {
            return "no devices yet".into();
        }
        let mut parts = vec![format!("{} of {} done", self.good, self.total)];
        let others = [
            (self.active, "updating"),
            (self.retrying, "unreachable, will be tried again"),
            (self.bad, "failed"),
            (self.going_back, "keeps going back"),
            (self.waiting, "away"),
        ];
        for (count, word) in others {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        parts.join(", ")
    }
}
