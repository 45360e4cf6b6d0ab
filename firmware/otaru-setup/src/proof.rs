//! Rules for settings that were entered: they are tried, and count once the broker took a report.
//!
//! Settings that do not get there in [`PATIENCE`] minutes of uptime give way to those that did, to those of the build, or to
//! set-up. Settings that got there once stay, however long the network is away: they never open the access point.

use crate::settings::Settings;

/// Minutes of uptime, over restarts, that entered settings have to reach the broker.
pub const PATIENCE: u8 = 10;

/// State of entered settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They are tried, since so many minutes.
    Tried(u8),
    /// The broker took a report: they work.
    Proven,
    /// They had their time.
    GivenUp,
}

impl Standing {
    /// The byte for it, in flash.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tried(minutes) => minutes,
            Self::Proven => 0xA5,
            Self::GivenUp => 0xC3,
        }
    }

    /// Reads the byte. One that makes no sense is settings that are still to be tried.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0xA5 => Self::Proven,
            0xC3 => Self::GivenUp,
            minutes if minutes < PATIENCE => Self::Tried(minutes),
            _ => Self::Tried(0),
        }
    }

    /// After one more minute, in which the broker took a report or not.
    #[must_use]
    pub const fn after_minute(self, reached: bool) -> Self {
        match self {
            Self::Tried(_) if reached => Self::Proven,
            Self::Tried(minutes) if minutes + 1 < PATIENCE => Self::Tried(minutes + 1),
            Self::Tried(_) => Self::GivenUp,
            done => done,
        }
    }
}

/// Settings that a device knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSettings {
    /// Settings entered last, and how they stand.
    pub entered: Option<(Settings, Standing)>,
    /// Settings that worked last.
    pub good: Option<Settings>,
    /// Some are kept, or may be, that cannot be read.
    pub unreadable: bool,
    /// Settings of the build.
    pub built_in: Option<Settings>,
}

/// Decision what to do with them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap to box settings in, and one choice at a time"
)]
pub enum Choice {
    /// Join with these. With a standing they are still to be proved.
    Join(Settings, Option<Standing>),
    /// Open the access point. It closes when nobody comes if there are settings to go on with: those that were entered and did
    /// not work, as the broker may have been away, or those that could not be read.
    SetUp {
        /// Whether there are such settings.
        again: bool,
    },
}

/// Chooses.
pub fn choose(known: KnownSettings) -> Choice {
    let KnownSettings { entered, good, unreadable, built_in } = known;
    match entered {
        Some((settings, Standing::Proven)) => Choice::Join(settings, None),
        Some((settings, standing @ Standing::Tried(_))) => Choice::Join(settings, Some(standing)),
        other => match good.or(built_in) {
            Some(settings) => Choice::Join(settings, None),
            None => Choice::SetUp { again: other.is_some() || unreadable },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(host: &str) -> Settings {
        let mut settings = Settings::new();
        settings.add_network("attic", "").unwrap();
        settings.set_broker(host, 1883).unwrap();
        settings
    }

    fn known(entered: Option<Standing>, good: bool, built_in: bool) -> KnownSettings {
        KnownSettings {
            entered: entered.map(|standing| (settings("new"), standing)),
            good: good.then(|| settings("good")),
            unreadable: false,
            built_in: built_in.then(|| settings("built-in")),
        }
    }

    #[test]
    fn settings_that_never_work_give_way() {
        let mut standing = Standing::Tried(0);
        for minute in 1..PATIENCE {
            // Over a restart after each minute.
            standing = Standing::from_number(standing.after_minute(false).number());
            assert_eq!(standing, Standing::Tried(minute));
            assert_eq!(
                choose(known(Some(standing), true, true)),
                Choice::Join(settings("new"), Some(standing))
            );
        }
        standing = Standing::from_number(standing.after_minute(false).number());
        assert_eq!(standing, Standing::GivenUp);
        assert_eq!(choose(known(Some(standing), true, true)), Choice::Join(settings("good"), None));
        assert_eq!(choose(known(Some(standing), false, true)), Choice::Join(settings("built-in"), None));
        assert_eq!(choose(known(Some(standing), false, false)), Choice::SetUp { again: true });
    }

    #[test]
    fn settings_that_worked_once_never_open_the_access_point() {
        for minutes in 0..PATIENCE {
            let mut standing = Standing::Tried(minutes).after_minute(true);
            assert_eq!(standing, Standing::Proven);
            for _ in 0..1000 {
                standing = Standing::from_number(standing.after_minute(false).number());
                assert_eq!(choose(known(Some(standing), false, false)), Choice::Join(settings("new"), None));
            }
        }
        // Nor do they when later ones do not work, or cannot be read.
        for entered in [None, Some(Standing::GivenUp)] {
            assert_eq!(choose(known(entered, true, false)), Choice::Join(settings("good"), None));
        }
    }

    #[test]
    fn a_device_that_was_told_nothing_asks() {
        assert_eq!(choose(known(None, false, false)), Choice::SetUp { again: false });
        assert_eq!(choose(known(None, false, true)), Choice::Join(settings("built-in"), None));
    }

    #[test]
    fn any_byte_is_a_standing() {
        for number in 0..=255 {
            let standing = Standing::from_number(number);
            assert_eq!(Standing::from_number(standing.number()), standing);
        }
    }
}
