//! Puts what was uploaded into the database.

use otaru_format::digest::Digest;
use otaru_format::image::file::signed_len;
use otaru_rollout::Time;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::contents::{Contents, Kind, ReleaseParts};
use super::jobs::{Job, JobKind};
use super::rows::{self, Release, millis};
use crate::db::DbError;

/// A file that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// Bytes of it.
    pub size: u64,
}

/// An upload whose files are in the store.
#[derive(Debug, Clone)]
pub struct Upload {
    /// What it holds.
    pub contents: Contents,
    /// The file.
    pub file: Stored,
    /// The image inside of a release file, as a file of its own.
    pub raw: Option<Stored>,
    /// What people write about it.
    pub notes: Option<String>,
    /// Who uploaded it.
    pub by: String,
}

/// How an upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// The release.
    pub id: i64,
    /// Whether it is new.
    pub created: bool,
    /// Whether anything changed.
    pub changed: bool,
    /// Bytes behind the image that were left out.
    pub cut: u64,
    /// Whether a signature block of secure boot follows the image, and was kept.
    pub has_signature_block: bool,
}

impl Registered {
    /// Sentences for who uploaded it: what was kept of the file, and what it will not do.
    pub fn remarks(&self, release: &Release) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.cut > 0 {
            remarks.push(match self.cut {
                1 => "1 byte behind the image is no part of it and was left out".to_owned(),
                cut => format!("{cut} bytes behind the image are no part of it and were left out"),
            });
        }
        if self.has_signature_block {
            remarks.push("the signature block of secure boot behind the image is kept".to_owned());
        }
        if !self.created && release.yanked_at.is_some() {
            remarks.push("it was yanked, and stays so: un-yank it to offer it again".to_owned());
        }
        remarks
    }
}

/// Why an upload does not fit what is there.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The file contradicts the release.
    #[error("release {id} has this image, as {known}, but the file says {told}")]
    Disagree {
        /// The release.
        id: i64,
        /// What it is.
        known: String,
        /// What the file says.
        told: String,
    },
    /// The number would go back.
    #[error(
        "release {id} has gone out with the sequence {known}, the file has {told}; sign it with {known} or more, or devices \
         may refuse it"
    )]
    Backwards {
        /// The release.
        id: i64,
        /// Its number.
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

impl From<rusqlite::Error> for RegisterError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Puts an upload into the database: a new release, or the missing file of one that is there. With `build`, a release file is to be made
/// where there is none.
///
/// # Errors
/// When it contradicts what is there.
pub fn register(
    tx: &Connection,
    upload: &Upload,
    build: bool,
    now: Time,
) -> Result<Registered, RegisterError> {
    for stored in std::iter::once(&upload.file).chain(&upload.raw) {
        note_artifact(tx, *stored, now)?;
    }
    let known = rows::by_image(tx, upload.contents.image)?;
    let created = known.is_none();
    let release = match known {
        Some(release) => release,
        None => insert(tx, upload, now)?,
    };
    agree(&release, &upload.contents)?;
    let mut changed = created;
    match &upload.contents.kind {
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
    if build && upload.contents.kind == Kind::Image && release.file.is_none() {
        Job::ask(tx, release.id, JobKind::Build, now)?;
    }
    Ok(Registered { id: release.id, created, changed, cut: 0, has_signature_block: false })
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
    tx.execute(
        "INSERT INTO releases (image, product, version, chip, image_size, created_at, created_by) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            contents.image.0,
            contents.product,
            contents.version,
            contents.chip.name(),
            contents.image_size,
            millis(now),
            upload.by
        ],
    )?;
    let id = tx.last_insert_rowid();
    Ok(rows::get(tx, id)?.ok_or_else(|| DbError::corrupt("releases", "a row is gone at once"))?)
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
    let sql = "UPDATE releases SET raw = ?2 WHERE id = ?1 AND raw IS NOT ?2 AND (raw IS NULL
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
    let mut insert = tx.prepare_cached("INSERT INTO deltas (release, base, size) VALUES (?1, ?2, ?3)")?;
    for (base, size) in deltas {
        insert.execute(params![release, base.0, size])?;
    }
    Ok(())
}
