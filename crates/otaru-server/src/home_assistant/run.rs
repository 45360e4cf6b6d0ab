//! Keeps what Home Assistant sees in step with what the server knows, and does what it asks for.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use otaru_api::{Device, Event, NewAttempts, NewRollout, Role};
use otaru_format::digest::Digest;
use otaru_format::status::UpdateState;
use otaru_rollout::{DeviceId, Goal, Limits, Percent, RolloutId, Target};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::choice::{Candidate, Choice, Latest, candidates, choose};
use super::entity::{Description, EntityTopics, INSTALL, State};
use crate::app::Shared;
use crate::caller::Caller;
use crate::db::{Connection, DbError};
use crate::devices::attempts;
use crate::devices::filter::Filter;
use crate::devices::list::{self, Order, Sort};
use crate::devices::rows;
use crate::problem::Problem;
use crate::releases::again::Prepared;
use crate::rollouts::deployments;
use crate::rollouts::new;
use otaru_broker::client::{BrokerError, Publisher};

/// Changes of so long are published together: Home Assistant draws a number once a second at most.
const TOGETHER: Duration = Duration::from_millis(500);
/// Devices that are read at once.
const BATCH: u32 = 500;

/// State of the other side, as far as it is known.
#[derive(Debug, Default)]
pub struct HomeAssistant {
    /// It started anew, and wants to be told everything.
    born: Notify,
    /// Presses of the button that did nothing; of devices that exist, the last of each.
    refused: Mutex<HashMap<String, Refusal>>,
    /// There is one more of them.
    refusal: Notify,
}

/// Why a press of the button did nothing. It is told as long as the device is as it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    why: String,
    /// State, version and image.
    device: (String, String, Option<String>),
    told: bool,
}

fn moment(device: &Device) -> (String, String, Option<String>) {
    (device.state.clone(), device.version.clone(), device.image.clone())
}

/// Messages that a broker was told of a device, by hash: most of what happens to one changes nothing here.
type Told = HashMap<String, (Digest, Digest)>;

impl HomeAssistant {
    /// Takes a message; says whether it was for us.
    pub async fn take(&self, app: &Shared, places: &EntityTopics, topic: &str, payload: &[u8]) -> bool {
        if topic == places.birth() {
            if payload == b"online" {
                self.born.notify_one();
            }
            return true;
        }
        let Some(device) = places.asked(topic) else { return false };
        if payload != INSTALL.as_bytes() {
            tracing::warn!(device, "Home Assistant asked for something that is not known");
        } else {
            let asked = install(app, device).await;
            self.note(app, device, asked.err()).await;
        }
        true
    }

    /// Keeps why a press did nothing, or that it did something.
    async fn note(&self, app: &Shared, device: &str, problem: Option<Problem>) {
        let Some(problem) = problem else {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(device);
            return;
        };
        tracing::warn!(device, why = %problem.detail, "what Home Assistant asked for was not done");
        let id = DeviceId::from(device);
        // Whoever asks for devices that do not exist makes nothing grow.
        let Ok(Some(known)) = app.db.read(move |tx| rows::get(tx, &id)).await else { return };
        let refusal = Refusal { why: problem.into_details().detail, device: moment(&known), told: false };
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(known.id, refusal);
        self.refusal.notify_one();
    }

    /// The refusals that were not told yet.
    fn untold(&self) -> BTreeSet<String> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = refused.iter_mut().filter(|(_, refusal)| !refusal.told);
        let told = untold.map(|(id, refusal)| {
            refusal.told = true;
            id.clone()
        });
        told.collect()
    }

    /// Why the last press did nothing, while the device is as it was.
    fn refusal(&self, device: &Device) -> Option<String> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = refused.get(&device.id)?;
        if refusal.device == moment(device) {
            return Some(format!("Not installed: {}", refusal.why));
        }
        refused.remove(&device.id);
        None
    }

    /// Publishes until the broker is lost.
    pub async fn run(&self, app: &Shared, places: &EntityTopics, publisher: &Publisher) {
        let mut events = app.events.listen();
        let mut told = Told::new();
        let mut all = true;
        let mut changed = BTreeSet::new();
        let mut phases = HashMap::<u64, String>::new();
        loop {
            let some = std::mem::take(&mut changed);
            let done = match all {
                true => self.tell_all(app, places, publisher, &mut told).await,
                false => self.tell(app, places, publisher, &mut told, some).await,
            };
            if let Err(error) = done {
                if !matches!(&error, Untold::Database(error) if error.is_outage()) {
                    tracing::warn!(%error, "Home Assistant could not be told; trying again");
                }
                told.clear();
                tokio::time::sleep(TOGETHER * 10).await;
                all = true;
                continue;
            }
            all = false;
            // Everything that happens in a while, from the first on.
            let mut end: Option<tokio::time::Instant> = None;
            loop {
                let until = async {
                    match end {
                        Some(end) => tokio::time::sleep_until(end).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = until => break,
                    () = self.born.notified() => {
                        told.clear();
                        all = true;
                    }
                    () = self.refusal.notified() => changed.extend(self.untold()),
                    event = events.recv() => match event {
                        Ok(Event::Device { id, .. }) => drop(changed.insert(id)),
                        Ok(Event::Release { .. }) | Err(RecvError::Lagged(_)) => all = true,
                        // One that stopped, went on, or took a release back changes what others are shown.
                        Ok(Event::Rollout { id, phase }) => match turns(&mut phases, id, phase) {
                            true => all = true,
                            false => continue,
                        },
                        Ok(_) => continue,
                        Err(RecvError::Closed) => return,
                    },
                }
                end = end.or_else(|| Some(tokio::time::Instant::now() + TOGETHER));
            }
        }
    }

    async fn tell_all(
        &self,
        app: &Shared,
        places: &EntityTopics,
        publisher: &Publisher,
        told: &mut Told,
    ) -> Result<(), Untold> {
        // Those that were retired, too: nobody may have been there to forget them.
        for retired in [false, true] {
            let mut order =
                Order { sort: Sort::Id, descending: false, after: None, limit: BATCH, without_total: true };
            loop {
                let (filter, wanted) = (Filter { retired, ..Filter::default() }, order.clone());
                let page = app.db.read(move |tx| list::list(tx, &filter, &wanted, None)).await?;
                let ids: BTreeSet<String> = page.items.iter().map(|device| device.id.clone()).collect();
                self.tell(app, places, publisher, told, ids).await?;
                match page.items.last() {
                    Some(last) if page.next.is_some() => order.after = Some(order.key(last)),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    async fn tell(
        &self,
        app: &Shared,
        places: &EntityTopics,
        publisher: &Publisher,
        told: &mut Told,
        ids: BTreeSet<String>,
    ) -> Result<(), Untold> {
        let read = move |tx: &Connection| {
            let mut releases: HashMap<(String, String), Vec<Candidate>> = HashMap::new();
            let mut found = Vec::new();
            for id in ids {
                let id = DeviceId::from(id.as_str());
                let Some(device) = rows::get(tx, &id)? else { continue };
                let key = (device.product.clone(), device.chip.clone());
                let candidates = match releases.entry(key) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(candidates(tx, &device.product, &device.chip)?),
                };
                let choice = choose(tx, &device, candidates)?;
                let failure = failure(tx, &device, &id)?;
                found.push((device, choice, failure));
            }
            Ok::<_, DbError>(found)
        };
        for (device, choice, failure) in app.db.read(read).await? {
            let progress = app.recent.progress(&device.id);
            let trouble: Vec<String> = self.refusal(&device).into_iter().chain(failure).collect();
            let state = State::of(&device, &choice, progress, &trouble, places);
            let description = Description::of(&device, &choice, places);
            tell_one(places, publisher, told, &device, &description, &state).await?;
        }
        Ok(())
    }
}

/// Why something could not be told.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

async fn tell_one(
    places: &EntityTopics,
    publisher: &Publisher,
    told: &mut Told,
    device: &Device,
    description: &Description<'_>,
    now: &State<'_>,
) -> Result<(), Untold> {
    let (config, state) = (places.discovery(&device.id), places.state(&device.id));
    // Before its first report there is nothing to say.
    if device.version.is_empty() {
        return Ok(());
    }
    let (description, now) = match device.retired_at {
        // Nothing in place of what was kept: Home Assistant forgets it.
        Some(_) => (Vec::new(), Vec::new()),
        None => {
            (serde_json::to_vec(description).unwrap_or_default(), serde_json::to_vec(now).unwrap_or_default())
        }
    };
    let hashes = (Digest::of(&description), Digest::of(&now));
    let before = told.get(&device.id);
    if before.is_none_or(|before| before.0 != hashes.0) {
        publisher.publish(&config, &description, true, None).await?;
    }
    if before.is_none_or(|before| before.1 != hashes.1) {
        publisher.publish(&state, &now, true, None).await?;
    }
    told.insert(device.id.clone(), hashes);
    Ok(())
}

/// Whether a rollout turned into another phase, as far as others are concerned.
fn turns(phases: &mut HashMap<u64, String>, id: u64, phase: String) -> bool {
    match phase.as_str() {
        "completed" | "aborted" => {
            phases.remove(&id);
            true
        }
        _ if phases.get(&id) == Some(&phase) => false,
        _ => {
            phases.insert(id, phase);
            true
        }
    }
}

/// Reads what went wrong in the update that a device tells of, with its reason.
fn failure(tx: &Connection, device: &Device, id: &DeviceId) -> Result<Option<String>, DbError> {
    let state = UpdateState::of_name(&device.state);
    if !state.is_failure() {
        return Ok(None);
    }
    let report = rows::report(tx, id)?.unwrap_or_default();
    let to = attempts::target(tx, id, &report)?.map_or_else(|| "the update".to_owned(), |to| to.version);
    let (code, detail) = (report["error"]["code"].as_str(), report["error"]["detail"].as_str());
    let mut text = match state {
        UpdateState::RolledBack => format!("{to} was rolled back"),
        UpdateState::Refused => format!("{to} was refused"),
        _ => format!("{to} failed"),
    };
    for part in [code.map(|code| code.replace('_', " ")), detail.map(str::to_owned)].into_iter().flatten() {
        if !part.is_empty() {
            text.push_str(": ");
            text.push_str(&part);
        }
    }
    Ok(Some(text))
}

/// Reads which release a device would be given.
fn choice(tx: &Connection, device: &Device) -> Result<Choice, DbError> {
    choose(tx, device, &candidates(tx, &device.product, &device.chip)?)
}

/// Begins an update of one device to the newest release, or says why not. All of it is one write, so that a button that is pressed
/// twice makes one rollout.
async fn install(app: &Shared, device: &str) -> Result<(), Problem> {
    let (id, now) = (crate::devices::commands::device_id(app, device)?, app.clock.now());
    let wanted = id.clone();
    let wanted = app.db.read(move |tx| {
        let Some(device) = rows::get(tx, &wanted)? else { return Ok(None) };
        let release = choice(tx, &device)?.latest;
        Ok::<_, DbError>(release.map(|release| rollout(&device, wanted, &release)))
    });
    // After a way back, the latest release is older than what the device has had.
    let prepared = Arc::new(match wanted.await? {
        Some(order) => new::prepare(&order, app).await?,
        None => Prepared::default(),
    });
    let to_apply = Arc::clone(&prepared);
    let made = app.db.write(move |tx| {
        let device = rows::get(tx, &id)?.ok_or_else(|| Problem::not_found(format_args!("device {id}")))?;
        if device.retired_at.is_some() {
            return Err(crate::devices::edit::retired(&id));
        }
        let choice = choice(tx, &device)?;
        let Some(release) = &choice.latest else { return Err(Problem::conflict(choice.why_not(&device))) };
        if let Some(RolloutId(rollout)) = is_asked(tx, &id, release)? {
            let text = format!("rollout {rollout} brings {} already", release.shown);
            return Err(Problem::conflict(text));
        }
        let (_, changes) = new::make(&rollout(&device, id.clone(), release), tx, &caller(), &to_apply, now)?;
        Ok((changes, device.id, release.version.clone()))
    });
    let (changes, device, version) = made.await?;
    changes.tell(app);
    prepared.tell(app);
    tracing::info!(%device, %version, "Home Assistant asked for an update");
    Ok(())
}

/// Returns who it is in the audit log.
fn caller() -> Caller {
    Caller { token: "home-assistant".into(), name: "Home Assistant".into(), role: Role::Operator }
}

fn rollout(device: &Device, id: DeviceId, release: &Latest) -> NewRollout {
    let label = device.label.as_deref().unwrap_or(&device.id);
    NewRollout {
        name: format!("{label} to {}", release.shown).chars().take(100).collect(),
        release: Some(release.id),
        undo: None,
        target: Target { devices: Some([id].into()), percent: Percent::ALL, ..Target::default() },
        waves: Vec::new(),
        limits: Limits::default(),
        stop: None,
        attempts: NewAttempts::default(),
        priority: 0,
        salt: String::new(),
        start_at: None,
        end_at: None,
        continuous: false,
        force: false,
        draft: false,
    }
}

/// The rollout that gave a device a release which it has not come to yet, or is about to.
fn is_asked(tx: &Connection, device: &DeviceId, release: &Latest) -> Result<Option<RolloutId>, DbError> {
    for rollout in deployments::open_for_device(tx, device)? {
        let found = deployments::readable(tx, rollout, device)?;
        if found.is_some_and(|(deployment, _)| deployment.image() == release.image) {
            return Ok(Some(rollout));
        }
    }
    for id in crate::rollouts::rows::open(tx)? {
        let Some(kept) = crate::rollouts::rows::readable(tx, id)? else { continue };
        let spec = kept.rollout.spec();
        let same = matches!(spec.goal, Goal::Image(image) if image == release.image);
        // A rollout that was begun a moment ago has not looked for its devices yet.
        if same && spec.target.devices.as_ref().is_some_and(|devices| devices.contains(device)) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
