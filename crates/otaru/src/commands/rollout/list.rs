//! `otaru rollout list`.

use anyhow::bail;
use otaru_api::{Answer, Rollout, RolloutQuery};

use crate::client::args::ServerArgs;
use crate::client::http::with_query;
use crate::moment::ago;
use crate::output::Output;
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
    let query = RolloutQuery { phase: args.phase };
    let rollouts: Vec<Answer<Rollout>> = client.list(&with_query("/rollouts", &query), 200).await?;
    if output.json {
        rollouts.iter().for_each(|rollout| ui::line(&rollout.json.to_string()));
        return Ok(());
    }
    if let Some(phase) = query.phase.filter(|_| rollouts.is_empty()) {
        bail!("no rollout is {}; `otaru rollout list` shows all", ui::clean(&phase));
    }
    if rollouts.is_empty() {
        ui::line("No rollouts yet; `otaru rollout create RELEASE` makes one.");
        return Ok(());
    }
    let rows = rollouts.iter().map(|Answer { value: rollout, .. }| {
        [
            rollout.id.to_string(),
            ui::clean(&rollout.name),
            phase(rollout),
            Counts::all(rollout).words(),
            ago(rollout.updated_at),
        ]
    });
    grid(["ID", "NAME", "PHASE", "DEVICES", "CHANGED"], rows.collect(), width())
        .iter()
        .for_each(|line| ui::line(line));
    Ok(())
}
