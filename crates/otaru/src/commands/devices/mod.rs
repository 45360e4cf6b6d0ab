//! `otaru devices`: the server's registry. One file a subcommand, or a few that belong together.

mod key;
mod label;
mod list;
mod login;
mod one;
mod retire;
mod show;
mod tag;

use crate::client::args::ServerArgs;
use crate::output::{Outcome, Output};

const EXAMPLES: &str = "\
Examples:
  otaru devices                                         all of them
  otaru devices --tags 'site=berlin and not canary' --state rolled_back
  otaru devices show kitchen
  otaru devices tag kitchen hall --set site=berlin --set canary
  otaru devices tag --filter-product lamp --remove canary
  otaru devices add kitchen                             creates a login for it
  otaru devices key create 'factory line 1'             a key with which new devices register";

/// List and change devices
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::List,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show a device: its state, last report, rollouts and history
    Show(one::One),
    /// Tag devices
    Tag(tag::Args),
    /// Change the label of a device; an empty one removes it
    Label(label::Label),
    /// Retire a device: it is offered no firmware and cannot log in until it is unretired
    Retire(retire::Retire),
    /// Unretire a device, with its login and tags
    Unretire(one::One),
    /// Add a device, and create its login; the password is shown only once
    Add(login::Add),
    /// Reset a device's password; the new one is shown only once
    Password(one::One),
    /// Allow a known device to be claimed with a fleet key, once, within the next hour
    AllowClaim(one::One),
    /// Manage fleet keys: secrets with which new devices register
    #[command(subcommand)]
    Key(key::KeyCommand),
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let Some(command) = args.command else { return list::run(&args.list, &args.server, output).await };
    match command {
        Command::Show(one) => show::run(one, output).await?,
        Command::Tag(args) => tag::run(args, output).await?,
        Command::Label(args) => label::run(args, output).await?,
        Command::Retire(args) => retire::run(args, output).await?,
        Command::Unretire(one) => retire::undo(one, output).await?,
        Command::Add(args) => login::add(args, output).await?,
        Command::Password(one) => login::password(one, output).await?,
        Command::AllowClaim(one) => login::allow_claim(one, output).await?,
        Command::Key(command) => key::run(command, output).await?,
    }
    Ok(Outcome::Good)
}
