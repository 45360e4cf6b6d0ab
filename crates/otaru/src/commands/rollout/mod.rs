//! `otaru rollout`: brings a release to many devices, a few at a time. One file a subcommand.

mod create;
mod list;
mod one;
mod retry;
mod show;
mod steer;
mod watch;

use crate::output::{Outcome, Output};

/// Create, watch and control rollouts
#[derive(clap::Subcommand)]
#[command(after_help = create::EXAMPLES)]
pub(crate) enum Command {
    /// Create a rollout, and start it
    Create(Box<create::Create>),
    /// List rollouts
    List(list::List),
    /// Show a rollout: its waves, and why devices failed
    Show(one::One),
    /// Watch a rollout until it is over; the exit code tells whether devices failed
    Watch(watch::Watch),
    /// Start a rollout that is a draft
    Start(one::One),
    /// Pause a rollout: no further device starts until it is resumed
    Pause(one::One),
    /// Resume a rollout after a pause or a stop
    Resume(one::One),
    /// Open the next wave of a rollout now
    Advance(one::One),
    /// Finish a rollout: no further device starts, and it completes when updates under way have ended
    Finish(one::One),
    /// Abort a rollout: no further device starts, and it cannot be resumed
    Abort(steer::Abort),
    /// Retry a device that failed
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
