//! Going back is going forward: an older release is signed again with a higher sequence, because devices that want
//! signatures take no lower one, and no command makes them.

use axum::http::StatusCode;
use bytes::Bytes;
use otaru_format::digest::Digest;
use otaru_release::sign::resign_as;
use rusqlite::{Connection, params};
use tokio::sync::OwnedRwLockReadGuard;

use super::contents::{Contents, Kind, ReleaseParts};
use super::register::{Stored, note_artifact, put_file};
use super::rows::{self, Release, millis};
use crate::api::problem::Problem;
use crate::app::App;
use crate::db::DbError;
use crate::events::Event;

/// A release that is to become newer than what devices have had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outdated {
    /// Id of the release.
    pub release: i64,
    /// The highest sequence that one of the devices has had; 0 where that is not the reason.
    pub had: u64,
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

/// Release files with higher sequences, to be applied in the write that needs them.
#[derive(Debug, Default)]
pub struct SignedAgain {
    signed: Vec<Signed>,
    /// Nothing that is in the store is removed before this is applied.
    _held: Option<OwnedRwLockReadGuard<()>>,
}

/// Signs releases again, as far as this server has the key that signed them. The rest is left to [`refuse`].
///
/// # Errors
/// When a file cannot be read, or kept.
pub async fn sign_again(app: &App, outdated: Vec<Outdated>) -> Result<SignedAgain, Problem> {
    let Some(key) = app.keys.signer().cloned() else { return Ok(SignedAgain::default()) };
    let own = key.public().id().to_string();
    let mut again = SignedAgain { signed: Vec::new(), _held: Some(app.artifacts.hold().await) };
    for Outdated { release, .. } in outdated {
        let found =
            app.db.read(move |tx| Ok::<_, DbError>((rows::get(tx, release)?, next_sequence(tx, release)?)));
        let (Some(release), highest) = found.await? else { continue };
        let Some(old) = release.file.filter(|_| release.signed_by.as_deref() == Some(&own)) else { continue };
        let now = app.clock.now().0;
        let taken = again.signed.iter().map(|signed| signed.parts.sequence + 1).max().unwrap_or(0);
        let (sequence, bytes) = (now.max(highest).max(taken), app.artifacts.read_whole(old).await?);
        let (key, keys) = (std::sync::Arc::clone(&key), app.keys.clone());
        let made = tokio::task::spawn_blocking(move || {
            let file = resign_as(&bytes, sequence, &key).map_err(|error| error.to_string())?;
            // What devices are sent to is first looked at as they do.
            let contents = Contents::read(&file, &keys).map_err(|error| error.to_string())?;
            let Kind::Release(parts) = contents.kind else { return Err("it is no release file".into()) };
            Ok::<_, String>((Bytes::from(file), parts))
        });
        let made = made.await.map_err(|error| Problem::internal(&error))?;
        let (file, parts) = made
            .map_err(|why| Problem::conflict(format!("{} cannot be signed again: {why}", named(&release))))?;
        let size = file.len() as u64;
        let file = Stored { digest: app.artifacts.put(file).await?, size };
        again.signed.push(Signed { release: release.id, old, file, parts });
    }
    Ok(again)
}

impl SignedAgain {
    /// Makes these the releases' files.
    ///
    /// # Errors
    /// When one of the releases has changed since they were signed.
    pub fn apply(&self, tx: &Connection, now: otaru_rollout::Time) -> Result<(), Problem> {
        for Signed { release, old, file, parts } in &self.signed {
            let known = rows::get(tx, *release)?;
            let (same, built) = known.map_or((false, false), |known| (known.file == Some(*old), known.built));
            if !same || parts.sequence < next_sequence(tx, *release)? {
                return Err(Problem::conflict("releases changed meanwhile; try again"));
            }
            let mut tried = tx.prepare_cached("SELECT base, size FROM deltas WHERE release = ?1")?;
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

/// The least sequence above all that the release's product has.
fn next_sequence(tx: &Connection, release: i64) -> Result<u64, DbError> {
    let sql = "SELECT 1 + coalesce(max(o.sequence), 0) FROM releases r JOIN releases o ON o.product = r.product \
               WHERE r.id = ?1";
    Ok(tx.prepare_cached(sql)?.query_row([release], |row| row.get(0))?)
}

/// Says how to go back, where this server cannot sign what devices would take.
///
/// # Errors
/// A [`Problem`] for the first of the releases.
pub fn refuse(tx: &Connection, outdated: &[Outdated]) -> Result<(), Problem> {
    let Some(first) = outdated.first() else { return Ok(()) };
    let Some(release) = rows::get(tx, first.release)? else { return Ok(()) };
    let least = next_sequence(tx, release.id)?.max(first.had.saturating_add(1));
    let file = release.offered().map_or_else(|| "FILE.otaru".to_owned(), |(_, name)| name);
    let key = match &release.signed_by {
        Some(id) => format!("the key {id}, which signed it, is not on this server"),
        None => "it is not signed, and this server has no key".to_owned(),
    };
    let why = match first.had {
        0 => format!("devices that rolled it back take it again with a higher sequence only, and {key}"),
        had => format!(
            "its sequence is {}, devices have had {had}, and those that want signatures go back to no lower one; {key}",
            release.sequence.unwrap_or(0)
        ),
    };
    let how = format!(
        "where the key is, run `otaru resign {file} --key KEY.pem --sequence {} -o {}`, upload that, and make the \
         rollout then",
        least.max(release.sequence.map_or(0, |sequence| sequence + 1)),
        file.replace(".otaru", "-again.otaru")
    );
    let text = format!("{}: {why}. To go back, {how}", named(&release));
    Err(Problem::new(StatusCode::CONFLICT, "sign-again", text))
}

fn named(release: &Release) -> String {
    format!("release {}, {} {}", release.id, release.product, release.version)
}

/// The highest sequence a device has had, as far as is known here: of what it runs, and of what it confirmed.
///
/// # Errors
/// Those of the database.
pub fn highest_had(tx: &Connection, device: &str, running: Digest, chip: &str) -> Result<u64, DbError> {
    let mut runs = tx.prepare_cached("SELECT max(sequence) FROM releases WHERE image = ?1")?;
    let runs: Option<u64> = runs.query_row([running.0], |row| row.get(0))?;
    let mut confirmed = tx.prepare_cached(
        "SELECT max(r.sequence) FROM deployments d JOIN rollouts o ON o.id = d.rollout \
         JOIN releases r ON r.id = o.release \
         WHERE d.device = ?1 AND d.standing = 'succeeded' AND r.chip = ?2",
    )?;
    let confirmed: Option<u64> = confirmed.query_row(params![device, chip], |row| row.get(0))?;
    Ok(runs.max(confirmed).unwrap_or(0))
}

/// Gives a release its first sequence: the milliseconds since 1970, and above all that the product has.
///
/// # Errors
/// Those of the database.
pub(super) fn number(tx: &Connection, release: i64, now: otaru_rollout::Time) -> Result<(), DbError> {
    let least = next_sequence(tx, release)?;
    let sequence = u64::try_from(millis(now)).unwrap_or(0).max(least);
    tx.execute(
        "UPDATE releases SET sequence = ?2 WHERE id = ?1 AND sequence IS NULL",
        params![release, sequence],
    )?;
    Ok(())
}
