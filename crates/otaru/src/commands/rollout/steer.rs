//! `otaru rollout start`, `pause`, `resume`, `advance`, `finish` and `abort`: one word to the server each.

use serde_json::{Value, json};

use super::one::One;
use crate::output::Output;
use crate::rollouts::screen::tell;

#[derive(clap::Args)]
pub(crate) struct Abort {
    #[command(flatten)]
    one: One,
    /// Also cancel updates under way, where devices still can
    #[arg(long)]
    cancel: bool,
}

/// Says this word about a rollout.
pub(super) async fn say(one: One, word: &str, output: Output) -> anyhow::Result<()> {
    let path = format!("/rollouts/{}/{word}", one.id);
    let rollout: Value = one.server.client()?.post(&path, json!({})).await?;
    tell(&rollout, output);
    Ok(())
}

pub(super) async fn abort(args: Abort, output: Output) -> anyhow::Result<()> {
    say(args.one, &format!("abort?cancel={}", args.cancel), output).await
}
