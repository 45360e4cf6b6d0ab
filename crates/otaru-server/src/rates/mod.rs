//! Rate limits: failed logins and devices without room by address, reports over HTTP by device, claims and registrations by fleet key,
//! questions of a broker.
//!
//! Those of logins, claims and registrations are the fleet's: a server tells the others twice a second what it let pass
//! ([`Passed`]). The others are each server's own.

mod buckets;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use otaru_rollout::{DeviceId, Span, Time};
use serde::{Deserialize, Serialize};

use self::buckets::{Buckets, FleetBuckets, Rate};
use crate::address::origin;
use crate::problem::Problem;

/// Failed logins of an address that are allowed at once, and after how long one more is; devices without room are counted likewise.
const LOGINS: Rate = Rate { burst: 20, refill: Span::seconds(3) };
/// Reports of a device over HTTP that are allowed at once, and after how long one more is.
const POLLS: Rate = Rate { burst: 32, refill: Span::seconds(1) };
/// Claims of one name with one fleet key that are allowed at once, and after how long one more is.
const CLAIMS: Rate = Rate { burst: 10, refill: Span::minutes(6) };
/// Wrong logins at somebody else's broker that one address may bring at once, and after how long one more; as at the embedded broker.
const WRONG_LOGINS: Rate = Rate { burst: 2_000, refill: Span(10) };
/// Questions of a broker at once, and after how long one more. A device that comes is about a dozen of RabbitMQ's.
const QUESTIONS: Rate = Rate { burst: 60_000, refill: Span(1) };
/// Counts of what a server let pass, by limit and key, for the others to hear.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Passed {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_logins: Vec<(IpAddr, u32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    wrong_logins: Vec<(IpAddr, u32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    claims: Vec<((String, DeviceId), u32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    crowded: Vec<((String, IpAddr), u32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    registrations: Vec<(String, u32)>,
}

impl Passed {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of logins, claims and registrations. They are the fleet's.
#[derive(Debug)]
pub struct LoginRates {
    /// Failed logins by address.
    pub failed: FailedLogins,
    /// Wrong logins at somebody else's broker.
    pub wrong: WrongLogins,
    /// Claims by fleet key and device.
    pub claims: Claims,
    /// Devices without room by fleet key and address.
    pub crowded: Crowded,
    /// New devices by fleet key.
    pub registrations: Arc<Registrations>,
}

impl LoginRates {
    /// Lets `registrations` devices in with one fleet key at once, and as many again within each hour.
    pub fn new(registrations: u32) -> Self {
        let registrations = Arc::new(Registrations::new(registrations));
        let (failed, wrong, claims, crowded) = Default::default();
        Self { failed, wrong, claims, crowded, registrations }
    }

    /// Takes what other servers have not heard of.
    pub fn take_untold(&self) -> Passed {
        Passed {
            failed_logins: self.failed.0.take_untold(),
            wrong_logins: self.wrong.0.take_untold(),
            claims: self.claims.0.take_untold(),
            crowded: self.crowded.0.take_untold(),
            registrations: self.registrations.buckets.take_untold(),
        }
    }

    /// Counts what another server let pass.
    pub fn passed_elsewhere(&self, passed: Passed, now: Time) {
        let Passed { failed_logins, wrong_logins, claims, crowded, registrations } = passed;
        self.failed.0.passed_elsewhere(failed_logins, LOGINS, now);
        self.wrong.0.passed_elsewhere(wrong_logins, WRONG_LOGINS, now);
        self.claims.0.passed_elsewhere(claims, CLAIMS, now);
        self.crowded.0.passed_elsewhere(crowded, LOGINS, now);
        self.registrations.buckets.passed_elsewhere(registrations, self.registrations.rate, now);
    }
}

/// Failed logins by address.
#[derive(Debug, Default)]
pub struct FailedLogins(FleetBuckets<IpAddr>);

impl FailedLogins {
    /// Counts a failure. A good login is never refused: nobody is locked out by what others at the same address do.
    ///
    /// # Errors
    /// The answer to give instead, when there were too many.
    pub fn count(&self, peer: IpAddr, now: Time) -> Result<(), Problem> {
        match self.0.count(origin(peer), LOGINS, now) {
            true => Ok(()),
            false => Err(too_many("too many failed logins from this address; wait a few seconds")),
        }
    }
}

/// Wrong logins at somebody else's broker, by the address that it tells.
#[derive(Debug, Default)]
pub struct WrongLogins(FleetBuckets<IpAddr>);

impl WrongLogins {
    /// Whether an address may try once more.
    pub fn has_room(&self, address: IpAddr, now: Time) -> bool {
        self.0.has_room(&origin(address), WRONG_LOGINS, now)
    }

    /// Counts a wrong login.
    pub fn count(&self, address: IpAddr, now: Time) {
        self.0.count(origin(address), WRONG_LOGINS, now);
    }
}

/// Questions of brokers, by their addresses.
#[derive(Debug, Default)]
pub struct BrokerQuestions(Buckets<IpAddr>);

impl BrokerQuestions {
    /// Counts a question.
    ///
    /// # Errors
    /// The answer to give instead, when there were too many.
    pub fn count(&self, broker: IpAddr, now: Time) -> Result<(), Problem> {
        match self.0.count(origin(broker), QUESTIONS, now) {
            true => Ok(()),
            false => Err(too_many("this broker asks too often; wait a second")),
        }
    }
}

/// Reports over HTTP by device.
#[derive(Debug, Default)]
pub struct Polls(Buckets<DeviceId>);

impl Polls {
    /// Counts a report.
    ///
    /// # Errors
    /// The answer to give instead, when there were too many.
    pub fn count(&self, device: &DeviceId, now: Time) -> Result<(), Problem> {
        match self.0.count(device.clone(), POLLS, now) {
            true => Ok(()),
            false => Err(too_many("this device reports too often; wait a few seconds")),
        }
    }
}

/// Claims by fleet key and device: a device that cannot keep what it is given does not keep others from theirs.
#[derive(Debug, Default)]
pub struct Claims(FleetBuckets<(String, DeviceId)>);

impl Claims {
    /// Counts a claim with a good fleet key.
    ///
    /// # Errors
    /// The answer to give instead, when there were too many.
    pub fn count(&self, key: &str, device: &DeviceId, now: Time) -> Result<(), Problem> {
        match self.0.count((key.to_owned(), device.clone()), CLAIMS, now) {
            true => Ok(()),
            false => {
                let detail = format!(
                    "the device {device} was claimed too often with this fleet key; wait some minutes"
                );
                Err(too_many(&detail).retry_after(360))
            }
        }
    }
}

/// Devices that found no room, by fleet key and address.
#[derive(Debug, Default)]
pub struct Crowded(FleetBuckets<(String, IpAddr)>);

impl Crowded {
    /// Counts one more.
    ///
    /// # Errors
    /// The answer to give instead, when there were too many.
    pub fn count(&self, key: &str, peer: IpAddr, now: Time) -> Result<(), Problem> {
        match self.0.count((key.to_owned(), origin(peer)), LOGINS, now) {
            true => Ok(()),
            false => Err(too_many(
                "too many devices from this address found no room with this fleet key; wait a few seconds",
            )),
        }
    }
}

/// Registrations by fleet key: whoever has one can make up names, but not a registry full of them at once.
#[derive(Debug)]
pub struct Registrations {
    rate: Rate,
    buckets: FleetBuckets<String>,
}

impl Registrations {
    /// Lets `per_hour` devices in with one key at once, and as many again within each hour.
    pub fn new(per_hour: u32) -> Self {
        let refill = Span((Span::hours(1).0 / u64::from(per_hour.max(1))).max(1));
        Self { rate: Rate { burst: per_hour, refill }, buckets: FleetBuckets::default() }
    }

    /// Counts a device that comes with this key for the first time. Nothing if it may not.
    pub fn count(self: &Arc<Self>, key: &str, now: Time) -> Option<Registration> {
        let key = key.to_owned();
        let may = self.buckets.reserve(key.clone(), self.rate, now);
        // Made only where it was counted: it gives back what it stands for.
        may.then(|| Registration { of: Arc::clone(self), key, kept: AtomicBool::new(false) })
    }
}

/// A registration that is under way: it counts no longer when this is dropped, unless it is [kept](Self::keep).
#[derive(Debug)]
#[must_use]
pub struct Registration {
    of: Arc<Registrations>,
    key: String,
    kept: AtomicBool,
}

impl Registration {
    /// Counts it for good, as the device was registered.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        match self.kept.load(Ordering::Relaxed) {
            true => self.of.buckets.passed(std::mem::take(&mut self.key)),
            false => self.of.buckets.give_back(&self.key, self.of.rate),
        }
    }
}

fn too_many(detail: &str) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail).retry_after(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_bounded_and_forgotten() {
        let (logins, peer) = (FailedLogins::default(), IpAddr::from([10, 0, 0, 1]));
        let start = Time(1_000_000);
        let allowed = (0..100).filter(|_| logins.count(peer, start).is_ok()).count();
        assert_eq!(allowed, LOGINS.burst as usize);
        assert!(logins.count([10, 0, 0, 2].into(), start).is_ok(), "another address");
        assert!(logins.count(peer, start + LOGINS.refill).is_ok());
        assert!(logins.count(peer, start + LOGINS.refill).is_err());
        let later = start + Span::hours(1);
        assert_eq!((0..100).filter(|_| logins.count(peer, later).is_ok()).count(), LOGINS.burst as usize);
    }

    #[test]
    fn a_registration_that_came_to_nothing_does_not_count() {
        let (registrations, now) = (Arc::new(Registrations::new(2)), Time(1_000_000));
        for _ in 0..9 {
            drop(registrations.count("key", now).unwrap());
        }
        let under_way = registrations.count("key", now).unwrap();
        registrations.count("key", now).unwrap().keep();
        assert!(registrations.count("key", now).is_none(), "one that is under way counts, too");
        drop(under_way);
        registrations.count("key", now).unwrap().keep();
        assert!(registrations.count("key", now).is_none());
        assert!(registrations.count("other", now).is_some());
    }

    #[test]
    fn wrong_logins_shut_out_their_own_address_until_time_has_passed() {
        let (logins, start) = (WrongLogins::default(), Time(1_000_000));
        let (there, elsewhere) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..WRONG_LOGINS.burst {
            assert!(logins.has_room(there, start));
            logins.count(there, start);
        }
        assert!(!logins.has_room(there, start) && logins.has_room(elsewhere, start));
        assert!(logins.has_room(there, start + WRONG_LOGINS.refill));
    }

    #[test]
    fn a_broker_asks_so_often() {
        let (questions, start, broker) = (BrokerQuestions::default(), Time(1_000_000), [10, 0, 0, 1].into());
        let allowed = |at| (0..100_000).filter(|_| questions.count(broker, at).is_ok()).count();
        assert_eq!(allowed(start), QUESTIONS.burst as usize);
        assert_eq!(allowed(start + Span::seconds(1)), 1_000);
    }

    #[test]
    fn another_server_counts_what_this_one_let_pass() {
        let (here, there) = (LoginRates::new(2), LoginRates::new(2));
        let (now, peer, lamp) = (Time(1_000_000), IpAddr::from([10, 0, 0, 1]), DeviceId::from("lamp"));
        while here.failed.count(peer, now).is_ok() {}
        while here.wrong.has_room(peer, now) {
            here.wrong.count(peer, now);
        }
        while here.claims.count("key", &lamp, now).is_ok() {}
        while here.crowded.count("key", peer, now).is_ok() {}
        here.registrations.count("key", now).unwrap().keep();
        here.registrations.count("key", now).unwrap().keep();
        drop(here.registrations.count("other", now).unwrap());

        let text = serde_json::to_string(&here.take_untold()).unwrap();
        assert!(here.take_untold().is_empty());
        there.passed_elsewhere(serde_json::from_str(&text).unwrap(), now);
        assert!(there.failed.count(peer, now).is_err() && !there.wrong.has_room(peer, now));
        assert!(
            there.claims.count("key", &lamp, now).is_err() && there.crowded.count("key", peer, now).is_err()
        );
        assert!(there.registrations.count("key", now).is_none());
        assert!(there.registrations.count("other", now).is_some(), "that came to nothing");
    }

    #[test]
    fn addresses_do_not_fill_the_memory() {
        let logins = FailedLogins::default();
        for number in 0..50_000_u32 {
            let _ = logins.count(IpAddr::from(number.to_be_bytes()), Time(u64::from(number)));
        }
        assert!(logins.0.len() <= buckets::COUNTED);
    }
}
