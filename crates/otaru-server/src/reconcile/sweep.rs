//! Sweeps the fleet after a time without any server: devices that were connected are taken to be gone until they are heard.
//!
//! A server that starts and finds no other notes that there is a sweep to be made, and makes it. Until its end no server hears the broker: what a
//! device says meanwhile would be undone. Servers that come wait for it, and go on with it where the one that makes it dies. One that stood still
//! meanwhile stops hearing the broker until it is over, and makes it where nobody is left who would.

use std::time::{Duration, Instant};

use otaru_rollout::{DeviceId, Span, Time};

use crate::app::App;
use crate::cluster::leases;
use crate::db::{Connection, DbError, Dialect, OptionalExtension as _, ToValue as _, params};
use crate::readiness::Bar;
use crate::rollouts::transaction::{Changes, RolloutTransaction};
use crate::told::Told;

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

/// Table and condition of devices that are there by their connection: they did not report over HTTP between two moments.
const CONNECTED: &str = "devices d WHERE d.reachable = TRUE AND d.retired_at IS NULL
                         AND NOT coalesce(d.polled_at, 0) BETWEEN ? AND ?";

/// Notes that a sweep is to be made, by this server.
pub fn begin(tx: &Connection, server: &str) -> Result<(), DbError> {
    forget(tx)?;
    tx.execute("INSERT INTO meta (key, value) VALUES ('sweep', ?)", [server]).map(drop)
}

/// Returns the server that makes the sweep that is not over, if there is one.
pub fn maker(tx: &Connection) -> Result<Option<String>, DbError> {
    tx.query_row("SELECT value FROM meta WHERE key = 'sweep'", (), |row| row.get(0)).optional()
}

/// Forgets the sweep: it is over.
pub fn forget(tx: &Connection) -> Result<(), DbError> {
    tx.execute("DELETE FROM meta WHERE key IN ('sweep', 'sweep_failure')", ()).map(drop)
}

/// Makes the sweep that is noted, or waits for the server that makes it. Says whether it is over; else the server ends.
pub async fn run(app: &App) -> bool {
    app.swept.send_replace(false);
    let mut sweep = Sweep::default();
    loop {
        let pause = match sweep.step(app).await {
            Ok(Step::Over) => break,
            Ok(Step::Made(gone)) => {
                sweep.goes_on(app, gone);
                Duration::ZERO
            }
            Ok(Step::Anothers(failure)) => {
                sweep.waits(app, failure);
                LOOK
            }
            Err(error) => {
                sweep.fails(app, &error).await;
                LOOK
            }
        };
        tokio::select! {
            () = app.stop.cancelled() => return false,
            () = tokio::time::sleep(pause) => {}
        }
    }
    sweep.ends(app);
    true
}

/// Waits for the end of the sweep. Says whether it is over; else the server ends.
pub async fn over(app: &App) -> bool {
    let mut swept = app.swept.subscribe();
    tokio::select! {
        () = app.stop.cancelled() => false,
        is = swept.wait_for(|is| *is) => is.is_ok(),
    }
}

/// Outcome of a step.
enum Step {
    /// So many devices are gone, and there is more to do.
    Made(usize),
    /// Another server makes it; why that fails, if it does.
    Anothers(Option<String>),
    /// There is none.
    Over,
}

/// Part of the fleet that is looked at.
#[derive(Clone)]
enum Stage {
    /// Devices in no rollout, from which nothing follows: most.
    InNone,
    /// Devices in rollouts, after this one.
    InRollouts(String),
}

/// A sweep under way.
struct Sweep {
    stage: Stage,
    /// Devices that this server noted as gone.
    gone: usize,
    begun: Instant,
    told: Instant,
    failures: Told,
}

impl Default for Sweep {
    fn default() -> Self {
        let now = Instant::now();
        Self { stage: Stage::InNone, gone: 0, begun: now, told: now, failures: Told::default() }
    }
}

impl Sweep {
    async fn step(&mut self, app: &App) -> Result<Step, DbError> {
        let (stage, now) = (self.stage.clone(), app.clock.now());
        let me = id(app);
        let written = app.db.write(move |tx| {
            Ok::<_, DbError>(match turn(tx, &me)? {
                Turn::Ours => swept(tx, &stage, now)?,
                // How far it was with an earlier one says nothing about this one.
                Turn::TakenOver => swept(tx, &Stage::InNone, now)?,
                Turn::NotOurs(step) => (step, Stage::InNone, Changes::default()),
            })
        });
        // After a failure it is not known what was written: the next one begins with the first device.
        self.stage = Stage::InNone;
        let (step, stage, changes) = written.await?;
        self.stage = stage;
        changes.tell(app);
        Ok(step)
    }

    /// Tells how far it got, once in a while.
    fn tell(&mut self, tell: impl FnOnce(usize)) {
        if self.told.elapsed() >= TOLD {
            self.told = Instant::now();
            tell(self.gone);
        }
    }

    /// After a failure it goes on when devices are noted as gone: to look at others again is nothing new.
    fn goes_on(&mut self, app: &App, gone: usize) {
        self.gone += gone;
        if gone > 0 {
            self.failures.is_over();
            app.readiness.bar(Bar::Sweep, None);
        }
        self.tell(|gone| {
            tracing::info!(gone, "devices that were connected are noted as gone before any is heard")
        });
    }

    /// Waits for another server, and tells why that cannot make it.
    fn waits(&mut self, app: &App, failure: Option<String>) {
        // What it noted itself, before it stood still, is the other's by now.
        self.gone = 0;
        match failure {
            Some(why) => {
                let why = format!("another server is to say which devices are gone, and fails: {why}");
                self.tell_failure(app, why);
            }
            None => {
                self.failures.is_over();
                app.readiness.bar(Bar::Sweep, None);
                self.tell(|_| {
                    tracing::info!("no device is heard before another server has noted which are gone")
                });
            }
        }
    }

    /// Tells a failure to the log and the other servers when it begins and once a minute, and to whoever asks whether the server is ready.
    async fn fails(&mut self, app: &App, error: &DbError) {
        if error.is_outage() {
            return;
        }
        let why =
            format!("devices are not heard, as those that were connected cannot be noted as gone: {error}");
        if self.tell_failure(app, why) {
            let (me, why) = (id(app), error.to_string());
            let noted = app.db.write(move |tx| {
                let sql = "INSERT INTO meta (key, value) SELECT 'sweep_failure', ?1 WHERE EXISTS
                             (SELECT 1 FROM meta WHERE key = 'sweep' AND value = ?2)
                           ON CONFLICT (key) DO UPDATE SET value = ?1";
                tx.execute(sql, params![why, me])
            });
            if let Err(error) = noted.await {
                tracing::debug!(%error, "other servers are not told");
            }
        }
    }

    /// Says whether it was time to tell the log.
    fn tell_failure(&mut self, app: &App, why: String) -> bool {
        let is_due = self.failures.is_due();
        if is_due {
            tracing::error!(%why, "trying again");
        }
        app.readiness.bar(Bar::Sweep, Some(why));
        is_due
    }

    fn ends(&self, app: &App) {
        app.readiness.bar(Bar::Sweep, None);
        if self.begun.elapsed() >= TOLD {
            match self.gone {
                0 => tracing::info!("devices are heard"),
                gone => {
                    tracing::info!(
                        gone,
                        "devices that were connected are noted as gone, and devices are heard"
                    );
                }
            }
        }
        // What was remembered of devices was before.
        app.recent.forget_all();
        app.swept.send_replace(true);
    }
}

/// Returns the id of this server as a sweep is noted to be its own; a file has one server.
fn id(app: &App) -> String {
    app.holdings.id().unwrap_or_default().to_owned()
}

/// Whose turn it is.
enum Turn {
    /// This server's.
    Ours,
    /// This server's from now on: the one that began it is gone.
    TakenOver,
    /// Not this server's, for this reason.
    NotOurs(Step),
}

fn turn(tx: &Connection, me: &str) -> Result<Turn, DbError> {
    match maker(tx)? {
        None => Ok(Turn::NotOurs(Step::Over)),
        Some(server) if server == me => Ok(Turn::Ours),
        Some(server) if is_there(tx, &server)? => Ok(Turn::NotOurs(Step::Anothers(failure(tx)?))),
        // Nor is this one, until it is one of those that are there again.
        Some(_) if !is_known(tx, me)? => Ok(Turn::NotOurs(Step::Anothers(failure(tx)?))),
        Some(_) => begin(tx, me).map(|()| Turn::TakenOver),
    }
}

fn failure(tx: &Connection) -> Result<Option<String>, DbError> {
    tx.query_row("SELECT value FROM meta WHERE key = 'sweep_failure'", (), |row| row.get(0)).optional()
}

/// Says whether this server is among those that are there. A file has no other.
fn is_known(tx: &Connection, me: &str) -> Result<bool, DbError> {
    Ok(tx.dialect() == Dialect::Sqlite || is_there(tx, me)?)
}

/// Says whether another server is among those that are there. A file has one server.
fn is_there(tx: &Connection, server: &str) -> Result<bool, DbError> {
    match tx.dialect() {
        Dialect::Sqlite => Ok(false),
        Dialect::Postgres => leases::is_there(tx, server, leases::now(tx)?),
    }
}

/// Sweeps some devices of a stage. Returns where to go on.
fn swept(tx: &Connection, stage: &Stage, now: Time) -> Result<(Step, Stage, Changes), DbError> {
    let (gone, next, changes) = match stage {
        Stage::InNone => {
            let gone = gone_in_none(tx, now)?;
            let next = if gone == 0 { Stage::InRollouts(String::new()) } else { Stage::InNone };
            (gone, next, Changes::default())
        }
        Stage::InRollouts(after) => {
            let ids = connected_after(tx, after, now)?;
            let Some(last) = ids.last().cloned() else {
                forget(tx)?;
                return Ok((Step::Over, stage.clone(), Changes::default()));
            };
            (ids.len(), Stage::InRollouts(last), are_gone(tx, ids, now)?)
        }
    };
    if gone > 0 {
        tx.execute("DELETE FROM meta WHERE key = 'sweep_failure'", ())?;
    }
    Ok((Step::Made(gone), next, changes))
}

/// Returns the moments between which a report over HTTP shows that a device is there. Another server's clock may be ahead.
pub(super) fn polled(now: Time) -> (i64, i64) {
    (now.0.saturating_sub(POLLED.0).cast_signed(), now.0.saturating_add(POLLED.0).cast_signed())
}

fn gone_in_none(tx: &Connection, now: Time) -> Result<usize, DbError> {
    let (from, to) = polled(now);
    let sql = format!(
        "UPDATE devices SET reachable = FALSE, polled_at = NULL, revision = revision + 1 WHERE id IN
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
    let sql = format!(
        "UPDATE devices SET reachable = FALSE, polled_at = NULL, revision = revision + 1 WHERE id IN ({marks})"
    );
    tx.execute(&sql, ids.iter().map(|id| id.to_value()).collect::<Vec<_>>())?;
    let devices: Vec<DeviceId> = ids.iter().map(|id| DeviceId::from(id.as_str())).collect();
    let mut transaction = RolloutTransaction::open(tx, now);
    transaction.are_gone(&devices)?;
    transaction.finish()
}
