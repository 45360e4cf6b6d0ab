//! `otaru release`: makes release files; and with a server: uploads, lists, takes back.

mod make;
mod remote;

use crate::output::{Outcome, Output};

/// Create a release file; upload, list and yank releases
#[derive(clap::Args)]
#[command(after_help = make::EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<remote::Command>,
    #[command(flatten)]
    make: Option<make::Make>,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    match (args.command, args.make) {
        (Some(command), _) => remote::run(command, output).await,
        (None, Some(make)) => make::run(&make, output),
        // clap asks for the arguments of one of them.
        (None, None) => anyhow::bail!("give an image and --output; `otaru release --help` has examples"),
    }
}
