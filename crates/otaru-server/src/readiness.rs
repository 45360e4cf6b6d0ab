//! Whether the server can do its work: the next write will be done. That is tried, not supposed.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::artifacts::Artifacts;
use crate::clock::Clock;
use crate::db::{Db, DbError, params};

/// Time for which an answer is reused, so that asking costs little however often it is done.
const STANDS: Duration = Duration::from_secs(2);
/// Longest time that a write may take.
const LONGEST: Duration = Duration::from_secs(5);
/// Bytes that are tried to be written beside the database.
const FILE: usize = 64 * 1024;

type Outcome = Result<(), String>;

/// Circumstance in which the server is not to be sent anybody, although writes are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bar {
    /// It does not fit the others of its database.
    Membership,
    /// Devices are not heard.
    Sweep,
}

/// Tries whether writes are done, and keeps what was found for a moment.
pub struct Readiness {
    stores: Stores,
    tried: Mutex<Tried>,
    leaving: CancellationToken,
    barred: std::sync::Mutex<BTreeMap<Bar, String>>,
}

/// Places that are written to.
#[derive(Clone)]
struct Stores {
    db: Db,
    artifacts: Artifacts,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Tried {
    last: Option<(Instant, Outcome)>,
    /// One that took too long, and may go on for longer.
    under_way: Option<JoinHandle<Outcome>>,
}

impl Readiness {
    /// Tries these.
    pub fn new(db: Db, artifacts: Artifacts, clock: Clock) -> Self {
        Self {
            stores: Stores { db, artifacts, clock },
            tried: Mutex::default(),
            leaving: CancellationToken::new(),
            barred: std::sync::Mutex::default(),
        }
    }

    /// Notes that the server is about to stop: from now on it is not ready, so that nobody is sent here any more.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Whether the server is about to stop.
    pub fn is_left(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Resolves when the server is about to stop.
    pub async fn left(&self) {
        self.leaving.cancelled().await;
    }

    /// Notes why the server is not to be sent anybody, or that there is nothing any more.
    pub fn bar(&self, bar: Bar, why: Option<String>) {
        let mut barred = self.barred.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => barred.insert(bar, why),
            None => barred.remove(&bar),
        };
    }

    /// Whether the server is not to be sent anybody for this reason.
    pub fn is_barred(&self, bar: Bar) -> bool {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&bar)
    }

    /// Whether the next write will be done; why not, otherwise.
    ///
    /// # Errors
    /// The failure, in words.
    pub async fn ask(&self) -> Outcome {
        if self.is_left() {
            return Err("the server is about to stop".to_owned());
        }
        let barred = self.barred.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned();
        if let Some(why) = barred {
            return Err(why);
        }
        let mut tried = self.tried.lock().await;
        if let Some((at, outcome)) = &tried.last
            && at.elapsed() < STANDS
        {
            return outcome.clone();
        }
        let mut attempt =
            tried.under_way.take().unwrap_or_else(|| tokio::spawn(attempt(self.stores.clone())));
        let outcome = match timeout(LONGEST, &mut attempt).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                tried.under_way = Some(attempt);
                Err(format!("a write is not done after {} seconds", LONGEST.as_secs()))
            }
        };
        tried.last = Some((Instant::now(), outcome.clone()));
        outcome
    }
}

/// A row and a file, as the next report and the next upload write them; and a look at a store outside of this machine.
async fn attempt(Stores { db, artifacts, clock }: Stores) -> Outcome {
    let now = clock.now().0.cast_signed();
    let row = db.write(move |tx| {
        let sql =
            "INSERT INTO meta (key, value) VALUES ('ready_at', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1";
        tx.prepare(sql).execute(params![now.to_string()])?;
        Ok::<_, DbError>(())
    });
    row.await.map_err(|error| format!("the database takes nothing: {error}"))?;
    let file = async {
        let mut staged = artifacts.stage().await?;
        staged.write(Bytes::from_static(&[0; FILE])).await
    };
    file.await.map_err(|error| format!("the folder for firmware takes nothing: {error}"))?;
    artifacts.look().await.map_err(|error| error.to_string())
}
