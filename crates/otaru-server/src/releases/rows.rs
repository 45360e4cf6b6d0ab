//! Releases in the database: what is shown of them, and which file a device is sent to.

use otaru_api::{Delta, Needs, Release, Timestamp};
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

/// Release as its row has it: for whoever decides something. [`Release`] is for whoever looks at it, and has what is counted over the
/// fleet for them.
#[derive(Debug, Clone)]
pub struct ReleaseRow {
    /// Id.
    pub id: i64,
    /// SHA-256 of the image.
    pub image: Digest,
    /// Product.
    pub product: String,
    /// Version.
    pub version: String,
    /// Chip.
    pub chip: String,
    /// Bytes of the image.
    pub image_size: u64,
    /// File of the image itself.
    pub raw: Option<Digest>,
    /// Release file.
    pub file: Option<Digest>,
    /// Whether this server made the release file.
    pub built: bool,
    /// Id of the key that signed it.
    pub signed_by: Option<String>,
    /// Sequence.
    pub sequence: Option<u64>,
    /// Time at which it was yanked.
    pub yanked_at: Option<Timestamp>,
    /// Name of the file that was uploaded.
    pub filename: Option<String>,
    /// Demands on a board.
    pub needs: Option<Needs>,
}

impl ReleaseRow {
    const COLUMNS: &str = "r.id, r.image, r.product, r.version, r.chip, r.image_size, r.raw, r.file, r.built, r.signed_by, \
                           r.sequence, r.yanked_at, r.filename, r.needs";

    fn read(row: &Row) -> Result<Self, DbError> {
        let needs: Option<String> = row.get(13)?;
        Ok(Self {
            id: row.get(0)?,
            image: Digest(row.get(1)?),
            product: row.get(2)?,
            version: row.get(3)?,
            chip: row.get(4)?,
            image_size: row.get(5)?,
            raw: digest_at(row, 6)?,
            file: digest_at(row, 7)?,
            built: row.get(8)?,
            signed_by: row.get(9)?,
            sequence: row.get(10)?,
            yanked_at: row.get(11)?,
            filename: row.get(12)?,
            needs: needs.and_then(|needs| serde_json::from_str(&needs).ok()),
        })
    }

    /// Returns a release's.
    pub fn of(tx: &Connection, id: i64) -> Result<Option<Self>, DbError> {
        let sql = format!("SELECT {} FROM releases r WHERE r.id = ?1", Self::COLUMNS);
        tx.prepare(&sql).query_row([id], Self::read).optional()
    }

    /// Returns that of an image's release.
    pub fn of_image(tx: &Connection, image: Digest) -> Result<Option<Self>, DbError> {
        let sql = format!("SELECT {} FROM releases r WHERE r.image = ?1", Self::COLUMNS);
        tx.prepare(&sql).query_row([image.0], Self::read).optional()
    }

    /// Returns the file that a device is sent to for it, and its name.
    pub fn offered_file(&self) -> Option<(Digest, String)> {
        offered(self.file, self.raw, &self.product, &self.version)
    }

    /// Returns its name for people: product and version, and what tells it apart from others of that version.
    pub fn title(&self, tx: &Connection) -> Result<String, DbError> {
        title(tx, (&self.product, &self.chip), &self.version, self.image)
    }
}

/// Columns and tables of a [`Release`].
fn select() -> String {
    format!(
        "SELECT {}, a.size, r.compressed, r.notes, r.created_at, r.created_by, \
         (SELECT count(*) FROM devices d WHERE d.image = r.image AND d.retired_at IS NULL) \
         FROM releases r LEFT JOIN artifacts a ON a.digest = r.file",
        ReleaseRow::COLUMNS
    )
}

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
    let sql = format!("{} WHERE {sql} ORDER BY r.id DESC LIMIT {limit}", select());
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
    let sql = format!("{} WHERE r.id = ?1", select());
    let statement = tx.prepare(&sql);
    let row = statement.query_row([id], read).optional()?;
    row.map(|row| complete(tx, row)).transpose()
}

/// The release of an image.
pub fn by_image(tx: &Connection, image: Digest) -> Result<Option<Release>, DbError> {
    let sql = format!("{} WHERE r.image = ?1", select());
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
    let known = ReleaseRow::read(row)?;
    Ok(Release {
        id: known.id,
        image: known.image,
        image_short: naming::short(known.image),
        title: String::new(),
        product: known.product,
        version: known.version,
        chip: known.chip,
        image_size: known.image_size,
        raw: known.raw,
        file: known.file,
        file_size: row.get(14)?,
        built: known.built,
        signed_by: known.signed_by,
        sequence: known.sequence,
        compressed_size: row.get(15)?,
        deltas: Vec::new(),
        notes: row.get(16)?,
        created_at: row.get(17)?,
        created_by: row.get(18)?,
        yanked_at: known.yanked_at,
        devices: row.get(19)?,
        filename: known.filename,
        job: None,
        needs: known.needs,
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
    release.title = title(tx, (&release.product, &release.chip), &release.version, release.image)?;
    Ok(release)
}

fn title(tx: &Connection, kind: (&str, &str), version: &str, image: Digest) -> Result<String, DbError> {
    Ok(format!("{} {}", kind.0, naming::told_apart(tx, kind, version, image)?))
}
