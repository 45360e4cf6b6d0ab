//! Leases, as the database has them: a shard or a task, the server that holds it, a number that each taking raises, and an end.

use super::shard::Shard;
use crate::clock::Clock;
use crate::db::{Connection, DbError, Dialect, params};

/// Time from a renewal to the end of a lease, in milliseconds: a server that is gone is replaced within it and the second between two
/// renewals. It is longer than PostgreSQL lets a transaction stand still; one that works for longer holds renewals up.
pub const TERM: i64 = 8_000;

/// Time for which a server is without the broker until others have its part, in milliseconds: a connection that is made anew at once costs
/// nobody anything.
pub const DEAF: i64 = 5_000;
/// Time for which another has had the broker then. After an outage of the broker itself all are back by then: the longest pause between two
/// attempts is ten seconds.
const HEARS: i64 = 15_000;

/// Work that one server does for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Rollouts: scans, starts, moments that have come.
    Rollouts,
    /// Release files and patches.
    Jobs,
    /// Home Assistant's view of devices.
    HomeAssistant,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rollouts, Self::Jobs, Self::HomeAssistant];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rollouts => "rollouts",
            Self::Jobs => "jobs",
            Self::HomeAssistant => "home assistant",
        }
    }
}

/// What a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leased {
    /// Devices.
    Shard(Shard),
    /// Work.
    Task(Task),
}

impl Member {
    /// Whether another server has the same broker, firmware and signing key, without which the two cannot share a database.
    pub fn fits(&self, other: &Self) -> bool {
        (&self.broker, &self.firmware, &self.signer) == (&other.broker, &other.firmware, &other.signer)
    }
}

impl Leased {
    /// Returns the key of its row: shards are 0 to 255, tasks follow.
    fn key(self) -> i64 {
        match self {
            Self::Shard(shard) => i64::from(shard.0),
            Self::Task(task) => 256 + task as i64,
        }
    }

    fn of_key(key: i64) -> Option<Self> {
        match u8::try_from(key) {
            Ok(shard) => Some(Self::Shard(Shard(shard))),
            Err(_) => Task::ALL.into_iter().map(Self::Task).find(|task| task.key() == key),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        Shard::all().map(Self::Shard).chain(Task::ALL.map(Self::Task))
    }
}

/// A lease that a server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// What it is for.
    pub what: Leased,
    /// How many times it was taken: who holds an older number holds nothing.
    pub number: i64,
}

/// Leases of a server, and those that it has just taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Leases that it holds.
    pub leases: Vec<Lease>,
    /// Leases that it took, each with the name of the server that had it, where one did not give it up by itself.
    pub taken: Vec<(Leased, Option<String>)>,
}

/// A moment by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub now: i64,
    /// Milliseconds that the clock of this server is ahead.
    pub ahead: i64,
}

/// A server, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id: random, of this start.
    pub id: String,
    /// Its name: of its machine, and its address.
    pub name: String,
    /// Where its broker is, or that it has its own.
    pub broker: String,
    /// Where its firmware is.
    pub firmware: String,
    /// Id of the key that it signs releases with; empty without one.
    pub signer: String,
    /// Its version.
    pub version: String,
    /// When it started, by the database's clock, in milliseconds.
    pub started_at: i64,
    /// When it was last heard.
    pub seen_at: i64,
    /// Lead of its clock over the database's then, in milliseconds; `None` for one of a version that does not tell.
    pub clock_ahead: Option<i64>,
    /// Since when it is without the broker, by the database's clock; `None` for one that has it, or does not tell.
    pub broker_away: Option<i64>,
    /// Number of its shards.
    pub shards: i64,
    /// Its tasks.
    pub tasks: Vec<Task>,
}

/// Returns the database's time, in milliseconds since 1970, as it is now and not when the transaction began.
pub fn now(tx: &Connection) -> Result<i64, DbError> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => "SELECT CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER)",
        Dialect::Postgres => "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    };
    tx.query_row(sql, (), |row| row.get(0))
}

/// Returns the present moment, and holds a clock against the database's: before and after the question, half of whose time the answer took.
pub fn moment(tx: &Connection, clock: &Clock) -> Result<Moment, DbError> {
    let before = clock.now().0.cast_signed();
    let now = now(tx)?;
    let own = before.midpoint(clock.now().0.cast_signed());
    Ok(Moment { now, ahead: own.saturating_sub(now) })
}

/// Makes this server known, or notes that it is there still, and whether it hears the broker.
pub fn be_seen(
    tx: &Connection,
    me: &Member,
    Moment { now, ahead }: Moment,
    hears: bool,
) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO servers (id, name, broker, firmware, signer, version, started_at, seen_at, clock_ahead,
                              broker_there, broker_since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?7)
         ON CONFLICT (id) DO UPDATE SET seen_at = ?7, clock_ahead = ?8, broker_there = ?9,
             broker_since = CASE WHEN servers.broker_there = ?9 THEN servers.broker_since ELSE ?7 END",
        params![me.id, me.name, me.broker, me.firmware, me.signer, me.version, now, ahead, hears],
    )?;
    // Those that ended without saying so.
    tx.execute("DELETE FROM servers WHERE seen_at < ?", [now - 24 * 3_600_000])?;
    Ok(())
}

/// Returns the servers that are there and can do their part: those that have been without the broker for a while are left out where another
/// has had it.
fn alive(tx: &Connection, now: i64) -> Result<Vec<String>, DbError> {
    let alive =
        tx.prepare("SELECT id, broker_there, broker_since FROM servers WHERE seen_at > ? ORDER BY id");
    // Of one that does not tell nothing is known either way.
    let alive = alive.query_map([now - TERM], |row| {
        Ok((row.get(0)?, row.get::<Option<bool>>(1)?, row.get::<Option<i64>>(2)?.unwrap_or(now)))
    })?;
    let mut alive = alive.collect::<Result<Vec<(String, Option<bool>, i64)>, DbError>>()?;
    if alive.iter().any(|(_, there, since)| *there == Some(true) && *since <= now - HEARS) {
        alive.retain(|(_, there, since)| *there != Some(false) || *since > now - DEAF);
    }
    Ok(alive.into_iter().map(|(id, ..)| id).collect())
}

/// Renews the leases of a server, takes what is nobody's, and gives back what is more than its part.
pub fn renew(tx: &Connection, me: &str, now: i64) -> Result<Renewal, DbError> {
    make_rows(tx)?;
    tx.execute("UPDATE leases SET until = ? WHERE server = ?", params![now + TERM, me])?;
    let alive = alive(tx, now)?;
    let mut taken = balance(tx, me, now, part(usize::from(super::shard::SHARDS), &alive, me), "what < 256")?;
    taken.extend(balance(tx, me, now, part(Task::ALL.len(), &alive, me), "what >= 256")?);
    Ok(Renewal { leases: held(tx, me)?, taken })
}

/// Whether a server is one of those that are there: it was heard within the time of a lease.
pub fn is_there(tx: &Connection, me: &str, now: i64) -> Result<bool, DbError> {
    tx.prepare("SELECT 1 FROM servers WHERE id = ? AND seen_at > ?").exists(params![me, now - TERM])
}

/// Returns how many of so many things are a server's part: as many as any other's, and one of those that are over for each of the first.
fn part(things: usize, alive: &[String], me: &str) -> usize {
    let Some(rank) = alive.iter().position(|id| id == me) else { return 0 };
    things / alive.len() + usize::from(rank < things % alive.len())
}

/// Makes the rows of what has none yet, as in a database that no server has used.
fn make_rows(tx: &Connection) -> Result<(), DbError> {
    let have: i64 = tx.query_row("SELECT count(*) FROM leases", (), |row| row.get(0))?;
    if usize::try_from(have).is_ok_and(|have| have == Leased::all().count()) {
        return Ok(());
    }
    let make = tx.prepare("INSERT INTO leases (what) VALUES (?) ON CONFLICT DO NOTHING");
    Leased::all().try_for_each(|leased| make.execute([leased.key()]).map(drop))
}

/// Brings the number of leases of a kind to a server's part of them. Returns what it took, and from whom.
fn balance(
    tx: &Connection,
    me: &str,
    now: i64,
    part: usize,
    kind: &str,
) -> Result<Vec<(Leased, Option<String>)>, DbError> {
    let sql = format!("SELECT count(*) FROM leases WHERE server = ? AND {kind}");
    let has: i64 = tx.query_row(&sql, [me], |row| row.get(0))?;
    let part = i64::try_from(part).unwrap_or(i64::MAX);
    let pick = |which: &str, order: &str| {
        format!("SELECT what FROM leases WHERE {which} AND {kind} ORDER BY what {order} LIMIT ?")
    };
    if has > part {
        let sql = format!(
            "UPDATE leases SET server = NULL, until = 0 WHERE what IN ({})",
            pick("server = ?", "DESC")
        );
        tx.execute(&sql, params![me, has - part])?;
        return Ok(Vec::new());
    }
    let free = pick("(server IS NULL OR until <= ?)", "ASC");
    let sql = format!(
        "SELECT l.what, s.name FROM leases l LEFT JOIN servers s ON s.id = l.server WHERE l.what IN ({free})"
    );
    let taken = tx.prepare(&sql);
    let taken = taken.query_map(params![now, part - has], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let taken = taken.collect::<Result<Vec<(i64, Option<String>)>, _>>()?;
    if !taken.is_empty() {
        let sql =
            format!("UPDATE leases SET server = ?, until = ?, number = number + 1 WHERE what IN ({free})");
        tx.execute(&sql, params![me, now + TERM, now, part - has])?;
    }
    Ok(taken.into_iter().filter_map(|(key, from)| Some((Leased::of_key(key)?, from))).collect())
}

fn held(tx: &Connection, me: &str) -> Result<Vec<Lease>, DbError> {
    let held = tx.prepare("SELECT what, number FROM leases WHERE server = ?");
    let rows = held.query_map([me], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<Vec<_>, _>>()?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, number)| Some(Lease { what: Leased::of_key(key)?, number }))
        .collect())
}

/// Gives everything back that a server holds, and says that it is gone.
pub fn leave(tx: &Connection, me: &str) -> Result<(), DbError> {
    tx.execute("UPDATE leases SET server = NULL, until = 0 WHERE server = ?", [me])?;
    tx.execute("DELETE FROM servers WHERE id = ?", [me])?;
    Ok(())
}

/// Whether a lease is this server's still. Until the transaction ends nobody takes it.
pub fn is_held(tx: &Connection, me: &str, lease: Lease) -> Result<bool, DbError> {
    let sql = "SELECT 1 FROM leases WHERE what = ? AND server = ? AND number = ?";
    tx.prepare(sql).exists(params![lease.what.key(), me, lease.number])
}

/// Returns the servers that are there beside this one, as far as leases tell: one that was killed is among them for as long as its last.
pub fn others(tx: &Connection, me: &str, now: i64) -> Result<Vec<Member>, DbError> {
    let members = members_at(tx, now)?;
    Ok(members.into_iter().filter(|other| other.id != me).collect())
}

/// Lists the servers that are there, and what each holds.
pub fn members(tx: &Connection) -> Result<Vec<Member>, DbError> {
    members_at(tx, now(tx)?)
}

fn members_at(tx: &Connection, now: i64) -> Result<Vec<Member>, DbError> {
    let sql = "SELECT s.id, s.name, s.broker, s.version, s.started_at, s.seen_at, s.firmware, s.signer,
                      s.clock_ahead, CASE WHEN NOT s.broker_there THEN s.broker_since END,
                      (SELECT count(*) FROM leases l WHERE l.server = s.id AND l.what < 256)
               FROM servers s WHERE s.seen_at > ? ORDER BY s.name, s.id";
    let rows = tx.prepare(sql).query_map([now - TERM], |row| {
        Ok(Member {
            id: row.get(0)?,
            name: row.get(1)?,
            broker: row.get(2)?,
            version: row.get(3)?,
            started_at: row.get(4)?,
            seen_at: row.get(5)?,
            firmware: row.get(6)?,
            signer: row.get(7)?,
            clock_ahead: row.get(8)?,
            broker_away: row.get(9)?,
            shards: row.get(10)?,
            tasks: Vec::new(),
        })
    })?;
    let mut members = rows.collect::<Result<Vec<_>, _>>()?;
    for member in &mut members {
        let tasks = held(tx, &member.id)?.into_iter().filter_map(|lease| match lease.what {
            Leased::Task(task) => Some(task),
            Leased::Shard(_) => None,
        });
        member.tasks = tasks.collect();
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_differ_by_one_at_most_and_are_the_whole() {
        for servers in 1..=7 {
            let alive: Vec<String> = (0..servers).map(|n| format!("s{n}")).collect();
            for things in [3, 256] {
                let parts: Vec<usize> = alive.iter().map(|me| part(things, &alive, me)).collect();
                assert_eq!(parts.iter().sum::<usize>(), things);
                assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1, "{parts:?}");
            }
        }
    }

    #[test]
    fn every_lease_has_a_key_of_its_own() {
        let keys: std::collections::BTreeSet<i64> = Leased::all().map(Leased::key).collect();
        assert_eq!(keys.len(), Leased::all().count());
        assert!(Leased::all().all(|leased| Leased::of_key(leased.key()) == Some(leased)));
        assert_eq!(Leased::of_key(9_999), None, "one of a newer version");
    }
}
