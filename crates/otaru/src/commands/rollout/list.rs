//! `otaru rollout list`.

use anyhow::bail;
use serde_json::Value;

use crate::client::answer::since;
use crate::client::args::ServerArgs;
use crate::output::Output;
use crate::percent::escape;
use crate::rollouts::counts::Counts;
use crate::rollouts::screen::phase;
use crate::ui;
use crate::ui::grid::{grid, width};

#[derive(clap::Args)]
pub(crate) struct List {
    /// List rollouts in this phase, such as `running`
    #[arg(long)]
    phase: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: List, output: Output) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let phase_of = args.phase.as_deref();
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
