//! Makes a rollout, or says why it would be for nobody.

use std::collections::BTreeSet;

use anyhow::bail;
use otaru_api::{Answer, Device, NewRollout, Preview, Rollout};
use otaru_rollout::Percent;

use crate::client::http::Client;
use crate::client::search::{Condition, no_device, unknown_devices};
use crate::percent::escape;
use crate::ui;

/// Makes a rollout, unless it would be for no device. One that is for devices which are yet to come is made all the same, with a word
/// about it: a draft, one that starts later, one that is continuous.
pub(crate) async fn create(client: &Client, new: &NewRollout) -> anyhow::Result<Answer<Rollout>> {
    // As many as are named, or one: a server that does not know of this counts all of them.
    let enough = new.target.devices.as_ref().map_or(1, BTreeSet::len).max(1);
    let found: Preview = client.post(&format!("/rollouts/preview?enough={enough}"), new).await?;
    if let Some(why) = nobody(client, new, &found).await? {
        match new.continuous || new.draft || new.start_at.is_some() {
            true => ui::warn(&why),
            false => {
                bail!("{why}\nno rollout was made; with --continuous one waits for devices that come later")
            }
        }
    }
    client.post("/rollouts", new).await
}

/// Why a rollout is for no device, or not for all that it names; `None` where it is.
pub(crate) async fn nobody(
    client: &Client,
    new: &NewRollout,
    found: &Preview,
) -> anyhow::Result<Option<String>> {
    let target = &new.target;
    let named: Vec<String> = target.devices.iter().flatten().map(ToString::to_string).collect();
    // Where all that are named were found, nobody needs to be asked for.
    if found.devices < named.len() as u64
        && let Some(unknown) = unknown_devices(client, &named).await?
    {
        return Ok(Some(unknown));
    }
    if found.devices > 0 {
        return Ok(None);
    }
    let conditions: Vec<Condition> = [
        ("tags", target.tags.as_ref().map(ToString::to_string)),
        ("versions", target.versions.as_ref().map(ToString::to_string)),
        ("product", target.product.clone()),
        ("chip", target.chips.first().cloned()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    if let Some(undo) = new.undo {
        return Ok(Some(format!("no device that fits has anything to go back to from rollout {undo}")));
    }
    if target.percent != Percent::ALL && fits_without_share(client, new).await? {
        return Ok(Some(format!(
            "a share of {}% comes to none of the devices that fit",
            f64::from(target.percent)
        )));
    }
    match named.first() {
        None => Ok(Some(no_device(client, &conditions).await?)),
        Some(first) => {
            let device: Device = client.get(&format!("/devices/{}", escape(first))).await?;
            let wanted: Vec<String> =
                conditions.iter().map(|(name, value)| format!(" {name} {}", ui::clean(value))).collect();
            Ok(Some(format!("none of the devices named fits{}; {}", wanted.join(","), what(&device))))
        }
    }
}

/// Describes a device in a sentence.
fn what(device: &Device) -> String {
    let id = ui::clean(&device.id);
    match device.chip.is_empty() {
        true => format!("{id} has not reported yet"),
        false => format!(
            "{id} has product {}, chip {} and version {}",
            ui::clean(&device.product),
            ui::clean(&device.chip),
            ui::clean(&device.version)
        ),
    }
}

/// Whether a device would fit if all were to have it, and not a share of them.
async fn fits_without_share(client: &Client, new: &NewRollout) -> anyhow::Result<bool> {
    let mut whole = new.clone();
    whole.target.percent = Percent::ALL;
    let found: Preview = client.post("/rollouts/preview?enough=1", &whole).await?;
    Ok(found.devices > 0)
}
