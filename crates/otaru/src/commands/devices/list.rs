//! `otaru devices`: the list.

use anyhow::bail;
use console::style;
use otaru_api::{Answer, Device};

use crate::client::args::ServerArgs;
use crate::client::search::{Condition, no_device};
use crate::options::at_least_one;
use crate::output::{Outcome, Output};
use crate::percent::escape;
use crate::registry::{HEADS, row};
use crate::ui;
use crate::ui::grid::{grid, width};

/// Conditions on devices.
#[derive(clap::Args)]
pub(super) struct List {
    /// List devices whose tags match this expression
    #[arg(long, value_name = "EXPRESSION")]
    tags: Option<String>,
    /// List devices with this text in the id or the label
    #[arg(long, short = 'q', value_name = "TEXT")]
    find: Option<String>,
    /// List devices that run this product
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    /// List devices that run a version in this range, such as '>=1.0.0, <2.0.0'
    #[arg(long, value_name = "RANGE")]
    versions: Option<String>,
    /// List devices in this state, such as `rolled_back`
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// List retired devices instead of the others
    #[arg(long)]
    retired: bool,
    /// List devices that failed with this code, such as `panic`
    #[arg(long, value_name = "CODE")]
    error: Option<String>,
    /// List devices that trust this CA over TLS and no other, by the SHA-256 of its certificate or the 16 digits of it that `otaru devices
    /// show` has
    #[arg(long, value_name = "SHA256")]
    only_trusts: Option<String>,
    /// List devices with a deployment in this rollout
    #[arg(long, value_name = "ID")]
    rollout: Option<u64>,
    /// Largest number of devices to list
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_one)]
    limit: usize,
}

pub(super) async fn run(which: &List, server: &ServerArgs, output: Output) -> anyhow::Result<Outcome> {
    let rollout = which.rollout.map(|id| id.to_string());
    let parts = [
        ("tags", &which.tags),
        ("q", &which.find),
        ("product", &which.product),
        ("versions", &which.versions),
        ("state", &which.state),
        ("error", &which.error),
        ("only_trusts", &which.only_trusts),
        ("rollout", &rollout),
    ];
    let conditions: Vec<Condition> =
        parts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let mut query: Vec<String> =
        conditions.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    query.extend(which.retired.then(|| "retired=true".to_owned()));
    let path = format!("/devices?{}", query.join("&"));
    let client = server.client()?;
    let (found, more): (Vec<Answer<Device>>, bool) = client.first(&path, which.limit).await?;
    if found.is_empty() && which.retired {
        bail!("no device{} is retired", if conditions.is_empty() { "" } else { " like that" });
    }
    if found.is_empty() && !conditions.is_empty() {
        bail!("{}", no_device(&client, &conditions).await?);
    }
    if output.json {
        found.iter().for_each(|device| ui::line(&device.json.to_string()));
        return Ok(Outcome::Good);
    }
    if found.is_empty() {
        ui::line("No devices yet. They appear here when they first report.");
        return Ok(Outcome::Good);
    }
    let rows = found.iter().map(|device| row(&device.value)).collect();
    grid(HEADS, rows, width()).iter().for_each(|line| ui::line(line));
    let reachable = found.iter().filter(|device| device.value.reachable).count();
    let more = if more { " (--limit lists more)" } else { "" };
    let count = ui::many(found.len() as u64, "device");
    ui::line(&style(format!("{count}, {reachable} reachable{more}")).dim().to_string());
    Ok(Outcome::Good)
}
