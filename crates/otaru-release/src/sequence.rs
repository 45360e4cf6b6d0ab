//! Sequences for releases: the time, so that nobody has to keep count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The last one given.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The sequence of a release that is made now: the milliseconds since 1970, and above every one given before by this
/// process. `None` while the clock stands before 1970.
pub fn now() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(after(u64::try_from(since.as_millis()).ok()?.max(1)))
}

/// The sequence of a release that is made at `time`, in milliseconds since 1970.
fn after(time: u64) -> u64 {
    let mut given = time;
    let next = |last: u64| {
        given = time.max(last.saturating_add(1));
        Some(given)
    };
    let _ = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_equal_and_they_are_milliseconds() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..1_000).filter_map(|_| now()).collect::<Vec<_>>()))
            .collect();
        let mut all: Vec<u64> =
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect();
        assert_eq!(all.len(), 4_000);
        all.sort_unstable();
        assert!(all.windows(2).all(|two| two[0] < two[1]));
        assert!(all[0] >= before, "{} is no time in milliseconds", all[0]);
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_lower_one() {
        let (one, two) = (after(5), after(4));
        assert!(two > one);
    }
}
