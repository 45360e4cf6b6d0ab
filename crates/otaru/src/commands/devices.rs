//! `otaru devices`: the server's registry.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use console::style;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::answer::since;
use crate::client::args::ServerArgs;
use crate::client::http::Client;
use crate::client::search::{Condition, misspelt, no_device};
use crate::client::secrets::find_good;
use crate::fleet::words::will_try_again;
use crate::moment::ago;
use crate::output::{Outcome, Output};
use crate::percent::escape;
use crate::ui;
use crate::ui::grid::{grid, width};
use otaru_format::status::{Code, UpdateState, next_trial};
use otaru_server::timestamp::Timestamp;

const EXAMPLES: &str = "\
Examples:
  otaru devices                                         all of them
  otaru devices --tags 'site=berlin and not canary' --state rolled_back
  otaru devices show kitchen
  otaru devices tag kitchen hall --set site=berlin --set canary
  otaru devices tag --filter-product lamp --remove canary
  otaru devices add kitchen                             makes a login for it
  otaru devices key create 'factory line 1'             a key with which unknown devices may come";

/// List and change devices
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show all that is known of a device, and what happened to it
    Show {
        /// Its id
        id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Tag devices
    Tag {
        /// Ids of the devices, unless --filter-… says which
        ids: Vec<String>,
        /// A tag they shall have: NAME or NAME=VALUE; may be given several times
        #[arg(long, value_name = "TAG")]
        set: Vec<String>,
        /// The name of a tag they shall have no longer; may be given several times
        #[arg(long, value_name = "NAME")]
        remove: Vec<String>,
        /// All devices whose tags fit this expression
        #[arg(long, value_name = "EXPRESSION", conflicts_with = "ids", value_parser = not_blank)]
        filter_tags: Option<String>,
        /// All devices that run this product
        #[arg(long, value_name = "NAME", conflicts_with = "ids", value_parser = not_blank)]
        filter_product: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Say what people call a device; an empty name is its id again
    Label {
        /// Its id
        id: String,
        /// What people call it
        label: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Retire a device: it gets nothing any more and cannot log in, until it is taken back
    Retire {
        /// Its id
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Take back a device that was retired, with its login and tags
    Unretire {
        /// Its id
        id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Add a device, and make a login for it, shown once
    Add {
        /// Its name in MQTT topics
        id: String,
        /// A tag it shall have; may be given several times
        #[arg(long, value_name = "TAG")]
        tag: Vec<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Make a new password for a device, shown once
    Password {
        /// Its id
        id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Let a device that is known be claimed with a fleet key, once, within the next hour
    AllowClaim {
        /// Its id
        id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Fleet keys: secrets with which devices may come that are not known yet
    #[command(subcommand)]
    Key(KeyCommand),
}

/// Refuses an empty filter: a script that has nothing to put there does not mean all devices.
fn not_blank(text: &str) -> Result<String, &'static str> {
    match text.trim().is_empty() {
        true => Err("it is empty, which would mean every device"),
        false => Ok(text.to_owned()),
    }
}

#[derive(clap::Subcommand)]
enum KeyCommand {
    /// Make a fleet key, shown once
    Create {
        /// What it is for
        name: String,
        /// A tag for devices that come with it; may be given several times
        #[arg(long, value_name = "TAG")]
        tag: Vec<String>,
        /// The most devices that may come with it; as many as the server allows, if not given
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List them
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// End one
    Revoke {
        /// Its id, or its name if no other has it
        #[arg(value_name = "ID|NAME")]
        id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Which devices.
#[derive(clap::Args)]
struct List {
    /// With tags that fit this expression
    #[arg(long, value_name = "EXPRESSION")]
    tags: Option<String>,
    /// With this in the id or the label
    #[arg(long, short = 'q', value_name = "TEXT")]
    find: Option<String>,
    /// That run this product
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    /// That run a version in this range, such as '>=1.0.0, <2.0.0'
    #[arg(long, value_name = "RANGE")]
    versions: Option<String>,
    /// In this state, such as `rolled_back`
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// The retired ones, instead of those that are not
    #[arg(long)]
    retired: bool,
    /// That failed for this reason, such as `panic`
    #[arg(long, value_name = "CODE")]
    error: Option<String>,
    /// With a deployment in this rollout
    #[arg(long, value_name = "ID")]
    rollout: Option<u64>,
    /// The most devices that are listed
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

#[derive(Debug, Deserialize)]
struct Device {
    id: String,
    label: Option<String>,
    chip: String,
    product: String,
    version: String,
    #[serde(default)]
    image_short: Option<String>,
    state: String,
    error_code: Option<String>,
    #[serde(default)]
    attempt: u8,
    reachable: bool,
    last_seen: Option<Timestamp>,
    tags: BTreeMap<String, String>,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let Some(command) = args.command else { return list(&args.list, &args.server, output).await };
    match command {
        Command::Show { id, server } => {
            let client = server.client()?;
            if let Err(error) = show(&client, &id, output).await {
                return Err(misspelt(&client, &[id], error).await);
            }
        }
        Command::Tag { ids, set, remove, filter_tags, filter_product, server } => {
            if set.is_empty() && remove.is_empty() {
                bail!("say what to do: --set TAG or --remove NAME");
            }
            let conditions: Vec<Condition> = [("tags", filter_tags), ("product", filter_product)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let which = match conditions.is_empty() {
                true if ids.is_empty() => {
                    bail!("which devices? Give ids, or --filter-tags or --filter-product")
                }
                true => Value::Null,
                false => conditions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect(),
            };
            let body = json!({"devices": ids, "which": which, "set": tags(&set), "remove": remove});
            let client = server.client()?;
            let done: Value = match client.post("/devices/tags", body).await {
                Ok(done) => done,
                Err(error) => return Err(misspelt(&client, &ids, error).await),
            };
            match done["devices"].as_u64().unwrap_or(0) {
                0 => bail!("nothing is tagged: {}", no_device(&client, &conditions).await?),
                count => say(output, &done, &format!("Tagged {}.", ui::many(count, "device"))),
            }
        }
        Command::Label { id, label, server } => {
            let path = format!("/devices/{}", escape(&id));
            let done = about(&server, &id, async |client| client.patch(&path, json!({"label": label})).await)
                .await?;
            say(output, &done, &format!("{id} is called \"{}\".", done["label"].as_str().unwrap_or(&id)));
        }
        Command::Retire { id, yes, server } => {
            if !yes
                && !ui::confirm(&format!(
                    "Retire {id}? It gets no firmware and cannot log in until it is taken back."
                ))?
            {
                bail!("{id} is not retired");
            }
            let path = format!("/devices/{}/retire", escape(&id));
            let done = about(&server, &id, async |client| client.post(&path, json!({})).await).await?;
            say(output, &done, &format!("{id} is retired; `otaru devices unretire {id}` takes it back."));
        }
        Command::Unretire { id, server } => {
            let path = format!("/devices/{}/unretire", escape(&id));
            let done = about(&server, &id, async |client| client.post(&path, json!({})).await).await?;
            say(output, &done, &format!("{id} is taken back."));
        }
        Command::Add { id, tag, server } => {
            let done: Value =
                server.client()?.post("/devices", json!({"id": id, "tags": tags(&tag)})).await?;
            tell_login(output, &done, &id)?;
        }
        Command::Password { id, server } => {
            let path = format!("/devices/{}/password", escape(&id));
            let done = about(&server, &id, async |client| client.post(&path, json!({})).await).await?;
            tell_login(output, &done, &id)?;
        }
        Command::AllowClaim { id, server } => {
            let path = format!("/devices/{}/allow-claim", escape(&id));
            let done: Value = server.client()?.post(&path, json!({})).await?;
            say(output, &done, &format!("{id} may be claimed with a fleet key, once, within the next hour."));
        }
        Command::Key(command) => keys(command, output).await?,
    }
    Ok(Outcome::Good)
}

/// What the server does with one device, or what may have been meant where there is no such device.
async fn about(
    server: &ServerArgs,
    id: &str,
    ask: impl AsyncFnOnce(&Client) -> anyhow::Result<Value>,
) -> anyhow::Result<Value> {
    let client = server.client()?;
    match ask(&client).await {
        Ok(done) => Ok(done),
        Err(error) => Err(misspelt(&client, &[id.to_owned()], error).await),
    }
}

/// Tags as they are written: NAME or NAME=VALUE.
fn tags(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    };
    texts.iter().map(pair).collect()
}

fn say(output: Output, done: &Value, text: &str) {
    if output.json { ui::line(&done.to_string()) } else { ui::line(&ui::clean(text)) }
}

/// Shows a device's new login.
///
/// # Errors
/// When it cannot be written, so that nobody has it.
fn tell_login(output: Output, done: &Value, id: &str) -> anyhow::Result<()> {
    let id = ui::clean(id);
    let shown = match output.json {
        true => ui::print(&done.to_string()),
        false => {
            ui::line("Its login at the broker, shown this once:");
            ui::line(&format!("  user name  {id}"));
            let shown = ui::print(&format!("  password   {}", done["password"].as_str().unwrap_or("?")));
            ui::line(&format!("  client id  {id}"));
            shown
        }
    };
    shown.with_context(|| {
        format!("the password could not be shown; `otaru devices password {id}` makes another")
    })
}

async fn list(which: &List, server: &ServerArgs, output: Output) -> anyhow::Result<Outcome> {
    let rollout = which.rollout.map(|id| id.to_string());
    let parts = [
        ("tags", &which.tags),
        ("q", &which.find),
        ("product", &which.product),
        ("versions", &which.versions),
        ("state", &which.state),
        ("error", &which.error),
        ("rollout", &rollout),
    ];
    let conditions: Vec<Condition> =
        parts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let mut query: Vec<String> =
        conditions.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    query.extend(which.retired.then(|| "retired=true".to_owned()));
    let path = format!("/devices?{}", query.join("&"));
    let client = server.client()?;
    let found: Vec<Value> = client.list(&path, which.limit).await?;
    if found.is_empty() && which.retired {
        bail!("no device{} is retired", if conditions.is_empty() { "" } else { " like that" });
    }
    if found.is_empty() && !conditions.is_empty() {
        bail!("{}", no_device(&client, &conditions).await?);
    }
    if output.json {
        found.iter().for_each(|device| ui::line(&device.to_string()));
        return Ok(Outcome::Good);
    }
    if found.is_empty() {
        ui::line("No devices yet. They appear here when they first report.");
        return Ok(Outcome::Good);
    }
    let devices: Vec<Device> = serde_json::from_value(found.into()).context(
        "the server's list of devices cannot be read; are server and `otaru` of the same version?",
    )?;
    let rows = devices.iter().map(row).collect();
    grid(HEADS, rows, width()).iter().for_each(|line| ui::line(line));
    let reachable = devices.iter().filter(|device| device.reachable).count();
    let more = if devices.len() == which.limit { " (--limit lists more)" } else { "" };
    let count = ui::many(devices.len() as u64, "device");
    ui::line(&style(format!("{count}, {reachable} reachable{more}")).dim().to_string());
    Ok(Outcome::Good)
}

/// How devices can be, what asks for a look first.
const URGENT_FIRST: [&str; 4] = ["troubled", "updating", "well", "away"];

/// The fleet as lines for a screen of this size: what is in trouble or updating first, and how many there was no room for.
pub(super) async fn screen(client: &Client, (columns, rows): (usize, usize)) -> anyhow::Result<Vec<String>> {
    let fleet: Value = client.get("/fleet").await?;
    // Two lines are above the table, its heads, one below it, and the cursor.
    let room = rows.saturating_sub(5);
    let mut devices: Vec<Device> = Vec::new();
    for health in URGENT_FIRST {
        let left = room - devices.len();
        if left > 0 {
            devices.extend(client.list::<Device>(&format!("/devices?health={health}"), left).await?);
        }
    }
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (total, reachable) = (number(&fleet["total"]), number(&fleet["reachable"]));
    let mut lines = vec![
        style(format!("{}  {}, {reachable} reachable", client.server(), ui::many(total, "device")))
            .bold()
            .to_string(),
        style(by_health(&fleet)).dim().to_string(),
    ];
    if let Some(text) = no_room(&fleet) {
        lines[1] = style(text).red().to_string();
    }
    if devices.is_empty() {
        lines.push("No device has reported yet. Virtual ones: `otaru sim`.".into());
    } else {
        lines.extend(grid(HEADS, devices.iter().map(row).collect(), columns - 1));
    }
    let hidden = total.saturating_sub(devices.len() as u64);
    if hidden > 0 && !devices.is_empty() {
        lines.push(style(format!("… and {hidden} more; `otaru devices` lists all")).dim().to_string());
    }
    Ok(lines)
}

/// Words for a server that takes no more devices.
fn no_room(fleet: &Value) -> Option<String> {
    let (total, most) = (fleet["total"].as_u64()?, fleet["most"].as_u64()?);
    (total >= most).then(|| {
        format!(
            "no room for more than {most}: retire devices, or start the server with a higher --max-devices"
        )
    })
}

/// The fleet in numbers: `1 troubled, 2 updating, 497 well`.
fn by_health(fleet: &Value) -> String {
    let counts = URGENT_FIRST.iter().map(|health| (fleet["health"][health].as_u64().unwrap_or(0), health));
    let parts = counts.filter(|(count, _)| *count > 0).map(|(count, health)| format!("{count} {health}"));
    parts.collect::<Vec<_>>().join(", ")
}

const HEADS: [&str; 9] = ["", "DEVICE", "CHIP", "PRODUCT", "VERSION", "IMAGE", "STATE", "CHANGED", "TAGS"];

fn row(device: &Device) -> [String; 9] {
    let name = match &device.label {
        Some(label) => format!("{label} ({})", device.id),
        None => device.id.clone(),
    };
    let mark = if device.reachable { style("●").green() } else { style("○").dim() };
    let tags = device.tags.iter().map(|(name, value)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}={value}"),
    });
    [
        mark.to_string(),
        ui::clean(&name),
        ui::clean(&device.chip),
        ui::clean(&device.product),
        ui::clean(&device.version),
        device.image_short.as_deref().map_or_else(String::new, ui::clean),
        state(&device.state, device.error_code.as_deref(), device.attempt),
        device.last_seen.map_or_else(String::new, ago),
        ui::clean(&tags.collect::<Vec<_>>().join(" ")),
    ]
}

fn state(state: &str, error: Option<&str>, attempt: u8) -> String {
    let code = (error == Some(Code::Unreachable.as_str())).then_some(Code::Unreachable);
    if let Some(next) = next_trial(UpdateState::of_name(state), code, attempt) {
        return style(will_try_again(next)).yellow().to_string();
    }
    let text = match error {
        Some(code) => format!("{}: {}", ui::clean(state), ui::clean(code)),
        None => ui::clean(state),
    };
    let text = style(text);
    match state {
        "confirmed" | "current" => text.green(),
        "rolled_back" | "failed" | "refused" => text.red(),
        "idle" | "unknown" => text.dim(),
        _ => text.cyan(),
    }
    .to_string()
}

async fn show(client: &Client, id: &str, output: Output) -> anyhow::Result<()> {
    let path = format!("/devices/{}", escape(id));
    let device: Value = client.get(&path).await?;
    let history: Vec<Value> = client.list(&format!("{path}/history"), 20).await?;
    if output.json {
        ui::line(&json!({"device": device, "history": history}).to_string());
        return Ok(());
    }
    let text = |name: &str| ui::clean(device[name].as_str().unwrap_or_default());
    let line = |name: &str, value: String| {
        if !value.is_empty() {
            ui::line(&format!("{name:<12} {value}"));
        }
    };
    let attempt = device["attempt"].as_u64().and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    line("device", text("id"));
    line("label", text("label"));
    line("chip", text("chip"));
    line("runs", format!("{} {}", text("product"), text("version")));
    line("image", text("image"));
    line("state", state(&text("state"), device["error_code"].as_str(), attempt));
    line("retired", since(&device["retired_at"]));
    line("why", ui::clean(device["report"]["error"]["detail"].as_str().unwrap_or_default()));
    line("trouble", ui::clean(device["contested"]["detail"].as_str().unwrap_or_default()));
    line("reachable", if device["reachable"] == true { "yes".into() } else { "no".into() });
    line("changed", since(&device["last_seen"]));
    for deployment in device["deployments"].as_array().into_iter().flatten() {
        let name = ui::clean(deployment["name"].as_str().unwrap_or_default());
        let standing = ui::clean(deployment["standing"].as_str().unwrap_or_default());
        line("rollout", format!("{} \"{name}\": {standing}", deployment["rollout"]));
    }
    ui::line("");
    for event in &history {
        let when = since(&event["at"]);
        ui::line(&format!("{when:>12}  {}", happened(event)));
        for step in event["steps"].as_array().into_iter().flatten() {
            let when = since(&step["at"]);
            ui::line(&format!("{when:>12}    · {}", happened(step)));
        }
    }
    Ok(())
}

fn happened(event: &Value) -> String {
    let (kind, detail) = (event["kind"].as_str().unwrap_or_default(), &event["detail"]);
    if kind != "report" {
        let with =
            |name: &str, word: &str| detail[name].as_str().map(|text| format!(" {word} {}", ui::clean(text)));
        let key = with("fleet_key", "with fleet key").unwrap_or_default();
        let from = with("address", "from").unwrap_or_default();
        return format!("{}{key}{from}", ui::clean(&kind.replace('_', " ")));
    }
    let mut text = otaru_server::devices::attempts::told(detail);
    if let Some(code) = detail["error"]["code"].as_str() {
        text.push_str(&format!("  {code}: {}", detail["error"]["detail"].as_str().unwrap_or_default()));
    }
    ui::clean(&text)
}

async fn keys(command: KeyCommand, output: Output) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { name, tag, limit, server } => {
            let mut body = json!({"name": name, "tags": tags(&tag)});
            if let Some(limit) = limit {
                body["max_devices"] = limit.into();
            }
            let client = server.client()?;
            let done: Value = client.post("/fleet-keys", body).await?;
            let shown = match output.json {
                true => ui::print(&done.to_string()),
                false => {
                    ui::line(
                        "The fleet key, shown this once. Devices use it as their password at the broker:",
                    );
                    ui::print(&format!("  {}", done["text"].as_str().unwrap_or("?")))
                }
            };
            if let Err(error) = shown {
                let id = done["id"].as_str().unwrap_or_default();
                client.delete(&format!("/fleet-keys/{}", escape(id))).await?;
                bail!("the fleet key could not be shown, so it was revoked again: {error}");
            }
        }
        KeyCommand::List { server } => {
            let keys: Value = server.client()?.get("/fleet-keys").await?;
            for key in keys["items"].as_array().into_iter().flatten() {
                let ended = if key["revoked_at"].is_null() { "" } else { "  revoked" };
                let name = ui::clean(key["name"].as_str().unwrap_or_default());
                let devices = ui::many(key["devices"].as_u64().unwrap_or(0), "device");
                let most = key["max_devices"].as_u64().map_or_else(String::new, |most| format!(" of {most}"));
                let id = key["id"].as_str().unwrap_or_default();
                say(output, key, &format!("{id}  {name}  {devices}{most}{ended}"));
            }
        }
        KeyCommand::Revoke { id, server } => {
            let client = server.client()?;
            let id = find_good(&client, "fleet key", "/fleet-keys", &id).await?;
            client.delete(&format!("/fleet-keys/{}", escape(&id))).await?;
            say(output, &json!({"revoked": id}), &format!("The fleet key {id} is revoked."));
        }
    }
    Ok(())
}
