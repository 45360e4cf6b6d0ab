//! Words for a search that found nothing: what there is instead, and what may have been meant.
//!
//! An empty answer to a misspelt question looks like a fleet that is well. So whoever asked for something in particular is told which of the
//! conditions nothing meets, and the command fails.

use std::collections::BTreeMap;

use anyhow::anyhow;
use otaru_api::Device;
use otaru_rollout::Tag;
use otaru_server::similar::did_you_mean;
use serde::de::IgnoredAny;

use super::error::Refused;
use super::http::Client;
use crate::percent::escape;
use crate::ui;
use crate::ui::missing::{missing, some};

/// The most devices that are looked at for an explanation.
const MOST: usize = 20_000;

/// A condition on devices: the name it has in the API, and its value.
pub(crate) type Condition = (&'static str, String);

/// Most devices that are each asked for by name. Of more, a list tells which are there, and the rest are asked for.
const ONE_BY_ONE: usize = 50;

/// Most devices with a part of an id among which one is looked for that may have been meant.
const ALIKE: usize = 200;

/// Devices of a fleet: all of them, or the first of so many that nobody looks at the others.
struct Fleet {
    devices: Vec<Device>,
    is_all: bool,
}

impl Fleet {
    async fn ask(client: &Client) -> anyhow::Result<Self> {
        let (devices, has_more) = client.first("/devices", MOST).await?;
        Ok(Self { devices, is_all: !has_more })
    }

    /// Says that there is no device of this id, and which may have been meant. Of a fleet that is not all here, those are asked for which
    /// have [`parts`] of the id.
    async fn lacks(&self, client: &Client, id: &str) -> anyhow::Result<String> {
        let mut ids: Vec<String> = self.devices.iter().map(|device| device.id.clone()).collect();
        if self.is_all {
            return Ok(missing("device", id, ids.iter().map(String::as_str).collect()));
        }
        for part in parts(id) {
            let alike: Vec<Device> = client.list(&format!("/devices?q={}", escape(part)), ALIKE).await?;
            ids.extend(alike.into_iter().map(|device| device.id));
        }
        let meant = did_you_mean(id, ids.iter().map(String::as_str));
        Ok(format!("there is no device {}{}", ui::clean(id), ui::clean(&meant)))
    }
}

/// Parts of an id, one of which is right where it was misspelt once: three quarters, which few ids have, and halves.
fn parts(id: &str) -> impl Iterator<Item = &str> {
    let at = |quarters: usize| id.floor_char_boundary(id.len() * quarters / 4);
    let parts = [id.split_at(at(3)).0, id.split_at(at(1)).1, id.split_at(at(2)).0, id.split_at(at(2)).1];
    parts.into_iter().filter(|part| !part.is_empty())
}

/// The devices of these ids that do not exist or are retired, in a sentence; `None` where all are there.
pub(crate) async fn unknown_devices(client: &Client, ids: &[String]) -> anyhow::Result<Option<String>> {
    let mut known: Option<Fleet> = None;
    if ids.len() > ONE_BY_ONE {
        known = Some(Fleet::ask(client).await?);
    }
    let mut sentences = Vec::new();
    for id in ids {
        if known.iter().flat_map(|fleet| &fleet.devices).any(|device| device.id == *id) {
            continue;
        }
        match client.get::<Device>(&format!("/devices/{}", escape(id))).await {
            Ok(device) if device.retired_at.is_none() => {}
            Ok(_) => {
                sentences
                    .push(format!("{} is retired; `otaru devices unretire` takes it back", ui::clean(id)));
            }
            Err(error) if is_missing(&error) => {
                let known = match &mut known {
                    Some(known) => known,
                    none => none.insert(Fleet::ask(client).await?),
                };
                sentences.push(known.lacks(client, id).await?);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((!sentences.is_empty()).then(|| sentences.join("\n")))
}

/// Whether a server says that there is no such thing.
fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404)
}

/// The same error, or for a device that does not exist what it may be called.
pub(crate) async fn misspelt(client: &Client, ids: &[String], error: anyhow::Error) -> anyhow::Error {
    if !is_missing(&error) {
        return error;
    }
    match unknown_devices(client, ids).await {
        Ok(Some(text)) => anyhow!(text),
        _ => error,
    }
}

/// Why no device meets these conditions: the first that none meets by itself, and what there is of its kind.
pub(crate) async fn no_device(client: &Client, conditions: &[Condition]) -> anyhow::Result<String> {
    let known = Fleet::ask(client).await?;
    if known.devices.is_empty() {
        return Ok("there is no device yet; devices appear when they first report".into());
    }
    for (name, value) in conditions {
        let path = format!("/devices?{name}={}", escape(value));
        if client.list::<IgnoredAny>(&path, 1).await?.is_empty() {
            return Ok(unmet(name, value, &known));
        }
    }
    let all: Vec<String> =
        conditions.iter().map(|(name, value)| format!("{} {}", word(name), ui::clean(value))).collect();
    Ok(format!("no device meets all of it: {}; each by itself is met by some", all.join(", ")))
}

fn unmet(name: &str, value: &str, fleet: &Fleet) -> String {
    let known = &fleet.devices;
    let count = |value: fn(&Device) -> &str| counted(known.iter().map(|device| value(device).to_owned()));
    let (there, candidates) = match name {
        "tags" => {
            let tags = known.iter().flat_map(|device| &device.tags);
            counted(tags.map(|tag| Tag::from(tag).to_string()))
        }
        "versions" | "version" => count(|device| &device.version),
        "product" => count(|device| &device.product),
        "chip" => count(|device| &device.chip),
        "state" => count(|device| &device.state),
        "q" => counted(known.iter().map(|device| device.id.clone())),
        _ => return format!("no device has {} {}", word(name), ui::clean(value)),
    };
    let words = value.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | '"' | '\''));
    let meant: Vec<String> =
        words.map(|word| did_you_mean(word, candidates.iter().map(String::as_str))).collect();
    let meant = meant.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let there = match there.as_str() {
        "" if fleet.is_all => "there are none".to_owned(),
        "" => format!("the first {} devices have none", known.len()),
        there if fleet.is_all => format!("there is {there}"),
        there => format!("among the first {} devices there is {there}", known.len()),
    };
    format!("no device has {} {}; {there}{}", word(name), ui::clean(value), ui::clean(&meant))
}

/// The condition in words.
fn word(name: &str) -> &str {
    match name {
        "q" => "an id or label with",
        "versions" => "a version in",
        "tags" => "tags that fit",
        "error" => "failed for",
        "rollout" => "a deployment in rollout",
        other => other,
    }
}

/// Values with how often they occur, the most frequent first; and the values by themselves.
fn counted(values: impl Iterator<Item = String>) -> (String, Vec<String>) {
    let mut counts = BTreeMap::<String, usize>::new();
    for value in values.filter(|value| !value.is_empty()) {
        *counts.entry(value).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let texts = counts.iter().map(|(value, count)| match count {
        1 => ui::clean(value),
        count => format!("{} ({count})", ui::clean(value)),
    });
    let text = some(texts.collect(), counts.len());
    (text, counts.into_iter().map(|(value, _)| value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, version: &str, tags: &[(&str, &str)]) -> Device {
        let tags: BTreeMap<_, _> = tags.iter().copied().collect();
        serde_json::from_value(serde_json::json!({
            "id": id, "chip": "esp32c3", "product": "lamp", "version": version, "state": "idle", "tags": tags,
            "first_seen": "2026-11-29T03:24:44.123Z",
        }))
        .unwrap()
    }

    #[test]
    fn a_part_of_an_id_is_right_where_one_letter_is_wrong() {
        for (right, wrong) in
            [("dev-24998", "dev-24998x"), ("dev-24998", "dxv-24998"), ("küche-12", "kuche-12")]
        {
            assert!(parts(wrong).any(|part| right.contains(part)), "{wrong}");
        }
        assert_eq!(parts("").count(), 0);
        assert_eq!(parts("ü").collect::<Vec<_>>(), ["ü", "ü"]);
    }

    #[test]
    fn what_there_is_instead_is_told() {
        let devices = vec![
            device("kitchen", "1.0.0", &[("site", "berlin"), ("canary", "")]),
            device("hall", "1.0.0", &[("site", "berlin")]),
        ];
        let known = Fleet { devices, is_all: true };
        assert_eq!(
            unmet("tags", "site=belin and canary", &known),
            "no device has tags that fit site=belin and canary; there is site=berlin (2), canary; did you mean site=berlin?"
        );
        assert_eq!(unmet("versions", ">=2", &known), "no device has a version in >=2; there is 1.0.0 (2)");
        assert_eq!(unmet("product", "plug", &known), "no device has product plug; there is lamp (2)");
        assert_eq!(
            unmet("q", "kichen", &known),
            "no device has an id or label with kichen; there is hall, kitchen; did you mean kitchen?"
        );
        assert_eq!(unmet("error", "panic", &known), "no device has failed for panic");
        let first = Fleet { is_all: false, ..known };
        assert_eq!(
            unmet("product", "plug", &first),
            "no device has product plug; among the first 2 devices there is lamp (2)"
        );
    }
}
