//! Intake of what devices report, and of whether they are there.
//!
//! A report that says nothing new costs no write: most do, since progress alone changes once a second while a device downloads.

use otaru_format::digest::Digest;
use otaru_format::status::{Status, UpdateState};
use otaru_rollout::{DeviceId, Event, Report, Time};
use serde_json::{Value, json};

use super::epochs::Epochs;
use super::restored;
use super::sweep::polled;
use crate::app::Shared;
use crate::cluster::holdings::Claim;
use crate::cluster::notices::{self, Notice};
use crate::db::{Connection, DbError, OptionalExtension as _, params};
use crate::devices::bounds::{self, Entry, NoRoom};
use crate::devices::recent::{Came, Last, Reach};
use crate::devices::{attempts, history};
use crate::releases::naming;
use crate::rollouts::transaction::{Changes, RolloutTransaction};

/// Returns the digest of what is news when it changes.
fn essence(report: &Status<String>) -> Digest {
    let calm = Status { progress: None, attempt: 0, uptime: 0, rssi: None, n: None, ..report.clone() };
    Digest::of(&serde_json::to_vec(&calm).unwrap_or_default())
}

/// Takes a device's report. A device that is not known is registered, if it `may_register`, and otherwise ignored.
///
/// # Errors
/// Those of the database; the report is as if it had not come then.
pub async fn take_report(
    app: &Shared,
    device: &DeviceId,
    report: Status<String>,
    may_register: bool,
    came: Came,
) -> Result<(), DbError> {
    take_report_as(app, Claim::of_anybody(), device, report, may_register, came).await
}

/// The same on the strength of a lease.
///
/// # Errors
/// [`DbError::NotHeld`] when another server has the device, and those of the database; the report is as if it had not come then.
pub(super) async fn take_report_as(
    app: &Shared,
    claim: Claim,
    device: &DeviceId,
    report: Status<String>,
    may_register: bool,
    how: Came,
) -> Result<(), DbError> {
    let live = how != Came::Kept;
    let (essence, progress, now) = (essence(&report), report.progress, app.clock.now());
    if let Some(known) = app.recent.known(device, essence, progress, how) {
        if known.moved {
            let version = known.version.as_deref().unwrap_or(&report.version);
            app.events.tell(told(device, &report, version, known.is_there));
        }
        return Ok(());
    }
    let (id, told_of) = (device.clone(), report.clone());
    let most = may_register.then_some(app.config.device_limits.devices);
    let taken = app.db.write(move |tx| {
        claim.check(tx)?;
        if let Err(why) = enter(tx, &id, most, now)? {
            return Ok(Err(why));
        }
        let taken = take(tx, &id, &report, how, now)?;
        if how == Came::Live && taken.is_some() {
            forget_polls(tx, &id)?;
        }
        let came = if live && taken.is_some() { presence(tx, &id, true, false, now)? } else { None };
        Ok::<_, DbError>(Ok((taken, came)))
    });
    let (taken, came) = match taken.await? {
        Ok(taken) => taken,
        Err(why) => {
            app.registry.note(device, &why);
            return Ok(());
        }
    };
    if let Some(changes) = came {
        changes.tell(app);
    }
    if let Some(Taken { changes, version, reach }) = taken {
        app.metrics.reports.inc();
        app.events.tell(told(device, &told_of, &version, reach != Reach::Away));
        let version = (version != told_of.version).then(|| version.into());
        app.recent.keep(device, Last { report: essence, progress, version, reach });
        changes.tell(app);
    }
    Ok(())
}

/// A report that was taken in.
struct Taken {
    changes: Changes,
    /// The version that the device is known to run.
    version: String,
    /// Whether the device is there, and by what.
    reach: Reach,
}

fn told(device: &DeviceId, report: &Status<String>, version: &str, reachable: bool) -> otaru_api::Event {
    otaru_api::Event::Device {
        id: device.to_string(),
        state: report.state.as_str().to_owned(),
        version: version.to_owned(),
        reachable,
        progress: report.progress,
        next_trial: report.next_trial(),
    }
}

/// A device, as its row has it.
struct Before {
    retired: bool,
    reach: Reach,
    report: LastReport,
}

/// The last report, as a row has it.
#[derive(Debug, Default, PartialEq, Eq)]
struct LastReport {
    state: String,
    chip: String,
    product: String,
    version: String,
    image: Option<[u8; 32]>,
    confirmed: bool,
    error: Option<String>,
}

/// Notes a report's number. Says whether the report is older than one that was taken before.
fn is_old(tx: &Connection, device: &DeviceId, report: &Status<String>, live: bool) -> Result<bool, DbError> {
    let Some(number) = report.number() else { return Ok(false) };
    let sql = "SELECT epochs FROM devices WHERE id = ?";
    let text: String = tx.prepare(sql).query_row([device.as_str()], |row| row.get(0))?;
    let mut epochs = Epochs::from(text.as_str());
    let is_old = !epochs.take(number, live);
    let new = epochs.to_string();
    if new != text {
        let sql = "UPDATE devices SET epochs = ? WHERE id = ?";
        tx.prepare(sql).execute(params![new, device.as_str()])?;
    }
    Ok(is_old)
}

fn before(tx: &Connection, device: &DeviceId) -> Result<Option<Before>, DbError> {
    let sql = "SELECT retired_at IS NOT NULL, state, chip, product, version, image, error_code,
                      confirmed, reachable, polled_at IS NOT NULL FROM devices WHERE id = ?";
    let found = tx.prepare(sql).query_row([device.as_str()], |row| {
        let report = LastReport {
            state: row.get(1)?,
            chip: row.get(2)?,
            product: row.get(3)?,
            version: row.get(4)?,
            image: row.get(5)?,
            error: row.get(6)?,
            confirmed: row.get(7)?,
        };
        let reach = match (row.get(8)?, row.get(9)?) {
            (false, _) => Reach::Away,
            (true, true) => Reach::Polled,
            (true, false) => Reach::Connected,
        };
        Ok(Before { retired: row.get(0)?, reach, report })
    });
    found.optional()
}

/// Makes a row for a device that has none, where it may have one: as one of so many.
fn enter(
    tx: &Connection,
    device: &DeviceId,
    most: Option<u64>,
    now: Time,
) -> Result<Result<(), NoRoom>, DbError> {
    let Some(most) = most else { return Ok(Ok(())) };
    match bounds::register(tx, device, most, now)? {
        Entry::NoRoom(why) => Ok(Err(why)),
        Entry::Made | Entry::Known => Ok(Ok(())),
    }
}

/// `None` when the device is none of ours, or the report is an old one.
fn take(
    tx: &Connection,
    device: &DeviceId,
    report: &Status<String>,
    came: Came,
    now: Time,
) -> Result<Option<Taken>, DbError> {
    let (old, reach) = match before(tx, device)? {
        None | Some(Before { retired: true, .. }) => return Ok(None),
        Some(Before { report, reach, .. }) => (report, reach),
    };
    if is_old(tx, device, report, came != Came::Kept)? {
        return Ok(None);
    }
    let reach = match came {
        Came::Kept => reach,
        Came::Live => Reach::Connected,
        Came::Http => Reach::Polled,
    };
    let error = report.error.as_ref().map(|fault| fault.code.as_str().to_owned());
    let new = LastReport {
        state: report.state.as_str().to_owned(),
        chip: report.chip.clone(),
        product: report.product().to_owned(),
        version: naming::version_of(tx, report.image)?.unwrap_or_else(|| report.version.clone()),
        image: Some(report.image.0),
        confirmed: report.confirmed,
        error,
    };
    let is_news = new != old;
    put(tx, device, &new, report, is_news, now)?;
    restored::lift_numbers(tx, report.deployment.as_deref(), report.order)?;
    if is_news {
        history::note(tx, device, "report", &news(tx, device, report)?, now)?;
    }
    let mut transaction = RolloutTransaction::open(tx, now);
    // What a device runs decides what it may join; what it was asked to do ends first.
    transaction.event_of_device(device, &Event::Report(Report::from(report)))?;
    let moved = (&new.chip, &new.product, &new.version, new.image, new.confirmed)
        != (&old.chip, &old.product, &old.version, old.image, old.confirmed);
    if moved {
        transaction.offer_to_rollouts(device)?;
    }
    let changes = transaction.finish()?;
    Ok(Some(Taken { changes, version: new.version, reach }))
}

/// Keeps a report. One that says nothing new, as after a restart of the server, is no change of the device.
fn put(
    tx: &Connection,
    device: &DeviceId,
    is: &LastReport,
    report: &Status<String>,
    is_news: bool,
    now: Time,
) -> Result<(), DbError> {
    let text = serde_json::to_string(report).map_err(|error| DbError::corrupt("devices.report", error))?;
    // What it ran until now may have become a release only after it was reported.
    tx.prepare(
        "UPDATE devices SET chip = ?1, product = ?2, version = ?3, image = ?4, state = ?5, error_code = ?6, report = ?7,
                reported_at = ?8, last_seen = CASE WHEN ?13 THEN ?8 ELSE last_seen END, confirmed = ?10, attempt = ?11,
                trusts = ?12, revision = revision + 1,
                had = coalesce((SELECT max(r.sequence) FROM releases r WHERE r.sequence > devices.had
                    AND (r.image = ?4 AND ?10 OR r.image = devices.image AND devices.confirmed)), had)
         WHERE id = ?9",
    )
    .execute(params![
        is.chip,
        is.product,
        is.version,
        is.image,
        is.state,
        is.error,
        text,
        now.0.cast_signed(),
        device.as_str(),
        report.confirmed,
        report.attempt,
        report.tls.as_ref().map(|tls| &tls.trusts),
        is_news,
    ])?;
    Ok(())
}

/// Returns what a device's history has of a report, in the device's words; `to` and `to_image` are what it is about.
fn news(tx: &Connection, device: &DeviceId, report: &Status<String>) -> Result<Value, DbError> {
    let mut news = json!({
        "state": report.state, "product": report.product(), "project": report.project, "version": report.version, "image": report.image,
        "slot": report.slot, "confirmed": report.confirmed, "deployment": report.deployment,
        "error": report.error, "failed": report.failed, "boot": report.boot,
    });
    if report.state != UpdateState::Idle
        && let Some(attempts::Aim { version, image }) = attempts::target(tx, device, &news)?
    {
        news["to"] = version.into();
        news["to_image"] = json!(image);
    }
    Ok(news)
}

/// A device came, or went. `anew` says that this is news even if it was there before: it connected again, and what it was sent
/// meanwhile may be lost; that it went is no news where the broker had kept that. A device that is not known is registered, if it `may_register`,
/// and otherwise ignored.
pub async fn take_presence(
    app: &Shared,
    device: &DeviceId,
    online: bool,
    anew: bool,
    may_register: bool,
) -> Result<(), DbError> {
    take_presence_as(app, Claim::of_anybody(), device, online, anew, may_register).await
}

/// The same on the strength of a lease.
///
/// # Errors
/// [`DbError::NotHeld`] when another server has the device, and those of the database.
pub(super) async fn take_presence_as(
    app: &Shared,
    claim: Claim,
    device: &DeviceId,
    online: bool,
    anew: bool,
    may_register: bool,
) -> Result<(), DbError> {
    let (id, now) = (device.clone(), app.clock.now());
    let most = (online && may_register).then_some(app.config.device_limits.devices);
    let taken = app.db.write(move |tx| {
        claim.check(tx)?;
        if let Err(why) = enter(tx, &id, most, now)? {
            return Ok(Err(why));
        }
        match (online, anew) {
            (true, true) => forget_polls(tx, &id)?,
            // What a broker kept may be of a connection that ended long ago; but of one that is away a report over HTTP is older still.
            (true, false) => forget_polls_of_away(tx, &id)?,
            (false, false) if has_polled(tx, &id, now)? => return Ok(Ok(None)),
            (false, _) => {}
        }
        presence(tx, &id, online, anew, now).map(Ok)
    });
    match taken.await? {
        Ok(Some(changes)) => {
            if !online {
                // It may come back without news: then its report says that it is there.
                app.recent.forget(device);
            }
            changes.tell(app);
        }
        Ok(None) => {}
        Err(why) => app.registry.note(device, &why),
    }
    Ok(())
}

/// The same of a device that is away. An earlier version left that time where a device went.
fn forget_polls_of_away(tx: &Connection, device: &DeviceId) -> Result<(), DbError> {
    let sql = "UPDATE devices SET polled_at = NULL WHERE id = ? AND polled_at IS NOT NULL AND NOT reachable";
    tx.prepare(sql).execute([device.as_str()]).map(drop)
}

/// Whether a device reported over HTTP so lately that it is there.
fn has_polled(tx: &Connection, device: &DeviceId, now: Time) -> Result<bool, DbError> {
    let (from, to) = polled(now);
    let sql = "SELECT 1 FROM devices WHERE id = ? AND reachable AND polled_at BETWEEN ? AND ?";
    tx.prepare(sql).exists(params![device.as_str(), from, to])
}

/// From now on the connection of a device tells whether it is there, and not the time since it reported over HTTP.
fn forget_polls(tx: &Connection, device: &DeviceId) -> Result<(), DbError> {
    let sql = "UPDATE devices SET polled_at = NULL WHERE id = ? AND polled_at IS NOT NULL";
    tx.prepare(sql).execute([device.as_str()]).map(drop)
}

fn presence(
    tx: &Connection,
    device: &DeviceId,
    online: bool,
    anew: bool,
    now: Time,
) -> Result<Option<Changes>, DbError> {
    let sql = "SELECT reachable, state, version FROM devices WHERE id = ? AND retired_at IS NULL";
    let known: Option<(bool, String, String)> = tx
        .prepare(sql)
        .query_row([device.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((was, state, version)) = known else { return Ok(None) };
    if was == online && !(online && anew) {
        return Ok(None);
    }
    let mut transaction = RolloutTransaction::open(tx, now);
    if was != online {
        if !online {
            forget_polls(tx, device)?;
        }
        let sql = "UPDATE devices SET reachable = ?, last_seen = ?, revision = revision + 1 WHERE id = ?";
        tx.prepare(sql).execute(params![online, now.0.cast_signed(), device.as_str()])?;
        let kind = if online { "online" } else { "offline" };
        history::note(tx, device, kind, &json!({}), now)?;
    } else {
        transaction.event_of_device(device, &Event::Reachable(false))?;
    }
    transaction.event_of_device(device, &Event::Reachable(online))?;
    let mut changes = transaction.finish()?;
    let id = device.to_string();
    changes.events.push(otaru_api::Event::Device {
        id,
        state,
        version,
        reachable: online,
        progress: None,
        next_trial: None,
    });
    Ok(Some(changes))
}

/// Devices that one look takes to be silent.
const BATCH: u32 = 500;
/// Of these, how many are noted in one write.
const AT_ONCE: usize = 100;

/// Takes a report that came over HTTP: it shows also that the device is there, for a while.
pub async fn take_poll(app: &Shared, device: &DeviceId, report: Status<String>) -> Result<(), DbError> {
    let (id, now) = (device.clone(), app.clock.now());
    let came = app.db.write(move |tx| {
        let sql =
            "UPDATE devices SET polled_at = ? WHERE id = ? AND retired_at IS NULL AND polled_at IS NULL";
        if tx.prepare(sql).execute(params![now.0.cast_signed(), id.as_str()])? == 1 {
            // A server that hears its connection remembers it as connected.
            let device = id.to_string();
            notices::write(tx, &Notice::Changed { devices: vec![device], rollouts: Vec::new() })?;
        }
        let sql = "UPDATE devices SET polled_at = ? WHERE id = ? AND retired_at IS NULL";
        tx.prepare(sql).execute(params![now.0.cast_signed(), id.as_str()])?;
        presence(tx, &id, true, false, now)
    });
    if let Some(changes) = came.await? {
        changes.tell(app);
    }
    if app.holdings.id().is_some() {
        // The last one may have gone to another server.
        app.recent.forget(device);
    }
    take_report(app, device, report, false, Came::Http).await
}

/// Devices that reported over HTTP and have not for a while are not there any more. Those of them that are connected were
/// [asked](super::asking) to report before.
pub async fn polled_long_ago(app: &Shared) -> Result<(), DbError> {
    while polled_before(app).await? == BATCH as usize {}
    Ok(())
}

/// Looks at some of them. Returns how many.
async fn polled_before(app: &Shared) -> Result<usize, DbError> {
    let (since, until) = polled(app.clock.now());
    let gone = app.db.read(move |tx| {
        // A clock may have been ahead.
        let sql = "SELECT id FROM devices WHERE (polled_at < ? OR polled_at > ?) AND reachable AND retired_at IS NULL LIMIT ?";
        let rows = tx.prepare(sql);
        let ids = rows.query_map(params![since, until, BATCH], |row| row.get::<String>(0))?;
        ids.collect::<Result<Vec<String>, DbError>>()
    });
    let gone = gone.await?;
    let looked_at = gone.len();
    for some in gone.chunks(AT_ONCE) {
        let some: Vec<_> = some.iter().map(|id| (id.clone(), app.connections.has(id))).collect();
        let now = app.clock.now();
        let noted = app.db.write(move |tx| {
            // Not one that has reported since.
            let sql = "UPDATE devices SET polled_at = NULL WHERE id = ? AND (polled_at < ? OR polled_at > ?)";
            let forget = tx.prepare(sql);
            let mut noted = Vec::new();
            for (id, is_connected) in &some {
                let device = DeviceId::from(id.as_str());
                if forget.execute(params![id, since, until])? == 1 && !is_connected {
                    let changes = presence(tx, &device, false, false, now)?;
                    noted.extend(changes.map(|changes| (device, changes)));
                }
            }
            Ok::<_, DbError>(noted)
        });
        for (device, changes) in noted.await? {
            app.recent.forget(&device);
            changes.tell(app);
        }
    }
    Ok(looked_at)
}
