//! Rows of rollouts: the engine's state as JSON, beside it what is searched for.

use otaru_api::{Cursor, Page, RolloutEvent, Timestamp};
use otaru_rollout::{Phase, Rollout, RolloutId, Time, Verdicts};
use serde_json::Value;

use super::unreadable::{self, left_out};
use crate::db::{Connection, DbError, OptionalExtension as _, Row, params};

/// A rollout as it is kept.
#[derive(Debug, Clone)]
pub struct StoredRollout {
    /// The engine's state.
    pub rollout: Rollout,
    /// The name.
    pub name: String,
    /// The release it brings; `None` for one that takes another back.
    pub release: Option<i64>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Time of the last change.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}

pub(super) const COLUMNS: &str = "state, name, release, created_at, created_by, updated_at, revision, id";

pub(super) fn kept(row: &Row) -> Result<StoredRollout, DbError> {
    let state: String = row.get(0)?;
    Ok(StoredRollout {
        rollout: unreadable::parse("rollouts.state", format_args!("rollout {}", row.get::<i64>(7)?), &state)?,
        name: row.get(1)?,
        release: row.get(2)?,
        created_at: row.get(3)?,
        created_by: row.get(4)?,
        updated_at: row.get(5)?,
        revision: row.get(6)?,
    })
}

/// A rollout's key in the database.
pub fn key(id: RolloutId) -> i64 {
    id.0.cast_signed()
}

/// A rollout, as [`get`] has it; none that cannot be read.
///
/// # Errors
/// Those of the database.
pub fn readable(tx: &Connection, id: RolloutId) -> Result<Option<StoredRollout>, DbError> {
    Ok(left_out(get(tx, id))?.flatten())
}

/// A rollout.
///
/// # Errors
/// Also when it cannot be read.
pub fn get(tx: &Connection, id: RolloutId) -> Result<Option<StoredRollout>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rollouts WHERE id = ?");
    let found = tx.prepare(&sql).query_row([key(id)], kept).optional()?;
    Ok(found)
}

/// Rollouts, newest first: those before the cursor, in this phase, that can be read. Fewer than the limit are all there are.
pub fn list(
    tx: &Connection,
    phase: Option<&str>,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<StoredRollout>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rollouts WHERE id < coalesce(?1, 9223372036854775807) AND (CAST(?2 AS TEXT) IS NULL OR phase = ?2)
         ORDER BY id DESC LIMIT ?3"
    );
    let rows = tx.prepare(&sql);
    let (mut found, mut before, most) = (Vec::new(), before, limit as usize);
    loop {
        let some =
            rows.query_map(params![before, phase, limit], |row| Ok((row.get::<i64>(7)?, kept(row))))?;
        let some = some.collect::<Result<Vec<_>, DbError>>()?;
        let is_last = some.len() < most;
        before = some.last().map(|(id, _)| *id);
        for (_, kept) in some {
            found.extend(left_out(kept)?);
        }
        if is_last || found.len() >= most {
            found.truncate(most);
            return Ok(found);
        }
    }
}

/// The newest rollouts of a release.
pub fn of_release(tx: &Connection, release: i64, limit: u32) -> Result<Vec<StoredRollout>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rollouts WHERE release = ? ORDER BY id DESC LIMIT ?");
    let rows = tx.prepare(&sql);
    let found = rows.query_map(params![release, limit], kept)?;
    found.filter_map(|kept| left_out(kept).transpose()).collect()
}

/// The ids of rollouts that devices may join, the newest last.
pub fn open(tx: &Connection) -> Result<Vec<RolloutId>, DbError> {
    ids(tx, "SELECT id FROM rollouts WHERE is_open ORDER BY id")
}

/// The ids of rollouts about which there may be something to do.
pub fn alive(tx: &Connection) -> Result<Vec<RolloutId>, DbError> {
    ids(tx, "SELECT id FROM rollouts WHERE is_alive ORDER BY id")
}

fn ids(tx: &Connection, sql: &str) -> Result<Vec<RolloutId>, DbError> {
    let rows = tx.prepare(sql);
    let ids = rows.query_map((), |row| Ok(RolloutId(row.get::<i64>(0)?.cast_unsigned())))?;
    ids.collect::<Result<_, _>>()
}

/// Keeps a new rollout under the id that the database gives it.
///
/// # Errors
/// Those of `make`, and of the database.
pub fn insert<E: From<DbError>>(
    tx: &Connection,
    name: &str,
    release: Option<i64>,
    by: &str,
    now: Time,
    make: impl FnOnce(RolloutId) -> Result<Rollout, E>,
) -> Result<StoredRollout, E> {
    let at = Timestamp::from(now);
    let id: i64 = tx.query_row(
        "INSERT INTO rollouts (name, release, state, phase, is_open, is_alive, created_at, created_by, updated_at)
         VALUES (?1, ?2, '', 'draft', FALSE, FALSE, ?3, ?4, ?3) RETURNING id",
        params![name, release, at, by],
        |row| row.get(0),
    )?;
    let rollout = make(RolloutId(id.cast_unsigned()))?;
    save(tx, &rollout, 0, now)?;
    Ok(StoredRollout {
        rollout,
        name: name.to_owned(),
        release,
        created_at: at,
        created_by: by.to_owned(),
        updated_at: at,
        revision: 1,
    })
}

/// Keeps a rollout that was read at this revision.
///
/// # Errors
/// [`DbError::Conflict`] when it was changed since.
pub fn save(tx: &Connection, rollout: &Rollout, revision: i64, now: Time) -> Result<(), DbError> {
    let state = serde_json::to_string(rollout).map_err(|error| DbError::corrupt("rollouts.state", error))?;
    let phase = rollout.phase();
    let alive = match phase {
        Phase::Draft | Phase::Completed => false,
        Phase::Aborted { .. } => rollout.open() > 0,
        _ => true,
    };
    let changed = tx
        .prepare(
            "UPDATE rollouts SET state = ?, phase = ?, is_open = ?, is_alive = ?, updated_at = ?, revision = revision + 1
             WHERE id = ? AND revision = ?",
        )
        .execute(params![
            state,
            phase.as_str(),
            phase.is_open(),
            alive,
            now.0.cast_signed(),
            key(rollout.id()),
            revision
        ])?;
    if changed == 1 { Ok(()) } else { Err(DbError::Conflict) }
}

/// Lists what happened to a rollout: the newest, or what is older than the cursor.
pub fn events(
    tx: &Connection,
    id: RolloutId,
    before: Option<i64>,
    limit: u32,
) -> Result<Page<RolloutEvent>, DbError> {
    let rows = tx.prepare(
        "SELECT id, at, actor, event FROM rollout_events
         WHERE rollout = ?1 AND id < coalesce(?2, 9223372036854775807) ORDER BY id DESC LIMIT ?3",
    );
    let events = rows.query_map(params![key(id), before, i64::from(limit) + 1], |row| {
        let event: String = row.get(3)?;
        let event = serde_json::from_str(&event).unwrap_or(Value::Null);
        Ok(RolloutEvent { id: row.get(0)?, at: row.get(1)?, actor: row.get(2)?, event })
    })?;
    Ok(Page::cut(events.collect::<Result<_, _>>()?, limit, |last| Cursor::of(&last.id)))
}

/// The verdicts with which a rollout last stopped by itself.
pub fn broke(tx: &Connection, id: RolloutId) -> Result<Option<Verdicts>, DbError> {
    let sql = "SELECT json_extract(event, '$.notice.stopped') FROM rollout_events
               WHERE rollout = ? AND json_extract(event, '$.notice.stopped') IS NOT NULL ORDER BY id DESC LIMIT 1";
    let text: Option<String> = tx.prepare(sql).query_row([key(id)], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Notes what happened to a rollout: what the engine noticed, or what an operator did.
pub fn note(
    tx: &Connection,
    id: RolloutId,
    actor: Option<&str>,
    event: &serde_json::Value,
    now: Time,
) -> Result<(), DbError> {
    tx.prepare("INSERT INTO rollout_events (rollout, at, actor, event) VALUES (?, ?, ?, ?)")
        .execute(params![key(id), now.0.cast_signed(), actor, event.to_string()])?;
    Ok(())
}
