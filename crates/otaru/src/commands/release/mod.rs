//! `otaru release`: makes release files; and with a server: uploads, lists, takes back. One file a subcommand.

mod list;
mod make;
mod notes;
mod one;
mod show;
mod upload;
mod yank;

use crate::output::{Outcome, Output};

/// Create a release file; upload, list and yank releases
#[derive(clap::Args)]
#[command(after_help = make::EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    make: Option<make::Make>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Upload firmware to the server: an image, or a release file that was signed elsewhere
    Upload(upload::Upload),
    /// List the server's releases
    List(list::List),
    /// Show a release
    Show(one::One),
    /// Yank a release: it is no longer offered to devices
    Yank(yank::Yank),
    /// Un-yank a release: offer it again
    Unyank(one::One),
    /// Change the notes of a release
    Notes(notes::Notes),
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    match (args.command, args.make) {
        (Some(command), _) => on_server(command, output).await,
        (None, Some(make)) => make::run(&make, output),
        // clap asks for the arguments of one of them.
        (None, None) => anyhow::bail!("give an image and --output; `otaru release --help` has examples"),
    }
}

async fn on_server(command: Command, output: Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Upload(args) => return upload::run(args, output).await,
        Command::List(args) => list::run(args, output).await?,
        Command::Show(one) => show::run(&one, output).await?,
        Command::Yank(args) => yank::run(args, output).await?,
        Command::Unyank(one) => yank::undo(&one, output).await?,
        Command::Notes(args) => notes::run(args, output).await?,
    }
    Ok(Outcome::Good)
}
