//! `otaru rollout retry`.

use otaru_api::{Answer, RetryDeployment, Rollout};

use super::one::One;
use crate::client::search::misspelt;
use crate::output::Output;
use crate::percent::escape;
use crate::rollouts::screen::tell;

#[derive(clap::Args)]
pub(crate) struct Retry {
    #[command(flatten)]
    one: One,
    /// The device
    device: String,
    /// Even if it rolled this image back
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(args: Retry, output: Output) -> anyhow::Result<()> {
    let Retry { one, device, force } = args;
    let path = format!("/rollouts/{}/deployments/{}/retry", one.id, escape(&device));
    let client = one.server.client()?;
    match client.post::<Answer<Rollout>>(&path, &RetryDeployment { force }).await {
        Ok(rollout) => tell(&rollout, output),
        Err(error) => return Err(misspelt(&client, &[device], error).await),
    }
    Ok(())
}
