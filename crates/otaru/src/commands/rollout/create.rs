//! `otaru rollout create`: makes a rollout, or tells which devices it would reach.

use std::str::FromStr;

use anyhow::{anyhow, bail};
use console::style;
use otaru_api::{Answer, KnownRefusal, NewAttempts, NewRollout, Preview, Timestamp};
use otaru_rollout::{
    AutoGate, DeviceId, Gate, Limits, Percent, Span, StopRule, Target, TextError, Wave, WaveSize,
};

use crate::client::args::ServerArgs;
use crate::client::http::Client;
use crate::client::releases::{Yanked, find, title, title_and_marks};
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
    percent: Option<Percent>,
    /// Include devices of other products and chips
    #[arg(long, help_heading = "Which devices")]
    any_product: bool,
    /// A wave before the rest: a number of devices, or 10%; may be given several times
    #[arg(long, value_name = "SIZE", help_heading = "Waves", value_parser = wave_size)]
    wave: Vec<WaveSize>,
    /// Success rate at which the next wave opens automatically
    #[arg(long, value_name = "PERCENT", help_heading = "Waves", default_value = "95", value_parser = percent)]
    success: Percent,
    /// Soak time: how long the success rate must hold
    #[arg(long, value_name = "SPAN", help_heading = "Waves", default_value = "0s")]
    soak: Span,
    /// Open waves manually instead, with `otaru rollout advance`
    #[arg(long, help_heading = "Waves", conflicts_with_all = ["success", "soak"])]
    by_hand: bool,
    /// Failure rate at which the rollout stops …
    #[arg(long, value_name = "PERCENT", help_heading = "Limits", value_parser = percent)]
    stop: Option<Percent>,
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

fn percent(text: &str) -> Result<Percent, String> {
    text.parse().map_err(|_| "a share is a number from 0 to 100".into())
}

fn wave_size(text: &str) -> Result<WaveSize, String> {
    match text.strip_suffix('%') {
        Some(share) => Ok(WaveSize::Percent(percent(share)?)),
        None => match text.parse::<u32>() {
            Ok(devices) if devices > 0 => Ok(WaveSize::Devices(devices)),
            _ => Err("a wave is a number of devices, or a share such as 10%".into()),
        },
    }
}

impl Create {
    pub(super) async fn run(&self, output: Output) -> anyhow::Result<Outcome> {
        let client = self.server.client()?;
        let new = self.order(&client).await?;
        if self.dry_run {
            return preview(&client, &new, output).await;
        }
        let rollout = create(&client, &new).await?;
        if self.watch {
            return follow(&client, rollout.value.id, self.patience, output).await;
        }
        tell(&rollout, output);
        if !output.json {
            times(&rollout.value).iter().for_each(|line| ui::line(line));
        }
        Ok(Outcome::Good)
    }

    /// Returns the rollout as it is asked for.
    ///
    /// # Errors
    /// When there is no such release, or a text cannot be read; a place in it is pointed at.
    async fn order(&self, client: &Client) -> anyhow::Result<NewRollout> {
        let mut target = Target {
            tags: self.tags.as_deref().map(|text| pointed("--tags", text)).transpose()?,
            versions: self.versions.as_deref().map(|text| pointed("--versions", text)).transpose()?,
            percent: self.percent.unwrap_or(Percent::ALL),
            ..Target::default()
        };
        if !self.device.is_empty() {
            target.devices = Some(self.device.iter().map(|id| DeviceId::from(id.as_str())).collect());
        }
        let (release, name) = match &self.release {
            Some(text) => {
                let release = find(client, text, Yanked::Refused).await?.value;
                if !self.any_product {
                    target.product = Some(release.product.clone());
                    target.chips = [release.chip.clone()].into();
                }
                (Some(release.id), title(&release))
            }
            None => (None, format!("undo of {}", self.undo.unwrap_or_default())),
        };
        let gate = match self.by_hand {
            true => Gate::Hand,
            false => {
                Gate::Auto(AutoGate { success: self.success, soak: self.soak, patience: Span::default() })
            }
        };
        Ok(NewRollout {
            name: self.name.clone().unwrap_or(name),
            release,
            undo: self.undo,
            target,
            waves: self.wave.iter().map(|size| Wave { size: *size, gate }).collect(),
            limits: Limits {
                concurrency: self.concurrency,
                starts_per_minute: self.rate,
                window: self.window.as_deref().map(str::parse).transpose()?,
            },
            stop: self.stop.map(|failures| StopRule { failures, minimum: self.minimum }),
            attempts: NewAttempts { timeout: self.timeout, count: self.attempts, ..NewAttempts::default() },
            priority: self.priority,
            salt: String::new(),
            start_at: self.start_at,
            end_at: self.end_at,
            continuous: self.continuous,
            force: self.force,
            draft: self.draft,
        })
    }
}

/// Reads the text of an option.
fn pointed<T: FromStr<Err = TextError>>(option: &str, text: &str) -> anyhow::Result<T> {
    text.parse().map_err(|error: TextError| anyhow!("{option} {}", error.pointed()))
}

/// Tells who would be hit. A rollout that would not be made ends with the words that making it would have.
async fn preview(client: &Client, new: &NewRollout, output: Output) -> anyhow::Result<Outcome> {
    let Answer { value: found, json } = client.post::<Answer<Preview>>("/rollouts/preview", new).await?;
    if let Some(why) = nobody(client, new, &found).await? {
        bail!(why);
    }
    if output.json {
        ui::line(&json.to_string());
        return Ok(if found.problem.is_none() { Outcome::Good } else { Outcome::Bad });
    }
    if let Some(release) = &found.release {
        ui::line(&title_and_marks(release));
    }
    ui::line(&format!(
        "{}: {} running it already, {} reachable now, {} updating for another rollout",
        ui::many(found.devices, "device"),
        found.current,
        found.reachable,
        found.busy
    ));
    for (index, count) in found.waves.iter().enumerate() {
        ui::line(&format!("  wave {}: {}", index + 1, ui::many(*count, "device")));
    }
    if !found.some.is_empty() {
        ui::line(&format!("  such as {}", ui::clean(&found.some.join(", "))));
    }
    for refusal in &found.refusals {
        ui::line(&format!("  {}", style(refused(refusal)).yellow()));
    }
    match found.problem {
        Some(problem) => bail!("{}", ui::clean(&problem.detail)),
        None => Ok(Outcome::Good),
    }
}

/// Devices that are known to refuse what a rollout brings: `2 devices will refuse it (wrong_chip): … : lamp-1, lamp-2`.
fn refused(refusal: &KnownRefusal) -> String {
    let KnownRefusal { code, why, devices, some } = refusal;
    let more = if *devices > some.len() as u64 { ", …" } else { "" };
    let count = ui::many(*devices, "device");
    ui::clean(&format!("{count} will refuse it ({code}): {why}: {}{more}", some.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_waves() {
        assert_eq!(wave_size("5"), Ok(WaveSize::Devices(5)));
        assert_eq!(wave_size("10%"), Ok(WaveSize::Percent(Percent::whole(10))));
        for bad in ["", "0", "x", "101%", "-1"] {
            assert!(wave_size(bad).is_err(), "{bad}");
        }
    }
}
