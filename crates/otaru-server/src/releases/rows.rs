//! Releases in the database: what is shown of them, and which file a device is sent to.

use otaru_api::{Delta, Release};
use otaru_format::digest::Digest;
use otaru_rollout::Time;

use super::columns::{digest_at, millis};
use super::job::Job;
use super::naming;
use crate::address::download_path;
use crate::db::{Connection, DbError, OptionalExtension as _, Row, Value, params};

/// Filter for releases.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this product.
    pub product: Option<String>,
    /// For this chip.
    pub chip: Option<String>,
    /// With this version.
    pub version: Option<String>,
    /// Taken back, or not.
    pub yanked: Option<bool>,
}

impl Filter {
    fn sql(&self) -> (String, Vec<Value>) {
        let (mut sql, mut values) = (String::from("TRUE"), Vec::new());
        for (column, wanted) in [("product", &self.product), ("chip", &self.chip), ("version", &self.version)]
        {
            if let Some(wanted) = wanted {
                values.push(Value::Text(wanted.clone()));
                sql += &format!(" AND r.{column} = ?{}", values.len());
            }
        }
        match self.yanked {
            Some(true) => sql += " AND r.yanked_at IS NOT NULL",
            Some(false) => sql += " AND r.yanked_at IS NULL",
            None => {}
        }
        (sql, values)
    }
}

const SELECT: &str = "SELECT r.id, r.image, r.product, r.version, r.chip, r.image_size, r.raw, r.file, a.size, r.built, \
    r.signed_by, r.sequence, r.compressed, r.notes, r.created_at, r.created_by, r.yanked_at, \
    (SELECT count(*) FROM devices d WHERE d.image = r.image AND d.retired_at IS NULL), r.filename, r.needs \
    FROM releases r LEFT JOIN artifacts a ON a.digest = r.file";

/// Releases from the newest on, at most `limit` of them, all with an id below `before`.
pub fn list(
    tx: &Connection,
    filter: &Filter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Release>, DbError> {
    let (mut sql, mut values) = filter.sql();
    if let Some(before) = before {
        values.push(Value::Integer(before));
        sql += &format!(" AND r.id < ?{}", values.len());
    }
    let sql = format!("{SELECT} WHERE {sql} ORDER BY r.id DESC LIMIT {limit}");
    let statement = tx.prepare(&sql);
    let rows = statement.query_map(values, read)?;
    rows.map(|row| complete(tx, row?)).collect()
}

/// Returns the number of releases.
pub fn count(tx: &Connection, filter: &Filter) -> Result<u64, DbError> {
    let (sql, values) = filter.sql();
    let sql = format!("SELECT count(*) FROM releases r WHERE {sql}");
    let statement = tx.prepare(&sql);
    statement.query_row(values, |row| row.get(0))
}

/// A release.
pub fn get(tx: &Connection, id: i64) -> Result<Option<Release>, DbError> {
    let sql = format!("{SELECT} WHERE r.id = ?1");
    let statement = tx.prepare(&sql);
    let row = statement.query_row([id], read).optional()?;
    row.map(|row| complete(tx, row)).transpose()
}

/// The release of an image.
pub fn by_image(tx: &Connection, image: Digest) -> Result<Option<Release>, DbError> {
    let sql = format!("{SELECT} WHERE r.image = ?1");
    let statement = tx.prepare(&sql);
    let row = statement.query_row([image.0], read).optional()?;
    row.map(|row| complete(tx, row)).transpose()
}

/// The file that a device is sent to for this image, and what it is called: the release file, or else the image itself. None when
/// there is no such release, or it was taken back.
pub fn file_for(tx: &Connection, image: Digest) -> Result<Option<(Digest, String)>, DbError> {
    let statement =
        tx.prepare("SELECT file, raw, product, version FROM releases WHERE image = ?1 AND yanked_at IS NULL");
    let found = statement.query_row([image.0], |row| {
        let (file, raw) = (digest_at(row, 0)?, digest_at(row, 1)?);
        let (product, version): (String, String) = (row.get(2)?, row.get(3)?);
        Ok(offered(file, raw, &product, &version))
    });
    Ok(found.optional()?.flatten())
}

/// Whether a file of firmware is known.
pub fn has_file(tx: &Connection, digest: Digest) -> Result<bool, DbError> {
    tx.prepare("SELECT 1 FROM artifacts WHERE digest = ?1").exists([digest.0])
}

/// Returns the address a device is sent to for this image; `None` when there is no file for it.
pub fn url_for(tx: &Connection, image: Digest, public_base: &str) -> Result<Option<String>, DbError> {
    let file = file_for(tx, image)?;
    Ok(file.map(|(digest, name)| format!("{public_base}{}", download_path(digest, &name))))
}

/// Whether devices are sent to a signed release file for this image. Where signatures count, `force` does not.
pub fn is_signed(tx: &Connection, image: Digest) -> Result<bool, DbError> {
    let sql = "SELECT 1 FROM releases WHERE image = ?1 AND file IS NOT NULL AND signed_by IS NOT NULL";
    tx.prepare(sql).exists([image.0])
}

/// Returns the file that a device is sent to for a release, and its name.
pub fn offered_file(release: &Release) -> Option<(Digest, String)> {
    offered(release.file, release.raw, &release.product, &release.version)
}

fn offered(
    file: Option<Digest>,
    raw: Option<Digest>,
    product: &str,
    version: &str,
) -> Option<(Digest, String)> {
    let (digest, ending) = file.map(|file| (file, "otaru")).or(raw.map(|raw| (raw, "bin")))?;
    Some((digest, format!("{}-{}.{ending}", plain(product), plain(version))))
}

/// A name that is the same in a URL, on every disk, and in every shell.
fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(keep).collect()
}

/// Changes what people wrote about a release. False when there is none.
pub fn set_notes(tx: &Connection, id: i64, notes: &str) -> Result<bool, DbError> {
    Ok(tx.execute("UPDATE releases SET notes = ?2 WHERE id = ?1", params![id, notes])? > 0)
}

/// Takes a release back, or gives it again. Doing so twice changes nothing. False when there is none.
pub fn set_yanked(tx: &Connection, id: i64, yanked: Option<Time>) -> Result<bool, DbError> {
    let sql = "UPDATE releases SET yanked_at = CASE WHEN CAST(?2 AS BIGINT) IS NOT NULL THEN coalesce(yanked_at, ?2) END \
               WHERE id = ?1";
    Ok(tx.execute(sql, params![id, yanked.map(millis)])? > 0)
}

fn read(row: &Row) -> Result<Release, DbError> {
    let image = Digest(row.get(1)?);
    let needs: Option<String> = row.get(19)?;
    Ok(Release {
        id: row.get(0)?,
        image,
        image_short: naming::short(image),
        title: String::new(),
        product: row.get(2)?,
        version: row.get(3)?,
        chip: row.get(4)?,
        image_size: row.get(5)?,
        raw: digest_at(row, 6)?,
        file: digest_at(row, 7)?,
        file_size: row.get(8)?,
        built: row.get(9)?,
        signed_by: row.get(10)?,
        sequence: row.get(11)?,
        compressed_size: row.get(12)?,
        deltas: Vec::new(),
        notes: row.get(13)?,
        created_at: row.get(14)?,
        created_by: row.get(15)?,
        yanked_at: row.get(16)?,
        devices: row.get(17)?,
        filename: row.get(18)?,
        job: None,
        needs: needs.and_then(|needs| serde_json::from_str(&needs).ok()),
    })
}

/// Adds what stands in other tables.
fn complete(tx: &Connection, mut release: Release) -> Result<Release, DbError> {
    let statement = tx.prepare(
        "SELECT d.base, d.size, b.version FROM deltas d LEFT JOIN releases b ON b.image = d.base \
         WHERE d.release = ?1 AND d.size IS NOT NULL ORDER BY d.size, d.base",
    );
    let found = statement.query_map([release.id], |row| {
        Ok((Digest(row.get(0)?), row.get(1)?, row.get::<Option<String>>(2)?))
    })?;
    for row in found {
        let (base, size, version) = row?;
        let kind = (release.product.as_str(), release.chip.as_str());
        let version = version.map(|version| naming::told_apart(tx, kind, &version, base)).transpose()?;
        release.deltas.push(Delta { base, version, size });
    }
    release.job = Job::latest(tx, release.id)?.map(otaru_api::Job::from);
    release.title = title(tx, &release)?;
    Ok(release)
}

fn title(tx: &Connection, release: &Release) -> Result<String, DbError> {
    let kind = (release.product.as_str(), release.chip.as_str());
    let version = naming::told_apart(tx, kind, &release.version, release.image)?;
    Ok(format!("{} {version}", release.product))
}
