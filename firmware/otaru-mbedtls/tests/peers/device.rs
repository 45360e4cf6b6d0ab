//! A device: its TLS, of which a program can have one at a time.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use otaru_mbedtls::{Identity, MbedTls, Trust, WallClock};
use rand_core::{TryCryptoRng, TryRng};

use crate::memory;
use otaru_testing::tls_peers::{Authority, Chain};

/// A moment in 2026.
pub(crate) const NOW: u64 = 1_780_000_000;

/// The system's random numbers.
struct Random;

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(getrandom::u32().unwrap())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(getrandom::u64().unwrap())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        getrandom::fill(bytes).unwrap();
        Ok(())
    }
}

impl TryCryptoRng for Random {}

pub(crate) struct Device {
    pub(crate) tls: MbedTls,
    // Given back after the TLS.
    _one: MutexGuard<'static, ()>,
}

/// Knowledge of the time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Time {
    /// It is known.
    Known(u64),
    /// So much is past.
    Past(u64),
}

impl Device {
    /// A device that knows the time and trusts this authority.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        Self::new(&[&authority.der()], None, Time::Known(NOW))
    }

    pub(crate) fn new(cas: &[&[u8]], identity: Option<&Chain>, time: Time) -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        memory::count();
        memory::limit(usize::MAX);
        let clock = match time {
            Time::Past(past) => WallClock::new(past, || Duration::ZERO),
            Time::Known(now) => {
                let clock = WallClock::new(0, || Duration::ZERO);
                assert!(clock.set(now));
                clock
            }
        };
        let key = identity.map(|chain| chain.key.serialize_der());
        let identity = identity.zip(key.as_ref());
        let identity = identity.map(|(chain, key)| Identity { certificate: &chain.certificates[0], key });
        let trust = Trust::new(cas, identity).unwrap();
        let tls = MbedTls::new(Some(trust), Box::leak(Box::new(clock)), Box::leak(Box::new(Random))).unwrap();
        Self { tls, _one: one }
    }
}

/// Steps of a future.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) count: usize,
    pub(crate) longest: Duration,
}

/// Counts the steps of a future.
pub(crate) async fn stepwise<F: Future>(future: F) -> (F::Output, Steps) {
    let mut future = pin!(future);
    let mut steps = Steps::default();
    let output = poll_fn(|context| {
        let begin = Instant::now();
        let poll = future.as_mut().poll(context);
        steps.count += 1;
        steps.longest = steps.longest.max(begin.elapsed());
        poll
    });
    (output.await, steps)
}
