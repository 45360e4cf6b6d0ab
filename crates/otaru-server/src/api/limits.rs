//! How often somebody may try to log in and fail.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use otaru_rollout::{Span, Time};

use super::problem::Problem;
use crate::address::origin;

/// Failures that are allowed at once.
const BURST: u32 = 20;
/// After this long, one more is.
const REFILL: Span = Span::seconds(3);
/// The most addresses that are counted.
const COUNTED: usize = 10_000;

/// Failed logins by address.
#[derive(Debug, Default)]
pub struct FailedLogins(Mutex<HashMap<IpAddr, Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    filled: Time,
}

impl Bucket {
    fn filled_until(self, now: Time) -> Self {
        let more = now.since(self.filled).0 / REFILL.0;
        let left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        match left >= BURST {
            true => Self { left: BURST, filled: now },
            false => Self { left, filled: Time(self.filled.0 + more * REFILL.0) },
        }
    }
}

impl FailedLogins {
    /// Counts a failure. A good login is never refused: nobody is locked out by what others at the same address do.
    ///
    /// # Errors
    /// The answer to give instead, when there were too many.
    pub fn count(&self, peer: IpAddr, now: Time) -> Result<(), Problem> {
        let peer = origin(peer);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= COUNTED && !all.contains_key(&peer) {
            all.retain(|_, bucket| bucket.filled_until(now).left < BURST);
            if all.len() >= COUNTED {
                all.clear();
            }
        }
        let bucket = all.entry(peer).or_insert(Bucket { left: BURST, filled: now });
        *bucket = bucket.filled_until(now);
        match bucket.left.checked_sub(1) {
            Some(left) => {
                bucket.left = left;
                Ok(())
            }
            None => Err(too_many()),
        }
    }
}

fn too_many() -> Problem {
    let detail = "too many failed logins from this address; wait a few seconds";
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
        assert_eq!(allowed, BURST as usize);
        assert!(logins.count([10, 0, 0, 2].into(), start).is_ok(), "another address");
        assert!(logins.count(peer, start + REFILL).is_ok());
        assert!(logins.count(peer, start + REFILL).is_err());
        let later = start + Span::hours(1);
        assert_eq!((0..100).filter(|_| logins.count(peer, later).is_ok()).count(), BURST as usize);
    }

    #[test]
    fn addresses_do_not_fill_the_memory() {
        let logins = FailedLogins::default();
        for number in 0..50_000_u32 {
            let _ = logins.count(IpAddr::from(number.to_be_bytes()), Time(u64::from(number)));
        }
        assert!(logins.0.lock().unwrap().len() <= COUNTED);
    }
}
