//! From arguments to a command, and from its outcome to an exit code.

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::commands::{
    backup, broker, cancel, delta, demo, device_cert, devices, files, healthy, image, inspect, keygen, login,
    migrate, push, release, resign, rollout, serve, servers, shell, sim, token, verify, watch,
};
use crate::output::{Outcome, Output};
use crate::trust::TrustArgs;
use crate::{logging, options, ui};

const EXAMPLES: &str = "\
Try it without any hardware:
  otaru demo

A fleet: server, virtual devices, an update, in three terminals:
  otaru serve --dev
  otaru sim --devices 20 --firmware lamp-1.0.0.bin
  otaru login http://127.0.0.1:8080 && otaru release upload lamp-1.1.0.bin --rollout

With boards on your network and no server, in three terminals (192.168.1.10 is this machine):
  otaru broker --listen 0.0.0.0:1883
  otaru watch --broker mqtt://192.168.1.10
  otaru push --broker mqtt://192.168.1.10 firmware.bin

Signed and compressed releases:
  otaru keygen -o release.pem
  otaru release firmware.bin --key release.pem -o firmware.otaru

Exit codes: 0 all went well, 1 something did not, 2 the command line is wrong.";

/// Over-the-air firmware updates for ESP32, over MQTT and HTTP.
#[derive(Parser)]
#[command(name = "otaru", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(Box<serve::Args>),
    #[command(alias = "device")]
    Devices(devices::Args),
    #[command(subcommand, alias = "rollouts")]
    Rollout(rollout::Command),
    Push(push::args::Args),
    Cancel(cancel::Args),
    Watch(watch::Args),
    Broker(broker::Args),
    Files(files::Args),
    #[command(subcommand)]
    Image(image::Command),
    Sim(sim::Args),
    Keygen(keygen::Args),
    DeviceCert(device_cert::Args),
    #[command(alias = "releases")]
    Release(release::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Resign(resign::Args),
    Delta(delta::Args),
    Healthy(healthy::Args),
    Backup(backup::Args),
    Restore(backup::RestoreArgs),
    Migrate(migrate::Args),
    #[command(subcommand, alias = "tokens")]
    Token(token::Command),
    Servers(servers::Args),
    Login(login::Args),
    Logout(login::LogoutArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// The program.
pub(crate) fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    options::note_given(&matches);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // A server has logs of another kind.
    if !matches!(cli.command, Command::Serve(_)) {
        logging::start(cli.output.verbose);
    }
    if let Err(error) = cli.trust.note() {
        ui::error(&reasons(&error));
        return ExitCode::FAILURE;
    }
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            ui::error(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli.command, cli.output));
    // What still runs in the background has nothing more to say.
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::FAILURE,
        Err(error) => {
            ui::error(&reasons(&error));
            ExitCode::FAILURE
        }
    }
}

/// Threads for a command: one for each core, but for the broker alone. There a lock decides for all connections, and a second thread costs more
/// to wake than it does: 5,000 clients that connected cost 0.88 of Mosquitto's processor time with two, and 0.70 with one.
fn runtime(command: &Command) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if matches!(command, Command::Broker(_)) {
        builder.worker_threads(1);
    }
    builder.enable_all().build()
}

/// An error with its causes. Some errors tell their cause themselves: it is told once.
fn reasons(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

async fn run(command: Command, output: Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Demo(args) => demo::run(args, output).await,
        Command::Push(args) => push::run(args, output).await,
        Command::Cancel(args) => cancel::run(args, output).await,
        Command::Watch(args) => watch::run(args, output).await,
        Command::Broker(args) => broker::run(args, output).await,
        Command::Files(args) => files::run(args, output).await,
        Command::Image(command) => image::run(command, output),
        Command::Sim(args) => sim::run(args, output).await,
        Command::Keygen(args) => keygen::run(&args, output),
        Command::DeviceCert(args) => device_cert::run(&args, output),
        Command::Release(args) => release::run(args, output).await,
        Command::Devices(args) => devices::run(args, output).await,
        Command::Rollout(command) => rollout::run(command, output).await,
        Command::Token(command) => token::run(command, output).await,
        Command::Inspect(args) => inspect::run(&args, output),
        Command::Verify(args) => verify::run(&args, output),
        Command::Resign(args) => resign::run(&args, output),
        Command::Delta(args) => delta::run(&args, output),
        Command::Serve(args) => serve::run(*args, output).await,
        Command::Healthy(args) => healthy::run(args, output).await,
        Command::Backup(args) => backup::run(args, output).await,
        Command::Restore(args) => backup::run_restore(args, output).await,
        Command::Migrate(args) => migrate::run(args, output).await,
        Command::Servers(args) => servers::run(args, output).await,
        Command::Login(args) => login::run(args, output).await,
        Command::Logout(_) => login::logout(output),
        Command::Completions(args) => Ok(shell::completions(&args, &mut Cli::command())),
        Command::Man(args) => shell::man(&args, Cli::command(), output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read a key: {0}")]
        struct Key(#[from] std::io::Error);

        let key = Key(std::io::Error::other("no such file"));
        let error = anyhow::Error::from(key).context("not signed");
        assert_eq!(reasons(&error), "not signed: cannot read a key: no such file");
        assert_eq!(reasons(&anyhow::anyhow!("a").context("b")), "b: a");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
