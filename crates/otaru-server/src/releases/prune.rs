//! Removes files that no release refers to any longer: release files that were made anew with more patches, and what a process that was
//! killed had not yet put into the database.

use otaru_format::digest::Digest;
use otaru_rollout::{Span, Time};

use super::columns::millis;
use crate::app::App;
use crate::artifacts::ArtifactError;
use crate::db::{Connection, DbError, OptionalExtension as _, params};

/// Time for which an unreferenced file is kept: a download of it may be under way.
const KEPT: Span = Span::hours(7 * 24);

/// Why files were not removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PruneError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Removes them.
pub(super) async fn prune(app: &App) -> Result<(), PruneError> {
    let database = app.db.write(id).await?;
    app.artifacts.claim(&database).await?;
    // A store may take its time; uploads do not wait for this.
    let found = app.artifacts.list().await?;
    // Nobody is just about to refer to one of them.
    let _alone = app.artifacts.alone().await;
    let now = app.clock.now();
    app.db.write(move |tx| forget(tx, now)).await?;
    let known = app.db.read(known).await?;
    for digest in found {
        if known.binary_search(&digest).is_err() {
            app.artifacts.remove(digest).await?;
        }
    }
    Ok(())
}

/// Returns the id of this database, by which its files in a bucket are known.
fn id(tx: &Connection) -> Result<String, DbError> {
    let sql = "SELECT value FROM meta WHERE key = 'database_id'";
    if let Some(id) = tx.query_row(sql, (), |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| DbError::corrupt("meta", error))?;
    let id = hex::encode(random);
    tx.execute("INSERT INTO meta (key, value) VALUES ('database_id', ?1)", [&id])?;
    Ok(id)
}

fn forget(tx: &Connection, now: Time) -> Result<(), DbError> {
    let before = Time(now.0.saturating_sub(KEPT.0));
    tx.execute(
        "DELETE FROM artifacts WHERE used_at < ?1 \
         AND NOT EXISTS (SELECT 1 FROM releases r WHERE artifacts.digest IN (r.raw, r.file))",
        params![millis(before)],
    )?;
    Ok(())
}

/// Files that are to stay, sorted.
fn known(tx: &Connection) -> Result<Vec<Digest>, DbError> {
    let rows = tx.prepare("SELECT digest FROM artifacts ORDER BY digest");
    let rows = rows.query_map((), |row| Ok(Digest(row.get(0)?)))?;
    rows.collect::<Result<_, _>>()
}
