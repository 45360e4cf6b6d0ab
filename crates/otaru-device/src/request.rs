//! Requests to report: answered at a random moment of their spread, and at most once a minute.

use core::time::Duration;

use otaru_format::command::ReportRequest;

use crate::timeout::passed;

/// Least time between two answers, so that whoever may publish to all cannot keep a fleet talking.
const PAUSE: Duration = Duration::from_secs(60);

/// Requests that came, and the answers to them. One answer is enough for all that wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Requests {
    due: Option<Duration>,
    answered: Option<Duration>,
}

impl Requests {
    /// Takes a request in. `chance` is any number, and chooses the moment.
    pub(crate) fn ask(&mut self, request: ReportRequest, chance: u32, now: Duration) {
        let moments = u32::from(request.spread) * 1000 + 1;
        let moment = now + Duration::from_millis((chance % moments).into());
        let moment = self.answered.map_or(moment, |answered| moment.max(answered + PAUSE));
        self.due = Some(self.due.map_or(moment, |due| due.min(moment)));
    }

    /// Whether an answer is due.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        passed(self.due, Duration::ZERO, now)
    }

    /// Notes that a report leaves now.
    pub(crate) fn answer(&mut self, now: Duration) {
        if self.is_due(now) {
            (self.due, self.answered) = (None, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otaru_format::command::MAX_SPREAD;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The moment of the answer to the first request, asked at once.
    fn moment(spread: u16, chance: u32) -> Duration {
        let mut requests = Requests::default();
        requests.ask(ReportRequest { spread }, chance, Duration::ZERO);
        requests.due.unwrap()
    }

    #[test]
    fn the_moment_lies_within_the_spread() {
        for (spread, chance, expected) in [
            (0, u32::MAX, 0),
            (1, 0, 0),
            (1, 1000, 1000),
            (1, 1001, 0),
            (40, 39_999, 39_999),
            (MAX_SPREAD, 3_600_000, 3_600_000),
        ] {
            assert_eq!(moment(spread, chance), at(expected), "{spread} {chance}");
        }
    }

    #[test]
    fn a_flood_of_requests_is_answered_once_a_minute() {
        let mut requests = Requests::default();
        let mut answers = std::vec::Vec::new();
        for second in 0..600 {
            let now = at(second * 1000);
            requests.ask(ReportRequest { spread: 0 }, 0, now);
            if requests.is_due(now) {
                requests.answer(now);
                answers.push(second);
            }
        }
        assert_eq!(answers, [0, 60, 120, 180, 240, 300, 360, 420, 480, 540]);
    }

    #[test]
    fn the_earlier_of_two_requests_is_kept_and_one_answer_is_enough() {
        let mut requests = Requests::default();
        requests.ask(ReportRequest { spread: 40 }, 30_000, at(0));
        requests.ask(ReportRequest { spread: 40 }, 10_000, at(0));
        requests.ask(ReportRequest { spread: 40 }, 20_000, at(0));
        assert!(!requests.is_due(at(9_999)));
        // A report that leaves before is none.
        requests.answer(at(9_999));
        assert!(requests.is_due(at(10_000)));
        requests.answer(at(10_000));
        assert!(!requests.is_due(at(1_000_000)));
    }
}
