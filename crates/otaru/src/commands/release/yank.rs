//! `otaru release yank` and `unyank`.

use otaru_api::{Answer, Release};

use super::one::One;
use crate::client::releases::title;
use crate::output::Output;
use crate::ui::say;

#[derive(clap::Args)]
pub(super) struct Yank {
    #[command(flatten)]
    one: One,
    /// The same as `unyank`
    #[arg(long, hide = true)]
    undo: bool,
}

pub(super) async fn run(args: Yank, output: Output) -> anyhow::Result<()> {
    if args.undo {
        return undo(&args.one, output).await;
    }
    let Answer { value: release, json } = ask(&args.one, "yank").await?;
    let (title, id) = (title(&release), release.id);
    let done = format!("{title} is offered to nobody any more; `otaru release unyank {id}` undoes that.");
    say(output, &json, &done);
    Ok(())
}

pub(super) async fn undo(one: &One, output: Output) -> anyhow::Result<()> {
    let release = ask(one, "unyank").await?;
    say(output, &release.json, &format!("{} is offered again.", title(&release.value)));
    Ok(())
}

async fn ask(one: &One, word: &str) -> anyhow::Result<Answer<Release>> {
    let (client, release) = one.find().await?;
    client.act(&format!("/releases/{}/{word}", release.value.id)).await
}
