//! The engine over the database: what happens goes in, changed rows and messages to send come out, in one transaction.
//!
//! Whatever one event leads to is followed to its end here: a deployment that finishes frees its device for other rollouts, one
//! that is admitted supersedes others. So there is no moment in between that a crash could make permanent.

use std::collections::BTreeMap;

use otaru_format::digest::Digest;
use otaru_format::status::{Code, Fault, Status, UpdateState};
use otaru_rollout::{
    Control, ControlError, Deployment, DeploymentStep, Device, DeviceId, Effect, Event, Goal, Occupancy,
    Outcome, Overlap, Report, Rollout, RolloutId, Standing, Tags, Time, admit,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::unreadable::left_out;
use super::{deployments, rows};
use crate::cluster::Shard;
use crate::db::{Connection, DbError, OptionalExtension as _, Row, params};
use crate::devices::{rows as device_rows, tags};
use crate::releases::rows as releases;

/// A message to a device, as the outbox has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// An offer.
    Offer {
        /// The rollout.
        rollout: RolloutId,
        /// Offer number for this device, from 1.
        start: u32,
        /// The image.
        image: Digest,
        /// The field `force`.
        force: bool,
    },
    /// Whatever it is doing, stop it.
    Cancel {
        /// The rollout whose offer it was.
        rollout: RolloutId,
        /// Number of the offer.
        start: u32,
    },
    /// Report how you are.
    Report {},
}

/// Puts a message into the outbox. Returns the number of its row: each is higher than all before it.
///
/// # Errors
/// Those of the database.
pub fn tell(tx: &Connection, device: &DeviceId, message: &Message, now: Time) -> Result<i64, DbError> {
    let text = serde_json::to_string(message).map_err(|error| DbError::corrupt("outbox.message", error))?;
    let sql = "INSERT INTO outbox (device, shard, message, created_at) VALUES (?, ?, ?, ?) RETURNING id";
    let values = params![device.as_str(), Shard::of(device.as_str()).0, text, now.0.cast_signed()];
    tx.query_row(sql, values, |row| row.get(0))
}

/// Changes, to be told when it is on disk.
#[derive(Debug, Default)]
pub struct Changes {
    /// Events for those who watch.
    pub events: Vec<otaru_api::Event>,
    /// Whether there is something to send.
    pub outbox: bool,
    /// Whether something may start, or is to be scanned or closed.
    pub work: bool,
}

impl Changes {
    /// Tells everybody.
    pub fn tell(self, app: &crate::app::App) {
        self.events.into_iter().for_each(|event| app.events.tell(event));
        if self.outbox {
            app.wake.outbox.notify_one();
        }
        if self.work {
            app.wake.rollouts.notify_one();
        }
    }
}

/// A rollout in use by a transaction.
struct Open {
    rollout: Rollout,
    /// As it was read.
    before: Rollout,
    revision: i64,
}

/// Rollouts, deployments and devices that one database transaction changes; kept only when it is [finished](RolloutTransaction::finish).
pub struct RolloutTransaction<'tx> {
    tx: &'tx Connection,
    now: Time,
    /// Those that were looked at; none that is missing or cannot be read.
    rollouts: BTreeMap<RolloutId, Option<Open>>,
    changes: Changes,
}

impl<'tx> RolloutTransaction<'tx> {
    /// Opens them.
    pub fn open(tx: &'tx Connection, now: Time) -> Self {
        Self { tx, now, rollouts: BTreeMap::new(), changes: Changes::default() }
    }

    /// Keeps every rollout that changed, and gives back what there is to tell.
    pub fn finish(mut self) -> Result<Changes, DbError> {
        for (id, open) in self.rollouts.iter().filter_map(|(id, open)| Some((id, open.as_ref()?))) {
            if open.rollout == open.before {
                continue;
            }
            rows::save(self.tx, &open.rollout, open.revision, self.now)?;
            self.changes.work = true;
            let phase = open.rollout.phase().as_str().to_owned();
            self.changes.events.push(otaru_api::Event::Rollout { id: id.0, phase });
        }
        Ok(self.changes)
    }

    /// A rollout, read at most once.
    fn rollout(&mut self, id: RolloutId) -> Result<Option<&mut Rollout>, DbError> {
        if !self.rollouts.contains_key(&id) {
            let open = rows::readable(self.tx, id)?.map(|kept| Open {
                before: kept.rollout.clone(),
                rollout: kept.rollout,
                revision: kept.revision,
            });
            self.rollouts.insert(id, open);
        }
        Ok(self.rollouts.get_mut(&id).and_then(Option::as_mut).map(|open| &mut open.rollout))
    }

    /// A rollout as it is now.
    pub fn look(&mut self, id: RolloutId) -> Result<Option<&Rollout>, DbError> {
        Ok(self.rollout(id)?.map(|rollout| &*rollout))
    }

    /// Something happens to a rollout as a whole. `None` when there is no such rollout.
    ///
    /// # Errors
    /// Those of the database. What the engine declines is the inner result.
    pub fn control(
        &mut self,
        id: RolloutId,
        control: Control,
    ) -> Result<Option<Result<(), ControlError>>, DbError> {
        let now = self.now;
        let Some(rollout) = self.rollout(id)? else { return Ok(None) };
        match rollout.step(control, now) {
            Err(error) => Ok(Some(Err(error))),
            Ok(effects) => {
                self.follow(id, effects)?;
                Ok(Some(Ok(())))
            }
        }
    }

    /// Something happens to a device's deployment in a rollout. Nothing, if it has none.
    pub fn event(&mut self, id: RolloutId, device: &DeviceId, event: &Event) -> Result<(), DbError> {
        let now = self.now;
        let effects = self.with_deployment(id, device, |case| Ok::<_, DbError>(case.step(event, now)))?;
        self.follow(id, effects.unwrap_or_default())
    }

    /// Something happens to a device, whatever rollouts it is in.
    pub fn event_of_device(&mut self, device: &DeviceId, event: &Event) -> Result<(), DbError> {
        for id in deployments::open_for_device(self.tx, device)? {
            self.event(id, device, event)?;
        }
        Ok(())
    }

    /// These devices are gone.
    ///
    /// Most that are in a rollout wait for their turn there, and nothing follows for them: they are read and written together.
    pub fn are_gone(&mut self, devices: &[DeviceId]) -> Result<(), DbError> {
        let gone = Event::Reachable(false);
        let (mut waiting, mut effects, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (before, revision) in deployments::open_for_devices(self.tx, devices)? {
            if before.standing() != Standing::Ready {
                others.push((before.rollout(), before.device().clone()));
                continue;
            }
            let now = self.now;
            let id = before.rollout();
            let Some(rollout) = self.rollout(id)? else { continue };
            let (mut deployment, mut occupancy) = (before, Occupancy::default());
            let mut case = DeploymentStep { rollout, deployment: &mut deployment, occupancy: &mut occupancy };
            // At most the rollout has something to say: that nobody is left, for one.
            effects.extend(case.step(&gone, now).into_iter().map(|effect| (id, effect)));
            debug_assert_eq!(occupancy, Occupancy::default(), "what waits for its turn has no device");
            self.moved(&deployment);
            waiting.push((deployment, revision));
        }
        deployments::save_standings(self.tx, &waiting, self.now)?;
        effects.into_iter().try_for_each(|(id, effect)| self.follow(id, vec![effect]))?;
        // What follows from these may reach deployments of the same devices: they are as they stand by now.
        others.iter().try_for_each(|(id, device)| self.event(*id, device, &gone))
    }

    /// Starts a device's deployment, if the engine lets it. Says whether it did.
    pub fn start(&mut self, id: RolloutId, device: &DeviceId) -> Result<bool, DbError> {
        let now = self.now;
        // What the engine declines now it may not decline later; nothing has changed then.
        let effects =
            self.with_deployment(id, device, |case| Ok::<_, DbError>(case.start(now).ok()))?.flatten();
        let started = effects.is_some();
        self.follow(id, effects.unwrap_or_default())?;
        Ok(started)
    }

    /// Ends an attempt whose offer names an image that this server has no file of, or that was yanked: the device never hears of it.
    pub fn end_without_file(&mut self, id: RolloutId, device: &DeviceId) -> Result<(), DbError> {
        let Some((deployment, _)) = deployments::readable(self.tx, id, device)? else { return Ok(()) };
        let Some(offer) = deployment.offer().filter(|_| deployment.awaits_offer()) else { return Ok(()) };
        if releases::file_for(self.tx, deployment.image())?.is_some() {
            return Ok(());
        }
        let detail = format!("this server has no file of the image {}, or it was yanked", deployment.image());
        let report = Report {
            state: UpdateState::Failed,
            image: Digest::ZERO,
            confirmed: false,
            deployment: Some(offer.to_string()),
            progress: None,
            attempt: 0,
            error: Some(Fault { code: Code::HttpStatus, detail }),
            rolled_back: None,
        };
        self.event(id, device, &Event::Report(report))
    }

    fn with_deployment<T>(
        &mut self,
        id: RolloutId,
        device: &DeviceId,
        work: impl FnOnce(&mut DeploymentStep<'_>) -> Result<T, DbError>,
    ) -> Result<Option<T>, DbError> {
        let (tx, now) = (self.tx, self.now);
        let Some((mut deployment, revision)) = deployments::readable(tx, id, device)? else {
            return Ok(None);
        };
        let Some(rollout) = self.rollout(id)? else { return Ok(None) };
        let before = deployment.clone();
        let held = occupancy(tx, device)?;
        let mut occupancy = held;
        let done =
            work(&mut DeploymentStep { rollout, deployment: &mut deployment, occupancy: &mut occupancy })?;
        if deployment != before {
            deployments::save(tx, &deployment, revision, now)?;
            if deployment.standing() != before.standing() {
                self.moved(&deployment);
            }
        }
        if occupancy != held {
            keep_occupancy(tx, device, held, occupancy)?;
            // Another rollout may have waited for the device.
            self.changes.work = true;
        }
        Ok(Some(done))
    }

    fn moved(&mut self, deployment: &Deployment) {
        self.changes.events.push(otaru_api::Event::Deployment {
            rollout: deployment.rollout().0,
            device: deployment.device().to_string(),
            standing: deployment.standing().as_str().to_owned(),
        });
    }

    /// Offers a device to every rollout that devices may join.
    pub fn offer_to_rollouts(&mut self, device: &DeviceId) -> Result<(), DbError> {
        for id in rows::open(self.tx)? {
            // An undo that cannot see what the device had before leaves it to the next scan.
            left_out(self.admit(id, device))?;
        }
        Ok(())
    }

    /// Takes a device into a rollout, if the rollout is for it: one that is new there, or one that was over there and comes back.
    pub fn admit(&mut self, id: RolloutId, device: &DeviceId) -> Result<(), DbError> {
        let (tx, now) = (self.tx, self.now);
        if let Some(standing) = deployments::standing(tx, id, device)? {
            return self.take_back(id, device, &standing);
        }
        let Some(facts) = DeviceFacts::of(tx, device)? else { return Ok(()) };
        let others = self.overlaps(device)?;
        let Some(rollout) = self.rollout(id)? else { return Ok(()) };
        let before = match rollout.spec().goal {
            Goal::Undo { rollout, .. } => {
                deployments::get(tx, rollout, device)?.map(|(deployment, _)| deployment.previous())
            }
            Goal::Image(_) => None,
        };
        let tags = tags::of(tx, device)?;
        let Ok((deployment, effects)) = admit(rollout, &facts.device(device, &tags), &others, before) else {
            return Ok(());
        };
        deployments::insert(tx, std::slice::from_ref(&deployment), now)?;
        self.moved(&deployment);
        self.changes.work = true;
        self.follow(id, effects)
    }

    /// Does the same with devices of the fleet, so many after this one in the order of their ids. Returns the last of them.
    ///
    /// Nearly all are in no rollout yet: what is to be known of those is asked for at once, and they are written together.
    pub fn admit_some(
        &mut self,
        id: RolloutId,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Option<DeviceId>, DbError> {
        let candidates = Candidate::after(self.tx, id, after, limit)?;
        let mut admitted = Vec::new();
        for candidate in &candidates {
            let Some(rollout) = self.rollout(id)? else { return Ok(None) };
            match &candidate.facts {
                Some((facts, tags)) if matches!(rollout.spec().goal, Goal::Image(_)) => {
                    let device = facts.device(&candidate.id, tags);
                    let Ok((deployment, effects)) = admit(rollout, &device, &[], None) else { continue };
                    self.moved(&deployment);
                    self.changes.work = true;
                    if !effects.is_empty() {
                        deployments::insert(self.tx, &std::mem::take(&mut admitted), self.now)?;
                        deployments::insert(self.tx, &[deployment], self.now)?;
                        self.follow(id, effects)?;
                        continue;
                    }
                    admitted.push(deployment);
                }
                _ => self.admit(id, &candidate.id)?,
            }
        }
        deployments::insert(self.tx, &admitted, self.now)?;
        Ok(candidates.into_iter().last().map(|candidate| candidate.id))
    }

    /// Returns a device's deployments in rollouts, as far as they are not over.
    fn overlaps(&mut self, device: &DeviceId) -> Result<Vec<Overlap>, DbError> {
        let mut overlaps = Vec::new();
        for rollout in deployments::open_for_device(self.tx, device)? {
            let Some((deployment, _)) = deployments::readable(self.tx, rollout, device)? else { continue };
            let other = self.rollout(rollout)?;
            overlaps.extend(other.and_then(|other| Overlap::with(other, &deployment)));
        }
        Ok(overlaps)
    }

    /// Begins a deployment again that is over, if the engine finds that its device came back.
    fn take_back(&mut self, id: RolloutId, device: &DeviceId, standing: &str) -> Result<(), DbError> {
        let tx = self.tx;
        // Most devices that a rollout is done with are of no more interest to it; that is known from little.
        let retired = standing == Standing::Finished(Outcome::Removed).as_str();
        if !retired && !self.rollout(id)?.is_some_and(|rollout| rollout.spec().continuous) {
            return Ok(());
        }
        let Some(facts) = DeviceFacts::of(tx, device)? else { return Ok(()) };
        let report = device_rows::report(tx, device)?.map(serde_json::from_value::<Status<String>>);
        let Some(Ok(report)) = report else { return Ok(()) };
        let (report, others, tags) = (Report::from(&report), self.overlaps(device)?, tags::of(tx, device)?);
        // What the engine declines changes nothing.
        let effects = self.with_deployment(id, device, |case| {
            Ok(case.take_back(&facts.device(device, &tags), &report, &others).ok())
        })?;
        let Some(effects) = effects.flatten() else { return Ok(()) };
        self.changes.work = true;
        self.follow(id, effects)
    }

    /// Carries out what the engine asks for.
    fn follow(&mut self, id: RolloutId, effects: Vec<Effect>) -> Result<(), DbError> {
        for effect in effects {
            match effect {
                Effect::Offer { device, offer, image, force } => {
                    let message = Message::Offer { rollout: offer.rollout, start: offer.start, image, force };
                    let order = self.send(&device, &message)?;
                    deployments::note_offer(self.tx, offer, &device, image, order)?;
                }
                Effect::Withdraw { device, offer } => {
                    let message = Message::Cancel { rollout: offer.rollout, start: offer.start };
                    self.send(&device, &message)?;
                }
                Effect::Supersede { device, rollout, by } => {
                    self.event(rollout, &device, &Event::Supersede(by))?
                }
                Effect::Finished { device, .. } => self.offer_to_rollouts(&device)?,
                Effect::Notice(notice) => {
                    rows::note(self.tx, id, None, &json!({"notice": notice}), self.now)?
                }
                // The rollout itself says that these are due.
                Effect::Scan { .. } | Effect::CloseAll => self.changes.work = true,
                other => tracing::error!(?other, "an effect that this server does not know"),
            }
        }
        Ok(())
    }

    fn send(&mut self, device: &DeviceId, message: &Message) -> Result<i64, DbError> {
        self.changes.outbox = true;
        tell(self.tx, device, message, self.now)
    }
}

fn occupancy(tx: &Connection, device: &DeviceId) -> Result<Occupancy, DbError> {
    let sql = "SELECT active, brought_by FROM devices WHERE id = ?";
    let found = tx.prepare(sql).query_row([device.as_str()], |row| {
        Ok(Occupancy { active: rollout_of(row.get(0)?), brought_by: rollout_of(row.get(1)?) })
    });
    Ok(found.optional()?.unwrap_or_default())
}

fn rollout_of(key: Option<i64>) -> Option<RolloutId> {
    key.map(|id| RolloutId(id.cast_unsigned()))
}

fn keep_occupancy(
    tx: &Connection,
    device: &DeviceId,
    held: Occupancy,
    occupancy: Occupancy,
) -> Result<(), DbError> {
    let sql = "UPDATE devices SET active = ?1, brought_by = ?2, revision = revision + 1
               WHERE id = ?3 AND active IS NOT DISTINCT FROM ?4 AND brought_by IS NOT DISTINCT FROM ?5";
    let key = |id: Option<RolloutId>| id.map(rows::key);
    let changed = tx.prepare(sql).execute(params![
        key(occupancy.active),
        key(occupancy.brought_by),
        device.as_str(),
        key(held.active),
        key(held.brought_by),
    ])?;
    if changed == 1 { Ok(()) } else { Err(DbError::Conflict) }
}

/// A device that a rollout may take in.
struct Candidate {
    id: DeviceId,
    /// Facts and tags of one that has reported, has no deployment in this rollout, and none in another that is not over.
    facts: Option<(DeviceFacts, Tags)>,
}

impl Candidate {
    /// Reads so many of the fleet after this device, in the order of their ids.
    fn after(
        tx: &Connection,
        rollout: RolloutId,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Vec<Self>, DbError> {
        let sql = format!(
            "SELECT {}, id,
               image IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM deployments p WHERE p.rollout = ? AND p.device = d.id)
               AND NOT EXISTS (SELECT 1 FROM deployments p WHERE p.device = d.id AND p.is_open)
             FROM devices d WHERE id > ? AND retired_at IS NULL ORDER BY id LIMIT ?",
            DeviceFacts::COLUMNS,
        );
        let rows = tx.prepare(&sql);
        let after = after.map_or("", DeviceId::as_str);
        let found = rows.query_map(params![rows::key(rollout), after, limit], |row| {
            let is_new: bool = row.get(7)?;
            let facts = if is_new { Some(DeviceFacts::read(row)?) } else { None };
            Ok((DeviceId::from(row.get::<String>(6)?.as_str()), facts))
        })?;
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let Some((last, _)) = found.last() else { return Ok(Vec::new()) };
        let mut tags = tags::of_range(tx, after, last.as_str())?;
        let candidates = found.into_iter().map(|(id, facts)| {
            let tags = tags.remove(id.as_str()).unwrap_or_default();
            Self { id, facts: facts.map(|facts| (facts, tags)) }
        });
        Ok(candidates.collect())
    }
}

/// Facts of a device that the engine wants to know.
struct DeviceFacts {
    chip: String,
    product: String,
    version: String,
    image: Digest,
    reachable: bool,
    brought_by: Option<RolloutId>,
}

impl DeviceFacts {
    /// `None` for a device that has not reported, or is retired.
    fn of(tx: &Connection, device: &DeviceId) -> Result<Option<Self>, DbError> {
        let sql = format!(
            "SELECT {} FROM devices d WHERE id = ? AND retired_at IS NULL AND image IS NOT NULL",
            Self::COLUMNS
        );
        tx.prepare(&sql).query_row([device.as_str()], Self::read).optional()
    }

    /// Columns of the table `d` that are [read](Self::read).
    const COLUMNS: &str = "chip, product, version, image, reachable,
        (SELECT p.rollout FROM deployments p WHERE p.rollout = d.brought_by AND p.device = d.id AND p.image = d.image)";

    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            chip: row.get(0)?,
            product: row.get(1)?,
            version: row.get(2)?,
            image: Digest(row.get(3)?),
            reachable: row.get(4)?,
            brought_by: rollout_of(row.get(5)?),
        })
    }

    fn device<'a>(&'a self, id: &'a DeviceId, tags: &'a Tags) -> Device<'a> {
        Device {
            id,
            tags,
            chip: &self.chip,
            product: &self.product,
            version: &self.version,
            image: self.image,
            reachable: self.reachable,
            brought_by: self.brought_by,
        }
    }
}
