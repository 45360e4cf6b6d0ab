//! `otaru rollout watch`.

use super::one::One;
use crate::output::{Outcome, Output};
use crate::rollouts::follow::{Patience, follow};

#[derive(clap::Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    patience: Patience,
}

pub(super) async fn run(args: Watch, output: Output) -> anyhow::Result<Outcome> {
    follow(&args.one.server.client()?, args.one.id, args.patience, output).await
}
