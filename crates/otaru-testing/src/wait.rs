//! Waiting, with a limit, and ports.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

/// Longest time that anything in a test may take.
pub const LIMIT: Duration = Duration::from_secs(60);

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

/// Returns a port of 127.0.0.1 that nobody uses just now, and that the system gives to no outgoing connection meanwhile: for servers that
/// take seconds to listen.
pub(crate) fn quiet_port() -> u16 {
    // Linux takes those of outgoing connections from 32768 on. Tests that run beside each other begin elsewhere.
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let mut ports = first..32_000;
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

/// Returns a port of 127.0.0.1 that nobody uses just now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
