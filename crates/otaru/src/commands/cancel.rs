//! `otaru cancel`: ends updates that have not restarted yet.

use anyhow::bail;
use otaru_broker::client::Mqtt;
use otaru_format::topic::Topics;
use serde_json::json;

use crate::fleet::on_broker::{cancel, look_around};
use crate::fleet::{Fleet, words};
use crate::options::BrokerArgs;
use crate::output::{Outcome, Output};
use crate::ui;
use crate::ui::missing::missing;

const EXAMPLES: &str = "\
Examples:
  otaru cancel --device kitchen --device porch
  otaru cancel --all                               whatever is updating now

A device that is restarting into the new image cannot be stopped any more; it is named. Updates that a server's rollout
started come again: pause or abort that one, `otaru rollout abort ID --cancel`.";

/// Cancel updates that have not restarted yet
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// This device; may be given several times
    #[arg(long, short, value_name = "NAME", required_unless_present = "all")]
    device: Vec<String>,
    /// All devices that are updating
    #[arg(long, conflicts_with = "device")]
    all: bool,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let base = args.broker.base.clone();
    let mut mqtt = Mqtt::connect(&args.broker.url()?, "cancel").await?;
    let mut fleet = Fleet::new(&base);
    look_around(&mut mqtt, &mut fleet, &base).await?;
    let (names, idle): (Vec<_>, Vec<_>) =
        names(&args, &fleet, &base)?.into_iter().partition(|name| is_busy(&fleet, name));
    for name in &idle {
        // It may have heard of an update a moment ago, or of one that waits for it.
        mqtt.publish(&Topics::new(&base, name)?.update_one(), "cancel", false).await?;
        tell_idle(&fleet, name, output);
    }
    let late = cancel(&mut mqtt, &mut fleet, &base, &names, |_, _| {}).await?;
    mqtt.disconnect().await;
    let mut outcome = Outcome::Good;
    for name in &names {
        let status = fleet.status(name);
        let ended = status.is_some_and(|status| !status.state.is_under_way()) && !late.contains(name);
        if !ended {
            outcome = Outcome::Bad;
        }
        let state = status.map_or_else(|| "no report".to_owned(), words::state);
        if output.json {
            ui::event(json!({"event": "cancel", "device": name, "ended": ended, "state": state}));
            continue;
        }
        let text = match (ended, late.contains(name)) {
            (true, _) => state,
            (false, true) => format!("too late: {state}"),
            (false, false) => format!("did not answer: {state}"),
        };
        ui::line(&format!("{}: {text}", ui::clean(name)));
    }
    Ok(outcome)
}

/// Whether a device has something to cancel, as far as can be known: one that never reported may have.
fn is_busy(fleet: &Fleet, name: &str) -> bool {
    fleet.status(name).is_none_or(|status| status.state.is_under_way())
}

fn tell_idle(fleet: &Fleet, name: &str, output: Output) {
    let state = fleet.status(name).map_or_else(String::new, words::state);
    match output.json {
        true => ui::event(
            json!({"event": "cancel", "device": name, "ended": false, "idle": true, "state": state}),
        ),
        false => ui::line(&format!("{}: is not updating ({state})", ui::clean(name))),
    }
}

/// The devices that are meant.
fn names(args: &Args, fleet: &Fleet, base: &str) -> anyhow::Result<Vec<String>> {
    if args.all {
        let busy = fleet
            .iter()
            .filter(|(_, device)| device.status.as_ref().is_some_and(|status| status.state.is_under_way()));
        let busy: Vec<String> = busy.map(|(name, _)| name.to_owned()).collect();
        if busy.is_empty() {
            bail!("no device under {base} is updating");
        }
        return Ok(busy);
    }
    if let Some(name) = args.device.iter().find(|name| fleet.get(name).is_none()) {
        bail!("{} under {base}", missing("device", name, fleet.iter().map(|(name, _)| name).collect()));
    }
    Ok(args.device.clone())
}
