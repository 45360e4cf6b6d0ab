//! `otaru broker`: an MQTT broker in one process, for a bench or a small fleet.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use serde_json::json;

use otaru_broker::{
    Admission, Bounds, Broker, ConnectRequest, Group, OneLogin, Policy, Quota, Reason, Refusal,
};
use tokio::net::TcpListener;

use otaru_server::address::origin;

use crate::options::{self, LoginArgs};
use crate::output::{Outcome, Output};
use crate::{signals, ui};

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
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen at {}; is another broker running there? --listen takes another port",
            args.listen
        )
    })?;
    let address = listener.local_addr()?;
    let house = House { login: login.as_ref().map(OneLogin::new) };
    let broker = Broker::new(house, otaru_server::mqtt::settings(otaru_server::files::room().mqtt));
    let listening = tokio::spawn(broker.listen(listener));
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
        () = signals::stop() => {}
        ended = listening => match ended {
            Ok(()) => bail!("the broker ended"),
            Err(why) => bail!("the broker ended: {why}"),
        },
    }
    broker.stop().await;
    Ok(Outcome::Good)
}

/// Lets in everybody, or whoever knows the one login; all of them may do everything.
struct House {
    login: Option<OneLogin>,
}

/// Holdings of all who come from one address, in IPv6 from one network of 64 bits: a lab may have its whole fleet behind one.
const PER_ADDRESS: Quota =
    Quota { connections: 50_000, sessions: 50_000, queued_bytes: 64 << 20, retained_bytes: 64 << 20 };

impl Policy for House {
    /// The client id: nobody says more of himself.
    type Identity = String;

    async fn identify(&self, request: ConnectRequest) -> Result<Admission<String>, Refusal> {
        if self.login.as_ref().is_some_and(|login| !login.admits(&request)) {
            return Err(Reason::BadUserNameOrPassword.into());
        }
        // A client without an id is nobody else.
        let identity = match request.client.is_empty() {
            true => request.peer.to_string(),
            false => request.client,
        };
        let group = Group { name: origin(request.peer.ip()).to_string(), quota: PER_ADDRESS };
        // All have the same rights here: a fleet's server among them needs what all of them may have.
        let bounds = Bounds { subscriptions: 1_000, quota: PER_ADDRESS, ..Bounds::default() };
        Ok(Admission { identity, bounds, group: Some(group) })
    }

    fn may_publish(&self, _: &String, _: &str) -> bool {
        true
    }

    fn may_subscribe(&self, _: &String, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use otaru_broker::Version;

    use super::*;

    #[tokio::test]
    async fn a_network_of_ipv6_is_one_group() {
        let group = async |peer: &str| {
            let request = ConnectRequest {
                client: "lamp".into(),
                username: None,
                password: None,
                peer: SocketAddr::new(peer.parse().unwrap(), 5_000),
                proxy: None,
                version: Version::V5,
                channel: otaru_broker::Channel::Plain,
            };
            House { login: None }.identify(request).await.unwrap().group.unwrap().name
        };
        assert_eq!(group("2001:db8::1").await, group("2001:db8::2:3").await);
        assert_ne!(group("2001:db8::1").await, group("2001:db8:0:1::1").await);
        assert_eq!(group("::ffff:192.0.2.1").await, group("192.0.2.1").await);
        assert_ne!(group("192.0.2.2").await, group("192.0.2.1").await);
    }
}
