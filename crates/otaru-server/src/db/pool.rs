//! Connections for reading. A read takes one that is idle, or opens one.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::connection::Connection;
use super::engine::Engine;
use super::error::DbError;
use super::outage::Outage;

/// The most reads at the same time: each occupies a thread.
const MOST: usize = 8;

#[derive(Clone)]
pub(super) struct Pool {
    engine: Engine,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    outage: Outage,
}

/// Outcome of a read, and trouble that its session had.
struct Tried<T, E> {
    outcome: Result<T, E>,
    /// Why its session is good no more, or there was none.
    trouble: Option<DbError>,
    /// Whether there was one.
    began: bool,
}

impl Pool {
    pub(super) fn new(engine: Engine, outage: Outage) -> Self {
        Self { engine, idle: Arc::default(), permits: Arc::new(Semaphore::new(MOST)), outage }
    }

    pub(super) async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Clone + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| DbError::Closed)?;
        let turn = self.outage.turn().await?;
        let pool = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _held = (permit, turn);
            pool.run(work)
        });
        read.await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    /// Runs a read; once more, on another session, where its own broke: it changed nothing.
    fn run<T, E: From<DbError>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Clone,
    ) -> Result<T, E> {
        let mut tried = self.try_once(work.clone());
        if tried.began && tried.trouble.is_some() && tried.outcome.is_err() {
            tried = self.try_once(work);
        }
        self.outage.note(tried.trouble.as_ref());
        tried.outcome
    }

    fn try_once<T, E: From<DbError>>(&self, work: impl FnOnce(&Connection) -> Result<T, E>) -> Tried<T, E> {
        let connection = match self.begin() {
            Ok(connection) => connection,
            Err(error) => {
                let trouble = Some(error.for_one_more());
                return Tried { outcome: Err(error.into()), trouble, began: false };
            }
        };
        let outcome = work(&connection);
        // A connection on which a read cannot be ended is given up, and so is one that had trouble.
        let is_ended = connection.execute_batch("COMMIT").is_ok();
        let trouble = connection.trouble();
        if trouble.is_some() {
            // Where one broke, so did the others.
            self.lock().clear();
        } else if is_ended {
            self.lock().push(connection);
        }
        Tried { outcome, trouble, began: true }
    }

    /// Returns a connection within a transaction that reads. Where one broke while it was idle, so did the others.
    fn begin(&self) -> Result<Connection, DbError> {
        let begin = self.engine.begin_to_read();
        let idle = self.lock().pop();
        if let Some(connection) = idle {
            if connection.execute_batch(begin).is_ok() {
                return Ok(connection);
            }
            self.lock().clear();
        }
        let connection = self.engine.reader()?;
        connection.execute_batch(begin)?;
        Ok(connection)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
