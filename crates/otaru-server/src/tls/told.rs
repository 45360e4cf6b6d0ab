//! A bounded rate of log lines: whoever knocks decides how often something happens, and not how much is written of it.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two lines of one kind.
const QUIET: Duration = Duration::from_secs(10);

/// Happenings of one kind, of which the log has one line in ten seconds.
#[derive(Debug, Default)]
pub struct Told(Mutex<Since>);

#[derive(Debug, Default)]
struct Since {
    last: Option<Instant>,
    count: u64,
}

impl Told {
    /// Notes one; returns how many there were since the last line, if it is time for one.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.count += 1;
        if since.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET) {
            return None;
        }
        since.last = Some(now);
        Some(std::mem::take(&mut since.count))
    }

    /// Writes a line about a connection, unless there was one just now.
    pub fn tell(&self, peer: SocketAddr, what: &str) {
        if let Some(count) = self.count(Instant::now()) {
            tracing::info!(%peer, count, "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_in_ten_seconds() {
        let (told, start) = (Told::default(), Instant::now());
        assert_eq!(told.count(start), Some(1));
        assert_eq!((0..1_000).filter_map(|_| told.count(start + QUIET / 2)).count(), 0);
        assert_eq!(told.count(start + QUIET), Some(1_001));
    }
}
