//! Devices as the server's registry has them, in rows of a table.

use console::style;
use otaru_api::Device;
use otaru_format::status::UpdateState;
use otaru_rollout::Tag;

use crate::fleet::words::will_try_again;
use crate::moment::since;
use crate::ui;

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
        state(device),
        since(device.last_seen),
        ui::clean(&tags.collect::<Vec<_>>().join(" ")),
    ]
}

/// Tells a device's state and its last error, in the colour of how urgent that is.
pub(crate) fn state(device: &Device) -> String {
    if let Some(next) = device.next_trial() {
        return style(will_try_again(next)).yellow().to_string();
    }
    let state = ui::clean(&device.state);
    let text = style(match &device.error_code {
        Some(code) => format!("{state}: {}", ui::clean(code)),
        None => state,
    });
    match UpdateState::of_name(&device.state) {
        UpdateState::Confirmed | UpdateState::Current => text.green(),
        state if state.is_failure() => text.red(),
        UpdateState::Idle | UpdateState::Unknown => text.dim(),
        _ => text.cyan(),
    }
    .to_string()
}
