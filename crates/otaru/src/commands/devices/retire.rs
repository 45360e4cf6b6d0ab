//! `otaru devices retire` and `unretire`.

use anyhow::bail;
use serde_json::Value;

use super::one::One;
use crate::output::Output;
use crate::ui::{self, say};

#[derive(clap::Args)]
pub(super) struct Retire {
    #[command(flatten)]
    one: One,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(args: Retire, output: Output) -> anyhow::Result<()> {
    let Retire { one, yes } = args;
    let id = &one.id;
    if !yes
        && !ui::confirm(&format!(
            "Retire {id}? It gets no firmware and cannot log in until it is taken back."
        ))?
    {
        bail!("{id} is not retired");
    }
    let done: Value = one.ask(async |client| client.act(&one.path("/retire")).await).await?;
    say(output, &done, &format!("{id} is retired; `otaru devices unretire {id}` takes it back."));
    Ok(())
}

pub(super) async fn undo(one: One, output: Output) -> anyhow::Result<()> {
    let done: Value = one.ask(async |client| client.act(&one.path("/unretire")).await).await?;
    say(output, &done, &format!("{} is taken back.", one.id));
    Ok(())
}
