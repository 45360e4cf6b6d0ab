//! Keeps what Home Assistant sees in step with what the server knows, and does what it asks for.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use otaru_format::digest::Digest;
use otaru_rollout::{Attempts, Limits, Percent, StopRule, Target};
use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::entity::{Description, INSTALL, Latest, Places, State, latest};
use crate::api::caller::{Caller, Role};
use crate::api::problem::Problem;
use crate::api::rollouts::{NewRollout, create_one};
use crate::app::Shared;
use crate::db::DbError;
use crate::devices::list::{self, Filter, Order, Sort};
use crate::devices::rows::{self, Device};
use crate::events::Event;
use crate::mqtt::{BrokerError, Publisher};
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
            let done = match all {
                true => tell_all(app, places, publisher, &mut told).await,
                false => tell(app, places, publisher, &mut told, std::mem::take(&mut changed)).await,
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
    let mut order = Order { sort: Sort::Id, descending: false, after: None, limit: BATCH };
    loop {
        let wanted = order.clone();
        let page = app.db.read(move |tx| list::list(tx, &Filter::default(), &wanted)).await?;
        let ids: BTreeSet<String> = page.items.iter().map(|device| device.id.clone()).collect();
        tell(app, places, publisher, told, ids).await?;
        match page.items.last() {
            Some(last) if page.next.is_some() => order.after = Some(order.sort.key(last)),
            _ => return Ok(()),
        }
    }
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
    if device.retired_at.is_some() {
        if told.remove(&device.id).is_some() {
            // Nothing in place of what was kept: Home Assistant forgets it.
            publisher.publish(&config, b"", true, None).await?;
            publisher.publish(&state, b"", true, None).await?;
        }
        return Ok(());
    }
    // Before its first report there is nothing to say.
    if device.version.is_empty() {
        return Ok(());
    }
    let description = serde_json::to_vec(&Description::of(device, places)).unwrap_or_default();
    let now = serde_json::to_vec(&State::of(device, release, progress, places)).unwrap_or_default();
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

/// Begins an update of one device to the latest release; nothing, where that is what it runs or is on its way to.
async fn install(app: &Shared, device: &str) -> Result<(), Problem> {
    let id = crate::api::devices::device_id(app, device)?;
    let name = id.clone();
    let found = app.db.read(move |tx| {
        let device =
            rows::get(tx, &name)?.ok_or_else(|| Problem::not_found(format_args!("device {name}")))?;
        let release = latest(tx, &device.product, &device.chip)?;
        let release = release.ok_or_else(|| Problem::conflict("there is no release for it"))?;
        Ok::<_, Problem>((device_waits(tx, &name, &release)?, device, release))
    });
    let (waits, device, release) = found.await?;
    if waits || device.image == Some(release.image.to_string()) {
        return Ok(());
    }
    let caller =
        Caller { token: "home-assistant".into(), name: "Home Assistant".into(), role: Role::Operator };
    let label = device.label.as_deref().unwrap_or(&device.id);
    let target = Target { devices: Some([id].into()), percent: Percent::ALL, ..Target::default() };
    let new = NewRollout {
        name: format!("{label} to {}", release.version).chars().take(100).collect(),
        release: Some(release.id),
        undo: None,
        target,
        waves: Vec::new(),
        limits: Limits::default(),
        stop: None::<StopRule>,
        attempts: Attempts::default(),
        priority: 0,
        salt: String::new(),
        start_at: None,
        end_at: None,
        continuous: false,
        force: false,
        draft: false,
    };
    create_one(app, caller, new).await?;
    tracing::info!(device = %device.id, version = %release.version, "Home Assistant asked for an update");
    Ok(())
}

/// Whether a device has been given a release that it has not come to yet.
fn device_waits(
    tx: &Connection,
    device: &otaru_rollout::DeviceId,
    release: &Latest,
) -> Result<bool, DbError> {
    for rollout in deployments::open_of(tx, device)? {
        let found = deployments::get(tx, rollout, device)?;
        if found.is_some_and(|(deployment, _)| deployment.image() == release.image) {
            return Ok(true);
        }
    }
    Ok(false)
}
