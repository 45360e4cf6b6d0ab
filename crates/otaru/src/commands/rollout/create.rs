//! `otaru rollout create`: makes a rollout, or tells which devices it would reach.

use anyhow::bail;
use console::style;
use otaru_api::Timestamp;
use otaru_rollout::Span;
use serde_json::{Value, json};

use crate::client::args::ServerArgs;
use crate::client::http::Client;
use crate::client::releases::{Yanked, find, marks, title};
use crate::moment::parse_moment;
use crate::options::not_blank;
use crate::output::{Outcome, Output};
use crate::rollouts::follow::{Patience, follow};
use crate::rollouts::make::{create, nobody};
use crate::rollouts::screen::{tell, times};
use crate::ui;

pub(super) const EXAMPLES: &str = "\
Examples:
  otaru rollout create lamp@1.1.0 --watch
  otaru rollout create lamp@1.1.0 --tags 'site=berlin' --wave 5 --wave 10% --soak 1h --stop 5
  otaru rollout create 17 --dry-run                     which devices it would reach
  otaru rollout show 3
  otaru rollout pause 3
  otaru rollout create --undo 3                         back to what they ran before

docs/rollouts.md says how waves, stops and retries work.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Create {
    /// The release: its id, or PRODUCT@VERSION
    #[arg(required_unless_present = "undo")]
    release: Option<String>,
    /// Return devices to what they ran before this rollout, instead of installing a release
    #[arg(long, value_name = "ROLLOUT", conflicts_with = "release")]
    undo: Option<u64>,
    /// Name for people; otherwise the release's name
    #[arg(long)]
    name: Option<String>,
    /// Select devices whose tags match this expression
    #[arg(long, value_name = "EXPRESSION", help_heading = "Which devices", value_parser = not_blank)]
    tags: Option<String>,
    /// Select devices that run a version in this range
    #[arg(long, value_name = "RANGE", help_heading = "Which devices", value_parser = not_blank)]
    versions: Option<String>,
    /// Select this device; may be given several times
    #[arg(long, value_name = "ID", help_heading = "Which devices")]
    device: Vec<String>,
    /// Select this share of them
    #[arg(long, value_name = "PERCENT", help_heading = "Which devices", value_parser = percent)]
    percent: Option<f64>,
    /// Include devices of other products and chips
    #[arg(long, help_heading = "Which devices")]
    any_product: bool,
    /// A wave before the rest: a number of devices, or 10%; may be given several times
    #[arg(long, value_name = "SIZE", help_heading = "Waves", value_parser = wave_size)]
    wave: Vec<Value>,
    /// Success rate at which the next wave opens automatically
    #[arg(long, value_name = "PERCENT", help_heading = "Waves", default_value = "95", value_parser = percent)]
    success: f64,
    /// Soak time: how long the success rate must hold
    #[arg(long, value_name = "SPAN", help_heading = "Waves", default_value = "0s")]
    soak: Span,
    /// Open waves manually instead, with `otaru rollout advance`
    #[arg(long, help_heading = "Waves", conflicts_with_all = ["success", "soak"])]
    by_hand: bool,
    /// Failure rate at which the rollout stops …
    #[arg(long, value_name = "PERCENT", help_heading = "Limits", value_parser = percent)]
    stop: Option<f64>,
    /// … after at least this many results
    #[arg(long, value_name = "N", help_heading = "Limits", default_value_t = 10, requires = "stop")]
    minimum: u32,
    /// Largest number of devices that update at the same time
    #[arg(long, value_name = "N", help_heading = "Limits")]
    concurrency: Option<u32>,
    /// Largest number of devices that start in a minute
    #[arg(long, value_name = "N", help_heading = "Limits")]
    rate: Option<u32>,
    /// The hours in which devices start: '22:00-06:00', or with an offset '22:00-06:00 +02:00'
    #[arg(long, value_name = "HOURS", help_heading = "Limits")]
    window: Option<String>,
    /// Longest time of an attempt
    #[arg(long, value_name = "SPAN", help_heading = "Limits")]
    timeout: Option<Span>,
    /// Largest number of attempts of a device
    #[arg(long, value_name = "N", help_heading = "Limits")]
    attempts: Option<u32>,
    /// Not before: in 2h, or at 2027-01-31T22:00:00+01:00 (RFC 3339); without an offset, this machine's time
    #[arg(long, value_name = "WHEN", help_heading = "When", value_parser = parse_moment)]
    start_at: Option<Timestamp>,
    /// Time after which devices that have not begun are given up
    #[arg(long, value_name = "WHEN", help_heading = "When", value_parser = parse_moment)]
    end_at: Option<Timestamp>,
    /// Never complete automatically: devices that join later are updated too
    #[arg(long, help_heading = "When")]
    continuous: bool,
    /// Priority; of several rollouts for a device, the highest wins
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    /// Offer also what failed before on a device, and other products. A server with the key signs a signed release again for that
    #[arg(long)]
    force: bool,
    /// Create it without starting it
    #[arg(long)]
    draft: bool,
    /// Only show which devices it would reach
    #[arg(long)]
    dry_run: bool,
    /// Watch it until it is over
    #[arg(long, conflicts_with_all = ["draft", "dry_run"])]
    watch: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    server: ServerArgs,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a share is a number from 0 to 100".into()),
    }
}

fn wave_size(text: &str) -> Result<Value, String> {
    match text.strip_suffix('%') {
        Some(share) => Ok(json!({"percent": percent(share)?})),
        None => match text.parse::<u32>() {
            Ok(devices) if devices > 0 => Ok(json!({"devices": devices})),
            _ => Err("a wave is a number of devices, or a share such as 10%".into()),
        },
    }
}

impl Create {
    pub(super) async fn run(&self, output: Output) -> anyhow::Result<Outcome> {
        let client = self.server.client()?;
        let body = self.body(&client).await?;
        if self.dry_run {
            return preview(&client, body, output).await;
        }
        let rollout = create(&client, body).await?;
        if self.watch {
            let id = rollout["id"].as_u64().unwrap_or_default();
            return follow(&client, id, self.patience, output).await;
        }
        tell(&rollout, output);
        if !output.json {
            times(&rollout).iter().for_each(|line| ui::line(line));
        }
        Ok(Outcome::Good)
    }

    async fn body(&self, client: &Client) -> anyhow::Result<Value> {
        let mut target = json!({"tags": self.tags, "versions": self.versions});
        if !self.device.is_empty() {
            target["devices"] = json!(self.device);
        }
        if let Some(percent) = self.percent {
            target["percent"] = json!(percent);
        }
        let (release, name) = match &self.release {
            Some(text) => {
                let release = find(client, text, Yanked::Refused).await?;
                if !self.any_product {
                    target["product"] = release["product"].clone();
                    target["chips"] = json!([release["chip"]]);
                }
                (release["id"].clone(), title(&release))
            }
            None => (Value::Null, format!("undo of {}", self.undo.unwrap_or_default())),
        };
        let gate = match self.by_hand {
            true => json!("hand"),
            false => json!({"auto": {"success": self.success, "soak": self.soak}}),
        };
        let waves: Vec<Value> = self.wave.iter().map(|size| json!({"size": size, "gate": gate})).collect();
        let mut body = json!({
            "name": self.name.as_ref().unwrap_or(&name), "release": release, "undo": self.undo, "target": target,
            "waves": waves, "priority": self.priority, "start_at": self.start_at, "end_at": self.end_at,
            "continuous": self.continuous, "force": self.force, "draft": self.draft,
            "limits": {"concurrency": self.concurrency, "starts_per_minute": self.rate, "window": self.window},
        });
        if let Some(failures) = self.stop {
            body["stop"] = json!({"failures": failures, "minimum": self.minimum});
        }
        let mut attempts = json!({});
        if let Some(timeout) = self.timeout {
            attempts["timeout"] = json!(timeout);
        }
        if let Some(count) = self.attempts {
            attempts["count"] = json!(count);
        }
        body["attempts"] = attempts;
        Ok(body)
    }
}

/// Tells who would be hit. A rollout that would not be made ends with the words that making it would have.
async fn preview(client: &Client, body: Value, output: Output) -> anyhow::Result<Outcome> {
    let found: Value = client.post("/rollouts/preview", body.clone()).await?;
    if let Some(why) = nobody(client, &body, &found).await? {
        bail!(why);
    }
    let problem = found["problem"]["detail"].as_str();
    if output.json {
        ui::line(&found.to_string());
        return Ok(if problem.is_none() { Outcome::Good } else { Outcome::Bad });
    }
    let number = |name: &str| found[name].as_u64().unwrap_or(0);
    if found["release"].is_object() {
        ui::line(&format!("{} ({})", title(&found["release"]), marks(&found["release"])));
    }
    ui::line(&format!(
        "{}: {} running it already, {} reachable now, {} updating for another rollout",
        ui::many(number("devices"), "device"),
        number("current"),
        number("reachable"),
        number("busy")
    ));
    for (index, count) in found["waves"].as_array().into_iter().flatten().enumerate() {
        let count = ui::many(count.as_u64().unwrap_or(0), "device");
        ui::line(&format!("  wave {}: {count}", index + 1));
    }
    let some: Vec<String> =
        found["some"].as_array().into_iter().flatten().filter_map(Value::as_str).map(ui::clean).collect();
    if !some.is_empty() {
        ui::line(&format!("  such as {}", some.join(", ")));
    }
    for refusal in found["refusals"].as_array().into_iter().flatten() {
        ui::line(&format!("  {}", style(refused(refusal)).yellow()));
    }
    match problem {
        Some(why) => bail!("{}", ui::clean(why)),
        None => Ok(Outcome::Good),
    }
}

/// Devices that are known to refuse what a rollout brings: `2 devices will refuse it (wrong_chip): … : lamp-1, lamp-2`.
fn refused(refusal: &Value) -> String {
    let text = |value: &Value| ui::clean(value.as_str().unwrap_or_default());
    let devices = refusal["devices"].as_u64().unwrap_or(0);
    let some: Vec<String> = refusal["some"].as_array().into_iter().flatten().map(text).collect();
    let more = if devices > some.len() as u64 { ", …" } else { "" };
    format!(
        "{} will refuse it ({}): {}: {}{more}",
        ui::many(devices, "device"),
        text(&refusal["code"]),
        text(&refusal["why"]),
        some.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_waves() {
        assert_eq!(wave_size("5"), Ok(json!({"devices": 5})));
        assert_eq!(wave_size("10%"), Ok(json!({"percent": 10.0})));
        for bad in ["", "0", "x", "101%", "-1"] {
            assert!(wave_size(bad).is_err(), "{bad}");
        }
    }
}
