//! `otaru release notes`.

use otaru_api::{Answer, ChangeRelease, Release};

use crate::client::args::ServerArgs;
use crate::client::releases::{Yanked, find, title};
use crate::output::Output;
use crate::ui::say;

#[derive(clap::Args)]
pub(super) struct Notes {
    /// Id of the release, or `PRODUCT@VERSION`
    release: String,
    /// The text
    text: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Notes, output: Output) -> anyhow::Result<()> {
    let Notes { release, text, server } = args;
    let client = server.client()?;
    let id = find(&client, &release, Yanked::Taken).await?.value.id;
    let path = format!("/releases/{id}");
    let release: Answer<Release> = client.patch(&path, &ChangeRelease { notes: text }).await?;
    say(output, &release.json, &format!("{}: noted.", title(&release.value)));
    Ok(())
}
