//! `otaru rollout`: brings a release to many devices, a few at a time.

use std::time::Duration;

use anyhow::bail;
use console::style;
use serde_json::{Value, json};

use crate::client::answer::{moment, since};
use crate::client::args::ServerArgs;
use crate::client::http::Client;
use crate::client::releases::{Yanked, find, marks, title};
use crate::client::search::{Condition, misspelt, no_device, unknown_devices};
use crate::client::stream::Told;
use crate::moment::{ahead, local, parse_moment, parse_span};
use crate::output::{Outcome, Output};
use crate::percent::escape;
use crate::ui::bar::bar;
use crate::ui::grid::{grid, width};
use crate::ui::live::Live;
use crate::{signals, ui};
use otaru_server::timestamp::Timestamp;

const EXAMPLES: &str = "\
Examples:
  otaru rollout create lamp@1.1.0 --watch
  otaru rollout create lamp@1.1.0 --tags 'site=berlin' --wave 5 --wave 10% --soak 1h --stop 5
  otaru rollout create 17 --dry-run                     which devices it would reach
  otaru rollout show 3
  otaru rollout pause 3
  otaru rollout create --undo 3                         back to what they ran before

docs/rollouts.md says how waves, stops and retries work.";

/// Roll releases out
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    /// Make a rollout, and start it
    Create(Box<Create>),
    /// List rollouts
    List {
        /// In this phase only, such as `running`
        #[arg(long)]
        phase: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Show a rollout: its waves, and why devices failed
    Show {
        /// Its id
        id: u64,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Watch a rollout until it is over; the exit code tells whether devices failed
    Watch {
        /// Its id
        id: u64,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Start a draft
    Start(One),
    /// Start no more devices until it is resumed
    Pause(One),
    /// Go on after a pause or a stop
    Resume(One),
    /// Open the next wave now
    Advance(One),
    /// Start no more devices, and complete when what is under way has ended
    Finish(One),
    /// Abort it: start no more devices, for good
    Abort {
        #[command(flatten)]
        one: One,
        /// Also cancel what is under way, as far as devices still can
        #[arg(long)]
        cancel: bool,
    },
    /// Let a device that failed try again
    Retry {
        #[command(flatten)]
        one: One,
        /// The device
        device: String,
        /// Even if it rolled this image back
        #[arg(long)]
        force: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct One {
    /// The rollout's id
    id: u64,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Create {
    /// The release: its id, or PRODUCT@VERSION
    #[arg(required_unless_present = "undo")]
    release: Option<String>,
    /// Instead, bring devices back to what they ran before this rollout
    #[arg(long, value_name = "ROLLOUT", conflicts_with = "release")]
    undo: Option<u64>,
    /// What people call it; otherwise the release's name
    #[arg(long)]
    name: Option<String>,
    /// For devices whose tags fit this expression
    #[arg(long, value_name = "EXPRESSION", help_heading = "Which devices")]
    tags: Option<String>,
    /// For devices that run a version in this range
    #[arg(long, value_name = "RANGE", help_heading = "Which devices")]
    versions: Option<String>,
    /// For this device; may be given several times
    #[arg(long, value_name = "ID", help_heading = "Which devices")]
    device: Vec<String>,
    /// For this share of them
    #[arg(long, value_name = "PERCENT", help_heading = "Which devices", value_parser = percent)]
    percent: Option<f64>,
    /// Also for devices of other products and chips
    #[arg(long, help_heading = "Which devices")]
    any_product: bool,
    /// A wave before the rest: a number of devices, or 10%; may be given several times
    #[arg(long, value_name = "SIZE", help_heading = "Waves", value_parser = wave_size)]
    wave: Vec<Value>,
    /// Open the next wave by itself when this share of verdicts is good
    #[arg(long, value_name = "PERCENT", help_heading = "Waves", default_value = "95", value_parser = percent)]
    success: f64,
    /// … and has been so for this long
    #[arg(long, value_name = "SPAN", help_heading = "Waves", default_value = "0s", value_parser = parse_span)]
    soak: u64,
    /// Open waves by hand instead: `otaru rollout advance`
    #[arg(long, help_heading = "Waves", conflicts_with_all = ["success", "soak"])]
    by_hand: bool,
    /// Stop when this share of verdicts are failures …
    #[arg(long, value_name = "PERCENT", help_heading = "Limits", value_parser = percent)]
    stop: Option<f64>,
    /// … of at least so many
    #[arg(long, value_name = "N", help_heading = "Limits", default_value_t = 10, requires = "stop")]
    minimum: u32,
    /// The most devices that update at the same time
    #[arg(long, value_name = "N", help_heading = "Limits")]
    concurrency: Option<u32>,
    /// The most devices that start in a minute
    #[arg(long, value_name = "N", help_heading = "Limits")]
    rate: Option<u32>,
    /// The hours in which devices start: '22:00-06:00', or with an offset '22:00-06:00 +02:00'
    #[arg(long, value_name = "HOURS", help_heading = "Limits")]
    window: Option<String>,
    /// How long a device may take for an attempt
    #[arg(long, value_name = "SPAN", help_heading = "Limits", value_parser = parse_span)]
    timeout: Option<u64>,
    /// How many attempts a device has
    #[arg(long, value_name = "N", help_heading = "Limits")]
    attempts: Option<u32>,
    /// Not before: in 2h, or at 2027-01-31T22:00:00+01:00 (RFC 3339); without an offset, this machine's time
    #[arg(long, value_name = "WHEN", help_heading = "When", value_parser = parse_moment)]
    start_at: Option<Timestamp>,
    /// Give up devices that have not begun by then
    #[arg(long, value_name = "WHEN", help_heading = "When", value_parser = parse_moment)]
    end_at: Option<Timestamp>,
    /// Never complete by itself: whoever joins later gets it too
    #[arg(long, help_heading = "When")]
    continuous: bool,
    /// Of several rollouts for a device, the highest has it
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    /// Also what failed before on a device, and other products. A server with the key signs a signed release again for that
    #[arg(long)]
    force: bool,
    /// Do not start it yet
    #[arg(long)]
    draft: bool,
    /// Only tell which devices it would reach
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

/// How a watched rollout is waited for.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub(crate) struct Patience {
    /// While watching, end with exit code 1 when the rollout waits for a person: it is held, paused or a draft
    #[arg(long)]
    fail_on_hold: bool,
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

pub(crate) async fn run(command: Command, output: Output) -> anyhow::Result<Outcome> {
    let (one, what) = match command {
        Command::Create(create) => return create.run(output).await,
        Command::List { phase, server } => {
            list(&server.client()?, phase.as_deref(), output).await?;
            return Ok(Outcome::Good);
        }
        Command::Show { id, server } => {
            let client = server.client()?;
            let rollout: Value = client.get(&format!("/rollouts/{id}")).await?;
            show(&client, &rollout, output).await?;
            return Ok(Outcome::Good);
        }
        Command::Watch { id, patience, server } => {
            return follow(&server.client()?, id, patience, output).await;
        }
        Command::Start(one) => (one, "start".to_owned()),
        Command::Pause(one) => (one, "pause".to_owned()),
        Command::Resume(one) => (one, "resume".to_owned()),
        Command::Advance(one) => (one, "advance".to_owned()),
        Command::Finish(one) => (one, "finish".to_owned()),
        Command::Abort { one, cancel } => (one, format!("abort?cancel={cancel}")),
        Command::Retry { one, device, force } => {
            let path = format!("/rollouts/{}/deployments/{}/retry", one.id, escape(&device));
            let client = one.server.client()?;
            match client.post::<Value>(&path, json!({"force": force})).await {
                Ok(rollout) => tell(&rollout, output),
                Err(error) => return Err(misspelt(&client, &[device], error).await),
            }
            return Ok(Outcome::Good);
        }
    };
    let path = format!("/rollouts/{}/{what}", one.id);
    let rollout: Value = one.server.client()?.post(&path, json!({})).await?;
    tell(&rollout, output);
    Ok(Outcome::Good)
}

fn tell(rollout: &Value, output: Output) {
    if output.json {
        ui::line(&rollout.to_string());
    } else {
        ui::line(&headline(rollout));
    }
}

impl Create {
    async fn run(&self, output: Output) -> anyhow::Result<Outcome> {
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

/// Makes a rollout, unless it would be for no device. One that is for devices which are yet to come is made all the same, with a word
/// about it: a draft, one that starts later, one that is continuous.
pub(super) async fn create(client: &Client, body: Value) -> anyhow::Result<Value> {
    let found: Value = client.post("/rollouts/preview", body.clone()).await?;
    if let Some(why) = nobody(client, &body, &found).await? {
        match body["continuous"] == true || body["draft"] == true || !body["start_at"].is_null() {
            true => ui::warn(&why),
            false => {
                bail!("{why}\nno rollout was made; with --continuous one waits for devices that come later")
            }
        }
    }
    client.post("/rollouts", body).await
}

/// Why a rollout is for no device, or not for all that it names; `None` where it is.
async fn nobody(client: &Client, body: &Value, found: &Value) -> anyhow::Result<Option<String>> {
    let target = &body["target"];
    let named: Vec<String> = target["devices"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if let Some(unknown) = unknown_devices(client, &named).await?.filter(|_| !named.is_empty()) {
        return Ok(Some(unknown));
    }
    if found["devices"].as_u64().unwrap_or(0) > 0 {
        return Ok(None);
    }
    let text = |name: &str| target[name].as_str().map(str::to_owned);
    let chip = target["chips"][0].as_str().map(str::to_owned);
    let conditions: Vec<Condition> = [
        ("tags", text("tags")),
        ("versions", text("versions")),
        ("product", text("product")),
        ("chip", chip),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    if !body["undo"].is_null() {
        return Ok(Some(format!(
            "no device that fits has anything to go back to from rollout {}",
            body["undo"]
        )));
    }
    let why = no_device(client, &conditions).await?;
    Ok(Some(match (target["percent"].as_f64(), named.is_empty()) {
        (Some(percent), _) if conditions.is_empty() => format!("a share of {percent}% comes to no device"),
        (_, false) => format!("none of the devices named fits; {why}"),
        _ => why,
    }))
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

/// Deployments by where they stand, of one wave or all.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    total: u64,
    ready: u64,
    good: u64,
    bad: u64,
    active: u64,
    retrying: u64,
    waiting: u64,
    going_back: u64,
}

impl Counts {
    fn of(tally: &Value) -> Self {
        let number = |name: &str| tally[name].as_u64().unwrap_or(0);
        let total = tally.as_object().map_or(0, |fields| fields.values().filter_map(Value::as_u64).sum());
        Self {
            total,
            ready: number("ready"),
            good: number("succeeded") + number("current"),
            bad: number("failed") + number("rolled_back") + number("refused") + number("timed_out"),
            active: number("active"),
            retrying: number("retrying"),
            waiting: number("waiting"),
            going_back: number("keeps_going_back"),
        }
    }

    fn all(rollout: &Value) -> Self {
        rollout["tallies"].as_array().into_iter().flatten().map(Self::of).fold(
            Self::default(),
            |sum, more| Self {
                total: sum.total + more.total,
                ready: sum.ready + more.ready,
                good: sum.good + more.good,
                bad: sum.bad + more.bad,
                active: sum.active + more.active,
                retrying: sum.retrying + more.retrying,
                waiting: sum.waiting + more.waiting,
                going_back: sum.going_back + more.going_back,
            },
        )
    }

    /// Those that have not ended.
    fn open(self) -> u64 {
        self.ready + self.active + self.retrying + self.waiting
    }

    fn words(self) -> String {
        if self.total == 0 {
            return "no devices yet".into();
        }
        let mut parts = vec![format!("{} of {} done", self.good, self.total)];
        let others = [
            (self.active, "updating"),
            (self.retrying, "unreachable, will be tried again"),
            (self.bad, "failed"),
            (self.going_back, "keeps going back"),
            (self.waiting, "away"),
        ];
        for (count, word) in others {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        parts.join(", ")
    }
}

fn phase(rollout: &Value) -> String {
    let phase = rollout["phase"].as_str().unwrap_or("?");
    let text = style(ui::clean(phase));
    match phase {
        "completed" => text.green(),
        "stopped" | "aborted" => text.red(),
        "paused" | "draft" | "scheduled" => text.yellow(),
        _ => text.cyan(),
    }
    .to_string()
}

fn headline(rollout: &Value) -> String {
    let name = ui::clean(rollout["name"].as_str().unwrap_or_default());
    format!("rollout {} \"{name}\"  {}  {}", rollout["id"], phase(rollout), Counts::all(rollout).words())
}

/// Words for a rollout that too many devices hold, as they try the image again.
const RETRIES: &str =
    "held: too many devices did not reach the broker with the new image; they try it again by themselves";

/// What a rollout waits for.
#[derive(Debug, PartialEq, Eq)]
struct Wait {
    /// In words, with the command that lets it go on.
    text: String,
    /// Whether it goes on only when somebody does something.
    by_hand: bool,
}

impl Wait {
    fn by_itself(text: impl Into<String>) -> Self {
        Self { text: text.into(), by_hand: false }
    }

    fn by_hand(text: String) -> Self {
        Self { text, by_hand: true }
    }

    /// What this rollout waits for, other than devices that update.
    fn of(rollout: &Value) -> Option<Self> {
        let id = &rollout["id"];
        match rollout["phase"].as_str().unwrap_or_default() {
            "draft" => return Some(Self::by_hand(format!("a draft: `otaru rollout start {id}` starts it"))),
            "paused" => return Some(Self::by_hand(format!("paused: `otaru rollout resume {id}` goes on"))),
            "scheduled" => {
                let at = moment(&rollout["spec"]["start_at"]).map_or_else(String::new, ahead);
                return Some(Self::by_itself(format!("it starts {at}")));
            }
            "running" => {}
            _ => return None,
        }
        if rollout["retries_hold"] == true {
            return Some(Self::by_itself(RETRIES));
        }
        let (gate, wave) = (&rollout["gate"], rollout["wave"].as_u64().unwrap_or(0) + 1);
        if gate["soaking"].is_string() {
            let since = since(&gate["soaking"]);
            return Some(Self::by_itself(format!("wave {wave} is good; it soaks since {since}")));
        }
        let open = format!("`otaru rollout advance {id}` opens the next");
        match gate["held"].as_str() {
            Some("hand") => return Some(Self::by_hand(format!("wave {wave} is done: {open}"))),
            Some("success_rate") => {
                return Some(Self::by_hand(format!(
                    "held: too few of wave {wave} succeeded; {open} all the same, `otaru rollout abort {id}` gives up"
                )));
            }
            Some("no_evidence") => {
                return Some(Self::by_hand(format!(
                    "held: no device of wave {wave} has shown that the release is good; {open} all the same"
                )));
            }
            Some("unreachable") => return Some(Self::by_itself(RETRIES)),
            Some(other) => return Some(Self::by_hand(format!("held: {}", ui::clean(other)))),
            None => {}
        }
        let counts = Counts::all(rollout);
        let idle = counts.active == 0 && counts.retrying == 0;
        (idle && counts.waiting > 0 && counts.waiting == counts.open()).then(|| {
            let away = ui::many(counts.waiting, "device");
            Self::by_itself(format!(
                "{away} away: they get it when they come back; `otaru rollout finish {id}` does not wait for them"
            ))
        })
    }
}

fn screen(rollout: &Value) -> Vec<String> {
    let mut lines = vec![headline(rollout)];
    let release = &rollout["release"];
    lines.extend(release.is_object().then(|| {
        let brings = format!("  brings {} ({})", title(release), marks(release));
        style(brings).dim().to_string()
    }));
    let open = rollout["wave"].as_u64().unwrap_or(0);
    for (index, tally) in (0_u64..).zip(rollout["tallies"].as_array().into_iter().flatten()) {
        let counts = Counts::of(tally);
        let percent = u8::try_from((counts.good + counts.bad) * 100 / counts.total.max(1)).unwrap_or(100);
        let mark = if index <= open { " " } else { "·" };
        lines.push(format!("  {mark} wave {}  {}  {}", index + 1, bar(percent), counts.words()));
    }
    lines.extend(Wait::of(rollout).map(|wait| format!("    {}", style(wait.text).yellow())));
    lines.extend(end_line(rollout));
    lines.extend(stop_line(rollout).map(|text| format!("    {}", style(text).red())));
    for (code, count) in rollout["reasons"].as_object().into_iter().flatten() {
        lines.push(format!("    {}", style(format!("{count} failed: {}", ui::clean(code))).red()));
    }
    lines
}

/// When a rollout that was just made begins and ends, if it has such times.
fn times(rollout: &Value) -> Vec<String> {
    let scheduled = rollout["phase"] == "scheduled";
    let start = Wait::of(rollout).filter(|_| scheduled).map(|wait| format!("    {}", wait.text));
    start.into_iter().chain(end_line(rollout)).collect()
}

/// By when a rollout gives up devices that have not begun.
fn end_line(rollout: &Value) -> Option<String> {
    let open = !matches!(rollout["phase"].as_str(), Some("finishing" | "completed" | "aborted"));
    let end = moment(&rollout["spec"]["end_at"]).filter(|_| open)?;
    Some(format!("    devices that have not begun by {} are given up", local(end)))
}

/// Of a rollout that stopped by itself the numbers that decided, beside the rule.
fn stop_line(rollout: &Value) -> Option<String> {
    let (broke, rule) = (rollout["broke"].as_object()?, rollout["spec"]["stop"].as_object()?);
    let number = |name: &str| broke.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (bad, all, id) = (number("bad"), number("bad") + number("good"), &rollout["id"]);
    Some(format!(
        "stopped by itself: {} among {}, and the rule is {}% of at least {}; `otaru rollout resume {id}` goes on, `abort` gives up",
        ui::many(bad, "failure"),
        ui::many(all, "result"),
        rule.get("failures")?.as_f64()?,
        rule.get("minimum")?,
    ))
}

async fn show(client: &Client, rollout: &Value, output: Output) -> anyhow::Result<()> {
    if output.json {
        ui::line(&rollout.to_string());
        return Ok(());
    }
    screen(rollout).iter().for_each(|line| ui::line(line));
    let failed = failures(client, rollout).await?;
    failed.iter().for_each(|line| ui::line(line));
    Ok(())
}

/// Some devices that failed, each with its reason.
async fn failures(client: &Client, rollout: &Value) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for standing in ["rolled_back", "failed", "refused", "timed_out", "keeps_going_back"] {
        let path = format!("/rollouts/{}/deployments?standing={standing}", rollout["id"]);
        for deployment in client.list::<Value>(&path, 5).await? {
            let text = |name: &str| ui::clean(deployment[name].as_str().unwrap_or_default());
            let why = match text("error_code").as_str() {
                "" => String::new(),
                code => format!("  {code}: {}", text("error_detail")),
            };
            lines.push(format!("    {}  {}{why}", text("device"), standing.replace('_', " ")));
        }
    }
    Ok(lines)
}

async fn list(client: &Client, phase_of: Option<&str>, output: Output) -> anyhow::Result<()> {
    let path = match phase_of {
        Some(phase) => format!("/rollouts?phase={}", escape(phase)),
        None => "/rollouts".to_owned(),
    };
    let rollouts: Vec<Value> = client.list(&path, 200).await?;
    if output.json {
        rollouts.iter().for_each(|rollout| ui::line(&rollout.to_string()));
        return Ok(());
    }
    if let Some(phase) = phase_of.filter(|_| rollouts.is_empty()) {
        bail!("no rollout is {}; `otaru rollout list` shows all", ui::clean(phase));
    }
    if rollouts.is_empty() {
        ui::line("No rollouts yet; `otaru rollout create RELEASE` makes one.");
        return Ok(());
    }
    let rows = rollouts.iter().map(|rollout| {
        [
            rollout["id"].to_string(),
            ui::clean(rollout["name"].as_str().unwrap_or_default()),
            phase(rollout),
            Counts::all(rollout).words(),
            since(&rollout["updated_at"]),
        ]
    });
    grid(["ID", "NAME", "PHASE", "DEVICES", "CHANGED"], rows.collect(), width())
        .iter()
        .for_each(|line| ui::line(line));
    Ok(())
}

/// Longest time between two looks at a rollout. A proxy may hold events back, and nobody can tell that from quiet.
const LOOK: Duration = Duration::from_secs(3);

/// Watches a rollout until it is over, or stopped.
///
/// Events only tell when to look; what is there is always read from the rollout itself.
pub(crate) async fn follow(
    client: &Client,
    id: u64,
    patience: Patience,
    output: Output,
) -> anyhow::Result<Outcome> {
    let path = format!("/rollouts/{id}");
    let mut told = client.events("rollout,deployment");
    let mut live = Live::new(output);
    let (stop, mut last) = (signals::stop(), (String::new(), None));
    tokio::pin!(stop);
    let mut rollout: Value = client.get(&path).await?;
    loop {
        let wait = Wait::of(&rollout);
        let now = (headline(&rollout), wait.as_ref().map(|wait| wait.text.clone()));
        if let Some(live) = &mut live {
            live.draw(&screen(&rollout));
        } else if now != last {
            if output.json || now.0 != last.0 {
                tell(&rollout, output);
            }
            if let Some(text) = now.1.as_ref().filter(|text| !output.json && Some(*text) != last.1.as_ref()) {
                ui::line(&format!("  {text}"));
            }
        }
        last = now;
        if patience.fail_on_hold
            && let Some(wait) = wait.filter(|wait| wait.by_hand)
        {
            drop(live);
            bail!("it waits for a person: {}", wait.text);
        }
        if let Some(outcome) = over(&rollout) {
            let drawn = live.take().is_some();
            if !output.json {
                if let Some(text) = stop_line(&rollout).filter(|_| !drawn) {
                    ui::line(&format!("    {text}"));
                }
                failures(client, &rollout).await?.iter().for_each(|line| ui::line(line));
            }
            return Ok(outcome);
        }
        tokio::select! {
            () = &mut stop => return Ok(Outcome::Good),
            _ = tokio::time::timeout(LOOK, changed(&mut told, id)) => {}
        }
        // Many things happen at once; a look every so often shows them all.
        tokio::time::sleep(Duration::from_millis(150)).await;
        rollout = tokio::select! {
            () = &mut stop => return Ok(Outcome::Good),
            rollout = client.get_again(&path) => rollout?,
        };
    }
}

/// Waits until something of this rollout has changed, or may have: events that are lost are as good as news.
async fn changed(told: &mut tokio::sync::mpsc::Receiver<Told>, id: u64) {
    loop {
        match told.recv().await {
            Some(Told::Event(event)) if event["rollout"] != id && event["id"] != id => {}
            Some(_) => break,
            None => std::future::pending().await,
        }
    }
    // What else is there already is told by the same look.
    while told.try_recv().is_ok() {}
}

/// How it ended, if it has, or waits for a person.
fn over(rollout: &Value) -> Option<Outcome> {
    let counts = Counts::all(rollout);
    let outcome = if counts.bad == 0 { Outcome::Good } else { Outcome::Bad };
    match rollout["phase"].as_str() {
        Some("completed") => Some(outcome),
        Some("aborted") if counts.active == 0 => Some(Outcome::Bad),
        Some("stopped") if counts.active == 0 => Some(Outcome::Bad),
        _ => None,
    }
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

    fn rollout(phase: &str, gate: Value, tally: Value) -> Value {
        json!({"id": 3, "name": "lamp", "phase": phase, "wave": 0, "gate": gate, "tallies": [tally],
               "spec": {"start_at": null}})
    }

    #[test]
    fn what_it_waits_for_is_told_with_the_command_that_goes_on() {
        let done = json!({"succeeded": 2, "ready": 0});
        for (phase, gate, wanted) in [
            ("draft", json!("working"), "`otaru rollout start 3`"),
            ("paused", json!("working"), "`otaru rollout resume 3`"),
            ("running", json!({"held": "hand"}), "wave 1 is done: `otaru rollout advance 3`"),
            ("running", json!({"held": "success_rate"}), "`otaru rollout advance 3`"),
            ("running", json!({"held": "no_evidence"}), "`otaru rollout advance 3`"),
        ] {
            let wait = Wait::of(&rollout(phase, gate, done.clone())).unwrap();
            assert!(wait.by_hand && wait.text.contains(wanted), "{wait:?}");
        }
        let wait = Wait::of(&rollout("running", json!({"held": "unreachable"}), done.clone())).unwrap();
        assert!(!wait.by_hand, "{wait:?}");
        let away = json!({"succeeded": 2, "waiting": 3});
        let wait = Wait::of(&rollout("running", json!("working"), away)).unwrap();
        assert!(wait.text.starts_with("3 devices away: ") && !wait.by_hand, "{wait:?}");
        assert_eq!(Wait::of(&rollout("running", json!("working"), json!({"waiting": 3, "active": 1}))), None);
        assert_eq!(Wait::of(&rollout("completed", json!("working"), done)), None);
    }

    #[test]
    fn a_stop_tells_the_numbers_that_decided() {
        let mut stopped = rollout("stopped", json!("working"), json!({"failed": 3, "succeeded": 98}));
        stopped["broke"] = json!({"good": 17, "bad": 3});
        stopped["spec"]["stop"] = json!({"failures": 5.0, "minimum": 20});
        let line = stop_line(&stopped).unwrap();
        assert!(line.contains("3 failures among 20 results, and the rule is 5% of at least 20"), "{line}");
    }

    #[test]
    fn times_are_told_by_this_machines_clock_which_is_named() {
        let mut scheduled = rollout("scheduled", json!("working"), json!({}));
        scheduled["spec"] =
            json!({"start_at": "2999-01-31T22:00:00.000Z", "end_at": "2999-02-01T22:00:00.000Z"});
        let at = |text: &str| local(text.parse().unwrap());
        let lines = times(&scheduled);
        let start = format!(" days ({})", at("2999-01-31T22:00:00Z"));
        assert!(lines[0].starts_with("    it starts in ") && lines[0].ends_with(&start), "{lines:?}");
        let end = format!("    devices that have not begun by {} are given up", at("2999-02-01T22:00:00Z"));
        assert_eq!(lines[1..], [end]);
        scheduled["phase"] = json!("completed");
        assert!(times(&scheduled).is_empty());
        let soaks =
            rollout("running", json!({"soaking": "1970-01-01T00:00:00.000Z"}), json!({"succeeded": 1}));
        let wait = Wait::of(&soaks).unwrap();
        assert!(
            wait.text.starts_with("wave 1 is good; it soaks since ") && wait.text.ends_with(" days ago"),
            "{wait:?}"
        );
    }

    #[test]
    fn a_rollout_without_devices_is_not_done() {
        let none = rollout("running", json!("working"), json!({}));
        assert!(headline(&none).ends_with("no devices yet"), "{}", headline(&none));
    }

    #[test]
    fn a_rollout_is_told_in_a_line() {
        let rollout = json!({"id": 3, "name": "lamp 1.1.0", "phase": "stopped", "tallies": [
            {"succeeded": 2, "failed": 1, "active": 0, "ready": 1}, {"waiting": 4}]});
        let line = console::strip_ansi_codes(&headline(&rollout)).into_owned();
        assert_eq!(line, "rollout 3 \"lamp 1.1.0\"  stopped  2 of 8 done, 1 failed, 4 away");
        assert_eq!(over(&rollout), Some(Outcome::Bad));
    }
}
