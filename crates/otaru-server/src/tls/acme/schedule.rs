//! Moments of renewals and of attempts.
//!
//! Let's Encrypt allows five failed validations of a name in an hour, 300 orders in three hours, and five certificates for the same names in
//! a week (<https://letsencrypt.org/docs/rate-limits/>). What is here stays below all of these, whatever becomes of a certificate that came and
//! however often the server is started.

use std::time::Duration;

use otaru_rollout::Time;
use serde::{Deserialize, Serialize};

use crate::tls::facts::Facts;

/// The most orders in an hour, over restarts.
pub(super) const MOST_ORDERS: usize = 4;
/// The most certificates in a week, over restarts.
pub(super) const MOST_ISSUED: usize = 4;
/// Milliseconds of that week.
const WEEK: u64 = 7 * 24 * HOUR;
/// Milliseconds of an hour.
const HOUR: u64 = 3_600 * 1_000;
/// Minutes after the first failure, the second, and so on; the last is for all that follow.
const PAUSES: [u64; 9] = [1, 5, 15, 30, 60, 120, 240, 480, 720];
/// Longest pause after a certificate was got. One that is in its last third at once, as on a machine whose clock is wrong, would be renewed
/// for ever.
const REST: Duration = Duration::from_secs(24 * 3_600);

/// Returns the moment from which a certificate is renewed: the one that the directory named, but with a sixth of its lifetime left at the
/// latest; with a third left where it named none.
pub(super) fn renewal(facts: &Facts, named: Option<Time>) -> Time {
    let lifetime = facts.ends.since(facts.begins).0;
    let before_end = |part: u64| Time(facts.ends.0.saturating_sub(lifetime / part));
    named.map_or(before_end(3), |named| named.min(before_end(6)))
}

/// Returns the pause after so many failures in a row. `extra`, from 0 to 1, makes it longer by a quarter at most, so that servers that failed
/// together do not come back together.
pub(super) fn pause(failures: usize, extra: f64) -> Duration {
    let last = PAUSES.len() - 1;
    let minutes = PAUSES.get(failures.saturating_sub(1).min(last)).copied().unwrap_or(1);
    Duration::from_secs(minutes * 60).mul_f64(1.0 + extra.clamp(0.0, 1.0) / 4.0)
}

/// Returns the pause after a certificate was got.
pub(super) fn rest(facts: &Facts) -> Duration {
    Duration::from_millis(facts.ends.since(facts.begins).0 / 3).min(REST)
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Issued {
    at: Time,
    /// Moment until which it counts.
    until: Time,
    /// Serial number, where it could be read.
    #[serde(default)]
    serial: Option<String>,
}

impl Issued {
    /// Counts for a week, or for twice its lifetime: those of a directory of one's own may be short.
    pub(super) fn new(now: Time, facts: Option<&Facts>) -> Self {
        let twice = |facts: &Facts| facts.ends.since(facts.begins).0.saturating_mul(2);
        let counts = facts.map_or(WEEK, twice).min(WEEK);
        let serial = facts.map(|facts| facts.serial.clone());
        Self { at: now, until: Time(now.0.saturating_add(counts)), serial }
    }

    /// Whether both are one certificate, which came twice.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.serial.is_some() && self.serial == other.serial
    }
}

/// Whether there is room for an order after these orders and certificates. Those of the future were noted by a clock that was wrong, and do
/// not count.
pub(super) fn has_room(orders: &[Time], issued: &[Issued], now: Time) -> bool {
    recent(orders, now).count() < MOST_ORDERS && lately(issued, now).count() < MOST_ISSUED
}

/// Returns the certificates that still count.
pub(super) fn lately(issued: &[Issued], now: Time) -> impl Iterator<Item = Issued> {
    issued.iter().filter(move |one| one.at <= now && now < one.until).cloned()
}

/// Returns the orders of the last hour.
pub(super) fn recent(orders: &[Time], now: Time) -> impl Iterator<Item = Time> {
    orders.iter().copied().filter(move |order| *order <= now && now.since(*order).0 < HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * HOUR;

    fn ninety_days() -> Facts {
        Facts {
            common_name: None,
            dns_names: Vec::new(),
            addresses: Vec::new(),
            serial: String::new(),
            begins: Time(100 * DAY),
            ends: Time(190 * DAY),
        }
    }

    #[test]
    fn a_certificate_is_renewed_with_a_third_left_or_when_the_directory_says() {
        let facts = ninety_days();
        assert_eq!(renewal(&facts, None), Time(160 * DAY));
        assert_eq!(renewal(&facts, Some(Time(150 * DAY))), Time(150 * DAY));
        assert_eq!(renewal(&facts, Some(Time(165 * DAY))), Time(165 * DAY));
        assert_eq!(renewal(&facts, Some(Time(900 * DAY))), Time(175 * DAY), "a directory cannot have it end");
    }

    #[test]
    fn pauses_grow_up_to_half_a_day() {
        let minutes = |failures, extra| pause(failures, extra).as_secs() / 60;
        assert_eq!([1, 2, 3, 9, 10, 1_000].map(|failures| minutes(failures, 0.0)), [1, 5, 15, 720, 720, 720]);
        assert_eq!(minutes(9, 1.0), 900);
    }

    #[test]
    fn a_certificate_that_is_never_good_long_enough_is_not_renewed_for_ever() {
        assert_eq!(rest(&ninety_days()), REST);
        let day = Facts { ends: Time(101 * DAY), ..ninety_days() };
        assert_eq!(rest(&day), Duration::from_secs(8 * 3_600));
    }

    #[test]
    fn an_hour_has_four_orders_however_often_the_server_starts() {
        let now = Time(100 * DAY);
        let ago = |minutes: u64| Time(now.0 - minutes * 60_000);
        assert!(has_room(&[ago(60), ago(50), ago(6), ago(1)], &[], now));
        assert!(!has_room(&[ago(59), ago(50), ago(6), ago(1)], &[], now));
        assert!(has_room(&[Time(now.0 + 1); 9], &[], now));
    }

    #[test]
    fn a_week_has_four_certificates_whatever_becomes_of_them() {
        let now = Time(100 * DAY);
        let ago = |days: u64, facts: Option<&Facts>| Issued::new(Time(now.0 - days * DAY), facts);
        let facts = ninety_days();
        assert!(!has_room(&[], &[ago(6, None), ago(3, Some(&facts)), ago(1, None), ago(0, None)], now));
        assert!(has_room(&[], &[ago(7, None), ago(3, Some(&facts)), ago(1, None), ago(0, None)], now));
        let short = Facts { ends: Time(101 * DAY), ..ninety_days() };
        assert!(has_room(&[], &vec![ago(2, Some(&short)); 9], now), "one of a day counts for two");
        assert!(!has_room(&[], &vec![ago(1, Some(&short)); 4], now));
    }
}
