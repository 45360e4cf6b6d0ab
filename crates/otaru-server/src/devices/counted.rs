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

/// Counts of the fleet. A small one is counted for each who asks; of a large one the last counts are shown, and counted anew meanwhile.
#[derive(Clone)]
pub struct Counted {
    db: Db,
    last: Arc<Mutex<Last>>,
}

#[derive(Default)]
struct Last {
    counts: Option<FleetCounts>,
    at: Option<Instant>,
    cost: Duration,
    is_counting: bool,
}

impl Last {
    fn is_large(&self) -> bool {
        self.cost * SHARE > Duration::from_secs(1)
    }
}

impl Counted {
    /// Counts the devices of this database.
    pub fn new(db: Db) -> Self {
        Self { db, last: Arc::default() }
    }

    /// Returns the counts: of now, or of at most as long ago as twenty times what counting takes, and no longer than five minutes.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn get(&self) -> Result<FleetCounts, DbError> {
        let known = {
            let mut last = self.lock();
            let age = last.at.map(|at| at.elapsed());
            let is_fresh = age.is_some_and(|age| age < last.cost * SHARE);
            let may_wait = age.is_some_and(|age| age < OLDEST) && last.is_large();
            if !is_fresh && may_wait && !last.is_counting {
                last.is_counting = true;
                let counted = self.clone();
                tokio::spawn(async move {
                    // Whoever asks next counts for itself if this failed.
                    let _ = counted.count().await;
                    counted.lock().is_counting = false;
                });
            }
            last.counts.clone().filter(|_| is_fresh || may_wait)
        };
        match known {
            Some(counts) => Ok(counts),
            None => self.count().await,
        }
    }

    /// Returns the counts of a fleet that is so large that they are kept; nothing of a smaller one, which is counted in no time.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn of_large(&self) -> Result<Option<FleetCounts>, DbError> {
        let is_large = self.lock().is_large();
        match is_large {
            true => self.get().await.map(Some),
            false => Ok(None),
        }
    }

    async fn count(&self) -> Result<FleetCounts, DbError> {
        let begun = Instant::now();
        let counts = self.db.read(list::fleet).await?;
        let mut last = self.lock();
        last.cost = begun.elapsed();
        // A fleet that is counted in no time is counted each time.
        last.at = last.is_large().then_some(begun);
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
        assert_eq!(counted.of_large().await.unwrap(), None);
        // As if counting had taken long, and just now.
        {
            let mut last = counted.lock();
            (last.cost, last.at) = (Duration::from_secs(2), Some(Instant::now()));
        }
        add(&db, "c").await;
        assert_eq!(counted.get().await.unwrap().total, 2, "as it was a while ago");
        assert_eq!(counted.of_large().await.unwrap().map(|counts| counts.total), Some(2));
        counted.lock().at = Instant::now().checked_sub(Duration::from_secs(60));
        assert_eq!(counted.get().await.unwrap().total, 2, "counted anew meanwhile");
        for _ in 0..500 {
            if !counted.lock().is_counting {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(counted.get().await.unwrap().total, 3);
    }
}
