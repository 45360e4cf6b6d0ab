//! Lists of devices: filtered, sorted, in pages.
//!
//! SQL filters whatever it can. Tag expressions and version ranges are the rollout engine's, so that a list shows what a
//! rollout would hit; they are applied to what SQL finds, page by page, until a page is full.

use otaru_api::{Cursor, Device, FleetCounts, Page, Timestamp, VersionCount};
use otaru_format::digest::Digest;
use serde::{Deserialize, Serialize};

use super::conditions::{Condition, Conditions};
use super::filter::Filter;
use super::health;
use super::rows::{columns, device};
use crate::db::{Connection, DbError, Dialect, Value};
use crate::page::bad_cursor;
use crate::problem::Problem;

/// Devices that are read at once, to be looked at one by one.
const BATCH: usize = 1_000;
/// Most devices that are read at once, where many have to be looked at in an order that no index has.
const MOST: usize = 32 * 1024;

/// Sort key of a list; ties by id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The id.
    #[default]
    Id,
    /// Label, or the id where there is none.
    Label,
    /// The version, as text.
    Version,
    /// The state.
    State,
    /// Time of the last change.
    LastSeen,
}

impl Sort {
    /// All there are.
    pub(crate) const ALL: [Self; 5] = [Self::Id, Self::Label, Self::Version, Self::State, Self::LastSeen];

    /// Returns its name in queries.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Label => "label",
            Self::Version => "version",
            Self::State => "state",
            Self::LastSeen => "last_seen",
        }
    }

    /// Never NULL, so that places in the list can be compared.
    const fn expression(self) -> &'static str {
        match self {
            Self::Id => "d.id",
            Self::Label => "coalesce(d.label, d.id)",
            Self::Version => "d.version",
            Self::State => "d.state",
            Self::LastSeen => "coalesce(d.last_seen, 0)",
        }
    }
}

/// The place of a device in a list: how that is sorted, and whether from the end; what it is sorted by, and its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Key(Sort, bool, SortValue, String);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum SortValue {
    Number(i64),
    Text(String),
}

/// Order and size of a list.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The order.
    pub sort: Sort,
    /// Whether from the end.
    pub descending: bool,
    /// After which device it begins.
    pub after: Option<Key>,
    /// The most devices in it.
    pub limit: u32,
    /// Whether nobody asks how many there are on all pages.
    pub without_total: bool,
}

impl Order {
    /// Begins behind the device of a cursor.
    ///
    /// # Errors
    /// When the cursor is of a list in another order.
    pub fn beginning_after(self, after: Option<Key>) -> Result<Self, Problem> {
        match after.as_ref().is_none_or(|key| self.has(key)) {
            true => Ok(Self { after, ..self }),
            false => Err(bad_cursor()),
        }
    }

    /// Returns the place of a device in such a list.
    pub(crate) fn key(&self, device: &Device) -> Key {
        let text = |text: &str| SortValue::Text(text.to_owned());
        let place = match self.sort {
            Sort::Id => text(&device.id),
            Sort::Label => text(device.label.as_deref().unwrap_or(&device.id)),
            Sort::Version => text(&device.version),
            Sort::State => text(&device.state),
            Sort::LastSeen => SortValue::Number(device.last_seen.map_or(0, Timestamp::millis)),
        };
        Key(self.sort, self.descending, place, device.id.clone())
    }

    /// Whether such a list has this place: anybody can make up others.
    fn has(&self, Key(sort, descending, place, _): &Key) -> bool {
        let is_number = matches!(place, SortValue::Number(_));
        (*sort, *descending) == (self.sort, self.descending) && is_number == (self.sort == Sort::LastSeen)
    }
}

/// Returns a page of devices. `total` is told where SQL alone can count, or where the page has all there are.
///
/// Of a large fleet the `counts` are known. `total` may then be as old as they are, and is not told where neither they have it nor few devices are
/// to be counted.
pub fn list(
    tx: &Connection,
    filter: &Filter,
    order: &Order,
    counts: Option<&FleetCounts>,
) -> Result<Page<Device>, DbError> {
    let wanted = usize::try_from(order.limit).unwrap_or(usize::MAX).saturating_add(1);
    let mut size = if filter.needs_rust() { wanted.max(BATCH) } else { wanted };
    let mut conditions = Conditions::of(tx, filter, order.sort.expression())?;
    if order.sort != Sort::Id {
        conditions.begin_with_text(tx, filter)?;
    }
    let mut found: Vec<Device> = Vec::new();
    let mut after = order.after.clone();
    loop {
        let batch = batch(tx, &conditions, order, after.as_ref(), size)?;
        let full = batch.len() == size;
        after = batch.last().map(|last| order.key(last));
        found.extend(batch.into_iter().filter(|device| filter.matches(device)));
        if !full || found.len() >= wanted {
            break;
        }
        // Where hardly any fits, each batch sorts the fleet anew: the larger they are, the fewer.
        size = (size * 2).min(MOST.max(size));
    }
    let is_all = order.after.is_none() && found.len() < wanted;
    let total = match counts.and_then(|counts| filter.counted(counts)) {
        _ if order.without_total => None,
        _ if is_all => Some(found.len() as u64),
        _ if filter.needs_rust() => None,
        // What was counted a while ago may be less than what is here.
        Some(total) if total >= found.len() as u64 => Some(total),
        _ if counts.is_some() && !conditions.begin_with_few => None,
        _ => Some(count_by(tx, &conditions)?),
    };
    let page = Page::cut(found, order.limit, |last| Cursor::of(&order.key(last)));
    Ok(match total {
        Some(total) => page.with_total(total),
        None => page,
    })
}

fn batch(
    tx: &Connection,
    conditions: &Conditions,
    order: &Order,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Device>, DbError> {
    let mut conditions = conditions.clone();
    let place = order.sort.expression();
    let (beyond, direction) = if order.descending { ("<", "DESC") } else { (">", "ASC") };
    if let Some(Key(_, _, at, id)) = after {
        let at: Value = match at {
            SortValue::Number(number) => (*number).into(),
            SortValue::Text(text) => text.clone().into(),
        };
        let values = vec![at, id.clone().into()];
        conditions.and(&Condition { text: format!("({place}, d.id) {beyond} (?, ?)"), values });
    }
    conditions.values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let sql = statement(tx.dialect(), conditions.of_a_page(), place, direction);
    let rows = tx.prepare(&sql);
    let devices = rows.query_map(conditions.values, device)?;
    devices.collect::<Result<_, _>>()
}

/// Builds the statement of a page. It chooses devices before it reads their columns: of a large fleet all would be read to be sorted.
fn statement(dialect: Dialect, conditions: &str, place: &str, direction: &str) -> String {
    // Where the same stands there twice, SQLite does not take every index that it could.
    let by = match place {
        "d.id" => format!("d.id {direction}"),
        _ => format!("{place} {direction}, d.id {direction}"),
    };
    format!(
        "SELECT {} FROM devices d WHERE d.id IN (SELECT d.id FROM devices d WHERE {conditions} ORDER BY {by} LIMIT ?)
         ORDER BY {by}",
        columns(dialect)
    )
}

fn count_by(tx: &Connection, conditions: &Conditions) -> Result<u64, DbError> {
    let sql = format!("SELECT count(*) FROM devices d WHERE {}", conditions.of_a_count());
    let count: i64 = tx.prepare(&sql).query_row(conditions.values.clone(), |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// The ids of devices that meet the filter, in their order, at most so many.
pub fn ids(tx: &Connection, filter: &Filter, most: usize) -> Result<Vec<String>, DbError> {
    let order = Order { limit: crate::page::MOST, ..Order::default() };
    let conditions = Conditions::of(tx, filter, order.sort.expression())?;
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let batch = batch(tx, &conditions, &order, after.as_ref(), BATCH)?;
        let Some(last) = batch.last() else { break };
        after = Some(order.key(last));
        let fitting = batch.into_iter().filter(|device| filter.matches(device)).map(|device| device.id);
        all.extend(fitting.take(most - all.len()));
        if all.len() >= most {
            break;
        }
    }
    Ok(all)
}

/// Counts the fleet.
pub fn fleet(tx: &Connection) -> Result<FleetCounts, DbError> {
    let number = |count: i64| count.unsigned_abs();
    let (total, reachable) = tx
        .prepare("SELECT count(*), count(*) FILTER (WHERE reachable) FROM devices WHERE retired_at IS NULL")
        .query_row((), |row| Ok((number(row.get(0)?), number(row.get(1)?))))?;
    let versions = versions(tx)?;
    Ok(FleetCounts { total, reachable, versions, states: by(tx, "d.state")?, health: by(tx, &health::SQL)? })
}

/// The fleet by what it runs. Images with one version are counted together unless they are for one chip: then they are two builds
/// that are called alike.
fn versions(tx: &Connection) -> Result<Vec<VersionCount>, DbError> {
    let rows = tx.prepare(
        "SELECT product, version, count(*) AS n, count(DISTINCT image) > count(DISTINCT chip) FROM devices
         WHERE retired_at IS NULL GROUP BY product, version ORDER BY n DESC, product, version",
    );
    let found = rows.query_map((), |row| {
        let devices = row.get::<i64>(2)?.unsigned_abs();
        Ok((VersionCount { product: row.get(0)?, version: row.get(1)?, image: None, devices }, row.get(3)?))
    })?;
    let mut counts = Vec::new();
    for row in found {
        let (count, alike): (VersionCount, bool) = row?;
        match alike {
            true => counts.extend(builds(tx, &count)?),
            false => counts.push(count),
        }
    }
    // Stable: of equal ones the order stays.
    counts.sort_by_key(|count| std::cmp::Reverse(count.devices));
    Ok(counts)
}

/// The devices of a version by their image.
fn builds(tx: &Connection, all: &VersionCount) -> Result<Vec<VersionCount>, DbError> {
    let rows = tx.prepare(
        "SELECT image, count(*) AS n FROM devices WHERE retired_at IS NULL AND product = ? AND version = ?
         GROUP BY image ORDER BY n DESC, image",
    );
    let counts = rows.query_map([&all.product, &all.version], |row| {
        let image = row.get::<Option<[u8; 32]>>(0)?.map(|image| Digest(image).to_string());
        Ok(VersionCount { image, devices: row.get::<i64>(1)?.unsigned_abs(), ..all.clone() })
    })?;
    counts.collect::<Result<_, _>>()
}

/// The fleet by something.
fn by(tx: &Connection, what: &str) -> Result<std::collections::BTreeMap<String, u64>, DbError> {
    let sql =
        format!("SELECT {what} AS what, count(*) FROM devices d WHERE retired_at IS NULL GROUP BY what");
    let rows = tx.prepare(&sql);
    let counts = rows.query_map((), |row| Ok((row.get(0)?, row.get::<i64>(1)?.unsigned_abs())))?;
    counts.collect::<Result<_, _>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[tokio::test]
    async fn totals_of_a_large_fleet_are_those_that_it_was_counted_with_where_they_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        let totals = db.write(|tx| {
            for number in 0..60 {
                let state = if number < 40 { "idle" } else { "downloading" };
                let sql = "INSERT INTO devices (id, first_seen, state, reachable, product, version)
                           VALUES (?, 1, ?, TRUE, 'lamp', '1.0.0')";
                tx.execute(sql, crate::db::params![format!("d{number:02}"), state])?;
            }
            let runs = |(version, devices): (&str, u64)| VersionCount {
                product: "lamp".into(),
                version: version.into(),
                image: None,
                devices,
            };
            let counts = FleetCounts {
                total: 900,
                states: [("idle".to_owned(), 700)].into(),
                health: [("well".to_owned(), 600)].into(),
                versions: [("1.0.0", 300), ("1.1.0", 500)].map(runs).into(),
                ..fleet(tx)?
            };
            let state = |state: &str| Filter { state: Some(state.to_owned()), ..Filter::default() };
            let text = |text: &str| Filter { text: Some(text.to_owned()), ..Filter::default() };
            let order = |limit| Order { limit, ..Order::default() };
            let total = |filter: &Filter, limit| {
                Ok::<_, DbError>(list(tx, filter, &order(limit), Some(&counts))?.total)
            };
            let well = Filter { health: Some("well".to_owned()), ..Filter::default() };
            let both = |name: &str| Filter { reachable: Some(true), ..state(name) };
            let product =
                |name: &str| Filter { product: Some(name.to_owned()), reachable: None, ..Filter::default() };
            let none = Order { without_total: true, ..order(10) };
            Ok::<_, DbError>([
                total(&Filter::default(), 10)?,
                total(&state("idle"), 10)?,
                total(&well, 10)?,
                // Counted before anybody was: what is here says otherwise.
                total(&state("downloading"), 10)?,
                total(&both("idle"), 10)?,
                total(&both("downloading"), 10)?,
                total(&product("lamp"), 10)?,
                total(&Filter { version: Some("1.0.0".to_owned()), ..product("lamp") }, 10)?,
                total(&Filter { reachable: Some(false), ..Filter::default() }, 10)?,
                total(&text("d"), 10)?,
                total(&text("d0"), 20)?,
                list(tx, &Filter::default(), &none, None)?.total,
            ])
        });
        let known = [900, 700, 600, 20].map(Some).into_iter();
        // Of few, those that are here; of most with two conditions, nobody counts.
        let known = known.chain([None, Some(20), Some(800), Some(300), Some(0), None, Some(10), None]);
        assert_eq!(totals.await.unwrap().to_vec(), known.collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_many_have_is_counted_by_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        let plan = db.write(|tx| {
            for number in 0..60 {
                let sql = "INSERT INTO devices (id, first_seen, state) VALUES (?, 1, 'failed')";
                tx.execute(sql, [format!("d{number:02}")])?;
            }
            let filter = Filter { health: Some("troubled".to_owned()), ..Filter::default() };
            let all = Conditions::of(tx, &filter, Sort::Id.expression())?;
            assert!(!all.begin_with_few);
            let sql = format!("EXPLAIN QUERY PLAN SELECT count(*) FROM devices d WHERE {}", all.of_a_count());
            tx.prepare(&sql).query_row(all.values, |row| row.get::<String>(3))
        });
        let plan = plan.await.unwrap();
        assert!(plan.contains("devices_in_state"), "{plan}");
    }

    #[tokio::test]
    async fn every_order_has_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        let plans = db.write(|tx| {
            for number in 0..60 {
                let sql = "INSERT INTO devices (id, first_seen, state, reachable, product, version, chip)
                           VALUES (?, 1, 'idle', TRUE, 'lamp', '1.0.0', 'esp32')";
                tx.execute(sql, [format!("d{number:02}")])?;
            }
            let text = |text: &str| Some(text.to_owned());
            let filters = [
                Filter::default(),
                Filter { retired: true, ..Filter::default() },
                Filter { state: text("idle"), product: text("lamp"), ..Filter::default() },
                Filter { chip: text("esp32"), version: text("1.0.0"), ..Filter::default() },
                Filter { reachable: Some(true), ..Filter::default() },
                Filter { health: text("well"), ..Filter::default() },
            ];
            let mut plans = Vec::new();
            for filter in filters {
                for sort in Sort::ALL {
                    if filter.retired && sort != Sort::Id {
                        continue;
                    }
                    let all = Conditions::of(tx, &filter, sort.expression())?;
                    assert!(!all.begin_with_few, "{filter:?}");
                    let sql = statement(tx.dialect(), all.of_a_page(), sort.expression(), "DESC");
                    let mut values = all.values;
                    values.push(10.into());
                    let explained = format!("EXPLAIN QUERY PLAN {sql}");
                    let rows = tx.prepare(&explained);
                    let lines = rows.query_map(values, |row| row.get::<String>(3))?;
                    plans.push((format!("{filter:?} {sort:?}"), lines.collect::<Result<Vec<_>, _>>()?));
                }
            }
            Ok::<_, DbError>(plans)
        });
        for (what, lines) in plans.await.unwrap() {
            // The page itself is sorted once more, unless it is read in its order.
            let sorted = lines.iter().filter(|line| line.contains("TEMP B-TREE")).count();
            let walked = lines.iter().any(|line| line.contains(" d USING ") && line.contains("INDEX"));
            assert!(sorted <= 1 && walked, "{what}: {lines:#?}");
        }
    }
}
