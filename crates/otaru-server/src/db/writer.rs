//! The one thread that writes, and how writes share a transaction.
//!
//! A write may be run again: PostgreSQL may end a transaction that could not take place, or be restarted in the middle of it. So it is a
//! function of its inputs, and has no effect but on the database.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::connection::{Connection, Dialect};
use super::engine::Engine;
use super::error::DbError;
use super::outage::Outage;
use super::postgres::Mark;
use super::sqlite;

/// The most writes in one transaction. PostgreSQL gets slow beyond 64 savepoints: the rest is not in memory that all share
/// (`PGPROC_MAX_CACHED_SUBXIDS` in its `storage/proc.h`).
const fn batch(dialect: Dialect) -> usize {
    match dialect {
        Dialect::Sqlite => 512,
        Dialect::Postgres => 50,
    }
}

/// The most writes that wait; more wait for a place in the queue.
const QUEUE: usize = 4_096;
/// Number of times that a transaction is run before its writes fail.
const RUNS: u32 = 5;
/// Pause before a transaction is run again; it grows with each run.
const PAUSE: Duration = Duration::from_millis(20);
/// Time spent on waiting in vain after which a transaction is not run again, and whoever waited behind it is told the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// A write that waits, or was run.
trait Job: Send {
    /// Runs it. Returns an error if that cannot go on.
    fn run(&mut self, connection: &Connection) -> Result<(), DbError>;

    /// Tells who asked, once it is known whether the transaction took place.
    fn answer(self: Box<Self>, committed: Result<(), Arc<DbError>>);
}

struct Write<W, T, E> {
    work: W,
    outcome: Option<Result<T, E>>,
    sender: oneshot::Sender<Result<T, E>>,
}

impl<W, T, E> Job for Write<W, T, E>
where
    W: Fn(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<DbError> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), DbError> {
        self.outcome = None;
        connection.execute_batch("SAVEPOINT write")?;
        let ran = catch_unwind(AssertUnwindSafe(|| (self.work)(connection)));
        let end = match &ran {
            Ok(Ok(_)) => "RELEASE SAVEPOINT write",
            _ => "ROLLBACK TO SAVEPOINT write; RELEASE SAVEPOINT write",
        };
        connection.execute_batch(end)?;
        // One that panics answers by dropping its channel.
        self.outcome = ran.ok();
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), Arc<DbError>>) {
        let outcome = match committed {
            Ok(()) => self.outcome,
            Err(error) => Some(Err(E::from(error.for_one_more()))),
        };
        if let Some(outcome) = outcome {
            // Whoever asked may have gone away; the write stands.
            let _ = self.sender.send(outcome);
        }
    }
}

#[derive(Clone)]
pub(super) struct Writer {
    queue: SyncSender<Box<dyn Job>>,
    id: Arc<str>,
}

impl Writer {
    /// Takes the connection to a thread of its own. It ends with the last clone of this.
    pub(super) fn start(engine: Engine, connection: Connection, outage: Outage) -> Self {
        let (queue, jobs) = sync_channel(QUEUE);
        let id = id();
        let thread = WriterThread { engine, connection: Some(connection), id: id.clone(), number: 0, outage };
        std::thread::spawn(move || thread.run(&jobs));
        Self { queue, id: id.into() }
    }

    /// Returns the id by which a database knows what this writes.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) async fn write<T, E>(
        &self,
        work: impl Fn(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Write { work, outcome: None, sender });
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

struct WriterThread {
    engine: Engine,
    /// `None` while there is none to be had.
    connection: Option<Connection>,
    /// Its id and the number of its last transaction, by which PostgreSQL knows them.
    id: String,
    number: i64,
    outage: Outage,
}

/// Returns an id that no other writer has.
fn id() -> String {
    let mut random = [0; 16];
    // Without random numbers the system has worse to tell than this.
    let _ = getrandom::fill(&mut random);
    hex::encode(random)
}

/// How far a transaction came.
enum Failure {
    /// It did not take place.
    Undone(DbError),
    /// It did not begin, after a long wait for a session.
    Silent(DbError),
    /// Its COMMIT got no answer.
    Unknown(Mark, DbError),
}

impl WriterThread {
    fn run(mut self, jobs: &Receiver<Box<dyn Job>>) {
        let most = batch(self.engine.dialect());
        while let Ok(first) = jobs.recv() {
            let (mut all, began) = (vec![first], Instant::now());
            let committed = self.commit(&mut all, jobs, most).map_err(Arc::new);
            let failure = committed.as_ref().err();
            self.outage.note(failure.map(|error| &**error));
            if failure.is_some_and(|error| error.is_passing()) && began.elapsed() >= PATIENCE {
                // They would wait for as long again, one transaction after the other.
                all.extend(jobs.try_iter().take(QUEUE));
            }
            all.into_iter().for_each(|job| job.answer(committed.clone()));
        }
    }

    /// Runs writes in a transaction until it took place, or cannot.
    fn commit(
        &mut self,
        all: &mut Vec<Box<dyn Job>>,
        jobs: &Receiver<Box<dyn Job>>,
        most: usize,
    ) -> Result<(), DbError> {
        let (mut run, began) = (1, Instant::now());
        loop {
            let error = match self.transaction(all, jobs, most) {
                Ok(()) => return Ok(()),
                Err(Failure::Silent(error)) => return Err(error),
                Err(Failure::Undone(error)) => error,
                Err(Failure::Unknown(id, error)) => match self.took_place(&id) {
                    Ok(true) => return Ok(()),
                    Ok(false) => error,
                    // Nobody can say: whoever asked hears of the outage, and looks.
                    Err(error) => return Err(error),
                },
            };
            // What waits for a lock, or takes too long, would do so again.
            let is_late = matches!(error, DbError::Busy(_)) && began.elapsed() >= PATIENCE;
            if run == RUNS || !error.may_pass() || is_late {
                return Err(error);
            }
            std::thread::sleep(PAUSE * run);
            run += 1;
        }
    }

    fn transaction(
        &mut self,
        all: &mut Vec<Box<dyn Job>>,
        jobs: &Receiver<Box<dyn Job>>,
        most: usize,
    ) -> Result<(), Failure> {
        self.number += 1;
        let mark = Mark { writer: self.id.clone(), number: self.number };
        let began = Instant::now();
        let connection = self.connection().map_err(|error| match began.elapsed() < PATIENCE {
            true => Failure::Undone(error),
            false => Failure::Silent(error),
        })?;
        let outcome = transaction(connection, mark, all, jobs, most);
        match &outcome {
            Ok(()) => {}
            // What the session has is not what it should be, or there is none.
            Err(Failure::Unknown(..) | Failure::Silent(_)) => self.connection = None,
            Err(Failure::Undone(error)) if error.spoils_session() => self.connection = None,
            Err(Failure::Undone(_)) => self.tidy(),
        }
        outcome
    }

    /// Returns the connection, a new one where the last broke.
    fn connection(&mut self) -> Result<&Connection, DbError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.engine.connect()?,
        };
        Ok(self.connection.insert(connection))
    }

    /// After a failure: ends what is left of the transaction, and gives a broken connection up.
    fn tidy(&mut self) {
        let Some(connection) = &self.connection else { return };
        // After a failed commit SQLite may or may not have rolled back by itself.
        let in_transaction = connection.sqlite().is_none_or(|connection| !connection.is_autocommit());
        let is_broken = in_transaction && connection.execute_batch("ROLLBACK").is_err();
        if is_broken || connection.trouble().is_some() {
            self.connection = None;
        }
    }

    /// Whether a transaction took place; while nobody can say, that the database is away.
    fn took_place(&mut self, mark: &Mark) -> Result<bool, DbError> {
        self.connection = None;
        let looked = match self.connection()?.postgres() {
            Some(session) => session.took_place(mark),
            None => Ok(false),
        };
        looked.map_err(|error| {
            self.connection = None;
            DbError::Unavailable(error.to_string())
        })
    }
}

/// Runs a write. Its failure is not its own where the session is good no more.
fn run(job: &mut Box<dyn Job>, connection: &Connection) -> Result<(), DbError> {
    job.run(connection)?;
    connection.trouble().map_or(Ok(()), Err)
}

fn transaction(
    connection: &Connection,
    mark: Mark,
    all: &mut Vec<Box<dyn Job>>,
    jobs: &Receiver<Box<dyn Job>>,
    most: usize,
) -> Result<(), Failure> {
    let begun = match connection.postgres() {
        Some(session) => session.begin(&mark.writer),
        None => connection.execute_batch(sqlite::BEGIN),
    };
    begun.map_err(Failure::Undone)?;
    for job in all.iter_mut() {
        run(job, connection).map_err(Failure::Undone)?;
    }
    while all.len() < most {
        let Ok(mut job) = jobs.try_recv() else { break };
        let ran = run(&mut job, connection);
        all.push(job);
        ran.map_err(Failure::Undone)?;
    }
    match connection.postgres() {
        None => connection.execute_batch("COMMIT").map_err(Failure::Undone),
        Some(session) => session.commit(&mark).map_err(|error| match error {
            error @ DbError::Unavailable(_) => Failure::Unknown(mark, error),
            error => Failure::Undone(error),
        }),
    }
}
