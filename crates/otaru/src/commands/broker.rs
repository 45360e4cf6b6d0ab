//! `otaru broker`: an MQTT broker in one process, for a bench or a small fleet.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::options::{self, LoginArgs};
use crate::output::{Outcome, Output};
use crate::{signals, ui};
use otaru_server::mqtt::EmbeddedBroker;

const EXAMPLES: &str = "\
Examples:
  otaru broker                             for this machine only
  otaru broker --listen 0.0.0.0:1883 --username fleet --password-file secret.txt
  OTARU_PASSWORD=… otaru broker --listen 0.0.0.0:1883 --username fleet

Speaks MQTT 3.1.1 and 5. Keeps everything in memory: a restart forgets retained messages, and
devices then report anew. Mosquitto or any other broker does as well; Otaru needs nothing special.";

/// Run an MQTT broker
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Address to listen at; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:1883")]
    listen: SocketAddr,
    #[command(flatten)]
    login: LoginArgs,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let login = args.login.whole()?;
    let open = login.is_none();
    // Every client takes a file descriptor; a shell's own limit of 1,024 would end the fleet there.
    options::raise_file_limit(1 << 20);
    let mut broker = EmbeddedBroker::start(args.listen, login).await.with_context(|| {
        format!(
            "cannot listen at {}; is another broker running there? --listen takes another port",
            args.listen
        )
    })?;
    let address = broker.address();
    if output.json {
        ui::event(json!({"event": "listening", "address": address.to_string(), "anonymous": open}));
    } else {
        ui::line(&format!("MQTT broker at {address}"));
        if open {
            ui::line(&format!("No login: anyone who can reach {address} may publish updates."));
        }
        ui::line("Ctrl-C ends it.");
    }
    tokio::select! {
        () = signals::stop() => Ok(Outcome::Good),
        why = broker.failed() => bail!("the broker ended: {why}"),
    }
}
