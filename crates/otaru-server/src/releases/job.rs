//! Jobs as rows: work on a release that is done in the background.

use otaru_api::{Event, JobKind, JobState, Timestamp};
use otaru_rollout::Time;

use super::columns::millis;
use crate::db::{Connection, DbError, OptionalExtension as _, Row, params};

/// Work on a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Number.
    pub id: i64,
    /// Of which release.
    pub release: i64,
    /// Kind of work.
    pub kind: JobKind,
    /// State of the work.
    pub state: JobState,
    /// The stage, or why it failed.
    pub detail: String,
    /// Time at which it was asked for.
    pub created_at: Timestamp,
    /// Time at which it ended.
    pub ended_at: Option<Timestamp>,
}

impl From<Job> for otaru_api::Job {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            release: job.release,
            kind: job.kind.into(),
            state: job.state.into(),
            detail: job.detail,
            created_at: job.created_at,
            ended_at: job.ended_at,
        }
    }
}

const SELECT: &str = "SELECT id, release, kind, state, detail, created_at, ended_at FROM jobs";

impl Job {
    /// Asks for work on a release. What waits already is not asked for twice.
    pub fn ask(tx: &Connection, release: i64, kind: JobKind, now: Time) -> Result<Self, DbError> {
        let open = format!("{SELECT} WHERE release = ?1 AND state IN ('queued', 'running') ORDER BY id DESC");
        let open = tx.query_row(&open, [release], read).optional()?.transpose()?;
        match open {
            Some(open) if open.kind == kind || kind == JobKind::Build => return Ok(open),
            Some(open) if open.state == JobState::Queued => {
                tx.execute("UPDATE jobs SET kind = ?2 WHERE id = ?1", params![open.id, kind.as_str()])?;
                return Ok(Self { kind, ..open });
            }
            _ => {}
        }
        let id = tx.query_row(
            "INSERT INTO jobs (release, kind, state, created_at) VALUES (?1, ?2, 'queued', ?3) RETURNING id",
            params![release, kind.as_str(), millis(now)],
            |row| row.get(0),
        )?;
        let (state, created_at) = (JobState::Queued, now.into());
        Ok(Self { id, release, kind, state, detail: String::new(), created_at, ended_at: None })
    }

    /// The latest work on a release.
    pub fn latest(tx: &Connection, release: i64) -> Result<Option<Self>, DbError> {
        let sql = format!("{SELECT} WHERE release = ?1 ORDER BY id DESC LIMIT 1");
        let statement = tx.prepare(&sql);
        statement.query_row([release], read).optional()?.transpose()
    }

    /// Returns the job that has waited longest, which is under way from now on. One server does jobs, one after the other, and asks between
    /// two: what is under way by then is nobody's. Its server was killed, or was not told that it had taken the job.
    pub(super) fn next(tx: &Connection) -> Result<Option<Self>, DbError> {
        let next = format!("{SELECT} WHERE state IN ('queued', 'running') ORDER BY id LIMIT 1");
        let Some(job) = tx.query_row(&next, (), read).optional()?.transpose()? else { return Ok(None) };
        tx.execute("UPDATE jobs SET state = 'running' WHERE id = ?1", [job.id])?;
        Ok(Some(Self { state: JobState::Running, ..job }))
    }

    /// Notes how it ended.
    pub(super) fn end(
        &self,
        tx: &Connection,
        state: JobState,
        detail: &str,
        now: Time,
    ) -> Result<(), DbError> {
        let sql = "UPDATE jobs SET state = ?2, detail = ?3, ended_at = ?4 WHERE id = ?1";
        tx.execute(sql, params![self.id, state.as_str(), detail, millis(now)])?;
        Ok(())
    }

    /// Returns what those who watch are told.
    pub(super) fn event(&self, state: JobState, detail: &str, progress: Option<u8>) -> Event {
        Event::Job {
            id: self.id,
            release: self.release,
            state: state.as_str().into(),
            detail: detail.into(),
            progress,
        }
    }
}

fn read(row: &Row) -> Result<Result<Job, DbError>, DbError> {
    let (kind, state): (String, String) = (row.get(2)?, row.get(3)?);
    let (Some(kind), Some(state)) = (JobKind::of_name(&kind), JobState::of_name(&state)) else {
        return Ok(Err(DbError::corrupt("jobs", format!("state {state}"))));
    };
    Ok(Ok(Job {
        id: row.get(0)?,
        release: row.get(1)?,
        kind,
        state,
        detail: row.get(4)?,
        created_at: row.get(5)?,
        ended_at: row.get(6)?,
    }))
}
