//! The one thread that writes, and how writes share a transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::{DbError, named};

/// The most writes in one transaction.
const BATCH: usize = 512;
/// The most writes that wait; more wait for a place in the queue.
const QUEUE: usize = 4_096;

/// Tells a caller how its write ended, once it is known whether the transaction is on disk.
type Answer = Box<dyn FnOnce(Result<(), Arc<DbError>>) + Send>;
type Job = Box<dyn FnOnce(&Connection) -> Answer + Send>;

#[derive(Clone)]
pub(super) struct Writer {
    queue: SyncSender<Job>,
}

impl Writer {
    /// Takes the connection to a thread of its own. It ends with the last clone of this.
    pub(super) fn start(connection: Connection) -> Self {
        let (queue, jobs) = sync_channel(QUEUE);
        std::thread::spawn(move || run(&connection, &jobs));
        Self { queue }
    }

    pub(super) async fn write<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let outcome = in_savepoint(connection, work);
            Box::new(move |committed| {
                let outcome = match committed {
                    Ok(()) => outcome,
                    Err(error) => Err(E::from(again(&error))),
                };
                // Whoever asked may have gone away; the write stands.
                let _ = sender.send(outcome);
            })
        });
        let queue = self.queue.clone();
        let sent = match queue.try_send(job) {
            Ok(()) => true,
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => false,
            Err(std::sync::mpsc::TrySendError::Full(job)) => {
                tokio::task::spawn_blocking(move || queue.send(job).is_ok()).await.unwrap_or(false)
            }
        };
        if !sent {
            return Err(DbError::Closed.into());
        }
        answer.await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }
}

fn run(connection: &Connection, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut answers = Vec::new();
        let committed = transaction(connection, first, jobs, &mut answers).map_err(|error| {
            // After a failed commit SQLite may or may not have rolled back by itself.
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            Arc::new(error)
        });
        answers.into_iter().for_each(|answer| answer(committed.clone()));
    }
}

fn transaction(
    connection: &Connection,
    first: Job,
    jobs: &Receiver<Job>,
    answers: &mut Vec<Answer>,
) -> Result<(), DbError> {
    let begun = connection.execute_batch("BEGIN IMMEDIATE").map_err(named);
    // Jobs that panic answer by dropping their channel.
    let mut take = |job: Job| {
        if let Ok(answer) = catch_unwind(AssertUnwindSafe(|| job(connection))) {
            answers.push(answer);
        } else {
            let _ = connection.execute_batch("ROLLBACK TO write; RELEASE write");
        }
    };
    take(first);
    begun?;
    for job in jobs.try_iter().take(BATCH - 1) {
        take(job);
    }
    connection.execute_batch("COMMIT").map_err(named)
}

fn in_savepoint<T, E: From<DbError>>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    if connection.is_autocommit() {
        // The transaction could not begin: its error is told to all of the batch.
        return Err(DbError::Closed.into());
    }
    connection.execute_batch("SAVEPOINT write").map_err(named)?;
    let outcome = work(connection);
    let end = if outcome.is_ok() { "RELEASE write" } else { "ROLLBACK TO write; RELEASE write" };
    connection.execute_batch(end).map_err(named)?;
    outcome
}

/// The same error for one more caller.
fn again(error: &DbError) -> DbError {
    match error {
        DbError::Full => DbError::Full,
        DbError::Sqlite(rusqlite::Error::SqliteFailure(code, text)) => {
            DbError::Sqlite(rusqlite::Error::SqliteFailure(*code, text.clone()))
        }
        other => DbError::Corrupt("transaction", other.to_string()),
    }
}
