//! Connections for reading. A read takes one that is idle, or opens one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection::connect;
use super::error::DbError;

/// The most reads at the same time: each occupies a thread.
const MOST: usize = 8;

#[derive(Clone)]
pub(super) struct Pool {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: Arc::new(path.to_owned()),
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(MOST)),
        }
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
            let connection = pool.take()?;
            let outcome = snapshot(&connection, work);
            pool.lock().push(connection);
            outcome
        });
        read.await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    fn take(&self) -> Result<Connection, DbError> {
        if let Some(connection) = self.lock().pop() {
            return Ok(connection);
        }
        let connection = connect(&self.path)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Several statements, one state of the database.
fn snapshot<T, E: From<DbError>>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let tx = connection.unchecked_transaction().map_err(DbError::from)?;
    work(&tx)
}
