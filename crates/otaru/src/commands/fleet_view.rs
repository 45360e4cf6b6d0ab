//! The fleet as a server sees it, live: `otaru watch --server`.

use std::time::Duration;

use console::style;
use serde_json::Value;

use super::devices::screen;
use crate::client::error::Away;
use crate::client::http::Client;
use crate::client::stream::Told;
use crate::output::{Outcome, Output};
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
