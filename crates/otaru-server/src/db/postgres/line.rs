//! A line to PostgreSQL, with bounds on waiting for what comes over it.
//!
//! A database that hangs, on a machine that swaps or behind a network that swallows packets, breaks no connection: systems answer each
//! other for hours while no program does. So whoever waits for long asks over a second line whether PostgreSQL answers anybody.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Error};

use super::error::described;
use super::settings::{LOGIN, PostgresSettings};
use crate::db::error::DbError;

/// Time without an answer after which is asked whether PostgreSQL answers anybody; and between two such questions.
const SILENCE: Duration = Duration::from_secs(5);
/// Time beyond the longest of a statement in which PostgreSQL is to have ended it.
const GRACE: Duration = Duration::from_secs(10);
/// Longest wait for the end of a line.
const END: Duration = Duration::from_secs(2);

/// A line, and the thread's own runtime that drives it.
pub(super) struct Line {
    runtime: Runtime,
    client: Client,
    /// `None` once it was told why the line ended.
    driven: Option<JoinHandle<Result<(), Error>>>,
    settings: PostgresSettings,
    longest: Option<Duration>,
}

impl Line {
    /// Logs in. Nothing is waited for longer than `longest`, if that is given. It blocks.
    pub(super) fn open(settings: &PostgresSettings, longest: Option<Duration>) -> Result<Self, DbError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| DbError::Unavailable(error.to_string()))?;
        let reached = runtime.block_on(async { timeout(LOGIN, settings.reach()).await });
        match reached.unwrap_or_else(|_| Err(settings.silent())) {
            Ok((client, driven)) => {
                Ok(Self { runtime, client, driven: Some(driven), settings: settings.clone(), longest })
            }
            Err(error) => {
                // A name that is still looked up is not waited for.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Asks something and waits for what comes of it.
    pub(super) fn ask<T>(
        &mut self,
        asking: impl AsyncFnOnce(&Client) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let Self { runtime, client, settings, longest, .. } = self;
        let asked = runtime.block_on(answer(asking(&*client), settings, *longest));
        asked.map_err(|error| self.last_words().unwrap_or(error))
    }

    /// Returns why the line ended, if it did: that tells more than that it is closed.
    fn last_words(&mut self) -> Option<DbError> {
        let Self { runtime, driven, client, .. } = self;
        let driven = driven.take_if(|driven| client.is_closed() && driven.is_finished())?;
        let ended = runtime.block_on(driven).ok()?.err()?;
        Some(DbError::Unavailable(described(&ended)))
    }

    /// Ends it in order, if that takes no time. It blocks.
    pub(super) fn end(self) {
        let Self { runtime, client, driven, .. } = self;
        drop(client);
        if let Some(driven) = driven {
            let _ = runtime.block_on(async { timeout(END, driven).await });
        }
        runtime.shutdown_background();
    }
}

/// Waits for an answer as long as PostgreSQL answers others.
async fn answer<T>(
    asked: impl Future<Output = Result<T, DbError>>,
    settings: &PostgresSettings,
    longest: Option<Duration>,
) -> Result<T, DbError> {
    let (mut asked, began) = (pin!(asked), Instant::now());
    loop {
        if let Ok(answer) = timeout(SILENCE, asked.as_mut()).await {
            return answer;
        }
        if longest.is_some_and(|longest| began.elapsed() >= longest + GRACE) {
            return Err(settings.silent());
        }
        settings.knock().await?;
    }
}
