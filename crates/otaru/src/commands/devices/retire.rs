//! `otaru devices retire` and `unretire`.

use anyhow::bail;
use otaru_api::{Answer, DeviceDetails};

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
            "Retire {id}? It gets no firmware and cannot log in here until it is taken back."
        ))?
    {
        bail!("{id} is not retired");
    }
    let done: Answer<DeviceDetails> = one.ask(async |client| client.act(&one.path("/retire")).await).await?;
    say(output, &done.json, &format!("{id} is retired; `otaru devices unretire {id}` takes it back."));
    ui::remark(output, &done.value.remarks);
    Ok(())
}

pub(super) async fn undo(one: One, output: Output) -> anyhow::Result<()> {
    let done: Answer<DeviceDetails> =
        one.ask(async |client| client.act(&one.path("/unretire")).await).await?;
    // The device does not hear of it: after refused logins it pauses, a minute at most (`Config::reconnect`).
    let text = format!("{} is taken back. A device that was refused tries again within a minute.", one.id);
    say(output, &done.json, &text);
    ui::remark(output, &done.value.remarks);
    Ok(())
}
