//! Preview of the devices that a rollout would reach, without creating it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use axum::http::StatusCode;
use otaru_api::{KnownRefusal, Preview};
use otaru_format::digest::Digest;
use otaru_format::status::Code;
use otaru_rollout::{
    Control, Deployment, Device, DeviceId, Goal, NotAdmitted, Rollout, RolloutId, RolloutSpec, Tags, Time,
    admit,
};

use crate::db::{Connection, DbError, OptionalExtension as _, Row};
use crate::devices::{history, tags};
use crate::problem::Problem;
use crate::releases::again::{Outdated, OutdatedReleases, may_be_barred};
use crate::releases::rows::{self as releases, ReleaseRow};
use crate::releases::unfit::{Demands, Refusals};

/// Devices of one refusal that are named.
const REFUSING: usize = 5;

/// Returns the evidence that a device refuses an image with this code.
fn why(code: Code) -> &'static str {
    match code {
        Code::WrongChip => "the release is for another chip",
        Code::WrongProduct => "the release is for another product than they report",
        Code::FlashTooSmall => "they refused firmware for as much flash, or less",
        Code::TooLarge => "they refused firmware of its size, or smaller",
        Code::WrongRevision => "they refused firmware for the same revisions of the chip",
        _ => "they refused the like",
    }
}

/// Knowledge of the images that a rollout brings, read as they come up.
struct Judge<'tx> {
    tx: &'tx Connection,
    refusals: Refusals,
    /// Products and chips that are not asked for, where the image is not signed.
    force: bool,
    images: BTreeMap<Digest, Option<Facts>>,
}

struct Facts {
    chip: String,
    product: String,
    demands: Demands,
    forced: bool,
}

impl Facts {
    fn read(tx: &Connection, image: Digest, force: bool) -> Result<Option<Self>, DbError> {
        Ok(ReleaseRow::of_image(tx, image)?.map(|release| Self {
            demands: Demands { size: release.image_size, needs: release.needs },
            forced: force && release.signed_by.is_none(),
            chip: release.chip,
            product: release.product,
        }))
    }
}

impl<'tx> Judge<'tx> {
    fn new(tx: &'tx Connection, force: bool) -> Result<Self, DbError> {
        Ok(Self { tx, refusals: Refusals::read(tx)?, force, images: BTreeMap::new() })
    }

    /// The code with which a device is known to refuse an image.
    fn refusal(&mut self, device: &Device<'_>, image: Digest) -> Result<Option<Code>, DbError> {
        let facts = match self.images.entry(image) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Facts::read(self.tx, image, self.force)?),
        };
        let Some(facts) = facts else { return Ok(None) };
        if facts.chip != device.chip {
            return Ok(Some(Code::WrongChip));
        }
        if facts.product != device.product && !facts.forced {
            return Ok(Some(Code::WrongProduct));
        }
        Ok(self.refusals.of(device.id.as_str(), &facts.demands))
    }
}

/// Devices that are read at once.
const BATCH: usize = 1_000;

/// Admits the fleet to a rollout that nobody keeps, by the engine's own rules, until `enough` devices are found.
///
/// # Errors
/// When it makes no sense.
pub fn preview(
    tx: &Connection,
    spec: RolloutSpec,
    named: usize,
    enough: Option<u64>,
    now: Time,
) -> Result<Preview, Problem> {
    let mut counted = Preview { waves: vec![0; spec.waves.len() + 1], ..Preview::default() };
    let mut judge = Judge::new(tx, spec.force)?;
    let mut refusals = BTreeMap::<&'static str, KnownRefusal>::new();
    visit(tx, spec, now, |device, admitted| {
        match admitted {
            Ok(deployment) => {
                counted.devices += 1;
                counted.reachable += u64::from(device.reachable);
                counted.busy += u64::from(device.busy);
                if let Some(wave) = counted.waves.get_mut(deployment.wave()) {
                    *wave += 1;
                }
                if counted.some.len() < named {
                    counted.some.push(device.id.to_string());
                }
                if let Some(code) = judge.refusal(&device.device(), deployment.image())? {
                    let (name, why) = (code.as_str(), why(code));
                    let known = refusals.entry(name).or_insert_with(|| KnownRefusal {
                        code: name.to_owned(),
                        why: why.to_owned(),
                        devices: 0,
                        some: Vec::new(),
                    });
                    known.devices += 1;
                    if known.some.len() < REFUSING {
                        known.some.push(device.id.to_string());
                    }
                }
            }
            Err(NotAdmitted::Current) => {
                counted.devices += 1;
                counted.current += 1;
            }
            Err(_) => {}
        }
        Ok(match enough.is_some_and(|enough| counted.devices >= enough.max(1)) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    counted.refusals = refusals.into_values().collect();
    Ok(counted)
}

/// Releases that devices would refuse as older than what they have had, if the rollout started now; with `force`, also those
/// that they may have rolled back. Images and unsigned files are not among them unless they have a sequence.
///
/// It asks every device unless the release is the newest of all: not to be done in a write.
///
/// # Errors
/// When it makes no sense, or devices are to be sent to an image that this server has no file of.
pub fn outdated(tx: &Connection, spec: RolloutSpec, now: Time) -> Result<OutdatedReleases, Problem> {
    if let Goal::Image(image) = spec.goal
        && !spec.force
        && is_news_to_all(tx, image)?
    {
        return Ok(OutdatedReleases::new(tx, BTreeSet::from([image]), Vec::new())?);
    }
    let mut wanted = BTreeMap::<Digest, TargetImage>::new();
    let force = spec.force;
    visit(tx, spec, now, |device, admitted| {
        let Ok(deployment) = admitted else { return Ok(ControlFlow::Continue(())) };
        let wanted = wanted.entry(deployment.image()).or_insert_with(|| TargetImage::by(&device.id));
        wanted.devices += 1;
        wanted.had = wanted.had.max(device.had);
        if force && !wanted.barred {
            wanted.barred = may_be_barred(tx, device.id.as_str(), deployment.image())?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut outdated = Vec::new();
    for (image, wanted) in &wanted {
        has_file(tx, *image, &wanted.device, wanted.devices)?;
        let Some(release) = ReleaseRow::of_image(tx, *image)? else { continue };
        let Some(sequence) = release.sequence.filter(|_| release.file.is_some()) else { continue };
        if wanted.had > sequence || wanted.barred {
            outdated.push(Outdated { release: release.id, had: wanted.had });
        }
    }
    Ok(OutdatedReleases::new(tx, wanted.into_keys().collect(), outdated)?)
}

/// Whether there is a file of this image, and no device whatever has had a newer one: then it does not matter who is sent to it. Of a million
/// devices this takes a moment where asking each takes seconds.
fn is_news_to_all(tx: &Connection, image: Digest) -> Result<bool, DbError> {
    if releases::file_for(tx, image)?.is_none() {
        return Ok(false);
    }
    let release = ReleaseRow::of_image(tx, image)?;
    let Some(sequence) = release.and_then(|release| release.sequence.filter(|_| release.file.is_some()))
    else {
        // What has no sequence is refused by nobody as older.
        return Ok(true);
    };
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM devices WHERE had > ?1 AND retired_at IS NULL)
           AND NOT EXISTS (SELECT 1 FROM releases r JOIN devices d ON d.image = r.image
                           WHERE r.sequence > ?1 AND d.retired_at IS NULL)";
    tx.prepare(sql).query_row([sequence], |row| row.get(0))
}

/// An image that devices would be sent to.
struct TargetImage {
    /// One of the devices, and how many there are.
    device: DeviceId,
    devices: u64,
    /// The highest sequence that one of them has had.
    had: u64,
    /// Whether one of them may have rolled it back.
    barred: bool,
}

impl TargetImage {
    fn by(device: &DeviceId) -> Self {
        Self { device: device.clone(), devices: 0, had: 0, barred: false }
    }
}

/// Refuses an image that devices could not be sent to: they would wait for it without end. `device` is one of so many.
///
/// # Errors
/// When this server has no file of it, or it was yanked.
pub fn has_file(tx: &Connection, image: Digest, device: &DeviceId, devices: u64) -> Result<(), Problem> {
    if releases::file_for(tx, image)?.is_some() {
        return Ok(());
    }
    let who = match devices {
        1 => format!("the device {device}"),
        more => format!("the device {device} and {} more", more - 1),
    };
    let known = ReleaseRow::of_image(tx, image)?;
    let what = match &known {
        Some(release) => format!("{} {}", release.product, release.version),
        None => match history::version_of(tx, device, image)? {
            Some(version) => format!("version {version}"),
            None => "an image".to_owned(),
        },
    };
    let how = match known.filter(|release| release.yanked_at.is_some()) {
        Some(release) => {
            format!("which was yanked. Take that back (`otaru release unyank {}`)", release.id)
        }
        None => "of which this server has no file. Upload it (`otaru release upload FILE`)".to_owned(),
    };
    let text = format!("{who} would be sent to {what} with the SHA-256 {image}, {how} and try again");
    Err(Problem::new(StatusCode::CONFLICT, "no-file", text))
}

/// Admits the fleet to a rollout that nobody keeps, and shows each device and whether another rollout has it, until it is told to stop.
fn visit(
    tx: &Connection,
    mut spec: RolloutSpec,
    now: Time,
    mut show: impl FnMut(&Candidate, Result<Deployment, NotAdmitted>) -> Result<ControlFlow<()>, DbError>,
) -> Result<(), Problem> {
    // Whatever its time is: shown is who it would be for now.
    (spec.start_at, spec.end_at) = (None, None);
    let undoes = match spec.goal {
        Goal::Undo { rollout, .. } => Some(rollout),
        Goal::Image(_) => None,
    };
    let mut rollout = Rollout::new(RolloutId(u64::MAX), spec, now).map_err(Problem::from)?;
    let _ = rollout.step(Control::Start, now);
    let sql = format!(
        "SELECT id, chip, product, version, image, reachable, active IS NOT NULL, had
         FROM devices WHERE id > ? AND retired_at IS NULL AND image IS NOT NULL ORDER BY id LIMIT {BATCH}"
    );
    let statement = tx.prepare(&sql);
    let (mut after, mut sequences) = (String::new(), Sequences::default());
    loop {
        let mut batch = statement.query_map([&after], Candidate::read)?.collect::<Result<Vec<_>, _>>()?;
        let Some(last) = batch.last() else { return Ok(()) };
        let last = last.id.to_string();
        let mut tags = tags::of_range(tx, &after, &last)?;
        after = last;
        for candidate in &mut batch {
            candidate.tags = tags.remove(candidate.id.as_str()).unwrap_or_default();
            candidate.had = candidate.had.max(sequences.of(tx, candidate.image)?);
            let before = before(tx, undoes, &candidate.id)?;
            let admitted = admit(&mut rollout, &candidate.device(), &[], before);
            if show(candidate, admitted.map(|(deployment, _)| deployment))?.is_break() {
                return Ok(());
            }
        }
    }
}

/// Sequences of images, asked for once each: a fleet has few images.
#[derive(Default)]
struct Sequences(BTreeMap<Digest, u64>);

impl Sequences {
    /// The sequence of an image; 0 if it has none.
    fn of(&mut self, tx: &Connection, image: Digest) -> Result<u64, DbError> {
        if let Some(known) = self.0.get(&image) {
            return Ok(*known);
        }
        let sql = "SELECT sequence FROM releases WHERE image = ?";
        let found: Option<Option<u64>> = tx.query_row(sql, [image.0], |row| row.get(0)).optional()?;
        let sequence = found.flatten().unwrap_or(0);
        self.0.insert(image, sequence);
        Ok(sequence)
    }
}

/// A device that a rollout may be for.
struct Candidate {
    id: DeviceId,
    chip: String,
    product: String,
    version: String,
    image: Digest,
    reachable: bool,
    busy: bool,
    tags: Tags,
    /// The highest sequence that it has had.
    had: u64,
}

impl Candidate {
    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            id: DeviceId::from(row.get::<String>(0)?.as_str()),
            chip: row.get(1)?,
            product: row.get(2)?,
            version: row.get(3)?,
            image: Digest(row.get(4)?),
            reachable: row.get(5)?,
            busy: row.get(6)?,
            tags: Tags::new(),
            had: row.get(7)?,
        })
    }

    fn device(&self) -> Device<'_> {
        Device {
            id: &self.id,
            tags: &self.tags,
            chip: &self.chip,
            product: &self.product,
            version: &self.version,
            image: self.image,
            reachable: self.reachable,
            // A rollout that is made now is newer than all that brought devices to something.
            brought_by: None,
        }
    }
}

fn before(tx: &Connection, undoes: Option<RolloutId>, device: &DeviceId) -> Result<Option<Digest>, DbError> {
    let Some(rollout) = undoes else { return Ok(None) };
    Ok(super::deployments::get(tx, rollout, device)?.map(|(deployment, _)| deployment.previous()))
}
