//! Connections for reading. A read takes one that is idle, or opens one.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::connection::Connection;
use super::engine::Engine;
use super::error::DbError;

/// The most reads at the same time: each occupies a thread.
const MOST: usize = 8;

#[derive(Clone)]
pub(super) struct Pool {
    engine: Engine,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, idle: Arc::default(), permits: Arc::new(Semaphore::new(MOST)) }
    }

    pub(super) async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| DbError::Closed)?;
        let pool = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = pool.begin()?;
            let outcome = work(&connection);
            // A connection on which a read cannot be ended is given up.
            if connection.execute_batch("COMMIT").is_ok() {
                pool.lock().push(connection);
            }
            outcome
        });
        read.await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    /// Returns a connection within a transaction that reads. One that broke while it was idle is given up.
    fn begin(&self) -> Result<Connection, DbError> {
        let begin = self.engine.begin_to_read();
        loop {
            let Some(connection) = self.lock().pop() else { break };
            if connection.execute_batch(begin).is_ok() {
                return Ok(connection);
            }
        }
        let connection = self.engine.reader()?;
        connection.execute_batch(begin)?;
        Ok(connection)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
