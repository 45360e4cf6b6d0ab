//! Rows of deployments: the engine's state as JSON, beside it what is searched for.

use otaru_api::{Cursor, Page, Timestamp};
use otaru_format::digest::Digest;
use otaru_rollout::{Deployment, DeviceId, OfferId, Outcome, RolloutId, Standing, Time};

use super::rows::key;
use super::unreadable::{self, left_out};
use crate::db::few::are_few;
use crate::db::{Connection, DbError, OptionalExtension as _, Row, ToValue as _, Value, params};

fn parse(rollout: RolloutId, device: &str, state: &str) -> Result<Deployment, DbError> {
    let row = format_args!("deployment of {device} in rollout {}", rollout.0);
    unreadable::parse("deployments.state", row, state)
}

/// A deployment, and its revision; none that cannot be read. For work that goes on without it; where something hangs on whether there is one,
/// [`get`] is to be asked.
pub fn readable(
    tx: &Connection,
    rollout: RolloutId,
    device: &DeviceId,
) -> Result<Option<(Deployment, i64)>, DbError> {
    Ok(left_out(get(tx, rollout, device))?.flatten())
}

/// A deployment, and its revision.
pub fn get(
    tx: &Connection,
    rollout: RolloutId,
    device: &DeviceId,
) -> Result<Option<(Deployment, i64)>, DbError> {
    let sql = "SELECT state, revision FROM deployments WHERE rollout = ? AND device = ?";
    let found: Option<(String, i64)> = tx
        .prepare(sql)
        .query_row(params![key(rollout), device.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((state, revision)) = found else { return Ok(None) };
    Ok(Some((parse(rollout, device.as_str(), &state)?, revision)))
}

/// Returns the standing of a device's deployment in a rollout, by name; `None` when it has none.
pub fn standing(tx: &Connection, rollout: RolloutId, device: &DeviceId) -> Result<Option<String>, DbError> {
    let sql = "SELECT standing FROM deployments WHERE rollout = ? AND device = ?";
    let key = params![key(rollout), device.as_str()];
    tx.prepare(sql).query_row(key, |row| row.get(0)).optional()
}

/// The rollouts in which a device's deployment is not over.
pub fn open_for_device(tx: &Connection, device: &DeviceId) -> Result<Vec<RolloutId>, DbError> {
    let sql = "SELECT rollout FROM deployments WHERE device = ? AND is_open ORDER BY rollout";
    let rows = tx.prepare(sql);
    let ids = rows.query_map([device.as_str()], |row| Ok(RolloutId(row.get::<i64>(0)?.cast_unsigned())))?;
    ids.collect::<Result<_, _>>()
}

struct Columns {
    state: String,
    standing: &'static str,
    is_open: bool,
    wake_at: Option<i64>,
    not_before: Option<i64>,
    error: Option<&'static str>,
}

impl Columns {
    fn of(deployment: &Deployment) -> Result<Self, DbError> {
        let state = serde_json::to_string(deployment);
        let standing = deployment.standing();
        Ok(Self {
            state: state.map_err(|error| DbError::corrupt("deployments.state", error))?,
            standing: standing.as_str(),
            is_open: !matches!(standing, Standing::Finished(_)),
            wake_at: deployment.wake_at().map(|at| at.0.cast_signed()),
            not_before: deployment.not_before().map(|at| at.0.cast_signed()),
            error: deployment.error().map(|fault| fault.code.as_str()),
        })
    }
}

/// Deployments in one statement: fourteen values each at most, of which SQLite takes 32,766.
const AT_ONCE: usize = 50;

/// Keeps new deployments.
pub fn insert(tx: &Connection, deployments: &[Deployment], now: Time) -> Result<(), DbError> {
    for some in deployments.chunks(AT_ONCE) {
        let rows = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; some.len()].join(", ");
        let sql = format!(
            "INSERT INTO deployments (rollout, device, state, standing, is_open, wave, starts, position, wake_at, not_before,
                                      error_code, image, created_at, updated_at) VALUES {rows}"
        );
        let mut values = Vec::new();
        for deployment in some {
            values.extend(row(deployment, now)?);
        }
        tx.execute(&sql, values)?;
    }
    Ok(())
}

/// Returns the values of a new row.
fn row(deployment: &Deployment, now: Time) -> Result<[Value; 14], DbError> {
    let columns = Columns::of(deployment)?;
    let now = now.0.cast_signed();
    Ok([
        key(deployment.rollout()).to_value(),
        deployment.device().as_str().to_value(),
        columns.state.to_value(),
        columns.standing.to_value(),
        columns.is_open.to_value(),
        i64::try_from(deployment.wave()).unwrap_or(i64::MAX).to_value(),
        deployment.starts().to_value(),
        deployment.position().number().to_value(),
        columns.wake_at.to_value(),
        columns.not_before.to_value(),
        columns.error.to_value(),
        deployment.image().0.to_value(),
        now.to_value(),
        now.to_value(),
    ])
}

/// Keeps a deployment that was read at this revision.
///
/// # Errors
/// [`DbError::Conflict`] when it was changed since.
pub fn save(tx: &Connection, deployment: &Deployment, revision: i64, now: Time) -> Result<(), DbError> {
    let columns = Columns::of(deployment)?;
    let changed = tx
        .prepare(
            "UPDATE deployments SET state = ?, standing = ?, is_open = ?, starts = ?, wake_at = ?, not_before = ?,
                    error_code = ?, image = ?, updated_at = ?, revision = revision + 1
             WHERE rollout = ? AND device = ? AND revision = ?",
        )
        .execute(params![
            columns.state,
            columns.standing,
            columns.is_open,
            deployment.starts(),
            columns.wake_at,
            columns.not_before,
            columns.error,
            deployment.image().0,
            now.0.cast_signed(),
            key(deployment.rollout()),
            deployment.device().as_str(),
            revision,
        ])?;
    if changed == 1 { Ok(()) } else { Err(DbError::Conflict) }
}

/// Keeps deployments that were read at these revisions, and of which nothing that is searched for has changed but where they stand.
///
/// # Errors
/// [`DbError::Conflict`] when one was changed since.
pub fn save_standings(tx: &Connection, deployments: &[(Deployment, i64)], now: Time) -> Result<(), DbError> {
    for some in deployments.chunks(AT_ONCE) {
        let row = "(CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT))";
        let rows = vec![row; some.len()].join(", ");
        let sql = format!(
            "UPDATE deployments SET state = v.column4, standing = v.column5, updated_at = ?1, revision = revision + 1
             FROM (VALUES {rows}) AS v
             WHERE rollout = v.column1 AND device = v.column2 AND revision = v.column3"
        );
        let mut values = vec![now.0.cast_signed().to_value()];
        for (deployment, revision) in some {
            let Columns { state, standing, .. } = Columns::of(deployment)?;
            values.push(key(deployment.rollout()).to_value());
            values.push(deployment.device().as_str().to_value());
            values.extend([revision.to_value(), state.to_value(), standing.to_value()]);
        }
        if tx.execute(&sql, values)? != some.len() {
            return Err(DbError::Conflict);
        }
    }
    Ok(())
}

/// Returns deployments of these devices that are not over, with their revisions.
pub fn open_for_devices(tx: &Connection, devices: &[DeviceId]) -> Result<Vec<(Deployment, i64)>, DbError> {
    let marks = vec!["?"; devices.len()].join(", ");
    let sql = format!(
        "SELECT state, revision, rollout, device FROM deployments WHERE device IN ({marks}) AND is_open ORDER BY device, rollout"
    );
    let rows = tx.prepare(&sql);
    let devices: Vec<Value> = devices.iter().map(|device| device.as_str().to_value()).collect();
    let found = rows.query_map(devices, |row| {
        let rollout = RolloutId(row.get::<i64>(2)?.cast_unsigned());
        Ok((parse(rollout, &row.get::<String>(3)?, &row.get::<String>(0)?)?, row.get(1)?))
    })?;
    found.filter_map(|read| left_out(read).transpose()).collect()
}

/// Notes an offer: with which sequence a device is offered an image, by which devices that roll it back bar it, and its order. One that
/// is made again keeps the order that it has.
pub fn note_offer(
    tx: &Connection,
    offer: OfferId,
    device: &DeviceId,
    image: Digest,
    order: i64,
) -> Result<(), DbError> {
    let sql =
        "UPDATE deployments SET offered = (SELECT sequence FROM releases WHERE image = ?5), offer_start = ?2,
                      offer_order = CASE WHEN offer_start IS DISTINCT FROM ?2 THEN ?1 ELSE offer_order END
               WHERE rollout = ?3 AND device = ?4";
    let values = params![order, offer.start, key(offer.rollout), device.as_str(), image.0];
    tx.prepare(sql).execute(values)?;
    Ok(())
}

/// Returns a device's deployment in a rollout and the order of this offer of it.
pub fn with_order(
    tx: &Connection,
    offer: OfferId,
    device: &DeviceId,
) -> Result<Option<(Deployment, Option<u64>)>, DbError> {
    let sql = "SELECT state, CASE WHEN offer_start = ?1 THEN offer_order END FROM deployments
               WHERE rollout = ?2 AND device = ?3";
    let values = params![offer.start, key(offer.rollout), device.as_str()];
    let found: Option<(String, Option<u64>)> =
        tx.prepare(sql).query_row(values, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((state, order)) = found else { return Ok(None) };
    Ok(Some((parse(offer.rollout, device.as_str(), &state)?, order)))
}

/// Returns the order of an offer that was made.
pub fn order_of(tx: &Connection, offer: OfferId, device: &DeviceId) -> Result<Option<u64>, DbError> {
    let sql = "SELECT offer_order FROM deployments WHERE rollout = ? AND device = ? AND offer_start = ?";
    let order = tx
        .prepare(sql)
        .query_row(params![key(offer.rollout), device.as_str(), offer.start], |row| row.get(0))
        .optional()?;
    Ok(order.flatten())
}

/// Devices whose deployment may start, best first and after so many of them: the engine has the last word. Those whose device is updating for another
/// rollout are left out, and so are those in a pause that is not longer than pauses are, and those for whose image there is no file:
/// they wait until there is one, or the rollout ends.
pub fn ready(
    tx: &Connection,
    rollout: &otaru_rollout::Rollout,
    after: u32,
    limit: u32,
    now: Time,
) -> Result<Vec<DeviceId>, DbError> {
    let longest = now + rollout.spec().attempts.max_backoff;
    let rows = tx.prepare(
        "SELECT p.device FROM deployments p JOIN devices d ON d.id = p.device
         WHERE p.rollout = ?1 AND p.standing = 'ready' AND p.wave <= ?2
           AND (p.not_before IS NULL OR p.not_before <= ?3 OR p.not_before > ?4) AND d.active IS NULL
           AND EXISTS (SELECT 1 FROM releases r WHERE r.image = p.image
                       AND r.yanked_at IS NULL AND coalesce(r.file, r.raw) IS NOT NULL)
         ORDER BY p.wave, p.starts, p.position LIMIT ?5 OFFSET ?6",
    );
    let wave = i64::try_from(rollout.wave()).unwrap_or(i64::MAX);
    let devices = rows.query_map(
        params![key(rollout.id()), wave, now.0.cast_signed(), longest.0.cast_signed(), limit, after],
        |row| Ok(DeviceId::from(row.get::<String>(0)?.as_str())),
    )?;
    devices.collect::<Result<_, _>>()
}

/// A deployment whose moment has come: the moment, and its key.
pub type Due = (Time, RolloutId, DeviceId);

/// Deployments whose moment had come by then, after this one, in the order of their moments.
pub fn due(tx: &Connection, by: Time, after: Option<&Due>, limit: u32) -> Result<Vec<Due>, DbError> {
    let (time, rollout, device) = after
        .map_or((0, 0, ""), |(time, rollout, device)| (time.0.cast_signed(), key(*rollout), device.as_str()));
    let rows = tx.prepare(
        "SELECT wake_at, rollout, device FROM deployments
         WHERE wake_at <= ? AND (wake_at, rollout, device) > (?, ?, ?) ORDER BY wake_at, rollout, device LIMIT ?",
    );
    let due = rows.query_map(params![by.0.cast_signed(), time, rollout, device, limit], |row| {
        let (time, rollout) = (row.get::<i64>(0)?.cast_unsigned(), row.get::<i64>(1)?.cast_unsigned());
        Ok((Time(time), RolloutId(rollout), DeviceId::from(row.get::<String>(2)?.as_str())))
    })?;
    due.collect()
}

/// Active deployments after this one, in the order of their keys.
pub fn active_after(
    tx: &Connection,
    after: Option<&(RolloutId, DeviceId)>,
    limit: u32,
) -> Result<Vec<(RolloutId, DeviceId)>, DbError> {
    let (rollout, device) = after.map_or((0, ""), |(rollout, device)| (key(*rollout), device.as_str()));
    let sql =
        "SELECT rollout, device FROM deployments WHERE wake_at IS NOT NULL AND (rollout, device) > (?, ?)
               ORDER BY rollout, device LIMIT ?";
    let rows = tx.prepare(sql);
    let active = rows.query_map(params![rollout, device, limit], |row| {
        let device: String = row.get(1)?;
        Ok((RolloutId(row.get::<i64>(0)?.cast_unsigned()), DeviceId::from(device.as_str())))
    })?;
    active.collect()
}

/// Deployments of a rollout that are not over, after this device.
pub fn open_in_rollout(
    tx: &Connection,
    rollout: RolloutId,
    after: Option<&DeviceId>,
    limit: u32,
) -> Result<Vec<DeviceId>, DbError> {
    let rows = tx.prepare(
        "SELECT device FROM deployments WHERE rollout = ? AND device > ? AND is_open ORDER BY device LIMIT ?",
    );
    let after = after.map_or("", DeviceId::as_str);
    let devices = rows.query_map(params![key(rollout), after, limit], |row| {
        Ok(DeviceId::from(row.get::<String>(0)?.as_str()))
    })?;
    devices.collect::<Result<_, _>>()
}

fn shown(row: &Row) -> Result<otaru_api::Deployment, DbError> {
    let rollout = RolloutId(row.get::<i64>(3)?.cast_unsigned());
    let deployment = parse(rollout, &row.get::<String>(4)?, &row.get::<String>(0)?)?;
    Ok(otaru_api::Deployment {
        rollout: deployment.rollout().0,
        device: deployment.device().to_string(),
        standing: deployment.standing().into(),
        wave: u32::try_from(deployment.wave()).unwrap_or(u32::MAX),
        starts: deployment.starts(),
        image: deployment.image().to_string(),
        previous: deployment.previous().to_string(),
        trials: deployment.trials(),
        returns: deployment.returns(),
        error_code: deployment.error().map(|fault| fault.code.as_str().to_owned()),
        error_detail: deployment.error().map(|fault| fault.detail.clone()),
        not_before: deployment.not_before().map(Timestamp::from),
        created_at: row.get(1)?,
        updated_at: row.get(2)?,
    })
}

/// Deployments of a rollout in the order of their devices; `standing` and `error` narrow them down.
pub fn list(
    tx: &Connection,
    rollout: RolloutId,
    standing: Option<&str>,
    error: Option<&str>,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<otaru_api::Deployment>, DbError> {
    // Of a standing that few have, its index names the devices: `|| ''` keeps the database from walking them in order instead.
    let there = match standing {
        Some(standing) if is_rare(tx, rollout, standing)? => {
            "device IN (SELECT p.device FROM deployments p
                        WHERE p.rollout = ?1 AND p.standing = ?3 AND p.device || '' > coalesce(?2, ''))"
        }
        _ => "device > coalesce(?2, '') AND (CAST(?3 AS TEXT) IS NULL OR standing = ?3)",
    };
    let sql = format!(
        "SELECT state, created_at, updated_at, rollout, device FROM deployments
         WHERE rollout = ?1 AND {there} AND (CAST(?4 AS TEXT) IS NULL OR error_code = ?4)
         ORDER BY device LIMIT ?5",
    );
    let rows = tx.prepare(&sql);
    let found = rows
        .query_map(params![key(rollout), after, standing, error, i64::from(limit) + 1], |row| {
            Ok((row.get::<String>(4)?, left_out(shown(row))?))
        })?;
    let page = Page::cut(found.collect::<Result<Vec<_>, _>>()?, limit, |(device, _)| Cursor::of(device));
    Ok(Page {
        items: page.items.into_iter().filter_map(|(_, shown)| shown).collect(),
        next: page.next,
        total: None,
    })
}

/// Tells whether few deployments of a rollout stand so.
pub(crate) fn is_rare(tx: &Connection, rollout: RolloutId, standing: &str) -> Result<bool, DbError> {
    let from = "deployments WHERE rollout = ? AND standing = ?";
    are_few(tx, from, vec![key(rollout).into(), standing.to_owned().into()])
}

/// Lists the outcomes that are like this, for SQL: `'failed', 'rolled_back'`.
pub(crate) fn outcomes(are: fn(Outcome) -> bool) -> String {
    let names = Outcome::ALL.into_iter().filter(|outcome| are(*outcome));
    names.map(|outcome| format!("'{}'", outcome.as_str())).collect::<Vec<_>>().join(", ")
}

/// Why deployments of a rollout failed: each code, and how often.
pub fn reasons(
    tx: &Connection,
    rollout: RolloutId,
) -> Result<std::collections::BTreeMap<String, u64>, DbError> {
    let mut few = true;
    for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.is_failure()) {
        few = few && is_rare(tx, rollout, outcome.as_str())?;
    }
    // Where few failed, the index of standings names them; SQLite would look at all deployments of the rollout.
    let failed = outcomes(Outcome::is_failure);
    let there = match few {
        true => format!(
            "device IN (SELECT p.device FROM deployments p WHERE p.rollout = ?1 AND p.standing IN ({failed}))"
        ),
        false => format!("standing IN ({failed})"),
    };
    let sql = format!(
        "SELECT error_code, count(*) FROM deployments WHERE rollout = ?1 AND error_code IS NOT NULL AND {there}
         GROUP BY error_code"
    );
    let rows = tx.prepare(&sql);
    let reasons =
        rows.query_map([key(rollout)], |row| Ok((row.get(0)?, row.get::<i64>(1)?.unsigned_abs())))?;
    reasons.collect::<Result<_, _>>()
}

/// Returns the names of all standings.
pub(crate) fn standings() -> impl Iterator<Item = &'static str> {
    let open = [Standing::Ready, Standing::Waiting, Standing::Active, Standing::Retrying];
    open.into_iter().chain(Outcome::ALL.map(Standing::Finished)).map(Standing::as_str)
}
