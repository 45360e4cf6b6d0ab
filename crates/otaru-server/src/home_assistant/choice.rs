//! Choice of the release that Home Assistant is shown for a device, and the reason if that is not the newest.

use std::cmp::Ordering;
use std::sync::LazyLock;

use otaru_api::Device;
use otaru_format::digest::Digest;
use otaru_format::release::SemVer;
use otaru_rollout::Goal;

use crate::db::{Connection, DbError, OptionalExtension as _, params};
use crate::releases::naming;
use crate::rollouts::deployments::outcomes;
use crate::rollouts::rows;

/// A release that a device could run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The release's number.
    pub id: i64,
    /// The release's image.
    pub image: Digest,
    /// The version.
    pub version: String,
    /// The version as it is shown: with digits of the image where another release has the same.
    pub shown: String,
    /// Notes of people.
    pub notes: String,
}

/// A release that nobody is shown, or that anybody may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    release: Latest,
    /// Why nobody is.
    withheld: Option<String>,
}

/// The release for a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The newest that it may be given.
    pub latest: Option<Latest>,
    /// The newest above that, and why it is not that one.
    pub withheld: Option<(Latest, String)>,
    /// The image that runs, as it is shown: its version, with digits of the image where a release of another image has the same.
    pub runs: String,
}

impl Choice {
    /// Why there is nothing to install.
    pub fn why_not(&self, device: &Device) -> String {
        match &self.withheld {
            Some((release, why)) => format!("{} is not offered: {why}", release.shown),
            None if SemVer::parse(&device.version).is_err() => format!(
                "what runs, {:?}, is no semantic version, so that no release is known to be newer; roll one out by hand",
                device.version
            ),
            None => format!("no release is newer than {}, which runs", device.version),
        }
    }
}

/// Returns the releases of a product for a chip that can be offered, from the highest version on, of equal ones the last first.
/// A version that is no semantic one cannot be compared with others and is left out.
pub fn candidates(tx: &Connection, product: &str, chip: &str) -> Result<Vec<Candidate>, DbError> {
    let rows = tx.prepare(
        "SELECT id, image, version, notes FROM releases
         WHERE product = ? AND chip = ? AND yanked_at IS NULL AND coalesce(file, raw) IS NOT NULL ORDER BY id DESC",
    );
    let found = rows.query_map([product, chip], |row| {
        let shown = String::new();
        let (id, image) = (row.get(0)?, Digest(row.get(1)?));
        Ok(Latest { id, image, version: row.get(2)?, shown, notes: row.get(3)? })
    })?;
    let mut all = found.collect::<Result<Vec<_>, _>>()?;
    for release in &mut all {
        release.shown = naming::told_apart(tx, (product, chip), &release.version, release.image)?;
    }
    let undone = undone(tx)?;
    let mut candidates = Vec::new();
    for release in sorted(all) {
        let withheld = withheld(tx, &release, &undone)?;
        candidates.push(Candidate { release, withheld });
    }
    Ok(candidates)
}

fn sorted(mut all: Vec<Latest>) -> Vec<Latest> {
    all.retain(|release| SemVer::parse(&release.version).is_ok());
    // Stable: of equal ones the order stays.
    all.sort_by(|a, b| compare(&b.version, &a.version).unwrap_or(Ordering::Equal));
    all
}

/// Compares two versions, if both are semantic ones.
fn compare(a: &str, b: &str) -> Option<Ordering> {
    Some(SemVer::parse(a).ok()?.cmp(&SemVer::parse(b).ok()?))
}

/// Images that operators took back from devices, and by which rollouts.
fn undone(tx: &Connection) -> Result<Vec<(Digest, i64)>, DbError> {
    let sql = "SELECT id FROM rollouts WHERE release IS NULL AND phase <> 'draft'";
    let statement = tx.prepare(sql);
    let ids = statement.query_map((), |row| row.get::<i64>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut undone = Vec::new();
    for id in ids {
        // Of one that cannot be read nobody knows what it took back: nothing is chosen then.
        let kept = rows::get(tx, otaru_rollout::RolloutId(id.cast_unsigned()))?;
        if let Some(Goal::Undo { image, .. }) = kept.map(|kept| kept.rollout.spec().goal) {
            undone.push((image, id));
        }
    }
    Ok(undone)
}

/// Why a release is offered to nobody: its rollout stopped and was not resumed, or was undone. A later one of the same release
/// that was completed shows that it is good after all.
fn withheld(tx: &Connection, release: &Latest, undone: &[(Digest, i64)]) -> Result<Option<String>, DbError> {
    let sql = "SELECT max(id) FROM rollouts WHERE release = ? AND phase = 'completed' AND NOT EXISTS (
                 SELECT 1 FROM rollout_events e WHERE e.rollout = rollouts.id
                   AND json_extract(e.event, '$.notice.stopped') IS NOT NULL)";
    let good: Option<i64> = tx.prepare(sql).query_row([release.id], |row| row.get(0))?;
    let good = good.unwrap_or(0);
    let sql = "SELECT max(id) FROM rollouts r WHERE release = ? AND id > ? AND (phase = 'stopped' OR
                 coalesce((SELECT max(id) FROM rollout_events e WHERE e.rollout = r.id
                             AND json_extract(e.event, '$.notice.stopped') IS NOT NULL), 0)
                 > coalesce((SELECT max(id) FROM rollout_events e WHERE e.rollout = r.id
                             AND json_extract(e.event, '$.did') = 'resume'), 0))";
    let stopped: Option<i64> = tx.prepare(sql).query_row([release.id, good], |row| row.get(0))?;
    if let Some(id) = stopped {
        return Ok(Some(format!("rollout {id} of it stopped after too many failures")));
    }
    let undo = undone.iter().rfind(|(image, id)| *image == release.image && *id > good);
    Ok(undo.map(|(_, id)| format!("rollout {id} took it back")))
}

/// Chooses among the candidates for a device: the highest that is newer than what runs, did not fail on it, and is not withheld
/// from everybody.
pub fn choose(tx: &Connection, device: &Device, candidates: &[Candidate]) -> Result<Choice, DbError> {
    let image = device.image.as_deref().and_then(|image| image.parse().ok()).unwrap_or(Digest::ZERO);
    let runs = naming::told_apart(tx, (&device.product, &device.chip), &device.version, image)?;
    let mut choice = Choice { runs, ..Choice::default() };
    for candidate in candidates {
        let release = &candidate.release;
        if compare(&release.version, &device.version) != Some(Ordering::Greater) {
            break;
        }
        let why = match failed(tx, device, release)? {
            Some(why) => Some(why),
            None => candidate.withheld.clone(),
        };
        match why {
            None => {
                choice.latest = Some(release.clone());
                break;
            }
            Some(why) if choice.withheld.is_none() => choice.withheld = Some((release.clone(), why)),
            Some(_) => {}
        }
    }
    Ok(choice)
}

/// Returns why a release failed on a device: by its last deployment there that tells, or by the device's own word.
fn failed(tx: &Connection, device: &Device, release: &Latest) -> Result<Option<String>, DbError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT standing, error_code FROM deployments
             WHERE device = ? AND image = ?
               AND standing IN ({}) ORDER BY rollout DESC LIMIT 1",
            outcomes(|outcome| outcome.is_good() || outcome.is_failure())
        )
    });
    let statement = tx.prepare(&SQL);
    let last = statement.query_row(params![device.id, release.image.0], |row| {
        Ok((row.get::<String>(0)?, row.get::<Option<String>>(1)?))
    });
    if let Some((standing, code)) = last.optional()? {
        if matches!(standing.as_str(), "succeeded" | "current") {
            return Ok(None);
        }
        let code = code.map_or_else(String::new, |code| format!(" ({})", code.replace('_', " ")));
        let how = match standing.as_str() {
            "rolled_back" => "this device rolled it back",
            "refused" => "this device refused it",
            "timed_out" => "this device did not end with it in time",
            _ => "it failed on this device",
        };
        return Ok(Some(format!("{how}{code}")));
    }
    let report = crate::devices::rows::report(tx, &device.id.as_str().into())?;
    let barred = report.is_some_and(|report| report["failed"]["image"] == release.image.to_string());
    Ok(barred.then(|| "this device rolled it back".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(id: i64, version: &str) -> Latest {
        let (version, notes) = (String::from(version), String::new());
        Latest { id, image: Digest::ZERO, shown: version.clone(), version, notes }
    }

    #[test]
    fn the_highest_version_that_can_be_compared_is_first() {
        let ids = |versions: &[&str]| {
            let mut all: Vec<_> = (1..).zip(versions).map(|(id, version)| release(id, version)).collect();
            all.reverse();
            sorted(all).iter().map(|release| release.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&["1.10.0", "1.9.0", "2.0.0-rc.1"]), [3, 1, 2]);
        assert_eq!(ids(&["1.10.0", "1.9.0", "dev-build", "yesterday's", ""]), [1, 2], "no version, no rank");
        assert_eq!(ids(&["1.0.0+a", "1.0.0+b"]), [2, 1], "of equal ones the last");
        assert!(ids(&["dev-build"]).is_empty());
    }
}
