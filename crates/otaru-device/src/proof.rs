//! Proof that the broker has a report: its acknowledgement, or the report itself, coming back.
//!
//! MQTT 3.1.1 acknowledges what the broker throws away as well. So where a false answer would cost an image, the device listens to
//! its own status, if the broker lets it, and counts what it hears.

use core::time::Duration;

use crate::history::CommandId;
use crate::timeout::passed;

/// Listening to the device's own reports, on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Not wanted.
    Off,
    /// Asked for, at this time.
    Asked(Duration),
    /// The broker sends them.
    Granted,
    /// The broker does not send them: acknowledgements count.
    Denied,
}

/// Report that the broker has not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) revision: u32,
    since: Duration,
    /// Identity of the report, if it is to come back.
    echo: Option<CommandId>,
    acknowledged: bool,
}

/// Reason for giving up the wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The broker does not answer at all.
    Silent,
    /// The broker acknowledged the report and did not pass it on.
    Swallowed,
}

impl InFlight {
    /// A report that was sent.
    pub(crate) fn new(revision: u32, report: &[u8], echo: Echo, now: Duration) -> Self {
        let echo = (echo == Echo::Granted).then(|| CommandId::of(report));
        Self { revision, since: now, echo, acknowledged: false }
    }

    /// Notes the acknowledgement; says whether it is answer enough.
    pub(crate) fn acknowledge(&mut self, now: Duration) -> bool {
        (self.since, self.acknowledged) = (now, true);
        self.echo.is_none()
    }

    /// Whether these bytes are the report, coming back.
    pub(crate) fn is_echo(&self, bytes: &[u8]) -> bool {
        self.echo.is_some_and(|report| report == CommandId::of(bytes))
    }

    /// Whether the answer should have come by now.
    pub(crate) fn overdue(&self, now: Duration, limit: Duration) -> Option<Overdue> {
        passed(Some(self.since), limit, now).then_some(if self.acknowledged {
            Overdue::Swallowed
        } else {
            Overdue::Silent
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_acknowledgement_is_enough_where_nothing_comes_back() {
        for echo in [Echo::Off, Echo::Asked(SECOND), Echo::Denied] {
            let mut report = InFlight::new(7, b"report", echo, SECOND);
            assert!(!report.is_echo(b"report"), "{echo:?}");
            assert!(report.acknowledge(2 * SECOND), "{echo:?}");
        }
    }

    #[test]
    fn only_the_very_report_is_its_echo() {
        let mut report = InFlight::new(7, b"report", Echo::Granted, SECOND);
        assert!(!report.is_echo(b"an older report, retained"));
        assert!(report.is_echo(b"report"), "also before the acknowledgement");
        assert!(!report.acknowledge(SECOND));
        assert!(report.is_echo(b"report"));
    }

    #[test]
    fn silence_is_told_from_a_report_that_was_thrown_away() {
        let mut report = InFlight::new(7, b"report", Echo::Granted, SECOND);
        assert_eq!(report.overdue(10 * SECOND, LIMIT), None);
        assert_eq!(report.overdue(11 * SECOND, LIMIT), Some(Overdue::Silent));
        report.acknowledge(11 * SECOND);
        assert_eq!(report.overdue(20 * SECOND, LIMIT), None);
        assert_eq!(report.overdue(21 * SECOND, LIMIT), Some(Overdue::Swallowed));
    }
}
