//! `otaru rollout show`: its waves, and why devices failed.

use otaru_api::{Answer, Rollout};

use super::one::One;
use crate::output::Output;
use crate::rollouts::screen::{failures, screen};
use crate::ui;

pub(super) async fn run(one: One, output: Output) -> anyhow::Result<()> {
    let client = one.server.client()?;
    let rollout: Answer<Rollout> = client.get(&format!("/rollouts/{}", one.id)).await?;
    if output.json {
        ui::line(&rollout.json.to_string());
        return Ok(());
    }
    screen(&rollout.value).iter().for_each(|line| ui::line(line));
    let failed = failures(&client, &rollout.value).await?;
    failed.iter().for_each(|line| ui::line(line));
    Ok(())
}
