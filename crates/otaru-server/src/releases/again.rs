//! Going back is going forward: an older release is signed again with a higher sequence, because devices that want
//! signatures take no lower one, and no command makes them.
//!
//! The outdated releases are found outside of the one writer, since finding them asks every device; the write only looks whether
//! the answer still holds.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use bytes::Bytes;
use otaru_api::Event;
use otaru_format::digest::Digest;
use otaru_format::release::MAX_SEQUENCE;
use otaru_release::sign::{renumber, resign_as};
use tokio::sync::OwnedRwLockReadGuard;

use super::Keys;
use super::columns::{digest_at, millis};
use super::contents::{Contents, Kind, ReleaseParts};
use super::register::{Stored, note_artifact, put_file};
use super::rows::ReleaseRow;
use crate::app::App;
use crate::db::{Connection, DbError, OptionalExtension as _, params};
use crate::problem::Problem;

/// A release that is to become newer than what devices have had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outdated {
    /// Id of the release.
    pub release: i64,
    /// The highest sequence that one of the devices has had.
    pub had: u64,
}

/// Releases that devices would refuse, and what that answer rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutdatedReleases {
    /// The releases.
    pub outdated: Vec<Outdated>,
    /// The images that devices are to be sent to, with the file for each.
    images: Vec<(Digest, Option<Offered>)>,
    /// The highest sequence that any device has had.
    had: u64,
}

/// Sequence of a release, and the file that devices are sent to.
type Offered = (Option<u64>, Option<Digest>);

impl OutdatedReleases {
    /// The answer for these images, as releases and devices are now.
    pub fn new(tx: &Connection, images: BTreeSet<Digest>, outdated: Vec<Outdated>) -> Result<Self, DbError> {
        let look = |image| Ok::<_, DbError>((image, offered(tx, image)?));
        let images = images.into_iter().map(look).collect::<Result<_, _>>()?;
        Ok(Self { outdated, images, had: highest_had(tx)? })
    }

    /// Whether releases and devices are still as they were. It costs nothing that grows with the fleet.
    fn holds(&self, tx: &Connection) -> Result<bool, DbError> {
        for (image, was) in &self.images {
            if offered(tx, *image)? != *was {
                return Ok(false);
            }
        }
        // Where nobody is sent anywhere, nobody refuses anything.
        Ok(self.images.is_empty() || highest_had(tx)? == self.had)
    }
}

fn offered(tx: &Connection, image: Digest) -> Result<Option<Offered>, DbError> {
    let sql = "SELECT sequence, coalesce(file, raw) FROM releases WHERE image = ?1 AND yanked_at IS NULL";
    let found = tx.prepare(sql).query_row([image.0], |row| Ok((row.get(0)?, digest_at(row, 1)?)));
    found.optional()
}

/// From an index alone, one step for each product.
fn highest_had(tx: &Connection) -> Result<u64, DbError> {
    let sql = "SELECT coalesce(max((SELECT max(had) FROM devices d WHERE d.product = r.product)), 0) \
               FROM (SELECT DISTINCT product FROM releases) r";
    tx.prepare(sql).query_row((), |row| row.get(0))
}

/// A release file with a higher sequence, in the store but not in the database.
#[derive(Debug)]
struct Signed {
    release: i64,
    /// The file that it was made of.
    old: Digest,
    file: Stored,
    parts: ReleaseParts,
}

/// Changes of releases that a rollout needs, to be applied in the write that makes or starts it.
#[derive(Debug, Default)]
pub struct Prepared {
    found: OutdatedReleases,
    signed: Vec<Signed>,
    /// Nothing that is in the store is removed before this is applied.
    _held: Option<OwnedRwLockReadGuard<()>>,
}

/// Time at which outdated releases are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Now: something starts.
    Now,
    /// Later: only whether it can be is looked at.
    Later,
}

/// Signs outdated releases again. All of them, or none.
///
/// # Errors
/// When the key that signed one of them is not here, which names the command to run where it is; and when a file cannot be read,
/// signed or kept.
pub async fn prepare(app: &App, found: OutdatedReleases, when: When) -> Result<Prepared, Problem> {
    if found.outdated.is_empty() {
        return Ok(Prepared { found, ..Prepared::default() });
    }
    let own = app.keys.signer().map(|key| key.public().id().to_string());
    let outdated = found.outdated.clone();
    let due =
        app.db.read(move |tx| outdated.iter().map(|outdated| due(tx, outdated, own.as_deref())).collect());
    let due: Vec<Due> = due.await?;
    if when == When::Later {
        return Ok(Prepared { found, ..Prepared::default() });
    }
    let mut prepared = Prepared { found, signed: Vec::new(), _held: Some(app.artifacts.hold().await) };
    let mut next = app.clock.now().0;
    for Due { release, old, least } in due {
        let sequence = next.max(least);
        let signed = sign(app, &release, old, sequence).await?;
        next = sequence + 1;
        prepared.signed.push(signed);
    }
    Ok(prepared)
}

/// A release that this server can sign again.
struct Due {
    release: ReleaseRow,
    old: Digest,
    /// The least sequence that will do.
    least: u64,
}

fn due(tx: &Connection, outdated: &Outdated, own: Option<&str>) -> Result<Due, Problem> {
    let release = ReleaseRow::of(tx, outdated.release)?;
    let release = release.ok_or_else(|| Problem::not_found(format_args!("release {}", outdated.release)))?;
    let least = next_sequence(tx, release.id)?.max(next_reported(tx, release.id)?);
    let least = least.max(outdated.had.saturating_add(1));
    if least > MAX_SEQUENCE {
        let text = format!(
            "{} cannot be signed again: {} is the highest sequence there is; build the image anew, under another product's name \
             that lists this one (`otaru release --also`)",
            named(&release),
            least - 1
        );
        return Err(Problem::conflict(text));
    }
    match release.file {
        Some(old) if own.is_some() && release.signed_by.as_deref() == own => Ok(Due { release, old, least }),
        // One that was made here without a key.
        Some(old) if release.built && release.signed_by.is_none() => Ok(Due { release, old, least }),
        _ => Err(sign_elsewhere(&release, outdated.had, least)),
    }
}

async fn sign(app: &App, release: &ReleaseRow, old: Digest, sequence: u64) -> Result<Signed, Problem> {
    let cannot = |why: &dyn std::fmt::Display| {
        Problem::conflict(format!("{} cannot be signed again: {why}", named(release)))
    };
    let bytes = app.artifacts.read_whole(old).await.map_err(|error| match error.is_missing() {
        true => cannot(&format_args!("{error}; upload it again")),
        false => error.into(),
    })?;
    let keys = app.keys.clone();
    let made = tokio::task::spawn_blocking(move || made_again(&bytes, sequence, &keys)).await;
    let (file, parts) = made.map_err(|error| Problem::internal(&error))?.map_err(|why| cannot(&why))?;
    let size = file.len() as u64;
    let file = Stored { digest: app.artifacts.put(file).await?, size };
    Ok(Signed { release: release.id, old, file, parts })
}

fn made_again(bytes: &[u8], sequence: u64, keys: &Keys) -> Result<(Bytes, ReleaseParts), String> {
    let file = match keys.signer() {
        Some(key) => resign_as(bytes, sequence, key),
        None => renumber(bytes, sequence),
    };
    let file = file.map_err(|error| error.to_string())?;
    // What devices are sent to is first looked at as they do.
    let contents = Contents::read(&file, keys).map_err(|error| error.to_string())?;
    let Kind::Release(parts) = contents.kind else { return Err("it is no release file".into()) };
    Ok((file.into(), parts))
}

impl Prepared {
    /// Makes what was signed the releases' files.
    ///
    /// # Errors
    /// When releases or devices have changed since it was prepared.
    pub fn apply(&self, tx: &Connection, now: otaru_rollout::Time) -> Result<(), Problem> {
        if !self.found.holds(tx)? {
            return Err(changed());
        }
        for Signed { release, old, file, parts } in &self.signed {
            let known = ReleaseRow::of(tx, *release)?;
            let (same, built) = known.map_or((false, false), |known| (known.file == Some(*old), known.built));
            if !same || parts.sequence < next_sequence(tx, *release)? {
                return Err(changed());
            }
            let tried = tx.prepare("SELECT base, size FROM deltas WHERE release = ?1");
            let deltas = tried.query_map([release], |row| Ok((Digest(row.get(0)?), row.get(1)?)))?;
            let deltas: Vec<(Digest, Option<u32>)> = deltas.collect::<Result<_, _>>()?;
            note_artifact(tx, *file, now)?;
            put_file(tx, *release, *file, built, parts, &deltas, now)?;
        }
        Ok(())
    }

    /// Tells those who watch.
    pub fn tell(&self, app: &App) {
        self.signed.iter().for_each(|signed| app.events.tell(Event::Release { id: signed.release }));
    }
}

fn changed() -> Problem {
    Problem::conflict("releases or devices changed meanwhile; try again")
}

/// The least sequence above all that the release's product has, and above all that its devices are known to have had.
fn next_sequence(tx: &Connection, release: i64) -> Result<u64, DbError> {
    let sql = "SELECT 1 + max(coalesce((SELECT max(o.sequence) FROM releases o WHERE o.product = r.product), 0), \
                              coalesce((SELECT max(d.had) FROM devices d WHERE d.product = r.product), 0)) \
               FROM releases r WHERE r.id = ?1";
    tx.prepare(sql).query_row([release], |row| row.get(0))
}

/// The least sequence above those of the images that devices of the release's product report, of whatever product those are. It
/// asks every device.
fn next_reported(tx: &Connection, release: i64) -> Result<u64, DbError> {
    let sql = "SELECT 1 + coalesce(max(o.sequence), 0) FROM releases r JOIN devices d ON d.product = r.product \
               JOIN releases o ON o.image = d.image WHERE r.id = ?1";
    tx.prepare(sql).query_row([release], |row| row.get(0))
}

/// Says how to sign a release again, where this server cannot.
fn sign_elsewhere(release: &ReleaseRow, had: u64, least: u64) -> Problem {
    let file = release.offered_file().map_or_else(|| "FILE.otaru".to_owned(), |(_, name)| name);
    let key = match &release.signed_by {
        Some(id) => format!("the key {id}, which signed it, is not on this server"),
        None => "it is not signed".to_owned(),
    };
    let sequence = release.sequence.unwrap_or(0);
    let why = match had > sequence {
        false => format!("devices that rolled it back take it again with a higher sequence only, and {key}"),
        true => format!(
            "its sequence is {sequence}, devices have had {had}, and those that want signatures go back to no lower one; {key}"
        ),
    };
    let (sequence, again) = (least.max(sequence + 1), file.replace(".otaru", "-again.otaru"));
    let how = match &release.signed_by {
        Some(_) => format!(
            "where the key is, run `otaru resign {file} --key KEY.pem --sequence {sequence} -o {again}`"
        ),
        None => {
            format!("run `otaru release {} --sequence {sequence} -o {again}`", file.replace(".otaru", ".bin"))
        }
    };
    let text = format!("{}: {why}. To go back, {how}, upload that, and try again", named(release));
    Problem::new(StatusCode::CONFLICT, "sign-again", text)
}

fn named(release: &ReleaseRow) -> String {
    format!("release {}, {} {}", release.id, release.product, release.version)
}

/// The highest sequence that a device has had, as far as is known here: what it ran, and what it runs.
pub fn had_by(tx: &Connection, device: &str) -> Result<u64, DbError> {
    let sql = "SELECT CASE WHEN r.sequence > d.had THEN r.sequence ELSE d.had END FROM devices d LEFT JOIN releases r ON r.image = d.image WHERE d.id = ?1";
    Ok(tx.prepare(sql).query_row([device], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Whether a device may have rolled back a release as its file is now, which was signed or made here: it was offered it with this
/// sequence, or it is not known with which one, and the release was never signed again.
pub fn may_be_barred(tx: &Connection, device: &str, image: Digest) -> Result<bool, DbError> {
    let sql = "SELECT coalesce(sequence <= coalesce((SELECT max(p.offered) FROM deployments p WHERE p.device = ?1 \
                                            AND p.image = r.image), first_sequence, sequence), FALSE) \
               FROM releases r WHERE image = ?2 AND file IS NOT NULL AND (signed_by IS NOT NULL OR built)";
    let barred = tx.prepare(sql).query_row(params![device, image.0], |row| row.get(0));
    Ok(barred.optional()?.unwrap_or(false))
}

/// Gives a release its first sequence: the milliseconds since 1970, and above all that the product has.
pub(super) fn number(tx: &Connection, release: i64, now: otaru_rollout::Time) -> Result<(), DbError> {
    let least = next_sequence(tx, release)?;
    let sequence = u64::try_from(millis(now)).unwrap_or(0).max(least);
    tx.execute(
        "UPDATE releases SET sequence = ?2, first_sequence = ?2 WHERE id = ?1 AND sequence IS NULL",
        params![release, sequence],
    )?;
    Ok(())
}
