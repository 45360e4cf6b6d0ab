//! `otaru push`: offer firmware to devices and see it through.

mod source;
mod tracker;
mod view;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use otaru_format::command::MAX_DEPLOYMENT;
use otaru_format::digest::Digest;
use otaru_format::name::has_control;
use otaru_format::status::UpdateState;
use otaru_format::topic::Topics;
use tokio::time::{Instant, sleep_until, timeout};

use super::nothing;
use crate::fleet::{Change, Fleet};
use crate::options::BrokerArgs;
use crate::output::{Outcome, Output};
use crate::{signals, ui};
use otaru_server::mqtt::{Incoming, Mqtt};
use source::Source;
use tracker::{Stage, Tracker};
use view::View;

const EXAMPLES: &str = "\
Examples:
  otaru push target/lamp.bin                       to every device that is online
  otaru push --device kitchen --device porch target/lamp.bin
  otaru push --watch http://nas:8080/lamp.bin      a file that a server has already
  otaru push --retain --device attic http://nas:8080/lamp.bin
                                                   attic hears of it when it wakes

A FILE is an image or a release. It is checked, served over HTTP from this machine while devices fetch it, and offered with its
SHA-256; the command ends when every device has. Exit code 0 means that all of them run it, confirmed.
Ctrl-C, or the end of --timeout, cancels what has not restarted yet, as a FILE is then served no longer; a URL's
updates go on, and `otaru cancel` ends them.";

/// How long devices may take to tell that they cancelled: they write commands to flash once in ten seconds at most.
const CANCELLING: Duration = Duration::from_secs(15);

/// Update devices
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Only this device; may be given several times. Otherwise all that are online
    #[arg(long, short, value_name = "NAME")]
    device: Vec<String>,
    /// Wait until every device is done; a FILE implies it
    #[arg(long)]
    watch: bool,
    /// Take it even if it failed before or is another project's; devices that take signed releases only refuse
    /// this: sign the image again with `otaru resign --sequence`
    #[arg(long)]
    force: bool,
    /// The name of this push in reports; made up if not given
    #[arg(long, value_name = "ID")]
    deployment: Option<String>,
    /// Let the broker keep the command for devices that come later; without --device, for every device whenever it
    /// connects. An empty retained message takes it away: `mosquitto_pub -r -n -t TOPIC`
    #[arg(long)]
    retain: bool,
    /// The SHA-256 the image must have; a FILE's is known
    #[arg(long, value_name = "SHA256")]
    image: Option<Digest>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    /// Where to serve FILE; this machine's address towards the broker and a free port, if not given
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// This machine as devices reach it, where that differs: behind NAT, in a container
    #[arg(long, value_name = "HOST[:PORT]")]
    advertise: Option<String>,
    /// Put FILE into this folder of a web server instead of serving it
    #[arg(long, value_name = "DIR", requires = "host_url")]
    host_dir: Option<PathBuf>,
    /// The URL of --host-dir
    #[arg(long, value_name = "URL", requires = "host_dir")]
    host_url: Option<String>,
    /// http:// URL or file
    #[arg(value_name = "URL|FILE")]
    firmware: String,
}

/// One push, from its preparation to its end.
struct Push {
    mqtt: Mqtt,
    fleet: Fleet,
    base: String,
    command: String,
    tracker: Tracker,
    view: View,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let broker = args.broker.url()?;
    let base = args.broker.base.clone();
    for name in &args.device {
        Topics::new(&base, name).with_context(|| format!("--device \"{}\"", ui::clean(name)))?;
    }
    let deployment = match &args.deployment {
        Some(id) if id.is_empty() || id.len() > MAX_DEPLOYMENT || has_control(id) => {
            bail!("--deployment has 1 to {MAX_DEPLOYMENT} bytes and no control characters")
        }
        Some(id) => id.clone(),
        None => format!("push-{:08x}", rand::random::<u32>()),
    };
    let source = source::prepare(&args, &broker).await?;
    let command = source::command(&source, &deployment, args.force)?;
    let watching = args.watch || source.server.is_some() || (source.file.is_some() && !args.retain);
    let mut mqtt = Mqtt::connect(&broker, "push").await?;
    let topics = topics(&base, &args.device)?;
    let mut fleet = Fleet::new(&base);
    match look_around(&mut mqtt, &mut fleet).await {
        // Whoever may publish only can still do that.
        Err(_) if !watching => {}
        looked => {
            looked?;
            check_names(&fleet, &args, &base)?;
        }
    }
    if !watching {
        for topic in &topics {
            mqtt.publish(topic, &command, args.retain).await?;
        }
        view::published(&source, &topics, args.retain, &deployment, output);
        mqtt.disconnect().await;
        return Ok(Outcome::Good);
    }
    let everyone = args.device.is_empty();
    let targets: Vec<String> = match everyone {
        true => fleet.online().map(str::to_owned).collect(),
        false => args.device.clone(),
    };
    let tracker = Tracker::new(&deployment, source.image, targets, everyone);
    let view = View::new(output);
    let mut push = Push { mqtt, fleet, base, command, tracker, view };
    push.view.begin(&source, &deployment, &push.fleet, &push.tracker);
    for topic in &topics {
        push.mqtt.publish(topic, &push.command, args.retain).await?;
    }
    let interrupted = push.see_through(Duration::from_secs(args.timeout)).await?;
    push.finish(&source, interrupted).await
}

/// Whether there is anybody to push to. A command that the broker keeps may be for who has never been here.
fn check_names(fleet: &Fleet, args: &Args, base: &str) -> anyhow::Result<()> {
    let known: Vec<&str> = fleet.iter().map(|(name, _)| name).collect();
    let strangers: Vec<String> = args
        .device
        .iter()
        .filter(|name| fleet.get(name).is_none())
        .map(|name| nothing::missing("device", name, known.clone()))
        .collect();
    match (strangers.is_empty(), args.retain) {
        (false, true) => ui::warn(&strangers.join("; ")),
        (false, false) => bail!(
            "{} under {base}; with a URL and --retain the broker keeps the offer for a device that is yet to come",
            strangers.join("\n")
        ),
        (true, false) if args.device.is_empty() && fleet.online().next().is_none() => {
            bail!("no device is online under {base}; is --base right? `otaru watch` shows who is there")
        }
        (true, _) => {}
    }
    Ok(())
}

fn topics(base: &str, devices: &[String]) -> anyhow::Result<Vec<String>> {
    if devices.is_empty() {
        return Ok(vec![Topics::new(base, "x")?.update_all().as_str().to_owned()]);
    }
    devices.iter().map(|name| Ok(Topics::new(base, name)?.update_one().as_str().to_owned())).collect()
}

/// Sends `cancel` to these devices, each at its own topic, and takes what is reported until all have ended or `limit` is over. Gives
/// back those for which it is too late: they are restarting, and run the new image or the old one whatever they are told.
pub(super) async fn cancel(
    mqtt: &mut Mqtt,
    fleet: &mut Fleet,
    base: &str,
    names: &[String],
    mut heard: impl FnMut(&Fleet, &Change),
) -> anyhow::Result<Vec<String>> {
    let is_late = |fleet: &Fleet, name: &str| {
        let state = fleet.status(name).map(|status| status.state);
        matches!(state, Some(UpdateState::Restarting | UpdateState::Trial))
    };
    let (late, open): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| is_late(fleet, name));
    for name in &open {
        mqtt.publish(&Topics::new(base, name)?.update_one(), "cancel", false).await?;
    }
    let mut open: BTreeSet<String> = open.into_iter().collect();
    let deadline = Instant::now() + CANCELLING;
    let stop = signals::stop();
    tokio::pin!(stop);
    while !open.is_empty() {
        let incoming = tokio::select! {
            () = &mut stop => break,
            () = sleep_until(deadline) => break,
            incoming = mqtt.next() => incoming,
        };
        let Incoming::Message(message) = incoming else { continue };
        let Some(change) = fleet.take(&message.topic, &message.payload) else { continue };
        if let Change::Report(name) = &change
            && fleet.status(name).is_some_and(|status| !status.state.is_under_way() || is_late(fleet, name))
        {
            open.remove(name);
        }
        heard(fleet, &change);
    }
    let mut late: BTreeSet<String> = late.into_iter().collect();
    late.extend(names.iter().filter(|name| is_late(fleet, name)).cloned());
    Ok(late.into_iter().collect())
}

/// Collects what the broker has kept about devices: all that comes before a short silence.
pub(super) async fn look_around(mqtt: &mut Mqtt, fleet: &mut Fleet) -> anyhow::Result<()> {
    for filter in fleet.filters() {
        mqtt.subscribe(&filter).await?;
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        match timeout(Duration::from_millis(400), mqtt.next()).await {
            Err(_) => break,
            Ok(Incoming::Message(message)) => {
                fleet.take(&message.topic, &message.payload);
            }
            Ok(Incoming::Lost(_) | Incoming::Back | Incoming::Missed(_)) => {}
        }
    }
    Ok(())
}

impl Push {
    /// Follows reports until all devices are done. Says whether the user gave up first.
    async fn see_through(&mut self, limit: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + limit;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        let stop = signals::stop();
        tokio::pin!(stop);
        while !self.tracker.finished() || self.tracker.iter().next().is_none() {
            tokio::select! {
                () = &mut stop => return Ok(true),
                () = sleep_until(deadline) => return Ok(false),
                _ = tick.tick() => self.view.draw(&self.fleet, &self.tracker),
                incoming = self.mqtt.next() => self.take(incoming).await?,
            }
        }
        Ok(false)
    }

    async fn cancel(&mut self, names: &[String]) -> anyhow::Result<Vec<String>> {
        let (tracker, view) = (&mut self.tracker, &mut self.view);
        cancel(&mut self.mqtt, &mut self.fleet, &self.base, names, |fleet, change| {
            if let Change::Report(name) = change
                && let Some(status) = fleet.status(name)
            {
                tracker.report(name, status);
            }
            view.change(fleet, tracker, change);
        })
        .await
    }

    async fn take(&mut self, incoming: Incoming) -> anyhow::Result<()> {
        let message = match incoming {
            Incoming::Message(message) => message,
            Incoming::Lost(why) => {
                self.view.note(&format!("broker lost: {why}; trying again"));
                return Ok(());
            }
            Incoming::Back | Incoming::Missed(_) => return Ok(()),
        };
        let Some(change) = self.fleet.take(&message.topic, &message.payload) else { return Ok(()) };
        match &change {
            Change::Report(name) => {
                if let Some(status) = self.fleet.status(name) {
                    self.tracker.report(name, status);
                }
            }
            // A device that was away when the command went out has not heard it.
            Change::Online(name, true) if self.tracker.stage(name) == Some(&Stage::Waiting) => {
                let topic = Topics::new(&self.base, name)?.update_one();
                self.mqtt.publish(&topic, &self.command, false).await?;
            }
            _ => {}
        }
        self.view.change(&self.fleet, &self.tracker, &change);
        Ok(())
    }

    async fn finish(mut self, source: &Source, interrupted: bool) -> anyhow::Result<Outcome> {
        let open = self.tracker.iter().filter(|(_, stage)| !stage.is_final());
        let open: Vec<String> = open.map(|(name, _)| name.to_owned()).collect();
        if !open.is_empty() {
            // What is no longer served cannot be fetched to its end.
            let late = match source.server.is_some() {
                true => self.cancel(&open).await?,
                false => Vec::new(),
            };
            self.view.given_up(source, &open, &late);
        }
        self.view.end(&self.fleet, &self.tracker, source, interrupted);
        self.mqtt.disconnect().await;
        Ok(if self.tracker.succeeded() { Outcome::Good } else { Outcome::Bad })
    }
}
