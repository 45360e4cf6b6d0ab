//! The store of firmware: opened, looked at, and held against where the database's files were at the last start.

use otaru_format::digest::Digest;

use super::error::StartError;
use crate::artifacts::{ArtifactError, Artifacts};
use crate::backup::ARTIFACTS_AT;
use crate::config::{ArtifactsConfig, Config};
use crate::data_dir::{DataDir, make_private};
use crate::db::{Connection, Db, DbError, OptionalExtension as _};

/// Opens the store. A bucket that is away, or refuses, is told, and does not keep a server from its other work.
///
/// # Errors
/// When it cannot be used, or is another than before and does not have the files.
pub(super) async fn open(config: &Config, data: &DataDir, db: &Db) -> Result<Artifacts, StartError> {
    let memory = config.download_memory;
    let (artifacts, now) = match &config.artifacts {
        ArtifactsConfig::Own => (Artifacts::open(&data.artifacts(), memory)?, None),
        ArtifactsConfig::Folder(folder) => {
            make_private(folder).map_err(ArtifactError::Io)?;
            let place = std::path::absolute(folder).map_err(ArtifactError::Io)?;
            // Nobody knows who else was given it.
            (Artifacts::open_shared(folder, memory)?, Some(place.display().to_string()))
        }
        ArtifactsConfig::S3(bucket) => {
            let artifacts = Artifacts::open_bucket(bucket, &data.copies(), memory).await?;
            (artifacts, Some(bucket.place.to_string()))
        }
    };
    if let Err(error) = artifacts.look().await {
        tracing::error!(%error, "no firmware can be uploaded, and none downloaded but what has a copy here");
    }
    settle(db, &artifacts, now).await?;
    Ok(artifacts)
}

/// Notes where the files are; not before one of them was found there, if they were elsewhere.
async fn settle(db: &Db, artifacts: &Artifacts, now: Option<String>) -> Result<(), StartError> {
    let (was, newest) = db.read(known).await?;
    if was == now {
        return Ok(());
    }
    if let Some(newest) = newest
        && let Err(error) = artifacts.len(newest).await
    {
        let own = || "the data folder".to_owned();
        let (was, now) = (was.unwrap_or_else(own), now.unwrap_or_else(own));
        if error.is_missing() {
            return Err(StartError::ArtifactsElsewhere { was, now });
        }
        tracing::warn!(%was, %now, %error, "the firmware was elsewhere; whether it is here cannot be seen");
        return Ok(());
    }
    Ok(db.write(move |tx| note(tx, now.as_deref())).await?)
}

/// Returns where the files were, unless it was the data folder, and the newest of them.
fn known(tx: &Connection) -> Result<(Option<String>, Option<Digest>), DbError> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    let was = tx.query_row(sql, [ARTIFACTS_AT], |row| row.get(0)).optional()?;
    let sql = "SELECT digest FROM artifacts ORDER BY used_at DESC LIMIT 1";
    let newest = tx.query_row(sql, (), |row| Ok(Digest(row.get(0)?))).optional()?;
    Ok((was, newest))
}

fn note(tx: &Connection, now: Option<&str>) -> Result<(), DbError> {
    match now {
        Some(now) => {
            let sql =
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
            tx.execute(sql, [ARTIFACTS_AT, now])?;
        }
        None => drop(tx.execute("DELETE FROM meta WHERE key = ?1", [ARTIFACTS_AT])?),
    }
    Ok(())
}
