//! `otaru rollout`: brings a release to many devices, a few at a time. One file a subcommand.

mod create;
mod list;
mod one;
mod retry;
mod show;
mod steer;
mod watch;

use crate::output::{Outcome, Output};

/// Roll releases out
#[derive(clap::Subcommand)]
#[command(after_help = create::EXAMPLES)]
pub(crate) enum Command {
    /// Make a rollout, and start it
    Create(Box<create::Create>),
    /// List rollouts
    List(list::List),
    /// Show a rollout: its waves, and why devices failed
    Show(one::One),
    /// Watch a rollout until it is over; the exit code tells whether devices failed
    Watch(watch::Watch),
    /// Start a draft
    Start(one::One),
    /// Start no more devices until it is resumed
    Pause(one::One),
    /// Go on after a pause or a stop
    Resume(one::One),
    /// Open the next wave now
    Advance(one::One),
    /// Start no more devices, and complete when what is under way has ended
    Finish(one::One),
    /// Abort it: start no more devices, for good
    Abort(steer::Abort),
    /// Let a device that failed try again
    Retry(retry::Retry),
}

pub(crate) async fn run(command: Command, output: Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Create(create) => return create.run(output).await,
        Command::Watch(args) => return watch::run(args, output).await,
        Command::List(args) => list::run(args, output).await?,
        Command::Show(one) => show::run(one, output).await?,
        Command::Start(one) => steer::say(one, "start", output).await?,
        Command::Pause(one) => steer::say(one, "pause", output).await?,
        Command::Resume(one) => steer::say(one, "resume", output).await?,
        Command::Advance(one) => steer::say(one, "advance", output).await?,
        Command::Finish(one) => steer::say(one, "finish", output).await?,
        Command::Abort(args) => steer::abort(args, output).await?,
        Command::Retry(args) => retry::run(args, output).await?,
    }
    Ok(Outcome::Good)
}
