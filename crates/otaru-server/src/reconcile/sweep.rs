//! Sweeps the fleet after a time without any server: devices that were connected are taken to be gone until they are heard.
//!
//! A server that starts and finds no other notes that there is a sweep to be made, and makes it. Until its end no server hears the broker: what a
//! device says meanwhile would be undone. Servers that come wait for it, and go on with it where the one that makes it dies.

use std::time::{Duration, Instant};

use otaru_rollout::{DeviceId, Span, Time};

use crate::app::App;
use crate::cluster::leases;
use crate::db::{Connection, DbError, Dialect, OptionalExtension as _, ToValue as _, params};
use crate::rollouts::transaction::{Changes, RolloutTransaction};

/// Devices in rollouts that one write looks at.
const BATCH: u32 = 500;
/// Devices in no rollout that one statement changes.
const AT_ONCE: u32 = 20_000;
/// Interval of looking whether another server is through, and of trying again.
const LOOK: Duration = Duration::from_millis(500);
/// Interval of telling how far it got.
const TOLD: Duration = Duration::from_secs(10);
/// A device that reports over HTTP is taken to be there for this long.
pub(super) const POLLED: Span = Span::minutes(15);

/// Table and condition of devices that are taken to be there, and not since they reported over HTTP between two moments: such a device has
/// no connection that could have ended.
const CONNECTED: &str = "devices d WHERE d.reachable = TRUE AND d.retired_at IS NULL
                         AND NOT coalesce(d.polled_at, 0) BETWEEN ? AND ?";

/// Notes that a sweep is to be made, by this server.
pub fn begin(tx: &Connection, server: &str) -> Result<(), DbError> {
    let sql = "INSERT INTO meta (key, value) VALUES ('sweep', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1";
    tx.execute(sql, [server]).map(drop)
}

/// Makes the sweep that is noted, or waits for the server that makes it, until it is over or the server ends.
pub async fn run(app: &App) {
    let mut sweep = Sweep::default();
    loop {
        let pause = match sweep.step(app).await {
            Ok(Step::Over) => break,
            Ok(Step::Made) => Duration::ZERO,
            Ok(Step::Anothers) => LOOK,
            Err(error) => {
                if !error.is_outage() {
                    tracing::warn!(%error, "devices that were connected cannot be noted as gone; trying again");
                }
                LOOK
            }
        };
        sweep.tell();
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
    let _ = app.swept.set(());
}

/// Resolves when the sweep is over, or the server ends.
pub async fn over(app: &App) {
    tokio::select! {
        () = app.stop.cancelled() => {}
        _ = app.swept.wait() => {}
    }
}

/// Outcome of a step.
enum Step {
    /// There is more to do.
    Made,
    /// Another server makes it.
    Anothers,
    /// There is none.
    Over,
}

/// Devices that are to be looked at.
#[derive(Clone)]
enum Place {
    /// Those in no rollout, from which nothing follows: most.
    InNone,
    /// Those in rollouts, after this one.
    InRollouts(String),
}

/// A sweep under way.
struct Sweep {
    place: Place,
    gone: usize,
    told: Instant,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { place: Place::InNone, gone: 0, told: Instant::now() }
    }
}

impl Sweep {
    async fn step(&mut self, app: &App) -> Result<Step, DbError> {
        let (place, now) = (self.place.clone(), app.clock.now());
        let me = app.holdings.id().unwrap_or_default().to_owned();
        let written = app.db.write(move |tx| {
            Ok::<_, DbError>(match turn(tx, &me)? {
                Some(step) => (step, place.clone(), 0, Changes::default()),
                None => swept(tx, &place, now)?,
            })
        });
        let (step, place, gone, changes) = written.await?;
        self.place = place;
        self.gone += gone;
        changes.tell(app);
        Ok(step)
    }

    fn tell(&mut self) {
        if self.told.elapsed() >= TOLD {
            self.told = Instant::now();
            tracing::info!(
                gone = self.gone,
                "devices that were connected are noted as gone before any is heard"
            );
        }
    }
}

/// Returns what there is to do in place of sweeping; `None` when it is this server's turn.
fn turn(tx: &Connection, me: &str) -> Result<Option<Step>, DbError> {
    let sql = "SELECT value FROM meta WHERE key = 'sweep'";
    let whose: Option<String> = tx.query_row(sql, (), |row| row.get(0)).optional()?;
    match whose {
        None => Ok(Some(Step::Over)),
        Some(server) if server == me => Ok(None),
        Some(server) if is_there(tx, &server)? => Ok(Some(Step::Anothers)),
        Some(_) => begin(tx, me).map(|()| None),
    }
}

/// Whether another server is there: nobody shares a file.
fn is_there(tx: &Connection, server: &str) -> Result<bool, DbError> {
    match tx.dialect() {
        Dialect::Sqlite => Ok(false),
        Dialect::Postgres => leases::is_there(tx, server, leases::now(tx)?),
    }
}

/// Sweeps some of those at a place. Returns where to go on, and how many are gone.
fn swept(tx: &Connection, place: &Place, now: Time) -> Result<(Step, Place, usize, Changes), DbError> {
    match place {
        Place::InNone => {
            let gone = gone_in_none(tx, now)?;
            let next = if gone == 0 { Place::InRollouts(String::new()) } else { Place::InNone };
            Ok((Step::Made, next, gone, Changes::default()))
        }
        Place::InRollouts(after) => {
            let ids = connected_after(tx, after, now)?;
            let Some(last) = ids.last().cloned() else {
                tx.execute("DELETE FROM meta WHERE key = 'sweep'", ())?;
                return Ok((Step::Over, place.clone(), 0, Changes::default()));
            };
            let gone = ids.len();
            Ok((Step::Made, Place::InRollouts(last), gone, are_gone(tx, ids, now)?))
        }
    }
}

/// Returns the moments between which a report over HTTP shows that a device is there. Another server's clock may be ahead.
fn polled(now: Time) -> (i64, i64) {
    (now.0.saturating_sub(POLLED.0).cast_signed(), now.0.saturating_add(POLLED.0).cast_signed())
}

fn gone_in_none(tx: &Connection, now: Time) -> Result<usize, DbError> {
    let (from, to) = polled(now);
    let sql = format!(
        "UPDATE devices SET reachable = FALSE, revision = revision + 1 WHERE id IN
           (SELECT id FROM {CONNECTED} AND NOT EXISTS
              (SELECT 1 FROM deployments p WHERE p.device = d.id AND p.is_open) LIMIT ?)"
    );
    tx.execute(&sql, params![from, to, AT_ONCE])
}

fn connected_after(tx: &Connection, after: &str, now: Time) -> Result<Vec<String>, DbError> {
    let (from, to) = polled(now);
    let sql = format!("SELECT id FROM {CONNECTED} AND id > ? ORDER BY id LIMIT ?");
    let rows = tx.prepare(&sql);
    rows.query_map(params![from, to, after, BATCH], |row| row.get(0))?.collect()
}

fn are_gone(tx: &Connection, ids: Vec<String>, now: Time) -> Result<Changes, DbError> {
    let marks = vec!["?"; ids.len()].join(", ");
    let sql = format!("UPDATE devices SET reachable = FALSE, revision = revision + 1 WHERE id IN ({marks})");
    tx.execute(&sql, ids.iter().map(|id| id.to_value()).collect::<Vec<_>>())?;
    let devices: Vec<DeviceId> = ids.iter().map(|id| DeviceId::from(id.as_str())).collect();
    let mut transaction = RolloutTransaction::open(tx, now);
    transaction.are_gone(&devices)?;
    transaction.finish()
}
