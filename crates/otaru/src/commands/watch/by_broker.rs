//! The fleet as a broker shows it, live: `otaru watch --broker`.

use std::time::Duration;

use console::style;

use crate::fleet::Fleet;
use crate::fleet::changes::Teller;
use crate::fleet::table::{Mark, fitted, states};
use crate::options::BrokerArgs;
use crate::output::{Outcome, Output};
use crate::ui::live::Live;
use crate::{signals, ui};
use otaru_broker::client::{Incoming, Mqtt};

pub(super) async fn watch(args: &BrokerArgs, output: Output) -> anyhow::Result<Outcome> {
    let url = args.url()?;
    let mut mqtt = Mqtt::connect(&url, "watch").await?;
    let mut fleet = Fleet::new(&args.base);
    for filter in fleet.filters() {
        mqtt.subscribe(&filter).await?;
    }
    let head = format!("{url}  {}", args.base);
    let mut live = Live::new(output);
    let mut teller = Teller::new(output);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut lost = None;
    let mut changed = true;
    let stop = signals::stop();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = tick.tick() => {
                if let Some(live) = live.as_mut().filter(|live| changed && live.due()) {
                    live.draw(&screen(&fleet, &head, lost.as_deref(), live.size()));
                    changed = false;
                }
                continue;
            }
            incoming = mqtt.next() => match incoming {
                Incoming::Message(message) => {
                    let change = fleet.take(&message.topic, &message.payload);
                    if let (None, Some(change)) = (&live, change) {
                        teller.tell(&fleet, &change);
                    }
                }
                Incoming::Lost(why) => {
                    if live.is_none() {
                        ui::warn(&format!("broker lost: {why}; trying again"));
                    }
                    lost = Some(why);
                }
                Incoming::Back => lost = None,
                Incoming::Missed(_) => {}
            }
        }
        changed = true;
    }
    mqtt.disconnect().await;
    Ok(Outcome::Good)
}

fn screen(fleet: &Fleet, head: &str, lost: Option<&str>, (columns, rows): (usize, usize)) -> Vec<String> {
    let devices = || fleet.iter().map(|(name, device)| (name, device, Mark::of(device)));
    let (all, online) = (fleet.iter().count(), fleet.online().count());
    let by_state = match all {
        0 => String::new(),
        _ => format!(": {}", states(devices().map(|(_, device, mark)| (device, mark)))),
    };
    let count = format!("{}, {online} online{by_state}", ui::many(all as u64, "device"));
    let mut lines = vec![format!("{}  {}", style(head).bold(), style(count).dim())];
    match lost {
        Some(why) => {
            lines.push(style(format!("broker lost: {}; trying again", ui::clean(why))).yellow().to_string())
        }
        None => lines.push(String::new()),
    }
    if all == 0 {
        lines.push("No device has reported yet. Virtual ones: `otaru sim`.".into());
    } else {
        // Two lines are above it, and the last row of the terminal is the cursor's.
        lines.extend(fitted(devices(), columns - 1, rows.saturating_sub(3)));
    }
    lines
}
