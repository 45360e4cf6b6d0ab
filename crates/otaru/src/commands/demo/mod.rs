//! `otaru demo`: the whole way of an update, good and bad, on this machine alone.

mod facts;
mod firmware;
mod scene;
mod server;
mod story;

use std::time::{Duration, Instant};

use console::style;
use otaru_sim::firmware::Behaviour;
use serde_json::json;
use tokio::task::LocalSet;

use crate::output::{Outcome, Output};
use crate::{options, signals, ui};
use facts::Facts;
use otaru_broker::client::{BrokerUrl, MqttVersion, Secret};
use scene::Scene;

const EXAMPLES: &str = "\
Examples:
  otaru demo                  watch it, then send an update yourself
  otaru demo --exit           end after the summary; the exit code tells whether all held
  otaru demo --broker mqtt://127.0.0.1:1883      over your own broker

Virtual boards run the agent that runs on the chip, behind a virtual bootloader and flash. A server
with a dashboard is there as well: open its address in a browser while the story is told, and roll
out the next release yourself when it is over.

Nothing outside 127.0.0.1 is used, and nothing is left behind.";

/// See updates happen: good, bad, with a power cut, and in stages
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// End after the summary
    #[arg(long)]
    exit: bool,
    /// Speed of flash and waits; 1 is real time
    #[arg(long, value_name = "X", default_value = "2", value_parser = options::speed)]
    speed: f64,
    /// Another broker than the built-in one
    #[arg(long, value_name = "URL", hide_env_values = true)]
    broker: Option<Secret>,
    /// Version of MQTT that is spoken with --broker; auto is 5, and 3.1.1 where that broker does not speak it
    #[arg(long, value_name = "VERSION", default_value_t, value_parser = options::mqtt_version(), requires = "broker")]
    mqtt_version: MqttVersion,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let (broker, base) = match &args.broker {
        Some(url) => {
            let url: BrokerUrl =
                url.expose().parse().map_err(|error| anyhow::anyhow!("--broker: {error}"))?;
            let url = url.with_version(args.mqtt_version);
            options::warn_in_clear(&url);
            // Real boards may listen there too.
            (Some(url), format!("otaru-demo/{:06x}", rand::random::<u32>() >> 8))
        }
        None => (None, otaru_format::topic::DEFAULT_BASE.into()),
    };
    LocalSet::new().run_until(play(broker, &base, &args, output)).await
}

/// The story, and then the stage is the user's. However it ends, nothing is left behind.
async fn play(broker: Option<BrokerUrl>, base: &str, args: &Args, output: Output) -> anyhow::Result<Outcome> {
    let stop = signals::stop();
    tokio::pin!(stop);
    let mut scene = tokio::select! {
        scene = Scene::open(broker, base, args.speed, output) => scene?,
        () = &mut stop => return Ok(Outcome::Bad),
    };
    let mut facts = Facts::default();
    let told = tokio::select! {
        told = perform(&mut scene, &mut facts, args) => Some(told),
        () = &mut stop => None,
    };
    let played = match told {
        None => {
            scene.keep();
            scene.say("Stopped before the end.");
            Ok(Outcome::Bad)
        }
        Some(Err(error)) => Err(error),
        Some(Ok(())) => {
            if !args.exit {
                tokio::select! {
                    _ = scene.until(Duration::from_secs(u32::MAX.into()), |_| false) => {}
                    () = stop => {}
                }
            }
            scene.keep();
            Ok(if facts.all() { Outcome::Good } else { Outcome::Bad })
        }
    };
    scene.close(args.broker.is_some()).await;
    played
}

/// All chapters, what was observed, and how to go on.
async fn perform(scene: &mut Scene, facts: &mut Facts, args: &Args) -> anyhow::Result<()> {
    let began = Instant::now();
    introduce(scene, args.speed);
    tell(scene, facts).await?;
    facts.tell(scene);
    let seconds = began.elapsed().as_secs_f64();
    if scene.output.json {
        ui::event(json!({"event": "took", "seconds": seconds}));
    }
    scene.say(&style(format!("  {seconds:.1} s in all")).dim().to_string());
    match args.exit {
        true => Ok(()),
        false => invite(scene).await,
    }
}

async fn tell(scene: &mut Scene, facts: &mut Facts) -> anyhow::Result<()> {
    if !story::wake(scene).await {
        anyhow::bail!("the boards did not come up within 25 s; -v shows what they say");
    }
    scene.pause(0.7).await;
    let first = story::good_update(scene, facts).await?;
    scene.pause(1.5).await;
    story::bad_update(scene, facts, &first).await?;
    scene.pause(2.0).await;
    let third = story::power_cut(scene, facts).await?;
    scene.pause(1.5).await;
    story::staged_rollout(scene, facts, &[first, third]).await?;
    scene.pause(1.0).await;
    Ok(())
}

fn introduce(scene: &mut Scene, speed: f64) {
    let (broker, files) = (scene.broker().to_string(), scene.files());
    let dumps = scene.dir().display().to_string();
    let dashboard = scene.server.dashboard().to_owned();
    if scene.output.json {
        ui::event(json!({
            "event": "demo", "broker": broker, "files": files, "dumps": dumps, "speed": speed, "base": scene.base,
            "dashboard": dashboard,
        }));
    }
    scene.say(&format!(
        "{} over-the-air updates for ESP32, end to end, on this machine",
        style("Otaru").bold()
    ));
    scene.say("Three virtual ESP32-C3 boards run the agent that runs on the chip.");
    scene.say(&format!("Their flash has a real chip's timing, {speed} times as fast; so have their waits."));
    scene.say(&format!("Dashboard: {}   open it and press Enter", style(&dashboard).cyan().bold()));
    scene.say(&style(format!("broker {broker}   files {files}   flash {dumps}")).dim().to_string());
}

async fn invite(scene: &mut Scene) -> anyhow::Result<()> {
    let release = scene.release("1.5.0", Behaviour::Healthy)?;
    let bad = scene.release("1.6.0", Behaviour::Crash)?;
    scene.server.upload(&release).await?;
    scene.server.upload(&bad).await?;
    let broker = scene.broker().clone();
    let path = scene.path_of(&release).display().to_string();
    if scene.output.json {
        ui::event(json!({"event": "waiting", "url": release.url, "file": path,
            "dashboard": scene.server.dashboard()}));
    }
    scene.say("");
    let dashboard = style(scene.server.dashboard()).cyan().bold().to_string();
    scene.say(&style("Your turn.").bold().to_string());
    scene.say(&format!("  In a browser, at {dashboard}:"));
    scene.say("    Releases → lamp 1.5.0 → Roll out… → Start      one board, then all the others");
    scene.say("    the same with lamp 1.6.0, which panics           it goes no further than the first, and says why");
    scene.say("  Or paste one of these into another terminal:");
    scene.say(&format!(
        "    mosquitto_pub -h {} -p {} -t {}/update -m {}",
        broker.host, broker.port, scene.base, release.url
    ));
    let base = if scene.base == otaru_format::topic::DEFAULT_BASE {
        String::new()
    } else {
        format!(" --base {}", scene.base)
    };
    scene.say(&format!("    otaru push --broker {broker}{base} {path}"));
    scene.say(&style("Ctrl-C ends the demo and removes the flash dumps.").dim().to_string());
    Ok(())
}
