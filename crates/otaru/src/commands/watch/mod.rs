//! `otaru watch`: the fleet, live, as a broker or a server shows it.

mod by_broker;
mod by_server;

use anyhow::bail;

use crate::client::args::ServerArgs;
use crate::options::{BrokerArgs, is_given};
use crate::output::{Outcome, Output};

const EXAMPLES: &str = "\
Examples:
  otaru watch --broker mqtt://broker.lan
  otaru watch --server http://ota.example.com:8080
  otaru watch | grep -v idle              changes as plain lines
  otaru watch --json | jq -c 'select(.event == \"status\").status.error'

On a terminal a table is redrawn in place; elsewhere each change is a line.";

/// Watch all devices
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    match is_by_server(&args.server)? {
        true => by_server::watch(&args.server.client()?, output).await,
        false => by_broker::watch(&args.broker, output).await,
    }
}

/// Whether a server is watched, or a broker: what was typed decides, then the environment.
fn is_by_server(server: &ServerArgs) -> anyhow::Result<bool> {
    match (is_given("server"), is_given("broker") || is_given("base")) {
        (true, true) => bail!("give --server or --broker, not both: a server watches its broker itself"),
        (_, true) => Ok(false),
        (_, false) => Ok(server.server.is_some()),
    }
}
