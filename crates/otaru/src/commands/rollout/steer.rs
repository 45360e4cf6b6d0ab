//! `otaru rollout start`, `pause`, `resume`, `advance`, `finish` and `abort`: one word to the server each.

use otaru_api::{AbortQuery, Answer, Rollout};

use super::one::One;
use crate::client::http::with_query;
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
    let rollout: Answer<Rollout> = one.server.client()?.act(&path).await?;
    tell(&rollout, output);
    Ok(())
}

pub(super) async fn abort(args: Abort, output: Output) -> anyhow::Result<()> {
    say(args.one, &with_query("abort", &AbortQuery { cancel: args.cancel }), output).await
}
