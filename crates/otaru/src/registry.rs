//! Devices as the server's registry has them, in rows of a table.

use std::collections::BTreeMap;

use console::style;
use otaru_api::Timestamp;
use otaru_format::status::{Code, UpdateState, next_trial};
use otaru_rollout::Tag;
use serde::Deserialize;

use crate::fleet::words::will_try_again;
use crate::moment::ago;
use crate::ui;

/// A device in a list of the server.
#[derive(Debug, Deserialize)]
pub(crate) struct Device {
    id: String,
    label: Option<String>,
    chip: String,
    product: String,
    version: String,
    #[serde(default)]
    image_short: Option<String>,
    state: String,
    error_code: Option<String>,
    #[serde(default)]
    attempt: u8,
    pub(crate) reachable: bool,
    last_seen: Option<Timestamp>,
    tags: BTreeMap<String, String>,
}

/// Heads of the columns.
pub(crate) const HEADS: [&str; 9] =
    ["", "DEVICE", "CHIP", "PRODUCT", "VERSION", "IMAGE", "STATE", "CHANGED", "TAGS"];

/// Fills a row.
pub(crate) fn row(device: &Device) -> [String; 9] {
    let name = match &device.label {
        Some(label) => format!("{label} ({})", device.id),
        None => device.id.clone(),
    };
    let mark = if device.reachable { style("●").green() } else { style("○").dim() };
    let tags = device.tags.iter().map(|tag| Tag::from(tag).to_string());
    [
        mark.to_string(),
        ui::clean(&name),
        ui::clean(&device.chip),
        ui::clean(&device.product),
        ui::clean(&device.version),
        device.image_short.as_deref().map_or_else(String::new, ui::clean),
        state(&device.state, device.error_code.as_deref(), device.attempt),
        device.last_seen.map_or_else(String::new, ago),
        ui::clean(&tags.collect::<Vec<_>>().join(" ")),
    ]
}

/// Tells a device's state and its last error, in the colour of how urgent that is.
pub(crate) fn state(state: &str, error: Option<&str>, attempt: u8) -> String {
    let code = (error == Some(Code::Unreachable.as_str())).then_some(Code::Unreachable);
    let known = UpdateState::of_name(state);
    if let Some(next) = next_trial(known, code, attempt) {
        return style(will_try_again(next)).yellow().to_string();
    }
    let text = match error {
        Some(code) => format!("{}: {}", ui::clean(state), ui::clean(code)),
        None => ui::clean(state),
    };
    let text = style(text);
    match known {
        UpdateState::Confirmed | UpdateState::Current => text.green(),
        state if state.is_failure() => text.red(),
        UpdateState::Idle | UpdateState::Unknown => text.dim(),
        _ => text.cyan(),
    }
    .to_string()
}
