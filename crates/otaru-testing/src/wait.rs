//! Waiting, with a limit, and ports.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest time that anything in a test may take, on a machine that other tests and compilers are busy with: a demonstration, which takes a
/// quarter of a minute alone, took 52 s so.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Time between two questions.
const PAUSE: Duration = Duration::from_millis(40);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within the limit.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, ask: impl FnMut() -> Option<T>) -> T {
    eventually_or(limit, ask).unwrap_or_else(|| panic!("waited {limit:?} for {what}"))
}

/// Asks until there is an answer, or the limit is over.
pub fn eventually_or<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Ports that are given away: Linux takes those of outgoing connections from 32768 on, so that none of these is taken by one before a
/// server listens.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Distance between the first ports of processes with neighbouring numbers, which test beside each other.
const STEP: u32 = 13;

/// Returns a port that nobody uses just now, and another one each time.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(STEP);
    let next = || first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % count;
    let mut ports =
        std::iter::repeat_with(|| PORTS.start + u16::try_from(next()).unwrap()).take(count as usize);
    ports.find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_are_given_away_once() {
        let ports: Vec<u16> = (0..50).map(|_| free_port()).collect();
        let listeners: Vec<_> =
            ports.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port))).collect();
        assert!(listeners.iter().all(Result::is_ok), "{ports:?}");
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
