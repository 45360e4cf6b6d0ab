//! Calls what devices run as its release is called: some of them in each write, so that others write in between. What is left is noted with the
//! release, and whoever does jobs goes on with it where the server that began is gone.

use otaru_rollout::DeviceId;

use crate::app::App;
use crate::db::{Connection, DbError, OptionalExtension as _, params};
use crate::rollouts::transaction::RolloutTransaction;

/// Devices that one write renames: each may be offered to rollouts, which takes up to 2 ms.
pub(super) const STEP: u32 = 250;
/// Beginning of the keys under which releases are noted whose devices are not all renamed yet.
const KEY: &str = "renaming/";

/// Devices of a release's image that are known by another version. Each condition is that of an index.
fn misnamed(retired: &str) -> String {
    format!("SELECT id FROM devices WHERE image = ?1 AND version <> ?2 AND {retired}")
}

const RETIRED: [&str; 2] = ["retired_at IS NULL", "retired_at IS NOT NULL"];

/// Notes that devices run a release and are known by another version, if there are any. Returns whether there are.
pub(super) fn begin(tx: &Connection, release: i64, image: &[u8], version: &str) -> Result<bool, DbError> {
    let mut any = false;
    for retired in RETIRED {
        any |= tx.prepare(&misnamed(retired)).exists(params![image, version])?;
    }
    if any {
        let sql = "INSERT INTO meta (key, value) VALUES (?, '') ON CONFLICT DO NOTHING";
        tx.execute(sql, [format!("{KEY}{release}")])?;
    }
    Ok(any)
}

/// Renames all devices of a release.
pub(super) async fn finish(app: &App, release: i64) -> Result<(), DbError> {
    while step(app, release).await? {}
    Ok(())
}

/// Goes on with what other servers, and requests that ended early, have begun.
pub(super) async fn go_on(app: &App) -> Result<(), DbError> {
    let begun = app.db.read(|tx| {
        let rows = tx.prepare("SELECT key FROM meta WHERE key LIKE 'renaming/%' ORDER BY key");
        rows.query_map((), |row| row.get::<String>(0))?.collect::<Result<Vec<_>, DbError>>()
    });
    for key in begun.await? {
        if let Some(release) = key.strip_prefix(KEY).and_then(|id| id.parse().ok()) {
            finish(app, release).await?;
        }
    }
    Ok(())
}

/// Renames some, and offers them to rollouts: they may fit another range of versions than before. Returns whether there may be more.
pub(super) async fn step(app: &App, release: i64) -> Result<bool, DbError> {
    let now = app.clock.now();
    let step = app.db.write(move |tx| {
        let renamed = rename_some(tx, release)?;
        let mut transaction = RolloutTransaction::open(tx, now);
        for device in &renamed {
            transaction.offer_to_rollouts(device)?;
        }
        let changes = transaction.finish()?;
        if renamed.is_empty() {
            tx.execute("DELETE FROM meta WHERE key = ?", [format!("{KEY}{release}")])?;
        }
        Ok::<_, DbError>((renamed, changes))
    });
    let (renamed, changes) = step.await?;
    // Their next report is looked at whatever it says, and pages are drawn anew.
    renamed.iter().for_each(|device| app.recent.forget(device));
    changes.tell(app);
    Ok(!renamed.is_empty())
}

/// Calls some devices as the release is called now.
fn rename_some(tx: &Connection, release: i64) -> Result<Vec<DeviceId>, DbError> {
    let sql = "SELECT image, version FROM releases WHERE id = ?";
    let called = tx.query_row(sql, [release], |row| Ok((row.get::<Vec<u8>>(0)?, row.get::<String>(1)?)));
    let Some((image, version)) = called.optional()? else { return Ok(Vec::new()) };
    for retired in RETIRED {
        let sql = format!(
            "UPDATE devices SET version = ?2, revision = revision + 1 WHERE id IN ({} LIMIT ?3) RETURNING id",
            misnamed(retired)
        );
        let renamed = tx.prepare(&sql);
        let renamed = renamed.query_map(params![image, version, STEP], |row| row.get::<String>(0))?;
        let renamed = renamed.collect::<Result<Vec<_>, _>>()?;
        if !renamed.is_empty() {
            return Ok(renamed.iter().map(|id| DeviceId::from(id.as_str())).collect());
        }
    }
    Ok(Vec::new())
}
