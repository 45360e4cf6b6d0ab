//! The rollout that a subcommand is about, and the server that has it.

use crate::client::args::ServerArgs;

#[derive(clap::Args)]
pub(crate) struct One {
    /// Id of the rollout
    pub(super) id: u64,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}
