//! The fleet as a server sees it, live: `otaru watch --server`.

use std::time::Duration;

use console::style;
use serde_json::Value;

use crate::client::error::Away;
use crate::client::http::Client;
use crate::client::stream::Told;
use crate::output::{Outcome, Output};
use crate::registry::{Device, HEADS, row};
use crate::ui::grid::grid;
use crate::ui::live::Live;
use crate::{signals, ui};

/// The pause between two looks while much happens.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest time between two looks: a proxy may hold events back.
const LOOK: Duration = Duration::from_secs(5);

/// Watches until Ctrl-C. On a terminal a table is redrawn in place; elsewhere each change is a line.
pub(super) async fn watch(client: &Client, output: Output) -> anyhow::Result<Outcome> {
    let mut told = client.events("device,rollout");
    let mut live = Live::new(output);
    let stop = signals::stop();
    tokio::pin!(stop);
    loop {
        let next = tokio::select! {
            () = &mut stop => return Ok(Outcome::Good),
            next = tokio::time::timeout(LOOK, told.recv()) => next.unwrap_or(Some(Told::Resync)),
        };
        match (&mut live, next) {
            (_, None) => anyhow::bail!("the server ended the stream"),
            (None, Some(Told::Event(event))) => tell(&event, output),
            (None, Some(Told::Resync)) => {}
            (None, Some(Told::Lost(why))) => ui::warn(&format!("server lost: {why}; trying again")),
            (Some(live), Some(Told::Lost(why))) => lost(live, &why),
            (Some(live), Some(_)) => {
                // Many things happen at once; one look shows them all.
                tokio::time::sleep(PAUSE).await;
                while told.try_recv().is_ok() {}
                match screen(client, live.size()).await {
                    Err(error) if error.is::<Away>() => lost(live, &error.to_string()),
                    lines => live.draw(&lines?),
                }
            }
        }
    }
}

fn lost(live: &mut Live, why: &str) {
    let text = format!("server lost: {}; trying again", ui::clean(why));
    live.draw(&[style(text).yellow().to_string()]);
}

fn tell(event: &Value, output: Output) {
    if output.json {
        return ui::event(event.clone());
    }
    let text = |name: &str| ui::clean(event[name].as_str().unwrap_or_default());
    ui::line(&match event["kind"].as_str() {
        Some("rollout") => format!("rollout {}: {}", event["id"], text("phase")),
        _ => {
            let progress =
                event["progress"].as_u64().map_or_else(String::new, |percent| format!(" {percent}%"));
            let away = if event["reachable"] == true { "" } else { ", away" };
            let next = event["next_trial"].as_u64().and_then(|next| u8::try_from(next).ok());
            let state = next.map_or_else(|| text("state"), crate::fleet::words::will_try_again);
            format!("{}: {state}{progress} on {}{away}", text("id"), text("version"))
        }
    });
}

/// Health of devices, what asks for a look first.
const URGENT_FIRST: [&str; 4] = ["troubled", "updating", "well", "away"];

/// The fleet as lines for a screen of this size: what is in trouble or updating first, and how many there was no room for.
async fn screen(client: &Client, (columns, rows): (usize, usize)) -> anyhow::Result<Vec<String>> {
    let fleet: Value = client.get("/fleet").await?;
    // Two lines are above the table, its heads, one below it, and the cursor.
    let room = rows.saturating_sub(5);
    let mut devices: Vec<Device> = Vec::new();
    for health in URGENT_FIRST {
        let left = room - devices.len();
        if left > 0 {
            devices.extend(client.list::<Device>(&format!("/devices?health={health}"), left).await?);
        }
    }
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (total, reachable) = (number(&fleet["total"]), number(&fleet["reachable"]));
    let mut lines = vec![
        style(format!("{}  {}, {reachable} reachable", client.server(), ui::many(total, "device")))
            .bold()
            .to_string(),
        style(by_health(&fleet)).dim().to_string(),
    ];
    if let Some(text) = no_room(&fleet) {
        lines[1] = style(text).red().to_string();
    }
    if devices.is_empty() {
        lines.push("No device has reported yet. Virtual ones: `otaru sim`.".into());
    } else {
        lines.extend(grid(HEADS, devices.iter().map(row).collect(), columns - 1));
    }
    let hidden = total.saturating_sub(devices.len() as u64);
    if hidden > 0 && !devices.is_empty() {
        lines.push(style(format!("… and {hidden} more; `otaru devices` lists all")).dim().to_string());
    }
    Ok(lines)
}

/// Words for a server that takes no more devices.
fn no_room(fleet: &Value) -> Option<String> {
    let (total, most) = (fleet["total"].as_u64()?, fleet["most"].as_u64()?);
    (total >= most).then(|| {
        format!(
            "no room for more than {most}: retire devices, or start the server with a higher --max-devices"
        )
    })
}

/// The fleet in numbers: `1 troubled, 2 updating, 497 well`.
fn by_health(fleet: &Value) -> String {
    let counts = URGENT_FIRST.iter().map(|health| (fleet["health"][health].as_u64().unwrap_or(0), health));
    let parts = counts.filter(|(count, _)| *count > 0).map(|(count, health)| format!("{count} {health}"));
    parts.collect::<Vec<_>>().join(", ")
}
