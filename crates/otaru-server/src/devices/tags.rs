//! Tags: names with values, by which devices are found and rollouts aimed.

use std::collections::BTreeMap;

use otaru_format::name::{is_unruly, is_unseen};
use otaru_rollout::{DeviceId, Tags};

use crate::db::{Connection, DbError, Dialect, params};
use crate::problem::Problem;

/// The most tags of a device.
const MOST: usize = 64;
/// Bytes of the longest name or value.
const LONGEST: usize = 128;

/// Whether devices can have such tags.
///
/// # Errors
/// [`Problem::invalid`] when they cannot.
pub fn check(tags: &BTreeMap<String, String>) -> Result<(), Problem> {
    let good = |text: &str| text.len() <= LONGEST && !text.chars().any(is_unruly);
    match tags.iter().find(|(name, value)| {
        name.chars().all(|c| is_unseen(c) || c.is_whitespace()) || !good(name) || !good(value)
    }) {
        Some(_) => Err(Problem::invalid(format!(
            "a tag's name has 1 to {LONGEST} bytes, its value at most {LONGEST}, and neither has characters that control a terminal or turn \
             the direction of writing"
        ))),
        None if tags.len() > MOST => Err(Problem::invalid(format!("a device has at most {MOST} tags"))),
        None => Ok(()),
    }
}

/// Whether these can be names of tags that a device has.
///
/// # Errors
/// [`Problem::invalid`] when they cannot: more, or longer, than any device's.
pub fn check_removed(names: &[String]) -> Result<(), Problem> {
    match names.len() <= MOST && names.iter().all(|name| name.len() <= LONGEST) {
        true => Ok(()),
        false => Err(Problem::invalid(format!(
            "a device has at most {MOST} tags, with names of at most {LONGEST} bytes"
        ))),
    }
}

/// A device's tags.
pub fn of(tx: &Connection, device: &DeviceId) -> Result<Tags, DbError> {
    let rows = tx.prepare("SELECT name, value FROM device_tags WHERE device = ?");
    let tags = rows.query_map([device.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    tags.collect::<Result<_, _>>()
}

/// Returns the tags of the devices after this one and up to that one, in the order of their ids, that have reported and are not retired; those
/// without any are left out. Of many devices that is cheaper than a question for each, or an [expression](object) in theirs.
pub fn of_range(tx: &Connection, after: &str, last: &str) -> Result<BTreeMap<String, Tags>, DbError> {
    let rows = tx.prepare(
        "SELECT t.device, t.name, t.value FROM device_tags t JOIN devices d ON d.id = t.device
         WHERE t.device > ? AND t.device <= ? AND d.image IS NOT NULL AND d.retired_at IS NULL",
    );
    let found = rows.query_map([after, last], |row| {
        Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<String>(2)?))
    })?;
    let mut tags = BTreeMap::<String, Tags>::new();
    for row in found {
        let (device, name, value) = row?;
        tags.entry(device).or_default().insert(name, value);
    }
    Ok(tags)
}

/// Returns the expression for the tags of a device of the table `d`, as a JSON object.
pub fn object(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => {
            "(SELECT json_group_object(t.name, t.value) FROM device_tags t WHERE t.device = d.id)"
        }
        Dialect::Postgres => {
            "(SELECT coalesce(CAST(json_object_agg(t.name, t.value) AS TEXT), '{}') FROM device_tags t WHERE t.device = d.id)"
        }
    }
}

/// Gives a device these tags besides those it has; a name it has gets the new value.
pub fn add(tx: &Connection, device: &DeviceId, tags: &BTreeMap<String, String>) -> Result<(), DbError> {
    let put = tx.prepare(
        "INSERT INTO device_tags (device, name, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (device, name) DO UPDATE SET value = ?3",
    );
    for (name, value) in tags {
        put.execute(params![device.as_str(), name, value])?;
    }
    Ok(())
}

/// Takes tags of these names from a device.
pub fn remove(tx: &Connection, device: &DeviceId, names: &[String]) -> Result<(), DbError> {
    let take = tx.prepare("DELETE FROM device_tags WHERE device = ? AND name = ?");
    for name in names {
        take.execute(params![device.as_str(), name])?;
    }
    Ok(())
}

/// Checks that a device has no more tags than it may; whoever adds tags calls it afterwards.
///
/// # Errors
/// [`Problem::invalid`] when it has too many.
pub fn check_count(tx: &Connection, device: &DeviceId) -> Result<(), Problem> {
    let sql = "SELECT count(*) FROM device_tags WHERE device = ?";
    let count: i64 = tx.prepare(sql).query_row([device.as_str()], |row| row.get(0))?;
    if usize::try_from(count).is_ok_and(|count| count <= MOST) {
        return Ok(());
    }
    Err(Problem::invalid(format!("the device {device} would have more than {MOST} tags")))
}
