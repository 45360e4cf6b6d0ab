//! Choice of the MQTT version for the next connection, from what the broker answered to the ones before.
//!
//! A broker that speaks 3.1.1 only says so, or closes without a word. Both are seen here and nowhere else. What was found out is
//! kept in RAM: a broker that is replaced or updated is found out anew.

use core::time::Duration;

use otaru_format::mqtt::MqttVersion;

use crate::timeout::passed;

/// Closes without a byte under version 5, in a row, that are taken for an answer.
const ENOUGH: u8 = 2;
/// Time for which 3.1.1 is spoken after it worked; then the next connection asks for 5 again.
const RETURN: Duration = Duration::from_secs(3600);

/// Version that one connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// Result of an attempt to connect, as far as the version follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The broker took the connection, or refused it for a reason of its own, such as the login: it speaks this version.
    Spoken,
    /// The broker does not speak this version, and says so.
    Unsupported,
    /// The broker closed without a byte.
    Closed,
    /// The broker was not reached, or did not answer in time.
    Nothing,
}

/// Versions: the one that is spoken, and what led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    setting: MqttVersion,
    level: Level,
    /// Closes without a byte in a row, under this version.
    closes: u8,
    /// The same under whatever version; for people.
    all_closes: u8,
    /// Time at which 3.1.1 proved to be spoken, by the clock.
    proven: Option<Duration>,
    /// 3.1.1 is spoken because the broker closed without a byte, which may have meant something else: for one connection.
    guessed: bool,
    /// The broker has just said that it speaks the other version.
    at_once: bool,
}

impl Versions {
    /// Nothing was found out yet.
    pub(crate) const fn new(setting: MqttVersion) -> Self {
        let level = match setting {
            MqttVersion::V311 => Level::V311,
            MqttVersion::Auto | MqttVersion::V5 => Level::V5,
        };
        Self { setting, level, closes: 0, all_closes: 0, proven: None, guessed: false, at_once: false }
    }

    /// The version that a connection speaks which is opened now.
    pub(crate) fn next(&mut self, now: Duration) -> Level {
        if self.guessed && self.proven.is_some() || passed(self.proven, RETURN, now) {
            self.change(Level::V5);
        }
        self.level
    }

    /// Learns from an attempt.
    pub(crate) fn learn(&mut self, answer: Answer, now: Duration) {
        let count = |closes: u8| if answer == Answer::Closed { closes.saturating_add(1) } else { 0 };
        (self.closes, self.all_closes) = (count(self.closes), count(self.all_closes));
        let level = self.level;
        let is_over = match answer {
            Answer::Spoken => {
                if level == Level::V311 {
                    self.proven = self.proven.or(Some(now));
                }
                false
            }
            Answer::Nothing => false,
            Answer::Unsupported => true,
            Answer::Closed => level == Level::V311 || self.closes >= ENOUGH,
        };
        let changes = is_over && self.change(if level == Level::V5 { Level::V311 } else { Level::V5 });
        self.guessed = match changes {
            true => level == Level::V5 && answer == Answer::Closed,
            false => self.guessed,
        };
        self.at_once = changes && level == Level::V5 && answer == Answer::Unsupported;
    }

    /// Whether the next connection need not wait: a broker said that it speaks the version that it is opened with.
    pub(crate) const fn is_at_once(&self) -> bool {
        self.at_once
    }

    /// Whether the broker closed without a byte often enough to ask for the reason.
    pub(crate) const fn is_mute(&self) -> bool {
        self.all_closes >= ENOUGH
    }

    /// Takes the other version, where the setting allows that; says whether it does.
    fn change(&mut self, level: Level) -> bool {
        let may = matches!(self.setting, MqttVersion::Auto);
        if may {
            (self.level, self.closes) = (level, 0);
        }
        (self.proven, self.guessed) = (None, false);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Answer::{Closed, Nothing, Spoken, Unsupported};
    use Level::{V5, V311};

    const MINUTE: Duration = Duration::from_secs(60);

    /// Levels of the connections that are opened a minute after another, each after the answer to the one before.
    fn levels(setting: MqttVersion, answers: &[Answer]) -> std::vec::Vec<Level> {
        let mut versions = Versions::new(setting);
        let mut now = Duration::ZERO;
        let mut levels = std::vec![versions.next(now)];
        for answer in answers {
            versions.learn(*answer, now);
            now += MINUTE;
            levels.push(versions.next(now));
        }
        levels
    }

    #[test]
    fn the_version_follows_from_what_the_broker_says() {
        const CASES: &[(&[Answer], &[Level])] = &[
            // A broker of version 5, whatever happens.
            (&[Spoken, Nothing, Spoken, Closed, Spoken, Closed, Nothing, Closed], &[V5; 9]),
            // Login errors are spoken in its version; a bad network says nothing.
            (&[Nothing; 9], &[V5; 10]),
            // An answer decides at once,
            (&[Unsupported, Spoken, Nothing, Spoken], &[V5, V311, V311, V311, V311]),
            // two closes without a byte do, if nothing stands between them.
            (&[Closed, Closed], &[V5, V5, V311]),
            (&[Closed, Nothing, Closed, Closed], &[V5, V5, V5, V5, V311]),
            (&[Closed, Spoken, Closed, Closed], &[V5, V5, V5, V5, V311]),
            // Decided by that it holds for one connection,
            (&[Closed, Closed, Closed, Closed, Closed], &[V5, V5, V311, V5, V5, V311]),
            // also where that works: the broker may have been going down. An attempt that led nowhere was none.
            (&[Closed, Closed, Spoken, Spoken], &[V5, V5, V311, V5, V5]),
            (&[Closed, Closed, Spoken, Closed, Closed, Spoken], &[V5, V5, V311, V5, V5, V311, V5]),
            (&[Closed, Closed, Nothing, Spoken], &[V5, V5, V311, V311, V5]),
            // Silence under 3.1.1 makes 5 the next, also after it worked; so does a broker that no longer speaks it.
            (&[Unsupported, Spoken, Closed, Closed], &[V5, V311, V311, V5, V5]),
            (&[Unsupported, Closed], &[V5, V311, V5]),
            (&[Unsupported, Unsupported, Unsupported], &[V5, V311, V5, V311]),
        ];
        for (answers, expected) in CASES {
            assert_eq!(levels(MqttVersion::Auto, answers), *expected, "{answers:?}");
        }
    }

    #[test]
    fn a_version_that_was_chosen_stays() {
        for (setting, level) in [(MqttVersion::V5, V5), (MqttVersion::V311, V311)] {
            for answer in [Spoken, Unsupported, Closed, Nothing] {
                assert_eq!(levels(setting, &[answer; 90]), [level; 91], "{setting} {answer:?}");
            }
        }
    }

    #[test]
    fn version_5_is_tried_again_at_the_first_connection_an_hour_after_3_1_1_worked() {
        let mut versions = Versions::new(MqttVersion::Auto);
        versions.learn(Unsupported, Duration::ZERO);
        versions.learn(Spoken, MINUTE);
        // Connections in between put it off no further.
        for minute in 2..61 {
            assert_eq!(versions.next(minute * MINUTE), V311, "{minute}");
            versions.learn(Spoken, minute * MINUTE);
        }
        assert_eq!(versions.next(61 * MINUTE), V5);
        versions.learn(Unsupported, 61 * MINUTE);
        assert_eq!(versions.next(200 * MINUTE), V311, "it has not worked since");
        versions.learn(Spoken, 200 * MINUTE);
        assert_eq!(versions.next(259 * MINUTE), V311);
        assert_eq!(versions.next(260 * MINUTE), V5);
    }

    #[test]
    fn only_the_step_from_an_answer_under_5_is_taken_at_once() {
        let mut versions = Versions::new(MqttVersion::Auto);
        for (answer, at_once) in
            [(Closed, false), (Spoken, false), (Nothing, false), (Unsupported, true), (Unsupported, false)]
        {
            versions.learn(answer, MINUTE);
            assert_eq!(versions.is_at_once(), at_once, "{answer:?}");
        }
        let mut fixed = Versions::new(MqttVersion::V5);
        fixed.learn(Unsupported, MINUTE);
        assert!(!fixed.is_at_once());
    }

    #[test]
    fn silence_twice_is_told() {
        for setting in [MqttVersion::Auto, MqttVersion::V5, MqttVersion::V311] {
            let mut versions = Versions::new(setting);
            for count in 1..600 {
                versions.learn(Closed, MINUTE);
                assert_eq!(versions.is_mute(), count >= 2, "{setting} {count}");
            }
            versions.learn(Nothing, MINUTE);
            assert!(!versions.is_mute());
        }
    }
}
