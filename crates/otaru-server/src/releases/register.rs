//! Puts what was uploaded into the database.

use otaru_api::{JobKind, Release};
use otaru_format::digest::Digest;
use otaru_format::image::file::signed_len;
use otaru_rollout::Time;

use super::columns::millis;
use super::contents::{Contents, Kind, ReleaseParts};
use super::job::Job;
use super::keys::Makes;
use super::naming::{Naming, short};
use super::remarks;
use super::renaming;
use super::rows;
use super::unfit::{Demands, Refusals};
use crate::db::{Connection, DbError, OptionalExtension as _, params};

/// Devices that a remark names.
const NAMED: usize = 3;

/// A file that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The digest.
    pub digest: Digest,
    /// Bytes of it.
    pub size: u64,
}

/// An upload whose files are in the store.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The contents.
    pub contents: Contents,
    /// The file.
    pub file: Stored,
    /// The image inside of a release file, as a file of its own.
    pub raw: Option<Stored>,
    /// Notes of people.
    pub notes: Option<String>,
    /// Names that were given with the upload.
    pub naming: Naming,
    /// Bytes behind the image that were left out.
    pub cut: u64,
    /// Whether a signature block of secure boot follows the image, and was kept.
    pub has_signature_block: bool,
    /// Name of the uploader.
    pub by: String,
}

/// Result of an upload.
#[derive(Debug)]
pub struct Registered {
    /// The release.
    pub id: i64,
    /// Whether it is new.
    pub created: bool,
    /// Whether anything changed.
    pub changed: bool,
    /// Sentences for who uploaded it: what was kept of the file, what it will not do, and what it may be taken for.
    pub remarks: Vec<String>,
    /// Whether devices run it and are known by another version.
    pub renames: bool,
}

/// Why an upload does not fit what is there.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The file contradicts the release.
    #[error("release {id} has this image, as {known}, but the file says {told}")]
    Disagree {
        /// The release.
        id: i64,
        /// Names that the release has.
        known: String,
        /// Names that the file says.
        told: String,
    },
    /// It is to be called otherwise, and its file was signed elsewhere.
    #[error(
        "release {id} is {known} in its release file, which was signed elsewhere; to call it otherwise, make that file anew: \
         `otaru release IMAGE.bin --product NAME --version VERSION --key KEY.pem -o FILE.otaru`"
    )]
    Named {
        /// The release.
        id: i64,
        /// Name of the release.
        known: String,
    },
    /// The number would go back.
    #[error(
        "release {id} has gone out with the sequence {known}, the file has {told}; sign it with {known} or more, or devices \
         may refuse it"
    )]
    Backwards {
        /// The release.
        id: i64,
        /// The release's sequence.
        known: u64,
        /// The file's.
        told: u64,
    },
    /// Another release of the product has this number.
    #[error(
        "release {id}, {version}, has the sequence {sequence} already, and devices take a sequence for one image only; \
         sign this one with a higher one: `otaru resign FILE.otaru --key KEY.pem --sequence {higher} -o NEW.otaru`"
    )]
    Taken {
        /// The other release.
        id: i64,
        /// Version of the release.
        version: String,
        /// The number of both.
        sequence: u64,
        /// A number that is free.
        higher: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Puts an upload into the database: a new release, or the missing file of one that is there, or another name for it.
///
/// # Errors
/// When it contradicts what is there.
pub fn register(
    tx: &Connection,
    upload: &Upload,
    makes: Makes,
    now: Time,
) -> Result<Registered, RegisterError> {
    for stored in std::iter::once(&upload.file).chain(&upload.raw) {
        note_artifact(tx, *stored, now)?;
    }
    let contents = &upload.contents;
    let known = rows::by_image(tx, contents.image)?;
    let created = known.is_none();
    let release = match known {
        Some(release) => release,
        None => insert(tx, upload, now)?,
    };
    let renamed = rename(tx, &release, upload)?;
    let release = if renamed { again(tx, release.id)? } else { release };
    agree(&release, contents)?;
    let mut changed = created | renamed | describe(tx, &release, upload)?;
    match &contents.kind {
        Kind::Image => changed |= set_raw(tx, &release, upload.file)?,
        Kind::Release(parts) => {
            changed |= set_file(tx, &release, upload.file, parts, now)?;
            if let Some(raw) = upload.raw {
                changed |= set_raw(tx, &release, raw)?;
            }
        }
    }
    if let Some(notes) = upload.notes.as_ref().filter(|notes| **notes != release.notes) {
        changed |= rows::set_notes(tx, release.id, notes)?;
    }
    let release = again(tx, release.id)?;
    if is_to_be_made(&release, contents, renamed, makes) {
        Job::ask(tx, release.id, JobKind::Build, now)?;
    }
    let remarks = remarks(tx, &release, upload, created, makes)?;
    let renames = renaming::begin(tx, release.id, &release.image.0, &release.version)?;
    Ok(Registered { id: release.id, created, changed, remarks, renames })
}

/// Whether a release file is to be made, or made anew because it is called otherwise.
fn is_to_be_made(release: &Release, contents: &Contents, renamed: bool, makes: Makes) -> bool {
    let is_due = release.file.is_none() || (renamed && release.built);
    let is_called_otherwise = contents.own.as_ref().is_some_and(|own| own.project != release.product);
    contents.kind == Kind::Image
        && is_due
        && match makes {
            Makes::Signed => true,
            Makes::Unsigned => is_called_otherwise || release.file.is_some(),
            Makes::Nothing => false,
        }
}

fn remarks(
    tx: &Connection,
    release: &Release,
    upload: &Upload,
    created: bool,
    makes: Makes,
) -> Result<Vec<String>, DbError> {
    let mut remarks = remarks::of_file(upload.cut, upload.has_signature_block);
    if !created && release.yanked_at.is_some() {
        remarks.push("it was yanked, and stays so: un-yank it to offer it again".to_owned());
    }
    if let Some(own) = &upload.contents.own {
        remarks.extend(own.hint(&release.product, &release.version));
        let only_for = own.only_for(&release.product);
        if only_for.is_some() && makes == Makes::Nothing && release.file.is_none() {
            remarks.push(format!(
                "this server makes no release file, so devices are sent to the bare image, which has its own name only: those of \
                 {:?} refuse it (wrong_product); upload a file that `otaru release --product` made",
                release.product
            ));
        }
        remarks.extend(only_for);
    }
    remarks.extend(looks_like(tx, release)?);
    remarks.extend(refused_by(tx, release)?);
    Ok(remarks)
}

/// Says which other release has the same version.
fn looks_like(tx: &Connection, release: &Release) -> Result<Option<String>, DbError> {
    let sql = "SELECT id, image FROM releases WHERE product = ? AND chip = ? AND version = ? AND id <> ? ORDER BY id DESC LIMIT 1";
    let (product, chip, version) = (&release.product, &release.chip, &release.version);
    let found = tx.prepare(sql).query_row(params![product, chip, version, release.id], |row| {
        Ok((row.get::<i64>(0)?, Digest(row.get(1)?)))
    });
    Ok(found.optional()?.map(|(id, image)| {
        format!(
            "release {id} of {product} has the version {version:?} as well, and other contents ({}, this is {}); the same file again \
             with `--version` tells them apart",
            short(image),
            release.image_short
        )
    }))
}

/// Says which devices are known to refuse it for what it asks of a board.
fn refused_by(tx: &Connection, release: &Release) -> Result<Option<String>, DbError> {
    let refusals = Refusals::read(tx)?;
    if refusals.is_empty() {
        return Ok(None);
    }
    let demands = Demands { size: release.image_size, needs: release.needs };
    let sql = "SELECT id FROM devices WHERE product = ? AND chip = ? AND retired_at IS NULL ORDER BY id";
    let statement = tx.prepare(sql);
    let found = statement.query_map([&release.product, &release.chip], |row| row.get::<String>(0))?;
    let (mut all, mut some) = (0_u64, Vec::new());
    for id in found {
        let id = id?;
        let Some(code) = refusals.of(&id, &demands) else { continue };
        all += 1;
        if some.len() < NAMED {
            some.push(format!("{id} ({code})"));
        }
    }
    let devices = if all == 1 { "1 device that has".to_owned() } else { format!("{all} devices that have") };
    let more = if all > NAMED as u64 { " …" } else { "" };
    Ok((all > 0).then(|| {
        format!(
            "{devices} refused firmware that asks no more of a board will refuse it: {}{more}",
            some.join(", ")
        )
    }))
}

fn again(tx: &Connection, id: i64) -> Result<Release, DbError> {
    rows::get(tx, id)?.ok_or_else(|| DbError::corrupt("releases", "a row is gone at once"))
}

/// Calls a release that is there otherwise: as is asked for, or as its release file says, which counts more than the image's own
/// words. Says whether it did.
fn rename(tx: &Connection, release: &Release, upload: &Upload) -> Result<bool, RegisterError> {
    let (contents, Naming { product, version, .. }) = (&upload.contents, &upload.naming);
    let (product, version) = match contents.kind {
        Kind::Image => (product.as_ref(), version.as_ref()),
        Kind::Release(_) => (Some(&contents.product), Some(&contents.version)),
    };
    let product = product.unwrap_or(&release.product);
    let version = version.unwrap_or(&release.version);
    if *product == release.product && *version == release.version {
        return Ok(false);
    }
    if release.file.is_some() && !release.built {
        if contents.kind != Kind::Image {
            // Two release files may not differ.
            return Ok(false);
        }
        let known = format!("{} {}", release.product, release.version);
        return Err(RegisterError::Named { id: release.id, known });
    }
    // Another product counts its own sequence.
    tx.execute(
        "UPDATE releases SET product = ?2, version = ?3, sequence = CASE WHEN product = ?2 THEN sequence END WHERE id = ?1",
        params![release.id, product, version],
    )?;
    Ok(true)
}

/// Keeps the name of the file it came in, and what its header says. Says whether that is new.
fn describe(tx: &Connection, release: &Release, upload: &Upload) -> Result<bool, DbError> {
    let needs = upload.contents.needs.map(|needs| serde_json::to_string(&needs)).transpose();
    let needs = needs.map_err(|error| DbError::corrupt("releases.needs", error))?;
    let sql =
        "UPDATE releases SET filename = coalesce(?2, filename), needs = coalesce(?3, needs) WHERE id = ?1";
    tx.execute(sql, params![release.id, upload.naming.filename, needs])?;
    Ok(upload.naming.filename.is_some() && upload.naming.filename != release.filename)
}

/// Notes a file that is in the store.
pub(super) fn note_artifact(tx: &Connection, stored: Stored, now: Time) -> Result<(), DbError> {
    let sql = "INSERT INTO artifacts (digest, size, used_at) VALUES (?1, ?2, ?3) \
               ON CONFLICT (digest) DO UPDATE SET used_at = ?3";
    tx.execute(sql, params![stored.digest.0, stored.size, millis(now)])?;
    Ok(())
}

fn insert(tx: &Connection, upload: &Upload, now: Time) -> Result<Release, RegisterError> {
    let contents = &upload.contents;
    let id = tx.query_row(
        "INSERT INTO releases (image, product, version, chip, image_size, created_at, created_by) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id",
        params![
            contents.image.0,
            contents.product,
            contents.version,
            contents.chip.name(),
            contents.image_size,
            millis(now),
            upload.by
        ],
        |row| row.get(0),
    )?;
    Ok(again(tx, id)?)
}

/// An image's own words may differ from those of its release file, which counts; two release files may not differ.
fn agree(release: &Release, contents: &Contents) -> Result<(), RegisterError> {
    let known = (&*release.product, &*release.version, &*release.chip);
    let told = (&*contents.product, &*contents.version, contents.chip.name());
    if contents.kind == Kind::Image || known == told {
        return Ok(());
    }
    let words = |(product, version, chip): (&str, &str, &str)| format!("{product} {version} for {chip}");
    Err(RegisterError::Disagree { id: release.id, known: words(known), told: words(told) })
}

/// Makes this the file with the image alone: where there is none, where the one there has more behind the image than a signature
/// block, and where this one has that block and the other has not.
fn set_raw(tx: &Connection, release: &Release, raw: Stored) -> Result<bool, DbError> {
    let image = release.image_size;
    let signed = u32::try_from(image).ok().and_then(signed_len).map_or(image, u64::from);
    let sql = "UPDATE releases SET raw = ?2 WHERE id = ?1 AND raw IS DISTINCT FROM ?2 AND (raw IS NULL
                 OR (SELECT size NOT IN (?3, ?4) OR (size = ?3 AND ?5 = ?4) FROM artifacts WHERE digest = raw))";
    Ok(tx.execute(sql, params![release.id, raw.digest.0, image, signed, raw.size])? > 0)
}

fn set_file(
    tx: &Connection,
    release: &Release,
    file: Stored,
    parts: &ReleaseParts,
    now: Time,
) -> Result<bool, RegisterError> {
    if release.file == Some(file.digest) {
        return Ok(false);
    }
    if let Some(known) = release.sequence.filter(|known| *known > parts.sequence) {
        return Err(RegisterError::Backwards { id: release.id, known, told: parts.sequence });
    }
    is_free(tx, release, parts.sequence)?;
    let deltas: Vec<_> = parts.deltas.iter().map(|(base, size)| (*base, Some(*size))).collect();
    put_file(tx, release.id, file, false, parts, &deltas, now)?;
    Ok(true)
}

/// No two releases of a product share a sequence.
fn is_free(tx: &Connection, release: &Release, sequence: u64) -> Result<(), RegisterError> {
    let sql = "SELECT id, version, (SELECT max(sequence) FROM releases WHERE product = ?1) FROM releases \
               WHERE product = ?1 AND sequence = ?2 AND id != ?3";
    let taken = tx.query_row(sql, params![release.product, sequence, release.id], |row| {
        let (id, version, highest): (i64, String, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(RegisterError::Taken { id, version, sequence, higher: highest + 1 })
    });
    taken.optional()?.map_or(Ok(()), Err)
}

/// Makes this the release's file, with its patches.
pub(super) fn put_file(
    tx: &Connection,
    release: i64,
    file: Stored,
    built: bool,
    parts: &ReleaseParts,
    deltas: &[(Digest, Option<u32>)],
    now: Time,
) -> Result<(), DbError> {
    // Devices may be on their way through the one before: it is kept for a while from now on.
    tx.execute(
        "UPDATE artifacts SET used_at = ?2 WHERE digest = (SELECT file FROM releases WHERE id = ?1)",
        params![release, millis(now)],
    )?;
    tx.execute(
        "UPDATE releases SET file = ?2, built = ?3, signed_by = ?4, sequence = ?5, compressed = ?6, \
         first_sequence = coalesce(first_sequence, ?5) WHERE id = ?1",
        params![
            release,
            file.digest.0,
            built,
            parts.signed_by.map(|id| id.to_string()),
            parts.sequence,
            parts.compressed
        ],
    )?;
    tx.execute("DELETE FROM deltas WHERE release = ?1", [release])?;
    let insert = tx.prepare("INSERT INTO deltas (release, base, size) VALUES (?1, ?2, ?3)");
    for (base, size) in deltas {
        insert.execute(params![release, base.0, size])?;
    }
    Ok(())
}
