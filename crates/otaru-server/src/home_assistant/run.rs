//! Keeps what Home Assistant sees in step with what the server knows, and does what it asks for.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use otaru_format::digest::Digest;
use otaru_rollout::{Attempts, DeviceId, Goal, Limits, Percent, Target};
use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::entity::{Description, INSTALL, Latest, Places, State, latest};
use crate::api::caller::{Caller, Role};
use crate::api::problem::Problem;
use crate::api::rollouts::NewRollout;
use crate::app::Shared;
use crate::db::DbError;
use crate::devices::list::{self, Filter, Order, Sort};
use crate::devices::rows::{self, Device};
use crate::events::Event;
use crate::mqtt::{BrokerError, Publisher};
use crate::releases::again::Prepared;
use crate::rollouts::deployments;

/// Changes of so long are published together: Home Assistant draws a number once a second at most.
const TOGETHER: Duration = Duration::from_millis(500);
/// Devices that are read at once.
const BATCH: u32 = 500;

/// What is known of the other side.
#[derive(Debug, Default)]
pub struct HomeAssistant {
    /// It started anew, and wants to be told everything.
    born: Notify,
}

/// What a broker was told of a device, by hash: most of what happens to one changes nothing here.
type Told = HashMap<String, (Digest, Digest)>;

impl HomeAssistant {
    /// Takes a message; says whether it was for us.
    pub async fn take(&self, app: &Shared, places: &Places, topic: &str, payload: &[u8]) -> bool {
        if topic == places.birth() {
            if payload == b"online" {
                self.born.notify_one();
            }
            return true;
        }
        let Some(device) = places.asked(topic) else { return false };
        if payload != INSTALL.as_bytes() {
            tracing::warn!(device, "Home Assistant asked for something that is not known");
        } else if let Err(problem) = install(app, device).await {
            tracing::warn!(device, why = %problem.detail, "what Home Assistant asked for was not done");
        }
        true
    }

    /// Publishes until the broker is lost.
    pub async fn run(&self, app: &Shared, places: &Places, publisher: &Publisher) {
        let mut events = app.events.listen();
        let mut told = Told::new();
        let mut all = true;
        let mut changed = BTreeSet::new();
        loop {
            let some = std::mem::take(&mut changed);
            let done = match all {
                true => tell_all(app, places, publisher, &mut told).await,
                false => tell(app, places, publisher, &mut told, some).await,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "Home Assistant could not be told; trying again");
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
                    event = events.recv() => match event {
                        Ok(Event::Device { id, .. }) => drop(changed.insert(id)),
                        Ok(Event::Release { .. }) | Err(RecvError::Lagged(_)) => all = true,
                        Ok(_) => continue,
                        Err(RecvError::Closed) => return,
                    },
                }
                end = end.or_else(|| Some(tokio::time::Instant::now() + TOGETHER));
            }
        }
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

async fn tell_all(
    app: &Shared,
    places: &Places,
    publisher: &Publisher,
    told: &mut Told,
) -> Result<(), Untold> {
    // Those that were retired, too: nobody may have been there to forget them.
    for retired in [false, true] {
        let mut order = Order { sort: Sort::Id, descending: false, after: None, limit: BATCH };
        loop {
            let (filter, wanted) = (Filter { retired, ..Filter::default() }, order.clone());
            let page = app.db.read(move |tx| list::list(tx, &filter, &wanted)).await?;
            let ids: BTreeSet<String> = page.items.iter().map(|device| device.id.clone()).collect();
            tell(app, places, publisher, told, ids).await?;
            match page.items.last() {
                Some(last) if page.next.is_some() => order.after = Some(order.sort.key(last)),
                _ => break,
            }
        }
    }
    Ok(())
}

async fn tell(
    app: &Shared,
    places: &Places,
    publisher: &Publisher,
    told: &mut Told,
    ids: BTreeSet<String>,
) -> Result<(), Untold> {
    let read = move |tx: &Connection| {
        let mut releases: HashMap<(String, String), Option<Latest>> = HashMap::new();
        let mut found = Vec::new();
        for id in ids {
            let Some(device) = rows::get(tx, &id.as_str().into())? else { continue };
            let key = (device.product.clone(), device.chip.clone());
            if !releases.contains_key(&key) {
                releases.insert(key.clone(), latest(tx, &key.0, &key.1)?);
            }
            let release = releases.get(&key).cloned().flatten();
            found.push((device, release));
        }
        Ok::<_, DbError>(found)
    };
    for (device, release) in app.db.read(read).await? {
        let progress = app.recent.progress(&device.id);
        tell_one(places, publisher, told, &device, release.as_ref(), progress).await?;
    }
    Ok(())
}

async fn tell_one(
    places: &Places,
    publisher: &Publisher,
    told: &mut Told,
    device: &Device,
    release: Option<&Latest>,
    progress: Option<u8>,
) -> Result<(), Untold> {
    let (config, state) = (places.discovery(&device.id), places.state(&device.id));
    // Before its first report there is nothing to say.
    if device.version.is_empty() {
        return Ok(());
    }
    let (description, now) = match device.retired_at {
        // Nothing in place of what was kept: Home Assistant forgets it.
        Some(_) => (Vec::new(), Vec::new()),
        None => (
            serde_json::to_vec(&Description::of(device, places)).unwrap_or_default(),
            serde_json::to_vec(&State::of(device, release, progress, places)).unwrap_or_default(),
        ),
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

/// Begins an update of one device to the latest release; nothing, where that is what it runs or is on its way to. All of it is one
/// write, so that a button that is pressed twice makes one rollout.
async fn install(app: &Shared, device: &str) -> Result<(), Problem> {
    let (id, now) = (crate::api::devices::device_id(app, device)?, app.clock.now());
    let wanted = id.clone();
    let wanted = app.db.read(move |tx| {
        let Some(device) = rows::get(tx, &wanted)? else { return Ok(None) };
        let release = latest(tx, &device.product, &device.chip)?;
        Ok::<_, DbError>(release.map(|release| rollout(&device, wanted, &release)))
    });
    // After a way back, the latest release is older than what the device has had.
    let prepared = match wanted.await? {
        Some(new) => new.prepare(app).await?,
        None => Prepared::default(),
    };
    let made = app.db.write(move |tx| {
        let device = rows::get(tx, &id)?.ok_or_else(|| Problem::not_found(format_args!("device {id}")))?;
        let release = latest(tx, &device.product, &device.chip)?;
        let release = release.ok_or_else(|| Problem::conflict("there is no release for it"))?;
        if device.image == Some(release.image.to_string()) || is_asked(tx, &id, &release)? {
            return Ok(None);
        }
        let (_, changes) = rollout(&device, id, &release).make(tx, &caller(), &prepared, now)?;
        Ok::<_, Problem>(Some((changes, device.id, release.version, prepared)))
    });
    if let Some((changes, device, version, prepared)) = made.await? {
        changes.tell(app);
        prepared.tell(app);
        tracing::info!(%device, %version, "Home Assistant asked for an update");
    }
    Ok(())
}

/// Who it is in the audit log.
fn caller() -> Caller {
    Caller { token: "home-assistant".into(), name: "Home Assistant".into(), role: Role::Operator }
}

fn rollout(device: &Device, id: DeviceId, release: &Latest) -> NewRollout {
    let label = device.label.as_deref().unwrap_or(&device.id);
    NewRollout {
        name: format!("{label} to {}", release.version).chars().take(100).collect(),
        release: Some(release.id),
        undo: None,
        target: Target { devices: Some([id].into()), percent: Percent::ALL, ..Target::default() },
        waves: Vec::new(),
        limits: Limits::default(),
        stop: None,
        attempts: Attempts::default(),
        priority: 0,
        salt: String::new(),
        start_at: None,
        end_at: None,
        continuous: false,
        force: false,
        draft: false,
    }
}

/// Whether a device has been given a release that it has not come to yet, or is about to.
fn is_asked(tx: &Connection, device: &DeviceId, release: &Latest) -> Result<bool, DbError> {
    for rollout in deployments::open_of(tx, device)? {
        let found = deployments::get(tx, rollout, device)?;
        if found.is_some_and(|(deployment, _)| deployment.image() == release.image) {
            return Ok(true);
        }
    }
    for id in crate::rollouts::rows::open(tx)? {
        let Some(kept) = crate::rollouts::rows::get(tx, id)? else { continue };
        let spec = kept.rollout.spec();
        let same = matches!(spec.goal, Goal::Image(image) if image == release.image);
        // A rollout that was begun a moment ago has not looked for its devices yet.
        if same && spec.target.devices.as_ref().is_some_and(|devices| devices.contains(device)) {
            return Ok(true);
        }
    }
    Ok(false)
}
