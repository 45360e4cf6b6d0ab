//! The fleet as a server sees it, live: `otaru watch --server`.

use std::time::Duration;

use console::style;
use otaru_api::{Answer, Device, Event, Fleet};

use crate::client::error::Away;
use crate::client::http::Client;
use crate::client::stream::StreamItem;
use crate::fleet::words::will_try_again;
use crate::output::{Outcome, Output};
use crate::registry::{HEADS, row};
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
            next = tokio::time::timeout(LOOK, told.recv()) => next.unwrap_or(Some(StreamItem::Resync)),
        };
        match (&mut live, next) {
            (_, None) => anyhow::bail!("the server ended the stream"),
            (_, Some(StreamItem::Refused(why))) => return Err(why),
            (None, Some(StreamItem::Event(event))) => tell(&event, output),
            (None, Some(StreamItem::Resync)) => {}
            (None, Some(StreamItem::Lost(why))) => ui::warn(&format!("server lost: {why}; trying again")),
            (Some(live), Some(StreamItem::Lost(why))) => lost(live, &why),
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

fn tell(event: &Answer<Event>, output: Output) {
    if output.json {
        return ui::event(event.json.clone());
    }
    match &event.value {
        Event::Rollout { id, phase } => ui::line(&format!("rollout {id}: {}", ui::clean(phase))),
        Event::Device { id, state, version, reachable, progress, next_trial } => {
            let progress = progress.map_or_else(String::new, |percent| format!(" {percent}%"));
            let away = if *reachable { "" } else { ", away" };
            let state = next_trial.map_or_else(|| state.clone(), will_try_again);
            ui::line(&ui::clean(&format!("{id}: {state}{progress} on {version}{away}")));
        }
        // Not asked for, or from a newer server: there are no words for it.
        _ => {}
    }
}

/// Health of devices, what asks for a look first.
const URGENT_FIRST: [&str; 4] = ["troubled", "updating", "well", "away"];

/// The fleet as lines for a screen of this size: what is in trouble or updating first, and how many there was no room for.
async fn screen(client: &Client, (columns, rows): (usize, usize)) -> anyhow::Result<Vec<String>> {
    let fleet: Fleet = client.get("/fleet").await?;
    // Two lines are above the table, its heads, one below it, and the cursor.
    let room = rows.saturating_sub(5);
    let mut devices: Vec<Device> = Vec::new();
    for health in URGENT_FIRST {
        let left = room - devices.len();
        if left > 0 {
            devices.extend(client.list::<Device>(&format!("/devices?health={health}"), left).await?);
        }
    }
    let (total, reachable) = (fleet.counts.total, fleet.counts.reachable);
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
fn no_room(fleet: &Fleet) -> Option<String> {
    // Older servers do not say how many they take.
    let (total, most) = (fleet.counts.total, fleet.most);
    (total >= most && most > 0).then(|| {
        format!(
            "no room for more than {most}: retire devices, or start the server with a higher --max-devices"
        )
    })
}

/// The fleet in numbers: `1 troubled, 2 updating, 497 well`.
fn by_health(fleet: &Fleet) -> String {
    let known = URGENT_FIRST.iter().filter_map(|health| fleet.counts.health.get_key_value(*health));
    // Those that only a newer server knows come last.
    let others = fleet.counts.health.iter().filter(|(health, _)| !URGENT_FIRST.contains(&health.as_str()));
    let parts = known
        .chain(others)
        .filter(|(_, count)| **count > 0)
        .map(|(health, count)| format!("{count} {}", ui::clean(health)));
    parts.collect::<Vec<_>>().join(", ")
}
