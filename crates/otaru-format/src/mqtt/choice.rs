//! The version of MQTT to speak next, by what a broker said so far, the same for devices and for programs. Pure: no I/O, no clock.
//!
//! Only an answer changes the version. A broker that says that it does not speak 5 is believed for an hour. One that closes the
//! connection at a CONNECT without a word may mean the same, or may be going down: so this counts when it happens twice in a row, and
//! for one connection only. Errors of logins and networks say nothing about versions.

use core::time::Duration;

use super::setting::{MqttVersion, Version};

/// Time after a success under 3.1.1, beginning with which a reconnect tries 5 again.
pub const TRY_5_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Connections in a row that a broker must close without a byte to be asked in 3.1.1.
const CLOSED_IN_A_ROW: u8 = 2;

/// Outcome of an attempt to connect, as far as it tells a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The broker let us in.
    Accepted,
    /// The broker says that it does not speak this version.
    WrongVersion,
    /// The broker closed the connection after the CONNECT, without a byte.
    ClosedWithoutAByte,
    /// Anything else: no network, no answer, a wrong login, a refusal.
    SaysNothing,
}

/// Advice after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try at once: the broker said which version it does not want.
    AtOnce,
    /// The same broker may answer the next attempt.
    Soon,
    /// Another attempt has no better chance now: tell what happened, and try later.
    Later,
}

/// Findings about a broker, and with them the version of the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionChoice {
    setting: MqttVersion,
    found: Found,
    /// Connections in a row that were closed under 5 without a byte.
    closed: u8,
    /// Whether neither version got a byte.
    silent: bool,
}

/// Reasons to speak 3.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// None.
    Nothing,
    /// The broker said that it does not speak 5.
    Told {
        /// Moment of the first success under 3.1.1 since.
        accepted: Option<Duration>,
    },
    /// It closed without a byte.
    Guessed,
}

impl VersionChoice {
    /// Nothing is found out yet.
    pub const fn new(setting: MqttVersion) -> Self {
        Self { setting, found: Found::Nothing, closed: 0, silent: false }
    }

    /// Returns the version of an attempt that begins at `now`, counted from any moment that stays the same.
    pub fn begin(&mut self, now: Duration) -> Version {
        if let Found::Told { accepted: Some(accepted) } = self.found
            && now.saturating_sub(accepted) >= TRY_5_AGAIN
        {
            self.found = Found::Nothing;
        }
        self.version()
    }

    fn version(&self) -> Version {
        match (self.setting, self.found) {
            (MqttVersion::V5, _) | (MqttVersion::Auto, Found::Nothing) => Version::V5,
            (MqttVersion::V311, _) | (MqttVersion::Auto, _) => Version::V311,
        }
    }

    /// Takes the outcome of the attempt that [`begin`](Self::begin) gave the version of.
    pub fn note(&mut self, outcome: Outcome, now: Duration) -> Next {
        if self.setting != MqttVersion::Auto {
            self.silent = outcome == Outcome::ClosedWithoutAByte;
            return Next::Later;
        }
        match self.version() {
            Version::V5 => self.note_under_5(outcome),
            Version::V311 => self.note_under_311(outcome, now),
        }
    }

    fn note_under_5(&mut self, outcome: Outcome) -> Next {
        let closed = self.closed.saturating_add(1);
        (self.closed, self.silent) = (0, false);
        match outcome {
            Outcome::Accepted | Outcome::SaysNothing => Next::Later,
            Outcome::WrongVersion => {
                self.found = Found::Told { accepted: None };
                Next::AtOnce
            }
            Outcome::ClosedWithoutAByte => {
                match closed >= CLOSED_IN_A_ROW {
                    true => self.found = Found::Guessed,
                    false => self.closed = closed,
                }
                Next::Soon
            }
        }
    }

    fn note_under_311(&mut self, outcome: Outcome, now: Duration) -> Next {
        self.silent = outcome == Outcome::ClosedWithoutAByte && self.found == Found::Guessed;
        self.found = match (outcome, self.found) {
            (Outcome::Accepted, Found::Told { accepted }) => {
                Found::Told { accepted: Some(accepted.unwrap_or(now)) }
            }
            (Outcome::SaysNothing, found) => found,
            // A guess holds for one connection; and a broker that takes 3.1.1 as little as 5 is asked in 5 next.
            (Outcome::Accepted | Outcome::WrongVersion | Outcome::ClosedWithoutAByte, _) => Found::Nothing,
        };
        Next::Later
    }

    /// Tells whether the broker closed every connection without a byte, in all versions that may be spoken: a port of TLS does that.
    pub const fn is_silent(&self) -> bool {
        self.silent
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{
        Accepted as Yes, ClosedWithoutAByte as Closed, SaysNothing as Nothing, WrongVersion as Wrong,
    };
    use super::Version::{V5, V311};
    use super::*;
    use std::vec::Vec;

    /// Minute of an attempt, the version it must have, what came of it.
    type Attempt = (u64, Version, Outcome);

    fn run(setting: MqttVersion, attempts: &[Attempt]) -> VersionChoice {
        let mut choice = VersionChoice::new(setting);
        for (at, (minute, version, outcome)) in attempts.iter().enumerate() {
            let now = Duration::from_secs(60 * minute);
            assert_eq!(choice.begin(now), *version, "attempt {at} of {attempts:?}");
            choice.note(*outcome, now);
        }
        choice
    }

    #[test]
    fn versions_by_what_the_broker_says() {
        for attempts in [
            // It speaks 5.
            &[(0, V5, Yes), (500, V5, Yes)][..],
            // It says that it does not: at once, and for an hour after a success.
            &[
                (0, V5, Wrong),
                (0, V311, Yes),
                (59, V311, Yes),
                (60, V5, Wrong),
                (60, V311, Yes),
                (119, V311, Yes),
            ],
            // The hour counts from the first success: a link that breaks often does not put it off.
            &[(0, V5, Wrong), (0, V311, Yes), (50, V311, Yes), (60, V5, Yes), (61, V5, Yes)],
            // Without a success nothing is over.
            &[(0, V5, Wrong), (0, V311, Nothing), (500, V311, Nothing), (501, V311, Yes), (560, V311, Yes)],
            // It closes without a byte: the second time, and for one connection.
            &[
                (0, V5, Closed),
                (0, V5, Closed),
                (0, V311, Yes),
                (1, V5, Closed),
                (1, V5, Closed),
                (1, V311, Yes),
            ],
            &[(0, V5, Closed), (0, V5, Closed), (0, V311, Yes), (1, V5, Yes)],
            // In a row.
            &[
                (0, V5, Closed),
                (0, V5, Nothing),
                (0, V5, Closed),
                (0, V5, Yes),
                (1, V5, Closed),
                (1, V5, Nothing),
            ],
            // A network that is away under the guess has not answered it.
            &[
                (0, V5, Closed),
                (0, V5, Closed),
                (0, V311, Nothing),
                (0, V311, Nothing),
                (1, V311, Yes),
                (2, V5, Yes),
            ],
            // Silence under 3.1.1, too, makes 5 the next.
            &[
                (0, V5, Closed),
                (0, V5, Closed),
                (0, V311, Closed),
                (0, V5, Closed),
                (0, V5, Closed),
                (0, V311, Yes),
            ],
            &[(0, V5, Wrong), (0, V311, Yes), (5, V311, Closed), (5, V5, Wrong), (5, V311, Yes)],
            // It wants neither.
            &[(0, V5, Wrong), (0, V311, Wrong), (0, V5, Wrong), (0, V311, Wrong)],
            // Logins, refusals and networks never.
            &[(0, V5, Nothing), (0, V5, Nothing), (0, V5, Nothing), (100, V5, Nothing)],
        ] {
            run(MqttVersion::Auto, attempts);
        }
    }

    #[test]
    fn a_version_that_is_set_stays() {
        for (setting, version) in [(MqttVersion::V5, V5), (MqttVersion::V311, V311)] {
            let attempts: Vec<Attempt> = [Wrong, Closed, Closed, Closed, Yes, Nothing, Wrong]
                .map(|outcome| (100, version, outcome))
                .into();
            run(setting, &attempts);
        }
    }

    #[test]
    fn silence_is_told_once_no_version_has_an_answer() {
        for (setting, attempts, silent) in [
            (MqttVersion::Auto, &[(0, V5, Closed)][..], false),
            (MqttVersion::Auto, &[(0, V5, Closed), (0, V5, Closed)], false),
            (MqttVersion::Auto, &[(0, V5, Closed), (0, V5, Closed), (0, V311, Closed)], true),
            (MqttVersion::Auto, &[(0, V5, Closed), (0, V5, Closed), (0, V311, Closed), (0, V5, Yes)], false),
            (MqttVersion::Auto, &[(0, V5, Closed), (0, V5, Closed), (0, V311, Nothing)], false),
            // It spoke before.
            (MqttVersion::Auto, &[(0, V5, Wrong), (0, V311, Yes), (0, V311, Closed)], false),
            (MqttVersion::V5, &[(0, V5, Closed)], true),
            (MqttVersion::V311, &[(0, V311, Closed)], true),
            (MqttVersion::V311, &[(0, V311, Closed), (0, V311, Yes)], false),
        ] {
            assert_eq!(run(setting, attempts).is_silent(), silent, "{setting} {attempts:?}");
        }
    }

    #[test]
    fn advice_ends() {
        let mut choice = VersionChoice::new(MqttVersion::Auto);
        let mut after = |outcome| choice.note(outcome, Duration::ZERO);
        let told = [Wrong, Wrong].map(&mut after);
        assert_eq!(told, [Next::AtOnce, Next::Later]);
        let silent = [Closed, Closed, Closed].map(&mut after);
        assert_eq!(silent, [Next::Soon, Next::Soon, Next::Later]);
        assert_eq!(after(Nothing), Next::Later);
        assert_eq!(VersionChoice::new(MqttVersion::V5).note(Wrong, Duration::ZERO), Next::Later);
    }
}
