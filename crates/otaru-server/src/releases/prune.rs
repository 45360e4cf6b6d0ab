//! Removes files that no release refers to any longer: release files that were made anew with more patches, and what a process that was
//! killed had not yet put into the database.

use otaru_format::digest::Digest;
use otaru_rollout::{Span, Time};

use super::columns::millis;
use crate::app::App;
use crate::artifacts::ArtifactError;
use crate::db::{Connection, DbError, params};

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
    // Nobody is just about to refer to one of them.
    let _alone = app.artifacts.alone().await;
    let now = app.clock.now();
    app.db.write(move |tx| forget(tx, now)).await?;
    let known = app.db.read(known).await?;
    for digest in app.artifacts.list().await? {
        if known.binary_search(&digest).is_err() {
            app.artifacts.remove(digest).await?;
        }
    }
    Ok(())
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
