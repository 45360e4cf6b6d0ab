//! Work in the background: one job at a time, begun anew where whoever did it is gone.

use std::time::Duration;

use otaru_api::{Event, JobKind, JobState};
use otaru_rollout::Time;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::again;
use super::build::{self, Built, Plan};
use super::job::Job;
use super::keys::Makes;
use super::prune::prune;
use super::register::{Stored, note_artifact, put_file};
use super::renaming;
use crate::app::{App, Shared};
use crate::artifacts::ArtifactError;
use crate::cluster::holdings::Claim;
use crate::cluster::leases::{Leased, Task};
use crate::db::{Connection, DbError, params};

/// Interval of searching the fleet for images that a release has no patch for.
const CHECK: Duration = Duration::from_secs(60 * 60);

/// Interval of looking for jobs that other servers asked for.
const LOOK: Duration = Duration::from_secs(2);

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The release is gone, or has no image as a file.
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

/// Does jobs until `stop`. What is under way then is begun anew by the next process.
pub async fn run(app: Shared, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work(&app) => {}
    }
}

async fn work(app: &App) {
    let mut check = tokio::time::interval_at(Instant::now(), CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let has = app.holdings.has_task(Task::Jobs);
        if has {
            tell_failure(renaming::go_on(app).await);
        }
        while let Some((job, claim)) = next(app).await {
            if carry_out(app, &job, claim).await == Carried::Later {
                break;
            }
        }
        // Other servers ask for jobs, too.
        let others = async {
            match app.holdings.id() {
                Some(_) => tokio::time::sleep(LOOK).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = app.wake.jobs.notified() => {}
            () = others => {}
            _ = check.tick(), if has => {
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

/// Takes the next job, if this server does them.
async fn next(app: &App) -> Option<(Job, Claim)> {
    let claim = app.holdings.claim(Leased::Task(Task::Jobs))?;
    let (now, taken) = (app.clock.now(), claim.clone());
    let taking = app.db.write(move |tx| match taken.holds(tx)? {
        true => take(tx, now),
        false => Ok(None),
    });
    tell_failure(taking.await).flatten().map(|job| (job, claim))
}

/// Nobody waits for an answer here: a failure goes to the log, and the next bell is another chance.
fn tell_failure<T>(outcome: Result<T, DbError>) -> Option<T> {
    let tell = |error: &DbError| {
        if !error.is_outage() {
            tracing::error!(%error, "jobs cannot be done");
        }
    };
    outcome.inspect_err(tell).ok()
}

/// Takes the job that has waited longest, or that nobody carries on with, and gives its release a number if it has none: above all that the product
/// has, and kept, so that a release with more patches is not a newer one.
pub(super) fn take(tx: &Connection, now: Time) -> Result<Option<Job>, DbError> {
    let job = Job::next(tx)?;
    if let Some(job) = &job {
        again::number(tx, job.release, now)?;
    }
    Ok(job)
}

/// Asks for release files with more patches, where devices run images that have none yet. Of each product only what devices are
/// given now: the newest release, and those in open rollouts.
pub(super) fn ask_for_patches(tx: &Connection, now: Time) -> Result<(), DbError> {
    let candidates = tx.prepare(
        "SELECT r.id, r.file IS NULL OR r.built AND r.signed_by IS NULL FROM releases r \
         WHERE r.raw IS NOT NULL AND r.yanked_at IS NULL AND (r.file IS NULL OR r.built) AND (\
            NOT EXISTS (SELECT 1 FROM releases n WHERE n.product = r.product AND n.chip = r.chip \
                        AND n.yanked_at IS NULL AND n.id > r.id) \
            OR EXISTS (SELECT 1 FROM rollouts o WHERE o.release = r.id AND o.is_open)) \
         ORDER BY r.id",
    );
    let found = candidates.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(i64, bool)> = found.collect::<Result<_, _>>()?;
    for (release, unsigned) in found {
        if unsigned || lacks_patch(tx, release)? {
            Job::ask(tx, release, JobKind::Build, now)?;
        }
    }
    Ok(())
}

fn lacks_patch(tx: &Connection, release: i64) -> Result<bool, DbError> {
    let tried = tx.prepare("SELECT 1 FROM deltas WHERE release = ?1 AND base = ?2");
    for (base, _) in build::bases(tx, release)? {
        if !tried.exists(params![release, base.0])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a job is over.
#[derive(Debug, PartialEq, Eq)]
enum Carried {
    Out,
    /// It is begun anew: by this server after a while, or by whichever does jobs then.
    Later,
}

async fn carry_out(app: &App, job: &Job, claim: Claim) -> Carried {
    app.events.tell(job.event(JobState::Running, "", Some(0)));
    let (state, detail) = match make(app, job, claim.clone()).await {
        Ok(detail) => (JobState::Done, detail),
        // Nothing is the matter with the job.
        Err(JobError::Db(DbError::Closed | DbError::NotHeld)) => return Carried::Later,
        Err(JobError::Db(error)) if error.is_passing() => return Carried::Later,
        Err(error) => {
            tracing::warn!(job = job.id, release = job.release, %error, "a job failed");
            let (job, detail, now) = (job.clone(), error.to_string(), app.clock.now());
            let told = detail.clone();
            let ending = app.db.write(move |tx| {
                claim.check(tx)?;
                job.end(tx, JobState::Failed, &told, now)
            });
            if tell_failure(ending.await).is_none() {
                return Carried::Later;
            }
            (JobState::Failed, detail)
        }
    };
    app.events.tell(job.event(state, &detail, None));
    app.events.tell(Event::Release { id: job.release });
    Carried::Out
}

/// Makes the release file, and says what became of it.
async fn make(app: &App, job: &Job, claim: Claim) -> Result<String, JobError> {
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
        claim.check(tx)?;
        let sql = "SELECT file IS NOT NULL AND NOT built, coalesce(sequence > ?2, FALSE), product, version FROM releases WHERE id = ?1";
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
