//! `otaru push`: offer firmware to devices and see it through.

pub(crate) mod args;
mod source;
mod tracker;
mod view;

use std::time::Duration;

use anyhow::{Context as _, bail};
use otaru_format::command::MAX_DEPLOYMENT;
use otaru_format::name::has_control;
use otaru_format::topic::Topics;
use tokio::time::{Instant, sleep_until};

use crate::fleet::on_broker::{cancel, look_around};
use crate::fleet::{Change, Fleet};
use crate::output::{Outcome, Output};
use crate::ui::missing::missing;
use crate::{signals, ui};
use args::Args;
use otaru_broker::client::{Incoming, Mqtt};
use source::Source;
use tracker::{Stage, Tracker};
use view::View;

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
    match look_around(&mut mqtt, &mut fleet, &base).await {
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
    let interrupted = push.see_through(args.timeout).await?;
    push.finish(&source, interrupted).await
}

/// Whether there is anybody to push to. A command that the broker keeps may be for who has never been here.
fn check_names(fleet: &Fleet, args: &Args, base: &str) -> anyhow::Result<()> {
    let known: Vec<&str> = fleet.iter().map(|(name, _)| name).collect();
    let strangers: Vec<String> = args
        .device
        .iter()
        .filter(|name| fleet.get(name).is_none())
        .map(|name| missing("device", name, known.clone()))
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
