//! Counts of the fleet, kept for a while where it is so large that counting takes long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use otaru_api::FleetCounts;

use super::list;
use crate::db::{Db, DbError};

/// Time that counting may take, as a part of all time: 1 in so many.
const SHARE: u32 = 20;
/// Age beyond which nobody is shown counts, however long it takes to count anew.
const OLDEST: Duration = Duration::from_secs(300);
/// Age up to which nobody counts anew only to know whether a fleet is large.
const YOUNG: Duration = Duration::from_secs(60);
/// Devices of a fleet that is large: lists of it take their totals from here.
const LARGE: u64 = 100_000;

/// Counts of the fleet. One that is counted quickly is counted for each who asks; of another the last counts are shown, and counted anew
/// meanwhile.
#[derive(Clone)]
pub struct Counted {
    db: Db,
    last: Arc<Mutex<Last>>,
    /// Held while somebody who waits for it counts: others wait for the same.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Last {
    counts: Option<FleetCounts>,
    /// Time at which that was begun.
    at: Option<Instant>,
    cost: Duration,
    is_counting: bool,
}

impl Last {
    fn is_slow(&self) -> bool {
        self.cost * SHARE > Duration::from_secs(1)
    }

    fn age(&self) -> Option<Duration> {
        self.at.map(|at| at.elapsed())
    }
}

impl Counted {
    /// Counts the devices of this database.
    pub fn new(db: Db) -> Self {
        Self { db, last: Arc::default(), turn: Arc::default() }
    }

    /// Returns the counts: of now, or of at most as long ago as twenty times what counting takes, and no longer than five minutes.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn get(&self) -> Result<FleetCounts, DbError> {
        let known = {
            let mut last = self.lock();
            let may_be_old = last.is_slow() && last.age().is_some_and(|age| age < OLDEST);
            if may_be_old && last.age() >= Some(last.cost * SHARE) {
                self.count_meanwhile(&mut last);
            }
            last.counts.clone().filter(|_| may_be_old)
        };
        match known {
            Some(counts) => Ok(counts),
            None => self.count().await,
        }
    }

    /// Returns the counts of a large fleet, as they were within five minutes; nothing of a small one, or before they are known. Nobody waits
    /// for this.
    pub fn of_large(&self) -> Option<FleetCounts> {
        let mut last = self.lock();
        if last.age().is_none_or(|age| age >= YOUNG.max(last.cost * SHARE)) {
            self.count_meanwhile(&mut last);
        }
        let is_known = last.age().is_some_and(|age| age < OLDEST);
        last.counts.clone().filter(|counts| is_known && counts.total >= LARGE)
    }

    /// Counts in the background, unless somebody does so already.
    fn count_meanwhile(&self, last: &mut Last) {
        if std::mem::replace(&mut last.is_counting, true) {
            return;
        }
        let counted = self.clone();
        tokio::spawn(async move {
            // Whoever asks next counts for itself if this failed.
            let _ = counted.count_now().await;
            counted.lock().is_counting = false;
        });
    }

    /// Counts, or takes what another one has counted since this was asked for.
    async fn count(&self) -> Result<FleetCounts, DbError> {
        let asked = Instant::now();
        let _turn = self.turn.lock().await;
        let known = {
            let last = self.lock();
            last.counts.clone().filter(|_| last.at.is_some_and(|at| at >= asked))
        };
        match known {
            Some(counts) => Ok(counts),
            None => self.count_now().await,
        }
    }

    async fn count_now(&self) -> Result<FleetCounts, DbError> {
        let begun = Instant::now();
        let counts = self.db.read(list::fleet).await?;
        let mut last = self.lock();
        (last.cost, last.at) = (begun.elapsed(), Some(begun));
        last.counts = Some(counts.clone());
        Ok(counts)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Counted {
        /// Has the fleet be one of so many devices, counted just now.
        pub(in crate::devices) fn pretend(&self, total: u64) {
            let mut last = self.lock();
            last.at = Some(Instant::now());
            if let Some(counts) = &mut last.counts {
                counts.total = total;
            }
        }
    }

    async fn add(db: &Db, id: &'static str) {
        let added =
            db.write(move |tx| tx.execute("INSERT INTO devices (id, first_seen) VALUES (?, 1)", [id]));
        added.await.unwrap();
    }

    #[tokio::test]
    async fn a_large_fleet_is_counted_once_in_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        let counted = Counted::new(db.clone());
        add(&db, "a").await;
        assert_eq!(counted.get().await.unwrap().total, 1);
        add(&db, "b").await;
        assert_eq!(counted.get().await.unwrap().total, 2, "a small one is counted each time");
        assert_eq!(counted.of_large(), None, "a small one");
        // As if counting had taken long, and just now.
        {
            let mut last = counted.lock();
            (last.cost, last.at) = (Duration::from_secs(2), Some(Instant::now()));
        }
        add(&db, "c").await;
        assert_eq!(counted.get().await.unwrap().total, 2, "as it was a while ago");
        assert_eq!(counted.of_large(), None, "a small one that took long");
        counted.lock().at = Instant::now().checked_sub(Duration::from_secs(60));
        assert_eq!(counted.get().await.unwrap().total, 2, "counted anew meanwhile");
        for _ in 0..500 {
            if !counted.lock().is_counting {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(counted.get().await.unwrap().total, 3);
        counted.pretend(LARGE);
        assert_eq!(counted.of_large().map(|counts| counts.total), Some(LARGE));
    }
}
