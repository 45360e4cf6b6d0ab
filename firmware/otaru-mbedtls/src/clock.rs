//! Time of day: at the least, and exactly once a server of time has said so.
#![forbid(unsafe_code)]

use core::cell::Cell;
use core::time::Duration;

use critical_section::Mutex;

/// Whether dates in certificates are checked. A prebuilt Mbed TLS has no clock.
pub const CHECKS_DATES: bool = cfg!(feature = "dated");

/// Clock that never runs below a moment that is known to be past. Made for a `static`.
pub struct WallClock {
    state: Mutex<Cell<State>>,
    uptime: fn() -> Duration,
}

#[derive(Clone, Copy)]
struct State {
    /// Seconds since 1970 at the start, or before it.
    start: u64,
    /// Whether `start` is the start's moment.
    known: bool,
}

impl WallClock {
    /// Returns a clock that starts at a moment which is past for sure, in seconds since 1970: that of the build. `uptime` is the time since
    /// the start.
    pub const fn new(past: u64, uptime: fn() -> Duration) -> Self {
        Self { state: Mutex::new(Cell::new(State { start: past, known: false })), uptime }
    }

    /// Seconds since 1970: the time where it is known, else a moment that is past.
    pub fn now(&self) -> u64 {
        self.state().start.saturating_add((self.uptime)().as_secs())
    }

    /// Whether [`WallClock::now`] is the time, and not only a moment that is past.
    pub fn is_known(&self) -> bool {
        self.state().known
    }

    /// Notes that this moment, in seconds since 1970, was past at the start, as one that was kept over a restart is.
    pub fn was_past(&self, moment: u64) {
        self.change(|state| {
            if !state.known {
                state.start = state.start.max(moment);
            }
        });
    }

    /// Sets the time, in seconds since 1970. Returns whether it was taken: a moment before what is past for sure is not.
    pub fn set(&self, now: u64) -> bool {
        let uptime = (self.uptime)().as_secs();
        let mut taken = false;
        self.change(|state| {
            let start = now.saturating_sub(uptime);
            // A clock that was set may be put right, to either side.
            taken = state.known || start >= state.start;
            if taken {
                *state = State { start, known: true };
            }
        });
        taken
    }

    fn state(&self) -> State {
        critical_section::with(|section| self.state.borrow(section).get())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        critical_section::with(|section| {
            let cell = self.state.borrow(section);
            let mut state = cell.get();
            change(&mut state);
            cell.set(state);
        });
    }

    /// Time since the start.
    #[cfg(feature = "dated")]
    pub(crate) fn uptime(&self) -> Duration {
        (self.uptime)()
    }
}

/// A moment as a calendar has it, in UTC.
#[cfg(any(feature = "dated", test))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calendar {
    pub(crate) year: i32,
    /// From 1.
    pub(crate) month: i32,
    /// From 1.
    pub(crate) day: i32,
    pub(crate) hour: i32,
    pub(crate) minute: i32,
    pub(crate) second: i32,
}

#[cfg(any(feature = "dated", test))]
impl Calendar {
    /// Returns the moment that is so many seconds after the beginning of 1970; none after the year 9999, which certificates cannot name.
    pub(crate) fn of(seconds: u64) -> Option<Self> {
        let (days, rest) = (i64::try_from(seconds / 86_400).ok()?, i32::try_from(seconds % 86_400).ok()?);
        if days > 2_932_896 {
            return None;
        }
        // Years that begin in March have their leap day at the end, and 400 of them always have 146,097 days.
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Five months from March on have 153 days together.
        let march = (5 * day_of_year + 2) / 153;
        let month = if march < 10 { march + 3 } else { march - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Some(Self {
            year: i32::try_from(year).ok()?,
            month: i32::try_from(month).ok()?,
            day: i32::try_from(day_of_year - (153 * march + 2) / 5 + 1).ok()?,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: u64 = 1_700_000_000;

    fn ten_seconds() -> Duration {
        Duration::from_secs(10)
    }

    #[test]
    fn a_moment_that_is_past_is_not_the_time() {
        let clock = WallClock::new(BUILD, ten_seconds);
        assert_eq!((clock.now(), clock.is_known()), (BUILD + 10, false));
        clock.was_past(BUILD - 1);
        assert_eq!(clock.now(), BUILD + 10);
        clock.was_past(BUILD + 5_000);
        assert_eq!((clock.now(), clock.is_known()), (BUILD + 5_010, false));
    }

    #[test]
    fn time_is_not_set_below_what_is_past() {
        let clock = WallClock::new(BUILD, ten_seconds);
        assert!(!clock.set(BUILD + 9) && !clock.is_known());
        assert!(clock.set(BUILD + 10) && clock.is_known());
        assert_eq!(clock.now(), BUILD + 10);
        assert!(clock.set(BUILD + 9), "a clock that runs fast is put right");
        clock.was_past(BUILD + 5_000);
        assert_eq!(clock.now(), BUILD + 9, "nobody knows better than the time");
    }

    #[test]
    fn calendars_are_right() {
        let of =
            |seconds| Calendar::of(seconds).map(|c| (c.year, c.month, c.day, c.hour, c.minute, c.second));
        assert_eq!(of(0), Some((1970, 1, 1, 0, 0, 0)));
        assert_eq!(of(951_782_399), Some((2000, 2, 28, 23, 59, 59)));
        assert_eq!(of(951_782_400), Some((2000, 2, 29, 0, 0, 0)));
        assert_eq!(of(951_868_800), Some((2000, 3, 1, 0, 0, 0)));
        assert_eq!(of(4_107_542_400), Some((2100, 3, 1, 0, 0, 0)));
        assert_eq!(of(2_147_483_648), Some((2038, 1, 19, 3, 14, 8)));
        assert_eq!(of(253_402_300_799), Some((9999, 12, 31, 23, 59, 59)));
        assert_eq!(of(253_402_300_800), None);
        assert_eq!(of(u64::MAX), None);
    }

    #[test]
    fn each_day_comes_after_the_one_before() {
        let mut before = Calendar::of(0).unwrap();
        for day in 1..=150_000 {
            let now = Calendar::of(day * 86_400).unwrap();
            let next = (now.year, now.month, now.day) > (before.year, before.month, before.day);
            let first = now.day == 1 && (28..=31).contains(&before.day);
            assert!(next && (first || now.day == before.day + 1), "{before:?} {now:?}");
            before = now;
        }
    }
}
