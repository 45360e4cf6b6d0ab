//! `otaru devices label`.

use serde_json::json;

use super::one::One;
use crate::client::args::ServerArgs;
use crate::output::Output;
use crate::ui::say;

#[derive(clap::Args)]
pub(super) struct Label {
    /// Id of the device
    id: String,
    /// Name for people
    label: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Label, output: Output) -> anyhow::Result<()> {
    let Label { id, label, server } = args;
    let one = One { id, server };
    let done = one.ask(async |client| client.patch(&one.path(""), json!({"label": label})).await).await?;
    say(output, &done, &format!("{} is called \"{}\".", one.id, done["label"].as_str().unwrap_or(&one.id)));
    Ok(())
}
