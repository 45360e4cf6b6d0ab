//! `otaru watch`: the fleet, live.

use std::time::Duration;

use anyhow::bail;
use console::style;

use crate::client::args::ServerArgs;
use crate::fleet::Fleet;
use crate::fleet::changes::Teller;
use crate::fleet::table::{Mark, fitted, states};
use crate::options::{BrokerArgs, is_given};
use crate::output::{Outcome, Output};
use crate::ui::live::Live;
use crate::{signals, ui};
use otaru_server::mqtt::{Incoming, Mqtt};

const EXAMPLES: &str = "\
Examples:
  otaru watch --broker mqtt://broker.lan
  otaru watch --server http://ota.example.com:8080
  otaru watch | grep -v idle              changes as plain lines
  otaru watch --json | jq -c 'select(.event == \"status\").status.error'

On a terminal a table is redrawn in place; elsewhere each change is a line.";

/// Watch all devices
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    if by_server(&args.server)? {
        return super::fleet_view::watch(&args.server.client()?, output).await;
    }
    let url = args.broker.url()?;
    let mut mqtt = Mqtt::connect(&url, "watch").await?;
    let mut fleet = Fleet::new(&args.broker.base);
    for filter in fleet.filters() {
        mqtt.subscribe(&filter).await?;
    }
    let head = format!("{url}  {}", args.broker.base);
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

/// Whether a server is watched, or a broker: what was typed decides, then the environment.
fn by_server(server: &ServerArgs) -> anyhow::Result<bool> {
    match (is_given("server"), is_given("broker") || is_given("base")) {
        (true, true) => bail!("give --server or --broker, not both: a server watches its broker itself"),
        (_, true) => Ok(false),
        (_, false) => Ok(server.server.is_some()),
    }
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
