//! Rate limits: failed logins and devices without room by address, reports over HTTP by device, claims and registrations by fleet key,
//! questions of a broker.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use otaru_rollout::{DeviceId, Span, Time};

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
/// The most senders that are counted.
const COUNTED: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    refill: Span,
}

/// Allowance left to each key of a rate limit.
#[derive(Debug)]
struct Buckets<K>(Mutex<HashMap<K, Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    filled: Time,
}

impl Bucket {
    fn filled_until(self, rate: Rate, now: Time) -> Self {
        let more = now.since(self.filled).0 / rate.refill.0;
        let left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        match left >= rate.burst {
            true => Self { left: rate.burst, filled: now },
            false => Self { left, filled: Time(self.filled.0 + more * rate.refill.0) },
        }
    }
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// Counts one more; whether it is allowed.
    fn count(&self, key: K, rate: Rate, now: Time) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= COUNTED && !all.contains_key(&key) {
            all.retain(|_, bucket| bucket.filled_until(rate, now).left < rate.burst);
            if all.len() >= COUNTED {
                all.clear();
            }
        }
        let bucket = all.entry(key).or_insert(Bucket { left: rate.burst, filled: now });
        *bucket = bucket.filled_until(rate, now);
        match bucket.left.checked_sub(1) {
            Some(left) => {
                bucket.left = left;
                true
            }
            None => false,
        }
    }

    /// Whether one more would be allowed.
    fn has_room(&self, key: &K, rate: Rate, now: Time) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).is_none_or(|bucket| bucket.filled_until(rate, now).left > 0)
    }

    /// Gives back one that was counted and came to nothing.
    fn give_back(&self, key: &K, rate: Rate) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = all.get_mut(key) {
            bucket.left = bucket.left.saturating_add(1).min(rate.burst);
        }
    }
}

/// Failed logins by address.
#[derive(Debug, Default)]
pub struct FailedLogins(Buckets<IpAddr>);

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
pub struct WrongLogins(Buckets<IpAddr>);

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
pub struct Claims(Buckets<(String, DeviceId)>);

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
pub struct Crowded(Buckets<(String, IpAddr)>);

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
    buckets: Buckets<String>,
}

impl Registrations {
    /// Lets `per_hour` devices in with one key at once, and as many again within each hour.
    pub fn new(per_hour: u32) -> Self {
        let refill = Span((Span::hours(1).0 / u64::from(per_hour.max(1))).max(1));
        Self { rate: Rate { burst: per_hour, refill }, buckets: Buckets::default() }
    }

    /// Counts a device that comes with this key for the first time. Nothing if it may not.
    pub fn count(self: &Arc<Self>, key: &str, now: Time) -> Option<Registration> {
        let key = key.to_owned();
        let may = self.buckets.count(key.clone(), self.rate, now);
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
        if !self.kept.load(Ordering::Relaxed) {
            self.of.buckets.give_back(&self.key, self.of.rate);
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
    fn addresses_do_not_fill_the_memory() {
        let logins = FailedLogins::default();
        for number in 0..50_000_u32 {
            let _ = logins.count(IpAddr::from(number.to_be_bytes()), Time(u64::from(number)));
        }
        assert!(logins.0.0.lock().unwrap().len() <= COUNTED);
    }
}
