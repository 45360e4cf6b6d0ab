//! Work in the background: one job at a time, begun anew after a restart.

use std::time::Duration;

use otaru_rollout::Time;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::build::{self, Built, Plan};
use super::keys::Makes;
use super::prune::prune;
use super::register::{Stored, note_artifact, put_file};
use super::rows::millis;
use crate::app::{App, Shared};
use crate::artifacts::ArtifactError;
use crate::db::DbError;
use crate::events::Event;
use crate::timestamp::Timestamp;

/// How often the fleet is searched for images that a release has no patch for.
const CHECK: Duration = Duration::from_secs(60 * 60);

/// Work on a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// Of which release.
    pub release: i64,
    /// What is done.
    pub kind: JobKind,
    /// How far it is.
    pub state: JobState,
    /// The stage, or why it failed.
    pub detail: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Makes a release file where there is none, or one with more patches where this server made it.
    Build,
    /// The same, also in place of a file that was signed elsewhere.
    Replace,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for others.
    Queued,
    /// It is under way.
    Running,
    /// It is done.
    Done,
    /// It failed.
    Failed,
}

impl JobKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Replace => "replace",
        }
    }
}

impl JobState {
    /// Its name, the same as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Done, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

const SELECT: &str = "SELECT id, release, kind, state, detail, created_at, ended_at FROM jobs";

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Its release is gone, or has no image as a file.
    #[error("the release has no image as a file; upload its .bin")]
    NoImage,
    /// There is no key.
    #[error("the server has no signing key")]
    NoKey,
    /// No file can be made.
    #[error("{0}")]
    Build(String),
    /// The store failed.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl Job {
    /// Asks for work on a release. What waits already is not asked for twice.
    ///
    /// # Errors
    /// Those of the database.
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
        tx.execute(
            "INSERT INTO jobs (release, kind, state, created_at) VALUES (?1, ?2, 'queued', ?3)",
            params![release, kind.as_str(), millis(now)],
        )?;
        let (id, state, created_at) = (tx.last_insert_rowid(), JobState::Queued, now.into());
        Ok(Self { id, release, kind, state, detail: String::new(), created_at, ended_at: None })
    }

    /// The latest work on a release.
    ///
    /// # Errors
    /// Those of the database.
    pub fn latest(tx: &Connection, release: i64) -> Result<Option<Self>, DbError> {
        let mut statement =
            tx.prepare_cached(&format!("{SELECT} WHERE release = ?1 ORDER BY id DESC LIMIT 1"))?;
        statement.query_row([release], read).optional()?.transpose()
    }

    /// Takes the job that has waited longest, and gives its release a number if it has none: above all that the product
    /// has, and kept, so that a release with more patches is not a newer one.
    pub(super) fn take(tx: &Connection, now: Time) -> Result<Option<Self>, DbError> {
        let next = format!("{SELECT} WHERE state = 'queued' ORDER BY id LIMIT 1");
        let Some(job) = tx.query_row(&next, [], read).optional()?.transpose()? else { return Ok(None) };
        tx.execute("UPDATE jobs SET state = 'running' WHERE id = ?1", [job.id])?;
        super::again::number(tx, job.release, now)?;
        Ok(Some(Self { state: JobState::Running, ..job }))
    }

    fn end(&self, tx: &Connection, state: JobState, detail: &str, now: Time) -> Result<(), DbError> {
        let sql = "UPDATE jobs SET state = ?2, detail = ?3, ended_at = ?4 WHERE id = ?1";
        tx.execute(sql, params![self.id, state.as_str(), detail, millis(now)])?;
        Ok(())
    }

    /// What those who watch are told.
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

fn read(row: &Row<'_>) -> rusqlite::Result<Result<Job, DbError>> {
    let (kind, state): (String, String) = (row.get(2)?, row.get(3)?);
    let kind = [JobKind::Build, JobKind::Replace].into_iter().find(|known| known.as_str() == kind);
    let (Some(kind), Some(state)) = (kind, JobState::parse(&state)) else {
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

/// Does jobs until `stop`. What is under way then is begun anew by the next process.
pub async fn run(app: Shared, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work(&app) => {}
    }
}

async fn work(app: &App) {
    tell_failure(app.db.write(resume).await);
    let mut check = tokio::time::interval_at(Instant::now(), CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = app.clock.now();
        while let Some(job) = tell_failure(app.db.write(move |tx| Job::take(tx, now)).await).flatten() {
            carry_out(app, &job).await;
        }
        tokio::select! {
            () = app.wake.jobs.notified() => {}
            _ = check.tick() => {
                if let Err(error) = prune(app).await {
                    tracing::error!(%error, "files that nothing refers to cannot be removed");
                }
                if app.keys.signer().is_some() {
                    let now = app.clock.now();
                    tell_failure(app.db.write(move |tx| ask_for_patches(tx, now)).await);
                }
            }
        }
    }
}

/// Nobody waits for an answer here: a failure goes to the log, and the next bell is another chance.
fn tell_failure<T>(outcome: Result<T, DbError>) -> Option<T> {
    outcome.inspect_err(|error| tracing::error!(%error, "jobs cannot be done")).ok()
}

/// What an earlier process had begun is to be done anew.
fn resume(tx: &Connection) -> Result<(), DbError> {
    tx.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'", [])?;
    Ok(())
}

/// Asks for release files with more patches, where devices run images that have none yet. Of each product only what devices are
/// given now: the newest release, and those in open rollouts.
pub(super) fn ask_for_patches(tx: &Connection, now: Time) -> Result<(), DbError> {
    let mut candidates = tx.prepare_cached(
        "SELECT r.id, r.file IS NULL OR r.built AND r.signed_by IS NULL FROM releases r \
         WHERE r.raw IS NOT NULL AND r.yanked_at IS NULL AND (r.file IS NULL OR r.built) AND (\
            NOT EXISTS (SELECT 1 FROM releases n WHERE n.product = r.product AND n.chip = r.chip \
                        AND n.yanked_at IS NULL AND n.id > r.id) \
            OR EXISTS (SELECT 1 FROM rollouts o WHERE o.release = r.id AND o.is_open)) \
         ORDER BY r.id",
    )?;
    let found = candidates.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(i64, bool)> = found.collect::<Result<_, _>>()?;
    for (release, unsigned) in found {
        if unsigned || lacks_patch(tx, release)? {
            Job::ask(tx, release, JobKind::Build, now)?;
        }
    }
    Ok(())
}

fn lacks_patch(tx: &Connection, release: i64) -> Result<bool, DbError> {
    let mut tried = tx.prepare_cached("SELECT 1 FROM deltas WHERE release = ?1 AND base = ?2")?;
    for (base, _) in build::bases(tx, release)? {
        if !tried.exists(params![release, base.0])? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn carry_out(app: &App, job: &Job) {
    app.events.tell(job.event(JobState::Running, "", Some(0)));
    let (state, detail) = match make(app, job).await {
        Ok(detail) => (JobState::Done, detail),
        Err(JobError::Db(DbError::Closed)) => return,
        Err(error) => {
            tracing::warn!(job = job.id, release = job.release, %error, "a job failed");
            let (job, detail, now) = (job.clone(), error.to_string(), app.clock.now());
            let told = detail.clone();
            tell_failure(app.db.write(move |tx| job.end(tx, JobState::Failed, &told, now)).await);
            (JobState::Failed, detail)
        }
    };
    app.events.tell(job.event(state, &detail, None));
    app.events.tell(Event::Release { id: job.release });
}

/// Makes the release file, and says what became of it.
async fn make(app: &App, job: &Job) -> Result<String, JobError> {
    let signer = app.keys.signer().cloned();
    if signer.is_none() && app.keys.makes() == Makes::Nothing {
        return Err(JobError::NoKey);
    }
    let release = job.release;
    let plan: Plan = app.db.read(move |tx| build::plan(tx, release)).await?.ok_or(JobError::NoImage)?;
    let (sequence, names) = (plan.sequence, (plan.product.clone(), plan.version.clone()));
    let sources = build::load(&app.artifacts, &plan).await?;
    let built: Built =
        build::in_background(plan, sources, signer, app.keys.clone(), app.events.clone(), job.clone())
            .await
            .map_err(JobError::Build)?;
    let size = built.bytes.len() as u64;
    let stored = Stored { digest: app.artifacts.put(built.bytes).await?, size };
    let (job, now) = (job.clone(), app.clock.now());
    let write = move |tx: &Connection| {
        let sql = "SELECT file IS NOT NULL AND NOT built, coalesce(sequence > ?2, 0), product, version FROM releases WHERE id = ?1";
        let (signed_elsewhere, signed_again, called): (bool, bool, (String, String)) =
            tx.query_row(sql, params![job.release, sequence], |row| {
                Ok((row.get(0)?, row.get(1)?, (row.get(2)?, row.get(3)?)))
            })?;
        if called != names {
            let detail = "it was called otherwise meanwhile, and is made once more".to_owned();
            job.end(tx, JobState::Done, &detail, now)?;
            Job::ask(tx, job.release, JobKind::Build, now)?;
            return Ok::<_, DbError>(detail);
        }
        let detail = if signed_elsewhere && job.kind == JobKind::Build {
            // It came while this was being made.
            "a file that was signed elsewhere is there, and stays".to_owned()
        } else if signed_again {
            "it was signed with a higher sequence meanwhile, and stays".to_owned()
        } else {
            note_artifact(tx, stored, now)?;
            put_file(tx, job.release, stored, true, &built.parts, &built.deltas, now)?;
            match built.parts.deltas.len() {
                1 => format!("{size} bytes with 1 patch"),
                count => format!("{size} bytes with {count} patches"),
            }
        };
        job.end(tx, JobState::Done, &detail, now)?;
        Ok::<_, DbError>(detail)
    };
    Ok(app.db.write(write).await?)
}
